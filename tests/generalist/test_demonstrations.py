"""Windows of recorded episodes: packed without padding, prompted by other episodes, counted where experts spoke and acted."""

import functools
import operator
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from gymnasium import spaces

from quickstudy.core import sample_tasks
from quickstudy.generalist.demonstrations import demonstrations
from quickstudy.generalist.text import TextModel
from quickstudy.generalist.tokens import Tokenizer
from quickstudy.generalist.vocabulary import Vocabulary

KEY, TEXT, LENGTH, WINDOWS = jr.key(0), TextModel(), 24, 400
VOCABULARY = Vocabulary(TEXT.size)
SPACE = spaces.Dict(
    eye=spaces.Box(0, 255, (16, 16, 1), np.uint8), word=spaces.Text(9, charset="go 0123"), number=spaces.Discrete(1024)
)
MACHINE = Tokenizer(SPACE, spaces.Discrete(3), VOCABULARY, TEXT, text_every=2, separator=False)


def episodes(first, lengths):
    """Episodes whose steps are numbered on from `first`, so that every step can be told."""
    steps = sum(lengths)
    numbers = np.arange(first, first + steps)
    eyes = np.broadcast_to((numbers % 200).astype(np.uint8)[:, None, None, None], (steps, 16, 16, 1))
    words = [word for i, n in enumerate(lengths) for word in [f"go {i % 3}"] * n]
    return MACHINE.encode({"eye": eyes, "word": words, "number": numbers}, numbers % 3, lengths)


TASKS = {"short": episodes(0, [3, 2, 4, 3, 2] * 4), "long": episodes(100, [20, 11, 30])}


@functools.cache
def tasks(prompted=0.25):
    return demonstrations({"train": TASKS, "valid": TASKS}, VOCABULARY, length=LENGTH, prompted=prompted)


def drawn(made):
    return jax.tree.map(np.asarray, jax.jit(lambda made, key: sample_tasks(made, key, "valid", WINDOWS))(made, KEY))


@functools.cache
def windows(prompted):
    return drawn(tasks(prompted))


def apart(stacked):
    return [jax.tree.map(operator.itemgetter(i), stacked) for i in range(WINDOWS)]


def numbers(ids):
    """Which step's number each token is; -1 for other tokens."""
    is_number = (ids >= VOCABULARY.discrete_start) & (ids < VOCABULARY.continuous_start)
    return np.where(is_number, ids - VOCABULARY.discrete_start, -1)


def step_numbers(window):
    """The numbers of the steps that a window shows, in order, without the actions."""
    found = numbers(window.seen.id)
    return found[(found >= 0) & (window.seen.place != 512)]


def each(prompted):
    return apart(windows(prompted))


def test_without_prompts_a_window_is_one_stretch_of_a_task_that_begins_at_a_section():
    for window in each(0.0):
        shown = step_numbers(window)
        base, count = (100, 61) if shown[0] >= 100 else (0, 56)
        assert (np.diff(shown - base) % count == 1).all()
        assert window.seen.place[0] == 0
        assert window.counts[0]  # the first token is text, and text is followed by text here


def test_every_episode_begins_a_sequence_of_its_own():
    begins = {0, *np.cumsum([3, 2, 4, 3, 2] * 4)[:-1].tolist(), 100, 120, 131}
    for window in each(0.0):
        # A step is text, a patch, a number and an action: its number says whether the fresh token before it was an episode's first.
        for tick in np.flatnonzero(window.seen.fresh)[1:]:
            after = numbers(window.seen.id[tick:])
            assert not (after >= 0).any() or after[after >= 0][0] in begins
        assert window.seen.fresh[0]


def test_tasks_are_drawn_equally_often_and_by_weights_if_there_are_any():
    share = lambda several: np.mean([step_numbers(window)[0] >= 100 for window in several])
    assert abs(share(each(0.0)) - 0.5) < 0.1
    weights = {"short": 1.0, "long": 9.0}
    made = demonstrations({"train": TASKS, "valid": TASKS}, VOCABULARY, length=LENGTH, weights=weights, prompted=0.0)
    assert abs(share(apart(drawn(made))) - 0.9) < 0.07


def of_episode(number):
    """Which episode of its task a step belongs to."""
    ends = 100 + np.cumsum([20, 11, 30]) if number >= 100 else np.cumsum([3, 2, 4, 3, 2] * 4)
    return int(np.searchsorted(ends, number, side="right"))


def seams(window):
    """Where a sequence goes on with another episode: the step before, and the step after."""
    shown = step_numbers(window)
    at = [tick for tick in range(1, len(shown)) if shown[tick] != shown[tick - 1] + 1]
    return [(shown[tick - 1], shown[tick]) for tick in at]


def test_prompts_come_from_another_episode_of_the_same_task_half_of_them_from_its_end():
    prompted = [window for window in each(1.0) if seams(window)]
    assert len(prompted) > 0.9 * WINDOWS  # by chance the next episode follows, or no seam is within the window
    ends = {119, 130, 160}
    from_the_end = []
    for window in prompted:
        before, after = seams(window)[0]
        assert (before >= 100) == (after >= 100)
        assert of_episode(before) != of_episode(after)
        if before >= 100:
            from_the_end.append(before in ends)
    # Of a long episode's twelve tokens from a section, few reach the end.
    assert 0.4 < np.mean(from_the_end) < 0.75


def test_a_quarter_of_windows_has_a_prompt_which_goes_on_as_one_sequence():
    long = [window for window in each(0.25) if step_numbers(window)[0] >= 100]
    share = np.mean([bool(seams(window)) and not np.any(window.seen.fresh[1:13]) for window in long])
    assert abs(share - 0.25) < 0.12


def test_text_and_actions_count_and_nothing_else_does():
    for window in each(0.25):
        is_text, is_action = window.following < VOCABULARY.text, np.append(window.seen.place[1:], 0) == 512
        fresh_next = np.append(window.seen.fresh[1:], False)
        expected = ((is_text | is_action) & ~fresh_next)[:-1]
        np.testing.assert_array_equal(window.counts[:-1], expected)


def test_no_window_has_more_patches_or_targets_than_are_allowed_for():
    for prompted in (0.0, 0.25, 1.0):
        assert (windows(prompted).seen.id >= VOCABULARY.size).sum(axis=1).max() <= tasks(prompted).patches < LENGTH
        assert windows(prompted).counts.sum(axis=1).max() <= tasks(prompted).targets


def test_two_stretches_far_apart_may_both_be_the_densest():
    # Episodes of one step have a text, of eight mostly patches; a prompt and what follows may both be of the second kind.
    known = {"one": episodes(0, [9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9] + [1] * 12)}
    made = demonstrations({"train": known, "valid": known}, VOCABULARY, length=LENGTH, prompted=1.0)
    window = jax.tree.map(np.asarray, jax.jit(lambda made, key: sample_tasks(made, key, "valid", 4_000))(made, KEY))
    for shown, bound in (((window.seen.id >= VOCABULARY.size), made.patches), (window.counts, made.targets)):
        assert shown.sum(axis=1).max() <= bound < LENGTH


def test_a_patch_has_the_pixels_of_its_step():
    window = each(0.0)[0]
    shown = numbers(window.seen.id)
    for tick in np.flatnonzero(window.seen.id >= VOCABULARY.size)[:-1]:
        assert (window.seen.pixels[tick] == shown[tick + 1] % 200).all()


def test_a_window_is_a_task_whose_score_is_the_likelihood_of_what_counts():
    window = jax.tree.map(jnp.asarray, each(0.0)[0])
    world, _ = window.reset(KEY)
    certain = lambda tick: jnp.full(VOCABULARY.size, -1e9).at[jnp.minimum(window.following[tick], VOCABULARY.size - 1)].set(0.0)
    for tick in range(4):
        assert float(window.step(world, certain(tick), KEY).score) == 0.0
        unsure = float(window.step(world, jnp.zeros(VOCABULARY.size), KEY).score)
        assert unsure == pytest.approx(-np.log(VOCABULARY.size) if window.counts[tick] else 0.0, rel=1e-5)
        world = window.step(world, certain(tick), KEY).world


@pytest.mark.parametrize(
    ("recorded", "weights", "said"),
    [
        ({"train": TASKS, "valid": {"short": TASKS["short"]}}, None, "every split must have the same tasks: long is not in both"),
        ({"train": {"one": episodes(0, [4])}}, None, "one needs at least two episodes for train, not 1"),
        ({"train": TASKS}, {"short": 1.0}, "weights must have a positive number for long, not None"),
    ],
)
def test_what_cannot_be_drawn_from_is_one_sentence(recorded, weights, said):
    with pytest.raises(ValueError, match=said):
        demonstrations(recorded, VOCABULARY, length=LENGTH, weights=weights)


def test_a_split_that_was_not_recorded_is_one_sentence():
    with pytest.raises(ValueError, match="split must be one of train, valid here, not 'test'"):
        tasks().sample(KEY, "test")


def test_demonstrations_are_told_by_a_digest_of_all_that_is_drawn_from():
    assert repr(tasks(0.25)) == repr(demonstrations({"train": TASKS, "valid": TASKS}, VOCABULARY, length=LENGTH))
    assert re.fullmatch(r"Demonstrations\(2 tasks, windows of 24 tokens, digest [0-9a-f]{8}\)", repr(tasks(0.25)))
    other = {"short": TASKS["short"], "long": episodes(100, [20, 11, 29])}
    told = {repr(tasks(prompted)) for prompted in (0.0, 0.25)}
    told |= {repr(demonstrations({"train": TASKS, "valid": other}, VOCABULARY, length=LENGTH))}
    assert len(told) == 3
