"""Glyphs: endless characters that nobody has written, drawn inside the compiled program.

A class is a short *pen movement*: two strokes of pieces, each an arc with a corner before it (turn, bend, length). The second stroke
crosses or touches the first, floats beside it, or is missing. A drawing is the movement carried out by an unsteady hand: turns, bends
and lengths vary, then slant, rotation, proportions, place, pen width, contrast and the camera's resolution.

The splits own disjoint ranges of class ids. "out-of-range" has the test classes drawn with warps stronger than any in training.

Ours, made so that what is learned on glyphs alone carries over to real handwriting; the movement as the identity of a character follows
Lake, Salakhutdinov and Tenenbaum 2015. While it was made we looked at pictures of scikit-learn's digits, at their margins and stroke
widths, and at the few-shot accuracy on them of a network trained on glyphs; nothing was fitted to digits or their labels.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.class_episodes import ClassCounts, class_episode, draw_classes, require_episode_shape
from quickstudy.tasks.episode import EpisodeTask

SIZE = 28
_FIRST, _SECOND = 4, 2  # pieces of the two strokes
_SAMPLES = 8  # points along each piece
_OUT_OF_RANGE = 2.5  # times the warps of training

# The resolutions a drawing may be seen at, in pixels per side.
_RESOLUTIONS = (28, 28, 14, 10, 8, 7)


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
    >>> Glyphs(way=3, shot=2).sample(jax.random.key(0), "test").support_x.shape
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
        for split in ClassCounts._fields:
            self.counts.ids(split, self.way)

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        class_key, drawing_key = jr.split(key)
        far = split == "out-of-range"
        classes = draw_classes(class_key, self.counts.ids("test" if far else split, self.way), self.way, self.shuffle_labels)
        keys = jr.split(drawing_key, (self.way, self.shot + self.query))
        images = jax.vmap(lambda c, k: self.draw(c, k, _OUT_OF_RANGE if far else 1.0))(classes, keys)
        return class_episode(images, classes, self.shot)

    def draw(self, glyph: Int[Array, ""], keys: PRNGKeyArray, warp: float = 1.0) -> Float[Array, "n 28 28"]:
        """Draw the class with id `glyph` once for each of the keys `(n,)`; `warp` scales slant, rotation and proportions."""
        movement = draw_movement(jr.fold_in(jr.key(self.seed), glyph))
        return jax.vmap(lambda k: draw_glyph(movement, k, warp))(keys)


def draw_movement(key: PRNGKeyArray) -> Movement:
    """Draw a class."""
    keys = iter(jr.split(key, 12))
    pieces = (_FIRST + _SECOND,)
    sign = jr.rademacher(next(keys), pieces, jnp.float32)
    corner = jr.bernoulli(next(keys), 0.4, pieces) * jr.uniform(next(keys), pieces, minval=-2.6, maxval=2.6)
    heading = jr.uniform(next(keys), pieces, minval=-jnp.pi, maxval=jnp.pi)
    begins = jnp.isin(jnp.arange(pieces[0]), jnp.array([0, _FIRST]))
    bend = jr.bernoulli(next(keys), 0.65, pieces) * sign * jr.uniform(next(keys), pieces, minval=0.6, maxval=4.5)
    # Some pieces all but vanish, so strokes have from one to four of them.
    length = jr.uniform(next(keys), pieces, minval=0.0, maxval=1.0) + 0.1
    apart = jr.bernoulli(next(keys), 0.35, (2,)) * jr.uniform(next(keys), (2,), minval=-0.6, maxval=0.6)
    return Movement(
        turn=jnp.where(begins, heading, corner),
        bend=bend,
        length=length,
        meets=jr.uniform(next(keys), (2,)),
        apart=apart,
        strokes=1 + jr.bernoulli(next(keys), 0.5).astype(jnp.int32),
        narrow=jr.uniform(next(keys), (), minval=0.45, maxval=1.1),
    )


def draw_glyph(movement: Movement, key: PRNGKeyArray, warp: float = 1.0) -> Float[Array, "28 28"]:
    """Carry out a movement once and see it as an image."""
    hand_key, warp_key, pen_key = jr.split(key, 3)
    points, weight = _carry_out(movement, hand_key)
    points = _place(points, weight > 0, movement.narrow, warp_key, warp)
    return _ink(points, weight, pen_key)


def _carry_out(movement: Movement, key: PRNGKeyArray) -> tuple[Float[Array, "points 2"], Float[Array, " points"]]:
    """The points that an unsteady hand passes, and 1 where there is a stroke, 0 where there is none."""
    angle, bend, length, rest = jr.normal(key, (4, _FIRST + _SECOND))
    turns = movement.turn + 0.15 * angle
    bends = movement.bend * (1 + 0.12 * bend) + 0.1 * bend
    lengths = movement.length * jnp.exp(0.15 * length)
    first = _trace(turns[:_FIRST], bends[:_FIRST], lengths[:_FIRST])
    second = _trace(turns[_FIRST:], bends[_FIRST:], lengths[_FIRST:])
    meets = jnp.clip(movement.meets + 0.04 * rest[:2], 0.0, 0.999)
    at = [stroke[(place * len(stroke)).astype(jnp.int32)] for stroke, place in zip((first, second), meets, strict=True)]
    second = second + at[0] - at[1] + movement.apart + 0.05 * rest[2:4]
    there = jnp.concatenate([jnp.ones(len(first)), jnp.full(len(second), movement.strokes == 2, jnp.float32)])
    return jnp.concatenate([first, second]), there


def _trace(turn: Array, bend: Array, length: Array) -> Float[Array, "points 2"]:
    """The points of a stroke from the origin: each piece first turns, then bends evenly along its length."""
    before = jnp.cumsum(turn) + jnp.cumsum(bend) - bend
    progress = (jnp.arange(_SAMPLES) + 0.5) / _SAMPLES
    heading = jnp.ravel(before[:, None] + bend[:, None] * progress)
    step = jnp.repeat(length / _SAMPLES, _SAMPLES)
    return jnp.cumsum(step[:, None] * jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1), axis=0)


def _place(points: Array, there: Bool[Array, " points"], narrow: Array, key: PRNGKeyArray, warp: float) -> Float[Array, "points 2"]:
    """Warp the points and fit them into the image: pixel coordinates, first across, then down."""
    rotation, slant, wide, room, *shift = jr.uniform(key, (6,), minval=-1.0, maxval=1.0)
    rotation, slant, wide = 0.2 * warp * rotation, 0.25 * warp * slant, jnp.exp(0.2 * warp * wide)
    turned = jnp.stack([jnp.cos(rotation), -jnp.sin(rotation), jnp.sin(rotation), jnp.cos(rotation)]).reshape(2, 2)
    slanted = jnp.stack([narrow * wide, slant, 0.0 * slant, 1.0 + 0.0 * slant]).reshape(2, 2)
    points = points @ (turned @ slanted).T
    low = jnp.min(points, axis=0, where=there[:, None], initial=jnp.inf)
    high = jnp.max(points, axis=0, where=there[:, None], initial=-jnp.inf)
    # The longer side fills from 60 to 90 % of the image (digits are cut out tightly, drawn characters are not).
    side = SIZE * (0.75 + 0.15 * room)
    centred = (points - (low + high) / 2) * side / jnp.maximum(jnp.max(high - low), 1e-3)
    return centred + (SIZE - 1) / 2 + 1.0 * jnp.stack(shift)


def _ink(points: Array, there: Array, key: PRNGKeyArray) -> Float[Array, "28 28"]:
    """Draw the points with a round pen.

    A point leaves a Gaussian spot, weighted by the way to it, so that a straight line is 1 along its middle; the darkness is then
    stretched about one half. A Gaussian is a product of one across and one down, so all spots together are one matrix product.
    """
    width, sharp, dark, camera = jr.split(key, 4)
    spread = jnp.exp(jr.uniform(width, (), minval=jnp.log(0.7), maxval=jnp.log(2.2)))
    way = jnp.linalg.norm(jnp.diff(points, axis=0, prepend=points[:1]), axis=-1)
    starts = jnp.arange(len(points)) % (_FIRST * _SAMPLES) == 0
    weight = there * jnp.where(starts, 0.0, way) / (spread * jnp.sqrt(2 * jnp.pi))
    spots = jnp.exp(-0.5 * jnp.square((jnp.arange(SIZE) - points[..., None]) / spread))
    darkness = jnp.einsum("p,pd,pa->da", weight, spots[:, 1], spots[:, 0])
    contrast = jr.uniform(sharp, (), minval=1.0, maxval=4.0)
    ink = jnp.clip(0.5 + contrast * (darkness - 0.5) , 0.0, 1.0)
    lens = jr.choice(camera, jnp.asarray(_LENSES))
    return jr.uniform(dark, (), minval=0.8, maxval=1.0) * (lens @ ink @ lens.T)


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
