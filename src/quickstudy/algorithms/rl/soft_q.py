"""Soft Q-learning: act in proportion to exp(Q / temperature), and count the freedom to do so as part of what a place is worth.

* Slow: the network's weights. Fast: nothing.
* One outer step: that of DQN, with the largest value replaced by the soft one.

The policy maximises reward plus temperature times its own entropy; where actions are equally good it keeps them all:

    V(s) = temperature log sum over a of exp(Q(s, a) / temperature),      Q(s, a) = r + discount V(s'),
    pi(a | s) = exp((Q(s, a) - V(s)) / temperature)

Source: Haarnoja, Tang, Abbeel and Levine 2017, "Reinforcement Learning with Deep Energy-Based Policies"; with few actions, as here,
both the sum and the policy are exact, and no sampler is needed.

Builds on: DQN, maximum-entropy reinforcement learning. Led to: SAC, which learns the policy too and so can have continuous actions.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl import dqn
from quickstudy.algorithms.rl.actor_critic import Feature, Sees
from quickstudy.core import AbstractTaskDistribution, Number
from quickstudy.nn.policies import Categorical
from quickstudy.outer import Preset, Program, shared_settings
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.control import Discrete


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of `dqn.Config`, and the temperature."""

    temperature: Number = 0.1  # ours: a tenth of a typical reward; Haarnoja et al. 2017 scale rewards instead
    lives: int = 8  # as DQN
    ticks: int = 2  # as DQN
    updates: int = 2  # as DQN
    batch: int = 128  # as DQN
    capacity: int = 10_000  # as DQN
    warmup: int = 1_000  # as DQN
    learning_rate: Number = 2.5e-4  # as DQN
    discount: Number = 0.99  # as DQN
    target_every: int = 50  # as DQN
    width: int = 64  # as DQN
    sees: Sees = "observation"  # everything: the last action, reward and end too


class SoftAgent(dqn.AbstractValueAgent):
    """Draws actions in proportion to exp(value / temperature)."""

    network: eqx.Module
    temperature: Number
    actions: Discrete = eqx.field(static=True)
    reads: tuple[Feature, ...] = eqx.field(static=True)

    def choose(self, values: Float[Array, " actions"], key: PRNGKeyArray) -> Int[Array, ""]:
        return Categorical(values / self.temperature).draw(key)

    def worth(self, target: Float[Array, " actions"], online: Float[Array, " actions"]) -> Float[Array, ""]:
        return soft_maximum(target, self.temperature)


def soft_maximum(values: Float[Array, "... actions"], temperature: Number) -> Float[Array, "..."]:
    """What a place is worth to who draws actions in proportion to exp(value / temperature), and likes to be free.

    >>> float(soft_maximum(jnp.array([0.0, 1.0]), 1e-3))
    1.0
    """
    return temperature * jax.nn.logsumexp(values / temperature, axis=-1)


def soft_value_iteration(
    rewards: Float[Array, "places actions"],
    moves: Float[Array, "places actions places"],
    discount: Number,
    temperature: Number,
    steps: int = 1_000,
) -> Float[Array, "places actions"]:
    """The exact soft values of a known world: `moves[s, a]` are the chances of the next places, all zero where the episode ends.

    After `steps` the error is at most discount^steps of what it was.

    >>> rewards, moves = jnp.array([[1.0, 0.0]]), jnp.zeros((1, 2, 1))
    >>> soft_value_iteration(rewards, moves, 0.9, 1.0).tolist()
    [[1.0, 0.0]]
    """

    def sweep(_: Array, values: Array) -> Array:
        return rewards + discount * moves @ soft_maximum(values, temperature)

    return jax.lax.fori_loop(0, steps, sweep, jnp.zeros_like(rewards))


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> SoftAgent:
    """An agent that draws its actions; see `dqn.values_network` for what it refuses."""
    network, actions, reads = dqn.values_network(config.width, config.sees, tasks, key)
    return SoftAgent(network=network, temperature=config.temperature, actions=actions, reads=reads)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Soft Q-learning in one task after another, or in one that never ends: its own policy explores."""
    return dqn.improve(shared_settings(dqn.Config, config), tasks, lambda key: learner(config, tasks, key), lambda agent, _: agent)


_SMOKE = Config(lives=4, batch=8, capacity=64, warmup=16, width=8, sees="everything")

PRESETS = {
    "smoke": Preset(_SMOKE, BernoulliBandit, 4, 8, "it runs"),
}
