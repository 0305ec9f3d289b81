"""Dice, the rule that is best for them, and how two predictors' insides are compared."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from answers import Answer

from quickstudy.algorithms.incontext import delusions, meta_bayes, sequential_strategies
from quickstudy.algorithms.references import Laplace, PosteriorBest
from quickstudy.core import sample_tasks
from quickstudy.tasks import BestArm, LoadedDice, Sinusoid

KEY = jr.key(0)


@pytest.mark.parametrize("throws", [[0, 0, 1, 0], [1, 1], [0, 1, 1, 0, 1, 1, 1]])
def test_laplace_s_rule_gives_sequences_of_a_coin_their_exact_probability(throws):
    """Over a uniform chance: the integral of p^heads (1 - p)^tails."""
    rule, total = Laplace(2), 0.0
    nothing = jnp.zeros(2)
    counts = rule.begin(nothing, KEY)
    for side in throws:
        total += float(jax.nn.log_softmax(rule.respond(counts, nothing, KEY))[side])
        counts = rule.observe(counts, nothing, nothing, jnp.eye(2)[side], KEY)
    heads = throws.count(0)
    exact = math.factorial(heads) * math.factorial(len(throws) - heads) / math.factorial(len(throws) + 1)
    assert total == pytest.approx(math.log(exact), rel=1e-5)


@pytest.mark.parametrize("sides", [2, 5])
def test_chances_are_uniform_over_the_simplex(sides):
    chances = np.asarray(jax.jit(lambda key: sample_tasks(LoadedDice(sides), key, "train", 20_000).chances)(KEY))
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-5)
    # Dirichlet with concentration one; tolerances are four deviations of a mean of 20,000.
    variance = (sides - 1) / (sides**2 * (sides + 1))
    np.testing.assert_allclose(chances.mean(axis=0), 1 / sides, atol=4 * (variance / 20_000) ** 0.5)
    np.testing.assert_allclose(chances.var(axis=0), variance, rtol=0.06)


def test_a_predictor_s_own_state_loses_nothing_and_a_constant_loses_all():
    tasks = LoadedDice(3)
    agent = meta_bayes.learner(meta_bayes.Config(width=8), tasks, KEY)
    states, logs = meta_bayes.lives(agent, tasks, KEY, n=40, throws=6)
    assert states.shape == (40, 6, 8)
    np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1, rtol=1e-5)
    head = np.asarray(agent.head, float)
    assert meta_bayes.share_lost(states, states, logs, head) == pytest.approx(0, abs=1e-6)
    assert meta_bayes.share_lost(np.zeros((40, 6, 1)), states, logs, head) == pytest.approx(1, abs=0.2)


def test_counts_are_read_back_as_laplace_s_rule_reads_them():
    tasks = LoadedDice(3)
    counts, best = meta_bayes.lives(Laplace(3), tasks, KEY, n=40, throws=6)
    assert meta_bayes.divergence(best, best) == 0
    assert meta_bayes.share_lost(meta_bayes.as_features(counts), counts, best, None) == pytest.approx(0, abs=1e-6)


def test_other_tasks_and_dice_of_one_side_are_refused():
    with pytest.raises(TypeError, match="meta-bayes predicts throws of loaded dice and best arms, not a EpisodeTask"):
        meta_bayes.learner(meta_bayes.Config(), Sinusoid(), KEY)
    with pytest.raises(ValueError, match="sides must be at least 2, not 1"):
        LoadedDice(1)
    with pytest.raises(ValueError, match="arms must be at least 2, not 1"):
        BestArm(1)


@pytest.mark.parametrize(("paid", "unpaid"), [((0, 0, 0), (0, 0, 0)), ((3, 1, 0), (1, 0, 2)), ((30, 28, 5), (10, 12, 40))])
def test_the_chance_of_being_best_is_that_of_draws_from_the_posterior(paid, unpaid):
    counts = jnp.array([*paid, *unpaid], float)
    exact = np.exp(PosteriorBest(3).respond(counts, counts, KEY))
    draws = np.random.default_rng(0).beta(np.add(paid, 1), np.add(unpaid, 1), (200_000, 3)).argmax(axis=1)
    np.testing.assert_allclose(exact, np.bincount(draws, minlength=3) / 200_000, atol=0.005)  # four deviations of a share
    assert exact.sum() == pytest.approx(1, abs=1e-5)


def test_acting_by_the_posterior_is_judged_to_be_the_posterior_and_beats_chance():
    tasks = BestArm(3)
    regret, divergence = sequential_strategies.judge(PosteriorBest(3), tasks, KEY, n=400, pulls=20)
    np.testing.assert_allclose(divergence, 0, atol=1e-5)
    random = meta_bayes.learner(meta_bayes.Config(width=4), tasks, KEY)
    random = eqx.tree_at(lambda agent: agent.head, random, jnp.zeros((3, 4)))
    # The best of three uniform chances is 3/4 on average, and a random one 1/2.
    chance, surprise = sequential_strategies.judge(random, tasks, KEY, n=400, pulls=20)
    assert chance.mean() / 20 == pytest.approx(0.25, abs=0.05)
    assert regret.mean() < 0.7 * chance.mean()
    assert surprise[:, 0].max() < 1e-5 < surprise[:, -1].mean()


def test_an_expert_pulls_the_best_arm_whatever_is_answered():
    tasks = BestArm(3, demonstrated=True)
    drawn = jax.jit(lambda key: sample_tasks(tasks, key, "test", 50))(KEY)
    pull = jax.vmap(lambda task, key: task.step(None, jnp.zeros(3), key).feedback)(drawn, jr.split(KEY, 50))
    np.testing.assert_array_equal((pull[:, :3] + pull[:, 3:]).argmax(axis=1), drawn.chances.argmax(axis=1))


def test_who_always_answers_one_arm_is_stubborn_and_who_answers_at_random_is_not():
    agent = meta_bayes.learner(meta_bayes.Config(width=4), BestArm(3), KEY)
    random = eqx.tree_at(lambda agent: agent.head, agent, jnp.zeros((3, 4)))
    share = lambda who: delusions.stubbornness(who, BestArm(3), KEY, n=400, pulls=10)
    assert share(random) == pytest.approx(1 / 3, abs=0.05)
    assert share(Answer(jnp.array([0.0, 100.0, 0.0]))) == 1.0
