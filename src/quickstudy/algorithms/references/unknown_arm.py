"""Exactly optimal play of a sure arm and an unknown one, by dynamic programming over what may be believed; and what it is worth.

Slow: a table of thresholds. Fast: how often the unknown arm was taken, and the mean of what is believed about it. After n pulls that
belief is normal; its variance depends on n only:

    v_n = 1 / (1 / spread^2 + n / deviation^2),      m_(n+1) ~ N(m_n, v_n - v_(n+1)),
    V_n(m) = max(0, m + E V_(n+1)(m_(n+1))),         V_pulls = 0

Since the sure arm tells nothing, who takes it once takes it for ever: the only question is when to stop, and whether to begin.

Sources: Bradt, Johnson and Karlin 1956, "On Sequential Designs for Maximizing the Sum of n Observations" (one unknown arm: stop for
good); the task: Lange and Sprekeler 2020, "Learning not to Learn: Nature versus Nurture in Silico".
"""

import functools
from statistics import NormalDist
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.tasks.control import ControlView
from quickstudy.tasks.unknown_arm import EXPECTED

# Evenly spaced, since a value with a kink is no polynomial: Gaussian quadrature errs by percents.
_POINTS = np.linspace(-6.0, 6.0, 101)
_WEIGHTS = np.exp(-(_POINTS**2) / 2)
_GRID = 501  # believed means that are tried


class Belief(NamedTuple):
    """How often the unknown arm was taken, the sum of what it paid, and whether it was given up."""

    pulls: Int[Array, ""]
    total: Float[Array, ""]
    stopped: Array


def solve_unknown_arm(spread: float, deviation: float, pulls: int) -> tuple[Float[np.ndarray, " pulls"], float]:
    """The believed mean above which the unknown arm is taken once more, by the number of pulls so far; and the best player's earnings.

    >>> thresholds, value = solve_unknown_arm(spread=1.0, deviation=1.0, pulls=1)
    >>> thresholds.tolist(), value  # the last pull is only worth its mean
    ([0.0], 0.0)
    """
    variances = 1 / (1 / spread**2 + np.arange(pulls + 1) / deviation**2)
    reach = 8 * spread + abs(EXPECTED)
    means = EXPECTED + np.linspace(-reach, reach, _GRID)
    value, thresholds = np.zeros(_GRID), np.zeros(pulls)
    for n in range(pulls - 1, -1, -1):
        after = means[:, None] + np.sqrt(variances[n] - variances[n + 1]) * _POINTS
        # Beyond the grid the arm is known to be good, and worth its mean at every pull that is left.
        known = value[-1] + (after - means[-1]) * (pulls - n - 1)
        worth = np.where(after > means[-1], known, np.interp(after, means, value)) @ (_WEIGHTS / _WEIGHTS.sum())
        go_on = means + worth
        thresholds[n] = np.interp(0.0, go_on, means)
        value = np.maximum(go_on, 0.0)
    return thresholds, float(np.interp(EXPECTED, means, value))


def worth_of_exploring(spread: float, deviation: float, pulls: int, explored: int) -> float:
    """What a player earns who takes the unknown arm `explored` times and then, for good, the arm that looks better: in closed form.

    >>> worth_of_exploring(1.0, 1.0, pulls=10, explored=0)
    0.0
    """
    if not explored:
        return max(0.0, pulls * EXPECTED)
    scale = spread**2 / np.sqrt(spread**2 + deviation**2 / explored)
    normal = NormalDist()
    later = EXPECTED * normal.cdf(EXPECTED / scale) + scale * normal.pdf(EXPECTED / scale)
    return float(explored * EXPECTED + (pulls - explored) * later)


@functools.cache
def least_spread(deviation: float, pulls: int, *, most: float = 50.0) -> float:
    """The spread at which it begins to pay to take the unknown arm at all: below it, the best player never learns anything.

    >>> least_spread(deviation=1.0, pulls=100) < least_spread(deviation=1.0, pulls=10)
    True
    """
    low, high = most / 1_000, most
    while high / low > 1.003:
        middle = float(np.sqrt(low * high))
        thresholds, _ = solve_unknown_arm(middle, deviation, pulls)
        low, high = (low, middle) if thresholds[0] < EXPECTED else (middle, high)
    return high


class UnknownArmOptimal(AbstractLearner):
    """Takes the unknown arm while the mean that it believes in is above the threshold, and then the sure one for good."""

    spread: Float[Array, ""]
    deviation: Float[Array, ""]
    thresholds: Float[Array, " pulls"]

    @classmethod
    def solve(cls, spread: float, deviation: float, pulls: int) -> "UnknownArmOptimal":
        """The optimal player of a life of so many pulls."""
        thresholds, _ = solve_unknown_arm(spread, deviation, pulls)
        return cls(jnp.asarray(spread), jnp.asarray(deviation), jnp.asarray(thresholds, jnp.float32))

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Belief:
        return Belief(jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.asarray(False))

    def respond(self, fast: Belief, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        promising = self._believed(fast) > self.thresholds[fast.pulls]
        return (promising & ~fast.stopped).astype(jnp.int32)

    def observe(self, fast: Belief, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray) -> Belief:
        return Belief(fast.pulls + response, fast.total + feedback.reward, fast.stopped | (response == 0))

    def _believed(self, fast: Belief) -> Float[Array, ""]:
        """The prior counts like (deviation / spread)^2 pulls that paid what is expected."""
        prior = (self.deviation / self.spread) ** 2
        return (prior * EXPECTED + fast.total) / (prior + fast.pulls.astype(jnp.float32))
