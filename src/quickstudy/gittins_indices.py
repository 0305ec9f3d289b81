"""Gittins indices as tables: what an arm is worth when it may be left at any time.

Without JAX, because who only makes episodes does not need it; the strategy is `quickstudy.algorithms.references.gittins`.

The index of an arm that succeeded s and failed f times is the sure payoff w of a *known* arm that makes a player indifferent between
the two. A grid of w is calibrated by backward induction: with

    A(s, f) = p - w + discount [p D(s + 1, f) + (1 - p) D(s, f + 1)],   D = max(0, A),   p = (s + 1) / (s + f + 2)

the advantage of pulling the unknown arm at least once more, the index is the w at which A vanishes. Discounted lives need one table;
in lives of n pulls D has one step less at each step back, there is one table for each number of pulls left, and the discount is 1.

Sources: Gittins 1979, "Bandit Processes and Dynamic Allocation Indices"; calibration: Gittins, Glazebrook and Weber 2011, "Multi-armed
Bandit Allocation Indices", chapter 8; finite horizons: Kaufmann 2018, "On Bayesian index policies for sequential resource allocation".
"""

import numpy as np
from jaxtyping import Float

# Sure payoffs that are tried, denser near 0 and 1, where arms differ less; in between, the advantage is nearly a straight line.
_GRID = np.sin(np.linspace(0.0, np.pi / 2, 301)) ** 2


def discounted_indices(pulls: int, discount: float, *, beyond: int = 500) -> Float[np.ndarray, "pulls pulls"]:
    """The Gittins index of every arm with s successes and f failures, s + f < `pulls`, at `[s, f]`; other entries are zero.

    Induction begins `beyond` pulls later, where the arm is taken as known. Raises `ValueError` unless 0 <= discount < 1.

    >>> round(float(discounted_indices(1, 0.9)[0, 0]), 4)
    0.7029
    """
    if not 0 <= discount < 1:
        raise ValueError(f"discount must be at least 0 and below 1, not {discount}")
    indices = np.zeros((pulls, pulls))
    gain = np.maximum(_means(pulls + beyond) - _GRID, 0.0) / (1 - discount)
    for n in range(pulls + beyond - 1, -1, -1):
        advantage = _advantage(_means(n), gain[1:], gain[:-1], discount)
        if n < pulls:
            successes = np.arange(n + 1)
            indices[successes, n - successes] = _roots(advantage)
        gain = np.maximum(advantage, 0.0)
    return indices


def finite_horizon_indices(pulls: int) -> Float[np.ndarray, "pulls pulls pulls"]:
    """The index of every arm with m pulls left after s successes and f failures, s + f + m <= `pulls`, at `[m - 1, s, f]`; else zero.

    With one pull left the index is the mean; with two it solves p - w + p (2/3 - w) = 0 for a new arm.

    >>> finite_horizon_indices(2)[:, 0, 0].round(4).tolist()
    [0.5, 0.5556]
    """
    indices = np.zeros((pulls, pulls, pulls))
    gains = [np.zeros((n + 1, _GRID.size)) for n in range(pulls + 1)]  # by the number of pulls so far
    for left in range(1, pulls + 1):
        for n in range(pulls - left + 1):
            advantage = _advantage(_means(n), gains[n + 1][1:], gains[n + 1][:-1], 1.0)
            successes = np.arange(n + 1)
            indices[left - 1, successes, n - successes] = _roots(advantage)
            # In place: the next n reads the gains after n + 1 pulls, which still are those of one pull less.
            gains[n] = np.maximum(advantage, 0.0)
    return indices


def _means(n: int) -> Float[np.ndarray, "n_plus_one 1"]:
    """The posterior means after n pulls, by the number of successes."""
    return ((np.arange(n + 1) + 1) / (n + 2))[:, None]


def _advantage(means: np.ndarray, success: np.ndarray, failure: np.ndarray, discount: float) -> np.ndarray:
    return means - _GRID + discount * (means * success + (1 - means) * failure)


def _roots(advantage: Float[np.ndarray, "states grid"]) -> Float[np.ndarray, " states"]:
    """Where each row, which falls from positive to negative, crosses zero, between two payoffs of the grid."""
    after = np.argmax(advantage <= 0, axis=1)
    rows = np.arange(len(advantage))
    high, low = advantage[rows, after - 1], advantage[rows, after]
    return _GRID[after - 1] + (_GRID[after] - _GRID[after - 1]) * high / (high - low)
