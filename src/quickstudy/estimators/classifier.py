"""A classifier of tables in one forward pass.

A member's symbols are a random renumbering of the classes. With more classes than symbols, a class is known by a code word, one digit
a member:

    p(class c | x)  ~  exp( digits * mean over members m of log p_m(symbol_m(c) | x) )

Source: Hollmann et al. 2023, "TabPFN: A Transformer That Solves Small Tabular Classification Problems in a Second"; Dietterich and
Bakiri 1995, "Solving Multiclass Learning Problems via Error-Correcting Output Codes".
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from quickstudy.estimators.in_context import AbstractInContext, Symbols

Labels = Int[np.ndarray, " rows"]
Words = Int[np.ndarray, "members classes"]


class InContextClassifier(ClassifierMixin, AbstractInContext):
    """Classifies the rows of small tables in forward passes of a network that was trained on random tables only.

    Made for at most 2,000 rows (of more, a random 2,000 are kept, with a warning), 100 columns and 10 classes (more classes are told
    apart by code words of several digits). Empty cells are NaN; columns of a data frame's `category` dtype, and those that
    `categorical` lists by number or name, hold categories of any type, and a category that `fit` has not seen counts as empty.

    Parameters: `members`, how many looks at the table are averaged; `categorical`; `memory_limit`, megabytes that answering a block of
    rows may take; `random_state`, an integer for repeatable predictions; `weights`, a file of weights or a network (None: the ones
    that come with the package).

    Raises scikit-learn's `ValueError` for infinite numbers, text in numeric columns, fewer than two rows, too many columns.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = InContextClassifier(random_state=0).fit(X[::2], y[::2])
    >>> bool(model.score(X[1::2], y[1::2]) > 0.9)
    True
    """

    def predict_proba(self, X: Any) -> Float[np.ndarray, "rows classes"]:
        """The probability of each class (rows, classes), in the order of `classes_`."""
        check_is_fitted(self)
        logs = [log_softmax(logits, axis=1)[:, word] for logits, word in zip(self._logits(X), self._words, strict=True)]
        return softmax(digits(len(self.classes_), self._slots()) * np.mean(logs, axis=0), axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class (rows,)."""
        probabilities = self.predict_proba(X)
        return self.classes_[np.argmax(probabilities, axis=1)]

    def _understand(self, y: np.ndarray) -> Labels:
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        return labels

    def _keep(self, targets: Labels, random: np.random.Generator) -> Labels:
        order = random.permutation(len(targets))
        first = np.unique(targets[order], return_index=True)[1]  # of every class one row, so that none is lost
        return np.concatenate([order[first], np.delete(order, first)])

    def _symbols(self, targets: Labels, random: np.random.Generator) -> list[Symbols]:
        self._words = code_words(len(self.classes_), self._slots(), int(self.members), random)
        return [word[targets] for word in self._words]


def digits(classes: int, slots: int) -> float:
    """How many symbols it takes to name a class: one, unless there are more classes than symbols."""
    return max(1.0, math.log(classes) / math.log(slots))


def code_words(classes: int, slots: int, members: int, random: np.random.Generator) -> Words:
    """The symbol of every class for each member: all symbols about equally often, and no two classes the same for all members.

    >>> np.sort(code_words(3, 3, 2, np.random.default_rng(0))).tolist()
    [[0, 1, 2], [0, 1, 2]]
    """
    # With more classes than symbols four times as many digits as are needed: what one confuses others tell apart. Ours.
    n = members if classes <= slots else max(members, math.ceil(4 * digits(classes, slots)))
    while True:
        words = np.stack([random.permutation(max(classes, slots))[:classes] % slots for _ in range(n)])
        if np.unique(words, axis=1).shape[1] == classes:
            return words
