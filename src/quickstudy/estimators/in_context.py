"""Scikit-learn estimators over prior-fitted networks: `fit` stores the context, `predict` is a forward pass, nothing is trained."""

import functools
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from quickstudy.algorithms.incontext import pfn_tabular
from quickstudy.estimators.tables import COLUMNS, ROWS, Look, draw_look, padded, smallest
from quickstudy.persist import load_tree
from quickstudy.tasks.episode import EpisodeView
from quickstudy.tasks.tabular_worlds import UNKNOWN, TabularWorlds

BLOCK = 256  # queries that one call answers


@functools.cache
def network(path: Path) -> pfn_tabular.TabularPFN:
    """The trained network in a file of weights."""
    template = pfn_tabular.learner(pfn_tabular.Config(), TabularWorlds(), jr.key(0))
    return load_tree(path, template)[0]


def shipped() -> Path:
    """The weights that come with the package."""
    return Path(str(resources.files("quickstudy.estimators") / "weights" / "pfn-tabular.safetensors"))


@eqx.filter_jit
def _read(net: pfn_tabular.TabularPFN, x: Any, y: Any) -> pfn_tabular.Context:
    return net.begin(EpisodeView(x, y, x[:1], outputs=net.out.shape[1]), jr.key(0))


@eqx.filter_jit
def _answer(net: pfn_tabular.TabularPFN, context: pfn_tabular.Context, x: Any) -> Any:
    view = EpisodeView(x[:1], context.known[:1].astype(int), x, outputs=net.out.shape[1])
    return net.respond(context, view, jr.key(0))


class InContextClassifier(ClassifierMixin, BaseEstimator):
    """Classifies the rows of small tables in one forward pass of a network that was trained on random tables only.

    `members` forward passes are averaged, each of which sees the labels and the categories under other numbers, and every second one
    ranks instead of numbers. `categorical` lists columns by index; empty cells are NaN. At most `rows` rows of context are kept.
    """

    def __init__(self, *, members: int = 4, categorical: Any = None, rows: int = 2_000, random_state: Any = None, weights: Any = None):
        self.members = members
        self.categorical = categorical
        self.rows = rows
        self.random_state = random_state
        self.weights = weights

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Any, y: Any) -> "InContextClassifier":
        X, y = validate_data(self, X, y, ensure_all_finite="allow-nan", ensure_min_samples=2, dtype=float)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        seed = check_random_state(self.random_state).randint(2**31)
        random = np.random.default_rng(seed)
        if len(X) > self.rows:
            warnings.warn(
                f"{len(X)} rows are more than the {self.rows} that are kept as context: a random sample is kept", stacklevel=2
            )
            kept = random.permutation(len(X))[: self.rows]
            X, labels = X[kept], labels[kept]
        net = self._network()
        slots = net.out.shape[1]
        if len(self.classes_) > slots:
            raise ValueError(f"at most {slots} classes can be told apart, not {len(self.classes_)}")
        self._looks: list[Look] = []
        self._slots: list[np.ndarray] = []
        self._contexts = []
        rows, columns = smallest(ROWS, len(X)), smallest(COLUMNS, X.shape[1])
        for member in range(self.members):
            self._looks.append(draw_look(member, X, list(self.categorical or ()), random))
            self._slots.append(random.permutation(slots)[: len(self.classes_)])
            y_padded = np.full(rows, UNKNOWN, np.int32)
            y_padded[: len(X)] = self._slots[-1][labels]
            self._contexts.append(_read(net, padded(self._looks[-1](X), rows, columns), y_padded))
        self._columns = columns
        return self

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """The probability of each class, in the order of `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, ensure_all_finite="allow-nan", dtype=float)
        net, total = self._network(), np.zeros((len(X), len(self.classes_)))
        for look, slots, context in zip(self._looks, self._slots, self._contexts, strict=True):
            seen = look(X)
            for start in range(0, len(X), BLOCK):
                block = seen[start : start + BLOCK]
                logits = np.asarray(_answer(net, context, padded(block, BLOCK, self._columns)), float)[: len(block), slots]
                total[start : start + len(block)] += softmax(logits, axis=1)
        return total / total.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class."""
        return self.classes_[np.argmax(self.predict_proba(X), axis=1)]

    def _network(self) -> pfn_tabular.TabularPFN:
        return (
            self.weights
            if isinstance(self.weights, pfn_tabular.TabularPFN)
            else network(Path(self.weights) if self.weights else shipped())
        )
