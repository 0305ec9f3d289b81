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

import jax.random as jr
from jaxtyping import PRNGKeyArray

from quickstudy.algorithms.rl import ppo
from quickstudy.algorithms.rl.actor_critic import EVERYTHING, ActorCritic, actor_critic, inputs
from quickstudy.core import AbstractTaskDistribution
from quickstudy.nn.memory import GRU
from quickstudy.outer import Preset, Program
from quickstudy.tasks.bandits import BernoulliBandit


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours where no source is named: chosen on training reward and validation bandits."""

    width: int = 64  # ours: Duan et al. 2016 take 256, which costs eight times as much and is not needed here
    lives: int = 64  # ours
    ticks: int = 100  # of a whole life; Duan et al. 2016: 10, 100, 500 pulls
    epochs: int = 4  # ours
    minibatches: int = 4  # ours
    learning_rate: float = 0.003  # ours
    anneal: int = 0  # outer steps after which learning rate and entropy bonus have fallen to zero; 0: they do not fall
    discount: float = 1.0  # Duan et al. 2016 take 0.99; the sum that is reported is not discounted
    decay: float = 0.95  # ours; Duan et al. 2016 take 0.3
    clip: float = 0.2  # Schulman et al. 2017
    entropy: float = 0.01  # ours


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """A recurrent agent with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    memory_key, heads_key = jr.split(key)
    size, _ = inputs(tasks, EVERYTHING)
    return actor_critic(tasks, GRU(size, config.width, key=memory_key), config.width, (), reads=EVERYTHING, key=heads_key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO over whole lives, each in a new task."""
    settings = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    through = ppo.Config(**settings, horizon=config.ticks, across_episodes=True)
    return ppo.improve(through, tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "bandit": Preset(Config(), BernoulliBandit, 1_200, 100, "about 0.83 a pull at the end, near Gittins, 60 s"),
    "smoke": Preset(Config(width=8, lives=4, ticks=8, minibatches=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}
