"""Attention with grouped heads, positions that turn, and attention to the recent past as a memory.

    read_t = sum over allowed j of softmax_j(q_t . k_j / sqrt(size) + bias_tj) v_j

`attend` is that equation and the only place where it is computed. `CausalAttention` reads the last `reach` ticks, with a bias learned
for each distance: an agent reads one tick at a time, and training reads a whole life at once.

Source: Vaswani et al. 2017, "Attention Is All You Need"; grouped heads: Ainslie et al. 2023, "GQA: Training Generalized Multi-Query
Transformer Models from Multi-Head Checkpoints"; the learned bias by distance: Raffel et al. 2020, "Exploring the Limits of Transfer
Learning with a Unified Text-to-Text Transformer", section 2.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.nn.memory import AbstractMemory

NEVER = -1e9  # a score whose softmax is exactly zero in single precision, and whose gradient is no NaN


def attend(
    query: Float[Array, "ticks heads size"],
    keys: Float[Array, "past groups size"],
    values: Float[Array, "past groups size"],
    allowed: Bool[Array, "ticks past"],
    bias: Float[Array, "heads ticks past"] | None = None,
) -> Float[Array, "ticks heads size"]:
    """What each query reads where it is allowed to, in float32; one that is allowed nothing reads zero.

    Consecutive heads share a group of keys and values. Products take the arrays' own types and add up in float32, as the softmax does.

    Raises `ValueError` unless there are a multiple of `groups` heads.

    >>> one = jnp.ones((1, 2, 4))
    >>> attend(one, one[:, :1], 3 * one[:, :1], jnp.array([[True]])).tolist()
    [[[3.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 3.0]]]
    """
    (ticks, heads, size), (past, groups, _) = query.shape, keys.shape
    if heads % groups:
        raise ValueError(f"heads must be a multiple of groups, not {heads} with groups={groups}")
    # The heads of a group are more queries of one head: plain matrix products, on a CPU twice as fast as five-axis ones.
    asked = heads // groups * ticks
    grouped = query.transpose(1, 0, 2).reshape(groups, asked, size)
    product = lambda equation, x, y: jnp.einsum(equation, x, y.swapaxes(0, 1), preferred_element_type=jnp.float32)
    scores = product("gns,gps->gnp", grouped, keys).reshape(heads, ticks, past) / size**0.5
    if bias is not None:
        scores = scores + bias
    scores = jnp.where(allowed[None], scores, NEVER)
    # The softmax is divided by its sum after reading: on a CPU a gradient of a transformer takes a twentieth less time.
    weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, initial=NEVER)))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    read = product("gnp,gps->gns", weights.astype(values.dtype).reshape(groups, asked, past), values)
    read = read.reshape(heads, ticks, size) / total
    return jnp.where(jnp.any(allowed, axis=1)[:, None, None], read.transpose(1, 0, 2), 0.0)


def rotate(
    x: Float[Array, "ticks heads size"], positions: Int[Array, " ticks"], base: float = 10_000.0
) -> Float[Array, "ticks heads size"]:
    """Queries or keys turned by angles that grow with their positions, so that their products depend on distances alone.

    Feature i and feature i + size / 2 are a plane, turned by position * base ** (-2 i / size); the source pairs neighbours instead,
    which is another order of the same features. `base` is the source's.

    Raises `ValueError` if the size is odd. Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding",
    section 3.2.2.

    >>> rotate(jnp.ones((1, 1, 2)), jnp.array([0])).tolist()
    [[[1.0, 1.0]]]
    """
    size = x.shape[-1]
    if size % 2:
        raise ValueError(f"size must be even to be rotated, not {size}")
    angles = positions[:, None, None].astype(x.dtype) * base ** (-jnp.arange(0, size, 2, dtype=x.dtype) / size)[None, None]
    first, second = jnp.split(x, 2, axis=-1)
    cosine, sine = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


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
        bias = self.bias[:, jnp.clip(distance, 0, self.bias.shape[1] - 1)]
        return jnp.einsum("ths,hsw->tw", attend(query, keys, values, known, bias), self.mixing)
