"""Plain behaviour cloning: it learns what one observation tells, with a one-hot also what the task tells, and nothing else."""

import functools
import io

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest
from gymnasium import spaces
from rich.console import Console

from quickstudy.generalist import cloning, references, scoreboard
from quickstudy.generalist.cloning import Cloned, clone
from quickstudy.generalist.data import babyai
from quickstudy.generalist.data.store import Episode
from quickstudy.generalist.embodiments import Embodiment, parse
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.scoreboard import Policy, Random, play
from quickstudy.generalist.text import TextModel
from quickstudy.generalist.tokens import Tokenizer
from quickstudy.generalist.vocabulary import Vocabulary
from quickstudy.nn.transformer import Architecture

TEXT = TextModel()
VOCABULARY = Vocabulary(TEXT.size)
BUTTONS = Tokenizer(spaces.Discrete(4), spaces.Discrete(5, start=-1), VOCABULARY)
EVERYTHING = spaces.Dict(
    eye=spaces.Box(0, 255, (16, 16, 1), np.uint8),
    speed=spaces.Box(-np.inf, np.inf, (2,), np.float32),
    switch=spaces.MultiDiscrete([3, 2]),
    word=spaces.Text(50, charset="abcdefghijklmnopqrstuvwxyz "),
)
MACHINE = Tokenizer(EVERYTHING, spaces.Box(-1, 1, (2,)), Vocabulary(TEXT.size, continuous=64), TEXT)


def body_of(tokenizer, raw):
    return Embodiment("machine", tokenizer, lambda raw: raw, lambda task, seed: None, raw, lambda task, seed: None)


ROOM = body_of(BUTTONS, lambda episodes: np.concatenate([episode.observations["lamp"] for episode in episodes]))


def pressed(buttons):
    """An episode that sees 0 to 3 again and again, and answers each with a button."""
    return Episode({"lamp": np.tile(np.arange(4), 50)}, np.tile(np.array(buttons), 50), np.zeros(200), {})


def answers(policy, seen=(0, 1, 2, 3)):
    return [int(action) for action in policy.act([np.int64(one) for one in seen], range(len(seen)))]


def test_a_one_hot_tells_tasks_apart_that_look_alike_and_without_it_a_mixture_is_answered_half_and_half():
    one, other = [-1, 0, 1, 2], [3, 3, 0, -1]
    both = clone([(ROOM, [pressed(one)]), (ROOM, [pressed(other)])], width=32, steps=500)
    assert answers(Cloned(both, 0, greedy=True)) == one
    assert answers(Cloned(both, 1, greedy=True)) == other
    mixed = clone([(ROOM, [pressed(one), pressed(other)])], width=32, steps=1_000)
    drawn = answers(Cloned(mixed), [1] * 400)
    assert drawn.count(0) + drawn.count(3) > 390
    assert 120 < drawn.count(0) < 280  # eight standard deviations around a half


def test_parts_of_an_action_may_have_different_numbers_of_values():
    space = spaces.MultiDiscrete([2, 9])
    body = ROOM._replace(tokenizer=Tokenizer(spaces.Discrete(4), space, VOCABULARY))
    episode = pressed([0] * 4)._replace(actions=np.tile([[0, 8], [1, 0], [0, 5], [1, 7]], (50, 1)))
    found = Cloned(clone([(body, [episode])], width=32, steps=400), greedy=True).act([np.int64(lamp) for lamp in range(4)], range(4))
    np.testing.assert_array_equal(found, episode.actions[:4])
    untrained = Cloned(clone([(body, [episode])], width=4, steps=1))
    assert all(space.contains(action) for action in untrained.act([np.int64(0)] * 50, range(50)))


def everything(steps, seed):
    """Steps in which one part of the action follows from picture and word order, the other from the switch and a slight change."""
    random = np.random.default_rng(seed)
    words = np.array(["the red ball next to the blue box", "the blue ball next to the red box"])[random.integers(2, size=steps)]
    bright, fast = random.random((2, steps)) < 0.5
    seen = {
        "eye": np.where(bright, 255, 0).astype(np.uint8)[:, None, None, None] + np.zeros((1, 16, 16, 1), np.uint8),
        "speed": np.stack([random.normal(0, 1e9, steps), np.where(fast, 1001, 999)], axis=1).astype(np.float32),
        "switch": random.integers([3, 2], size=(steps, 2)),
        "word": words.tolist(),
    }
    same = np.char.startswith(words, "the red") == bright
    actions = np.stack([np.where(same, 0.5, -0.5), np.where(fast, 0.25, -0.25) * (seen["switch"][:, 0] - 1)], axis=1)
    return Episode(seen, actions.astype(np.float32), np.zeros(steps), {})


def test_pictures_word_order_switches_and_numbers_of_any_size_all_count():
    made = clone([(body_of(MACHINE, lambda episodes: episodes[0].observations), [everything(2_000, 0)])], width=64, steps=600)
    fresh = everything(60, 1)
    each = [{name: values[step] for name, values in fresh.observations.items()} for step in range(60)]
    found = np.stack(Cloned(made, greedy=True).act(each, range(60)))
    right = np.abs(found - fresh.actions).max(axis=1) < 0.02  # half a bin is 0.016
    assert right.mean() > 0.9


def test_words_that_training_did_not_have_and_more_of_them_are_left_out():
    made = clone([(body_of(MACHINE, lambda episodes: episodes[0].observations), [everything(20, 0)])], width=8, steps=5)
    one = {name: values[0] for name, values in everything(1, 1).observations.items()}
    longer = dict(one) | {"word": one["word"] + " and go home"}
    known, cut = (made.reader.read([seen], 0) for seen in (one, longer))
    np.testing.assert_array_equal(known.ones, cut.ones)
    unknown = made.reader.read([dict(one) | {"word": "quite xylophone"}], 0)
    assert (unknown.ones[0, -known.ones.shape[1] + 3 :] == -1).all()


def test_equal_seeds_give_equal_policies_and_other_seeds_others():
    made = [clone([(ROOM, [pressed([-1, 0, 1, 2])])], width=8, steps=3, seed=seed) for seed in (1, 1, 2)]
    first, again, other = (
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(eqx.filter(one.network, eqx.is_array))]) for one in made
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    drawn = [answers(Cloned(made[0], seed=seed), [0] * 50) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_more_steps_than_memory_is_for_are_thinned_out(monkeypatch):
    monkeypatch.setattr(cloning, "_MOST_BYTES", 8 * 30)  # a step of the room has two inputs of four bytes
    kept = []
    monkeypatch.setattr(cloning, "_trained", lambda network, recorded, *rest: kept.append(recorded) or network)
    clone([(ROOM, [pressed([-1, 0, 1, 2])] * 3)])
    assert 5 < len(kept[0][0]) < 80  # 30 of 600 are expected
    assert {len(array) for array in kept[0]} == {len(kept[0][0])}


def test_no_episodes_and_different_spaces_are_one_sentence():
    with pytest.raises(ValueError, match="one episode at least of each"):
        clone([(ROOM, [])])
    other = ROOM._replace(tokenizer=Tokenizer(spaces.Discrete(4), spaces.Discrete(6), VOCABULARY))
    with pytest.raises(ValueError, match="equal spaces"):
        clone([(ROOM, [pressed([0] * 4)]), (other, [pressed([0] * 4)])])


def test_a_hundred_episodes_of_a_level_are_enough_to_be_clearly_above_random():
    body, level = parse("babyai-compact/GoToObj")
    known = [episode for seed in range(100) if isinstance(episode := babyai.record(level, seed), Episode)]
    policy = Cloned(clone([(body, known)], width=64, steps=500))
    assert isinstance(policy, Policy)
    seeds = range(1_000_000, 1_000_040)
    assert play(policy, body, level, seeds).success.mean() > play(Random(body), body, level, seeds).success.mean() + 0.4


def test_tasks_with_equal_spaces_share_a_network_and_others_do_not(monkeypatch):
    trained = []

    def clone(known, seed):
        trained.append([episodes for _, episodes in known])
        return cloning.Clone(None, None, None)

    monkeypatch.setattr(cloning, "clone", clone)
    names = ["bandits-plain/bernoulli-2", "mazes-plain/tree-7", "bandits-plain/bernoulli-5", "mazes-plain/loops-7"]
    made = cloning.clone_each(names, lambda name: name.partition("/")[2])
    assert trained == [["bernoulli-2"], ["tree-7"], ["loops-7"], ["tree-7", "loops-7"], ["bernoulli-5"]]
    assert {name: made[name]["one-hot cloning"]._task for name in names} == dict(zip(names, [0, 0, 0, 1], strict=True))


class Still:
    """In the place of a generalist's players, which take long to compile."""

    def __init__(self, network, tokenizer, size, prompt, greedy):
        assert greedy
        self.action = tokenizer.decode_action(tokenizer.action_ranges[:, 0])

    def reset(self, players=None, seed=0):
        pass

    def act(self, observations, players):
        return [self.action] * len(observations)


def test_a_scoreboard_with_clones_and_a_scale_that_is_measured_where_there_is_no_constant(monkeypatch):
    network = Generalist(VOCABULARY.size, Architecture(8, layers=1, heads=2), reach=8, channels=2, key=jr.key(0))
    known, lost = "bandits-plain/bernoulli-2", "mazes-plain/loops-7"  # of different spaces, so that two networks are enough
    constants = references.find(known)
    monkeypatch.setattr(references, "find", lambda name: None if name == lost else constants)
    monkeypatch.setattr(scoreboard, "Players", Still)
    monkeypatch.setattr(cloning, "clone", functools.partial(clone, width=8, steps=5))
    monkeypatch.setattr(cloning, "Cloned", lambda *args, greedy, **options: greedy and Cloned(*args, greedy=True, **options))
    board = scoreboard.scoreboard(network, [known, lost], episodes=2, neighbours=4, cloning=True, greedy=True)
    assert board["greedy"]
    who = {"expert", "random", "nearest neighbour", "single-task cloning", "one-hot cloning", "generalist"}
    assert {*board["tasks"][known]} == {*board["tasks"][lost]} == {*board["mean"]} == who
    low, high = (constants[which]["return"] for which in ("random", "expert"))
    for row in board["tasks"][known].values():
        np.testing.assert_allclose(row["normalised"], (row["return"] - low) / (high - low), atol=1e-6)
    assert board["scales"][known] == {"from": "constants", **constants}
    assert board["scales"][lost]["from"] == "these episodes"
    assert [board["tasks"][lost][which]["normalised"] for which in ("random", "expert")] == [0, 1]
    # Each task counts as much as the other, and only within tasks do episodes differ by chance.
    both = [board["tasks"][name]["generalist"] for name in (known, lost)]
    mean, alone = board["mean"]["generalist"], board["domains"]["bandits-plain"]["generalist"]
    assert mean["normalised"] == pytest.approx(np.mean([row["normalised"] for row in both]))
    assert mean["minimum"] == min(row["normalised"] for row in both)
    assert mean["above half"] == np.mean([row["normalised"] > 0.5 for row in both])
    assert (mean["tasks"], mean["episodes"], alone["tasks"], alone["episodes"]) == (2, 4, 1, 2)
    assert alone["normalised"] == alone["interquartile mean"] == both[0]["normalised"]
    expert = board["domains"]["mazes-plain"]["expert"]
    assert expert["normalised interval"][0] <= expert["normalised"] == 1 <= expert["normalised interval"][1]
    shown = io.StringIO()
    Console(file=shown, width=80).print(*scoreboard.tables(board))
    assert shown.getvalue().count("single-task cloning ") == 5  # two tasks, their domains, their mean
