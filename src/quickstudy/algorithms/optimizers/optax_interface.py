"""Optax transformations as learners, and learners as Optax transformations.

A hand-designed optimiser lives in a task like any learner, so that learned ones are judged beside it; a learned optimiser trains any
model that Optax trains.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, Fast, Life, Split, live, sample_tasks
from quickstudy.tasks.objective import ObjectiveView, Parameters


class OptaxOptimizer(AbstractLearner):
    """A hand-designed optimiser; it has no slow weights, and its fast state is the transformation's.

    >>> import jax, optax
    >>> from quickstudy import lifetime
    >>> from quickstudy.tasks import Quadratics
    >>> task = Quadratics().sample(jax.random.key(0), "test")
    >>> life, curve = lifetime(OptaxOptimizer(optax.sgd(0.01)), task, jax.random.key(0), steps=100)
    >>> bool(curve[-1] > curve[0])
    True
    """

    transformation: optax.GradientTransformation

    def begin(self, view: ObjectiveView, key: PRNGKeyArray) -> optax.OptState:
        return self.transformation.init(view.parameters)

    def respond(self, fast: optax.OptState, view: ObjectiveView, key: PRNGKeyArray) -> Parameters:
        return self.update(fast, view)[0]

    def observe(
        self, fast: optax.OptState, view: ObjectiveView, response: Parameters, feedback: None, key: PRNGKeyArray
    ) -> optax.OptState:
        return self.update(fast, view)[1]

    def update(self, fast: optax.OptState, view: ObjectiveView) -> tuple[Parameters, optax.OptState]:
        """The transformation's own update and state."""
        # Optax mixes integer counts with floats, which strict promotion, where a caller has it on, would refuse.
        with jax.numpy_dtype_promotion("standard"):
            return self.transformation.update(view.gradient, fast, view.parameters)


class LearnedState(NamedTuple):
    """The state of a learned optimiser inside Optax: the fast state, and how many updates it gave."""

    fast: Fast
    tick: Int[Array, ""]


def as_optax(learner: AbstractLearner, key: PRNGKeyArray | None = None) -> optax.GradientTransformationExtraArgs:
    """A learned optimiser as an Optax transformation.

    `update(gradient, state, parameters, value=loss)` takes the loss too, for learners that look at it (it is zero if not given).
    `key` (None: a fixed one) feeds learners that draw random numbers. `update` raises `ValueError` without the parameters.

    >>> import jax, jax.numpy as jnp
    >>> from quickstudy.algorithms.optimizers import lstm_optimizer
    >>> from quickstudy.tasks import Quadratics
    >>> optimizer = as_optax(lstm_optimizer.learner(lstm_optimizer.Config(), Quadratics(), jax.random.key(0)))
    >>> parameters = {"weight": jnp.ones((2, 3)), "bias": jnp.zeros(3)}
    >>> updates, state = optimizer.update(parameters, optimizer.init(parameters), parameters)
    >>> updates["weight"].shape
    (2, 3)
    """
    begin_key, tick_key = jr.split(jr.key(0) if key is None else key)

    def init(parameters: Parameters) -> LearnedState:
        view = ObjectiveView(parameters, jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters))
        return LearnedState(learner.begin(view, begin_key), jnp.zeros((), jnp.int32))

    def update(
        gradient: Parameters,
        state: LearnedState,
        parameters: Parameters | None = None,
        *,
        value: Array | float = 0.0,
        **unused: object,
    ) -> tuple[Parameters, LearnedState]:
        if parameters is None:
            raise ValueError("parameters must be given to a learned optimiser's update, not None")
        view = ObjectiveView(parameters, jnp.asarray(value, jnp.float32), gradient)
        respond_key, observe_key = jr.split(jr.fold_in(tick_key, state.tick))
        response = learner.respond(state.fast, view, respond_key)
        return response, LearnedState(learner.observe(state.fast, view, response, None, observe_key), state.tick + 1)

    return optax.GradientTransformationExtraArgs(init, update)


class Suite(NamedTuple):
    """Stacked tasks, opened, and one key for each life: every optimiser meets the same functions, starting points and minibatches."""

    tasks: AbstractTask
    worlds: Parameters
    views: ObjectiveView
    keys: Key[Array, " n"]


@eqx.filter_jit
def draw_suite(tasks: AbstractTaskDistribution, split: Split, key: PRNGKeyArray, n: int) -> Suite:
    """Draw `n` tasks of a split to judge optimisers on."""
    task_key, reset_key, life_key = jr.split(key, 3)
    drawn = sample_tasks(tasks, task_key, split, n)
    worlds, views = jax.vmap(lambda task, k: task.reset(k))(drawn, jr.split(reset_key, n))
    return Suite(drawn, worlds, views, jr.split(life_key, n))


@eqx.filter_jit
def final_loss(learner: AbstractLearner, suite: Suite, steps: int) -> Float[Array, ""]:
    """The loss after `steps` ticks, averaged over the tasks of a suite."""

    def one(task, world, view, key):
        begin_key, live_key = jr.split(key)
        life = Life(world, view, learner.begin(view, begin_key), jnp.zeros((), jnp.int32))
        return -live(learner, task, life, live_key, steps=steps)[1][-1]

    return jnp.mean(jax.vmap(one)(*suite))


Family = Callable[[Float[Array, ""]], optax.GradientTransformation]
HAND_DESIGNED: dict[str, Family] = {"sgd": optax.sgd, "rmsprop": optax.rmsprop, "adam": optax.adam}
# Ours: from 1e-4 to 10, three to a decade, so that the best of the grid is within a factor of 1.5 of the best there is.
LEARNING_RATES = tuple(10.0 ** (i / 3) for i in range(-12, 4))


def tuned_losses(family: Family, valid: Suite, tests: tuple[Suite, ...], steps: int) -> tuple[float, ...]:
    """A hand-designed optimiser's final loss on each test suite, at the learning rate that is best on the validation suite.

    A rate at which any validation task diverges is never the best.
    """
    judge = eqx.filter_jit(lambda rate, suite: final_loss(OptaxOptimizer(family(rate)), suite, steps))
    rates = [jnp.asarray(rate, jnp.float32) for rate in LEARNING_RATES]
    best = min(rates, key=lambda rate: float(jnp.nan_to_num(judge(rate, valid), nan=jnp.inf)))
    return tuple(float(judge(best, test)) for test in tests)
