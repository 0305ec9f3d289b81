"""Few-shot tasks from your own labelled data: its *classes* are split, so a test episode holds classes never trained on.

`from_arrays` takes images or vectors with labels of any kind; `from_image_folder` reads a folder with one sub-folder of pictures per
class into such arrays.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray, Shaped

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.class_episodes import ClassCounts, class_episode, draw_classes, draw_distinct, require_episode_shape
from quickstudy.tasks.episode import EpisodeTask

SIZE = 28
_MARGIN = 2  # pixels left free around a picture read from a folder; ours, as Omniglot's drawings and the glyphs have


class Examples(eqx.Module):
    """Labelled examples, sorted by class: class i is `inputs[first[i] : first[i] + count[i]]`."""

    inputs: Float[Array, "n ..."]
    first: Int[Array, " classes"]
    count: Int[Array, " classes"]

    @classmethod
    def by_class(cls, inputs: Float[np.ndarray, "n ..."], classes: Int[np.ndarray, " n"]) -> "Examples":
        """Sort examples by their class ids 0, 1, ..., each of which must occur."""
        count = np.bincount(classes)
        first = np.cumsum(count) - count
        ordered = inputs[np.argsort(classes, kind="stable")]
        return cls(jnp.asarray(ordered, jnp.float32), jnp.asarray(first, jnp.int32), jnp.asarray(count, jnp.int32))

    def draw(self, key: PRNGKeyArray, classes: Int[Array, " way"], n: int) -> Float[Array, "way n ..."]:
        """`n` distinct examples of each class; the classes must have that many."""
        keys = jr.split(key, len(classes))
        offsets = jax.vmap(lambda k, count: draw_distinct(k, count, n))(keys, self.count[classes])
        return self.inputs[self.first[classes][:, None] + offsets]


class LabelledArrays(AbstractTaskDistribution):
    """Classification episodes over the classes of labelled arrays; make one with `from_arrays`.

    Inputs `(way * shot, ...)` and `(way * query, ...)`; labels `(n,)`; latent: the class ids, for which `names` has the user's labels.
    """

    examples: Examples
    names: tuple[Any, ...] = eqx.field(static=True)
    counts: ClassCounts = eqx.field(static=True)
    way: int = eqx.field(static=True)
    shot: int = eqx.field(static=True)
    query: int = eqx.field(static=True)

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        class_key, example_key = jr.split(key)
        classes = draw_classes(class_key, self.counts.ids(split, self.way), self.way, shuffle_labels=True)
        return class_episode(self.examples.draw(example_key, classes, self.shot + self.query), classes, self.shot)


def from_arrays(
    x: Shaped[np.ndarray, "n ..."] | Sequence,
    y: Shaped[np.ndarray, " n"] | Sequence,
    *,
    way: int,
    shot: int,
    query: int,
    splits: Sequence[float | int] = (0.7, 0.1, 0.2),  # ours: close to the 64 / 16 / 20 of miniImageNet, more of it for training
    seed: int = 0,
) -> LabelledArrays:
    """Make a distribution of episodes from images `(n, h, w)` or vectors `(n, d)` and their labels.

    `splits` are the shares of the *classes*, in an order shuffled by `seed`, that go to train, valid and test; `(0, 0, 1)` keeps all
    for the test. Examples are drawn without replacement, so every class needs `shot + query` of them.

    Raises `ValueError` for data that are not finite numbers, lengths that differ, fewer than two classes, a class that is too small,
    or when no split has `way` classes; drawing from a split with fewer than `way` classes raises one too.

    >>> import jax, numpy as np
    >>> x, y = np.arange(12.0).reshape(6, 2), ["cat", "cat", "cat", "dog", "dog", "dog"]
    >>> tasks = from_arrays(x, y, way=2, shot=1, query=2, splits=(0, 0, 1))
    >>> tasks.sample(jax.random.key(0), "test").query_x.shape
    (4, 2)
    """
    require_episode_shape(way, shot, query)
    inputs = _as_inputs(x)
    names, classes = _as_classes(y, len(inputs))
    _require_examples(names, classes, shot + query)
    counts = _split_classes(len(names), splits)
    if way > max(counts):
        raise ValueError(f"way must be at most {max(counts)}, the classes of the largest of the splits {tuple(counts)}, not {way}")
    order = np.random.default_rng(seed).permutation(len(names))
    ids = np.argsort(order)  # where each label's class stands in the shuffled order
    return LabelledArrays(Examples.by_class(inputs, ids[classes]), tuple(names[i] for i in order), counts, way, shot, query)


def _as_inputs(x: Shaped[np.ndarray, "n ..."] | Sequence) -> Float32[np.ndarray, "n ..."]:
    try:
        inputs = np.asarray(x, np.float32)
    except (TypeError, ValueError):
        raise ValueError("x must be an array of numbers, with the same shape for every example") from None
    if inputs.ndim not in (2, 3):
        raise ValueError(f"x must have shape (n, features) or (n, height, width), not {inputs.shape}")
    if not np.isfinite(inputs).all():
        raise ValueError(f"x must be finite, but example {int(np.argwhere(~np.isfinite(inputs))[0, 0])} holds NaN or infinity")
    return inputs


def _as_classes(y: Shaped[np.ndarray, " n"] | Sequence, n: int) -> tuple[list, Int[np.ndarray, " n"]]:
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise ValueError(f"y must have one label for each of the {n} examples of x, not shape {labels.shape}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError("y must not hold NaN or infinity")
    names, classes = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"y must hold at least two classes, not {len(names)}")
    return names.tolist(), classes


def _require_examples(names: list, classes: Int[np.ndarray, " n"], least: int) -> None:
    count = np.bincount(classes)
    smallest = int(np.argmin(count))
    if count[smallest] < least:
        raise ValueError(
            f"shot + query must be at most the {count[smallest]} examples of the smallest class, {names[smallest]!r}, not {least}"
            " (leave that class out or ask for fewer)"
        )


def _split_classes(classes: int, splits: Sequence[float | int]) -> ClassCounts:
    shares = np.asarray(splits, float)
    if shares.shape != (3,) or not (shares >= 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(f"splits must be three shares of at least 0 that add up to 1, for train, valid and test, not {splits}")
    train, valid = np.round(np.cumsum(shares)[:2] * classes).astype(int).tolist()
    return ClassCounts(train, valid - train, classes - valid)


def from_image_folder(path: str | os.PathLike) -> tuple[Float32[np.ndarray, "n 28 28"], np.ndarray, list[str]]:
    """Read a folder with one sub-folder of pictures per class: images, class numbers `(n,)`, and the classes' names.

    Pictures become grey and 28x28, their proportions kept, ink = 1: a picture whose border is bright is taken for dark ink on light
    paper and inverted. Hidden files are skipped.

    Raises `NotADirectoryError` if there is no such folder, `ValueError` if it or a sub-folder holds no pictures or a (named) file
    cannot be read as one, and `ImportError` if Pillow is missing.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise NotADirectoryError(f"path must be a folder with one sub-folder of pictures per class, not {str(path)!r}")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"path must hold one sub-folder of pictures per class, but {str(path)!r} has no sub-folders")
    images, classes = [], []
    for number, name in enumerate(names):
        files = sorted(file for file in (folder / name).iterdir() if file.is_file() and not file.name.startswith("."))
        if not files:
            raise ValueError(f"every sub-folder of path must hold pictures, but {str(folder / name)!r} is empty")
        images += [_read_picture(file) for file in files]
        classes += [number] * len(files)
    return np.stack(images), np.array(classes), names


def _read_picture(file: Path) -> Float32[np.ndarray, "28 28"]:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError("reading pictures needs Pillow: pip install quickstudy[tasks]") from None
    try:
        with Image.open(file) as opened:
            # Transparency is paper: white, as where such drawings are shown.
            picture = opened.convert("RGBA")
    except (OSError, SyntaxError, Image.DecompressionBombError):
        raise ValueError(f"{str(file)!r} cannot be read as a picture") from None
    grey = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("L")
    pixels = np.asarray(grey)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    ink = ImageOps.invert(grey) if np.median(border) > 127 else grey
    inner = SIZE - 2 * _MARGIN
    fitted = ImageOps.pad(ink, (inner, inner), Image.Resampling.BILINEAR, color=0)
    return np.asarray(ImageOps.expand(fitted, _MARGIN, 0), np.float32) / 255
