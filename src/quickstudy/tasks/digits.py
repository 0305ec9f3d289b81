"""Digits: 1,797 real handwritten digits, 8x8 pixels each, for testing only.

They ship with scikit-learn, so they need no download. Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten
Digits", UCI Machine Learning Repository (its test part).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float32, Int, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.arrays import SIZE, Examples
from quickstudy.tasks.class_episodes import ClassCounts, class_episode, draw_classes, require_episode_shape
from quickstudy.tasks.episode import EpisodeTask

_COUNTS = ClassCounts(0, 0, 10)


def load_digits() -> tuple[Float32[np.ndarray, "1797 28 28"], Int[np.ndarray, " 1797"]]:
    """The digits in [0, 1], ink = 1, interpolated (bilinear) from 8x8 to 28x28, and their labels.

    Raises `ImportError` with what to install if scikit-learn is missing.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise ImportError("the digits come with scikit-learn: pip install quickstudy[tasks]") from None
    images, labels = datasets.load_digits(return_X_y=True)
    small = jnp.asarray(images.reshape(-1, 8, 8) / 16, jnp.float32)  # their grey levels are 0 to 16
    return np.asarray(jax.image.resize(small, (len(small), SIZE, SIZE), "linear")), labels


class Digits(AbstractTaskDistribution):
    """Classification episodes over the ten digits, in the "test" split only.

    Inputs `(way * shot, 28, 28)` and `(way * query, 28, 28)` in [0, 1], ink = 1; labels `(n,)`, `query` per class; latent: the digits.
    Raises `ValueError` when asked for another split or for more classes or examples than there are.
    """

    examples: Examples
    way: int = eqx.field(static=True)
    shot: int = eqx.field(static=True)
    query: int = eqx.field(static=True)

    def __init__(
        self,
        *,
        way: int = 10,  # all of them
        shot: int = 1,  # ours: the hardest
        query: int = 15,  # Ravi and Larochelle 2017, the convention at test time
    ):
        require_episode_shape(way, shot, query)
        _COUNTS.ids("test", way)
        images, labels = load_digits()
        least = int(np.bincount(labels).min())
        if shot + query > least:
            raise ValueError(f"shot + query must be at most the {least} examples of the rarest digit, not {shot} + {query}")
        self.examples = Examples.by_class(images, labels)
        self.way, self.shot, self.query = way, shot, query

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        if split != "test":
            raise ValueError(f'split must be "test", not {split!r}: the digits are never trained on')
        class_key, example_key = jr.split(key)
        classes = draw_classes(class_key, _COUNTS.ids(split, self.way), self.way, shuffle_labels=True)
        return class_episode(self.examples.draw(example_key, classes, self.shot + self.query), classes, self.shot)
