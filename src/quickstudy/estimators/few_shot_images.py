"""A classifier of images from a few examples of each class: a meta-learned learner adapts to them when it is fitted.

By default a prototypical network that has met generated glyphs only, whose small weights come with the package; or any few-shot
learner that you have trained: `FewShotImageClassifier(learner="runs/my-maml")`.

Source: Snell et al. 2017, "Prototypical Networks for Few-shot Learning".
"""

import functools
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d

from quickstudy.algorithms.fewshot import protonet
from quickstudy.core import AbstractLearner
from quickstudy.persist import load_tree
from quickstudy.shipped import weights_of
from quickstudy.store import load
from quickstudy.tasks.arrays import SIZE
from quickstudy.tasks.episode import EpisodeView

BLOCK = 64  # queries that one call answers

Images = Float[np.ndarray, "n height width"]


@functools.cache
def shipped() -> AbstractLearner:
    """The prototypical network that comes with the package. Raises `OSError` or `ValueError` if its file is not what it should be."""
    preset = protonet.PRESETS["glyphs"]
    template = eqx.filter_eval_shape(protonet.learner, preset.config, preset.tasks(), jr.key(0))
    return load_tree(weights_of("protonet"), template)[0]


@eqx.filter_jit
def _adapt(learner: AbstractLearner, x: Array, y: Array, classes: int, ticks: int) -> Any:
    view, key = EpisodeView(x, y, x[:1], outputs=classes), jr.key(0)
    observe = lambda tick, fast: learner.observe(fast, view, learner.respond(fast, view, key), None, jr.fold_in(key, tick))
    return jax.lax.fori_loop(0, ticks, observe, learner.begin(view, key))


@eqx.filter_jit
def _answer(learner: AbstractLearner, fast: Any, x: Array, y: Array, queries: Array, classes: int) -> Float[Array, "queries outputs"]:
    return learner.respond(fast, EpisodeView(x, y, queries, outputs=classes), jr.key(0))


class FewShotImageClassifier(ClassifierMixin, BaseEstimator):
    """Learns to tell images `(n, height, width)` apart from a few of each class; other sizes than the learner's are scaled.

    Grey levels of any range; if borders are bright, images are taken for dark ink on light paper and inverted, as the learner knows
    them. Made for drawings: it has never seen a photograph.

    Parameters: `learner`, a few-shot learner or the folder of a run that trained one on images (None: the one that comes with the
    package); `ticks`, how many inner steps it takes (None: what its run's preset says, and none for one that needs none).

    Raises scikit-learn's `ValueError` for images that are not finite numbers, and for more classes than a learner can tell apart.

    >>> from sklearn.datasets import load_digits
    >>> images, labels = load_digits(return_X_y=True)
    >>> images = images.reshape(-1, 8, 8)
    >>> model = FewShotImageClassifier().fit(images[:50], labels[:50])
    >>> bool(model.score(images[50:200], labels[50:200]) > 0.75)
    True
    """

    def __init__(self, learner: Any = None, *, ticks: Any = None):
        self.learner = learner
        self.ticks = ticks

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def fit(self, X: Any, y: Any) -> "FewShotImageClassifier":
        """Adapt to images X (n, height, width) and their classes y (n,), numbers or text."""
        images = self._checked(X)
        y = column_or_1d(y, warn=True)
        check_consistent_length(images, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self.image_shape_ = images.shape[1:]
        self._low, self._high = float(images.min()), float(images.max())
        border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)
        self._inverted = bool(np.median(border) > (self._low + self._high) / 2)
        self._learner, ticks = self._find()
        self._support = self._seen(images), labels.astype(np.int32)
        x, y = map(jnp.asarray, self._support)
        self._fast = jax.tree.map(np.asarray, _adapt(self._learner, x, y, len(self.classes_), ticks))
        outputs = self._logits(self._support[0][:1]).shape[1]
        if outputs < len(self.classes_):
            raise ValueError(f"y must have at most {outputs} classes, as many as the learner tells apart, not {len(self.classes_)}")
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n classes"]:
        """The probability of each class (n, classes), in the order of `classes_`."""
        check_is_fitted(self)
        images = self._checked(X)
        if images.shape[1:] != self.image_shape_:
            raise ValueError(f"X must hold images of shape {self.image_shape_}, as at fit, not {images.shape[1:]}")
        return softmax(self._logits(self._seen(images))[:, : len(self.classes_)], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class (n,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def _checked(self, X: Any) -> Images:
        images = check_array(X, allow_nd=True, ensure_2d=False, dtype=np.float64)
        if images.ndim != 3:
            raise ValueError(f"X must have shape (n, height, width), not {images.shape}")
        return images

    def _seen(self, images: Images) -> Float[np.ndarray, "n side side"]:
        """Images as the learner knows them: ink is 1, paper 0."""
        ink = np.clip((images - self._low) / max(self._high - self._low, 1e-12), 0, 1)
        ink = 1 - ink if self._inverted else ink
        return np.asarray(jax.image.resize(ink.astype(np.float32), (len(ink), SIZE, SIZE), "linear"))

    def _logits(self, seen: Float[np.ndarray, "n side side"]) -> Float[np.ndarray, "n outputs"]:
        (x, y), found = map(jnp.asarray, self._support), []
        for start in range(0, len(seen), BLOCK):
            part = seen[start : start + BLOCK]
            full = np.concatenate([part, np.zeros((BLOCK - len(part), *part.shape[1:]), np.float32)])
            logits = _answer(self._learner, self._fast, x, y, jnp.asarray(full), len(self.classes_))
            found.append(np.asarray(logits, np.float64)[: len(part)])
        return np.concatenate(found)

    def _find(self) -> tuple[AbstractLearner, int]:
        """The learner, and how often it observes."""
        given = self.ticks
        if given is not None and (not isinstance(given, int | np.integer) or isinstance(given, bool) or given < 0):
            raise ValueError(f"ticks must be an integer of at least 0, not {given!r}")
        if self.learner is None:
            return shipped(), int(given or 0)
        if isinstance(self.learner, AbstractLearner):
            return self.learner, int(given or 0)
        run = load(Path(self.learner))
        return run.learner, run.ticks - 1 if given is None else int(given)
