"""Memories of a fixed size that are read all at once: linear attention, the delta rule and a selective state space.

    linear attention   S_t = S_(t-1) + v_t k_t^T,   z_t = z_(t-1) + k_t,   read = S_t q_t / z_t . q_t     (keys and queries positive)
    delta rule         S_t = S_(t-1) - beta_t (S_(t-1) k_t - v_t) k_t^T,   read = S_t q_t                 (keys of length one)
    state space        h_t = exp(d_t A) h_(t-1) + d_t B_t x_t,             read = C_t . h_t + D x_t       (d, B and C read from x)

The first adds up what it is shown; the second takes away first what it would have recalled; the third chooses how fast it forgets.

Source: Katharopoulos et al. 2020, "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention"; Schlag et al. 2021,
"Linear Transformers Are Secretly Fast Weight Programmers", and for the parallel form Yang et al. 2024, "Parallelizing Linear
Transformers with the Delta Rule over Sequence Length"; Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State
Spaces".
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.nn.memory import AbstractMemory

_SMALLEST = 1e-6  # ours: of a length or a sum of weights that divides


class Totals(NamedTuple):
    """What linear attention was shown: the sum of values by keys, and that of keys."""

    values: Float[Array, "heads size size"]
    keys: Float[Array, "heads size"]


class LinearAttention(AbstractMemory):
    """`heads` heads of linear attention, with exponential linear units plus one as features, mixed into `width` features.

    Raises `ValueError` for sizes below one.

    >>> attention = LinearAttention(8, heads=2, size=4, key=jr.key(0))
    >>> attention.unroll(attention.start(), jnp.ones((7, 8))).shape
    (7, 8)
    """

    reading: Float[Array, "3 heads width size"]
    mixing: Float[Array, "heads size width"]

    def __init__(self, width: int, *, heads: int, size: int, key: PRNGKeyArray):
        _positive(width=width, heads=heads, size=size)
        self.reading, self.mixing = _heads(width, heads, size, key)

    def start(self) -> Totals:
        heads, size, _ = self.mixing.shape
        return Totals(jnp.zeros((heads, size, size)), jnp.zeros((heads, size)))

    def step(self, memory: Totals, x: Float[Array, " width"]) -> tuple[Totals, Float[Array, " width"]]:
        query, key, value = self._project(x[None])[:, 0]
        after = Totals(memory.values + value[:, :, None] * key[:, None], memory.keys + key)
        read = jnp.einsum("hvs,hs->hv", after.values, query) / jnp.sum(after.keys * query, axis=1, keepdims=True)
        return after, jnp.einsum("hs,hsw->w", read, self.mixing)

    def unroll(self, memory: Totals, xs: Float[Array, "ticks width"]) -> Float[Array, "ticks width"]:
        query, keys, values = self._project(xs)
        scores = jnp.tril(jnp.einsum("ths,phs->htp", query, keys))
        total = jnp.sum(scores, axis=2) + jnp.einsum("ths,hs->ht", query, memory.keys)
        read = jnp.einsum("htp,phv->htv", scores, values) + jnp.einsum("ths,hvs->htv", query, memory.values)
        return jnp.einsum("htv,hvw->tw", read / total[:, :, None], self.mixing)

    def _project(self, xs: Float[Array, "ticks width"]) -> Float[Array, "3 ticks heads size"]:
        query, key, value = jnp.einsum("tw,phws->pths", xs, self.reading)
        positive = lambda x: jax.nn.elu(x) + 1.0 + _SMALLEST  # a sum of zeros would divide
        return jnp.stack([positive(query), positive(key), value])


def correct(
    memory: Float[Array, "values keys"], key: Float[Array, " keys"], value: Float[Array, " values"], rate: Float[Array, ""]
) -> Float[Array, "values keys"]:
    """The memory (values, keys) after one step of the delta rule, a gradient step on |S k - v|^2 / 2 with learning rate `rate`.

    >>> correct(jnp.zeros((1, 2)), jnp.array([0.0, 1.0]), jnp.array([3.0]), jnp.array(1.0)).tolist()
    [[0.0, 3.0]]
    """
    return memory + rate * jnp.outer(value - memory @ key, key)


def correct_all(
    memory: Float[Array, "values keys"],
    queries: Float[Array, "ticks keys"],
    keys: Float[Array, "ticks keys"],
    values: Float[Array, "ticks values"],
    rates: Float[Array, " ticks"],
) -> Float[Array, "ticks values"]:
    """What each query reads after its tick's step of the delta rule (ticks, values), all at once.

    The corrections u_t = beta_t (v_t - S_(t-1) k_t) solve a triangular system, as S_(t-1) is S_0 plus the sum of u_j k_j^T over j < t.

    >>> one = jnp.ones((1, 1))
    >>> correct_all(0 * one, one, one, 3 * one, jnp.ones(1)).tolist()
    [[3.0]]
    """
    system = jnp.eye(keys.shape[0]) + rates[:, None] * jnp.tril(keys @ keys.T, -1)
    wanted = rates[:, None] * (values - keys @ memory.T)
    corrections = jax.scipy.linalg.solve_triangular(system, wanted, lower=True, unit_diagonal=True)
    return queries @ memory.T + jnp.tril(queries @ keys.T) @ corrections


class DeltaRule(AbstractMemory):
    """`heads` memories written by the delta rule at a learned rate for each tick, mixed into `width` features.

    Keys and queries are sigmoid linear units of length one (Yang et al. 2024). `unroll` takes memory that grows with the
    square of the ticks.

    Raises `ValueError` for sizes below one.

    >>> rule = DeltaRule(8, heads=2, size=4, key=jr.key(0))
    >>> rule.unroll(rule.start(), jnp.ones((7, 8))).shape
    (7, 8)
    """

    reading: Float[Array, "3 heads width size"]
    mixing: Float[Array, "heads size width"]
    rating: Float[Array, "width heads"]

    def __init__(self, width: int, *, heads: int, size: int, key: PRNGKeyArray):
        _positive(width=width, heads=heads, size=size)
        heads_key, rating_key = jr.split(key)
        self.reading, self.mixing = _heads(width, heads, size, heads_key)
        self.rating = jr.normal(rating_key, (width, heads)) / width**0.5

    def start(self) -> Float[Array, "heads size size"]:
        heads, size, _ = self.mixing.shape
        return jnp.zeros((heads, size, size))

    def step(
        self, memory: Float[Array, "heads size size"], x: Float[Array, " width"]
    ) -> tuple[Float[Array, "heads size size"], Float[Array, " width"]]:
        query, key, value, rate = (part[0] for part in self._project(x[None]))
        after = jax.vmap(correct)(memory, key, value, rate)
        return after, jnp.einsum("hvk,hk,hvw->w", after, query, self.mixing)

    def unroll(self, memory: Float[Array, "heads size size"], xs: Float[Array, "ticks width"]) -> Float[Array, "ticks width"]:
        read = jax.vmap(correct_all, in_axes=(0, 1, 1, 1, 1))(memory, *self._project(xs))
        return jnp.einsum("htv,hvw->tw", read, self.mixing)

    def _project(self, xs: Float[Array, "ticks width"]) -> tuple[Array, Array, Array, Array]:
        query, key, value = jnp.einsum("tw,phws->pths", xs, self.reading)
        # The root of a sum that is never zero: a length's derivative at zero is NaN.
        unit = lambda x: x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + _SMALLEST**2)
        return unit(jax.nn.silu(query)), unit(jax.nn.silu(key)), value, jax.nn.sigmoid(xs @ self.rating)


class SelectiveStateSpace(AbstractMemory):
    """A diagonal linear system for each of `width` features, whose step size, input and output are chosen by what it reads.

    Raises `ValueError` for sizes below one.

    >>> layer = SelectiveStateSpace(8, key=jr.key(0))
    >>> layer.unroll(layer.start(), jnp.ones((7, 8))).shape
    (7, 8)
    """

    decay: Float[Array, "width states"]
    bias: Float[Array, " width"]
    narrowing: Float[Array, "width rank"]
    widening: Float[Array, "rank width"]
    entering: Float[Array, "width states"]
    leaving: Float[Array, "width states"]
    through: Float[Array, " width"]

    # 16 states: the default of Gu and Dao's code.
    def __init__(self, width: int, *, states: int = 16, key: PRNGKeyArray):
        _positive(width=width, states=states)
        bias_key, narrow_key, wide_key, in_key, out_key = jr.split(key, 5)
        normal = lambda key, shape: jr.normal(key, shape) / shape[0] ** 0.5
        rank = math.ceil(width / 16)  # of what chooses the step sizes: the default of their code
        # A = -1, -2, ... and step sizes at birth spread evenly in logarithm from 0.001 to 0.1: Gu and Dao 2023, section 3.6.
        self.decay = jnp.broadcast_to(jnp.log(jnp.arange(1.0, states + 1))[None], (width, states))
        steps = jnp.exp(jr.uniform(bias_key, (width,), minval=math.log(0.001), maxval=math.log(0.1)))
        self.bias = jnp.log(jnp.expm1(steps))
        self.narrowing, self.widening = normal(narrow_key, (width, rank)), normal(wide_key, (rank, width))
        self.entering, self.leaving = normal(in_key, (width, states)), normal(out_key, (width, states))
        self.through = jnp.ones(width)

    def start(self) -> Float[Array, "width states"]:
        return jnp.zeros(self.decay.shape)

    def step(
        self, memory: Float[Array, "width states"], x: Float[Array, " width"]
    ) -> tuple[Float[Array, "width states"], Float[Array, " width"]]:
        kept, entered = self._discrete(x[None])
        after = kept[0] * memory + entered[0]
        return after, self._leave(after[None], x[None])[0]

    def unroll(self, memory: Float[Array, "width states"], xs: Float[Array, "ticks width"]) -> Float[Array, "ticks width"]:
        kept, entered = self._discrete(xs)
        entered = entered.at[0].add(kept[0] * memory)
        then = lambda first, second: (first[0] * second[0], second[0] * first[1] + second[1])
        return self._leave(jax.lax.associative_scan(then, (kept, entered))[1], xs)

    def _discrete(self, xs: Float[Array, "ticks width"]) -> tuple[Float[Array, "ticks width states"], Array]:
        """What each tick keeps of the state and adds to it, (ticks, width, states) both."""
        steps = jax.nn.softplus(xs @ self.narrowing @ self.widening + self.bias[None])
        kept = jnp.exp(-steps[:, :, None] * jnp.exp(self.decay)[None])
        return kept, (steps * xs)[:, :, None] * (xs @ self.entering)[:, None]

    def _leave(self, states: Float[Array, "ticks width states"], xs: Float[Array, "ticks width"]) -> Float[Array, "ticks width"]:
        return jnp.einsum("tws,ts->tw", states, xs @ self.leaving) + self.through[None] * xs


def _heads(width: int, heads: int, size: int, key: PRNGKeyArray) -> tuple[Array, Array]:
    reading_key, mixing_key = jr.split(key)
    reading = jr.normal(reading_key, (3, heads, width, size)) / width**0.5
    return reading, jr.normal(mixing_key, (heads, size, width)) / (heads * size) ** 0.5


def _positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, not {size}")
