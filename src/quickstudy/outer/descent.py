"""Meta-gradients: descend a loss over fresh tasks, through, beside or around the adaptation that the loss judges."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from quickstudy.core import AbstractCurriculum, AbstractLearner, AbstractTask, AbstractTaskDistribution
from quickstudy.curricula.uniform import Uniform
from quickstudy.outer.program import Metrics, Program, apply_gradient

# A loss and an adaptation know which learner and which task they are for: (learner, task, key) -> (scalar, metrics) or learner.
Loss = Callable[[Any, Any, PRNGKeyArray], tuple[Float[Array, ""], Metrics]]
Adapt = Callable[[Any, Any, PRNGKeyArray], Any]
TaskAxis = Literal["auto", "scan", "vmap"]


class Implicit(NamedTuple):
    """The implicit gradient of the inner problem `min over phi of inner_loss(phi) + strength / 2 |phi - theta|^2`.

    `steps` conjugate-gradient iterations solve `(I + H / strength) g = grad outer`; with none, `g` is the first-order gradient.
    """

    inner_loss: Callable[[Any, Any], Float[Array, ""]]
    strength: float
    steps: int | Int[Array, ""]


Gradient = str | Implicit  # "exact", "first-order", or an Implicit


class Descent(NamedTuple):
    """The state of `descend`."""

    learner: AbstractLearner
    optimizer: optax.OptState
    curriculum: PyTree


def differentiate_adaptation(adapt: Adapt, gradient: Gradient) -> Adapt:
    """Give an adaptation theta -> phi the derivative that `gradient` names.

    "exact" differentiates through the adaptation. "first-order" takes d phi / d theta = I. `Implicit` takes the derivative of the
    proximal optimum, (I + H / strength)^-1, whatever path led there (Rajeswaran et al. 2019, equation 6).
    """
    if gradient == "exact":
        return adapt
    if not (gradient == "first-order" or isinstance(gradient, Implicit)):
        raise ValueError(f'gradient must be "exact", "first-order" or an Implicit, not {gradient!r}')

    @eqx.filter_custom_vjp
    def adapted(learner, task, key):
        return adapt(learner, task, key)

    @adapted.def_fwd
    def _(perturbed, learner, task, key):
        phi = adapt(learner, task, key)
        return phi, phi

    @adapted.def_bwd
    def _(phi, cotangent, perturbed, learner, task, key):
        return _solve_implicit(gradient, phi, task, cotangent) if isinstance(gradient, Implicit) else cotangent

    return adapted


def _solve_implicit(implicit: Implicit, phi: AbstractLearner, task: AbstractTask, cotangent: PyTree) -> PyTree:
    """Solve (I + H / strength) g = cotangent by conjugate gradients, H the Hessian of the inner loss at phi."""
    arrays, rest = eqx.partition(phi, eqx.is_inexact_array)
    slope = jax.grad(lambda a: implicit.inner_loss(eqx.combine(a, rest), task))

    def product(vector):
        curvature = jax.jvp(slope, (arrays,), (vector,))[1]
        return jax.tree.map(lambda v, h: v + h / implicit.strength, vector, curvature)

    # Weights that the outer loss does not touch have no cotangent: their right-hand side is zero.
    fill = lambda a, c: jnp.zeros_like(a) if a is not None and c is None else c
    target = jax.tree.map(fill, arrays, cotangent, is_leaf=lambda leaf: leaf is None)
    # Exactly `steps` iterations are spent, unless precision is exhausted before: one more would divide nothing by nothing. Starting at
    # the target makes zero steps first-order.
    tolerance = float(jnp.finfo(jnp.result_type(*jax.tree.leaves(target))).eps)
    return jax.scipy.sparse.linalg.cg(product, target, x0=target, tol=tolerance, maxiter=implicit.steps)[0]


def mean_over_tasks(loss: Loss, learner: AbstractLearner, tasks: PyTree, key: PRNGKeyArray, axis: TaskAxis = "auto"):
    """The gradient and metrics of the mean loss over stacked tasks, or over what was lived in each: `(gradient, metrics)`.

    Metrics include "loss".

    "vmap" runs tasks side by side, in equal parts on all devices of all processes; "scan" one after another, adding up gradients: less
    memory, and on a CPU twice as fast once a task is big enough to fill the cores by itself. "auto" scans on a CPU when one task holds
    more than 1,000 numbers.
    """
    keys = jr.split(key, jax.tree.leaves(tasks)[0].shape[0])

    def task_loss(learner, task, k):
        value, metrics = loss(learner, task, k)
        return value, {"loss": value} | metrics

    def batch_loss(learner, tasks, keys):
        losses, metrics = jax.vmap(lambda task, k: task_loss(learner, task, k))(tasks, keys)
        return jnp.mean(losses), jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)

    if axis == "vmap" or (axis == "auto" and not _prefers_scan(tasks)):
        return eqx.filter_grad(batch_loss, has_aux=True)(learner, *over_devices((tasks, keys)))

    def add(total, item):
        gradient, metrics = eqx.filter_grad(task_loss, has_aux=True)(learner, *item)
        return jax.tree.map(jnp.add, total, gradient), metrics

    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(learner, eqx.is_inexact_array))
    total, metrics = jax.lax.scan(add, zeros, (tasks, keys))
    return jax.tree.map(lambda leaf: leaf / keys.shape[0], total), jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)


def over_devices(batch: PyTree) -> PyTree:
    """A batch whose first axis is cut over all devices of all processes, if it can be cut evenly: XLA then adds up what each finds."""
    devices, sizes = jax.devices(), {leaf.shape[0] for leaf in jax.tree.leaves(batch)}
    if len(devices) == 1 or any(size % len(devices) for size in sizes):
        return batch
    mesh = jax.make_mesh((len(devices),), ("batch",), axis_types=(AxisType.Auto,))
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("batch")))


def _prefers_scan(tasks: PyTree) -> bool:
    size = sum(leaf.size / leaf.shape[0] for leaf in jax.tree.leaves(tasks))
    return jax.default_backend() == "cpu" and size > 1_000


def descend(
    loss: Loss,
    tasks: AbstractTaskDistribution | AbstractCurriculum,
    optimizer: optax.GradientTransformation,
    *,
    learner: Callable[[PRNGKeyArray], AbstractLearner],
    tasks_per_step: int,
    adapt: Adapt | None = None,
    gradient: Gradient = "exact",
    task_axis: TaskAxis = "auto",
) -> Program:
    """Follow the gradient of a mean loss over fresh training tasks.

    `learner(key)` draws the initial slow weights; `loss(learner, task, key) -> (scalar, metrics)` judges a learner on one task.
    With `adapt(learner, task, key) -> learner`, theta -> phi, the loss judges the adapted learner, and `gradient` says how its
    derivative flows back through the adaptation: see `differentiate_adaptation`.
    """
    loss = loss if adapt is None else with_adaptation(loss, adapt, gradient)
    curriculum = tasks if isinstance(tasks, AbstractCurriculum) else Uniform(tasks)

    def init(key: PRNGKeyArray) -> Descent:
        learner_key, curriculum_key = jr.split(key)
        new = learner(learner_key)
        return Descent(new, optimizer.init(eqx.filter(new, eqx.is_inexact_array)), curriculum.init(curriculum_key))

    def update(state: Descent, key: PRNGKeyArray) -> tuple[Descent, Metrics]:
        propose_key, loss_key = jr.split(key)
        chosen, proposed, ticket = curriculum.propose(state.curriculum, propose_key, tasks_per_step)
        gradient, metrics = mean_over_tasks(loss, state.learner, proposed, loss_key, task_axis)
        new, optimizer_state = apply_gradient(optimizer, gradient, state.optimizer, state.learner)
        return Descent(new, optimizer_state, curriculum.credit(chosen, ticket, proposed, metrics)), metrics

    return Program(init, update, lambda state: state.learner)


def with_adaptation(loss: Loss, adapt: Adapt, gradient: Gradient = "exact") -> Loss:
    """The loss of the adapted learner as a loss of the unadapted one, differentiated as `gradient` says."""
    differentiable = differentiate_adaptation(adapt, gradient)

    def adapted_loss(learner, task, key):
        adapt_key, loss_key = jr.split(key)
        return loss(differentiable(learner, task, adapt_key), task, loss_key)

    return adapted_loss


def rise_and_fall(learning_rate: float, warmup: int, steps: int) -> optax.Schedule:
    """A learning rate that rises from zero for `warmup` outer steps, and falls as a cosine does until `steps`, where it is zero.

    Source: Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts"; the rise: Goyal et al. 2017, "Accurate,
    Large Minibatch SGD: Training ImageNet in 1 Hour".

    >>> rate = rise_and_fall(0.1, warmup=10, steps=110)
    >>> [round(float(rate(step)), 3) for step in (0, 10, 60, 110)]
    [0.0, 0.1, 0.05, 0.0]
    """
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup, max(steps, warmup + 1))
