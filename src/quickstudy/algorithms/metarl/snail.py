"""SNAIL: what a life has shown is read by causal convolutions with growing strides and by attention, instead of a recurrent state.

* Slow: the weights of convolutions and attention. Fast: what they keep of the past, which grows with the life up to its length.
* One outer step: that of RL^2, PPO over whole lives.

A dense block with stride d adds gated features of two moments to what it reads; blocks with d = 1, 2, 4, ... see all of the life:

    x_t <- [x_t, tanh(W_f [x_t, x_(t-d)]) sigmoid(W_g [x_t, x_(t-d)])],      then  x_t <- [x_t, attention over all x_(<= t)]

Source: Mishra et al. 2018, "A Simple Neural Attentive Meta-Learner".
Builds on: RL^2, WaveNet's convolutions, attention. Led to: transformer memories, in-context reinforcement learning.
"""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl import rl2
from quickstudy.algorithms.rl import ppo
from quickstudy.algorithms.rl.actor_critic import EVERYTHING, ActorCritic, actor_critic, inputs
from quickstudy.core import AbstractTaskDistribution
from quickstudy.nn.attention import CausalAttention, Recent
from quickstudy.nn.memory import AbstractMemory, Chain
from quickstudy.outer import Preset, Program
from quickstudy.tasks.bandits import BernoulliBandit


class DenseBlock(AbstractMemory):
    """Gated features of the present tick and of the one `stride` ticks before, added to what is read; before birth all was zero."""

    weight: Float[Array, "2 inputs_twice filters"]
    stride: int = eqx.field(static=True)

    def __init__(self, inputs: int, filters: int, stride: int, *, key: PRNGKeyArray):
        self.weight = jr.normal(key, (2, 2 * inputs, filters)) / (2 * inputs) ** 0.5
        self.stride = stride

    def start(self) -> Float[Array, "stride inputs"]:
        return jnp.zeros((self.stride, self.weight.shape[1] // 2))

    def step(self, memory: Float[Array, "stride inputs"], x: Float[Array, " inputs"]) -> tuple[Array, Float[Array, " outputs"]]:
        return jnp.concatenate([memory[1:], x[None]]), self.unroll(memory, x[None])[0]

    def unroll(self, memory: Float[Array, "stride inputs"], xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        before = jnp.concatenate([memory, xs])[: xs.shape[0]]
        features, gates = jnp.einsum("ti,pif->ptf", jnp.concatenate([xs, before], axis=1), self.weight)
        return jnp.concatenate([xs, jnp.tanh(features) * jax.nn.sigmoid(gates)], axis=1)


class Attending(AbstractMemory):
    """What attention reads, added to what is read."""

    attention: CausalAttention

    def start(self) -> Recent:
        return self.attention.start()

    def step(self, memory: Recent, x: Float[Array, " inputs"]) -> tuple[Recent, Float[Array, " outputs"]]:
        after, read = self.attention.step(memory, x)
        return after, jnp.concatenate([x, read])

    def unroll(self, memory: Recent, xs: Float[Array, "ticks inputs"]) -> Float[Array, "ticks outputs"]:
        return jnp.concatenate([xs, self.attention.unroll(memory, xs)], axis=1)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of `rl2`, but for the network."""

    filters: int = 16  # ours: Mishra et al. 2018 take 32 in bandits
    lives: int = 64  # as rl2
    ticks: int = 100  # as rl2: of a whole life, and how far attention reaches
    epochs: int = 2  # as rl2
    minibatches: int = 8  # as rl2
    learning_rate: float = 0.002  # ours: attention is less patient than a recurrent unit
    anneal: int = 0  # as rl2
    discount: float = 1.0  # as rl2
    decay: float = 0.98  # as rl2
    clip: float = 0.2  # as rl2
    entropy: float = 0.03  # as rl2


def memory(inputs: int, config: Config, key: PRNGKeyArray) -> tuple[Chain, int]:
    """Convolutions over the whole life, attention, convolutions again; and how many features come out."""
    links: list[AbstractMemory] = []
    convolutions = math.ceil(math.log2(max(config.ticks, 2)))
    keys = iter(jr.split(key, 2 * convolutions + 1))
    for part in range(2):
        for power in range(convolutions):
            links.append(DenseBlock(inputs, config.filters, 2**power, key=next(keys)))
            inputs += config.filters
        if part == 0:
            links.append(Attending(CausalAttention(inputs, heads=1, size=config.filters, reach=config.ticks, key=next(keys))))
            inputs *= 2
    return Chain(tuple(links)), inputs


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    memory_key, heads_key = jr.split(key)
    past, features = memory(inputs(tasks, EVERYTHING)[0], config, memory_key)
    return actor_critic(tasks, past, features, (), reads=EVERYTHING, key=heads_key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO over whole lives, each in a new task."""
    return ppo.improve(rl2.over_lives(config), tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "bandit": Preset(Config(), BernoulliBandit, 400, 100, "about 0.8 a pull at the end"),
    "smoke": Preset(Config(filters=4, lives=4, ticks=8, minibatches=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}
