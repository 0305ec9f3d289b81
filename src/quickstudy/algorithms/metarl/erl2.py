"""E-RL^2: RL^2 that is not paid for its first episodes, and so spends them on finding out.

* Slow: the weights of a recurrent network. Fast: its memory. Both as RL^2's.
* One outer step: as RL^2's, except that the rewards of the first `exploration` ticks of a life, though seen, do not count.

    maximise  E[sum of r_t over the ticks t >= exploration of a life]

Source: Stadie et al. 2018, "Some Considerations on Learning to Explore via Meta-Reinforcement Learning".
Builds on: RL^2. Led to: methods that train the exploring policy and the exploiting one apart.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray, UInt8

from quickstudy.algorithms.metarl import rl2
from quickstudy.algorithms.rl.actor_critic import AbstractActorCritic
from quickstudy.core import AbstractTaskDistribution, Split, Turn
from quickstudy.outer import Preset, Program, shared_settings
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.control import AbstractControl, AbstractControlTask, Actions, ControlView


class Unpaid(AbstractControlTask):
    """A task whose score is zero for the first `ticks` ticks of a life. What the learner sees does not change."""

    task: AbstractControlTask
    ticks: int = eqx.field(static=True)

    @property
    def actions(self) -> Actions:
        return self.task.actions

    def reset(self, key: PRNGKeyArray) -> tuple[tuple[Any, Int[Array, ""]], ControlView]:
        world, view = self.task.reset(key)
        return (world, jnp.zeros((), jnp.int32)), view

    def step(self, world: tuple[Any, Int[Array, ""]], response: Array, key: PRNGKeyArray) -> Turn:
        inner, tick = world
        turn = self.task.step(inner, response, key)
        return turn._replace(world=(turn.world, tick + 1), score=jnp.where(tick < self.ticks, 0.0, turn.score))

    def text(self, world: Any) -> str:
        return self.task.text(world[0])

    def image(self, world: Any) -> UInt8[np.ndarray, "height width 3"]:
        return self.task.image(world[0])


class UnpaidAtFirst(AbstractControl):
    """The same tasks, their first `ticks` ticks without a score. Raises `TypeError` unless they are of the control kind."""

    tasks: AbstractControl
    ticks: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not isinstance(self.tasks, AbstractControl):
            raise TypeError(f"tasks must be of the control kind (bandits, worlds), not {type(self.tasks).__name__}")

    @property
    def actions(self) -> Actions:
        return self.tasks.actions

    def sample(self, key: PRNGKeyArray, split: Split) -> Unpaid:
        return Unpaid(self.tasks.sample(key, split), self.ticks)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Config:
    """RL^2's settings, and how long it is not paid."""

    width: int = 64  # as RL^2
    lives: int = 64  # as RL^2
    ticks: int = 100  # of a whole life, as RL^2
    exploration: int = 50  # ours: the first half; Stadie et al. 2018: some of the first episodes
    epochs: int = 2  # as RL^2
    minibatches: int = 4  # as RL^2
    learning_rate: float = 0.003  # as RL^2
    anneal: int = 0  # outer steps after which learning rate and entropy bonus have fallen to zero; 0: they do not fall
    discount: float = 1.0  # as RL^2: what is found out early must be worth as much late
    decay: float = 0.98  # as RL^2
    clip: float = 0.2  # as RL^2
    entropy: float = 0.01  # as RL^2

    def __post_init__(self) -> None:
        if not 0 <= self.exploration < self.ticks:
            raise ValueError(f"exploration must be 0 to {self.ticks - 1} ticks of a life of {self.ticks}, not {self.exploration}")


def common(config: Config) -> rl2.Config:
    """The settings that are RL^2's too."""
    return shared_settings(rl2.Config, config)


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> AbstractActorCritic:
    """A recurrent agent with fresh weights: RL^2's. Raises `TypeError` unless the tasks are of the control kind."""
    return rl2.learner(common(config), tasks, key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """RL^2 on the same tasks, unpaid at first."""
    return rl2.program(common(config), UnpaidAtFirst(tasks, config.exploration))  # type: ignore[arg-type]


PRESETS = {
    "smoke": Preset(Config(width=8, lives=4, ticks=8, exploration=4, minibatches=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}
