"""E-MAML's gradient is exact for a batch of any size on a world that can be listed; E-RL^2 differs from RL^2 by what counts only."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms import tiny_mdp

from quickstudy.algorithms.metarl import emaml, erl2, maml_rl, rl2
from quickstudy.algorithms.metarl.meta_training import Schedule, Trial, practise_in_all
from quickstudy.algorithms.metarl.policy_adaptation import Player
from quickstudy.check import check_task
from quickstudy.core import lifetime, sample_tasks
from quickstudy.tasks import BernoulliBandit, HalfCircle
from quickstudy.tasks.control import Discrete

KEY = jr.key(0)
RATE = 0.8


def tiny_learner(policy, credit="none"):
    player = Player(policy, Discrete(2), ("observation",))
    return maml_rl.MAMLRL(player=player, inner_learning_rate=RATE, ticks=2, discount=1.0, credit=credit)


@eqx.filter_jit
def estimated_gradient(credit, exploration):
    """The expected gradient of the loss for batches of a single episode, before and after the step, times its two ticks."""
    old = tiny_mdp.quarters()

    def trial(before, after):
        inner = jax.tree.map(lambda leaf: leaf[None], tiny_mdp.lesson(old, [before]))
        phi = jax.lax.stop_gradient(tiny_learner(old, credit).improve(old, jax.tree.map(lambda leaf: leaf[0], inner)))
        last = tiny_mdp.lesson(phi, [after])
        weight = tiny_mdp.probability(old, before) * tiny_mdp.probability(phi, after)
        return Trial(inner, last, jnp.mean(last.episodes.rewards)), jax.lax.stop_gradient(weight)

    pairs = [trial(before, after) for before in tiny_mdp.TRAJECTORIES for after in tiny_mdp.TRAJECTORIES]
    trials, weights = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
    total = lambda learner: -2 * weights @ jax.vmap(lambda trial: emaml.loss(learner, trial, 0.3, exploration))(trials)
    return eqx.filter_grad(total)(tiny_learner(old, credit)).player.actor.logits


@eqx.filter_jit
def exact_gradient():
    """The gradient of the expected return after a step from one episode: a sum over all episodes."""

    def worth(policy):
        after = [tiny_learner(policy).improve(policy, tiny_mdp.lesson(policy, [before])) for before in tiny_mdp.TRAJECTORIES]
        chances = [tiny_mdp.probability(policy, before) for before in tiny_mdp.TRAJECTORIES]
        return sum(p * tiny_mdp.value(phi) for p, phi in zip(chances, after, strict=True))

    return jax.grad(worth)(tiny_mdp.quarters()).logits


def test_the_gradient_is_exact_for_a_batch_of_one_episode():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        exact = exact_gradient()
        np.testing.assert_allclose(estimated_gradient("none", 1.0), exact, atol=1e-12)
        # Without the part through the draw it is not, and what MAML-RL does about the draw is right for large batches only.
        assert jnp.max(jnp.abs(estimated_gradient("none", 0.0) - exact)) > 0.01
        assert jnp.max(jnp.abs(estimated_gradient("full", 0.0) - exact)) > 0.01


def test_a_baseline_that_is_the_same_for_all_draws_changes_nothing_in_expectation():
    # The sum of grad log pi is zero in expectation: so a surplus of one, whatever happened, has no gradient.
    old = tiny_mdp.quarters()

    def total(learner):
        trials = [tiny_mdp.lesson(old, [t]) for t in tiny_mdp.TRAJECTORIES]
        losses = [
            emaml.loss(learner, Trial(jax.tree.map(lambda leaf: leaf[None], t), t._replace(gains=0 * t.gains), jnp.ones(())), 0.3, 1.0)
            for t in trials
        ]
        weights = [jax.lax.stop_gradient(tiny_mdp.probability(old, t)) for t in tiny_mdp.TRAJECTORIES]
        return sum(w * loss for w, loss in zip(weights, losses, strict=True))

    gradient = eqx.filter_jit(eqx.filter_grad(total))(tiny_learner(old)).player.actor.logits
    np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_surplus_is_against_the_other_tasks_and_in_the_unit_of_the_gains():
    tasks = HalfCircle(sparse=False, horizon=5)
    learner = maml_rl.learner(maml_rl.Config(width=4, episodes=3), tasks, KEY)
    go = eqx.filter_jit(lambda: practise_in_all(lambda i: learner, sample_tasks(tasks, KEY, "train", 4), KEY, Schedule(4, 3, 1, 1), 5))
    trials = go()
    means = np.asarray(trials.last.episodes.rewards).mean(axis=1)
    unit = np.sqrt((np.asarray(trials.last.spread) ** 2).mean())
    others = np.array([np.delete(means, i).mean() for i in range(4)])
    np.testing.assert_allclose(trials.surplus, (means - others) / unit, atol=1e-5)
    # All tasks' gains in one unit: their overall deviation is one.
    assert float(jnp.sqrt(jnp.mean(trials.last.gains**2))) == pytest.approx(1, abs=1e-4)


# --- E-RL^2 -------------------------------------------------------------------------------------------------------------------------


def test_the_first_ticks_bring_no_score_and_look_the_same():
    tasks = BernoulliBandit(arms=2)
    agent = rl2.learner(rl2.Config(width=4), tasks, KEY)
    task = tasks.sample(KEY, "train")
    record = lambda tick: (tick.score, tick.feedback)
    paid = eqx.filter_jit(lifetime)(agent, task, KEY, steps=8, record=record)[1]
    unpaid = eqx.filter_jit(lifetime)(agent, erl2.Unpaid(task, 3), KEY, steps=8, record=record)[1]
    jax.tree.map(np.testing.assert_array_equal, paid[1], unpaid[1])
    np.testing.assert_array_equal(unpaid[0], np.where(np.arange(8) < 3, 0.0, paid[0]))
    assert np.asarray(paid[0])[:3].any(), "or the test could not fail"
    check_task(erl2.Unpaid(task, 2), agent, KEY)


def test_with_no_exploration_it_is_rl2():
    tasks, small = BernoulliBandit(arms=2), {"width": 4, "lives": 4, "ticks": 6, "minibatches": 2}
    ours = erl2.program(erl2.Config(**small, exploration=0), tasks)
    theirs = rl2.program(rl2.Config(**small), tasks)
    states = [eqx.filter_jit(p.update)(p.init(KEY), jr.key(1))[0] for p in (ours, theirs)]
    learners = [p.learner(state) for p, state in zip((ours, theirs), states, strict=True)]
    jax.tree.map(np.testing.assert_array_equal, *(eqx.filter(learner, eqx.is_array) for learner in learners))


def test_bad_settings_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="exploration must be 0 to 99 ticks of a life of 100, not 100"):
        erl2.Config(exploration=100)
    assert dataclasses.asdict(erl2.common(erl2.Config())) == dataclasses.asdict(rl2.Config())
