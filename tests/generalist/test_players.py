"""Acting from a key-value cache is acting with the whole context read anew, also where episodes end at different times."""

import functools

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest
from gymnasium import spaces

from quickstudy.generalist import prompts, scoreboard
from quickstudy.generalist.acting import Players, stacked
from quickstudy.generalist.data.playing import Step
from quickstudy.generalist.data.store import Episode
from quickstudy.generalist.embodiments import Embodiment, parse
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.text import TextModel
from quickstudy.generalist.tokens import Tokenizer, join
from quickstudy.generalist.vocabulary import Vocabulary
from quickstudy.nn.transformer import Architecture

TEXT = TextModel()
EYE = spaces.Dict(eye=spaces.Box(0, 255, (16, 16, 1), np.uint8), word=spaces.Text(9, charset="go 0123"))
MACHINE = Tokenizer(EYE, spaces.MultiDiscrete([3, 40]), Vocabulary(TEXT.size), TEXT, text_every=2)


@functools.cache
def network(reach=40):
    made = Generalist(MACHINE.vocabulary.size, Architecture(8, layers=2, heads=2), reach=reach, channels=4, key=jr.key(1))
    # Small differences between random logits would make every choice a toss-up between machines.
    return eqx.tree_at(lambda m: m.embedding, made, 5 * made.embedding)


def observation(number):
    return {"eye": np.full((16, 16, 1), 37 * number % 256, np.uint8), "word": f"go {number % 2}"}


def uncached(history, tokens, made=None):
    """The greedy action after a context and one more observation, by reading all of it at once for every token."""
    made, parts = made or network(), [*history, tokens]
    for low, high in MACHINE.action_ranges:
        context = join(parts)
        seen = stacked([context], 64, [True])
        features = read_all(made, seen)[len(context.ids) - 1]
        logits = np.asarray(made.logits(features))
        parts.append(MACHINE.action_tokens(np.array([low + np.argmax(logits[low:high])])))
    return parts


read_all = eqx.filter_jit(lambda made, seen: made.unroll(type(seen)(*(leaf[0] for leaf in seen)), patches=64))


@pytest.mark.parametrize("prompted", ["none", "all alike", "each its own"])
def test_cached_actions_are_those_of_the_whole_context_also_with_staggered_episodes(prompted):
    prompt = MACHINE.encode({"eye": np.zeros((2, 16, 16, 1), np.uint8), "word": ["go 3"] * 2}, np.array([[1, 7], [2, 0]]))
    each = {"none": [None] * 3, "all alike": [prompt] * 3, "each its own": [None, prompt, prompts.cut(prompt, 0, 6)]}[prompted]
    players = Players(network(), MACHINE, 3, prompt=each if prompted == "each its own" else each[0], greedy=True)
    begin = [[] if one is None else [one] for one in each]
    histories, ticks = [list(one) for one in begin], [0, 0, 0]
    for tick in range(4):
        who = [0, 1, 2] if tick != 2 else [0, 2]  # one of them waits a tick
        if tick == 1:
            players.reset([2])
            histories[2], ticks[2] = list(begin[2]), 0
        # Words change where they are written only.
        seen = [observation(10 * player + ticks[player] // 2) for player in who]
        found = players.act(seen, who)
        for player, one, action in zip(who, seen, found, strict=True):
            step = MACHINE.step(one, first=ticks[player] % 2 == 0)
            histories[player] = uncached(histories[player], step)
            ticks[player] += 1
            expected = np.concatenate([part.ids for part in histories[player][-2:]])
            np.testing.assert_array_equal(MACHINE.encode_action(action), expected)


def test_who_stands_alone_knows_the_prompt_and_the_present_only():
    alone = Tokenizer(EYE, MACHINE.action_space, MACHINE.vocabulary, TEXT, alone=True)
    prompt = alone.encode({"eye": np.zeros((1, 16, 16, 1), np.uint8), "word": ["go 3"]}, np.array([[1, 7]]))
    for begin in (None, prompt):
        players = Players(network(), alone, 2, prompt=begin, greedy=True)
        for tick in range(3):
            (action,) = players.act([observation(tick)], [1])
            expected = uncached([] if begin is None else [begin], alone.step(observation(tick), first=True))
            np.testing.assert_array_equal(alone.encode_action(action), np.concatenate([part.ids for part in expected[-2:]]))


def test_a_life_may_be_longer_than_the_cache():
    # Eight steps are about forty tokens, of which each sees the last twelve.
    players, history = Players(network(12), MACHINE, 2, greedy=True), []
    for tick in range(8):
        history = uncached(history, MACHINE.step(observation(tick), first=tick % 2 == 0), network(12))
        expected = np.concatenate([part.ids for part in history[-2:]])
        for action in players.act([observation(tick)] * 2):
            np.testing.assert_array_equal(MACHINE.encode_action(action), expected)


class World:
    """Ends after as many steps as its seed says, and pays for the action [1, 1]."""

    def __init__(self, seed):
        self.left = seed

    def reset(self):
        return observation(self.left)

    def step(self, action):
        self.left -= 1
        good = list(action) == [1, 1]
        return Step(observation(self.left), float(good), self.left == 0, good)


BODY = Embodiment("countdown", MACHINE, lambda raw: raw, lambda task, seed: World(seed), None, None)


class Always:
    """Acts well in worlds that show an even number."""

    def __init__(self):
        self.begun = []

    def reset(self, players):
        self.begun += players

    def act(self, observations, players):
        return [np.array([1, 1]) if one["word"] == "go 0" else np.array([0, 0]) for one in observations]


def test_everyone_plays_every_seed_once_however_many_play_side_by_side():
    seeds = [3, 1, 4, 1, 5, 2]
    for together in (1, 4, 10):
        policy = Always()
        played = scoreboard.play(policy, BODY, "", seeds, together=together)
        # A world of n steps shows n, n - 1, ... 1, of which n // 2 are even.
        np.testing.assert_array_equal(played.returns, [n // 2 for n in seeds])
        np.testing.assert_array_equal(played.success, [n > 1 for n in seeds])
        assert len(policy.begun) == len(seeds)


def test_the_nearest_step_with_the_same_text_is_repeated_and_without_one_the_nearest_of_all():
    steps = {"eye": np.array([10, 50, 90])[:, None, None, None] + np.zeros((3, 16, 16, 1), np.uint8), "word": ["go 0", "go 1", "go 0"]}
    episode = Episode(steps, np.array([[0, 0], [1, 1], [2, 2]]), np.zeros(3), {})
    nearest = scoreboard.Nearest(BODY._replace(raw=lambda episodes: episodes[0].observations), [episode])
    seen = [
        {"eye": np.full((16, 16, 1), value), "word": word} for value, word in ((48, "go 1"), (48, "go 0"), (52, "go 0"), (52, "go 3"))
    ]
    assert [int(action[0]) for action in nearest.act(seen, range(4))] == [1, 0, 2, 1]


def test_a_part_of_an_episode_is_a_prompt_with_its_pixels():
    eyes = np.broadcast_to(np.arange(4, dtype=np.uint8)[:, None, None, None], (4, 16, 16, 1))
    whole = MACHINE.encode({"eye": eyes, "word": ["go"] * 4}, np.zeros((4, 2), int))
    part = prompts.cut(whole, 9, len(whole.ids))
    seen = stacked([part], 32, [True])
    pixels = seen.pixels[0][np.flatnonzero(part.is_patch)]
    assert pixels.max(axis=(1, 2, 3)).tolist() == [2, 3]


def test_a_tokenizer_or_a_prompt_of_another_vocabulary_is_one_sentence():
    other = Tokenizer(EYE, MACHINE.action_space, Vocabulary(TEXT.size, discrete=64), TEXT)
    with pytest.raises(ValueError, match="the tokenizer has a vocabulary of 3137 tokens, and the network one of 4097"):
        Players(network(), other, 1)
    with pytest.raises(ValueError, match="the prompt has a vocabulary of 3137 tokens"):
        Players(network(), MACHINE, 1, prompt=other.step(observation(0), True))


def test_there_is_a_prompt_for_each_environment_or_one_for_all():
    with pytest.raises(ValueError, match="prompt must be a list of one for each of the 3 environments, not of 2"):
        Players(network(), MACHINE, 3, prompt=[None, None])


def test_a_brief_episode_ends_in_time_and_no_later_than_it_would():
    body, task = parse("bandits-plain/bernoulli-2")
    lengths = []
    for steps in (3, 1_000):
        world, ends = body.brief(steps).environment(task, 0), []
        world.reset()
        while not (ends and ends[-1]):
            ends.append(world.step(0).end)
        lengths.append(len(ends))
    whole, _ = body.episodes(task, "train", 2)
    assert lengths == [3, len(whole.actions)]


def test_a_prompt_from_another_embodiment_is_read_like_any_other():
    other = Tokenizer(spaces.Box(-1, 1, (3,)), spaces.Discrete(5), MACHINE.vocabulary)
    prompt = other.encode(np.zeros((4, 3), np.float32), np.arange(4))
    # Made to look at its context more than a network does that was begun at random.
    made = eqx.tree_at(lambda m: m.body.blocks.mixing, network(), 30 * network().body.blocks.mixing)
    players, found, histories = Players(made, MACHINE, 1, prompt=prompt, greedy=True), [], [[prompt], []]
    for tick in range(4):
        (action,) = players.act([observation(tick)])
        step = MACHINE.step(observation(tick), first=tick % 2 == 0)
        histories = [uncached(history, step, made) for history in histories]
        found.append([np.array_equal(MACHINE.encode_action(action), join(history[-2:]).ids) for history in histories])
    with_it, without = zip(*found, strict=True)
    assert all(with_it) and not all(without)
