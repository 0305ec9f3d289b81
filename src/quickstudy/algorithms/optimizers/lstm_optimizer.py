"""LSTM."""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.outer import Program, evolve, truncate
from quickstudy.strategies.persistent_es import persistent_es
from quickstudy.tasks.objective import ObjectiveView, Parameters

Memory = tuple[Float[Array, "coordinates hidden"], Float[Array, "coordinates hidden"]]


def preprocess(gradient: Float[Array, " n"], p: float) -> Float[Array, "n 2"]:
    """A gradient's magnitude on a logarithmic scale, and its sign (Andrychowicz et al. 2016, appendix A).

    (log|g| / p, sign g) where |g| >= exp(-p), and (-1, exp(p) g) below: continuous, and of order one for every size of g.

    >>> preprocess(jnp.array([1.0, -1e-9]), 10.0).round(5).tolist()
    [[0.0, 1.0], [-1.0, -2.000000...e-05]]
    """
    size = jnp.abs(gradient)
    large = size >= jnp.exp(-p)
    # The inner where keeps log away from zero, whose infinite slope would poison the other branch.
    magnitude = jnp.where(large, jnp.log(jnp.where(large, size, 1.0)) / p, -1.0)
    return jnp.stack([magnitude, jnp.where(large, jnp.sign(gradient), jnp.exp(p) * gradient)], axis=-1)


class LSTMOptimizer(AbstractLearner):
    """LSTM layers shared by all coordinates, each with a memory of its own."""

    cells: tuple[eqx.nn.LSTMCell, ...]
    head: Float[Array, " hidden"]
    p: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def begin(self, view: ObjectiveView, key: PRNGKeyArray) -> tuple[Memory, ...]:
        flat, _ = ravel_pytree(view.parameters)
        zeros = jnp.zeros((flat.size, self.head.size), flat.dtype)
        return tuple((zeros, zeros) for _ in self.cells)

    def respond(self, fast: tuple[Memory, ...], view: ObjectiveView, key: PRNGKeyArray) -> Parameters:
        _, unravel = ravel_pytree(view.gradient)
        top, _ = self.advance(fast, view)[-1]
        return unravel(self.scale * top @ self.head)

    def observe(self, fast: tuple[Memory, ...], view: ObjectiveView, response: Parameters, feedback: None, key: PRNGKeyArray):
        return self.advance(fast, view)

    def advance(self, fast: tuple[Memory, ...], view: ObjectiveView) -> tuple[Memory, ...]:
        """Every coordinate's memory after it has seen its gradient."""
        gradient, _ = ravel_pytree(view.gradient)
        # The gradient is data: second derivatives of the objective are dropped, as in the paper.
        x, after = preprocess(jax.lax.stop_gradient(gradient), self.p), []
        for cell, memory in zip(self.cells, fast, strict=True):
            after.append(jax.vmap(cell)(x, memory))
            x = after[-1][0]
        return tuple(after)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings; `unroll` and `horizon` are ticks."""

    hidden: int = 20
    layers: int = 2
    p: float = 10.0
    scale: float = 0.1
    unroll: int = 20
    horizon: int = 100
    tasks_per_step: int = 16
    learning_rate: float = 3e-3
    estimator: Literal["backpropagation", "persistent-es"] = "backpropagation"
    pairs: int = 32
    deviation: float = 0.01


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> LSTMOptimizer:
    *keys, head_key = jr.split(key, config.layers + 1)
    inputs = [2] + [config.hidden] * (config.layers - 1)
    cells = tuple(eqx.nn.LSTMCell(i, config.hidden, key=k) for i, k in zip(inputs, keys, strict=True))
    return LSTMOptimizer(cells, jr.normal(head_key, (config.hidden,)) / config.hidden**0.5, config.p, config.scale)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    optimizer = optax.adam(config.learning_rate)
    new = lambda key: learner(config, tasks, key)  # noqa: E731
    window = {"learner": new, "unroll": config.unroll, "horizon": config.horizon}
    if config.estimator == "backpropagation":
        return truncate(tasks, optimizer, tasks_per_step=config.tasks_per_step, **window)
    return evolve(tasks, persistent_es(optimizer, pairs=config.pairs, deviation=config.deviation), **window)
