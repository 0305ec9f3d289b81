"""A recurrent learner knows what it has been told, and nothing before it is told."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.incontext.incontext_gru import Config, learner, program
from quickstudy.core import lifetime
from quickstudy.tasks import Sinusoid, Stream

KEY = jr.key(0)
TASKS = Stream(Sinusoid(shot=3, query=3))


def predictions(who, task, steps=6):
    return np.asarray(lifetime(who, task, KEY, steps=steps, record=lambda tick: tick.response)[1])


def test_a_target_is_known_only_after_its_tick():
    who, task = learner(Config(width=8), TASKS, KEY), TASKS.sample(KEY, "train")
    changed = eqx.tree_at(lambda t: t.y, task, task.y.at[2].add(3.0))
    before, after = predictions(who, task), predictions(who, changed)
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (np.abs(before[3:] - after[3:]) > 1e-5).all()


def test_the_first_prediction_depends_on_its_input_only():
    who, (a, b) = learner(Config(width=8), TASKS, KEY), (TASKS.sample(jr.key(seed), "train") for seed in (0, 1))
    same_input = eqx.tree_at(lambda t: t.x, b, b.x.at[0].set(a.x[0]))
    np.testing.assert_array_equal(predictions(who, a, 1), predictions(who, same_input, 1))
    assert not np.array_equal(predictions(who, a, 1), predictions(who, b, 1))


def test_lives_begin_anew_when_they_have_lasted_their_ticks():
    method = program(Config(width=4, tasks_per_step=2, ticks=3), TASKS)
    first = method.init(KEY)
    second, _ = eqx.filter_jit(method.update)(first, jr.key(1))
    third, _ = eqx.filter_jit(method.update)(second, jr.key(2))
    assert second.lives.tick.tolist() == third.lives.tick.tolist() == [3, 3]
    assert not np.array_equal(second.tasks.x, third.tasks.x)
    assert float(jnp.abs(second.slow[0].cell.weight_hh - first.slow[0].cell.weight_hh).sum()) > 0


def test_episodes_are_refused():
    with pytest.raises(TypeError, match=r"wrap episodes in tasks\.Stream"):
        learner(Config(), Sinusoid(), KEY)
