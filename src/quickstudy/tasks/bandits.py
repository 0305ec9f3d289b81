"""Bernoulli bandits: arms that pay one or nothing, each with a hidden probability.

View and feedback are one `BanditView`: last action, last reward, last end. Response: an integer action. Score: the reward.
Source: Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning" (arms' probabilities uniform on [0, 1]).
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Split, Turn
from quickstudy.tasks.splits import draw_in_split


class BanditView(NamedTuple):
    """What a player knows of the last pull; before the first one, action -1 and reward 0."""

    action: Int[Array, ""]
    reward: Float[Array, ""]
    end: Int[Array, ""]


class Bandit(AbstractTask):
    """One bandit: the probability that each arm pays, shape `(arms,)`."""

    probabilities: Float[Array, " arms"]

    def reset(self, key: PRNGKeyArray) -> tuple[None, BanditView]:
        running = jnp.asarray(End.RUNNING, jnp.int32)
        return None, BanditView(jnp.asarray(-1, jnp.int32), jnp.zeros(()), running)

    def step(self, world: None, response: Int[Array, ""], key: PRNGKeyArray) -> Turn:
        reward = jr.bernoulli(key, self.probabilities[response]).astype(jnp.float32)
        # Every pull is an episode of its own, so that the end is visible and lifetimes of any length are fair.
        view = BanditView(jnp.asarray(response, jnp.int32), reward, jnp.asarray(End.TERMINATED, jnp.int32))
        return Turn(world, view, view, reward, view.end)


class BernoulliBandit(AbstractTaskDistribution):
    """Bandits with `arms` independent arms, uniform on [0, 1]; the splits own disjoint slices of the first arm's probability.

    "out-of-range" bandits are hard: all arms lie within 0.1 of each other, in the slices of the test split.

    >>> import jax
    >>> BernoulliBandit(arms=3).sample(jax.random.key(0), "test").probabilities.shape
    (3,)
    """

    arms: int = eqx.field(static=True, default=5)  # Duan et al. 2016: 5, 10 and 50

    def __check_init__(self) -> None:
        if self.arms < 2:
            raise ValueError(f"arms must be at least 2, not {self.arms}")

    def sample(self, key: PRNGKeyArray, split: Split) -> Bandit:
        first_key, other_key = jr.split(key)
        hard = split == "out-of-range"
        first = draw_in_split(first_key, "test" if hard else split, 0.0, 1.0)
        if hard:
            others = jnp.clip(first + jr.uniform(other_key, (self.arms - 1,), minval=-0.1, maxval=0.1), 0.0, 1.0)
        else:
            others = jr.uniform(other_key, (self.arms - 1,))
        return Bandit(jnp.concatenate([first[None], others]))
