"""Matching networks: answer a query with the labels of the support examples it attends to.

Slow: the embedding network (and, with full context, an LSTM that reads the support set). Fast: the embedded support set with its labels.
One outer step: the cross-entropy of the queries' classes. Nothing is learned by gradient at test time.

    p(y | x) = sum over support of a(x, x_i) [y = y_i],      a = softmax over i of sharpness * cosine(f(x), g(x_i))

Source: Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra 2016, "Matching Networks for One Shot Learning".
Builds on: neighbourhood components analysis, attention. Led to: prototypical networks, active matching networks.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import predict
from quickstudy.algorithms.fewshot.protonet import episode_loss
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind, network
from quickstudy.outer import Program, descend
from quickstudy.tasks.episode import EpisodeView, episode_shapes


class Memory(NamedTuple):
    """The fast state: embedded support examples, of unit length, and their labels as one-hot rows."""

    keys: Float[Array, "support features"]
    labels: Float[Array, "support way"]


class MatchingNet(AbstractLearner):
    """An embedding whose cosine attention over the support set answers queries."""

    embedding: eqx.Module
    context: tuple[eqx.nn.LSTMCell, eqx.nn.LSTMCell] | None
    log_sharpness: Float[Array, ""]

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Memory:
        embedded = predict(self.embedding, view.support_x)
        if self.context is not None:
            embedded = embedded + read(self.context[0], embedded) + read(self.context[1], embedded[::-1])[::-1]
        return Memory(unit(embedded), jax.nn.one_hot(view.support_y, view.outputs))

    def respond(self, fast: Memory, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query way"]:
        similarity = unit(predict(self.embedding, view.query_x)) @ fast.keys.T
        attention = jax.nn.softmax(jnp.exp(self.log_sharpness) * similarity)
        return jnp.log(attention @ fast.labels + 1e-9)

    def observe(self, fast: Memory, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Memory:
        return fast


def unit(x: Float[Array, "n features"]) -> Float[Array, "n features"]:
    """Scale rows to unit length."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=1, keepdims=True) + 1e-12)


def read(cell: eqx.nn.LSTMCell, sequence: Float[Array, "n features"]) -> Float[Array, "n features"]:
    """Read a sequence with an LSTM as wide as its items and return the hidden state after each."""

    def tick(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        state = cell(x, state)
        return state, state[0]

    zeros = jnp.zeros(cell.hidden_size)
    return jax.lax.scan(tick, (zeros, zeros), sequence)[1]


@dataclasses.dataclass(frozen=True)
class Config:
    """Vinyals et al. 2016, section 4.1, unless it says otherwise."""

    network: Kind = "conv4"  # Vinyals et al. 2016
    width: int = 64  # Vinyals et al. 2016: 64 filters
    full_context: bool = False  # Vinyals et al. 2016: full context embeddings did not help on Omniglot
    sharpness: float = 10.0  # ours: a plain cosine cannot exceed 1, too flat a softmax; learned from here
    learning_rate: float = 0.001  # Snell et al. 2017's re-implementation: Adam, 1e-3
    halve_every: int = 2_000  # Snell et al. 2017, so that both methods train alike
    tasks_per_step: int = 1  # Snell et al. 2017


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MatchingNet:
    """A matching network with a fresh embedding."""
    embedding_key, *context_keys = jr.split(key, 3)
    shape = episode_shapes(tasks).query_x.shape[1:]
    embedding = network(config.network, shape, config.width, None, key=embedding_key)
    features = jax.eval_shape(embedding, jax.ShapeDtypeStruct(shape, jnp.float32)).shape[0]  # type: ignore[arg-type]
    forward, backward = (eqx.nn.LSTMCell(features, features, key=k) for k in context_keys)
    return MatchingNet(embedding, (forward, backward) if config.full_context else None, jnp.log(config.sharpness))


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train the embedding on episodes."""
    return descend(
        episode_loss,
        tasks,
        optax.adam(optax.exponential_decay(config.learning_rate, config.halve_every, 0.5, staircase=True)),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )
