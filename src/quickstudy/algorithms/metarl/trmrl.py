"""TrMRL: a transformer over the recent transitions is the agent's memory: what it attends to is which task this is like.

* Slow: the transformer's weights. Fast: the keys and values of the last `reach` ticks in every layer.
* One outer step: that of RL^2, PPO over whole lives.

Each of `layers` layers reads the recent past and mixes it in, small at first, so that the agent starts out as one without memory:

    x_t <- x_t + attention(norm(x_(t-reach+1)), ..., norm(x_t)),      x_t <- x_t + MLP(norm(x_t)),      a_t ~ pi(. | norm(x_t))

Source: Melo 2022, "Transformers are Meta-Reinforcement Learners" (with T-fixup initialisation where we start residual branches at a
tenth of their size).
Builds on: RL^2, SNAIL, transformers. Led to: in-context reinforcement learning with long contexts.
"""

import dataclasses

import equinox as eqx
import jax
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl import rl2
from quickstudy.algorithms.rl import ppo
from quickstudy.algorithms.rl.actor_critic import EVERYTHING, ActorCritic, actor_critic, inputs
from quickstudy.core import AbstractTaskDistribution
from quickstudy.nn.attention import CausalAttention, Recent
from quickstudy.nn.memory import AbstractMemory, Chain, EachTick
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Preset, Program
from quickstudy.tasks.bandits import BernoulliBandit

_SMALL = 0.1  # ours: the size of a residual branch at birth


class Layer(AbstractMemory):
    """One pre-norm transformer layer."""

    attention: CausalAttention
    mixing: MLP
    before_attention: eqx.nn.LayerNorm
    before_mixing: eqx.nn.LayerNorm

    def __init__(self, width: int, heads: int, reach: int, *, key: PRNGKeyArray):
        attention_key, mixing_key = jr.split(key)
        self.attention = CausalAttention(width, heads=heads, size=width // heads, reach=reach, key=attention_key)
        self.mixing = MLP((width, 2 * width, width), key=mixing_key)
        self.before_attention, self.before_mixing = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)

    def start(self) -> Recent:
        return self.attention.start()

    def step(self, memory: Recent, x: Float[Array, " width"]) -> tuple[Recent, Float[Array, " width"]]:
        after, read = self.attention.step(memory, self.before_attention(x))
        return after, self._mix(x + _SMALL * read)

    def unroll(self, memory: Recent, xs: Float[Array, "ticks width"]) -> Float[Array, "ticks width"]:
        return jax.vmap(self._mix)(xs + _SMALL * self.attention.unroll(memory, jax.vmap(self.before_attention)(xs)))

    def _mix(self, x: Float[Array, " width"]) -> Float[Array, " width"]:
        return x + _SMALL * self.mixing(self.before_mixing(x))


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of `rl2`, but for the network."""

    width: int = 32  # ours, not tuned
    heads: int = 2  # ours, not tuned
    layers: int = 2  # ours: Melo 2022 takes 4
    reach: int = 100  # ours: a whole life; Melo 2022 takes 5 to 25 ticks
    lives: int = 64  # as rl2
    ticks: int = 100  # as rl2
    epochs: int = 2  # as rl2
    minibatches: int = 8  # as rl2
    learning_rate: float = 0.001  # ours: a usual one for transformers
    anneal: int = 0  # as rl2
    discount: float = 1.0  # as rl2
    decay: float = 0.98  # as rl2
    clip: float = 0.2  # as rl2
    entropy: float = 0.03  # as rl2

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads, not {self.width} with heads={self.heads}")


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    embedding_key, heads_key, *layer_keys = jr.split(key, config.layers + 2)
    embedding = EachTick(MLP((inputs(tasks, EVERYTHING)[0], config.width), key=embedding_key))
    layers = [Layer(config.width, config.heads, config.reach, key=layer_key) for layer_key in layer_keys]
    memory = Chain((embedding, *layers, EachTick(eqx.nn.LayerNorm(config.width))))
    return actor_critic(tasks, memory, config.width, (), reads=EVERYTHING, key=heads_key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO over whole lives, each in a new task."""
    return ppo.improve(rl2.over_lives(config), tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "bandit": Preset(Config(), BernoulliBandit, 400, 100, "about 0.8 a pull at the end"),
    "smoke": Preset(Config(width=8, reach=5, lives=4, ticks=8, minibatches=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}
