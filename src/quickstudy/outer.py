"""Slow loops: who improves the slow weights, and from what signal.

A `Program` is a pair of pure functions and a view of the learner inside its state, shaped like an Optax transformation.
`descend` follows meta-gradients (exact, first-order or implicit), `truncate` back-propagates through windows of long lives,
`evolve` needs no gradient at all. `run` drives any of them.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree

from quickstudy.core import (
    AbstractCurriculum,
    AbstractLearner,
    AbstractTask,
    AbstractTaskDistribution,
    Life,
    lifetime,
    live,
    nothing,
    sample_tasks,
)
from quickstudy.curricula.uniform import Uniform
from quickstudy.strategies.base import Strategy

State = Any
Keys = Key[Array, " n"]
Metrics = dict[str, Array]
# A loss and an adaptation know which learner and which task they are for: (learner, task, key) -> (scalar, metrics) or learner.
Loss = Callable[[Any, Any, PRNGKeyArray], tuple[Float[Array, ""], Metrics]]
Adapt = Callable[[Any, Any, PRNGKeyArray], Any]
TaskAxis = Literal["auto", "scan", "vmap"]


class Program(NamedTuple):
    """A slow loop: `init(key) -> state`, `update(state, key) -> (state, metrics)`, `learner(state) -> learner`."""

    init: Callable[[PRNGKeyArray], State]
    update: Callable[[State, PRNGKeyArray], tuple[State, Metrics]]
    learner: Callable[[State], AbstractLearner]


class Preset(NamedTuple):
    """A configuration that is known to work: its tasks, outer steps, ticks of a test lifetime, expected score and run time."""

    config: Any
    tasks: Callable[[], AbstractTaskDistribution]
    steps: int
    ticks: int
    expected: str


class Progress(NamedTuple):
    """Where a run stands after a chunk: outer steps done, the state, and each metric for each outer step of the chunk."""

    step: int
    state: State
    metrics: dict[str, np.ndarray]


class NonFiniteError(RuntimeError):
    """A metric stopped being finite; the states yielded before it are good."""

    def __init__(self, metric: str, step: int, value: float):
        super().__init__(f"{metric} became {value} at outer step {step}; the last state before it is kept")
        self.metric, self.step, self.value = metric, step, value


def run(
    program: Program, *, steps: int, seed: int, chunk: int = 100, start: int = 0, state: State | None = None
) -> Iterator[Progress]:
    """Run a program for `steps` outer steps and yield after each compiled chunk.

    Every outer step's key is folded from the seed and the step's own number, and chunks end at multiples of `chunk`, so a run
    resumed from a yielded `(step, state)` as `start` and `state` equals the unbroken one bit for bit.
    Raises `NonFiniteError` at the first metric that is not finite.

    >>> from quickstudy.algorithms.fewshot import maml
    >>> from quickstudy.tasks import Sinusoid
    >>> program = maml.program(maml.Config(tasks_per_step=4), Sinusoid())
    >>> [progress.step for progress in run(program, steps=20, seed=0, chunk=10)]
    [10, 20]
    """
    init_key, update_key = jr.split(jr.key(seed))
    if state is None:
        state = eqx.filter_jit(program.init)(init_key)

    @eqx.filter_jit
    def advance(state: State, first: Array, length: int) -> tuple[State, Metrics]:
        arrays, rest = eqx.partition(state, eqx.is_array)

        def body(arrays, step):
            after, metrics = program.update(eqx.combine(arrays, rest), jr.fold_in(update_key, step))
            return eqx.filter(after, eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(body, arrays, first + jnp.arange(length, dtype=jnp.uint32))
        return eqx.combine(arrays, rest), metrics

    while start < steps:
        length = min(chunk - start % chunk, steps - start)
        state, metrics = advance(state, jnp.asarray(start, jnp.uint32), length)
        host = {name: np.asarray(values) for name, values in metrics.items()}
        _require_finite(host, start)
        start += length
        yield Progress(start, state, host)


def _require_finite(metrics: dict[str, np.ndarray], start: int) -> None:
    bad = [(int(np.argmin(np.isfinite(v))), name) for name, v in metrics.items() if not np.isfinite(v).all()]
    if bad:
        offset, name = min(bad)
        raise NonFiniteError(name, start + offset + 1, float(metrics[name][offset]))


def train(program: Program, *, steps: int, seed: int, chunk: int = 100) -> AbstractLearner:
    """Run a program to its end and return the learner.

    >>> from quickstudy.algorithms.fewshot import maml
    >>> from quickstudy.tasks import Sinusoid
    >>> learner = train(maml.program(maml.Config(tasks_per_step=4), Sinusoid()), steps=10, seed=0)
    """
    state = None
    for progress in run(program, steps=steps, seed=seed, chunk=chunk):
        state = progress.state
    if state is None:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return program.learner(state)


# --- Meta-gradients -----------------------------------------------------------------------------------------------------------------


class Implicit(NamedTuple):
    """The implicit gradient of the inner problem `min over phi of inner_loss(phi) + strength / 2 |phi - theta|^2`.

    `steps` conjugate-gradient iterations solve `(I + H / strength) g = grad outer`; with none, `g` is the first-order gradient.
    """

    inner_loss: Callable[[Any, Any], Float[Array, ""]]
    strength: float
    steps: int


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
    # The tolerance is zero so that exactly `steps` iterations are spent; starting at the target makes zero steps first-order.
    return jax.scipy.sparse.linalg.cg(product, target, x0=target, tol=0.0, maxiter=implicit.steps)[0]


def mean_over_tasks(loss: Loss, learner: AbstractLearner, tasks: AbstractTask, key: PRNGKeyArray, axis: TaskAxis = "auto"):
    """The gradient and metrics of the mean loss over stacked tasks: `(gradient, metrics)`, metrics including "loss".

    "vmap" runs tasks side by side; "scan" one after another, adding up gradients: less memory, and on a CPU twice as fast once a task
    is big enough to fill the cores by itself. "auto" scans on a CPU when one task holds more than 1,000 numbers.
    """
    keys = jr.split(key, jax.tree.leaves(tasks)[0].shape[0])

    def batch_loss(learner, tasks, keys):
        losses, metrics = jax.vmap(lambda task, k: loss(learner, task, k))(tasks, keys)
        return jnp.mean(losses), {"loss": jnp.mean(losses)} | jax.tree.map(lambda m: jnp.mean(m, axis=0), metrics)

    differentiate = eqx.filter_grad(batch_loss, has_aux=True)
    if axis == "vmap" or (axis == "auto" and not _prefers_scan(tasks)):
        return differentiate(learner, tasks, keys)

    def add(total, item):
        one = jax.tree.map(lambda leaf: leaf[None], item)
        return jax.tree.map(jnp.add, total, differentiate(learner, *one)), None

    first = jax.tree.map(lambda leaf: leaf[:1], (tasks, keys))
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(lambda t, k: differentiate(learner, t, k), *first)
    )
    total, _ = jax.lax.scan(add, zeros, (tasks, keys))
    return jax.tree.map(lambda leaf: leaf / keys.shape[0], total)


def _prefers_scan(tasks: AbstractTask) -> bool:
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


def apply_gradient(
    optimizer: optax.GradientTransformation, gradient: PyTree, state: optax.OptState, learner: AbstractLearner
) -> tuple[AbstractLearner, optax.OptState]:
    """One optimiser step on a learner's floating-point leaves."""
    # Optax mixes integer counts with floats, which strict promotion, where a caller has it on, would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(gradient, state, eqx.filter(learner, eqx.is_inexact_array))
    return eqx.apply_updates(learner, updates), state


# --- Long lives ---------------------------------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The state of a slow loop over windows of long lives: `slow` is its own state, lives and their tasks are stacked."""

    slow: Any
    lives: Life
    tasks: AbstractTask


def _begin(learners: AbstractLearner, tasks: AbstractTask, keys: Keys, axis: int | None) -> Life:
    """Begin a life in every task: one shared learner (`axis` None) or one learner per task (`axis` 0)."""
    begin = lambda learner, task, k: lifetime(learner, task, k, steps=0, record=nothing)[0]
    return eqx.filter_vmap(begin, in_axes=(eqx.if_array(0) if axis == 0 else None, eqx.if_array(0), 0))(learners, tasks, keys)


def _live_window(learners: AbstractLearner, window: Window, keys: Keys, unroll: int, axis: int | None):
    """Live `unroll` more ticks in every task; returns the lives and their scores, `(lives, unroll)`."""
    go = lambda learner, task, life, k: live(learner, task, life, k, steps=unroll)
    each = eqx.if_array(0)
    return eqx.filter_vmap(go, in_axes=(each if axis == 0 else None, each, each, 0))(learners, window.tasks, window.lives, keys)


def _where(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """Choose whole entries along the first axis of two stacked trees."""
    choose = lambda a, b: jnp.where(condition.reshape((-1,) + (1,) * (a.ndim - 1)), a, b) if eqx.is_array(a) else a
    return jax.tree.map(choose, new, old)


def _require_window(unroll: int, horizon: int) -> None:
    if unroll < 1 or horizon % unroll:
        raise ValueError(f"horizon must be a multiple of unroll, not horizon={horizon} with unroll={unroll}")


def truncate(
    tasks: AbstractTaskDistribution,
    optimizer: optax.GradientTransformation,
    *,
    learner: Callable[[PRNGKeyArray], AbstractLearner],
    tasks_per_step: int,
    unroll: int,
    horizon: int,
) -> Program:
    """Truncated back-propagation: lives of `horizon` ticks, an outer step after every `unroll` of them.

    The loss is minus the mean score of the window; no gradient flows into earlier windows. Ended lives begin again in new tasks.
    Raises `ValueError` unless `unroll` divides `horizon`.
    """
    _require_window(unroll, horizon)

    def init(key: PRNGKeyArray) -> Window:
        learner_key, task_key, life_key = jr.split(key, 3)
        new = learner(learner_key)
        drawn = sample_tasks(tasks, task_key, "train", tasks_per_step)
        lives = _begin(new, drawn, jr.split(life_key, tasks_per_step), None)
        return Window((new, optimizer.init(eqx.filter(new, eqx.is_inexact_array))), lives, drawn)

    def update(window: Window, key: PRNGKeyArray) -> tuple[Window, Metrics]:
        task_key, life_key, live_key = (jr.split(k, tasks_per_step) for k in jr.split(key, 3))
        current, optimizer_state = window.slow
        ended = window.lives.tick >= horizon
        drawn = _where(ended, jax.vmap(lambda k: tasks.sample(k, "train"))(task_key), window.tasks)
        lives = jax.lax.stop_gradient(_where(ended, _begin(current, drawn, life_key, None), window.lives))

        def loss(current):
            after, scores = _live_window(current, Window(None, lives, drawn), live_key, unroll, None)
            return -jnp.mean(scores), (after, scores)

        (value, (after, scores)), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(current)
        slow = apply_gradient(optimizer, gradient, optimizer_state, current)
        return Window(slow, after, drawn), {"loss": value, "score": jnp.mean(scores)}

    return Program(init, update, lambda window: window.slow[0])


def evolve(
    tasks: AbstractTaskDistribution,
    strategy: Strategy,
    *,
    learner: Callable[[PRNGKeyArray], AbstractLearner],
    unroll: int,
    horizon: int,
) -> Program:
    """Improve slow weights by evolution strategies, without differentiating a lifetime.

    Each of the strategy's antithetic pairs lives in a task of its own, with the same randomness for both members; `unroll` ticks are
    lived per outer step. With `unroll == horizon` every outer step judges whole lives; with shorter windows use a persistent
    strategy, whose estimate stays unbiased for the whole life. Raises `ValueError` unless `unroll` divides `horizon`.
    """
    _require_window(unroll, horizon)

    def draw(key: PRNGKeyArray) -> AbstractTask:
        return _paired(sample_tasks(tasks, key, "train", strategy.pairs))

    def begin(members: AbstractLearner, drawn: AbstractTask, key: PRNGKeyArray) -> Life:
        return _begin(members, drawn, _paired_keys(key, strategy.pairs), 0)

    def init(key: PRNGKeyArray) -> Window:
        learner_key, task_key, life_key = jr.split(key, 3)
        new = learner(learner_key)
        mean, rest = eqx.partition(new, eqx.is_inexact_array)
        drawn, members = draw(task_key), jax.tree.map(lambda leaf: jnp.stack([leaf] * 2 * strategy.pairs), mean)
        return Window((new, strategy.init(mean)), begin(eqx.combine(members, rest), drawn, life_key), drawn)

    def update(window: Window, key: PRNGKeyArray) -> tuple[Window, Metrics]:
        task_key, life_key, live_key, ask_key = jr.split(key, 4)
        current, state = window.slow
        mean, rest = eqx.partition(current, eqx.is_inexact_array)
        ended = window.lives.tick >= horizon
        state, perturbed = strategy.ask(state, mean, ask_key, ended[: strategy.pairs])
        members = eqx.combine(perturbed, rest)
        drawn = _where(ended, draw(task_key), window.tasks)
        lives = _where(ended, begin(members, drawn, life_key), window.lives)
        after, scores = _live_window(members, Window(None, lives, drawn), _paired_keys(live_key, strategy.pairs), unroll, 0)
        state, mean = strategy.tell(state, mean, -jnp.mean(scores, axis=1))
        metrics = {"loss": -jnp.mean(scores), "score": jnp.mean(scores)}
        return Window((eqx.combine(mean, rest), state), after, drawn), metrics

    return Program(init, update, lambda window: window.slow[0])


def _paired(tree: PyTree) -> PyTree:
    """Repeat stacked entries, so that both members of antithetic pair `i` (entries `i` and `i + pairs`) get the same."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), tree)


def _paired_keys(key: PRNGKeyArray, pairs: int) -> Keys:
    return _paired(jr.split(key, pairs))
