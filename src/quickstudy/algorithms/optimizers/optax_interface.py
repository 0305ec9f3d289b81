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
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Fast, Split, lifetime, sample_tasks
from quickstudy.tasks.objective import ObjectiveView, Parameters


class OptaxOptimizer(AbstractLearner):
    """A hand-designed optimiser; it has no slow weights, and its fast state is the transformation's.

    >>> import jax, optax
    >>> from quickstudy import lifetime
    >>> from quickstudy.tasks import Quadratics
    >>> task = Quadratics().sample(jax.random.key(0), "test")
    >>> life, curve = lifetime(OptaxOptimizer(optax.adam(0.1)), task, jax.random.key(0), steps=100)
    >>> bool(curve[-1] > curve[0])
    True
    """

    transformation: optax.GradientTransformation

    def begin(self, view: ObjectiveView, key: PRNGKeyArray) -> optax.OptState:
        return self.transformation.init(view.parameters)

    def respond(self, fast: optax.OptState, view: ObjectiveView, key: PRNGKeyArray) -> Parameters:
        return self.transformation.update(view.gradient, fast, view.parameters)[0]

    def observe(self, fast: optax.OptState, view: ObjectiveView, response: Parameters, feedback: None, key: PRNGKeyArray) -> optax.OptState:
        return self.transformation.update(view.gradient, fast, view.parameters)[1]


class LearnedState(NamedTuple):
    """The state of a learned optimiser inside Optax: the fast state, and how often it was updated."""

    fast: Fast
    count: Int[Array, ""]


def as_optax(learner: AbstractLearner, key: PRNGKeyArray | None = None) -> optax.GradientTransformationExtraArgs:
    """A learned optimiser as an Optax transformation.

    `update(gradient, state, parameters, value=loss)` takes the loss too, for learners that look at it (it is zero if not given);
    the parameters must be given. `key` (None: a fixed one) feeds learners that draw random numbers.
    Raises `ValueError` if the parameters are not given to `update`.

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

    def update(gradient: Parameters, state: LearnedState, parameters: Parameters | None = None, *, value: Array | float = 0.0, **unused: object):
        if parameters is None:
            raise ValueError("parameters must be given to a learned optimiser's update, not None")
        view = ObjectiveView(parameters, jnp.asarray(value), gradient)
        respond_key, observe_key = jr.split(jr.fold_in(tick_key, state.count))
        response = learner.respond(state.fast, view, respond_key)
        return response, LearnedState(learner.observe(state.fast, view, response, None, observe_key), state.count + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def final_losses(
    learner: AbstractLearner, tasks: AbstractTaskDistribution, split: Split, key: PRNGKeyArray, *, n_tasks: int, steps: int, average: int = 1
) -> Float[Array, " n_tasks"]:
    """The loss at the end of a life of `steps` ticks in each of `n_tasks` tasks, the mean of the last `average` ticks.

    With one key, every learner meets the same tasks, starting points and minibatches.
    """
    task_key, life_key = jr.split(key)
    drawn = sample_tasks(tasks, task_key, split, n_tasks)
    live = lambda task, k: -jnp.mean(lifetime(learner, task, k, steps=steps)[1][-average:])  # noqa: E731
    return jax.vmap(live)(drawn, jr.split(life_key, n_tasks))


# Half-decades would miss by up to a factor of 1.8; three rates per decade miss by at most 1.5.
LEARNING_RATES = tuple(10.0 ** (i / 3) for i in range(-12, 4))
HAND_DESIGNED: dict[str, Callable[[Array], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
}


def tune(
    family: Callable[[Array], optax.GradientTransformation], losses: Callable[[AbstractLearner], Float[Array, " n_tasks"]]
) -> tuple[float, float]:
    """The learning rate of `LEARNING_RATES` with the lowest mean loss, and that loss; rates that diverge are out.

    `losses(learner)` gives one loss per task, say `final_losses` on the validation split.
    """
    rates = jnp.asarray(LEARNING_RATES)
    means = eqx.filter_jit(lambda rates: jax.lax.map(lambda rate: jnp.mean(losses(OptaxOptimizer(family(rate)))), rates))(rates)
    means = jnp.where(jnp.isfinite(means), means, jnp.inf)
    best = int(jnp.argmin(means))
    return LEARNING_RATES[best], float(means[best])
