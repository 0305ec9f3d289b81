"""Objectives: what an optimiser sees and is paid for, known optima, and splits that share nothing."""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm

from quickstudy.algorithms.optimizers.optax_interface import OptaxOptimizer
from quickstudy.core import End, lifetime, sample_tasks
from quickstudy.tasks import Quadratics, SmallNets


def test_an_update_is_added_and_the_score_is_minus_the_loss_after_it():
    key = jr.key(0)
    task = Quadratics(dimensions=3).sample(key, "train")
    world, view = task.reset(key)
    update = jnp.array([0.5, -1.0, 2.0])
    turn = task.step(world, update, key)
    residual = task.matrix @ (task.start + update) - task.target
    np.testing.assert_allclose(turn.score, -jnp.sum(residual**2), rtol=1e-5)
    np.testing.assert_allclose(turn.view.gradient, 2 * task.matrix.T @ residual, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(turn.view.loss, -turn.score)
    np.testing.assert_array_equal(turn.view.parameters, world + update)
    np.testing.assert_array_equal(view.parameters, task.start)
    assert turn.end == End.RUNNING
    assert turn.feedback is None


def test_a_square_quadratic_can_reach_zero():
    task = Quadratics().sample(jr.key(0), "test")
    assert task.loss(task.optimum(), jr.key(0)) < 1e-6


def test_an_overdetermined_quadratic_has_no_slope_at_its_optimum():
    task = Quadratics(dimensions=3, equations=7).sample(jr.key(0), "test")
    assert task.loss(task.optimum(), jr.key(0)) > 1e-2
    np.testing.assert_allclose(task.view(task.optimum(), jr.key(0)).gradient, jnp.zeros(3), atol=1e-4)


def test_quadratics_start_at_the_loss_that_gaussian_elements_imply():
    tasks = sample_tasks(Quadratics(dimensions=4), jr.key(0), "train", 4_000)
    losses = jax.vmap(lambda task: task.loss(task.start, jr.key(0)))(tasks)
    # Each residual is a sum of d products of standard Gaussians and one more Gaussian: d (d + 1) in all.
    assert abs(losses.mean() - 20) < 4 * losses.std() / 4_000**0.5


@pytest.mark.parametrize(
    ("split", "owned"), [("train", {0, 1, 2, 3, 5, 6, 7, 8}), ("valid", {4}), ("test", {9}), ("out-of-range", {9})]
)
def test_splits_of_quadratics_own_disjoint_quantiles(split, owned):
    tasks = sample_tasks(Quadratics(dimensions=2), jr.key(0), split, 500)
    assert set((100 * norm.cdf(tasks.target[:, 0])).astype(int).tolist()) == {10 * i + j for i in range(10) for j in owned}


def test_out_of_range_quadratics_are_larger():
    near, far = (sample_tasks(Quadratics(dimensions=4), jr.key(0), split, 100) for split in ("test", "out-of-range"))
    np.testing.assert_allclose(far.matrix, 2 * near.matrix)


@pytest.fixture(scope="module")
def nets():
    return SmallNets(hidden=(5,), batch=16, examples=360)


def test_splits_of_small_nets_share_no_image(nets):
    # All images of a split: its tasks hold a random 360 of them.
    seen = {
        split: {image.tobytes() for image in np.asarray(sample_tasks(nets, jr.key(0), split, 20).images).reshape(-1, 64)}
        for split in ("train", "valid", "test")
    }
    assert len(seen["train"]) > 1_000
    assert len(seen["valid"]) == len(seen["test"]) == 360
    assert len(seen["train"] | seen["valid"] | seen["test"]) == sum(map(len, seen.values()))


def test_a_small_net_learns(nets):
    learner = OptaxOptimizer(optax.sgd(2.0))
    _, curve = lifetime(learner, nets.sample(jr.key(0), "test"), jr.key(1), steps=100)
    assert curve[:3].mean() < -1.5
    assert curve[-10:].mean() > -1.0


def test_the_activation_is_all_that_changes(nets):
    sigmoid = nets.sample(jr.key(0), "test")
    relu = SmallNets(hidden=(5,), batch=16, examples=360, activation="relu").sample(jr.key(0), "test")
    (one, one_view), (other, other_view) = sigmoid.reset(jr.key(1)), relu.reset(jr.key(1))
    np.testing.assert_array_equal(sigmoid.images, relu.images)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one_view.loss != other_view.loss


def test_initial_weights_shrink_with_the_inputs_and_grow_out_of_range(nets):
    near, far = (nets.sample(jr.key(0), split).initial(jr.key(1)) for split in ("test", "out-of-range"))
    assert abs(near.matrices[0].std() * 8 - 1) < 0.2
    np.testing.assert_allclose(far.matrices[1], 3 * near.matrices[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Quadratics(dimensions=0), "dimensions"),
        (lambda: Quadratics(equations=-1), "equations"),
        (lambda: SmallNets(hidden=()), "hidden"),
        (lambda: SmallNets(batch=0), "batch"),
        (lambda: SmallNets(examples=361), "examples"),
    ],
)
def test_bad_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_without_scikit_learn_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install"):
        SmallNets()
