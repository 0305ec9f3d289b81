"""The generalist's claims about size, encodings and packing: their arms are equal where they say so, and differ where they say so."""

import dataclasses
import operator

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.imitation import gato_encodings, gato_mini, gato_packing, generalist, measuring
from quickstudy.core import sample_tasks
from quickstudy.generalist import references
from quickstudy.generalist.demonstrations import demonstrations
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.scoreboard import Played

KEY, LENGTH = jr.key(0), 40
BODY, LEVEL = parse("babyai-compact/GoToObj")
EPISODES = BODY.encode(BODY.episodes(LEVEL, "train", 8))
PADDED = gato_packing.padded(EPISODES, LENGTH)
SMOKE = generalist.PRESETS["smoke"]


def of(tokens):
    return demonstrations({"train": {LEVEL: tokens}}, BODY.tokenizer.vocabulary, length=LENGTH, prompted=0.0)


def windows(tasks, n):
    stacked = jax.tree.map(np.asarray, jax.jit(lambda tasks, key: sample_tasks(tasks, key, "train", n))(tasks, KEY))
    return [jax.tree.map(operator.itemgetter(i), stacked) for i in range(n)]


def apart(tokens):
    """The ids of each episode, with those of its targets but the first token's, which nothing foretells."""
    parts = np.split(np.arange(len(tokens.ids)), tokens.episodes[1:])
    return [(tokens.ids[part].tolist(), tokens.ids[part][1:][tokens.targets[part][1:]].tolist()) for part in parts]


def test_a_padded_window_is_one_whole_episode_and_counts_its_targets_alone():
    known = apart(EPISODES)
    met = set()
    for window in windows(of(PADDED), 60):
        shown = window.seen.id[: np.flatnonzero(window.seen.id != gato_packing.BLANK)[-1] + 1].tolist()
        (number,) = [i for i, (ids, _) in enumerate(known) if ids == shown]
        assert window.following[window.counts].tolist() == known[number][1]
        assert np.flatnonzero(window.seen.fresh).tolist() == [0]
        met.add(number)
    assert len(met) > 4


def test_a_packed_window_goes_on_with_other_episodes():
    lengths = [len(ids) for ids, _ in apart(EPISODES)]
    for window in windows(of(EPISODES), 20):
        assert (window.seen.id != gato_packing.BLANK).all()
        assert window.seen.fresh.sum() >= LENGTH // max(lengths)


def test_what_stands_in_a_blank_does_not_matter():
    tasks = of(PADDED)
    network = generalist.learner(SMOKE.config, tasks, KEY)
    window = tasks.sample(KEY, "train")
    loss = jax.jit(lambda window: generalist.loss(network, window, None, patches=tasks.patches, targets=tasks.targets)[0])
    other = jnp.where(window.seen.id == gato_packing.BLANK, 5, window.seen.id)
    changed = dataclasses.replace(window, seen=window.seen._replace(id=other))
    assert int(jnp.sum(other != window.seen.id)) > 5
    np.testing.assert_allclose(loss(changed), loss(window), rtol=1e-5, atol=1e-6)


def test_useful_tokens_are_those_of_episodes():
    lengths = [len(ids) for ids, _ in apart(EPISODES)]
    assert float(gato_packing.useful(of(EPISODES), KEY)) == LENGTH
    # Of 256 episodes drawn from eight.
    assert abs(float(gato_packing.useful(of(PADDED), KEY)) - np.mean(lengths)) < 4 * np.std(lengths) / 16


def test_an_episode_that_is_longer_than_a_window_is_one_sentence():
    with pytest.raises(ValueError, match=r"length must be at least \d+, that of the longest episode, not 9"):
        gato_packing.padded(EPISODES, 9)


def test_sizes_are_ordered_and_as_large_as_the_claim_says():
    vocabulary = BODY.tokenizer.vocabulary.size
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.ShapeDtypeStruct))
    bodies = []
    for size in gato_mini.SIZES:
        made = eqx.filter_eval_shape(lambda size=size: generalist.network(gato_mini.config(size, "laptop"), vocabulary, 128, KEY))
        bodies.append(count(made.body))
        assert f"{count(made.body):,} + {count(made.patches):,}" in gato_mini.__doc__
    assert bodies[1] > 4 * bodies[0]
    assert bodies[2] > 4 * bodies[1]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "full"])
def test_sizes_read_equal_tokens(scale):
    network = {"width", "layers", "heads", "channels"}
    configs = [dataclasses.asdict(gato_mini.config(size, scale)) for size in gato_mini.SIZES]
    shared = [{name: value for name, value in config.items() if name not in network} for config in configs]
    assert shared[0] == shared[1] == shared[2]
    assert shared[0]["steps"] % len(gato_mini.POINTS) == 0


def test_encodings_take_the_tokens_that_the_claim_says():
    recorded = BODY.episodes(LEVEL, "train", 8)
    tokens = {name: parse(f"babyai-{name}/{LEVEL}")[0].encode(recorded) for name in gato_encodings.ENCODINGS}
    steps = sum(len(episode.actions) for episode in recorded)
    written = {name: int((found.targets & ~found.is_action).sum()) for name, found in tokens.items()}
    assert len(tokens["compact"].ids) - written["compact"] == 2 * steps
    assert len(tokens["patches"].ids) - written["patches"] == 19 * steps
    assert len(tokens["symbolic"].ids) - written["symbolic"] == 150 * steps
    assert written["patches"] == written["symbolic"] > 2 * written["compact"]


def test_work_is_what_the_compiler_counts():
    tasks = of(EPISODES)
    network = generalist.learner(dataclasses.replace(SMOKE.config, width=32, layers=2, channels=16), tasks, KEY)
    window = tasks.sample(KEY, "train")
    patches, targets = int(jnp.sum(window.seen.id >= tasks.vocabulary.size)), int(jnp.sum(window.counts))
    read = lambda network, window: generalist.loss(network, window, None, patches=patches, targets=targets)[0]
    counted = jax.jit(read).lower(network, window).compile().cost_analysis()["flops"]
    # Two operations for each, and a little for all else. The compiler counts all keys, of which half are attended to.
    assert 0.6 < 2 * float(gato_encodings.work(network, tasks, KEY)) / counted < 1.1


def test_a_training_that_cannot_be_cut_into_equal_parts_is_one_sentence():
    with pytest.raises(ValueError, match="steps must be divisible by 3 parts, not 4"):
        next(measuring.stages(dataclasses.replace(SMOKE.config, steps=4), of(EPISODES), 3, 3))


def test_repeats_play_seeds_of_their_own_and_returns_are_on_constants(monkeypatch):
    network, seen = generalist.learner(SMOKE.config, of(EPISODES), KEY), []
    constants = references.find(f"babyai-compact/{LEVEL}")
    for who, score in (("random", 0.0), ("expert", 1.0)):
        gets = np.full(5, constants[who]["return"])

        def play(players, body, task, seeds, *, together, gets=gets):
            seen.append(list(seeds))
            return Played(gets, np.ones(5, bool))

        monkeypatch.setattr(measuring, "play", play)
        for seed in (0, 1):
            assert measuring.normalised(network, f"babyai-compact/{LEVEL}", seed, 5) == pytest.approx(score, abs=1e-9)
    assert seen[0] == seen[2]
    assert not set(seen[0]) & set(seen[1])
    assert min(seen[0]) >= 2_000_000
    monkeypatch.setattr(references, "find", lambda name: None)
    with pytest.raises(ValueError, match="babyai-compact/GoToObjS4 has no constants"):
        measuring.normalised(network, "babyai-compact/GoToObjS4", 0, 5)


@pytest.mark.parametrize(
    ("claim", "level"), [(gato_mini, "GoToObj"), (gato_encodings, "GoToRedBallNoDists"), (gato_packing, "GoToRedBallNoDists")]
)
def test_without_episodes_the_laptop_scale_says_how_to_build_them(claim, level, tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"run `quickstudy data build babyai --tasks {level}"):
        claim.measure("laptop", 0)
