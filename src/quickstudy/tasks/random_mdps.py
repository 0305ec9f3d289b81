"""Random Markov decision processes with few states: nothing to see but the state, everything else must be found out.

Observation: the state, one-hot. Response: the action. Score: the reward, which is normal about its mean with deviation 1. An episode
begins in state 0 and is cut off after `horizon` ticks; all episodes of a life have the same transitions and rewards.

Source: Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", section 3.2; the prior is that of Osband
et al. 2013, "(More) Efficient Reinforcement Learning via Posterior Sampling".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import Split
from quickstudy.tasks.bandits import normal_in_split
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Discrete, Episode, draw_among
from quickstudy.tasks.drawing import BLUE, ORANGE, WHITE, cells


class RandomMDP(AbstractEnvironment):
    """One decision process: `transitions[s, a]` are the probabilities of the next states, `rewards[s, a]` the mean rewards."""

    transitions: Float[Array, "states actions states"]
    rewards: Float[Array, "states actions"]
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Discrete:
        return Discrete(self.rewards.shape[-1])

    def begin(self, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def look(self, state: Int[Array, ""]) -> Float[Array, " states"]:
        return jax.nn.one_hot(state, self.rewards.shape[0])

    def act(
        self, state: Int[Array, ""], action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        reward_key, next_key = jr.split(key)
        reward = self.rewards[state, action] + jr.normal(reward_key)
        return draw_among(next_key, self.transitions[state, action]), reward, jnp.zeros((), bool)

    def text(self, world: Episode) -> str:
        """One line for each state with the mean reward of each action; an arrow points at the current state."""
        rows = enumerate(np.asarray(self.rewards))
        return "\n".join(
            f"{'>' if state == int(world.state) else ' '} {state:2d} " + " ".join(f"{mean:6.2f}" for mean in row)
            for state, row in rows
        )

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """One row for each state, one column for each action, the deeper the colour the larger the mean reward; here is orange."""
        rewards = np.asarray(self.rewards, float)
        depth = (rewards - rewards.min()) / max(float(np.ptp(rewards)), 1e-9)
        here = np.arange(len(rewards)) == int(world.state)
        full = np.where(here[:, None, None], np.array(ORANGE), np.array(BLUE))
        return cells((np.array(WHITE) + depth[..., None] * (full - np.array(WHITE))).astype(np.uint8))


class RandomMDPs(AbstractControl):
    """Decision processes with mean rewards drawn from a normal distribution of mean 1 and deviation 1, and transitions from
    Dirichlet(1).

    The splits own disjoint slices of the first mean reward's distribution function. "out-of-range" processes are nearly deterministic:
    the exponential weights whose shares are Dirichlet(1) are taken to the fourth power.

    Raises `ValueError` for fewer than 2 states or actions, or an empty episode.

    >>> RandomMDPs().sample(jax.random.key(0), "test").transitions.shape
    (10, 5, 10)
    """

    n_states: int = eqx.field(static=True, default=10)  # Duan et al. 2016
    n_actions: int = eqx.field(static=True, default=5)  # Duan et al. 2016
    horizon: int = eqx.field(static=True, default=10)  # Duan et al. 2016

    def __check_init__(self) -> None:
        for name, least in (("n_states", 2), ("n_actions", 2), ("horizon", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")

    @property
    def actions(self) -> Discrete:
        return Discrete(self.n_actions)

    def sample(self, key: PRNGKeyArray, split: Split) -> RandomMDP:
        first_key, reward_key, transition_key = jr.split(key, 3)
        hard = split == "out-of-range"
        first = normal_in_split(first_key, "test" if hard else split)
        others = jr.normal(reward_key, (self.n_states * self.n_actions - 1,))
        rewards = 1 + jnp.concatenate([first[None], others]).reshape(self.n_states, self.n_actions)
        weights = jr.exponential(transition_key, (self.n_states, self.n_actions, self.n_states)) ** (4 if hard else 1)
        transitions = weights / jnp.sum(weights, axis=-1, keepdims=True)
        return RandomMDP(transitions=transitions, rewards=rewards, horizon=self.horizon)
