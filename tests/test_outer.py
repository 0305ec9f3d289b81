"""Slow loops follow the gradients that they name, and stop where they must."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from quickstudy.algorithms.fewshot import anil, cnp, imaml, maml, meta_sgd, protonet
from quickstudy.algorithms.fewshot.adaptation import adapt_by_living, query_loss
from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, sample_tasks
from quickstudy.outer import (
    Implicit,
    NonFiniteError,
    Program,
    descend,
    differentiate_adaptation,
    mean_over_tasks,
    member,
    population,
    run,
    train,
    with_adaptation,
)
from quickstudy.tasks import EpisodeTask, Sinusoid

KEY = jr.key(0)


class Point(AbstractLearner):
    """A learner that is one vector, beside another that its outer loss ignores; it neither lives nor answers."""

    theta: jax.Array
    other: jax.Array | None = None

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return None

    def observe(self, fast, view, response, feedback, key):
        return None


class Bowl(AbstractTask):
    """An inner loss (phi - a)' A (phi - a) / 2 and an outer loss |phi - b|^2 / 2."""

    curvature: jax.Array
    inner: jax.Array
    outer: jax.Array

    def reset(self, key):
        return None, None

    def step(self, world, response, key):
        raise NotImplementedError


class Bowls(AbstractTaskDistribution):
    """Random bowls of three dimensions."""

    def sample(self, key, split):
        matrix, inner, outer = jr.normal(key, (3, 3)), jr.normal(jr.fold_in(key, 1), (3,)), jr.normal(jr.fold_in(key, 2), (3,))
        return Bowl(matrix @ matrix.T + jnp.eye(3), inner, outer)


def inner_loss(learner, task):
    away = learner.theta - task.inner
    return away @ task.curvature @ away / 2


def outer_loss(learner, task, key):
    return jnp.sum((learner.theta - task.outer) ** 2) / 2, {}


STRENGTH = 2.0


def proximal_optimum(learner, task, key):
    """The exact solution of the inner problem with its proximal term."""
    eye = jnp.eye(3)
    return Point(jnp.linalg.solve(task.curvature + STRENGTH * eye, task.curvature @ task.inner + STRENGTH * learner.theta))


def gradient_of(gradient, learner, task):
    loss = with_adaptation(outer_loss, proximal_optimum, gradient)
    return eqx.filter_grad(lambda theta: loss(theta, task, KEY)[0])(learner).theta


def test_implicit_gradient_equals_closed_form_on_quadratics():
    learner, task = Point(jnp.array([0.3, -1.0, 2.0])), Bowls().sample(KEY, "train")
    phi = proximal_optimum(learner, task, KEY).theta
    closed = jnp.linalg.solve(jnp.eye(3) + task.curvature / STRENGTH, phi - task.outer)
    np.testing.assert_allclose(gradient_of(Implicit(inner_loss, STRENGTH, 3), learner, task), closed, rtol=1e-4)
    # Differentiating the exact solver gives the same: the implicit function theorem.
    np.testing.assert_allclose(gradient_of("exact", learner, task), closed, rtol=1e-4)


def test_more_conjugate_gradient_steps_than_precision_has_use_for_change_nothing():
    """Curvatures of many sizes, and a gradient so small that the square of a residual underflows before it is zero."""
    n = 30
    task = Bowl(jnp.diag(jnp.logspace(-2, 2, n)), jnp.zeros(n), jnp.ones(n))
    tiny = lambda learner, task, key: (1e-14 * outer_loss(learner, task, key)[0], {})
    still = lambda steps: with_adaptation(tiny, lambda learner, task, key: learner, Implicit(inner_loss, STRENGTH, steps))
    gradient = lambda steps: eqx.filter_grad(lambda theta: still(steps)(theta, task, KEY)[0])(Point(jnp.zeros(n))).theta
    closed = -1e-14 / (1 + jnp.logspace(-2, 2, n) / STRENGTH)
    np.testing.assert_allclose(gradient(300), closed, rtol=1e-3)


def test_zero_conjugate_gradient_steps_is_first_order():
    learner, task = Point(jnp.array([0.3, -1.0, 2.0])), Bowls().sample(KEY, "train")
    first = gradient_of("first-order", learner, task)
    np.testing.assert_array_equal(gradient_of(Implicit(inner_loss, STRENGTH, 0), learner, task), first)
    np.testing.assert_allclose(first, proximal_optimum(learner, task, KEY).theta - task.outer, rtol=1e-6)


def test_implicit_gradient_is_zero_for_weights_that_the_outer_loss_ignores():
    learner, task = Point(jnp.ones(3), jnp.ones(3)), Bowls().sample(KEY, "train")
    implicit = Implicit(lambda pair, task: inner_loss(pair, task) + jnp.sum(pair.other**2), STRENGTH, 3)
    adapt = differentiate_adaptation(lambda pair, task, key: pair, implicit)
    gradient = eqx.filter_grad(lambda pair: outer_loss(adapt(pair, task, KEY), task, KEY)[0])(learner)
    np.testing.assert_array_equal(gradient.other, jnp.zeros(3))
    assert float(jnp.abs(gradient.theta).sum()) > 0


def test_an_unknown_gradient_is_refused():
    with pytest.raises(ValueError, match="gradient must be"):
        differentiate_adaptation(proximal_optimum, "second-order")


def test_descent_reaches_the_optimum_of_the_mean_loss():
    """Without adaptation, the optimum of the mean outer loss is the mean of the targets, which is zero over many bowls."""
    program = descend(outer_loss, Bowls(), optax.sgd(0.05), learner=lambda key: Point(jnp.full(3, 5.0)), tasks_per_step=64)
    learner = train(program, steps=300, seed=0)
    # The deviation of the mean target over the last 1 / 0.05 batches of 64.
    np.testing.assert_allclose(learner.theta, jnp.zeros(3), atol=4 * (0.05 / 64) ** 0.5)


SINES = Sinusoid(shot=4, query=4)


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (maml, maml.Config(width=4, inner_steps=2)),
        (anil, anil.Config(width=4, part="biases")),
        (meta_sgd, meta_sgd.Config(width=4)),
        (cnp, cnp.Config(width=4)),
    ],
    ids=["maml", "anil", "meta-sgd", "cnp"],
)
def test_meta_gradients_against_finite_differences(module, config):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        learner = module.learner(config, SINES, KEY)
        # Rectifiers have no derivative at zero; these tasks and weights keep away from it.
        tasks = sample_tasks(SINES, jr.key(5), "train", 3)
        loss = (
            cnp.likelihood_loss if module is cnp else with_adaptation(query_loss, adapt_by_living(getattr(config, "inner_steps", 1)))
        )
        arrays, rest = eqx.partition(learner, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(arrays)

        def value(vector):
            each = jax.vmap(lambda task, key: loss(eqx.combine(unravel(vector), rest), task, key)[0])
            return jnp.mean(each(tasks, jr.split(KEY, 3)))

        gradient = ravel_pytree(mean_over_tasks(loss, learner, tasks, KEY)[0])[0]
        for direction in jr.normal(jr.key(1), (3, flat.size)):
            slope = (value(flat + 1e-6 * direction) - value(flat - 1e-6 * direction)) / 2e-6
            np.testing.assert_allclose(gradient @ direction, slope, rtol=1e-4)


def test_scanned_and_batched_tasks_give_one_gradient():
    learner, tasks = maml.learner(maml.Config(width=8), SINES, KEY), sample_tasks(SINES, KEY, "train", 5)
    loss = with_adaptation(query_loss, adapt_by_living(2))
    (scanned, scan_metrics), (batched, batch_metrics) = (mean_over_tasks(loss, learner, tasks, KEY, axis) for axis in ("scan", "vmap"))
    np.testing.assert_allclose(ravel_pytree(scanned)[0], ravel_pytree(batched)[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scan_metrics["loss"], batch_metrics["loss"], rtol=1e-5)


def test_first_order_differs_from_exact_but_agrees_without_inner_steps():
    learner, tasks = maml.learner(maml.Config(width=8, inner_learning_rate=0.1), SINES, KEY), sample_tasks(SINES, KEY, "train", 5)

    def gradient(kind, steps):
        return ravel_pytree(mean_over_tasks(with_adaptation(query_loss, adapt_by_living(steps), kind), learner, tasks, KEY)[0])[0]

    np.testing.assert_allclose(gradient("exact", 0), gradient("first-order", 0), rtol=1e-5)
    assert float(jnp.linalg.norm(gradient("exact", 2) - gradient("first-order", 2))) > 1e-3


def test_implicit_maml_at_zero_conjugate_steps_is_first_order_maml_of_the_same_inner_loop():
    learner, tasks = imaml.learner(imaml.Config(width=8), SINES, KEY), sample_tasks(SINES, KEY, "train", 4)
    losses = [with_adaptation(query_loss, adapt_by_living(3), kind) for kind in (imaml.implicit(0.5, 0), "first-order")]
    zero, first = (ravel_pytree(mean_over_tasks(loss, learner, tasks, KEY)[0])[0] for loss in losses)
    np.testing.assert_array_equal(zero, first)


def test_a_run_resumes_between_chunks():
    program = maml.program(maml.Config(width=4, tasks_per_step=2), SINES)
    whole = list(run(program, steps=7, seed=1, chunk=3))
    assert [progress.step for progress in whole] == [3, 6, 7]
    *_, resumed = run(program, steps=7, seed=1, chunk=3, start=3, state=whole[0].state)
    for a, b in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(whole[-1].state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_metric_that_stops_being_finite_stops_the_run():
    def update(state, key):
        return state + 1, {"good": state, "bad": jnp.where(state >= 4, jnp.inf, 0.0)}

    program = Program(lambda key: jnp.zeros(()), update, lambda state: Point(state))
    seen = []
    with pytest.raises(NonFiniteError, match="bad became inf at outer step 5") as caught:
        seen.extend(progress.step for progress in run(program, steps=9, seed=0, chunk=2))
    assert seen == [2, 4]
    assert (caught.value.metric, caught.value.step) == ("bad", 5)


def test_a_member_of_a_population_trains_as_it_would_alone():
    program = maml.program(maml.Config(width=4, tasks_per_step=2), Sinusoid(shot=3))
    together = population(program, 3)

    def stepped(program, key, update_key):
        state, metrics = program.update(program.init(key), update_key)
        return state, metrics

    begin_keys, update_keys = jr.split(jr.key(0), 3), jr.split(jr.key(1), 3)
    state, metrics = eqx.filter_jit(stepped)(together, jr.key(0), jr.key(1))
    alone = eqx.filter_jit(lambda *keys: stepped(program, *keys))
    each = [alone(*keys) for keys in zip(begin_keys, update_keys, strict=True)]
    for place, (own, _) in enumerate(each):
        ours, theirs = (eqx.filter(tree, eqx.is_inexact_array) for tree in (member(state, place), own))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, theirs)
    assert float(metrics["loss"]) == pytest.approx(float(np.mean([own["loss"] for _, own in each])), rel=1e-4)
    assert not eqx.tree_equal(member(together.learner(state), 0), member(together.learner(state), 1))


def test_a_population_needs_a_member():
    with pytest.raises(ValueError, match="members must be at least 1, not 0"):
        population(maml.program(maml.Config(), Sinusoid()), 0)


def test_training_needs_a_step():
    with pytest.raises(ValueError, match="steps must be at least 1, not 0"):
        train(maml.program(maml.Config(), SINES), steps=0, seed=0)


def test_protonet_gradient_against_finite_differences():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        keys = jr.split(KEY, 2)
        x, labels = jr.normal(keys[0], (6, 3)), jnp.array([0, 0, 1, 1, 2, 2], jnp.int32)
        task = EpisodeTask(x, labels, x + 0.3 * jr.normal(keys[1], (6, 3)), labels, None, outputs=3)
        learner = protonet.ProtoNet(eqx.nn.MLP(3, 2, 4, 1, activation=jnp.tanh, key=KEY))
        arrays, rest = eqx.partition(learner, eqx.is_inexact_array)
        flat, unravel = ravel_pytree(arrays)
        value = lambda vector: protonet.episode_loss(eqx.combine(unravel(vector), rest), task, KEY)[0]
        direction = jr.normal(jr.key(1), flat.shape)
        slope = (value(flat + 1e-6 * direction) - value(flat - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jax.grad(value)(flat) @ direction, slope, rtol=1e-5)
