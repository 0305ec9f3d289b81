"""What an agent remembers: one interface for networks that read a sequence tick by tick, or all of it at once.

`step` is how an agent lives, `unroll` how it is trained: it must give what `step` gives tick by tick, and a test says so for each.
"""

import abc
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.factorisations import orthogonal

Memory: TypeAlias = Any


class AbstractMemory(eqx.Module):
    """A network with a memory, for one sequence at a time."""

    @abc.abstractmethod
    def start(self) -> Memory:
        """The memory before anything was read."""

    @abc.abstractmethod
    def step(self, memory: Memory, x: Float[Array, " inputs"]) -> tuple[Memory, Float[Array, " outputs"]]:
        """Read one tick: the new memory and the features of this tick."""

    @abc.abstractmethod
    def unroll(self, memory: Memory, xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        """Read many ticks at once: the features of each."""


class NoMemory(AbstractMemory):
    """Features are the input itself: an agent that reacts to what it sees now."""

    def start(self) -> None:
        return None

    def step(self, memory: None, x: Float[Array, " inputs"]) -> tuple[None, Float[Array, " outputs"]]:
        return None, x

    def unroll(self, memory: None, xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        return xs


class GRU(AbstractMemory):
    """A gated recurrent unit whose input products are taken for all ticks at once.

    Source: Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation".

    >>> import jax
    >>> gru = GRU(3, 8, key=jax.random.key(0))
    >>> gru.unroll(gru.start(), jnp.ones((5, 3))).shape
    (5, 8)
    """

    reading: Float[Array, "inputs gates"]
    bias: Float[Array, " gates"]
    recurrence: Float[Array, "hidden gates"]
    candidate_bias: Float[Array, " hidden"]

    def __init__(self, inputs: int, hidden: int, *, key: PRNGKeyArray):
        reading_key, recurrence_key = jr.split(key)
        self.reading = jr.normal(reading_key, (inputs, 3 * hidden)) / inputs**0.5
        # Orthogonal blocks keep the memory's length over many ticks, where small random ones forget.
        self.recurrence = jnp.concatenate(orthogonal(recurrence_key, 3, hidden, hidden), axis=1)
        self.bias, self.candidate_bias = jnp.zeros(3 * hidden), jnp.zeros(hidden)

    def start(self) -> Float[Array, " hidden"]:
        return jnp.zeros(self.recurrence.shape[0])

    def step(self, memory: Float[Array, " hidden"], x: Float[Array, " inputs"]) -> tuple[Memory, Float[Array, " outputs"]]:
        after = self._turn(memory, x @ self.reading + self.bias)
        return after, after

    def unroll(self, memory: Float[Array, " hidden"], xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        def tick(memory, read):
            after = self._turn(memory, read)
            return after, after

        return jax.lax.scan(tick, memory, xs @ self.reading + self.bias[None])[1]

    def _turn(self, memory: Float[Array, " hidden"], read: Float[Array, " gates"]) -> Float[Array, " hidden"]:
        hidden = memory.shape[-1]
        recalled = memory @ self.recurrence
        reset, update = jnp.split(jax.nn.sigmoid(read[: 2 * hidden] + recalled[: 2 * hidden]), 2)
        candidate = jnp.tanh(read[2 * hidden :] + reset * (recalled[2 * hidden :] + self.candidate_bias))
        return candidate + update * (memory - candidate)


class Chain(AbstractMemory):
    """Memories one after another, each reading what the one before it gives."""

    links: tuple[AbstractMemory, ...]

    def start(self) -> tuple[Memory, ...]:
        return tuple(link.start() for link in self.links)

    def step(self, memory: tuple[Memory, ...], x: Float[Array, " inputs"]) -> tuple[Memory, Float[Array, " outputs"]]:
        after = []
        for link, part in zip(self.links, memory, strict=True):
            part, x = link.step(part, x)
            after.append(part)
        return tuple(after), x

    def unroll(self, memory: tuple[Memory, ...], xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        for link, part in zip(self.links, memory, strict=True):
            xs = link.unroll(part, xs)
        return xs


class EachTick(AbstractMemory):
    """A function of each tick alone, as a link of a chain."""

    function: eqx.Module

    def start(self) -> None:
        return None

    def step(self, memory: None, x: Float[Array, " inputs"]) -> tuple[None, Float[Array, " outputs"]]:
        return None, self.function(x)  # type: ignore[operator]

    def unroll(self, memory: None, xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        return jax.vmap(lambda x: self.function(x))(xs)  # type: ignore[operator]


class LSTM(AbstractMemory):
    """Long short-term memory, Equinox's cell.

    Source: Hochreiter and Schmidhuber 1997, "Long Short-Term Memory".

    >>> import jax
    >>> lstm = LSTM(eqx.nn.LSTMCell(3, 8, key=jax.random.key(0)))
    >>> lstm.unroll(lstm.start(), jnp.ones((5, 3))).shape
    (5, 8)
    """

    cell: eqx.nn.LSTMCell

    def start(self) -> tuple[Float[Array, " hidden"], Float[Array, " hidden"]]:
        return jnp.zeros(self.cell.hidden_size), jnp.zeros(self.cell.hidden_size)

    def step(self, memory: Memory, x: Float[Array, " inputs"]) -> tuple[Memory, Float[Array, " outputs"]]:
        after = self.cell(x, memory)
        return after, after[0]

    def unroll(self, memory: Memory, xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        return jax.lax.scan(lambda past, x: self.step(past, x), memory, xs)[1]


def sized_lstm(inputs: int, outputs: int, weights: int, *, key: PRNGKeyArray) -> tuple[LSTM, eqx.nn.Linear]:
    """An LSTM and a linear head on it, as wide as makes about so many `weights` in all: a rival of equal size.

    >>> lstm, head = sized_lstm(3, 2, 1_000, key=jax.random.key(0))
    >>> lstm.cell.hidden_size
    14
    """
    # A cell has four gates, each of which reads the input, the state and a constant.
    size = lambda width: 4 * width * (inputs + width + 1) + (width + 1) * outputs
    width = min(range(1, weights), key=lambda width: abs(size(width) - weights))
    cell_key, head_key = jr.split(key)
    return LSTM(eqx.nn.LSTMCell(inputs, width, key=cell_key)), eqx.nn.Linear(width, outputs, key=head_key)
