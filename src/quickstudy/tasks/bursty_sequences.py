"""Bursty sequences: images and their labels one after another, whose statistics decide whether to remember labels or to look them up.

A sequence is a context of labelled images and a query. A training class keeps its labels for ever: they can be learned into weights.
In a *bursty* sequence the query's class is in the context too, several times, and so is one other class: there the label can be read
off. A class outside training is lent a label by a training class, for one sequence: that label can only be read off.

Two probes tell both ways of knowing apart. "in-context": two classes with lent labels fill the context, half of it each; of two
labels a guess is right half the time. "in-weights": training classes with their own labels, all different, the query's class nowhere
in the context.

Splits: "train" shows training classes; "valid" and "test" show classes that are in no other split. The in-weights probe has to ask
about training classes: there the splits share classes, and "valid" and "test" show drawings of them that are in no other split.

Images are 14x14, for a small network on a CPU: glyphs are mostly seen at 8 pixels a side, so little is lost.

Source: Chan et al. 2022, "Data Distributional Properties Drive Emergent In-Context Learning in Transformers", section 2.
"""

import functools
import os
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, UInt8

from quickstudy.core import AbstractTaskDistribution, Number, Split
from quickstudy.tasks.class_episodes import ClassCounts, draw_distinct
from quickstudy.tasks.glyphs import draw_glyph, draw_movement
from quickstudy.tasks.omniglot_files import DRAWINGS, SIZE, find_folder, read_drawings
from quickstudy.tasks.streams import StreamTask

Probe = Literal["none", "in-context", "in-weights"]
_SEED = 0  # ours: of the universe of glyphs, and of the shuffle of Omniglot's characters


@functools.cache
def glyph_images(classes: int = 640, drawings: int = 30) -> UInt8[np.ndarray, "classes drawings 14 14"]:
    """Drawings of generated glyphs, grey levels 0 to 255, always the same ones; a few seconds on a CPU, once.

    >>> glyph_images(24, 10).shape
    (24, 10, 14, 14)
    """

    def draw(number: Int[Array, ""]) -> Array | np.ndarray:
        movement_key, hand_key = jr.key(_SEED), jr.key(_SEED + 1)
        return halved(draw_glyph(draw_movement(jr.fold_in(movement_key, number // drawings)), jr.fold_in(hand_key, number)))

    with jax.ensure_compile_time_eval():  # whoever asks first may be in the middle of being compiled
        # One after another: that compiles faster than a batch, and draws as fast.
        images = jax.jit(lambda numbers: jax.lax.map(draw, numbers))(jnp.arange(classes * drawings, dtype=jnp.int32))
        return np.asarray(jnp.round(255 * images)).astype(np.uint8).reshape(classes, drawings, *images.shape[1:])


def omniglot_images(folder: str | os.PathLike | None = None) -> UInt8[np.ndarray, "1623 20 14 14"]:
    """Omniglot's drawings in a fixed shuffle of its characters, grey levels 0 to 255; `FileNotFoundError` if there are none."""
    bits = read_drawings(find_folder(folder)).bits
    shuffled = bits[np.random.default_rng(_SEED).permutation(len(bits))]
    pixels = np.unpackbits(shuffled, axis=-1).reshape(len(bits), DRAWINGS, SIZE, SIZE)
    return np.asarray(np.round(255 * halved(pixels.astype(np.float32)))).astype(np.uint8)


def halved(images: Num[Array | np.ndarray, "*n side side"]) -> Float[Array | np.ndarray, "*n half half"]:
    """Images of half the side, by averages of two by two pixels.

    >>> halved(np.arange(4.0).reshape(2, 2)).tolist()
    [[1.5]]
    """
    *n, side, _ = images.shape
    return images.reshape(*n, side // 2, 2, side // 2, 2).mean(axis=(-3, -1))


class BurstySequences(AbstractTaskDistribution):
    """Streams of `context` labelled images and a query, the last tick; inputs `(context + 1, height, width)` in [0, 1], labels `(n,)`.

    `images` are bytes, the first `classes` of which are training classes, the commonest first; of the rest half are for "valid" and
    half for "test". `bursty` is the share of sequences in which the query's class and one other have `repeats` places each, and the
    other classes are all different; in the others all are drawn with replacement. A class of rank r is drawn with a probability
    proportional to `r ** -zipf`. A training class has `multiplicity` labels of its own, one of them in each sequence. Of each class
    `variation` drawings are shown (None: all but a fifth), without repetition in a sequence as far as they reach.
    Latent: "classes", the ids `(context + 1,)`, and "bursty", whether the query's class was put into the context.

    Raises `ValueError` for sizes that do not fit each other.

    >>> tasks = BurstySequences(glyph_images(24, 10), classes=12, context=6, repeats=2)
    >>> tasks.sample(jr.key(0), "test").x.shape
    (7, 14, 14)
    """

    images: UInt8[Array, "all drawings height width"] = eqx.field(converter=jnp.asarray, default_factory=glyph_images)
    classes: int = eqx.field(static=True, default=512)  # ours: of 256 small networks learned the labels; Chan et al. 2022 take 1,600
    bursty: Number = 1.0  # Chan et al. 2022: 0 to 1
    zipf: Number = 0.0  # Chan et al. 2022: from 0, all alike, to beyond 1
    multiplicity: int = eqx.field(static=True, default=1)  # Chan et al. 2022, where more favour learning in context
    variation: int | None = eqx.field(static=True, default=None)  # Chan et al. 2022, where more favour learning in context
    context: int = eqx.field(static=True, default=8)  # Chan et al. 2022
    repeats: int = eqx.field(static=True, default=3)  # Chan et al. 2022
    probe: Probe = eqx.field(static=True, default="none")

    def __check_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != jnp.uint8:
            raise ValueError(f"images must be bytes (classes, drawings, height, width), not {self.images.dtype} {self.images.shape}")
        if self.probe not in get_args(Probe):
            raise ValueError(f"probe must be one of {get_args(Probe)}, not {self.probe!r}")
        for name, least in (("multiplicity", 1), ("repeats", 1), ("context", 2 * self.repeats)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        all_classes, drawings = self.images.shape[:2]
        if not self.context < self.classes <= all_classes - 2 * self._needed:
            raise ValueError(
                f"classes must be more than the context's {self.context}, and leave {2 * self._needed} of the {all_classes} for valid "
                f"and test, not {self.classes}"
            )
        if not 1 <= self._shown <= drawings - 2 * self._kept:
            raise ValueError(
                f"variation must be between 1 and {drawings - 2 * self._kept} of the {drawings} drawings, not {self._shown}"
            )

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return self.classes * self.multiplicity

    @property
    def ticks(self) -> int:
        """How many images a sequence has."""
        return self.context + 1

    @property
    def _needed(self) -> int:
        """How many classes are in one sequence, at most, of those that are drawn without replacement."""
        return self.context + 2 - 2 * self.repeats

    @property
    def _kept(self) -> int:
        """How many drawings of each class "valid", and as many "test", has for itself."""
        return max(1, self.images.shape[1] // 10)

    @property
    def _shown(self) -> int:
        return self.images.shape[1] - 2 * self._kept if self.variation is None else self.variation

    def sample(self, key: PRNGKeyArray, split: Split) -> StreamTask:
        class_key, label_key, drawing_key = jr.split(key, 3)
        held = (self.images.shape[0] - self.classes) // 2
        owned = ClassCounts(self.classes, held, held).ids("train" if self.probe == "in-weights" else split, self._needed)
        places, bursty = self._draw_classes(class_key, len(owned))
        own = self.probe != "in-context" and owned.start == 0
        labels = self._label(label_key, places, own)
        drawings = self._draw_drawings(drawing_key, split)
        x = self.images[owned.start + places, drawings].astype(jnp.float32) / 255
        return StreamTask(x, labels, {"classes": owned.start + places, "bursty": bursty})

    def _draw_classes(self, key: PRNGKeyArray, n: int) -> tuple[Int[Array, " ticks"], Array]:
        """The ranks of the classes in a sequence, of `n` classes, the query's last; and whether it was put into the context."""
        distinct_key, any_key, order_key, bursty_key = jr.split(key, 4)
        frequency = jnp.arange(1, n + 1, dtype=jnp.float32) ** -jnp.asarray(self.zipf, jnp.float32)
        frequency = frequency / jnp.sum(frequency)
        draw = lambda key, count, replace: jr.choice(key, n, (count,), replace, frequency).astype(jnp.int32)
        # The query is the first drawn, which follows the frequencies exactly.
        arranged = lambda drawn, places: drawn[jnp.append(jr.permutation(order_key, places), 0)]
        if self.probe == "in-weights":
            return arranged(draw(distinct_key, self.ticks, False), np.arange(1, self.ticks)), jnp.asarray(False)
        if self.probe == "in-context":
            return arranged(draw_distinct(distinct_key, n, 2), np.arange(self.context) % 2), jnp.asarray(True)
        others = np.arange(2, self._needed)
        in_bursts = arranged(draw(distinct_key, self._needed, False), np.concatenate([np.repeat([0, 1], self.repeats), others]))
        bursty = jr.uniform(bursty_key) < jnp.asarray(self.bursty, jnp.float32)
        return jnp.where(bursty, in_bursts, draw(any_key, self.ticks, True)), bursty

    def _label(self, key: PRNGKeyArray, places: Int[Array, " ticks"], own: bool) -> Int[Array, " ticks"]:
        """The label of each image: its class's own, or one that is lent for this sequence by one training class to one other class."""
        lending_key, choosing_key = jr.split(key)
        if not own:
            first = jnp.argmax(places[:, None] == places[None], axis=1)
            places = draw_distinct(lending_key, self.classes, self.ticks)[first]
        which = jax.vmap(lambda c: jr.randint(jr.fold_in(choosing_key, c), (), 0, self.multiplicity))(places)
        return places * self.multiplicity + which

    def _draw_drawings(self, key: PRNGKeyArray, split: Split) -> Int[Array, " ticks"]:
        first, count = 0, self._shown
        if self.probe == "in-weights" and split != "train":
            first, count = self.images.shape[1] - self._kept * (2 if split == "valid" else 1), self._kept
        return first + jr.permutation(key, count)[np.arange(self.ticks) % count]
