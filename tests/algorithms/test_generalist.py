"""The generalist's loss and its optimiser: what counts, and what decays."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy import store
from quickstudy.algorithms.imitation import generalist
from quickstudy.cli import main
from quickstudy.generalist import mixtures
from quickstudy.generalist.data import babyai, box2d, build, characters, metaworld, scenes
from quickstudy.generalist.demonstrations import demonstrations
from quickstudy.generalist.embodiments import parse
from quickstudy.outer import train
from quickstudy.report.runs import write_report

KEY = jr.key(0)
PRESET = generalist.PRESETS["smoke"]
TASKS = PRESET.tasks()
NETWORK = generalist.learner(PRESET.config, TASKS, KEY)


def test_only_what_counts_is_compared_with_the_vocabulary():
    window = TASKS.sample(KEY, "train")
    found, metrics = generalist.loss(NETWORK, window, None, patches=TASKS.patches, targets=TASKS.targets)
    logits = NETWORK.logits(NETWORK.unroll(window.seen, patches=TASKS.length))
    counts = np.asarray(window.counts)
    logs = np.asarray(jax.nn.log_softmax(logits))[counts, np.asarray(window.following)[counts]]
    np.testing.assert_allclose(found, -logs.mean(), rtol=1e-4)
    right = np.asarray(logits).argmax(axis=1)[counts] == np.asarray(window.following)[counts]
    np.testing.assert_allclose(metrics["score"], right.mean(), rtol=1e-5)


def test_of_several_bounds_the_least_that_suffices_gives_the_same_loss_and_slope():
    windows = [TASKS.sample(key, "train") for key in jr.split(KEY, 4)]
    bounds = lambda patches, targets: {"patches": patches, "targets": targets}
    slope = eqx.filter_jit(
        lambda window, **bounds: eqx.filter_value_and_grad(lambda network: generalist.loss(network, window, KEY, **bounds)[0])(NETWORK)
    )
    several = bounds((0, 6, 12, TASKS.length), (1, 9, TASKS.length))
    for window in windows:
        assert 0 < int(jnp.sum(window.seen.id >= TASKS.vocabulary.size)) < TASKS.length
        expected, found = slope(window, **bounds(TASKS.length, TASKS.length)), slope(window, **several)
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_a_run_goes_on_with_its_own_demonstrations_only(tmp_path, monkeypatch):
    store.create(tmp_path / "run", store.Settings("generalist", "smoke", PRESET.config, 0, 4, 4), "a test")
    made = mixtures.smoke()
    # Other shares leave all shapes as they are: nothing but a digest can tell.
    other = made._replace(shares=made.shares | {"babyai-compact/GoToObj": mixtures.Share(2.0, 4)})
    monkeypatch.setattr(mixtures, "smoke", lambda: other)
    with pytest.raises(ValueError, match=r"'smoke' meant Demonstrations\(2 tasks, windows of 24 tokens, digest \w+\) when"):
        next(iter(store.resume(tmp_path / "run")))


def test_a_run_keeps_every_board_and_its_report_says_how_it_played(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "generalist", "--preset", "smoke", "--steps", "2", "--out", str(run)]) == 0
    assert "was not played yet" in write_report([run], tmp_path / "before").read_text()
    assert main(["eval", str(run), "--n-tasks", "2", "--only", "babyai-compact/GoToObj", "--seed", "999999"]) == 2
    assert "seed and episodes must be at most 1,000,000 together, not 999,999 and 2" in capsys.readouterr().err
    for level in ("GoToObj", "GoToLocal"):
        assert main(["eval", str(run), "--n-tasks", "1", "--only", f"babyai-compact/{level}"]) == 0
    assert "kept as " in capsys.readouterr().err
    assert sorted(path.name for path in run.glob("scoreboard*")) == ["scoreboard-2.json", "scoreboard.json"]
    page = write_report([run], tmp_path / "after").read_text()
    assert "babyai-compact/GoToObj" in page and "babyai-compact/GoToLocal" in page


def test_windows_one_by_one_are_learned_from_as_side_by_side(monkeypatch):
    def learned():
        program = generalist.program(PRESET.config, TASKS)
        return jax.tree.leaves(train(program, steps=1, seed=0))

    alone = learned()
    monkeypatch.setattr(jax, "device_count", lambda: 3)  # too few windows to be cut over them
    for one, other in zip(alone, learned(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def test_matrices_decay_and_norms_and_biases_do_not():
    mask = generalist._matrices(eqx.filter(NETWORK, eqx.is_inexact_array))
    assert mask.embedding is True
    assert mask.body.blocks.expanding is True
    assert mask.patches.stem.weight is True
    assert mask.patches.stem.bias is False
    assert mask.body.blocks.before_attention.weight is False  # one row for each layer
    assert mask.body.last.bias is False
    assert jnp.ndim(NETWORK.body.blocks.before_attention.weight) == 2


def test_observed_numbers_have_their_share_of_the_loss():
    body, task = parse("metaworld-lean/reach")
    tokens = body.encode([body.record(task, seed) for seed in (0, 2)])
    tasks = demonstrations({"train": {task: tokens}}, body.tokenizer.vocabulary, length=48)
    network = generalist.learner(PRESET.config, tasks, KEY)
    window = tasks.sample(KEY, "train")
    # After a window's first number: 17 others and 4 of an action, a whole step of 18 and 4, and 5 numbers.
    counts, observed = np.asarray(window.counts), np.asarray(window.observed)
    assert not (counts & observed).any()
    assert (counts.sum(), observed.sum()) == (4 + 4, 17 + 18 + 5)
    logits = network.logits(network.unroll(window.seen, patches=1))
    surprise = -np.asarray(jax.nn.log_softmax(logits))[np.arange(48), np.asarray(window.following)]
    found, _ = generalist.loss(network, window, None, patches=1, targets=tasks.targets, observations=0.25)
    np.testing.assert_allclose(found, 0.75 * surprise[counts].mean() + 0.25 * surprise[observed].mean(), rtol=1e-4)


@pytest.mark.parametrize("name", ["laptop", "gpu", "paper"])
def test_presets_too_large_for_tests_make_networks_of_their_size(name):
    config = generalist.PRESETS[name].config
    made = eqx.filter_eval_shape(lambda: generalist.network(config, 4_105, 1_024, KEY))
    count = sum(leaf.size for leaf in jax.tree.leaves(made) if isinstance(leaf, jax.ShapeDtypeStruct))
    low, high = {"laptop": (1e6, 4e6), "gpu": (25e6, 35e6), "paper": (79e6, 85e6)}[name]
    assert low <= count <= high, f"{count:,}"


def test_every_preset_has_a_mixture_and_each_names_builds_of_its_tasks():
    assert set(mixtures.MIXTURES) == set(generalist.PRESETS)
    for make in mixtures.MIXTURES.values():
        built = make().builds()
        for domain, tasks, split, episodes in built:
            assert build.plan(domain, tasks, episodes=episodes, split=split)
        assert sum(len(tasks) for _, tasks, split, _ in built if split == "test") == len(make().shares)


def test_mixtures_name_what_the_domains_have():
    assert mixtures.SINGLE_ROOM == babyai.SINGLE_ROOM
    assert metaworld.GROUPS["mt10"] == mixtures.MT10
    assert box2d.GROUPS["all"] == mixtures.BOX2D
    assert [name.partition("/")[2] for name in mixtures.SCENES] == list(scenes.TASKS)
    assert [name.partition("/")[2] for name in mixtures.CHARACTERS] == list(characters.TASKS[:2])


def test_validation_is_the_mean_loss_on_the_same_windows_of_the_valid_split():
    validate = generalist.validation(PRESET.config, TASKS)
    one = jax.jit(
        lambda key: generalist.loss(NETWORK, TASKS.sample(key, "valid"), None, patches=TASKS.patches, targets=TASKS.targets)[0]
    )
    found = [one(key) for key in jr.split(jr.key(0), generalist._VALIDATED)]
    assert validate(NETWORK) == validate(NETWORK)
    np.testing.assert_allclose(validate(NETWORK), np.mean(found), rtol=1e-4)
    without = dataclasses.replace(TASKS, streams={"train": TASKS.streams["train"]})
    assert generalist.validation(PRESET.config, without) is None
