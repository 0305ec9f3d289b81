"""Readers of image-label sequences: a life read at once is the life lived, later ticks change nothing, labels are only names."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.incontext.icl_burstiness import Config, accuracy, learner, loss, nearest
from quickstudy.core import count_floats, lifetime
from quickstudy.tasks import LinearRegression
from quickstudy.tasks.bursty_sequences import BurstySequences

KEY = jr.key(0)
# Classes as far apart as images can be, and drawings of one class next to each other.
PICTURES = np.random.default_rng(0).integers(0, 200, (18, 1, 3, 3)) + np.random.default_rng(1).integers(0, 20, (18, 10, 3, 3))
TASKS = BurstySequences(PICTURES.astype(np.uint8), classes=10, context=4, repeats=1)


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def who(request):
    return learner(Config(body=request.param, width=8, hidden=8), TASKS, KEY)


@eqx.filter_jit
def lived(who, task):
    return lifetime(who, task, KEY, steps=5, record=lambda tick: tick.response)[1]


def test_a_life_read_at_once_is_the_life_lived(who):
    task = TASKS.sample(KEY, "train")
    alone = [eqx.filter_jit(who.answer)(task.x[: n + 1], task.y[: n + 1]) for n in (0, 2, 4)]
    np.testing.assert_allclose(jnp.stack(alone), lived(who, task)[jnp.array([0, 2, 4])], rtol=1e-4, atol=1e-5)


def test_neither_its_own_label_nor_a_later_pair_changes_an_answer(who):
    task = TASKS.sample(KEY, "train")
    other = eqx.tree_at(lambda task: (task.x, task.y), task, (task.x.at[3:].set(0.3), task.y.at[2:].add(1) % 10))
    before, after = lived(who, task), lived(who, other)
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (jnp.max(jnp.abs(before[3:] - after[3:]), axis=1) > 1e-4).all()


def test_labels_are_only_names(who):
    """Other numbers for the labels, and their rows of the table moved along: the same answers under the new numbers."""
    task, order = TASKS.sample(KEY, "train"), jr.permutation(KEY, 10)
    renamed = eqx.tree_at(lambda who: who.table, who, who.table.at[order].set(who.table))
    answer = eqx.filter_jit(lambda who, x, y: who.answer(x, y))
    np.testing.assert_allclose(answer(renamed, task.x, order[task.y])[order], answer(who, task.x, task.y), rtol=1e-5, atol=1e-6)


def test_brightness_and_contrast_of_the_images_change_nothing(who):
    task = TASKS.sample(KEY, "train")
    np.testing.assert_allclose(who.answer(0.5 * task.x + 0.1, task.y), who.answer(task.x, task.y), rtol=1e-3, atol=1e-3)


def test_the_loss_is_the_surprise_at_the_query_alone(who):
    task = TASKS.sample(KEY, "train")
    unsure = eqx.tree_at(lambda who: who.table, who, jnp.zeros_like(who.table))
    value, _ = loss(unsure, task, KEY)
    assert float(value) == pytest.approx(np.log(10), rel=1e-5)
    found = jax.nn.log_softmax(who.answer(task.x, task.y))[task.y[-1]]
    assert float(loss(who, task, KEY)[0]) == pytest.approx(-float(found), rel=1e-5)


def test_the_lstm_has_as_many_weights_as_the_transformer():
    sizes = [count_floats(learner(Config(body=body), TASKS, KEY).body) for body in ("transformer", "lstm")]
    assert 0.9 < sizes[1] / sizes[0] < 1.15


def test_the_nearest_image_reads_labels_off_and_knows_nothing_by_heart():
    probe = lambda kind: accuracy(nearest(10), dataclasses.replace(TASKS, probe=kind), KEY, 200)
    assert [float(value) for value in probe("in-context")] == [1.0, 1.0]
    assert [float(value) for value in probe("in-weights")] == [0.0, 0.0]


def test_who_knows_the_table_by_heart_is_right_in_weights_and_guesses_in_context():
    heart = jnp.asarray(PICTURES.mean(axis=1)[:10] / 255, jnp.float32)
    recite = lambda x, y: -jnp.sum((heart - x[-1:]) ** 2, axis=(1, 2))
    probe = lambda kind: accuracy(recite, dataclasses.replace(TASKS, probe=kind), KEY, 1_000)
    assert float(probe("in-weights")[0]) == 1.0
    assert float(probe("in-context")[1]) == pytest.approx(0.5, abs=0.1)
    assert float(probe("in-context")[0]) < 0.2


def test_other_tasks_are_refused():
    with pytest.raises(TypeError, match="icl-burstiness reads bursty sequences, not LinearRegression"):
        learner(Config(), LinearRegression(), KEY)
