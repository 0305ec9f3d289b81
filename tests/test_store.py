"""Run folders: every crash point, every damaged file, and trees that come back as they were."""

import json
import math
import os
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import quickstudy
from quickstudy import catalog, persist, store
from quickstudy.algorithms.fewshot import maml
from quickstudy.outer import NonFiniteError, Program, Progress


class Killed(BaseException):
    """Stands for the process ending at this very moment."""


def new_run(folder, steps=6, chunk=2, seed=3):
    settings = store.Settings("maml", "smoke", maml.PRESETS["smoke"].config, seed, steps, chunk)
    store.create(folder, settings, "a test")
    return folder


def doubling(program, *, steps, seed, chunk, start, state):
    """A stand-in for `outer.run` without compilation: a state whose every step depends on all before."""
    state = {"x": jnp.ones(3), "n": jnp.zeros((), jnp.int32)} if state is None else state
    while start < steps:
        start = min(start + chunk, steps)
        state = {"x": state["x"] * 1.7 + start, "n": state["n"] + 1}
        yield Progress(start, state, {"loss": np.asarray(state["x"])})


@pytest.fixture
def quick(monkeypatch):
    """Runs that cost nothing: the real folder code around `doubling`."""
    program = Program(lambda key: {"x": jnp.ones(3), "n": jnp.zeros((), jnp.int32)}, lambda s, k: (s, {}), lambda state: state["x"])
    monkeypatch.setattr(store, "run", doubling)
    monkeypatch.setattr(store, "_build", lambda folder, settings: (program, maml.PRESETS["smoke"].tasks(), 2))


@pytest.fixture
def scored(monkeypatch):
    """As if maml were scored on the valid split: `doubling` is at 3.7, 10.29, 23.5, 47.9 and 91.5, best after step 4."""
    monkeypatch.setattr(maml, "validation", lambda config, tasks: lambda weights: abs(float(weights[0]) - 10.0), raising=False)


def finish(folder):
    for _ in store.resume(folder):
        pass
    weights = [path.read_bytes() for path in (folder / store.WEIGHTS, folder / store.BEST) if path.exists()]
    return weights, [(line["step"], line["metrics"]) for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_killed_at_any_write_a_run_ends_as_the_unbroken_one(tmp_path, monkeypatch, quick, scored, call):
    expected, original, point = finish(new_run(tmp_path / "unbroken")), getattr(os, call), 0
    while True:
        point, calls = point + 1, 0

        def kill(*arguments, point=point):
            nonlocal calls
            calls += 1
            if calls == point:
                raise Killed
            return original(*arguments)

        folder = new_run(tmp_path / f"{call}{point}")
        monkeypatch.setattr(os, call, kill)
        try:
            finish(folder)
        except Killed:
            monkeypatch.setattr(os, call, original)
            assert finish(folder) == expected
        else:
            break
        finally:
            monkeypatch.setattr(os, call, original)
    assert point > 4, "no write was interrupted"
    assert len(expected[0]) == 2, "no best was kept"


def test_the_best_on_the_valid_split_is_kept_when_later_steps_are_worse(tmp_path, quick, scored):
    folder = new_run(tmp_path / "run", steps=10)
    kept = {}
    for progress in store.resume(folder):
        kept[progress.step] = persist.read_arrays(folder / store.BEST)[1]["step"]
    assert kept == {2: 2, 4: 4, 6: 4, 8: 4, 10: 4}
    arrays, facts = persist.read_arrays(folder / store.BEST)
    np.testing.assert_allclose(*arrays.values(), 10.29, atol=1e-4)
    assert facts["valid loss"] == min(line["metrics"]["valid loss"] for line in store.read_metrics(folder)) < 0.3
    # A resumed run knows how good the best was, and asks for it.
    store.extend(folder, 12)
    finish(folder)
    assert persist.read_arrays(folder / store.BEST)[1] == facts
    (folder / store.BEST).unlink()
    store.extend(folder, 14)
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors is missing"):
        finish(folder)


def test_a_run_that_was_not_scored_before_keeps_the_best_from_then_on(tmp_path, monkeypatch, quick):
    folder = new_run(tmp_path / "run")
    finish(folder)
    assert not (folder / store.BEST).exists()
    losses = iter([math.nan, 3.0])
    monkeypatch.setattr(maml, "validation", lambda config, tasks: lambda weights: next(losses), raising=False)
    store.extend(folder, 10)
    next(run := store.resume(folder))
    assert not (folder / store.BEST).exists(), "no number is not the best one"
    list(run)
    assert persist.read_arrays(folder / store.BEST)[1]["step"] == 10


def test_lines_written_just_before_a_kill_are_cut(tmp_path, quick):
    expected, folder = finish(new_run(tmp_path / "unbroken")), new_run(tmp_path / "run")
    next(store.resume(folder))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "metrics": {"lo')
    assert finish(folder) == expected


@pytest.mark.parametrize("name", [store.CONFIG, store.METRICS, store.CHECKPOINT, store.WEIGHTS])
@pytest.mark.parametrize("damage", ["truncated", "edited", "missing"])
def test_a_damaged_file_is_named_in_one_sentence_and_nothing_is_overwritten(tmp_path, quick, name, damage):
    folder = new_run(tmp_path / "run")
    finish(folder)
    path, before = folder / name, (folder / name).read_bytes()
    middle = before.rindex(b"2") if name in (store.CONFIG, store.METRICS) else len(before) - 2
    changed = {"truncated": before[:-3], "edited": before[:middle] + b"9" + before[middle + 1 :], "missing": None}[damage]
    path.unlink() if changed is None else path.write_bytes(changed)
    kept = {file.name: file.read_bytes() for file in folder.iterdir()}
    use = (lambda: persist.load_tree(path, jnp.ones(3))) if name == store.WEIGHTS else (lambda: finish(folder))
    with pytest.raises((OSError, ValueError), match=name) as found:
        use()
    assert "\n" not in str(found.value)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == kept


def test_a_run_can_go_on_to_more_steps(tmp_path, quick):
    expected, folder = finish(new_run(tmp_path / "long", steps=10)), new_run(tmp_path / "short")
    finish(folder)
    store.extend(folder, 10)
    assert finish(folder) == expected
    with pytest.raises(ValueError, match="steps must be at least 10"):
        store.extend(folder, 4)


def test_a_second_trainer_is_turned_away(tmp_path, quick):
    folder = new_run(tmp_path / "run")
    first = store.resume(folder)
    next(first)
    with pytest.raises(OSError, match="another process"):
        next(store.resume(folder))
    first.close()
    finish(folder)


def test_a_folder_with_something_in_it_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not empty"):
        new_run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_trees_come_back_bit_for_bit(tmp_path):
    tree = {
        "half": jnp.array([1.5, -2.25], jnp.bfloat16),
        "flag": jnp.array(True),
        "key": jr.key(7),
        "counts": (jnp.arange(3, dtype=jnp.uint32), jnp.array(4, jnp.int32)),
        "empty": jnp.zeros((0, 2)),
        "setting": 0.25,
    }
    persist.save_tree(tmp_path / "t.safetensors", tree, {"step": 5})
    template = eqx.filter_eval_shape(lambda: tree)
    back, facts = persist.load_tree(tmp_path / "t.safetensors", template)
    assert facts == {"step": 5}
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert bool(jnp.array_equal(jr.key_data(back.pop("key")), jr.key_data(tree.pop("key"))))
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: np.array_equal(a, b), back, tree)))
    assert back["half"].dtype == jnp.bfloat16


@pytest.mark.parametrize("other", [{"a": (4,)}, {"a": (3, 1)}, {"b": (3,)}, {"a": (3,), "b": (1,)}])
def test_weights_of_another_model_are_refused(tmp_path, other):
    other = {name: jnp.zeros(shape) for name, shape in other.items()}
    persist.save_tree(tmp_path / "w.safetensors", {"a": jnp.zeros(3)}, {})
    with pytest.raises(ValueError, match=r"w\.safetensors belongs to another model"):
        persist.load_tree(tmp_path / "w.safetensors", other)


def test_a_loaded_run_is_the_learner_that_was_trained(tmp_path):
    folder, unfinished = new_run(tmp_path / "run", steps=4, chunk=2), tmp_path / "unfinished"
    training = store.resume(folder)
    half = next(training).state
    shutil.copytree(folder, unfinished)
    (end,) = (progress.state for progress in training)
    loaded = quickstudy.load(folder)
    assert (loaded.method, loaded.step, loaded.config) == ("maml", 4, maml.PRESETS["smoke"].config)
    assert eqx.tree_equal(loaded.learner, end.learner)
    assert eqx.tree_equal(store.load(unfinished).learner, half.learner)
    with pytest.raises(FileNotFoundError, match=r"best\.safetensors is missing"):
        store.load(folder, best=True)
    shutil.copytree(folder, best := tmp_path / "best")
    persist.save_tree(best / store.BEST, half.learner, {"step": 2, "valid loss": 0.5})
    assert store.load(best, best=True).step == 2
    assert eqx.tree_equal(store.load(best, best=True).learner, half.learner)
    assert eqx.tree_equal(store.load(best).learner, end.learner)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors is missing"):
        store.load(folder)
    shutil.copy(unfinished / "checkpoint.safetensors", folder / "weights.safetensors")
    with pytest.raises(ValueError, match="belongs to another model"):
        store.load(folder)


def test_a_run_begins_with_the_weights_it_is_given_and_says_whose_they_were(tmp_path):
    first = new_run(tmp_path / "first", steps=2)
    finish(first)
    weights, config = first / "weights.safetensors", maml.PRESETS["smoke"].config
    again = tmp_path / "again"
    store.create(again, store.Settings("maml", "smoke", config, 4, 2, 2), "a test", weights)
    before = quickstudy.load(first).learner
    weights.write_bytes(b"a run keeps its own copy")
    program = store.starting_from(maml.program(config, maml.PRESETS["smoke"].tasks()), again / "start.safetensors")
    begun = program.init(jr.key(9))
    assert eqx.tree_equal(program.learner(begun), before)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(begun.optimizer, eqx.is_array)))
    assert store.read_json(again / "config.json")["start"] == {"step": 2}
    finish(again)
    after, before = (eqx.filter(learner, eqx.is_array) for learner in (quickstudy.load(again).learner, before))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), after, before)
    # Two steps of Adam go hardly further than twice the learning rate; fresh weights would be far away.
    assert 0 < max(jax.tree.leaves(moved)) < 3 * config.outer_learning_rate


def test_a_loss_that_explodes_keeps_the_last_good_checkpoint(tmp_path, monkeypatch, quick):
    def explode(program, **settings):
        yield next(doubling(program, **settings))
        raise NonFiniteError("loss", 4, float("nan"))

    folder = new_run(tmp_path / "run")
    monkeypatch.setattr(store, "run", explode)
    with pytest.raises(NonFiniteError, match="loss became nan at outer step 4"):
        finish(folder)
    assert store.steps_done(folder) == 2


def filled(template, random):
    """A tree of these shapes, as if trained; to compile what makes one would take longer than the test."""

    def leaf(shape):
        if not isinstance(shape, jax.ShapeDtypeStruct):
            return shape
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            return jr.split(jr.key(1), shape.shape)
        return jnp.asarray((100 * random.normal(size=shape.shape)).astype(shape.dtype))

    return jax.tree.map(leaf, template)


def same(a, b):
    """Equal trees; as NumPy arrays, because JAX would compile a comparison for each shape."""
    plain = lambda leaf: jr.key_data(leaf) if eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(plain(one), plain(other))
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)


@pytest.mark.parametrize("method", catalog.METHODS)
def test_every_method_s_state_and_learner_come_back_from_disk(tmp_path, method):
    module = catalog.method_module(method)
    preset = module.PRESETS["smoke"]
    tasks = preset.tasks()
    program = module.program(preset.config, tasks)
    template = eqx.filter_eval_shape(program.init, jr.key(0))
    state = filled(template, np.random.default_rng(0))
    persist.save_tree(tmp_path / "state.safetensors", state, {"step": 0})
    same(persist.load_tree(tmp_path / "state.safetensors", template)[0], state)
    persist.save_tree(tmp_path / "weights.safetensors", program.learner(state), {"step": 0})
    fresh = eqx.filter_eval_shape(lambda key: module.learner(preset.config, tasks, key), jr.key(2))
    same(persist.load_tree(tmp_path / "weights.safetensors", fresh)[0], program.learner(state))
