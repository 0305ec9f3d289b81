"""Attention to the recent past, as a memory: an agent reads one tick at a time, and training reads a whole life at once.

    read_t = sum over j of softmax_j(q_t . k_j / sqrt(size) + bias[t - j]) v_j,      j over the last `reach` ticks, t included

Source: Vaswani et al. 2017, "Attention Is All You Need"; the learned bias by distance: Raffel et al. 2020, "Exploring the Limits of
Transfer Learning with a Unified Text-to-Text Transformer", section 2.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.nn.memory import AbstractMemory

_NEVER = -1e9  # a score whose softmax is exactly zero in single precision, and whose gradient is no NaN


class Recent(NamedTuple):
    """The keys and values of the last ticks, the newest last, and how many of them there are."""

    keys: Float[Array, "reach heads size"]
    values: Float[Array, "reach heads size"]
    known: Int[Array, ""]


class CausalAttention(AbstractMemory):
    """`heads` heads that read the last `reach` ticks, and mix what they read into `width` features.

    >>> import jax
    >>> attention = CausalAttention(8, heads=2, size=4, reach=5, key=jax.random.key(0))
    >>> attention.unroll(attention.start(), jnp.ones((7, 8))).shape
    (7, 8)
    """

    reading: Float[Array, "3 heads width size"]
    mixing: Float[Array, "heads size width"]
    bias: Float[Array, "heads reach"]

    def __init__(self, width: int, *, heads: int, size: int, reach: int, key: PRNGKeyArray):
        reading_key, mixing_key = jr.split(key)
        self.reading = jr.normal(reading_key, (3, heads, width, size)) / width**0.5
        self.mixing = jr.normal(mixing_key, (heads, size, width)) / (heads * size) ** 0.5
        self.bias = jnp.zeros((heads, reach))

    def start(self) -> Recent:
        heads, reach = self.bias.shape
        empty = jnp.zeros((reach, heads, self.mixing.shape[1]))
        return Recent(empty, empty, jnp.zeros((), jnp.int32))

    def step(self, memory: Recent, x: Float[Array, " width"]) -> tuple[Recent, Float[Array, " width"]]:
        query, key, value = self._project(x[None])
        newer = lambda old, new: jnp.concatenate([old[1:], new])
        reach = self.bias.shape[1]
        after = Recent(newer(memory.keys, key), newer(memory.values, value), jnp.minimum(memory.known + 1, reach))
        known = jnp.arange(reach) >= reach - after.known
        return after, self._read(query, after.keys, after.values, jnp.arange(reach - 1, -1, -1)[None], known[None])[0]

    def unroll(self, memory: Recent, xs: Float[Array, "ticks width"]) -> Float[Array, "ticks width"]:
        query, keys, values = self._project(xs)
        reach, ticks = self.bias.shape[1], xs.shape[0]
        distance = reach + jnp.arange(ticks)[:, None] - jnp.arange(reach + ticks)[None]
        known = (jnp.arange(reach + ticks) >= reach - memory.known)[None] & (distance >= 0) & (distance < reach)
        both = lambda old, new: jnp.concatenate([old, new])
        return self._read(query, both(memory.keys, keys), both(memory.values, values), distance, known)

    def _project(self, xs: Float[Array, "ticks width"]) -> Float[Array, "3 ticks heads size"]:
        return jnp.einsum("tw,phws->pths", xs, self.reading)

    def _read(
        self,
        query: Float[Array, "ticks heads size"],
        keys: Float[Array, "past heads size"],
        values: Float[Array, "past heads size"],
        distance: Int[Array, "ticks past"],
        known: Bool[Array, "ticks past"],
    ) -> Float[Array, "ticks width"]:
        scores = jnp.einsum("ths,phs->htp", query, keys) / query.shape[-1] ** 0.5
        scores = scores + self.bias[:, jnp.clip(distance, 0, self.bias.shape[1] - 1)]
        weights = jax.nn.softmax(jnp.where(known[None], scores, _NEVER), axis=-1)
        return jnp.einsum("htp,phs,hsw->tw", weights, values, self.mixing)
