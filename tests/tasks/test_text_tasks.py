"""Texts are demonstrations of one way to rewrite words."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks.text_tasks import ORDERS, TextTasks

KEY = jax.random.key(0)
WORDS = jnp.array([[2, 0, 1], [3, 5, 3]])


@pytest.mark.parametrize(
    ("order", "shift", "rewritten"),
    [
        (0, 0, [[2, 0, 1], [3, 5, 3]]),
        (1, 0, [[1, 0, 2], [3, 5, 3]]),
        (2, 0, [[0, 1, 2], [3, 3, 5]]),
        (3, 0, [[2, 1, 0], [5, 3, 3]]),
        (2, 2, [[2, 3, 4], [5, 5, 1]]),
    ],
)
def test_words_are_ordered_and_then_shifted_round_the_alphabet(order, shift, rewritten):
    tasks = TextTasks(length=3)
    assert tasks.rewrite(WORDS, jnp.int32(order), jnp.int32(shift)).tolist() == rewritten


def test_a_text_is_its_demonstrations_and_says_where_the_answers_are():
    tasks = TextTasks(letters=5, length=3, examples=2)
    task = tasks.sample(KEY, "valid")
    text = jnp.append(task.x, task.y[-1:])
    assert text.shape == (16,)
    first, second = tasks.text(text)[:8], tasks.text(text)[8:]
    words, answers = (jnp.array([[ord(letter) - ord("a") for letter in part[cut]] for part in (first, second)]) for cut in CUTS)
    assert {first[3], second[3]} == {">"}
    assert {first[7], second[7]} == {";"}
    np.testing.assert_array_equal(tasks.rewrite(words, task.latent["order"], task.latent["shift"]), answers)
    np.testing.assert_array_equal(task.y[tasks.answers()], answers)


CUTS = (slice(0, 3), slice(4, 7))


def test_every_order_and_every_shift_is_trained_but_not_together():
    pairs = {}
    for split in ("train", "valid", "test"):
        drawn = eqx.filter_jit(sample_tasks)(TextTasks(examples=1), KEY, split, 500).latent
        pairs[split] = set(zip(drawn["order"].tolist(), drawn["shift"].tolist(), strict=True))
    assert {split: len(found) for split, found in pairs.items()} == {"train": 16, "valid": 4, "test": 4}
    assert len(set.union(*pairs.values())) == 24
    assert {order for order, _ in pairs["train"]} == set(range(len(ORDERS)))
    assert {shift for _, shift in pairs["train"]} == set(range(6))


def test_bad_settings_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="letters must be at least 4, not 3"):
        TextTasks(letters=3)
    with pytest.raises(ValueError, match="here, not 'out-of-range'"):
        TextTasks().sample(KEY, "out-of-range")
