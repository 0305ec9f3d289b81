"""References of bandits against published indices, closed forms, and dynamic programmes written another way."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.references import (
    UCB1,
    BayesOptimal,
    CorrelatedGreedy,
    Gittins,
    Greedy,
    Thompson,
    default_references,
    gittins,
)
from quickstudy.algorithms.references.beliefs import solve_bandit
from quickstudy.algorithms.references.counting import Counts, posterior_mean
from quickstudy.algorithms.references.gaussian import normal_posterior
from quickstudy.check import check_learner
from quickstudy.core import lifetime
from quickstudy.gittins_indices import discounted_indices, finite_horizon_indices
from quickstudy.tasks import BernoulliBandit, CorrelatedBandit, GaussianBandit, RestlessBandit, Sinusoid
from quickstudy.tasks.bandits import BernoulliArms

KEY = jr.key(0)


@eqx.filter_jit
def scores(learner, tasks, n, ticks):
    """What n lives score: shape (n, ticks)."""
    life = lambda key: lifetime(learner, tasks.sample(jr.fold_in(key, 0), "test"), key, steps=ticks)[1]
    return jax.vmap(life)(jr.split(KEY, n))


def counts(pulls, payoffs):
    return Counts(jnp.array(pulls, float), jnp.array(payoffs, float))


def first_arms(learner, counts, n=4_000):
    """How often each arm is pulled in n draws from one fast state."""
    _, view = BernoulliArms(jnp.zeros(learner.arms)).reset(KEY)
    arms = jax.jit(jax.vmap(lambda key: learner.respond(counts, view, key)))(jr.split(KEY, n))
    return np.bincount(np.asarray(arms), minlength=learner.arms) / n


# --- Gittins ------------------------------------------------------------------------------------------------------------------------


# Published tables of the index of a new arm: Gittins, Glazebrook and Weber 2011, chapter 8.
@pytest.mark.parametrize(("discount", "index"), [(0.5, 0.5590), (0.9, 0.7029), (0.99, 0.8699)])
def test_a_new_arms_index_is_the_published_one(discount, index):
    assert abs(discounted_indices(1, discount)[0, 0] - index) < 1e-4


def best_of_either(known, discount, depth):
    """What one may earn from an unknown arm and a known one in any order, at [successes, failures]: plain value iteration."""
    s, f = np.meshgrid(np.arange(depth + 1), np.arange(depth + 1), indexing="ij")
    p = (s + 1) / (s + f + 2)
    value = np.maximum(p, known) / (1 - discount)
    for _ in range(depth):
        grown = np.pad(value, ((0, 1), (0, 1)), mode="edge")
        unknown = p * (1 + discount * grown[1:, :-1]) + (1 - p) * discount * grown[:-1, 1:]
        value = np.maximum(unknown, known + discount * value)
    return unknown, known + discount * value


@pytest.mark.parametrize(("s", "f"), [(0, 0), (3, 1), (1, 4)])
def test_at_the_discounted_index_the_known_arm_and_the_unknown_one_are_worth_the_same(s, f):
    index = discounted_indices(10, 0.9)[s, f]
    advantages = []
    for known in (index - 0.005, index, index + 0.005):
        unknown, stay = best_of_either(known, 0.9, depth=150)
        advantages.append(unknown[s, f] - stay[s, f])
    assert advantages[0] > 1e-3 > abs(advantages[1])
    assert advantages[2] < -1e-3


def best_of_either_in_time(known, s, f, left):
    """The same with `left` pulls in all, for the worth of pulling the unknown arm now and of pulling the known one."""

    @functools.cache
    def options(s, f, left):
        if left == 0:
            return 0.0, 0.0
        p = (s + 1) / (s + f + 2)
        unknown = p * (1 + max(options(s + 1, f, left - 1))) + (1 - p) * max(options(s, f + 1, left - 1))
        return unknown, known + max(options(s, f, left - 1))

    return options(s, f, left)


@pytest.mark.parametrize(("s", "f", "left"), [(0, 0, 1), (0, 0, 2), (0, 0, 12), (2, 3, 7), (5, 1, 6)])
def test_at_the_finite_horizon_index_the_known_arm_and_the_unknown_one_are_worth_the_same(s, f, left):
    index = finite_horizon_indices(12)[left - 1, s, f]
    unknown, known = best_of_either_in_time(index, s, f, left)
    assert abs(unknown - known) < 1e-3
    unknown, known = best_of_either_in_time(index + 0.01, s, f, left)
    assert unknown < known - 5e-3


def test_indices_rise_with_successes_fall_with_failures_and_exceed_the_mean():
    n = 30
    s, f = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    mean, known = (s + 1) / (s + f + 2), s + f < n
    by_discount = [discounted_indices(n, discount) for discount in (0.0, 0.5, 0.9, 0.99)]
    np.testing.assert_allclose(by_discount[0][known], mean[known], atol=1e-12)
    for low, high in itertools.pairwise(by_discount):
        assert (high - low)[known].min() > 0
    for index in by_discount:
        assert np.diff(index, axis=0)[known[1:]].min() > 0
        assert np.diff(index, axis=1)[known[:, 1:]].max() < 0
    by_time = finite_horizon_indices(n)
    np.testing.assert_allclose(by_time[0][s + f < n], mean[s + f < n], atol=1e-12)
    assert all((by_time[m] - by_time[m - 1])[s + f + m < n].min() > 0 for m in range(1, n))


@pytest.mark.parametrize("discount", [1.0, -0.1])
def test_a_discount_that_is_none_is_refused(discount):
    with pytest.raises(ValueError, match="discount must be at least 0 and below 1"):
        discounted_indices(5, discount)


def test_with_one_pull_left_gittins_is_greedy_and_what_the_table_does_not_know_counts_as_known():
    learner = Gittins.finite_horizon(2, 6)
    last = counts([2, 3], [1, 2])
    np.testing.assert_allclose(learner.index(last, KEY), posterior_mean(last), atol=1e-6)
    fresh = counts([2, 1], [1, 1])
    assert (learner.index(fresh, KEY) > posterior_mean(fresh)).all()
    old = counts([9, 1], [9, 1])
    index = Gittins.discounted(2, 6, 0.9).index(old, KEY)
    assert float(index[0]) == float(posterior_mean(old)[0])
    assert float(index[1]) > float(posterior_mean(old)[1])


# --- Dynamic programming over beliefs -----------------------------------------------------------------------------------------------


def exact_worth(learner, pulls):
    """What a strategy without randomness (but for ties) earns in two Bernoulli arms: its own dynamic programme."""
    states = [state for state in itertools.product(range(pulls), repeat=4) if sum(state) < pulls]
    array = np.array(states, np.float32).reshape(-1, 2, 2)
    stacked = Counts(jnp.asarray(array.sum(axis=2)), jnp.asarray(array[:, :, 0]))
    indices = np.asarray(eqx.filter_jit(eqx.filter_vmap(lambda c: learner.index(c, KEY)))(stacked))
    chosen = dict(zip(states, indices == indices.max(axis=1, keepdims=True), strict=True))

    @functools.cache
    def worth(state):
        if sum(state) == pulls:
            return 0.0
        gains = []
        for arm in np.flatnonzero(chosen[state]).tolist():
            success, failure = [*state], [*state]
            success[2 * arm] += 1
            failure[2 * arm + 1] += 1
            p = (state[2 * arm] + 1) / (state[2 * arm] + state[2 * arm + 1] + 2)
            gains.append(p * (1 + worth(tuple(success))) + (1 - p) * worth(tuple(failure)))
        return sum(gains) / len(gains)

    return worth((0, 0, 0, 0))


def test_no_strategy_beats_the_bayes_optimal_one_and_finite_horizon_gittins_nearly_reaches_it():
    optimal = BayesOptimal.solve(arms=2, pulls=9)
    assert exact_worth(optimal, 9) == pytest.approx(optimal.value, abs=1e-9)
    worths = {type(other).__name__: exact_worth(other, 9) for other in (Gittins.finite_horizon(2, 9), UCB1(2), Greedy(2))}
    assert all(worth < optimal.value + 1e-9 for worth in worths.values()), (optimal.value, worths)
    assert worths["Gittins"] > 0.999 * optimal.value
    assert worths["Greedy"] < worths["Gittins"]


def test_the_bayes_optimal_value_by_hand():
    assert solve_bandit(2, 1)[1] == pytest.approx(1 / 2)
    # After a success stay with 2/3, after a failure leave for 1/2.
    assert solve_bandit(2, 2)[1] == pytest.approx(1 / 2 + (2 / 3 + 1 / 2) / 2)
    # Nobody earns more than the best of three arms, which is 3/4 on average.
    assert 0.5 * 8 < solve_bandit(3, 8)[1] < 0.75 * 8


@pytest.mark.parametrize(("arms", "pulls"), [(2, 30), (3, 12)])
def test_simulated_lives_earn_the_exact_value(arms, pulls):
    player = BayesOptimal.solve(arms, pulls)
    earned = np.asarray(scores(player, BernoulliBandit(arms=arms), 4_000, pulls)).sum(axis=1)
    assert abs(earned.mean() - player.value) < 4 * earned.std() / np.sqrt(4_000)


def test_a_bandit_that_is_too_large_is_refused():
    with pytest.raises(ValueError, match="5 arms and 10 pulls are too many"):
        solve_bandit(5, 10)


def test_greed_is_optimal_when_each_pull_tells_all():
    # After t pulls the successes for p are uniform on 0..t, and the better arm pays with max(s + 1, t - s + 1) / (t + 2).
    exact = [np.mean([max(s + 1, t - s + 1) / (t + 2) for s in range(t + 1)]) for t in range(20)]
    curve = np.asarray(scores(CorrelatedGreedy(), CorrelatedBandit(), 10_000, 20)).mean(axis=0)
    assert np.abs(curve - exact).max() < 4 * 0.5 / np.sqrt(10_000)


# --- The others ---------------------------------------------------------------------------------------------------------------------


def test_ties_are_broken_at_random():
    assert np.abs(first_arms(Greedy(4), counts([0, 0, 1, 0], [0, 0, 0, 0])) - [1 / 3, 1 / 3, 0, 1 / 3]).max() < 0.04


def test_thompson_pulls_an_arm_as_often_as_it_may_be_the_best():
    # X ~ Beta(2, 1) exceeds Y ~ Beta(1, 2) with the chance of the integral of 2x (2x - x^2), which is 5/6.
    assert abs(first_arms(Thompson(2), counts([1, 1], [1, 0]))[0] - 5 / 6) < 0.03


def test_ucb_without_a_bonus_is_greedy_and_with_one_prefers_what_it_does_not_know():
    known = counts([20, 2], [10, 1])
    np.testing.assert_array_equal(UCB1(2, 0.0).index(known, KEY), Greedy(2).index(known, KEY))
    # By hand: tick 23, prior counted as two pulls.
    np.testing.assert_allclose(UCB1(2, 0.5).index(known, KEY), 0.5 + 0.5 * np.sqrt(2 * np.log(23) / np.array([22, 4])), rtol=1e-6)


def test_the_normal_posterior_is_bayes_rule():
    payoffs, deviation = np.array([0.3, 1.9, 1.1]), 0.7
    grid = np.linspace(-6, 6, 4_001)
    weights = np.exp(-(grid**2) / 2 - ((payoffs[:, None] - grid) ** 2).sum(axis=0) / 2 / deviation**2)
    mean = (weights * grid).sum() / weights.sum()
    spread = np.sqrt((weights * (grid - mean) ** 2).sum() / weights.sum())
    found = normal_posterior(counts([3], [payoffs.sum()]), deviation)
    np.testing.assert_allclose(np.concatenate(found), [mean, spread], rtol=1e-4)


def test_the_published_cells_of_bandits_come_out():
    """Duan et al. 2016, table 1: 5 arms, 100 pulls. The error of our 1,000 lives is 0.5, and of theirs not less."""
    tasks = BernoulliBandit(arms=5)
    totals = {name: float(scores(who, tasks, 1_000, 100).sum(axis=1).mean()) for name, who in default_references(tasks, 100).items()}
    published = {"Gittins": 78.3, "UCB1": 78.0, "Thompson": 74.7, "epsilon-greedy": 75.4, "random": 49.9}
    assert {name: pytest.approx(total, abs=1.5) for name, total in totals.items()} == published
    assert totals["Gittins"] > totals["UCB1"] > max(totals["epsilon-greedy"], totals["Thompson"]) > totals["random"]


def test_gaussian_references_find_the_largest_of_the_means_and_a_random_player_does_not():
    tasks = GaussianBandit(arms=5, deviation=0.5)
    late = {name: float(scores(who, tasks, 1_000, 50)[:, -5:].mean()) for name, who in default_references(tasks, 50).items()}
    # The largest of five normal numbers is 1.163 on average (order statistics); 0.1 is left for what exploring costs and for noise.
    assert min(late["UCB"], late["Thompson"]) > 1.163 - 0.1
    # The deviation of a bandit's mean is sqrt(1 / 5), that of the arms pulled and of the noise at most sqrt(1.25 / 5).
    assert abs(late["random"]) < 4 * np.sqrt(0.45 / 1_000)


def test_a_counting_strategy_conforms():
    check_learner(Gittins.finite_horizon(3, 4), BernoulliBandit(arms=3), KEY, steps=2)


def test_what_is_drawn_beside_a_learner_by_default():
    independent = ["Gittins", "UCB1", "Thompson", "epsilon-greedy", "random"]
    assert list(default_references(BernoulliBandit(), 10)) == independent
    assert list(default_references(CorrelatedBandit(), 10)) == ["Bayes-optimal", *independent]
    assert list(default_references(RestlessBandit(), 10)) == ["UCB1", "Thompson", "random"]
    assert default_references(Sinusoid(), 10) == {}
    assert default_references(GaussianBandit(arms=4, deviation=0.5), 10)["UCB"].deviation == 0.5


def test_long_lives_get_discounted_indices_and_short_ones_exact_ones():
    assert gittins(2, 20).table.shape == (20, 20, 20)
    assert gittins(2, 120).table.shape == (1, 120, 120)
