"""Acrobot: two links hang from a bar, with a motor only at the joint between them; swing the free end above the bar.

Observation: cosine and sine of the first link's angle from hanging, the same of the second's from the first, both angular velocities
(radians, seconds). Actions: torque -1, 0 or 1. Reward: -1 a tick, 0 in the one that ends the episode: when the free end is one link's
length above the bar. It is cut off after 500 ticks.

Source: Sutton 1996, "Generalization in Reinforcement Learning: Successful Examples Using Sparse Coarse Coding"; the numbers are
those of Gymnasium's `Acrobot-v1`, the equations of motion those of Sutton and Barto's book, which it uses, integrated by the
fourth-order method of Runge and Kutta.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.tasks.control import AbstractEnvironment, Discrete, Episode
from quickstudy.tasks.drawing import BLACK, BLUE, GREEN, ORANGE, canvas, disc, line
from quickstudy.tasks.sketching import Page
from quickstudy.tasks.varying import AbstractVaried, parameter

_FIRST_LIMIT, _SECOND_LIMIT = 4 * math.pi, 9 * math.pi  # angular velocities (1/s); Gymnasium 1.4


class Links(NamedTuple):
    """Angles (of the first link from hanging, of the second from the first; radians) and their velocities (per second)."""

    first: Float[Array, ""]
    second: Float[Array, ""]
    first_turning: Float[Array, ""]
    second_turning: Float[Array, ""]


class AcrobotTask(AbstractEnvironment):
    """One acrobot; a `centre` is how far along its link the centre of mass is, `inertia` the moment of inertia of either link."""

    gravity: Float[Array, ""] = parameter(9.8)  # m/s^2; Gymnasium 1.4, as all below
    first_mass: Float[Array, ""] = parameter(1.0)  # kg
    second_mass: Float[Array, ""] = parameter(1.0)  # kg
    first_length: Float[Array, ""] = parameter(1.0)  # m; the second link's length is not in the equations
    first_centre: Float[Array, ""] = parameter(0.5)  # m
    second_centre: Float[Array, ""] = parameter(0.5)  # m
    inertia: Float[Array, ""] = parameter(1.0)  # kg m^2
    torque: Float[Array, ""] = parameter(1.0)  # N m
    time_step: Float[Array, ""] = parameter(0.2)  # s
    horizon: int = eqx.field(static=True, default=500)  # ticks

    @property
    def actions(self) -> Discrete:
        return Discrete(3)

    def begin(self, key: PRNGKeyArray) -> Links:
        return Links(*jr.uniform(key, (4,), minval=-0.1, maxval=0.1))

    def look(self, state: Links) -> Float[Array, "6"]:
        turns = [jnp.cos(state.first), jnp.sin(state.first), jnp.cos(state.second), jnp.sin(state.second)]
        return jnp.stack([*turns, state.first_turning, state.second_turning])

    def act(self, state: Links, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[Links, Float[Array, ""], Bool[Array, ""]]:
        torque = (action - 1).astype(float) * self.torque
        first, second, first_turning, second_turning = runge_kutta(lambda links: self.motion(links, torque), state, self.time_step)
        after = Links(
            _wrap(first),
            _wrap(second),
            jnp.clip(first_turning, -_FIRST_LIMIT, _FIRST_LIMIT),
            jnp.clip(second_turning, -_SECOND_LIMIT, _SECOND_LIMIT),
        )
        up = -jnp.cos(after.first) - jnp.cos(after.first + after.second) > 1.0
        return after, jnp.where(up, 0.0, -1.0), up

    def motion(self, state: Links, torque: Float[Array, ""]) -> Links:
        """How fast every part of the state changes, under a torque at the joint (N m)."""
        w1, w2 = state.first_turning, state.second_turning
        cosine, sine = jnp.cos(state.second), jnp.sin(state.second)
        # The mass matrix is [[whole, coupling], [coupling, lower]].
        reach = self.first_mass * self.first_centre**2 + self.second_mass * self.first_length**2 + self.inertia
        lower = self.second_mass * self.second_centre**2 + self.inertia
        bend = self.second_mass * self.first_length * self.second_centre
        coupling = lower + bend * cosine
        whole = reach + lower + 2 * bend * cosine
        weight = self.gravity * self.second_mass * self.second_centre * jnp.sin(state.first + state.second)
        hanging = self.gravity * (self.first_mass * self.first_centre + self.second_mass * self.first_length) * jnp.sin(state.first)
        load = hanging + weight - bend * sine * w2 * (w2 + 2 * w1)
        second = (torque + coupling / whole * load - bend * sine * w1**2 - weight) / (lower - coupling**2 / whole)
        return Links(w1, w2, -(coupling * second + load) / whole, second)

    def text(self, world: Episode) -> str:
        """The bar `o`, the links, and the height `-` that the free end must reach."""
        joint, end = _joints(world.state)
        page = Page(13, 25, x=(-2.0, 2.0), y=(-2.0, 2.0))
        page.line((-2.0, 1.0), (2.0, 1.0), "-")
        page.line((0.0, 0.0), joint, "*")
        page.line(joint, end, "+")
        page.mark((0.0, 0.0), "o")
        return page.text()

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The bar, the links, and the height that the free end must reach; pictures of all lengths look alike."""
        joint, end = _joints(world.state)
        picture, view = canvas(128, 128), {"low": -2.3, "high": 2.3}
        line(picture, (-2.3, 1.0, 2.3, 1.0), 0.05, GREEN, **view)
        line(picture, (0.0, 0.0, *joint), 0.2, ORANGE, **view)
        line(picture, (*joint, *end), 0.2, BLUE, **view)
        for place in ((0.0, 0.0), joint):
            disc(picture, place, 0.14, BLACK, **view)
        return picture


def runge_kutta(motion, state: Links, time_step: Float[Array, ""]) -> Links:
    """One step of the classical fourth-order method; a loop over the four slopes keeps the program a quarter as large."""

    def slope(carry, share):
        ahead, total = carry
        reach, weight = share
        change = motion(jax.tree.map(lambda x, rate: x + reach * time_step * rate, state, ahead))
        return (change, jax.tree.map(lambda so_far, rate: so_far + weight * rate, total, change)), None

    nothing = jax.tree.map(jnp.zeros_like, state)
    shares = (jnp.array([0.0, 0.5, 0.5, 1.0]), jnp.array([1.0, 2.0, 2.0, 1.0]) / 6)
    (_, total), _ = jax.lax.scan(slope, (nothing, nothing), shares)
    return jax.tree.map(lambda x, rate: x + time_step * rate, state, total)


def _wrap(angle: Float[Array, ""]) -> Float[Array, ""]:
    """The same angle between -pi and pi."""
    return jnp.mod(angle + math.pi, 2 * math.pi) - math.pi


def _joints(state: Links) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the joint and the free end are, with links of length one."""
    first, both = float(state.first), float(state.first) + float(state.second)
    joint = (math.sin(first), -math.cos(first))
    return joint, (joint[0] + math.sin(both), joint[1] - math.cos(both))


class Acrobot(AbstractVaried):
    """Acrobot with varied physics: each parameter named in `vary` is half to double its default (see `quickstudy.tasks.varying`).

    With nothing varied every task is `Acrobot-v1`, and all splits are the same problem.
    Raises `ValueError` for a name that is not a parameter of `AcrobotTask`.

    >>> import jax
    >>> 0.5 <= float(Acrobot(vary=("torque",)).sample(jax.random.key(0), "test").torque) <= 2.0
    True
    """

    vary: tuple[str, ...] = eqx.field(static=True, default=())  # ours: the standard problem
    horizon: int = eqx.field(static=True, default=500)  # Acrobot-v1

    def standard(self) -> AcrobotTask:
        return AcrobotTask(horizon=self.horizon)
