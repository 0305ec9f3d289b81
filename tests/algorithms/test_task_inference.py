"""A belief that learns from descriptions only, heads that learn from rewards only, and the exact posterior beside them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.metarl import rl2, task_inference
from quickstudy.algorithms.rl import ppo, rollouts
from quickstudy.core import lifetime, sample_tasks
from quickstudy.outer import flatten
from quickstudy.tasks import BernoulliBandit, CartPole, GaussianBandit, HalfCircle

KEY = jr.key(0)
CONFIG = task_inference.Config(width=8, lives=4, ticks=6, minibatches=1)
TASKS = BernoulliBandit(arms=3)


def gathered():
    """Two lives' worth of state: what PPO is given, and the tasks lived in."""
    config = rl2.over_lives(CONFIG)
    agent = task_inference.learner(CONFIG, TASKS, KEY)
    settings = rollouts.settings(config)
    state = rollouts.begin(settings, TASKS, agent, None, KEY)
    state, batch, _ = rollouts.gather(settings, TASKS, state, KEY)
    return agent, config, state, batch


def test_what_is_judged_in_one_pass_is_what_was_judged_in_life():
    agent = task_inference.learner(CONFIG, TASKS, KEY)
    record = lambda tick: (tick.view, agent.judge(tick.fast, tick.view)[1:])
    task = TASKS.sample(KEY, "train")
    _, (views, (policies, values)) = eqx.filter_jit(lambda: lifetime(agent, task, KEY, steps=9, record=record))()
    again, values_again = eqx.filter_jit(agent.unroll)(agent.memory.start(), views)
    np.testing.assert_allclose(again.logits, policies.logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values_again, values, rtol=1e-4, atol=1e-5)


def test_rewards_move_the_heads_only_and_descriptions_the_belief_only():
    def gradients():
        agent, config, state, batch = gathered()
        rewarded = lambda a: ppo.surrogate(a, batch, config, state.values)[0]
        taught = lambda a: task_inference.inference_loss(a, batch, state.window.tasks, 1.0)[0]
        return [eqx.filter_grad(of)(agent) for of in (rewarded, taught)]

    largest = lambda part: float(jnp.abs(flatten(part)[0]).max())
    rewarded, taught = ((largest(g.memory), largest((g.actor, g.critic))) for g in eqx.filter_jit(gradients)())
    assert rewarded[0] == 0 < rewarded[1]
    assert taught[0] > 0 == taught[1]


def test_the_surprise_is_least_where_the_truth_is_believed():
    def losses():
        agent, _, state, batch = gathered()
        truth = state.window.tasks.probabilities
        # A readout that ignores the memory and believes one fixed place, with the deviation one.
        believing = lambda mean: eqx.tree_at(
            lambda a: (a.memory.describe.weights[-1], a.memory.describe.biases[-1]),
            agent,
            (jnp.zeros_like(agent.memory.describe.weights[-1]), jnp.concatenate([mean, jnp.zeros(3)])),
        )
        one = jax.tree.map(lambda leaf: leaf[:1], batch)
        own = jax.tree.map(lambda leaf: leaf[:1], state.window.tasks)
        return [task_inference.inference_loss(believing(truth[0] + off), one, own, 2.0) for off in (0.0, 0.5)]

    (right, seen), (wrong, seen_wrong) = eqx.filter_jit(losses)()
    # Three numbers, each with half a logarithm of 2 pi, and the weight 2; being off by a half costs 1 / 8 more for each.
    assert float(right) == pytest.approx(2 * 3 * 0.5 * np.log(2 * np.pi), rel=1e-5)
    assert float(wrong - right) == pytest.approx(2 * 3 / 8, rel=1e-4)
    assert float(seen["belief error"]) == pytest.approx(0.0, abs=1e-10)
    assert float(seen_wrong["belief error"]) == pytest.approx(0.25, rel=1e-5)


@pytest.mark.parametrize("tasks", [GaussianBandit(arms=4), HalfCircle(), HalfCircle(shaped=True)])
def test_descriptions_tell_tasks_apart_and_agents_fit_them(tasks):
    drawn = eqx.filter_jit(sample_tasks)(tasks, KEY, "train", 5)
    told = np.asarray(jax.vmap(task_inference.description)(drawn))
    assert len({row.tobytes() for row in told}) == 5
    agent = task_inference.learner(CONFIG, tasks, KEY)
    assert agent.memory.describe.biases[-1].shape == (2 * told.shape[1],)


def test_tasks_without_a_description_are_refused():
    with pytest.raises(TypeError, match="there is no description of a CartPoleTask: register one"):
        task_inference.learner(CONFIG, CartPole(), KEY)
