"""RL^2: the agent's memory runs through all episodes of one task, so that what it does with it *is* a learning algorithm.

* Slow: the weights of a recurrent network. Fast: its memory, which is wiped only when the task changes.
* One outer step: live whole lives in a batch of new tasks, and improve the weights with PPO. A life, not an episode, is what is
  maximised: so exploring early pays, if it helps later.

The memory reads what was seen and what came of the last action; both heads stand on it:

    h_t = GRU([o_t, a_(t-1), r_(t-1), end_(t-1)], h_(t-1)),      a_t ~ pi(. | h_t),      maximise E[sum of r_t over the life]

Source: Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning" (TRPO where we use PPO).
Builds on: in-context learning of recurrent networks, PPO. Led to: SNAIL, transformer memories, in-context reinforcement learning.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.rl import ppo
from quickstudy.algorithms.rl.actor_critic import EVERYTHING, AbstractActorCritic, TanhMLP, actor_critic, head, inputs
from quickstudy.core import AbstractTaskDistribution
from quickstudy.nn.memory import GRU
from quickstudy.nn.policies import Categorical, Policy
from quickstudy.outer import Preset, Program
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.control import Actions, ControlView, Discrete


class TiedActorCritic(AbstractActorCritic):
    """One small recurrent unit for every action, all with the same weights: for tasks whose actions are interchangeable, like arms.

    Each unit reads whether its action was the last one, what that paid, and the mean of all memories; its preference is read from
    its own memory and that mean, the value from the mean. So permuting the arms permutes the policy, and what is learned about one arm
    is learned about all of them.
    """

    unit: GRU
    actor: TanhMLP
    critic: TanhMLP
    actions: Discrete = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Float[Array, "actions width"]:
        return jnp.tile(self.unit.start(), (self.actions.n, 1))

    def judge(self, fast: Float[Array, "actions width"], view: ControlView) -> tuple[Array, Policy, Float[Array, ""]]:
        last = jax.nn.one_hot(view.action, self.actions.n)
        seen = jnp.stack([last, view.reward * last], axis=1)
        everyone = lambda memories: jnp.broadcast_to(jnp.mean(memories, axis=0), memories.shape)
        after, _ = jax.vmap(self.unit.step)(fast, jnp.concatenate([seen, everyone(fast)], axis=1))
        preferences = jax.vmap(self.actor)(jnp.concatenate([after, everyone(after)], axis=1))[:, 0]
        return after, Categorical(preferences), self.critic(jnp.mean(after, axis=0))[0]

    def unroll(self, fast: Float[Array, "actions width"], views: ControlView) -> tuple[Policy, Float[Array, " ticks"]]:
        def tick(fast: Array, view: ControlView) -> tuple[Array, tuple[Policy, Array]]:
            after, policy, value = self.judge(fast, view)
            return after, (policy, value)

        return jax.lax.scan(tick, fast, views)[1]


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours where no source is named: chosen on training reward and validation bandits."""

    tied: bool = False  # one unit of `width` for each action, sharing weights, where actions are interchangeable
    width: int = 64  # ours: Duan et al. 2016 take 256, which costs eight times as much and is not needed here
    lives: int = 64  # ours
    ticks: int = 100  # of a whole life; Duan et al. 2016: 10, 100, 500 pulls
    epochs: int = 2  # ours: four take twice the time and gain less than twice the lives do
    minibatches: int = 4  # ours
    learning_rate: float = 0.003  # ours
    anneal: int = 0  # outer steps after which learning rate and entropy bonus have fallen to zero; 0: they do not fall
    discount: float = 1.0  # Duan et al. 2016 take 0.99; the sum that is reported is not discounted
    decay: float = 0.98  # ours: 0.95 explores less; Duan et al. 2016 take 0.3
    clip: float = 0.2  # Schulman et al. 2017
    entropy: float = 0.01  # ours


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> AbstractActorCritic:
    """A recurrent agent with fresh weights.

    Raises `TypeError` unless the tasks are of the control kind, and for a tied one unless their actions are discrete.
    """
    memory_key, heads_key = jr.split(key)
    size, actions = inputs(tasks, EVERYTHING)
    if config.tied:
        return _tied(config, actions, key)
    return actor_critic(tasks, GRU(size, config.width, key=memory_key), config.width, (), reads=EVERYTHING, key=heads_key)


def _tied(config: Config, actions: Actions, key: PRNGKeyArray) -> TiedActorCritic:
    if not isinstance(actions, Discrete):
        raise TypeError(f"tied units need discrete actions, not {actions}")
    unit_key, actor_key, critic_key = jr.split(key, 3)
    actor = head((2 * config.width, 1), 0.01, True, key=actor_key)
    critic = head((config.width, 1), 1.0, True, key=critic_key)
    return TiedActorCritic(GRU(2 + config.width, config.width, key=unit_key), actor, critic, actions)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO over whole lives, each in a new task."""
    return ppo.improve(over_lives(config), tasks, lambda key: learner(config, tasks, key))


def over_lives(config: Any) -> ppo.Config:
    """PPO's settings for lives of `config.ticks` ticks, which count as one episode; what both configurations name is taken over."""
    known = {field.name for field in dataclasses.fields(ppo.Config)}
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(config) if field.name in known}
    return ppo.Config(**shared, horizon=config.ticks, across_episodes=True)


PRESETS = {
    "bandit": Preset(
        Config(tied=True, width=16, learning_rate=0.005, anneal=700),
        BernoulliBandit,
        700,
        100,
        "about 78.3 in 100 pulls of five arms, where the Gittins index has 78.7, 40 s",
    ),
    "demo": Preset(
        Config(tied=True, width=16, learning_rate=0.005, entropy=0.02, anneal=400),
        lambda: BernoulliBandit(arms=10),
        400,
        100,
        "about 83 in 100 pulls of ten arms, where the Gittins index has 83.8, 40 s: see `quickstudy demo`",
    ),
    "smoke": Preset(Config(width=8, lives=4, ticks=8, minibatches=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}
