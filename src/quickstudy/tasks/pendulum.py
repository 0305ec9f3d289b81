"""Pendulum: swing a rod up with a motor too weak to lift it, and hold it there.

Observation: cosine and sine of the angle from upright, and the angular velocity (radians, seconds). Action: one number, the share of
the largest torque. Reward: minus (angle squared + 0.1 velocity squared + 0.001 torque squared), of the state before the tick. The
episode is cut off after 200 ticks.

Source: Gymnasium's `Pendulum-v1`, whose numbers and equations these are; its torque of -2 to 2 is -1 to 1 here.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from quickstudy.tasks.control import AbstractEnvironment, Continuous, Episode
from quickstudy.tasks.drawing import BLACK, BLUE, ORANGE, canvas, disc, line
from quickstudy.tasks.sketching import Page
from quickstudy.tasks.varying import AbstractVaried, parameter


class Rod(NamedTuple):
    """The angle from upright (radians, not wrapped) and the angular velocity (radians per second)."""

    angle: Float[Array, ""]
    turning: Float[Array, ""]


class PendulumTask(AbstractEnvironment):
    """One pendulum: a uniform rod, turned by at most `torque`, never faster than `speed_limit`."""

    gravity: Float[Array, ""] = parameter(10.0)  # m/s^2; Gymnasium 1.4, as all below
    mass: Float[Array, ""] = parameter(1.0)  # kg
    length: Float[Array, ""] = parameter(1.0)  # m
    torque: Float[Array, ""] = parameter(2.0)  # N m
    speed_limit: Float[Array, ""] = parameter(8.0)  # 1/s
    time_step: Float[Array, ""] = parameter(0.05)  # s
    horizon: int = eqx.field(static=True, default=200)  # ticks

    @property
    def actions(self) -> Continuous:
        return Continuous(1)

    def begin(self, key: PRNGKeyArray) -> Rod:
        angle, turning = jr.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return Rod(math.pi * angle, turning)

    def look(self, state: Rod) -> Float[Array, "3"]:
        return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.turning])

    def act(self, state: Rod, action: Float[Array, "1"], key: PRNGKeyArray) -> tuple[Rod, Float[Array, ""], Bool[Array, ""]]:
        torque = self.torque * jnp.clip(action[0], -1.0, 1.0)
        # A uniform rod turns about its end with moment of inertia m l^2 / 3.
        turning_up = 1.5 * self.gravity / self.length * jnp.sin(state.angle) + 3 * torque / (self.mass * self.length**2)
        turning = jnp.clip(state.turning + self.time_step * turning_up, -self.speed_limit, self.speed_limit)
        lean = jnp.mod(state.angle + math.pi, 2 * math.pi) - math.pi
        cost = lean**2 + 0.1 * state.turning**2 + 0.001 * torque**2
        return Rod(state.angle + self.time_step * turning, turning), -cost, jnp.asarray(False)

    def text(self, world: Episode) -> str:
        """The joint and the rod."""
        page = Page(11, 21, x=(-1.0, 1.0), y=(-1.0, 1.0))
        page.line((0.0, 0.0), _tip(world.state, 0.95), "*")
        page.mark((0.0, 0.0), "o")
        return page.text()

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The joint and the rod; pictures of all lengths look alike."""
        picture, (x, y) = canvas(96, 96), _tip(world.state, 0.8)
        line(picture, (0.0, 0.0, x, y), 0.16, ORANGE)
        disc(picture, (x, y), 0.12, BLUE)
        disc(picture, (0.0, 0.0), 0.08, BLACK)
        return picture


def _tip(state: Rod, length: float) -> tuple[float, float]:
    # Gymnasium turns counter-clockwise from upright, to the left.
    return -length * math.sin(float(state.angle)), length * math.cos(float(state.angle))


class Pendulum(AbstractVaried):
    """Pendulum with varied physics: each parameter named in `vary` is half to double its default (see `quickstudy.tasks.varying`).

    With nothing varied every task is `Pendulum-v1`, and all splits are the same problem.
    Raises `ValueError` for a name that is not a parameter of `PendulumTask`.

    >>> import jax
    >>> 5.0 <= float(Pendulum(vary=("gravity",)).sample(jax.random.key(0), "test").gravity) <= 20.0
    True
    """

    vary: tuple[str, ...] = eqx.field(static=True, default=())  # ours: the standard problem
    horizon: int = eqx.field(static=True, default=200)  # Pendulum-v1

    def standard(self) -> PendulumTask:
        return PendulumTask(horizon=self.horizon)
