"""Evolution strategies and truncated back-propagation against gradients known in closed form."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from quickstudy.algorithms.optimizers import lstm_optimizer
from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, End, Turn, lifetime
from quickstudy.outer import evolve, mean_over_tasks, truncate
from quickstudy.strategies.open_es import draw_perturbations, estimate_gradient, mirror, open_es
from quickstudy.strategies.persistent_es import persistent_es
from quickstudy.tasks import Quadratics


class Drift(AbstractTask):
    """A linear system, s' = s + response, that pays -s'; `start` tells tasks apart."""

    start: jax.Array

    def reset(self, key):
        return self.start, self.start

    def step(self, world, response, key):
        return Turn(world + response, world + response, None, -(world + response), jnp.asarray(End.RUNNING, jnp.int32))


class Drifts(AbstractTaskDistribution):
    """Drifts from uniform starts."""

    def sample(self, key, split):
        return Drift(jr.uniform(key))


class Push(AbstractLearner):
    """Push by the one slow weight, always: after t ticks the loss is start + t * weight."""

    weight: jax.Array

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return self.weight

    def observe(self, fast, view, response, feedback, key):
        return None


def push(key):
    return Push(jnp.zeros(()))


def average_estimate(strategy, *, unroll, horizon, lives):
    """The mean of the gradient estimates over whole lives: with `sgd(1.0)`, minus the mean step. The loss is linear, so the true
    gradient is the same wherever the steps lead."""
    program = evolve(Drifts(), strategy, learner=push, unroll=unroll, horizon=horizon)
    steps = lives * horizon // unroll

    @jax.jit
    def final_weight(key):
        return (
            jax.lax.fori_loop(0, steps, lambda i, window: program.update(window, jr.fold_in(key, i))[0], program.init(key))
            .slow[0]
            .weight
        )

    return -float(final_weight(jr.key(0))) / steps


def strategy(kind, pairs=2_000):
    return kind(optax.sgd(1.0), pairs=pairs, deviation=0.1)


def test_open_es_estimates_the_gradient_of_a_smoothed_function():
    curvature, slope, x, pairs = jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([1.0, -3.0]), jnp.array([0.3, -0.7]), 20_000
    function = lambda z: z @ curvature @ z + slope @ z + z[0] ** 3
    perturbations = draw_perturbations(jr.key(0), x, pairs, 0.5)
    losses = jax.vmap(function)(mirror(x, perturbations))
    # Smoothing by N(0, d^2) leaves the slope of a quadratic alone and adds 3 d^2 to that of a cube.
    exact = 2 * curvature @ x + slope + jnp.array([3 * x[0] ** 2 + 3 * 0.5**2, 0.0])
    each = jax.vmap(lambda e, plus, minus: estimate_gradient(e[None], jnp.stack([plus, minus]), 0.5))(
        perturbations, losses[:pairs], losses[pairs:]
    )
    estimate = estimate_gradient(perturbations, losses, 0.5)
    np.testing.assert_allclose(estimate, each.mean(axis=0), rtol=1e-3)
    assert (jnp.abs(estimate - exact) < 4 * each.std(axis=0) / pairs**0.5).all()
    assert jnp.abs(estimate - exact)[0] < 0.1 * 3 * 0.5**2


def test_perturbations_of_a_tree_are_gaussian_and_mirrored():
    mean = {"a": jnp.ones((3, 2)), "b": jnp.zeros(4)}
    perturbations = draw_perturbations(jr.key(0), mean, 1_000, 0.2)
    assert jax.tree.map(jnp.shape, perturbations) == {"a": (1_000, 3, 2), "b": (1_000, 4)}
    flat = jnp.concatenate([leaf.reshape(1_000, -1) for leaf in jax.tree.leaves(perturbations)], axis=1)
    np.testing.assert_allclose(jnp.cov(flat.T) / 0.2**2, jnp.eye(10), atol=0.2)
    plus, minus = jnp.split(mirror(mean, perturbations)["a"], 2)
    np.testing.assert_allclose(plus + minus, jnp.full((1_000, 3, 2), 2.0), rtol=1e-6)


# After t ticks the loss has slope t: over a life of 8 the mean is 4.5, but inside a window of 2 only 1.5 is to be seen.
def test_persistent_es_is_unbiased_over_the_whole_life():
    # One pair's estimate has a standard deviation below 12 in every window; 2,000 pairs and 40 lives of four windows.
    assert abs(average_estimate(strategy(persistent_es), unroll=2, horizon=8, lives=40) - 4.5) < 4 * 12 / (2_000 * 160) ** 0.5


def test_truncated_es_is_biased():
    assert abs(average_estimate(strategy(open_es), unroll=2, horizon=8, lives=40) - 1.5) < 0.05


def test_truncated_backpropagation_has_the_same_bias_and_whole_lives_have_none():
    def slope(unroll):
        program = truncate(Drifts(), optax.sgd(1.0), learner=push, tasks_per_step=2, unroll=unroll, horizon=8)
        return -program.update(program.init(jr.key(0)), jr.key(1))[0].slow[0].weight

    np.testing.assert_allclose([slope(2), slope(8)], [1.5, 4.5], rtol=1e-6)


def test_with_windows_as_long_as_lives_persistent_es_is_open_es():
    def weights(kind):
        learner = lambda key: lstm_optimizer.learner(lstm_optimizer.Config(hidden=2), Quadratics(), key)
        program = evolve(Quadratics(dimensions=2), strategy(kind, 3), learner=learner, unroll=4, horizon=4)
        update = eqx.filter_jit(program.update)
        window = eqx.filter_jit(program.init)(jr.key(0))
        for i in range(3):
            window, _ = update(window, jr.key(i))
        return eqx.filter(program.learner(window), eqx.is_array)

    jax.tree.map(np.testing.assert_array_equal, weights(persistent_es), weights(open_es))


def test_truncation_at_the_horizon_is_full_back_propagation():
    tasks, config = Quadratics(dimensions=3), lstm_optimizer.Config(hidden=3)
    learner = lambda key: lstm_optimizer.learner(config, tasks, key)
    program = truncate(tasks, optax.sgd(1.0), learner=learner, tasks_per_step=4, unroll=6, horizon=6)
    window = eqx.filter_jit(program.init)(jr.key(0))
    after, _ = eqx.filter_jit(program.update)(window, jr.key(1))
    steps = jax.tree.map(jnp.subtract, *(eqx.filter(program.learner(w), eqx.is_inexact_array) for w in (window, after)))
    loss = lambda learner, task, key: (-jnp.mean(lifetime(learner, task, key, steps=6)[1]), {})
    exact, _ = eqx.filter_jit(mean_over_tasks)(loss, window.slow[0], window.tasks, jr.key(2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), steps, eqx.filter(exact, eqx.is_array))


@pytest.mark.parametrize("loop", ["truncate", "evolve"])
def test_lives_end_at_the_horizon_and_begin_again_in_fresh_tasks(loop):
    if loop == "truncate":
        program = truncate(Drifts(), optax.sgd(0.1), learner=push, tasks_per_step=3, unroll=2, horizon=6)
    else:
        program = evolve(Drifts(), strategy(persistent_es, 3), learner=push, unroll=2, horizon=6)
    window, ticks, starts = program.init(jr.key(0)), [], []
    for i in range(7):
        window, _ = program.update(window, jr.key(i))
        ticks.append(set(window.lives.tick.tolist()))
        starts.append(window.tasks.start)
    assert ticks == [{2}, {4}, {6}, {2}, {4}, {6}, {2}]
    same = [bool((before == after).all()) for before, after in itertools.pairwise(starts)]
    assert same == [True, True, False, True, True, False]
    assert not (starts[2] == starts[3]).any()


def test_both_members_of_a_pair_live_in_the_same_task():
    window = evolve(Drifts(), strategy(persistent_es, 3), learner=push, unroll=2, horizon=6).init(jr.key(0))
    np.testing.assert_array_equal(window.tasks.start[:3], window.tasks.start[3:])
    assert len(set(window.tasks.start.tolist())) == 3


def test_persistent_es_forgets_the_perturbations_of_lives_that_ended():
    evolution, mean = strategy(persistent_es, 2), jnp.zeros(1)
    first, _ = evolution.ask(evolution.init(mean), mean, jr.key(0), jnp.array([True, True]))
    second, members = evolution.ask(first, mean, jr.key(1), jnp.array([True, False]))
    drawn = members[:2]
    np.testing.assert_allclose(second.accumulated, drawn + jnp.array([[0.0], [1.0]]) * first.accumulated, rtol=1e-6)


@pytest.mark.parametrize(("unroll", "horizon"), [(3, 10), (0, 10), (-1, 10), (20, 10)])
def test_windows_must_divide_lives(unroll, horizon):
    with pytest.raises(ValueError, match="horizon must be a multiple of unroll"):
        truncate(Drifts(), optax.sgd(0.1), learner=push, tasks_per_step=1, unroll=unroll, horizon=horizon)
    with pytest.raises(ValueError, match="horizon must be a multiple of unroll"):
        evolve(Drifts(), strategy(persistent_es, 1), learner=push, unroll=unroll, horizon=horizon)
