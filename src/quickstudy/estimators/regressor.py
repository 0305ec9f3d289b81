"""A regressor of tables in one forward pass of a network that only knows classes.

A member's symbols say in which of a few bins a target lies; each member's bins end elsewhere. The probability of a bin is shared by
the targets in it, so that a prediction is a weighting of the targets that were given, from which a mean and all quantiles follow:

    w_i(x)  =  mean over members m of p_m(bin_m(y_i) | x) / (number of targets in bin_m(y_i)),      mean(x) = sum_i w_i(x) y_i

Source: ours; targets that are reweighted: Meinshausen 2006, "Quantile Regression Forests".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import softmax
from scipy.stats import rankdata
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from quickstudy.estimators.in_context import AbstractInContext, Symbols

AT_ONCE = 256  # rows whose weights are held at once


class InContextRegressor(RegressorMixin, AbstractInContext):
    """Predicts numbers, and quantiles of their distribution, for the rows of small tables in forward passes.

    Made for at most 2,000 rows (of more, a random 2,000 are kept, with a warning) and 100 columns. It predicts nothing outside of the
    targets that it was given, and resolves them as finely as `members` times ten bins do. Cells, parameters and errors are those of
    `InContextClassifier`.

    >>> X = np.linspace(-3, 3, 60)[:, None]
    >>> model = InContextRegressor(random_state=0).fit(X, X[:, 0] ** 2)
    >>> low, high = model.predict_quantiles([[2.0]], [0.05, 0.95])[0]
    >>> bool(low <= 4 <= high)
    True
    """

    def __init__(
        self,
        *,
        members: Any = 8,  # ours, not tuned: 80 bins
        categorical: Any = None,
        memory_limit: Any = 500.0,  # ours
        random_state: Any = None,
        weights: Any = None,
    ):
        super().__init__(
            members=members, categorical=categorical, memory_limit=memory_limit, random_state=random_state, weights=weights
        )

    def predict(self, X: Any) -> Float[np.ndarray, " rows"]:
        """The mean (rows,)."""
        check_is_fitted(self)
        means = [share @ self._targets for share in self._shares()]
        return np.mean([chances @ mean for chances, mean in zip(self._chances(X), means, strict=True)], axis=0)

    def predict_quantiles(self, X: Any, quantiles: Sequence[float] = (0.1, 0.5, 0.9)) -> Float[np.ndarray, "rows quantiles"]:
        """Quantiles (rows, quantiles) of the predicted distribution. Raises `ValueError` for one that is not between 0 and 1."""
        check_is_fitted(self)
        wanted = np.asarray(quantiles, float)
        if wanted.ndim != 1 or not np.all((wanted >= 0) & (wanted <= 1)):
            raise ValueError(f"quantiles must be a list of numbers from 0 to 1, not {quantiles!r}")
        order = np.argsort(self._targets)
        chances = np.concatenate(list(self._chances(X)), axis=1)
        shares = np.concatenate(list(self._shares()))[:, order] / len(self._bins)
        found = np.empty((len(chances), len(wanted)))
        for start in range(0, len(chances), AT_ONCE):
            below = np.cumsum(chances[start : start + AT_ONCE] @ shares, axis=1)
            # The first target below which, itself included, there is enough; rounding leaves the last one at a little less than one.
            which = np.sum(below[:, :, None] < wanted * (1 - 1e-9), axis=1)
            found[start : start + AT_ONCE] = self._targets[order][np.minimum(which, len(order) - 1)]
        return found

    def _chances(self, X: Any) -> Any:
        """Each member's probabilities of symbols."""
        return (softmax(logits, axis=1) for logits in self._logits(X))

    def _shares(self) -> Any:
        """For each member, how much of a symbol's probability every target gets (symbols, targets)."""
        for symbols in self._bins:
            there = symbols == np.arange(self._slots())[:, None]
            yield there / np.maximum(there.sum(axis=1, keepdims=True), 1)

    def _understand(self, y: np.ndarray) -> Float[np.ndarray, " rows"]:
        return np.asarray(y, float)

    def _keep(self, targets: Float[np.ndarray, " rows"], random: np.random.Generator) -> Int[np.ndarray, " rows"]:
        return random.permutation(len(targets))

    def _symbols(self, targets: Float[np.ndarray, " rows"], random: np.random.Generator) -> list[Symbols]:
        slots = self._slots()
        place = (rankdata(targets) - 0.5) / len(targets)  # equal targets at one place
        bins = [np.floor((slots - 1) * place + random.uniform()).astype(int) for _ in range(int(self.members))]
        self._bins = np.stack([random.permutation(slots)[one] for one in bins])
        return list(self._bins)
