"""Bursty sequences: their statistics are those asked for, and each probe holds what it promises."""

import dataclasses

import equinox as eqx
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks.bursty_sequences import BurstySequences

KEY = jr.key(0)
# An image says which it is: its first pixel its class, its second the drawing.
PICTURES = np.zeros((40, 10, 2, 2), np.uint8)
PICTURES[:, :, 0, 0], PICTURES[:, :, 0, 1] = np.arange(40)[:, None], np.arange(10)
TASKS = BurstySequences(PICTURES, classes=24, context=8, repeats=3)


def drawn(tasks, split="train", n=2_000):
    """Classes, labels and drawings (n, ticks), and which sequences are bursty."""
    found = eqx.filter_jit(sample_tasks)(tasks, KEY, split, n)
    pixels = np.round(255 * np.asarray(found.x)).astype(int)
    classes = np.asarray(found.latent["classes"])
    np.testing.assert_array_equal(pixels[..., 0, 0], classes)  # what is shown is what is said
    return classes, np.asarray(found.y), pixels[..., 0, 1], np.asarray(found.latent["bursty"])


def counts_in_context(classes):
    return [sorted(np.unique(row, return_counts=True)[1].tolist(), reverse=True) for row in classes[:, :-1]]


def test_the_share_of_bursty_sequences_is_that_asked_for_and_they_hold_two_bursts():
    classes, labels, _, bursty = drawn(dataclasses.replace(TASKS, bursty=0.7))
    assert abs(bursty.mean() - 0.7) < 0.045  # four deviations
    assert all(counts == [3, 3, 1, 1] for counts in counts_in_context(classes[bursty]))
    assert ((classes[:, :-1] == classes[:, -1:]).sum(axis=1)[bursty] == 3).all()
    np.testing.assert_array_equal(labels, classes)


def test_without_bursts_classes_are_drawn_independently():
    classes, _, _, bursty = drawn(dataclasses.replace(TASKS, bursty=0.0))
    assert not bursty.any()
    among = (classes[:, :-1] == classes[:, -1:]).mean()
    assert abs(among - 1 / 24) < 0.007  # four deviations of a share of 16,000


@pytest.mark.parametrize("bursty", [0.0, 1.0])
def test_queries_follow_a_zipf_law_bursty_or_not(bursty):
    classes, *_ = drawn(dataclasses.replace(TASKS, zipf=1.5, bursty=bursty), n=8_000)
    frequency = np.arange(1, 25) ** -1.5
    frequency /= frequency.sum()
    found = np.bincount(classes[:, -1], minlength=24) / 8_000
    np.testing.assert_allclose(found, frequency, atol=4 * (0.25 / 8_000) ** 0.5)


@pytest.mark.parametrize("place", [0, 4, 7])
def test_a_burst_may_be_anywhere_in_the_context(place):
    classes, *_ = drawn(dataclasses.replace(TASKS, bursty=1.0))
    assert abs((classes[:, place] == classes[:, -1]).mean() - 3 / 8) < 0.045


def test_a_class_has_as_many_labels_as_asked_for_and_one_of_them_in_a_sequence():
    tasks = dataclasses.replace(TASKS, multiplicity=3)
    classes, labels, *_ = drawn(tasks)
    assert tasks.labels == 72
    np.testing.assert_array_equal(labels // 3, classes)
    for row, said in zip(classes, labels, strict=True):
        assert len(np.unique(row)) == len(np.unique(said))
    assert set(labels.ravel().tolist()) == set(range(72))


def test_drawings_vary_as_asked_for_and_are_not_shown_twice_where_there_are_enough():
    assert set(drawn(dataclasses.replace(TASKS, variation=1))[2].ravel().tolist()) == {0}
    short = dataclasses.replace(TASKS, context=6)
    _, _, drawings, _ = drawn(short)
    assert set(drawings.ravel().tolist()) == set(range(8))
    assert all(len(set(row)) == 7 for row in drawings.tolist())


@pytest.mark.parametrize(("split", "owned"), [("train", range(24)), ("valid", range(24, 32)), ("test", range(32, 40))])
def test_the_in_context_probe_is_of_two_classes_of_the_split_whose_labels_say_nothing_about_them(split, owned):
    classes, labels, _, _ = drawn(dataclasses.replace(TASKS, probe="in-context"), split)
    assert set(classes.ravel().tolist()) == set(owned)
    assert all(counts == [4, 4] for counts in counts_in_context(classes))
    # The same class, the same label, within a sequence, and another for the other.
    np.testing.assert_array_equal(classes[:, :-1] == classes[:, -1:], labels[:, :-1] == labels[:, -1:])
    assert all(len(set(row)) == 2 for row in labels.tolist())
    spread = {len(set(labels[classes == one].tolist())) for one in owned}
    assert min(spread) > 20, "labels are lent to all classes alike"
    assert abs((classes[:, 0] == classes[:, -1]).mean() - 0.5) < 0.045


@pytest.mark.parametrize(("split", "shown"), [("train", range(8)), ("valid", {8}), ("test", {9})])
def test_the_in_weights_probe_asks_for_a_training_class_that_is_not_in_the_context(split, shown):
    classes, labels, drawings, _ = drawn(dataclasses.replace(TASKS, probe="in-weights"), split)
    assert set(classes.ravel().tolist()) == set(range(24))
    assert all(len(set(row)) == 9 for row in classes.tolist())
    np.testing.assert_array_equal(labels, classes)
    assert set(drawings.ravel().tolist()) == set(shown)


def test_sequences_of_held_out_classes_borrow_labels_that_differ_where_the_classes_do():
    classes, labels, _, _ = drawn(TASKS, "test")
    same = lambda rows: rows[:, :, None] == rows[:, None]
    np.testing.assert_array_equal(same(classes), same(labels))
    assert set(classes.ravel().tolist()) == set(range(32, 40))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"classes": 8}, "classes must be more than the context's 8, and leave 8 of the 40 for valid and test, not 8"),
        ({"classes": 33}, "and leave 8 of the 40 for valid and test, not 33"),
        ({"variation": 9}, "variation must be between 1 and 8 of the 10 drawings, not 9"),
        ({"repeats": 5}, "context must be at least 10, not 8"),
        ({"multiplicity": 0}, "multiplicity must be at least 1, not 0"),
        ({"images": PICTURES.astype(np.float32)}, "images must be bytes"),
    ],
)
def test_bad_settings_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TASKS, **given)
