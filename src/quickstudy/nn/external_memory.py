"""Differentiable external memory: a matrix of slots that a controller reads by content and writes where it is used least.

    what is read    w_read = softmax over slots of sharpness * cosine(key, M),    read = w_read M
    usage           u_t = decay u_(t-1) + w_read_t + w_write_t,                   least used = 1 in the slots where u is lowest
    what is written w_write_t = gate w_read_(t-1) + (1 - gate) least used_(t-1),  M_t = M_(t-1), least used slots erased, + w_write key

The functions are the parts that other memories, such as a neural Turing machine's, are built of; `LeastUsedMemory` puts them together.

Source: addressing by content: Graves, Wayne and Danihelka 2014, "Neural Turing Machines", section 3.3.1; least recently used access:
Santoro et al. 2016, "One-shot Learning with Memory-Augmented Neural Networks", section 3.2.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.nn.memory import AbstractMemory, Memory

_SMALLEST = 1e-6  # ours: added to the squared length of a slot, which is zero before anything is written


def cosine_similarity(keys: Float[Array, "heads size"], contents: Float[Array, "slots size"]) -> Float[Array, "heads slots"]:
    """The cosine of the angle between each key and each slot, in [-1, 1]; an empty slot is like nothing: 0.

    >>> cosine_similarity(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])).round(3).tolist()
    [[1.0, 0.0, 0.0]]
    """
    unit = lambda x: x * jax.lax.rsqrt(jnp.sum(x * x, axis=1, keepdims=True) + _SMALLEST)
    return unit(keys) @ unit(contents).T


def address_by_content(
    keys: Float[Array, "heads size"], contents: Float[Array, "slots size"], sharpness: Float[Array, " heads"]
) -> Float[Array, "heads slots"]:
    """How much each head reads of each slot: a distribution over slots, the more certain the sharper."""
    return jax.nn.softmax(sharpness[:, None] * cosine_similarity(keys, contents), axis=1)


def least_used(usage: Float[Array, " slots"], count: int) -> Float[Array, "count slots"]:
    """The `count` least used slots, the least used first, each as a one-hot row; of equally used ones the first.

    >>> least_used(jnp.array([0.5, 0.0, 0.2]), 2).tolist()
    [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    return jax.nn.one_hot(jax.lax.top_k(-usage, count)[1], usage.size)


def write(
    contents: Float[Array, "slots size"], weights: Float[Array, "heads slots"], vectors: Float[Array, "heads size"]
) -> Float[Array, "slots size"]:
    """The contents after every head has added its vector to the slots, by its weights.

    >>> write(jnp.ones((2, 1)), jnp.array([[0.0, 0.5]]), jnp.array([[4.0]])).tolist()
    [[1.0], [3.0]]
    """
    return contents + weights.T @ vectors


class Slots(NamedTuple):
    """An external memory: what is in its slots, how much of each the heads read last, and how much each was used lately."""

    contents: Float[Array, "slots size"]
    read: Float[Array, "heads slots"]
    usage: Float[Array, " slots"]


class Asked(NamedTuple):
    """What a controller asks of its memory in one tick: each head's key, which is written and then looked for, how much of it is
    written where was read last, `gate` in [0, 1], and how sharply it reads."""

    keys: Float[Array, "heads size"]
    gate: Float[Array, " heads"]
    sharpness: Float[Array, " heads"]


def access(slots: Slots, asked: Asked, decay: float) -> tuple[Slots, Float[Array, "heads size"]]:
    """One tick of least recently used access: write, then read; the slots after it and what each head read.

    `decay` in [0, 1] is what remains of usage from tick to tick. The least used slots, as many as there are heads, are erased before
    they are written.
    """
    free = least_used(slots.usage, asked.gate.size)
    written = asked.gate[:, None] * slots.read + (1 - asked.gate)[:, None] * free
    kept = slots.contents * (1 - jnp.sum(free, axis=0))[:, None]
    contents = write(kept, written, asked.keys)
    read = address_by_content(asked.keys, contents, asked.sharpness)
    usage = decay * slots.usage + jnp.sum(read + written, axis=0)
    return Slots(contents, read, usage), read @ contents


class Remembering(NamedTuple):
    """The controller's own memory, the external one, and what was read from it last."""

    controller: Memory
    slots: Slots
    read: Float[Array, "heads size"]


class LeastUsedMemory(AbstractMemory):
    """A controller with an external memory; features are the controller's and, after them, what its heads read.

    The controller reads the input and what the heads read in the tick before. Raises `ValueError` for more heads than slots.

    >>> from quickstudy.nn.memory import LSTM
    >>> controller = LSTM(eqx.nn.LSTMCell(3 + 2 * 4, 8, key=jax.random.key(0)))
    >>> memory = LeastUsedMemory(controller, 8, slots=16, size=4, heads=2, key=jax.random.key(1))
    >>> memory.unroll(memory.start(), jnp.ones((5, 3))).shape
    (5, 16)
    """

    controller: AbstractMemory
    asking: eqx.nn.Linear
    log_sharpness: Float[Array, " heads"]
    slots: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    decay: float = eqx.field(static=True)

    def __init__(
        self,
        controller: AbstractMemory,
        features: int,
        *,
        slots: int,
        size: int,
        heads: int,
        decay: float = 0.95,  # ours: Santoro et al. 2016 do not give theirs
        sharpness: float = 5.0,  # ours: a plain cosine makes too flat a softmax; learned from here
        key: PRNGKeyArray,
    ):
        if heads > slots:
            raise ValueError(f"heads must be at most the {slots} slots, not {heads}")
        self.controller, self.slots, self.size, self.decay = controller, slots, size, decay
        self.asking = eqx.nn.Linear(features, heads * (size + 1), key=key)
        self.log_sharpness = jnp.full(heads, jnp.log(sharpness))

    def start(self) -> Remembering:
        heads = self.log_sharpness.size
        empty = Slots(jnp.zeros((self.slots, self.size)), jnp.zeros((heads, self.slots)), jnp.zeros(self.slots))
        return Remembering(self.controller.start(), empty, jnp.zeros((heads, self.size)))

    def step(self, memory: Remembering, x: Float[Array, " inputs"]) -> tuple[Remembering, Float[Array, " outputs"]]:
        controller, features = self.controller.step(memory.controller, jnp.concatenate([x, jnp.ravel(memory.read)]))
        slots, read = access(memory.slots, self._ask(features), self.decay)
        return Remembering(controller, slots, read), jnp.concatenate([features, jnp.ravel(read)])

    def unroll(self, memory: Remembering, xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        return jax.lax.scan(lambda past, x: self.step(past, x), memory, xs)[1]

    def _ask(self, features: Float[Array, " features"]) -> Asked:
        heads = self.log_sharpness.size
        keys, gate = jnp.split(self.asking(features), [heads * self.size])
        return Asked(jnp.tanh(keys).reshape(heads, self.size), jax.nn.sigmoid(gate), jnp.exp(self.log_sharpness))
