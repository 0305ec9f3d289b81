"""Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings of each: the field's first image benchmark.

Source: Lake, Salakhutdinov and Tenenbaum 2015, "Human-level concept learning through probabilistic program induction".

Protocols:

* "pooled" (Vinyals et al. 2016, Finn et al. 2017): all characters pooled and shuffled, 1,200 for meta-training and 423 for the test.
  Neither paper publishes its shuffle; ours is fixed by a seed, and the last 100 of the 1,200 are held out for validation.
* "original" (Lake et al. 2015), harder: the 30 background alphabets, of which the last five (161 characters) are held out for
  validation, and the 20 evaluation alphabets for the test.

Images are 28x28 and binary, ink = 1. With `rotations` each character turned by 90, 180 and 270 degrees is a class of its own, in every
split, as both papers' protocol has it.
"""

import os
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.class_episodes import (
    OWNED_SPLITS,
    ClassCounts,
    class_episode,
    draw_classes,
    draw_distinct,
    require_episode_shape,
)
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.omniglot_files import DRAWINGS, SIZE, Alphabet, find_folder, read_drawings

Protocol = Literal["pooled", "original"]
_SEED = 0  # ours: of the shuffle of the pooled protocol


class Omniglot(AbstractTaskDistribution):
    """Classification episodes over Omniglot's characters.

    Inputs `(way * shot, 28, 28)` and `(way * query, 28, 28)` in {0, 1}; labels `(n,)`, `query` per class; latent: the class ids.
    Class ids count train, valid, test; within a split all characters come unrotated first, then turned by 90 degrees, and so on.

    With `within_alphabet` the classes of an episode come from one alphabet and one rotation of it, drawn among the alphabets with at
    least `way` characters; this needs the "original" protocol. Without `shuffle_labels` a class has the label `id % way` in every
    episode. Raises `ValueError` for sizes that the data cannot fill, `FileNotFoundError` with what to do if there are no data.
    """

    bits: UInt8[Array, "characters 20 98"]
    characters: Int[Array, " characters"]
    alphabets: tuple[tuple[int, int, int], ...] = eqx.field(static=True)
    counts: ClassCounts = eqx.field(static=True)
    way: int = eqx.field(static=True)
    shot: int = eqx.field(static=True)
    query: int = eqx.field(static=True)
    turns: int = eqx.field(static=True)
    within_alphabet: bool = eqx.field(static=True)
    shuffle_labels: bool = eqx.field(static=True)

    def __init__(
        self,
        *,
        way: int = 5,  # Vinyals et al. 2016: 5 and 20
        shot: int = 1,  # Vinyals et al. 2016: 1 and 5
        query: int = 5,  # Snell et al. 2017
        protocol: Protocol = "pooled",
        rotations: bool = True,  # Vinyals et al. 2016
        within_alphabet: bool = False,
        shuffle_labels: bool = True,
        folder: str | os.PathLike | None = None,
    ):
        if protocol not in get_args(Protocol):
            raise ValueError(f"protocol must be one of {get_args(Protocol)}, not {protocol!r}")
        if within_alphabet and (protocol == "pooled" or not shuffle_labels):
            raise ValueError('within_alphabet needs protocol="original" and shuffle_labels=True')
        require_episode_shape(way, shot, query)
        if shot + query > DRAWINGS:
            raise ValueError(f"shot + query must be at most the {DRAWINGS} drawings of a character, not {shot} + {query}")
        drawings = read_drawings(find_folder(folder))
        order, sizes = _pool(len(drawings.bits)) if protocol == "pooled" else _keep_alphabets(drawings.alphabets)
        self.bits, self.characters = jnp.asarray(drawings.bits), jnp.asarray(order, jnp.int32)
        self.alphabets = _spans(drawings.alphabets, sizes) if within_alphabet else ()
        self.turns = 4 if rotations else 1
        self.counts = ClassCounts(*(self.turns * size for size in sizes))
        self.way, self.shot, self.query = way, shot, query
        self.within_alphabet, self.shuffle_labels = within_alphabet, shuffle_labels

    def __check_init__(self) -> None:
        self.counts.require(self.way)
        if self.within_alphabet:
            for split in OWNED_SPLITS:
                self._wide_alphabets(split)

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        class_key, drawing_key = jr.split(key)
        ids = self.counts.ids(split, self.way)
        if self.within_alphabet:
            classes = self._draw_within_alphabet(class_key, split, ids)
        else:
            classes = draw_classes(class_key, ids, self.way, self.shuffle_labels)
        return class_episode(self._draw_images(drawing_key, ids, classes), classes, self.shot)

    def _draw_within_alphabet(self, key: PRNGKeyArray, split: Split, ids: range) -> Int[Array, " way"]:
        alphabet_key, turn_key, character_key = jr.split(key, 3)
        first, count = jr.choice(alphabet_key, jnp.asarray(self._wide_alphabets(split)))
        turn = jr.randint(turn_key, (), 0, self.turns)
        return ids.start + turn * (len(ids) // self.turns) + first + draw_distinct(character_key, count, self.way)

    def _wide_alphabets(self, split: Split) -> list[tuple[int, int]]:
        """The alphabets of a split with enough characters: first character within the split, and count."""
        own = [(first, count) for owner, first, count in self.alphabets if owner == OWNED_SPLITS.index(split)]
        wide = [(first, count) for first, count in own if count >= self.way]
        if not wide:
            largest = max(count for _, count in own)
            raise ValueError(f"way must be at most the {largest} characters of the {split} split's largest alphabet, not {self.way}")
        return wide

    def _draw_images(self, key: PRNGKeyArray, ids: range, classes: Int[Array, " way"]) -> Float[Array, "way examples 28 28"]:
        turn, position = jnp.divmod(classes - ids.start, len(ids) // self.turns)
        # Classes are numbered over all rotations, characters are not.
        character = self.characters[ids.start // self.turns + position]
        examples = self.shot + self.query
        drawing = jax.vmap(lambda k: draw_distinct(k, DRAWINGS, examples))(jr.split(key, self.way))
        pixels = jnp.unpackbits(self.bits[character[:, None], drawing], axis=-1)
        images = pixels.reshape(self.way, examples, SIZE, SIZE).astype(jnp.float32)
        return _rotate(images, turn[:, None, None, None]) if self.turns > 1 else images


def _rotate(images: Float[Array, "*n side side"], turn: Int[Array, "*#n 1 1"]) -> Float[Array, "*n side side"]:
    """Turn by `turn` times 90 degrees, counter-clockwise."""
    quarter = jnp.where(turn % 2 == 1, jnp.rot90(images, axes=(-2, -1)), images)
    return jnp.where(turn >= 2, quarter[..., ::-1, ::-1], quarter)


def _pool(characters: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """All characters shuffled; of 1,623: 1,100 for training, 100 for validation, 423 for the test, and in proportion of fewer."""
    test, valid = characters * 423 // 1_623, characters * 100 // 1_623
    return np.random.default_rng(_SEED).permutation(characters), (characters - valid - test, valid, test)


def _keep_alphabets(alphabets: tuple[Alphabet, ...]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Characters in their order; the last five background alphabets (of fewer than 30, the last sixth) are for validation."""
    background = [alphabet.characters for alphabet in alphabets if alphabet.background]
    held = max(1, len(background) // 6)
    evaluation = sum(alphabet.characters for alphabet in alphabets if not alphabet.background)
    sizes = (sum(background[:-held]), sum(background[-held:]), evaluation)
    return np.arange(sum(sizes)), sizes


def _spans(alphabets: tuple[Alphabet, ...], sizes: tuple[int, int, int]) -> tuple[tuple[int, int, int], ...]:
    """For each alphabet: its split's number, its first character counted within the split, its number of characters."""
    starts = np.cumsum((0, *sizes))
    owners = [int(np.searchsorted(starts, alphabet.first, side="right")) - 1 for alphabet in alphabets]
    return tuple(
        (owner, alphabet.first - int(starts[owner]), alphabet.characters) for owner, alphabet in zip(owners, alphabets, strict=True)
    )
