"""Fine-tuning learns from just the episodes that it is given, leaves the given network alone, and takes the best smoothed point."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.imitation import generalist
from quickstudy.core import sample_tasks
from quickstudy.generalist import finetuning
from quickstudy.generalist.data.store import Rejected
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.finetuning import Settings, fine_tune, recorded, windows
from quickstudy.generalist.trained import Trained
from quickstudy.generalist.writing import Writer

BODY, TASK = parse("bandits-plain/bernoulli-2")
NETWORK = generalist.network(generalist.PRESETS["smoke"].config, Writer().vocabulary.size, 24, jr.key(1))
QUICK = Settings(learning_rate=0.01, steps=20, every=5, runs=2, windows_per_step=4, length=24)


@pytest.fixture(scope="module", autouse=True)
def empty_store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUICKSTUDY_DATA", str(tmp_path_factory.mktemp("data")))
        yield


def surprise(network, tasks):
    """The mean loss on some windows."""
    one = lambda key: generalist.loss(network, tasks.sample(key, "train"), None, patches=1, targets=tasks.length)[0]
    return float(eqx.filter_jit(lambda: jnp.mean(jax.lax.map(one, jr.split(jr.key(0), 16))))())


def test_fine_tuning_lowers_the_loss_of_its_task_and_leaves_the_given_network_as_it_was(monkeypatch):
    # Points ever higher, so that of five the middle one is taken: after ten steps.
    monkeypatch.setattr(finetuning, "_mean_return", lambda *args: next(points))
    points, episodes = itertools.count(0.0), recorded(BODY, TASK, 4)
    before = jax.tree.map(np.asarray, eqx.filter(NETWORK, eqx.is_array))
    found = fine_tune(NETWORK, BODY, TASK, episodes, QUICK)
    assert found.steps == 10
    assert found.curve.tolist() == [0, 1, 2, 3, 4]
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(eqx.filter(NETWORK, eqx.is_array)), strict=True):
        np.testing.assert_array_equal(one, other)
    tasks = windows(BODY, TASK, episodes, 24)
    assert surprise(found.network, tasks) < surprise(NETWORK, tasks) - 0.3


def test_the_network_is_that_in_the_middle_of_the_best_five_points(monkeypatch):
    curve = [9.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0, 3.0, 2.0, 0.0]
    points = iter(curve)
    kept = []
    monkeypatch.setattr(finetuning, "_mean_return", lambda network, *rest: (kept.append(network), next(points))[1])
    monkeypatch.setattr(finetuning, "_descended", lambda network, state, *rest: (NETWORK, state))
    settings = Settings(steps=18, every=2, runs=1, windows_per_step=1, length=24)
    found = fine_tune(NETWORK, BODY, TASK, recorded(BODY, TASK, 2), settings)
    # The means of five: 1.8, 0.6, 1.4, 2.0, 2.4, 2.4; the first of the two best has its middle at point 6, after twelve steps.
    np.testing.assert_allclose(finetuning.smoothed(np.array(curve)), [1.8, 0.6, 1.4, 2.0, 2.4, 2.4], atol=1e-9)
    assert found.steps == 12
    assert found.curve.tolist() == curve
    assert found.network is kept[6]


def test_n_episodes_are_n_whole_ones_though_the_expert_fails_on_some_seeds(monkeypatch):
    from quickstudy.generalist.data import bandits

    record = bandits.record
    monkeypatch.setattr(bandits, "record", lambda task, seed: Rejected(seed, "no") if seed in (0, 2, 4) else record(task, seed))
    assert [episode.facts["seed"] for episode in recorded(BODY, TASK, 3)] == [1, 3, 5]
    assert [episode.facts["seed"] for episode in recorded(BODY, TASK, 1)] == [1]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_windows_hold_nothing_but_the_episodes_and_one_alone_is_never_prompted(n):
    episodes = recorded(BODY, TASK, n)
    tasks = windows(BODY, TASK, episodes, 24)
    assert len(tasks.streams["train"].episodes) == n + 1
    np.testing.assert_array_equal(tasks.streams["train"].ids, BODY.encode(episodes).ids)
    np.testing.assert_allclose(tasks.prompted, 0.0 if n == 1 else 0.25)


def test_a_time_step_that_stands_alone_is_not_prompted_by_its_own_episode():
    body, task = parse("control-plain/MountainCarContinuous")
    made = windows(body, task, recorded(body, task, 2), 24)
    stream = made.streams["train"]
    # With the network's own bins there are steps that are alike; a stream that counts its tokens tells them apart.
    told = eqx.tree_at(lambda m: m.streams["train"].ids, made, jnp.arange(len(stream.ids)))
    drawn = jax.jit(lambda made: sample_tasks(eqx.tree_at(lambda m: m.prompted, made, jnp.ones(1)), jr.key(0), "train", 200))(told)
    step = int(stream.episodes[1])
    first, second, fresh = drawn.seen.id[:, 0] // step, drawn.seen.id[:, step] // step, drawn.seen.fresh[:, step]
    is_prompt = ~np.asarray(fresh)
    assert 0.3 < is_prompt.mean() < 0.7  # about half of the steps are the other episode's
    assert (stream.recorded[first] != stream.recorded[second])[is_prompt].all()


def test_a_trained_generalist_is_fine_tuned_by_the_name_of_a_task(monkeypatch):
    def asked(network, body, task, episodes, how, *, seed, report):
        seen.append((task, len(episodes), how, seed))
        return finetuning.FineTuned(network, 0, np.zeros(5))

    seen: list[tuple] = []
    monkeypatch.setattr(finetuning, "fine_tune", asked)
    assert Trained(NETWORK).fine_tune("bandits-plain/bernoulli-5", episodes=7, how=QUICK, seed=3).network is NETWORK
    assert seen == [("bernoulli-5", 7, QUICK, 3)]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"learning_rate": -1.0}, "learning_rate must be a positive number, not -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a positive number, not nan"),
        ({"windows_per_step": 0}, "windows_per_step must be a whole number, at least 1, not 0"),
        ({"every": 0}, "every must be a whole number, at least 1, not 0"),
        ({"length": 1}, "length must be a whole number, at least 2, not 1"),
        ({"drop": 1.0}, "drop must be a number from 0 to below 1, not 1.0"),
    ],
)
def test_settings_are_checked_when_they_are_made(setting, said):
    with pytest.raises(ValueError, match=said):
        Settings(**setting)


def test_what_cannot_be_is_one_sentence():
    with pytest.raises(ValueError, match="length must be at most the 24 tokens that the network sees, not 25"):
        fine_tune(NETWORK, BODY, TASK, recorded(BODY, TASK, 1), Settings(length=25))
    with pytest.raises(ValueError, match="episodes must be at least 1, not 0"):
        recorded(BODY, TASK, 0)
    with pytest.raises(ValueError, match="episodes must be one at least, not none"):
        windows(BODY, TASK, [], 24)
    with pytest.raises(ValueError, match="steps must be at least 4 times every, 5, for a smoothed curve, not 19"):
        fine_tune(NETWORK, BODY, TASK, recorded(BODY, TASK, 1), Settings(steps=19, every=5))
