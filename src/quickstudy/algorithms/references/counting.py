"""Bandit strategies that count pulls and payoffs: they know the prior of Bernoulli arms, and need no training.

Slow: nothing but a constant. Fast: two counts for every arm. All start from the uniform prior, one success and one failure for each
arm.

Sources: UCB1: Auer, Cesa-Bianchi and Fischer 2002, "Finite-time Analysis of the Multiarmed Bandit Problem". Thompson sampling:
Thompson 1933, "On the Likelihood that One Unknown Probability Exceeds Another in View of the Evidence of Two Samples". All of them as
references of learned agents: Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", section 3.1.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.tasks.control import ControlView, draw_among


class Counts(NamedTuple):
    """How often each arm was pulled, and what it paid in all."""

    pulls: Float[Array, " arms"]
    payoffs: Float[Array, " arms"]


class AbstractCounting(AbstractLearner):
    """A strategy that gives every arm an index from the counts and pulls the largest; ties are broken at random."""

    arms: eqx.AbstractVar[int]

    @abc.abstractmethod
    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        """What each arm looks worth."""

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Counts:
        return Counts(jnp.zeros(self.arms), jnp.zeros(self.arms))

    def respond(self, fast: Counts, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        index_key, tie_key = jr.split(key)
        index = self.index(fast, index_key)
        return draw_among(tie_key, (index == jnp.max(index)).astype(jnp.float32))

    def observe(self, fast: Counts, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray) -> Counts:
        return Counts(fast.pulls.at[response].add(1.0), fast.payoffs.at[response].add(feedback.reward))


def posterior_mean(counts: Counts) -> Float[Array, " arms"]:
    """The expected payoff of every Bernoulli arm after a uniform prior.

    >>> posterior_mean(Counts(jnp.array([0.0, 2.0]), jnp.array([0.0, 2.0]))).tolist()
    [0.5, 0.75]
    """
    return (counts.payoffs + 1) / (counts.pulls + 2)


class UCB1(AbstractCounting):
    """The posterior mean plus `width` sqrt(2 log t / n), n counting the prior's two pulls: optimism in the face of uncertainty.

    >>> import jax
    >>> from quickstudy.evaluation import evaluate
    >>> from quickstudy.tasks import BernoulliBandit
    >>> evaluate(UCB1(arms=3), BernoulliBandit(arms=3), n_tasks=10, steps=4, key=jax.random.key(0)).curve.mean.shape
    (4,)
    """

    arms: int = eqx.field(static=True)
    width: float = 0.2  # ours: the best, or within its error, of ten on valid bandits of 5, 10, 50 arms and 10, 100, 500 pulls

    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        tick = jnp.sum(counts.pulls) + 1
        return posterior_mean(counts) + self.width * jnp.sqrt(2 * jnp.log(tick) / (counts.pulls + 2))


class Thompson(AbstractCounting):
    """A draw from every arm's posterior, Beta(1 + successes, 1 + failures): an arm is pulled as often as it may be the best."""

    arms: int = eqx.field(static=True)

    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return jr.beta(key, 1 + counts.payoffs, 1 + counts.pulls - counts.payoffs)


class EpsilonGreedy(AbstractCounting):
    """The largest posterior mean, but any arm at random with chance `epsilon`."""

    arms: int = eqx.field(static=True)
    epsilon: float = 0.05  # ours: the best of six on valid bandits of 5, 10 and 50 arms, 500 pulls; up to 100 pulls 0.01 is better

    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return jnp.where(jr.uniform(key) < self.epsilon, 0.0, posterior_mean(counts))


class Greedy(AbstractCounting):
    """The largest posterior mean."""

    arms: int = eqx.field(static=True)

    def index(self, counts: Counts, key: PRNGKeyArray) -> Float[Array, " arms"]:
        return posterior_mean(counts)


class RandomAction(AbstractLearner):
    """Any of `n` actions, whatever is seen: the score of knowing nothing."""

    n: int = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> None:
        return None

    def respond(self, fast: None, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return jr.randint(key, (), 0, self.n)

    def observe(self, fast: None, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray) -> None:
        return None
