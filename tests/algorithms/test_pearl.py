"""PEARL's belief is a sum in any order, its stores keep tasks apart, and its latent variable is learned from the critics."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.metarl import pearl
from quickstudy.algorithms.rl.off_policy import Transition
from quickstudy.core import lifetime, sample_tasks
from quickstudy.nn.policies import Gaussian
from quickstudy.outer import flatten
from quickstudy.tasks import BernoulliBandit, HalfCircle

KEY = jr.key(0)
CONFIG = dataclasses.replace(pearl.PRESETS["smoke"].config, ticks=12, capacity=24)
TASKS = HalfCircle(horizon=4)


@pytest.fixture(scope="module")
def agent():
    return dataclasses.replace(pearl.learner(CONFIG, TASKS, KEY), draws=True)


@eqx.filter_jit
def lived(agent, ticks=12):
    """The context rows of a life, and the fast state at every tick."""
    row = lambda tick: pearl.context_row(tick.view, tick.response, tick.feedback, agent.actions)
    task = TASKS.sample(KEY, "train")
    life, (rows, fast) = lifetime(agent, task, KEY, steps=ticks, record=lambda tick: (row(tick), tick.fast))
    return life.fast, rows, fast


def test_what_a_life_came_to_believe_is_what_its_transitions_say_at_once_and_in_any_order(agent):
    last, rows, _ = lived(agent)
    for some in (rows, rows[::-1], jr.permutation(KEY, rows)):
        at_once = eqx.filter_jit(lambda r: pearl.product(pearl.prior(CONFIG.latent), pearl.factors(agent.weights.encoder, r)))(some)
        np.testing.assert_allclose(at_once.precision, last.belief.precision, rtol=1e-5)
        np.testing.assert_allclose(at_once.pull, last.belief.pull, rtol=1e-4, atol=1e-6)


def test_other_transitions_are_believed_otherwise(agent):
    _, rows, _ = lived(agent)
    believe = eqx.filter_jit(lambda r: pearl.product(pearl.prior(CONFIG.latent), pearl.factors(agent.weights.encoder, r)).mean)
    assert float(jnp.abs(believe(rows) - believe(rows.at[:, -1].add(1.0))).max()) > 1e-3


def test_factors_are_measurements_with_normal_noise():
    # The mean of n measurements x with variance v, after the prior N(0, 1): sum(x) / (n + v), with the variance v / (n + v).
    x, variance = jnp.array([0.5, 2.0, -1.0, 1.5]), 0.25
    precision = jnp.full((4, 1), 1 / variance)
    belief = pearl.product(pearl.prior(1), pearl.Normal(precision, precision * x[:, None]))
    np.testing.assert_allclose(belief.mean, [3.0 / 4.25], rtol=1e-6)
    np.testing.assert_allclose(1 / belief.precision, [0.25 / 4.25], rtol=1e-6)


def test_the_divergence_is_that_of_the_same_normal_numbers():
    belief = pearl.Normal(jnp.array([4.0, 0.5]), jnp.array([2.0, -1.0]))
    same = Gaussian(belief.mean, -0.5 * jnp.log(belief.precision))
    assert float(belief.divergence()) == pytest.approx(float(same.divergence(Gaussian(jnp.zeros(2), jnp.zeros(2)))), rel=1e-6)


def test_draws_have_the_mean_and_the_deviation_that_is_believed():
    belief = pearl.Normal(jnp.full((10_000, 1), 4.0), jnp.full((10_000, 1), 2.0))
    draws = eqx.filter_jit(belief.draw)(KEY)
    # Four standard errors of 10,000 draws.
    assert float(jnp.mean(draws)) == pytest.approx(0.5, abs=0.02)
    assert float(jnp.std(draws)) == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(("resample", "first"), [("episode", {0, 4, 8}), ("tick", set(range(12)))])
def test_the_draw_is_kept_for_an_episode_or_for_a_tick(agent, resample, first):
    _, _, fast = lived(dataclasses.replace(agent, resample=resample))
    new = np.abs(np.diff(np.asarray(fast.latent), axis=0)).max(axis=1) > 0
    assert {0} | set((1 + np.flatnonzero(new)).tolist()) == first


def test_the_encoder_learns_from_the_critics_and_the_actor_does_not_move_it(agent):
    config = dataclasses.replace(CONFIG, divergence=0.0)
    seen, action, reward = jnp.ones((2, 3, 2)), jnp.full((2, 3, 2), 0.5), jnp.ones((2, 3))
    batch = Transition(seen, action, reward, 2 * seen, jnp.zeros((2, 3), bool))

    def gradients(weights):
        context = jnp.ones((2, 4, 5))
        whole = lambda w: pearl.loss(w, weights.networks.critics, batch, context, config, KEY)[0]
        still = lambda w: whole(w._replace(networks=dataclasses.replace(w.networks, critics=zeroed(w.networks.critics))))
        return eqx.filter_grad(whole)(weights), eqx.filter_grad(still)(weights)

    zeroed = lambda critics: jax.tree.map(jnp.zeros_like, critics)
    whole, without_critics = eqx.filter_jit(gradients)(agent.weights)
    assert float(jnp.abs(flatten(whole.encoder)[0]).max()) > 0
    assert float(jnp.abs(flatten(without_critics.encoder)[0]).max()) == 0
    assert float(jnp.abs(flatten(whole.networks.actor)[0]).max()) > 0


def test_every_task_keeps_what_was_lived_in_it_and_the_context_is_of_the_latest_life(agent):
    drawn = eqx.filter_jit(sample_tasks)(HalfCircle(shaped=True, horizon=4), KEY, "train", CONFIG.tasks)
    live = eqx.filter_jit(lambda stored, chosen, key: pearl.live_in(agent, drawn, stored, chosen, CONFIG.ticks, key)[0])
    first = live(pearl.nothing_stored(CONFIG, TASKS), jnp.array([0, 2]), jr.key(1))
    assert first.replay.added.tolist() == [12, 0, 12, 0]
    second = live(first, jnp.array([2, 3]), jr.key(2))
    assert second.replay.added.tolist() == [12, 0, 24, 12]
    items = second.replay.items
    for task, n in ((0, 12), (2, 24), (3, 12)):
        distance = np.linalg.norm(np.asarray(items.after[task, :n]) - np.asarray(drawn.task.goal[task]), axis=1)
        np.testing.assert_allclose(items.reward[task, :n], -distance, rtol=1e-5)
    context = eqx.filter_jit(lambda key: pearl.draw(second, jnp.array([2]), CONFIG, key)[1])(KEY)[0]
    latest = {row.tobytes() for row in np.asarray(second.latest[2])}
    assert {row.tobytes() for row in np.asarray(context)} <= latest
    assert not latest & {row.tobytes() for row in np.asarray(first.latest[2])}


def test_what_cannot_be_stored_or_lived_is_refused():
    with pytest.raises(ValueError, match="capacity must hold a life's ticks, one or more, not capacity=5 with ticks=6"):
        pearl.Config(ticks=6, capacity=5)
    with pytest.raises(ValueError, match="lives must be at least 1 and at most the 3 training tasks, not 5"):
        pearl.Config(tasks=3)
    with pytest.raises(TypeError, match=r"PEARL is for continuous actions, not Discrete\(n=5\): use rl2"):
        pearl.learner(pearl.Config(), BernoulliBandit(), KEY)
