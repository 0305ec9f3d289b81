"""CartPole: push a cart left or right so that the pole on it does not fall.

Observation: position, velocity, angle from upright, angular velocity (metres, seconds, radians). Actions: 0 pushes left, 1 right.
Reward: 1 a tick. The episode ends when the cart leaves the track or the pole leans 12 degrees, and is cut off after 500 ticks.

Source: Barto, Sutton, Anderson 1983, "Neuronlike adaptive elements that can solve difficult learning control problems"; the numbers
and the frictionless equations are those of Gymnasium's `CartPole-v1`.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.tasks.control import AbstractEnvironment, Discrete, Episode
from quickstudy.tasks.drawing import BLACK, BLUE, GREY, ORANGE, canvas, disc, line
from quickstudy.tasks.sketching import Page
from quickstudy.tasks.varying import AbstractVaried, parameter

_TRACK = 2.4  # how far from the middle the cart may go (metres); Gymnasium 1.4
_LEAN = math.radians(12)  # how far the pole may lean; Gymnasium 1.4


class Cart(NamedTuple):
    """Where the cart and its pole are (metres; radians from upright), and how fast they move (per second)."""

    position: Float[Array, ""]
    velocity: Float[Array, ""]
    angle: Float[Array, ""]
    turning: Float[Array, ""]


class CartPoleTask(AbstractEnvironment):
    """One cart and pole; `half_length` is half the pole's length, as far as its centre of mass is from the joint."""

    gravity: Float[Array, ""] = parameter(9.8)  # m/s^2; Gymnasium 1.4, as all below
    cart_mass: Float[Array, ""] = parameter(1.0)  # kg
    pole_mass: Float[Array, ""] = parameter(0.1)  # kg
    half_length: Float[Array, ""] = parameter(0.5)  # m
    force: Float[Array, ""] = parameter(10.0)  # N
    time_step: Float[Array, ""] = parameter(0.02)  # s
    horizon: int = eqx.field(static=True, default=500)  # ticks

    @property
    def actions(self) -> Discrete:
        return Discrete(2)

    def begin(self, key: PRNGKeyArray) -> Cart:
        # All four numbers from one call: an episode may begin in any tick, so this is computed in every one.
        return Cart(*jr.uniform(key, (4,), minval=-0.05, maxval=0.05))

    def look(self, state: Cart) -> Float[Array, "4"]:
        return jnp.stack(state)

    def act(self, state: Cart, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[Cart, Float[Array, ""], Bool[Array, ""]]:
        speeding, turning_up = self.accelerations(state, jnp.where(action == 1, self.force, -self.force))
        after = Cart(
            state.position + self.time_step * state.velocity,
            state.velocity + self.time_step * speeding,
            state.angle + self.time_step * state.turning,
            state.turning + self.time_step * turning_up,
        )
        fallen = (jnp.abs(after.position) > _TRACK) | (jnp.abs(after.angle) > _LEAN)
        return after, jnp.ones(()), fallen

    def accelerations(self, state: Cart, force: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Of the cart (m/s^2) and of the pole's angle (1/s^2), under a horizontal force on the cart."""
        mass = self.cart_mass + self.pole_mass
        sine, cosine = jnp.sin(state.angle), jnp.cos(state.angle)
        lever = self.pole_mass * self.half_length
        push = (force + lever * state.turning**2 * sine) / mass
        turning_up = (self.gravity * sine - cosine * push) / (self.half_length * (4 / 3 - self.pole_mass * cosine**2 / mass))
        return push - lever * turning_up * cosine / mass, turning_up

    def text(self, world: Episode) -> str:
        """The track, the cart on it, and the pole."""
        cart, top = _outline(self, world.state)
        page = Page(9, 49, x=(-_TRACK, _TRACK), y=(0.0, 1.6))
        page.line((-_TRACK, 0.0), (_TRACK, 0.0), "-")
        page.line((cart, 0.2), top, "|")
        page.line((cart - 0.2, 0.0), (cart + 0.2, 0.0), "#")
        return page.text()

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The track, the cart on it, and the pole."""
        cart, (top, high) = _outline(self, world.state)
        picture, view = canvas(128, 128), {"low": -2.6, "high": 2.6}
        line(picture, (-_TRACK, -0.2, _TRACK, -0.2), 0.06, GREY, **view)
        line(picture, (cart - 0.2, 0.0, cart + 0.2, 0.0), 0.35, BLACK, **view)
        line(picture, (cart, 0.0, top, high), 0.14, ORANGE, **view)
        disc(picture, (cart, 0.0), 0.1, BLUE, **view)
        return picture


def _outline(task: CartPoleTask, state: Cart) -> tuple[float, tuple[float, float]]:
    """Where the cart is, and where the pole's tip is."""
    cart, angle, length = float(state.position), float(state.angle), 2 * float(task.half_length)
    return cart, (cart + length * math.sin(angle), length * math.cos(angle))


class CartPole(AbstractVaried):
    """CartPole with varied physics: each parameter named in `vary` is half to double its default (see `quickstudy.tasks.varying`).

    With nothing varied every task is `CartPole-v1`, and all splits are the same problem.
    Raises `ValueError` for a name that is not a parameter of `CartPoleTask`.

    >>> import jax
    >>> task = CartPole(vary=("half_length", "pole_mass")).sample(jax.random.key(0), "test")
    >>> 0.25 <= float(task.half_length) <= 1.0
    True
    """

    vary: tuple[str, ...] = eqx.field(static=True, default=())  # ours: the standard problem
    horizon: int = eqx.field(static=True, default=500)  # CartPole-v1

    def standard(self) -> CartPoleTask:
        return CartPoleTask(horizon=self.horizon)
