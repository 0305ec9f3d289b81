"""References for random decision processes: plan in what is believed, in a draw from what is believed, or in the truth.

Slow: nothing. Fast: what was seen (every transition and its reward), and the plan for this episode. The beliefs are exact,
because the prior of `RandomMDPs` is conjugate: with n visits of (s, a), c of them followed by s', and rewards that sum to r,

    transitions of (s, a) ~ Dirichlet(1 + c),      mean reward of (s, a) ~ normal with mean (1 + r) / (1 + n), variance 1 / (1 + n)

Sources: posterior sampling (PSRL): Strens 2000, "A Bayesian Framework for Reinforcement Learning"; Osband et al. 2013, "(More)
Efficient Reinforcement Learning via Posterior Sampling". Backward induction: Bellman 1957, "Dynamic Programming".
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.evaluation import AbstractOracle
from quickstudy.tasks.control import ControlView
from quickstudy.tasks.random_mdps import RandomMDP


def value_iteration(
    transitions: Float[Array, "states actions states"], rewards: Float[Array, "states actions"], horizon: int, discount: float = 1.0
) -> tuple[Int[Array, "horizon states"], Float[Array, "horizon states"]]:
    """The best action at each time in each state, and what it earns from there on, in `horizon` ticks.

    With a discount below 1, the first row approaches the endless life's as `horizon` grows: the error shrinks by `discount` per tick.

    >>> to_other = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # action 0 stays, action 1 goes to the other state
    >>> policy, values = value_iteration(to_other, jnp.array([[0.0, -1.0], [3.0, 3.0]]), 2)
    >>> policy.tolist(), values.tolist()
    ([[1, 0], [0, 0]], [[2.0, 6.0], [0.0, 3.0]])
    """

    def back(after: Float[Array, " states"], _: None) -> tuple[Float[Array, " states"], tuple[Array, Array]]:
        worth = rewards + discount * transitions @ after
        value = jnp.max(worth, axis=-1)
        return value, (jnp.argmax(worth, axis=-1).astype(jnp.int32), value)

    return jax.lax.scan(back, jnp.zeros(rewards.shape[0]), None, length=horizon, reverse=True)[1]


class Experience(NamedTuple):
    """What was seen, the plan for this episode, and the age of the life.

    `path[i]` is the place of tick i's transition in an array of shape `(states, actions, states)`, and beyond its end while there is
    none; `rewards[i]` is what tick i brought; `plan[t, s]` is the action to take at time t of the episode.
    """

    path: Int[Array, " ticks"]
    rewards: Float[Array, " ticks"]
    plan: Int[Array, "horizon states"]
    tick: Int[Array, ""]


class AbstractPlanner(AbstractLearner):
    """Before each episode it chooses a decision process to plan in, and then acts optimally in it; it remembers `ticks` transitions.

    It counts the ticks of an episode itself: lives of one batch then plan at the same ticks, and only there.
    """

    ticks: eqx.AbstractVar[int]
    n_states: eqx.AbstractVar[int]
    n_actions: eqx.AbstractVar[int]
    horizon: eqx.AbstractVar[int]

    @abc.abstractmethod
    def weigh(self, n: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        """The weights of n transitions, possible or seen; the transitions to plan with are their shares."""

    @abc.abstractmethod
    def noise(self, visits: Float[Array, "states actions"], key: PRNGKeyArray) -> Float[Array, "states actions"]:
        """How far the mean rewards to plan with are from the expected ones."""

    def imagine(
        self, path: Int[Array, " ticks"], rewards: Float[Array, " ticks"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "states actions states"], Float[Array, "states actions"]]:
        """The transitions and mean rewards of the process to plan in after this experience."""
        weight_key, noise_key = jr.split(key)
        pairs, possible = (self.n_states, self.n_actions), self._possible()
        weights = self.weigh(possible + self.ticks, weight_key)
        weight = weights[:possible].at[path].add(weights[possible:], mode="drop").reshape(*pairs, self.n_states)
        at_pairs = jnp.zeros((2, self.n_states * self.n_actions)).at[:, path // self.n_states]
        visits, totals = at_pairs.add(jnp.stack([jnp.ones(self.ticks), rewards]), mode="drop").reshape(2, *pairs)
        means = (1 + totals) / (1 + visits) + self.noise(visits, noise_key)
        return weight / jnp.sum(weight, axis=-1, keepdims=True), means

    def plan(self, path: Int[Array, " ticks"], rewards: Float[Array, " ticks"], key: PRNGKeyArray) -> Int[Array, "horizon states"]:
        """The best action at each time in each state of that process."""
        return value_iteration(*self.imagine(path, rewards, key), self.horizon)[0]

    def _possible(self) -> int:
        return self.n_states * self.n_actions * self.n_states

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Experience:
        path, rewards = jnp.full(self.ticks, self._possible()), jnp.zeros(self.ticks)
        return Experience(path, rewards, self.plan(path, rewards, key), jnp.zeros((), jnp.int32))

    def respond(self, fast: Experience, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return fast.plan[fast.tick % self.horizon, jnp.argmax(view.observation)]

    def observe(
        self, fast: Experience, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray
    ) -> Experience:
        state, after = (jnp.argmax(seen.observation).astype(jnp.int32) for seen in (view, feedback))
        path = fast.path.at[fast.tick].set((state * self.n_actions + response) * self.n_states + after, mode="drop")
        rewards = fast.rewards.at[fast.tick].set(feedback.reward, mode="drop")
        plan = jax.lax.cond((fast.tick + 1) % self.horizon == 0, lambda: self.plan(path, rewards, key), lambda: fast.plan)
        return Experience(path, rewards, plan, fast.tick + 1)


class PSRL(AbstractPlanner):
    """Posterior sampling: plans in one process drawn from the belief, so that it explores whatever may be the best.

    A draw from Dirichlet(1 + c) is the shares of exponential weights, one for each possibility and one for each time that it was seen,
    which is sixty times faster than drawing gamma numbers. Source: Rubin 1981, "The Bayesian Bootstrap".

    >>> from quickstudy.evaluation import evaluate
    >>> from quickstudy.tasks import RandomMDPs
    >>> evaluate(PSRL(ticks=20), RandomMDPs(), n_tasks=10, steps=20, key=jax.random.key(0)).curve.mean.shape
    (20,)
    """

    ticks: int = eqx.field(static=True)
    n_states: int = eqx.field(static=True, default=10)  # that of `RandomMDPs`
    n_actions: int = eqx.field(static=True, default=5)  # that of `RandomMDPs`
    horizon: int = eqx.field(static=True, default=10)  # that of `RandomMDPs`

    def weigh(self, n: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jr.exponential(key, (n,))

    def noise(self, visits: Float[Array, "states actions"], key: PRNGKeyArray) -> Float[Array, "states actions"]:
        return jr.normal(key, visits.shape) / jnp.sqrt(1 + visits)


class BayesGreedy(AbstractPlanner):
    """Plans in the expected process, and never for the sake of finding out."""

    ticks: int = eqx.field(static=True)
    n_states: int = eqx.field(static=True, default=10)  # that of `RandomMDPs`
    n_actions: int = eqx.field(static=True, default=5)  # that of `RandomMDPs`
    horizon: int = eqx.field(static=True, default=10)  # that of `RandomMDPs`

    def weigh(self, n: int, key: PRNGKeyArray) -> Float[Array, " n"]:
        return jnp.ones(n)

    def noise(self, visits: Float[Array, "states actions"], key: PRNGKeyArray) -> Float[Array, "states actions"]:
        return jnp.zeros_like(visits)


class Follow(AbstractLearner):
    """Follows a plan, `plan[t, s]` at time t of every episode; its fast state is t."""

    plan: Int[Array, "horizon states"]

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def respond(self, fast: Int[Array, ""], view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return self.plan[fast, jnp.argmax(view.observation)]

    def observe(
        self, fast: Int[Array, ""], view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray
    ) -> Int[Array, ""]:
        return (fast + 1) % self.plan.shape[0]


class Optimum(AbstractOracle):
    """Knows the transitions and mean rewards, and plans with them: nobody earns more on average."""

    def informed(self, task: RandomMDP) -> Follow:
        return Follow(value_iteration(task.transitions, task.rewards, task.horizon)[0])
