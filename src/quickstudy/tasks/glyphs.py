"""Glyphs: endless characters that nobody has written, drawn inside the compiled program.

A class is a short *pen movement*: two strokes of pieces, each an arc with a corner before it (turn, bend, length). The second stroke
crosses or touches the first, floats beside it, or is missing. A drawing is the movement carried out by an unsteady hand: turns, bends
and lengths vary, then slant, rotation, proportions, place, pen width, contrast and the camera's resolution.

The splits own disjoint ranges of class ids. "out-of-range" has the test classes drawn with warps stronger than any in training.

Ours, made so that what is learned on glyphs alone carries over to real handwriting; a character as a pen movement follows Lake,
Salakhutdinov and Tenenbaum 2015. What was looked at: pictures of scikit-learn's digits (for margins, pen width, blur and contrast),
and the one-shot accuracy on them of networks trained on glyphs, for ten variants of the numbers below. No network saw a digit or its
label in training, but that accuracy guided the choice of these numbers: the digits are not an untouched test of the generator.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.class_episodes import ClassCounts, class_episode, draw_classes, require_episode_shape
from quickstudy.tasks.episode import EpisodeTask

SIZE = 28
_FIRST, _SECOND = 4, 2  # pieces of the two strokes
_SAMPLES = 12  # points along each piece; with 8, long pieces look like beads
_OUT_OF_RANGE = 2.5  # times the warps of training

# The resolutions a drawing may be seen at, in pixels per side: mostly those of small scans (the digits' own is 8).
_RESOLUTIONS = (28, 10, 8, 8, 8, 8)


class Movement(NamedTuple):
    """What a class is. Angles in radians; lengths in units of their own, since a drawing is scaled to its box."""

    turn: Float[Array, " pieces"]
    bend: Float[Array, " pieces"]
    length: Float[Array, " pieces"]
    meets: Float[Array, "2"]  # where along the first and along the second stroke the two meet, in [0, 1]
    apart: Float[Array, "2"]  # how far the second stroke is then moved
    strokes: Int[Array, ""]  # 1 or 2
    narrow: Float[Array, ""]  # width over height of the plane it was moved in


class Glyphs(AbstractTaskDistribution):
    """Classification episodes over generated characters.

    Inputs `(way * shot, 28, 28)` and `(way * query, 28, 28)` in [0, 1], ink = 1; labels `(n,)`, `query` per class; latent: the class
    ids. Without `shuffle_labels` a class has the label `id % way` in every episode. `seed` chooses another universe of classes.
    Raises `ValueError` if a split has fewer than `way` classes.

    >>> import jax
    >>> jax.eval_shape(lambda key: Glyphs(way=3, shot=2).sample(key, "test"), jax.random.key(0)).support_x.shape
    (6, 28, 28)
    """

    way: int = eqx.field(static=True, default=5)  # convention: 5 and 20
    shot: int = eqx.field(static=True, default=1)  # convention: 1 and 5
    query: int = eqx.field(static=True, default=5)  # Snell et al. 2017
    shuffle_labels: bool = eqx.field(static=True, default=True)
    counts: ClassCounts = eqx.field(static=True, default=ClassCounts(4_000, 500, 500))  # ours: Omniglot's number with rotations
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self) -> None:
        require_episode_shape(self.way, self.shot, self.query)
        self.counts.require(self.way)

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        class_key, drawing_key = jr.split(key)
        far = split == "out-of-range"
        classes = draw_classes(class_key, self.counts.ids("test" if far else split, self.way), self.way, self.shuffle_labels)
        keys = jr.split(drawing_key, (self.way, self.shot + self.query))
        images = jax.vmap(lambda c, k: self.draw(c, k, _OUT_OF_RANGE if far else 1.0))(classes, keys)
        return class_episode(images, classes, self.shot)

    def draw(self, glyph: Int[Array, ""], keys: Key[Array, " n"], warp: float = 1.0) -> Float[Array, "n 28 28"]:
        """Draw the class with id `glyph` once for each of the keys `(n,)`; `warp` scales slant, rotation and proportions."""
        movement = draw_movement(jr.fold_in(jr.key(self.seed), glyph))
        return jax.vmap(lambda k: draw_glyph(movement, k, warp))(keys)


def draw_movement(key: PRNGKeyArray) -> Movement:
    """Draw a class."""
    pieces = _FIRST + _SECOND
    # One call for all numbers: each call of the generator costs compile time.
    turns, turn, bends, bend, length, heading, pair, other = jr.uniform(key, (8, pieces))
    corner = jnp.where(turns < 0.4, _between(turn, -2.6, 2.6), 0.0)
    begins = jnp.asarray(np.isin(np.arange(pieces), [0, _FIRST]))
    return Movement(
        turn=jnp.where(begins, _between(heading, -np.pi, np.pi), corner),
        bend=jnp.where(bends < 0.65, jnp.sign(bends - 0.325) * _between(bend, 0.6, 4.5), 0.0),
        length=_between(length, 0.25, 1.0),
        meets=pair[:2],
        apart=jnp.where(pair[2:4] < 0.35, _between(pair[4:], -0.6, 0.6), 0.0),
        strokes=1 + (other[0] < 0.5).astype(jnp.int32),
        narrow=_between(other[1], 0.5, 0.8),
    )


def draw_glyph(movement: Movement, key: PRNGKeyArray, warp: float = 1.0) -> Float[Array, "28 28"]:
    """Carry out a movement once and see it as an image."""
    hand_key, view_key, lens_key = jr.split(key, 3)
    points, there = _carry_out(movement, hand_key)
    view = jr.uniform(view_key, (9,))
    lens = jnp.asarray(_LENSES)[jr.randint(lens_key, (), 0, len(_LENSES))]
    points = _place(points, there > 0, movement.narrow, view[:6], warp)
    return lens @ _ink(points, there, view[6:]) @ lens.T


def _between(fraction: Array, low: float, high: float) -> Array:
    return low + (high - low) * fraction


def _carry_out(movement: Movement, key: PRNGKeyArray) -> tuple[Float[Array, "points 2"], Float[Array, " points"]]:
    """The points that an unsteady hand passes, and 1 where there is a stroke, 0 where there is none."""
    angle, bend, length, place = jr.normal(key, (4, _FIRST + _SECOND))
    turns = movement.turn + 0.08 * angle
    bends = movement.bend * (1 + 0.06 * bend) + 0.05 * bend
    lengths = movement.length * jnp.exp(0.12 * length)
    first = _trace(turns[:_FIRST], bends[:_FIRST], lengths[:_FIRST])
    second = _trace(turns[_FIRST:], bends[_FIRST:], lengths[_FIRST:])
    meets = jnp.clip(movement.meets + 0.04 * place[:2], 0.0, 0.999)
    at = [stroke[jnp.floor(m * len(stroke)).astype(jnp.int32)] for stroke, m in zip((first, second), meets, strict=True)]
    second = second + (at[0] - at[1] + movement.apart + 0.05 * place[2:4])[None]
    there = jnp.concatenate([jnp.ones(len(first)), jnp.full(len(second), movement.strokes == 2, jnp.float32)])
    return jnp.concatenate([first, second]), there


def _trace(turn: Array, bend: Array, length: Array) -> Float[Array, "points 2"]:
    """The points of a stroke from the origin: each piece first turns, then bends evenly along its length."""
    before = jnp.cumsum(turn) + jnp.cumsum(bend) - bend
    progress = (np.arange(_SAMPLES, dtype=np.float32)[None] + 0.5) / _SAMPLES
    heading = jnp.ravel(before[:, None] + bend[:, None] * progress)
    step = jnp.repeat(length / _SAMPLES, _SAMPLES)
    return jnp.cumsum(step[:, None] * jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1), axis=0)


def _place(
    points: Array, there: Bool[Array, " points"], narrow: Array, view: Float[Array, "6"], warp: float
) -> Float[Array, "points 2"]:
    """Warp the points and fit them into the image: pixel coordinates, first across, then down."""
    rotation, slant, wide, room, *shift = 2 * view - 1
    # Writing gives most characters a like width and height, whatever the movement: stretch most of the way to it.
    _, extent = _box(points, there)
    stretch = jnp.stack([narrow * jnp.exp(0.2 * warp * wide), jnp.ones(())]) * jnp.maximum(extent, 0.05) ** -0.8
    upright = points * stretch[None]
    angle = 0.12 * warp * rotation
    across = upright[:, 0] + 0.3 * warp * slant * upright[:, 1]
    turned = jnp.stack(
        [jnp.cos(angle) * across - jnp.sin(angle) * upright[:, 1], jnp.sin(angle) * across + jnp.cos(angle) * upright[:, 1]]
    )
    middle, extent = _box(turned.T, there)
    side = SIZE * (0.88 + 0.06 * room)
    return (turned.T - middle[None]) * side / jnp.max(extent) + (SIZE - 1) / 2 + 0.7 * jnp.stack(shift)[None]


def _box(points: Float[Array, "points 2"], there: Bool[Array, " points"]) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """The middle and the extent of the points that are there."""
    low = jnp.min(points, axis=0, where=there[:, None], initial=jnp.inf)
    high = jnp.max(points, axis=0, where=there[:, None], initial=-jnp.inf)
    return (low + high) / 2, high - low


def _ink(points: Float[Array, "points 2"], there: Float[Array, " points"], view: Float[Array, "3"]) -> Float[Array, "28 28"]:
    """Draw the points with a round pen.

    A point leaves a Gaussian spot, weighted by the way to it, so that a straight line is 1 along its middle; the darkness is then
    stretched about one half. A Gaussian is a product of one across and one down, so all spots together are one matrix product.
    """
    spread = jnp.exp(_between(view[0], np.log(1.1), np.log(1.7)))  # pixels
    way = jnp.linalg.norm(points - jnp.roll(points, 1, axis=0), axis=-1)
    starts = np.arange(len(points)) % (_FIRST * _SAMPLES) == 0
    weight = there * jnp.where(starts, 0.0, way) / (spread * np.sqrt(2 * np.pi))
    spots = jnp.exp(-0.5 * jnp.square((np.arange(SIZE, dtype=np.float32)[None, None] - points[..., None]) / spread))
    darkness = (weight[:, None] * spots[:, 1]).T @ spots[:, 0]
    contrast = _between(view[1], 1.0, 2.5)
    return _between(view[2], 0.85, 1.0) * jnp.clip(0.5 + contrast * (darkness - 0.5), 0.0, 1.0)


def _lens(resolution: int) -> Float[np.ndarray, "28 28"]:
    """What seeing at a low resolution does to a column of pixels: averaging areas, then interpolating between them."""
    place = (np.arange(SIZE) + 0.5) * resolution / SIZE - 0.5
    edges = np.arange(resolution + 1) * SIZE / resolution
    pixels = np.arange(SIZE)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    average = np.clip(overlap, 0, None) * resolution / SIZE
    near = np.clip(place, 0, resolution - 1)[:, None]
    interpolate = np.clip(1 - np.abs(near - np.arange(resolution)), 0, None)
    return (interpolate @ average).astype(np.float32)


_LENSES = np.stack([_lens(resolution) for resolution in _RESOLUTIONS])
