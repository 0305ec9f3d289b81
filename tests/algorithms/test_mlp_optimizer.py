"""The MLP optimiser: what it is blind to, its averages, and that persistent ES trains it."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.optimizers.mlp_optimizer import Config, learner, program
from quickstudy.algorithms.optimizers.optax_interface import draw_suite, final_loss
from quickstudy.outer import train
from quickstudy.tasks import ObjectiveView, Quadratics

TASKS = Quadratics(dimensions=2)
KEY = jr.key(0)


@pytest.fixture(scope="module")
def untrained():
    return learner(Config(), TASKS, jr.key(1))


def after(optimizer, parameters, *gradients):
    """The update, and the fast state, after a life of these gradients at one point."""
    views = [ObjectiveView(parameters, jnp.zeros(()), gradient) for gradient in gradients]
    fast = optimizer.begin(views[0], KEY)
    for view in views[:-1]:
        fast = optimizer.observe(fast, view, view.gradient, None, KEY)
    return optimizer.respond(fast, views[-1], KEY), fast


def test_the_scale_of_the_objective_does_not_matter(untrained):
    first, second, parameters = jr.normal(jr.key(2), (3, 6))
    one, _ = after(untrained, parameters, first, second)
    hundred, _ = after(untrained, parameters, 100 * first, 100 * second)
    np.testing.assert_allclose(one, hundred, rtol=1e-2, atol=1e-4)


def test_the_order_of_the_parameters_does_not_matter(untrained):
    first, second, parameters = jr.normal(jr.key(2), (3, 6))
    one, _ = after(untrained, parameters, first, second)
    reversed_, _ = after(untrained, parameters[::-1], first[::-1], second[::-1])
    np.testing.assert_allclose(one, reversed_[::-1], rtol=1e-4, atol=1e-6)


def test_averages_of_a_constant_gradient_are_geometric_sums(untrained):
    gradient = jnp.array([1.0, -2.0])
    _, averages = after(untrained, jnp.ones(2), *[gradient] * 6)
    decays = np.array(Config().decays)[:, None]
    np.testing.assert_allclose(averages.momenta, (1 - decays**5) * np.asarray(gradient), rtol=1e-5)
    np.testing.assert_allclose(averages.square, (1 - Config().square_decay ** 5) * np.asarray(gradient) ** 2, rtol=1e-4)
    assert averages.tick == 5


def test_a_little_training_helps(untrained):
    config = dataclasses.replace(Config(), unroll=10, horizon=20, steps=300)
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam promotes
        trained = train(program(config, TASKS), steps=300, seed=0, chunk=300)
    test = draw_suite(TASKS, "test", KEY, 100)
    assert final_loss(trained, test, 20) < 0.5 * final_loss(untrained, test, 20)
