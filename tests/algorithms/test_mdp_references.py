"""References of decision processes: exact planning, exact beliefs, and the order in which they earn."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.references import PSRL, BayesGreedy, Optimum, default_references
from quickstudy.algorithms.references.mdps import value_iteration
from quickstudy.core import lifetime
from quickstudy.evaluation import AbstractOracle
from quickstudy.tasks import RandomMDPs

KEY = jr.key(0)
SMALL = RandomMDPs(n_states=3, n_actions=2, horizon=4)
TASK = SMALL.sample(KEY, "train")


@eqx.filter_jit
def scores(who, tasks, n, ticks):
    """What n lives score: shape (n, ticks)."""

    def life(key):
        task = tasks.sample(jr.fold_in(key, 0), "test")
        return lifetime(who.informed(task) if isinstance(who, AbstractOracle) else who, task, key, steps=ticks)[1]

    return jax.vmap(life)(jr.split(KEY, n))


def test_backward_induction_is_the_best_of_all_plans():
    transitions, rewards = np.asarray(TASK.transitions, float), np.asarray(TASK.rewards, float)

    @functools.cache
    def best(time, state):
        if time == 4:
            return 0.0
        after = [best(time + 1, following) for following in range(3)]
        return max(rewards[state, action] + transitions[state, action] @ after for action in range(2))

    policy, values = value_iteration(TASK.transitions, TASK.rewards, 4)
    np.testing.assert_allclose(values, [[best(time, state) for state in range(3)] for time in range(4)], rtol=1e-5)
    # The plan earns what it promises.
    worth = np.zeros(3)
    for time in range(3, -1, -1):
        chosen = np.asarray(policy[time])
        worth = rewards[range(3), chosen] + transitions[range(3), chosen] @ worth
    np.testing.assert_allclose(worth, values[0], rtol=1e-5)


def test_a_long_discounted_plan_solves_bellmans_equation():
    values = np.asarray(value_iteration(TASK.transitions, TASK.rewards, 200, 0.9)[1][0])
    np.testing.assert_allclose(values, (TASK.rewards + 0.9 * TASK.transitions @ values).max(axis=-1), rtol=1e-5)


def test_lives_of_the_optimum_earn_its_exact_value():
    def life(key):
        task = SMALL.sample(key, "test")
        earned = lifetime(Optimum().informed(task), task, key, steps=8)[1].sum()
        return earned - 2 * value_iteration(task.transitions, task.rewards, 4)[1][0, 0]

    surplus = np.asarray(jax.jit(jax.vmap(life))(jr.split(KEY, 4_000)))
    assert abs(surplus.mean()) < 4 * surplus.std() / np.sqrt(4_000)


# Tick by tick: (state, action) 2 times (1, 1), followed by states 0 and 2, rewards 3 and 5; nothing else yet.
PATH = jnp.array([(1 * 2 + 1) * 3 + 0, (1 * 2 + 1) * 3 + 2, 18, 18])
REWARDS = jnp.array([3.0, 5.0, 0.0, 0.0])


def test_the_expected_process_is_the_mean_of_the_belief():
    transitions, means = BayesGreedy(4, 3, 2, 4).imagine(PATH, REWARDS, KEY)
    expected = np.full((3, 2, 3), 1 / 3)
    expected[1, 1] = [2 / 5, 1 / 5, 2 / 5]
    np.testing.assert_allclose(transitions, expected, rtol=1e-6)
    np.testing.assert_allclose(means, [[1, 1], [1, (1 + 3 + 5) / 3], [1, 1]], rtol=1e-6)


def test_posterior_draws_have_the_moments_of_dirichlet_and_normal_beliefs():
    learner, n = PSRL(4, 3, 2, 4), 20_000
    transitions, means = jax.jit(jax.vmap(lambda key: learner.imagine(PATH, REWARDS, key)))(jr.split(KEY, n))
    for pair, alpha, mean, variance in (((1, 1), np.array([2, 1, 2]), 3.0, 1 / 3), ((0, 1), np.array([1, 1, 1]), 1.0, 1.0)):
        shares, total = np.asarray(transitions[:, *pair]), alpha.sum()
        np.testing.assert_allclose(shares.mean(axis=0), alpha / total, atol=4 * 0.25 / np.sqrt(n))
        covariance = (np.diag(alpha / total) - np.outer(alpha, alpha) / total**2) / (total + 1)
        np.testing.assert_allclose(np.cov(shares.T), covariance, atol=0.002)
        draws = np.asarray(means[:, *pair])
        assert draws.mean() == pytest.approx(mean, abs=4 / np.sqrt(n))
        assert draws.var() == pytest.approx(variance, rel=0.05)


def test_references_earn_in_their_order_and_what_the_source_reports():
    """Duan et al. 2016, table 2, 10 episodes: PSRL 138.1 and random 100.1, which is 100 exactly: 100 ticks of mean reward 1."""
    totals, n = {}, 400
    for name, who in default_references(RandomMDPs(), 100).items():
        totals[name] = float(scores(who, RandomMDPs(), n, 100).sum(axis=1).mean())
    # The deviation of a life's total is about 26: that of the mean is 1.2; 5 % is left for how the source draws its processes.
    assert totals["random"] == pytest.approx(100, abs=4 * 26 / np.sqrt(n))
    assert totals["PSRL"] == pytest.approx(138.1, rel=0.05)
    assert totals["optimum"] > totals["Bayes-greedy"] > totals["PSRL"] > totals["random"]


def test_a_batch_of_lives_plans_only_when_an_episode_begins():
    """Under vmap a condition that differed from life to life would become a choice between two plans, both made at every tick."""
    jaxpr = str(jax.make_jaxpr(lambda: scores(PSRL(8, 3, 2, 4), SMALL, 3, 8))())
    assert " cond[" in jaxpr


def test_what_goes_beyond_the_memory_is_forgotten_and_the_life_goes_on():
    life = jax.jit(lambda: lifetime(PSRL(6, 3, 2, 4), TASK, KEY, steps=12))()[0].fast
    first = jax.jit(lambda: lifetime(PSRL(6, 3, 2, 4), TASK, KEY, steps=6))()[0].fast
    assert int(life.tick) == 12
    np.testing.assert_array_equal(life.path, first.path)
    np.testing.assert_allclose(life.rewards, first.rewards, rtol=1e-6)


def test_a_life_among_others_is_the_life_alone():
    go = lambda key: lifetime(PSRL(8, 3, 2, 4), TASK, key, steps=8)[1]
    keys = jr.split(KEY, 2)
    np.testing.assert_allclose(jax.jit(jax.vmap(go))(keys)[0], jax.jit(go)(keys[0]), rtol=1e-5)
