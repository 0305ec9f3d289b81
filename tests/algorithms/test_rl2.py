"""RL^2: what its agents must be whatever they have learned, and that they learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.metarl import rl2
from quickstudy.core import lifetime
from quickstudy.tasks import BernoulliBandit, PointGoals

KEY, ARMS, TICKS = jr.key(0), 4, 9
TASKS = BernoulliBandit(arms=ARMS)


def lived(learner):
    """The views of a life, and what the agent judged at each."""
    record = lambda tick: (tick.view, learner.judge(tick.fast, tick.view)[1:])
    _, records = lifetime(learner, TASKS.sample(KEY, "train"), KEY, steps=TICKS, record=record)
    return records


@pytest.mark.parametrize("tied", [False, True])
def test_what_is_judged_in_one_pass_is_what_was_judged_in_life(tied):
    learner = rl2.learner(rl2.Config(width=8, tied=tied), TASKS, KEY)
    views, (policies, values) = eqx.filter_jit(lived)(learner)
    start = learner.begin(jax.tree.map(lambda leaf: leaf[0], views), KEY)
    again, values_again = eqx.filter_jit(learner.unroll)(start, views)
    np.testing.assert_allclose(again.logits, policies.logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values_again, values, rtol=1e-4, atol=1e-5)


def test_permuting_the_arms_of_a_tied_agent_permutes_its_policy():
    learner = rl2.learner(rl2.Config(width=8, tied=True), TASKS, KEY)
    views, (policies, values) = eqx.filter_jit(lived)(learner)
    order = jnp.array([2, 0, 3, 1])  # arm i is now called order[i]
    renamed = views._replace(action=jnp.where(views.action < 0, -1, order[views.action]))
    start = learner.begin(jax.tree.map(lambda leaf: leaf[0], views), KEY)
    permuted, same = eqx.filter_jit(learner.unroll)(start, renamed)
    np.testing.assert_allclose(permuted.logits[:, order], policies.logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(same, values, rtol=1e-4, atol=1e-5)


def test_an_untied_agent_is_not_symmetric():
    learner = rl2.learner(rl2.Config(width=8), TASKS, KEY)
    views, (policies, _) = eqx.filter_jit(lived)(learner)
    swapped = views._replace(action=jnp.where(views.action < 0, -1, ARMS - 1 - views.action))
    start = learner.begin(jax.tree.map(lambda leaf: leaf[0], views), KEY)
    mirrored = eqx.filter_jit(learner.unroll)(start, swapped)[0].logits[:, ::-1]
    assert float(jnp.max(jnp.abs(mirrored - policies.logits))) > 1e-3


def test_tied_units_need_discrete_actions():
    with pytest.raises(TypeError, match=r"tied units need discrete actions, not Continuous\(size=2\)"):
        rl2.learner(rl2.Config(tied=True), PointGoals(), KEY)
