"""The generalist's network: tokens and picture patches enter one residual stream, a causal transformer reads it, and tokens leave.

    x_t = sqrt(width) E[id_t] + P[place_t]                        for a token
    x_t = patch(pixels_t) + R[row_t] + C[column_t] + P[place_t]   for a picture patch, 16 x 16 pixels
    logits_t = features_t E^T                                      the embedding E is also the way out

Source: Reed et al. 2022, "A Generalist Agent", sections 2.1 and 2.2, appendix C. One residual block a patch: He et al. 2016, "Identity
Mappings in Deep Residual Networks"; the factor sqrt(width): Vaswani et al. 2017, "Attention Is All You Need", section 3.4.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import AbstractLearner
from quickstudy.generalist.tokens import ACTION_PLACE
from quickstudy.generalist.vocabulary import PATCH, POSITION_BINS, position_bins, scale_pixels
from quickstudy.nn.convolution import Convolution
from quickstudy.nn.transformer import Architecture, Cache, Transformer

_STRIDE = 4  # pixels: ours, a residual block at full resolution costs more than the transformer
_SIDE = PATCH // _STRIDE


class Seen(NamedTuple):
    """One token, or stacked ones, as the network sees them; without stacking, the shapes are those below.

    `id` is a token's number, or for patches any number from the vocabulary's size on, with `pixels` 0 to 255. `interval` holds the
    first and last of 128 bins of the patch's rows, then of its columns. `fresh` marks the first token of a sequence.
    """

    id: Int[Array, "*ticks"]
    place: Int[Array, "*ticks"]
    pixels: UInt8[Array, "*ticks 16 16 3"]
    interval: UInt8[Array, "*ticks 2 2"]
    fresh: Bool[Array, "*ticks"]


# How many marked ticks of a window there may be: one number, or increasing ones of which the least that suffices is taken. That saves
# time where windows are read one by one; side by side all would be, because XLA then takes every branch.
Bound = int | tuple[int, ...]


def of_least(count: Int[Array, ""], bound: Bound, make: Callable[[int], Array]) -> Array:
    """`make(size)` of the least size of a bound that is at least `count`, or of the largest.

    >>> float(of_least(jnp.int32(3), (2, 4, 8), jnp.float32)), float(of_least(jnp.int32(3), 8, jnp.float32))
    (4.0, 8.0)
    """
    sizes = bound if isinstance(bound, tuple) else (bound,)
    which = jnp.sum(count > jnp.array(sizes[:-1], jnp.int32))
    return jax.lax.switch(which, [functools.partial(make, size) for size in sizes])


class PatchEncoder(eqx.Module):
    """A picture patch as `width` features: a linear map of each 4 x 4 pixels, one pre-activation residual block, a linear map."""

    stem: eqx.nn.Linear
    norms: tuple[eqx.nn.GroupNorm, eqx.nn.GroupNorm]
    convolutions: tuple[Convolution, Convolution]
    out: eqx.nn.Linear

    def __init__(self, width: int, *, channels: int, key: PRNGKeyArray):
        stem_key, first_key, second_key, out_key = jr.split(key, 4)
        groups = min(32, channels // 2)  # 32 in Reed et al. 2022 (recalled); of fewer channels, pairs
        self.stem = eqx.nn.Linear(_STRIDE * _STRIDE * 3, channels, key=stem_key)
        self.norms = (eqx.nn.GroupNorm(groups, channels), eqx.nn.GroupNorm(groups, channels))
        self.convolutions = (Convolution(channels, channels, key=first_key), Convolution(channels, channels, key=second_key))
        self.out = eqx.nn.Linear(_SIDE * _SIDE * channels, width, key=out_key)

    def __call__(self, pixels: UInt8[Array, "16 16 3"]) -> Float[Array, " width"]:
        tiles = scale_pixels(pixels).reshape(_SIDE, _STRIDE, _SIDE, _STRIDE, 3).swapaxes(1, 2).reshape(_SIDE, _SIDE, -1)
        x = jax.vmap(jax.vmap(self.stem))(tiles)
        residual = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            channels_first = norm(jnp.moveaxis(residual, -1, 0))
            residual = convolution(jax.nn.gelu(jnp.moveaxis(channels_first, 0, -1)))
        return self.out(jnp.ravel(x + residual))


_OCTAVES = 6.0  # ours: from a wave of twice the range of numbers to one of 32 in 1,024 bins


def ordered_rows(bins: int, width: int, key: PRNGKeyArray) -> Float[Array, "bins width"]:
    """Embeddings of numbers from the lowest bin to the highest, near bins alike, of length about one: each feature is a wave.

    Ours; they are learned from there on as all others are. Begun at random, each of 1,024 bins has to be learned by itself, and what
    is a little more or less.

    >>> rows = ordered_rows(1024, 128, jr.key(0))
    >>> likeness = rows[500] @ rows.T
    >>> bool(likeness[501] > 0.9), bool(likeness[500 + 100] < 0.5)
    (True, True)
    """
    frequency_key, phase_key = jr.split(key)
    frequency = jnp.pi / 2 * jnp.exp2(jr.uniform(frequency_key, (width,), maxval=_OCTAVES))
    phase = jr.uniform(phase_key, (width,), maxval=2 * jnp.pi)
    place = jnp.linspace(-1.0, 1.0, bins)
    return (2 / width) ** 0.5 * jnp.sin(place[:, None] * frequency[None] + phase[None])


class Generalist(AbstractLearner):
    """Reads tokens and patches one by one, and answers with logits of the next token.

    Fast: the keys and values of the last `reach` tokens. In `unroll`, `patches` bounds how many of the ticks may be patches. The
    embeddings of the ids in `ordered` begin as those of numbers in their order, all others at random.

    >>> network = Generalist(10, Architecture(8, layers=1, heads=2), reach=4, channels=4, key=jr.key(0))
    >>> blank = Seen(jnp.int32(3), jnp.int32(0), jnp.zeros((16, 16, 3), jnp.uint8), jnp.zeros((2, 2), jnp.uint8), jnp.array(True))
    >>> network.respond(network.begin(blank, jr.key(0)), blank, jr.key(0)).shape
    (10,)
    """

    embedding: Float[Array, "tokens width"]
    places: Float[Array, "places width"]
    rows: Float[Array, "bins width"]
    columns: Float[Array, "bins width"]
    patches: PatchEncoder
    body: Transformer

    def __init__(
        self, tokens: int, architecture: Architecture, *, reach: int, channels: int, ordered: range = range(0), key: PRNGKeyArray
    ):
        embedding_key, places_key, rows_key, columns_key, patch_key, body_key = jr.split(key, 6)
        width = architecture.width
        embedding = jr.normal(embedding_key, (tokens, width)) / width**0.5
        begun = ordered_rows(len(ordered), width, jr.fold_in(embedding_key, 1))
        self.embedding = embedding.at[ordered.start : ordered.stop].set(begun)
        # 0.02: Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 4.1.
        self.places = 0.02 * jr.normal(places_key, (ACTION_PLACE + 1, width))
        self.rows, self.columns = (0.02 * jr.normal(k, (POSITION_BINS, width)) for k in (rows_key, columns_key))
        self.patches = PatchEncoder(width, channels=channels, key=patch_key)
        self.body = Transformer(architecture, reach=reach, key=body_key)

    def begin(self, view: Seen, key: PRNGKeyArray) -> Cache:
        return self.body.start()

    def respond(self, fast: Cache, view: Seen, key: PRNGKeyArray) -> Float[Array, " tokens"]:
        return self.logits(self.read(fast, view)[1])

    def observe(self, fast: Cache, view: Seen, response: Array, feedback: Array, key: PRNGKeyArray) -> Cache:
        # The same step as in `respond`: the compiler takes it once.
        return self.read(fast, view)[0]

    def read(self, memory: Cache, seen: Seen) -> tuple[Cache, Float[Array, " width"]]:
        """The memory after one more token, and its features. A fresh token begins with an empty memory."""
        # Nothing before a sequence's first position is ever read, so the memory need not be cleared.
        begun = memory._replace(position=jnp.where(seen.fresh, 0, memory.position))
        return self.body.step(begun, self.embed(jax.tree.map(lambda leaf: leaf[None], seen), patches=1)[0])

    def unroll(self, seen: Seen, *, patches: Bound, key: PRNGKeyArray | None = None, drop: float = 0.0) -> Float[Array, "ticks width"]:
        """The features after every one of stacked tokens. With a key, in training: each part of a block is left out at rate `drop`."""
        kept = None
        if key is not None:
            key, drop_key = jr.split(key)
            # Huang et al. 2016, "Deep Networks with Stochastic Depth"; divided by the rate, so that nothing changes on average.
            kept = jr.bernoulli(drop_key, 1 - drop, (self.body.architecture.layers, 2)).astype(jnp.float32) / (1 - drop)
        return self.body.unroll(None, self.embed(seen, patches=patches, key=key), jnp.cumsum(seen.fresh), kept)

    def embed(self, seen: Seen, *, patches: Bound, key: PRNGKeyArray | None = None) -> Float[Array, "ticks width"]:
        """What stacked tokens and patches, at most `patches` of them, add to the stream at its beginning."""
        tokens, width = self.embedding.shape
        is_patch = seen.id >= tokens
        xs = width**0.5 * self.embedding[jnp.where(is_patch, 0, seen.id)]

        def with_pictures(most: int) -> Float[Array, "ticks width"]:
            where = jnp.nonzero(is_patch, size=most, fill_value=seen.id.shape[0])[0]
            pictures = jax.vmap(self.patches)(seen.pixels[where]) + self.whereabouts(seen.interval[where], key)
            return xs.at[where].set(pictures, mode="drop")

        # Made again for the gradient: XLA would keep room for what each of the sizes computes on the way.
        again = jax.checkpoint(with_pictures, static_argnums=0)
        return of_least(jnp.sum(is_patch), patches, again) + self.places[seen.place]

    def logits(self, features: Float[Array, "*ticks width"]) -> Float[Array, "*ticks tokens"]:
        """The logits of the token after each feature vector."""
        dtype = self.body.architecture.dtype
        return jnp.einsum("...w,tw->...t", features.astype(dtype), self.embedding.astype(dtype), preferred_element_type=jnp.float32)

    def whereabouts(self, interval: UInt8[Array, "patches 2 2"], key: PRNGKeyArray | None) -> Float[Array, "patches width"]:
        """Where patches lie: with a key a bin drawn from each interval, otherwise its rounded mean."""
        bins = position_bins(interval) if key is None else position_bins(interval, jr.uniform(key, interval.shape[:2]))
        return self.rows[bins[:, 0]] + self.columns[bins[:, 1]]
