"""Two directions: a body on a line earns what it moves forward, and only its rewards tell which way that is.

Observation: the velocity. Action: a force, one number. Every episode begins at rest.

Source: after the forward and backward tasks of Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
section 5.3, with a mass in place of legs.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Continuous, Episode
from quickstudy.tasks.drawing import BLUE, GREY, canvas, disc, line
from quickstudy.tasks.splits import draw_in_split

STEP = 0.2  # ours: ticks are so long that a body of mass 1 comes within 1 % of full speed in 20 of them


class TwoDirectionsTask(AbstractEnvironment):
    """One body: `direction` is 1 or -1, `mass` what its velocity is slow to follow the force by. Full force ends in a speed of 1.

    Reward: the velocity in that direction.
    """

    direction: Float[Array, ""]
    mass: Float[Array, ""]
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Continuous:
        return Continuous(1)

    def begin(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.zeros(())

    def look(self, state: Float[Array, ""]) -> Float[Array, "1"]:
        return state[None]

    def act(
        self, state: Float[Array, ""], action: Float[Array, "1"], key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        force = jnp.clip(action[0], -1.0, 1.0)
        after = state + STEP / self.mass * (force - state)
        return after, self.direction * after, jnp.asarray(False)

    def best(self) -> Float[Array, " horizon"]:
        """The rewards of an episode of full force in the right direction."""
        return 1 - (1 - STEP / self.mass) ** jnp.arange(1.0, self.horizon + 1)

    def text(self, world: Episode) -> str:
        """The velocity as an arrow, and the direction that is paid."""
        speed = float(world.state)
        arrow = ("<" if speed < 0 else ">") * round(10 * abs(speed))
        return f"{arrow:10s} {'forward' if float(self.direction) > 0 else 'backward'} is paid"

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The body and its velocity."""
        picture = canvas(96, 96)
        line(picture, (-1.0, 0.0, 1.0, 0.0), 0.02, GREY)
        line(picture, (0.0, 0.0, float(world.state), 0.0), 0.06, BLUE)
        disc(picture, (0.0, 0.0), 0.1, BLUE)
        return picture


class TwoDirections(AbstractControl):
    """Bodies of mass 0.5 to 2, half of which are paid for one direction and half for the other.

    The splits own disjoint slices of the mass; "out-of-range" masses are 2 to 3. Raises `ValueError` for a horizon below 1.

    >>> import jax
    >>> abs(float(TwoDirections().sample(jax.random.key(0), "test").direction))
    1.0
    """

    horizon: int = eqx.field(static=True, default=20)  # ours: Finn et al. 2017 have 200 of much shorter ticks

    @property
    def actions(self) -> Continuous:
        return Continuous(1)

    def __check_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, not {self.horizon}")

    def sample(self, key: PRNGKeyArray, split: Split) -> TwoDirectionsTask:
        direction_key, mass_key = jr.split(key)
        beyond = split == "out-of-range"
        low, high = (2.0, 3.0) if beyond else (0.5, 2.0)
        mass = draw_in_split(mass_key, "test" if beyond else split, low, high, blocks=100)
        return TwoDirectionsTask(direction=jr.rademacher(direction_key, (), jnp.float32), mass=mass, horizon=self.horizon)
