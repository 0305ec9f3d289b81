"""MountainCar: an engine too weak for the hill; roll back first, to climb it with the speed gained.

Observation: position and velocity. Actions: 0 drives left, 1 not at all, 2 right. Reward: -1 a tick, until the goal on the right hill
ends the episode; it is cut off after 200 ticks.

Source: Moore 1990, "Efficient memory-based learning for robot control"; the numbers and equations are those of
Gymnasium's `MountainCar-v0`.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.tasks.control import AbstractEnvironment, Discrete, Episode
from quickstudy.tasks.drawing import BLUE, GREEN, GREY, canvas, disc, line, paint, places
from quickstudy.tasks.sketching import Page
from quickstudy.tasks.varying import AbstractVaried, parameter

_LEFT, _RIGHT, _GOAL = -1.2, 0.6, 0.5  # positions; Gymnasium 1.4


class Car(NamedTuple):
    """Where the car is along the valley, and how far it moves in a tick."""

    position: Float[Array, ""]
    velocity: Float[Array, ""]


class MountainCarTask(AbstractEnvironment):
    """One car and valley. Units are the source's own: lengths per tick and per tick squared."""

    gravity: Float[Array, ""] = parameter(0.0025)  # Gymnasium 1.4, as all below
    force: Float[Array, ""] = parameter(0.001)
    speed_limit: Float[Array, ""] = parameter(0.07)
    horizon: int = eqx.field(static=True, default=200)  # ticks

    @property
    def actions(self) -> Discrete:
        return Discrete(3)

    def begin(self, key: PRNGKeyArray) -> Car:
        return Car(jr.uniform(key, minval=-0.6, maxval=-0.4), jnp.zeros(()))

    def look(self, state: Car) -> Float[Array, "2"]:
        return jnp.stack(state)

    def act(self, state: Car, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[Car, Float[Array, ""], Bool[Array, ""]]:
        pull = (action - 1).astype(float) * self.force - self.gravity * jnp.cos(3 * state.position)
        velocity = jnp.clip(state.velocity + pull, -self.speed_limit, self.speed_limit)
        position = jnp.clip(state.position + velocity, _LEFT, _RIGHT)
        velocity = jnp.where((position <= _LEFT) & (velocity < 0), 0.0, velocity)
        return Car(position, velocity), -jnp.ones(()), (position >= _GOAL) & (velocity >= 0)

    def text(self, world: Episode) -> str:
        """The valley, the goal `!` and the car."""
        page = Page(8, 37, x=(_LEFT, _RIGHT), y=(-1.0, 1.0))
        for x in np.linspace(_LEFT, _RIGHT, 37):
            page.mark((x, np.sin(3 * x)), ".")
        page.mark((_GOAL, np.sin(3 * _GOAL)), "!")
        position = float(world.state.position)
        page.mark((position, np.sin(3 * position)), "@")
        return page.text()

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The valley, a flag at the goal, and the car."""
        picture, view = canvas(128, 128), {"low": -1.3, "high": 0.7}
        x, y = places(128, **view)
        paint(picture, y < _height(x), GREY)
        line(picture, (_GOAL, _height(_GOAL), _GOAL, _height(_GOAL) + 0.3), 0.04, GREEN, **view)
        position = float(world.state.position)
        disc(picture, (position, _height(position) + 0.07), 0.07, BLUE, **view)
        return picture


def _height(position):
    """How high the ground is drawn; only its slope matters to the physics."""
    return 0.45 * np.sin(3 * position) - 0.3


class MountainCar(AbstractVaried):
    """MountainCar with varied physics: each parameter named in `vary` is half to double its default (see `quickstudy.tasks.varying`).

    With nothing varied every task is `MountainCar-v0`, and all splits are the same problem. Strong gravity with a weak engine takes
    more swings than 200 ticks allow; raise `horizon` for those.
    Raises `ValueError` for a name that is not a parameter of `MountainCarTask`.

    >>> import jax
    >>> 0.0005 <= float(MountainCar(vary=("force",)).sample(jax.random.key(0), "test").force) <= 0.002
    True
    """

    vary: tuple[str, ...] = eqx.field(static=True, default=())  # ours: the standard problem
    horizon: int = eqx.field(static=True, default=200)  # MountainCar-v0

    def standard(self) -> MountainCarTask:
        return MountainCarTask(horizon=self.horizon)
