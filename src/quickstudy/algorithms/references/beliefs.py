"""Exactly optimal play where it can be computed: dynamic programming over everything that a player may come to believe.

Slow: a table of the best arm for every belief. Fast: the counts of every arm, which are the belief.

    V(b) = max over arms a of  p_a [1 + V(b after a success of a)] + (1 - p_a) V(b after a failure of a)

Sources: Bellman 1956, "A Problem in the Sequential Design of Experiments"; the correlated bandit: Wang et al. 2016, "Learning to
reinforcement learn", section 3.1.2.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.references.counting import AbstractCounting, Counts, posterior_mean

# Entries of the largest table: 2 arms and 50 pulls, 3 arms and 13, or 4 arms and 6.
_LARGEST = 2**23


def solve_bandit(arms: int, pulls: int) -> tuple[Int[np.ndarray, " beliefs"], float]:
    """The best arm for every belief about Bernoulli arms with uniform prior, and what the best player earns in `pulls` pulls on
    average.

    A belief is the tuple (successes of arm 0, failures of arm 0, successes of arm 1, ...), each from 0 to `pulls`, and its place in
    the table is that of an array of shape `(pulls + 1,) * 2 * arms`. Raises `ValueError` where that has more than 8 million entries.

    >>> policy, value = solve_bandit(2, 2)
    >>> round(value, 4)  # 1/2, and then 2/3 after a success or 1/2 on the other arm
    1.0833
    """
    shape = (pulls + 1,) * (2 * arms)
    if (pulls + 1) ** (2 * arms) > _LARGEST:
        raise ValueError(f"{arms} arms and {pulls} pulls are too many: (pulls + 1)^(2 arms) must be at most {_LARGEST}")
    strides = (pulls + 1) ** np.arange(2 * arms - 1, -1, -1)
    age = np.indices(shape, np.int8).sum(axis=0, dtype=np.int32).ravel()
    value, best = np.zeros(age.size), np.zeros(age.size, np.int8)
    for pulled in range(pulls - 1, -1, -1):
        here = np.flatnonzero(age == pulled)
        counts = np.stack(np.unravel_index(here, shape)).reshape(arms, 2, -1)
        mean = (counts[:, 0] + 1) / (counts.sum(axis=1) + 2)
        success, failure = (value[here + strides[outcome::2, None]] for outcome in (0, 1))
        worth = mean * (1 + success) + (1 - mean) * failure
        value[here], best[here] = worth.max(axis=0), worth.argmax(axis=0)
    return best, float(value[0])


class BayesOptimal(AbstractCounting):
    """Optimal play of a small Bernoulli bandit for `pulls` pulls; `value` is what it earns on average, exactly.

    >>> player = BayesOptimal.solve(arms=2, pulls=10)
    >>> round(player.value, 3)
    6.022
    """

    arms: int = eqx.field(static=True)
    pulls: int = eqx.field(static=True)
    value: float = eqx.field(static=True)
    policy: Int[Array, " beliefs"]

    @classmethod
    def solve(cls, arms: int, pulls: int) -> "BayesOptimal":
        """Compute the table. Raises what `solve_bandit` raises."""
        policy, value = solve_bandit(arms, pulls)
        return cls(arms, pulls, value, jnp.asarray(policy))

    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        belief = jnp.stack([counts.payoffs, counts.pulls - counts.payoffs], axis=1).reshape(-1).astype(jnp.int32)
        place = jnp.sum(belief * (self.pulls + 1) ** jnp.arange(2 * self.arms - 1, -1, -1))
        best = (jnp.arange(self.arms) == self.policy[place].astype(jnp.int32)).astype(jnp.float32)
        # When the life that was solved for is over, there is nothing left to explore for.
        return jnp.where(jnp.sum(counts.pulls) < self.pulls, best, posterior_mean(counts))


class CorrelatedGreedy(AbstractCounting):
    """Optimal play of two arms that pay with p and 1 - p: each pull tells as much about one arm as about the other, so greed is free.

    A failure of one arm counts as a success of the other.
    """

    arms: int = eqx.field(static=True, default=2, init=False)

    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return counts.payoffs + jnp.flip(counts.pulls - counts.payoffs)
