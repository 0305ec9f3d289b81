"""A causal transformer as a memory: training reads packed sequences at once, an agent reads tick by tick from a key-value cache.

Each of `layers` pre-norm blocks adds what its attention reads and what its feed-forward makes of that to the residual stream:

    x <- x + attention(norm(x)),      x <- x + feed_forward(norm(x)),      features = norm(x)

A tick sees the last `reach` ticks of its own sequence, itself included, in every block, whether it is read alone or with others.

Source: Vaswani et al. 2017, "Attention Is All You Need"; pre-norm blocks and small residual branches at birth: Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners", section 2.3; gated units: Shazeer 2020, "GLU Variants Improve Transformer".
"""

import dataclasses
from typing import Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.nn.attention import attend, rotate
from quickstudy.nn.memory import AbstractMemory

Positions: TypeAlias = Literal["rotary", "learned", "none"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The sizes of a stack of transformer blocks.

    `groups` is the number of key-value heads, `feed_forward` how many times `width` the hidden units are. Gated units (GEGLU) are two
    thirds as many, which makes as many weights. Weights are float32; `dtype` is what matrix products take and a cache keeps, while
    sums, norms, softmax and the residual stream are float32.

    Raises `ValueError` for sizes below one, heads that do not divide the width, groups that do not divide the heads, or another type.

    >>> Architecture(width=32, layers=2, heads=4, groups=2).size
    8
    """

    width: int
    layers: int
    heads: int
    groups: int | None = None  # None: one for each head, Vaswani et al. 2017; fewer: Ainslie et al. 2023
    feed_forward: int = 4  # Vaswani et al. 2017, section 3.3
    gated: bool = False  # Vaswani et al. 2017; True is the GEGLU of Shazeer 2020
    dtype: DTypeLike = jnp.float32  # ours: bfloat16 is faster on accelerators only

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "key_value_heads", "feed_forward"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name.replace('key_value_heads', 'groups')} must be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, not {self.width} with heads={self.heads}")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads must be a multiple of groups, not {self.heads} with groups={self.groups}")
        if jnp.dtype(self.dtype) not in (jnp.float32, jnp.bfloat16):
            raise ValueError(f"dtype must be float32 or bfloat16, not {jnp.dtype(self.dtype)}")

    @property
    def size(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    @property
    def key_value_heads(self) -> int:
        """How many heads of keys and values there are."""
        return self.heads if self.groups is None else self.groups

    @property
    def hidden(self) -> int:
        """Hidden units of the feed-forward part."""
        units = self.feed_forward * self.width
        return max(1, 2 * units // 3) if self.gated else units


class Block(eqx.Module):
    """One pre-norm block in two halves, between which a model decides what is attended to.

    >>> block = Block(Architecture(width=8, layers=1, heads=2), key=jr.key(0))
    >>> xs = jnp.ones((5, 8))
    >>> block.finish(xs, attend(*block.project(xs), jnp.ones((5, 5), bool))).shape
    (5, 8)
    """

    before_attention: eqx.nn.LayerNorm
    before_feed_forward: eqx.nn.LayerNorm
    asking: Float[Array, "width heads size"]
    offering: Float[Array, "2 width groups size"]
    mixing: Float[Array, "heads size width"]
    expanding: Float[Array, "gates width hidden"]
    contracting: Float[Array, "hidden width"]
    architecture: Architecture = eqx.field(static=True)

    def __init__(self, architecture: Architecture, *, key: PRNGKeyArray):
        width, heads, size, hidden = architecture.width, architecture.heads, architecture.size, architecture.hidden
        asking_key, offering_key, mixing_key, expanding_key, contracting_key = jr.split(key, 5)
        normal = lambda key, shape, inputs: jr.normal(key, shape) / inputs**0.5
        branches = 2 * architecture.layers  # that many add up in the residual stream, whose variance is to be one
        self.asking = normal(asking_key, (width, heads, size), width)
        self.offering = normal(offering_key, (2, width, architecture.key_value_heads, size), width)
        self.mixing = normal(mixing_key, (heads, size, width), width * branches)
        self.expanding = normal(expanding_key, (1 + architecture.gated, width, hidden), width)
        self.contracting = normal(contracting_key, (hidden, width), hidden * branches)
        self.before_attention, self.before_feed_forward = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.architecture = architecture

    def project(self, xs: Float[Array, "ticks width"]) -> tuple[Float[Array, "ticks heads size"], Array, Array]:
        """Queries, and keys and values (ticks, groups, size), all float32."""
        normed = jax.vmap(self.before_attention)(xs)
        # Side by side they are one plain product, which takes less time on a CPU.
        both = jnp.concatenate([weight.reshape(weight.shape[0], -1) for weight in self.offering], axis=1)
        shape = (xs.shape[0], *self.offering.shape[2:])
        keys, values = (part.reshape(shape) for part in jnp.split(self._product("tw,wk->tk", normed, both), 2, axis=1))
        return self._product("tw,whs->ths", normed, self.asking), keys, values

    def finish(
        self, xs: Float[Array, "ticks width"], read: Float[Array, "ticks heads size"], kept: Float[Array, " 2"] | None = None
    ) -> Float[Array, "ticks width"]:
        """The residual stream after what attention read, and the feed-forward part, are added, each times its number in `kept`."""
        attended, fed = (1.0, 1.0) if kept is None else (kept[0], kept[1])
        xs = xs + attended * self._product("ths,hsw->tw", read, self.mixing)
        both = jnp.concatenate(list(self.expanding), axis=1)
        units = jnp.split(self._product("tw,wh->th", jax.vmap(self.before_feed_forward)(xs), both), len(self.expanding), axis=1)
        # Without the barrier XLA computes the curve anew for each of its uses: on a CPU a block's gradient takes a quarter longer.
        curve = jax.lax.optimization_barrier(jax.nn.gelu(units[0]))
        active = curve * units[1] if self.architecture.gated else curve
        return xs + fed * self._product("th,hw->tw", active, self.contracting)

    def _product(self, equation: str, x: Float[Array, "..."], weight: Float[Array, "..."]) -> Float[Array, "..."]:
        dtype = self.architecture.dtype
        return jnp.einsum(equation, x.astype(dtype), weight.astype(dtype), preferred_element_type=jnp.float32)


def blocks(architecture: Architecture, key: PRNGKeyArray) -> Block:
    """All blocks of a stack as one, with a leading axis of layers on every array: one is compiled, and scanned over the layers."""
    return eqx.filter_vmap(lambda key: Block(architecture, key=key))(jr.split(key, architecture.layers))


class Cache(NamedTuple):
    """The keys and values of a sequence's last `reach` ticks, that of position p at p % reach, and how many ticks it has had.

    One array for each layer, in the order in which products take them: so a tick writes in place, and nothing is copied.
    """

    keys: tuple[Float[Array, "groups reach size"], ...]
    values: tuple[Float[Array, "groups reach size"], ...]
    position: Int[Array, ""]


class Context(NamedTuple):
    """Where each tick stands in its sequence, and in which sequence of a pack: 0 goes on with the memory."""

    positions: Int[Array, " ticks"]
    sequences: Int[Array, " ticks"]


class Transformer(AbstractMemory):
    """A causal transformer over the last `reach` ticks, from `width` features to `width` features.

    Positions count from the start of each sequence, without end. `rotary` turns queries and keys; `learned` adds a table of `reach`
    rows to the input, the last of which stands for all later positions; `none` leaves order to the causal mask.

    Raises `ValueError` for a reach below one, other positions, or rotary positions with heads of an odd size.

    >>> model = Transformer(Architecture(width=8, layers=2, heads=2), reach=16, key=jr.key(0))
    >>> memory, features = model.prefill(model.start(), jnp.ones((5, 8)))
    >>> memory, features = model.step(memory, jnp.ones(8))
    >>> int(memory.position), features.shape
    (6, (8,))
    """

    blocks: Block
    last: eqx.nn.LayerNorm
    table: Float[Array, "reach width"] | None
    architecture: Architecture = eqx.field(static=True)
    reach: int = eqx.field(static=True)
    positions: Positions = eqx.field(static=True)

    def __init__(self, architecture: Architecture, *, reach: int, positions: Positions = "rotary", key: PRNGKeyArray):
        if reach < 1:
            raise ValueError(f"reach must be at least 1, not {reach}")
        if positions not in ("rotary", "learned", "none"):
            raise ValueError(f"positions must be 'rotary', 'learned' or 'none', not {positions!r}")
        if positions == "rotary" and architecture.size % 2:
            raise ValueError(f"width / heads must be even for rotary positions, not {architecture.size}")
        blocks_key, table_key = jr.split(key)
        self.blocks = blocks(architecture, blocks_key)
        self.last = eqx.nn.LayerNorm(architecture.width)
        # 0.02: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 4.1.
        self.table = 0.02 * jr.normal(table_key, (reach, architecture.width)) if positions == "learned" else None
        self.architecture, self.reach, self.positions = architecture, reach, positions

    def start(self) -> Cache:
        sizes = self.architecture
        empty = (jnp.zeros((sizes.key_value_heads, self.reach, sizes.size), sizes.dtype),) * sizes.layers
        return Cache(empty, empty, jnp.zeros((), jnp.int32))

    def step(self, memory: Cache, x: Float[Array, " width"]) -> tuple[Cache, Float[Array, " width"]]:
        xs, position = self._placed(x[None], memory.position[None]), memory.position
        # A tick takes the place of the one that is just out of its reach: so it is written first, and all that is there is read.
        slot, slots = position % self.reach, jnp.arange(self.reach)
        allowed = (position - (position - slots) % self.reach >= 0)[None]
        all_keys, all_values = [], []
        for layer, past in enumerate(zip(memory.keys, memory.values, strict=True)):
            block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], self.blocks)
            query, *new = self._turned(block, xs, position[None])
            keys, values = (old.at[:, slot].set(one[0]) for old, one in zip(past, new, strict=True))
            xs = block.finish(xs, attend(query, keys.swapaxes(0, 1), values.swapaxes(0, 1), allowed))
            all_keys.append(keys)
            all_values.append(values)
        return Cache(tuple(all_keys), tuple(all_values), position + 1), self.last(xs[0])

    def unroll(
        self,
        memory: Cache | None,
        xs: Float[Array, "ticks width"],
        segments: Int[Array, " ticks"] | None = None,
        kept: Float[Array, "layers 2"] | None = None,
    ) -> Float[Array, "ticks width"]:
        """The features of many ticks (ticks, width) at once. Each change of the number in `segments` begins another sequence.

        The first sequence goes on with the memory. Without one (None) it starts here, and no time is spent on an empty cache. What the
        attention and the feed-forward part of each block add is multiplied by `kept`: zeros leave them out (stochastic depth).
        """
        return self._read(memory, xs, self._context(memory, segments, xs.shape[0]), kept)[0]

    def prefill(
        self, memory: Cache | None, xs: Float[Array, "ticks width"], segments: Int[Array, " ticks"] | None = None
    ) -> tuple[Cache, Float[Array, "ticks width"]]:
        """As `unroll`, with the memory after it, from which `step` goes on with the last sequence."""
        context = self._context(memory, segments, xs.shape[0])
        features, keys, values = self._read(memory, xs, context)
        old, after = self.start() if memory is None else memory, context.positions[-1] + 1
        # What lies before the last sequence's start is kept too, at positions below zero, where nothing reads it.
        kept = min(self.reach, xs.shape[0])
        slots = (after - kept + jnp.arange(kept)) % self.reach
        keep = lambda cached, new: cached.at[:, slots].set(new[-kept:].swapaxes(0, 1), unique_indices=True)
        each = lambda cached, new: tuple(keep(*both) for both in zip(cached, new, strict=True))
        return Cache(each(old.keys, keys), each(old.values, values), after), features

    def _context(self, memory: Cache | None, segments: Int[Array, " ticks"] | None, ticks: int) -> Context:
        index, begun = jnp.arange(ticks), 0 if memory is None else memory.position
        if segments is None:
            return Context(begun + index, jnp.zeros_like(index))
        begins = jnp.concatenate([jnp.zeros(1, bool), segments[1:] != segments[:-1]])
        sequences = jnp.cumsum(begins)
        return Context(index - jax.lax.cummax(jnp.where(begins, index, 0)) + jnp.where(sequences == 0, begun, 0), sequences)

    def _read(
        self, memory: Cache | None, xs: Float[Array, "ticks width"], context: Context, kept: Float[Array, "layers 2"] | None = None
    ) -> tuple[Array, Array, Array]:
        """Features (ticks, width), and keys and values (layers, ticks, groups, size)."""
        allowed = self._allowed(memory, context)
        xs = self._placed(xs, context.positions)

        def layer(xs, parts):
            block, past, parts_kept = parts
            query, keys, values = self._turned(block, xs, context.positions)
            seen_keys, seen_values = (keys, values) if past is None else map(_joined, past, (keys, values))
            return block.finish(xs, attend(query, seen_keys, seen_values, allowed), parts_kept), (keys, values)

        ticks_first = lambda cached: jnp.stack([one.swapaxes(0, 1) for one in cached])
        past = None if memory is None else (ticks_first(memory.keys), ticks_first(memory.values))
        # A few layers are written out: on a CPU, gradients are then a sixth faster, and compiled sooner.
        xs, (keys, values) = jax.lax.scan(layer, xs, (self.blocks, past, kept), unroll=min(self.architecture.layers, 8))
        return jax.vmap(self.last)(xs), keys, values

    def _placed(self, xs: Float[Array, "ticks width"], positions: Int[Array, " ticks"]) -> Float[Array, "ticks width"]:
        return xs if self.table is None else xs + self.table[jnp.minimum(positions, self.reach - 1)]

    def _turned(self, block: Block, xs: Float[Array, "ticks width"], positions: Int[Array, " ticks"]) -> tuple[Array, Array, Array]:
        """A block's queries, keys and values, as attention takes them."""
        query, keys, values = block.project(xs)
        if self.positions == "rotary":
            query, keys = rotate(query, positions), rotate(keys, positions)
        dtype = self.architecture.dtype
        return query.astype(dtype), keys.astype(dtype), values.astype(dtype)

    def _allowed(self, memory: Cache | None, context: Context) -> Bool[Array, "ticks past"]:
        past = context
        if memory is not None:
            newest = memory.position - 1
            cached = newest - (newest - jnp.arange(self.reach)) % self.reach
            past = Context(_joined(cached, context.positions), _joined(jnp.zeros_like(cached), context.sequences))
        distance = context.positions[:, None] - past.positions[None]
        same = context.sequences[:, None] == past.sequences[None]
        return same & (past.positions >= 0)[None] & (distance >= 0) & (distance < self.reach)


def _joined(old: Array, new: Array) -> Array:
    return jnp.concatenate([old, new])
