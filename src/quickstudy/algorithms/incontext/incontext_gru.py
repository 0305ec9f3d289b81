"""In-context learning with a recurrent network: it reads examples one by one, and its hidden state is what it has learned.

Slow: the recurrent weights. Fast: the hidden state, and nothing else changes inside a task. One outer step: read a batch of streams,
predict every target before it is shown, and descend the mean error back through time.

    h_t = GRU([x_t, y_t], h_(t-1)),      prediction of y_t = head([x_t, h_(t-1)])

Source: Hochreiter, Younger and Conwell 2001, "Learning to Learn Using Gradient Descent" (with an LSTM).
Builds on: recurrent networks as learning machines. Led to: memory-augmented networks, RL^2, in-context learning of transformers.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Program, truncate
from quickstudy.tasks.streams import StreamTask


class InContextGRU(AbstractLearner):
    """A gated recurrent network that observes examples and answers from its hidden state."""

    cell: eqx.nn.GRUCell
    head: MLP

    def begin(self, view: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " hidden"]:
        return jnp.zeros(self.cell.hidden_size)

    def respond(self, fast: Float[Array, " hidden"], view: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " outputs"]:
        return self.head(jnp.concatenate([view, fast]))

    def observe(self, fast: Array, view: Array, response: Array, feedback: Float[Array, " outputs"], key: PRNGKeyArray) -> Array:
        return self.cell(jnp.concatenate([view, feedback]), fast)


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours throughout: the setting of this project's feasibility probe, 0.20 test error after 20 examples."""

    width: int = 64  # ours: the probe
    learning_rate: float = 0.003  # ours: of 0.001, 0.003 and 0.01 the best after 2,000 steps on validation waves
    tasks_per_step: int = 64  # ours: the probe
    ticks: int = 20  # ours: the probe


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> InContextGRU:
    """A recurrent learner with fresh weights; raises `TypeError` unless the tasks are streams of vectors with float targets."""
    task = jax.eval_shape(lambda k: tasks.sample(k, "train"), key)
    if not isinstance(task, StreamTask) or task.x.ndim != 2 or task.y.ndim != 2:
        raise TypeError("incontext-gru reads streams of vectors with floating-point targets; wrap episodes in tasks.Stream")
    inputs, outputs = task.x.shape[1], task.y.shape[1]
    cell_key, head_key = jr.split(key)
    cell = eqx.nn.GRUCell(inputs + outputs, config.width, key=cell_key)
    return InContextGRU(cell, MLP((inputs + config.width, config.width, outputs), key=head_key))


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train by back-propagation through whole lives."""
    return truncate(
        tasks,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate)),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        unroll=config.ticks,
        horizon=config.ticks,
    )
