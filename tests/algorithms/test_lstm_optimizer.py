"""The LSTM optimiser: its symmetries, its derivative, Optax both ways, and that training helps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from quickstudy.algorithms.optimizers import lstm_optimizer, mlp_optimizer
from quickstudy.algorithms.optimizers.lstm_optimizer import Config, preprocess
from quickstudy.algorithms.optimizers.optax_interface import (
    LEARNING_RATES,
    OptaxOptimizer,
    as_optax,
    draw_suite,
    final_loss,
    tuned_losses,
)
from quickstudy.core import lifetime
from quickstudy.outer import train
from quickstudy.tasks import ObjectiveView, Quadratics

TASKS = Quadratics(dimensions=3)


@pytest.fixture(scope="module")
def untrained():
    return lstm_optimizer.learner(Config(hidden=5), TASKS, jr.key(0))


def look(gradient):
    return ObjectiveView(jnp.zeros_like(gradient), jnp.zeros(()), gradient)


def after(learner, *gradients):
    """The update after a life of these gradients."""
    fast, key = learner.begin(look(gradients[0]), jr.key(0)), jr.key(0)
    for gradient in gradients[:-1]:
        fast = learner.observe(fast, look(gradient), gradient, None, key)
    return learner.respond(fast, look(gradients[-1]), key)


def test_preprocessing_is_the_logarithm_and_the_sign_and_has_no_jump():
    edge = float(np.exp(-10))
    rows = preprocess(jnp.array([1.0, -np.e, edge * 1.0001, edge * 0.9999, 0.0], jnp.float32), 10.0)
    np.testing.assert_allclose(rows, [[0, 1], [0.1, -1], [-1, 1], [-1, 1], [-1, 0]], atol=2e-4)


def test_preprocessing_has_a_finite_slope_at_zero():
    assert jnp.isfinite(jax.jacobian(lambda g: preprocess(g, 10.0))(jnp.zeros(1))).all()


def test_coordinates_do_not_see_each_other(untrained):
    first, second = jr.normal(jr.key(1), (2, 4))
    together = after(untrained, first, second)
    alone = jnp.concatenate([after(untrained, first[i : i + 1], second[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)


def test_the_memory_matters(untrained):
    first, second = jr.normal(jr.key(1), (2, 4))
    assert jnp.abs(after(untrained, first, second) - after(untrained, second)).max() > 1e-4


def test_second_derivatives_are_dropped(untrained):
    slope = jax.jacobian(lambda gradient: after(untrained, gradient, 2 * gradient))(jnp.ones(2))
    np.testing.assert_array_equal(slope, jnp.zeros((2, 2)))


@pytest.mark.parametrize("method", [lstm_optimizer, mlp_optimizer])
def test_exported_to_optax_it_walks_the_same_path(method):
    task = TASKS.sample(jr.key(0), "test")
    learner = method.learner(method.Config(hidden=5), TASKS, jr.key(1))
    _, path = lifetime(learner, task, jr.key(2), steps=6, record=lambda tick: tick.view.parameters)
    optimizer, parameters = as_optax(learner), task.start
    state, walked = optimizer.init(parameters), []
    for _ in range(6):
        walked.append(parameters)
        loss, gradient = jax.value_and_grad(task.loss)(parameters, jr.key(0))
        updates, state = optimizer.update(gradient, state, parameters, value=loss)
        parameters = optax.apply_updates(parameters, updates)
    np.testing.assert_allclose(path, jnp.stack(walked), rtol=1e-4, atol=1e-5)


def test_exported_to_optax_it_chains_and_keeps_the_tree(untrained):
    parameters = {"weight": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), as_optax(untrained))
    updates, _ = jax.jit(optimizer.update)(parameters, optimizer.init(parameters), parameters)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, parameters)
    with pytest.raises(ValueError, match="parameters must be given"):
        as_optax(untrained).update(parameters, as_optax(untrained).init(parameters))


def test_a_wrapped_transformation_walks_as_optax_does():
    task = TASKS.sample(jr.key(0), "test")
    momentum = optax.sgd(0.01, momentum=0.9)
    life, _ = lifetime(OptaxOptimizer(momentum), task, jr.key(0), steps=5)
    parameters, state = task.start, momentum.init(task.start)
    for _ in range(5):
        updates, state = momentum.update(jax.grad(task.loss)(parameters, jr.key(0)), state, parameters)
        parameters = optax.apply_updates(parameters, updates)
    np.testing.assert_allclose(life.world, parameters, rtol=1e-5)


def test_tuning_takes_the_rate_that_is_best_on_the_validation_tasks():
    tasks = Quadratics(dimensions=2)
    valid, test = (draw_suite(tasks, split, jr.key(0), 8) for split in ("valid", "test"))
    grid = [float(final_loss(OptaxOptimizer(optax.sgd(rate)), valid, 20)) for rate in LEARNING_RATES]
    best = LEARNING_RATES[int(np.nanargmin(grid))]
    assert not np.isfinite(grid[-1]) or grid[-1] > min(grid)
    (tuned,) = tuned_losses(optax.sgd, valid, (test,), 20)
    np.testing.assert_allclose(tuned, final_loss(OptaxOptimizer(optax.sgd(best)), test, 20), rtol=1e-4)


@pytest.mark.parametrize("estimator", ["backpropagation", "persistent-es"])
def test_a_little_training_helps(estimator):
    config = Config(hidden=8, estimator=estimator, unroll=10, horizon=20, steps=150, tasks_per_step=8, pairs=16)
    tasks = Quadratics(dimensions=2)
    test = draw_suite(tasks, "test", jr.key(0), 100)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam promotes
        trained = train(lstm_optimizer.program(config, tasks), steps=150, seed=0, chunk=150)
    before = final_loss(lstm_optimizer.learner(config, tasks, jr.key(0)), test, 20)
    assert final_loss(trained, test, 20) < 0.5 * before


def test_an_unknown_estimator_is_named():
    # The type check of the tests may speak first.
    with pytest.raises((ValueError, TypeError), match="estimator"):
        Config(estimator="guessing")
