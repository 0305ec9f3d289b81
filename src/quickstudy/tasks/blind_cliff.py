"""The blind cliff walk: of two actions one leads on and the other off the cliff, and only the end of the walk pays.

Observation: the place, one-hot. Response: 0 or 1. Score: 1 for the right action at the last place, else 0. An episode ends there, or
with the first wrong action. Who acts at random comes to the end once in 2^length episodes: reward is as rare as one likes.

Source: Schaul et al. 2016, "Prioritized Experience Replay", figure 1; there the right actions alternate, here they are drawn.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Discrete, Episode
from quickstudy.tasks.drawing import BLUE, GREEN, ORANGE, WHITE, cells

# Which of five classes of walks a split owns.
_CLASSES: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2), "valid": (3,), "test": (4,)}


class CliffWalk(AbstractEnvironment):
    """One walk: the `right` action at each place; its `horizon` is never reached."""

    right: Int[Array, " places"]
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Discrete:
        return Discrete(2)

    def begin(self, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def look(self, state: Int[Array, ""]) -> Float[Array, " places"]:
        return jax.nn.one_hot(state, self.right.shape[0])

    def act(
        self, state: Int[Array, ""], action: Int[Array, ""], key: PRNGKeyArray
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        on, last = action == self.right[state], state + 1 == self.right.shape[0]
        return jnp.where(on & ~last, state + 1, state), (on & last).astype(jnp.float32), ~on | last

    def text(self, world: Episode) -> str:
        """The right action at each place, with the walker under it."""
        return "".join(str(action) for action in self.right.tolist()) + "\n" + " " * int(world.state) + "@"

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """One row for each action: the walk is green, the cliff white, and the walker's place blue (orange off the walk)."""
        here = np.arange(len(self.right)) == int(world.state)
        rows = [np.where(here, 1, 0) + 2 * (np.asarray(self.right) == action) for action in (0, 1)]
        return cells(np.array([WHITE, ORANGE, GREEN, BLUE], np.uint8)[np.stack(rows)])


class BlindCliff(AbstractControl):
    """Walks of `length` places whose right actions are drawn; a split owns the walks of its classes, as numbers modulo five.

    Raises `ValueError` for a length below 4, where a split would own no two walks, or above 30.

    >>> BlindCliff(length=5).sample(jr.key(0), "test").right.shape
    (5,)
    """

    length: int = eqx.field(static=True, default=10)  # Schaul et al. 2016: up to 16 or so

    def __check_init__(self) -> None:
        if not 4 <= self.length <= 30:
            raise ValueError(f"length must be from 4 to 30, not {self.length}")

    @property
    def actions(self) -> Discrete:
        return Discrete(2)

    def sample(self, key: PRNGKeyArray, split: Split) -> CliffWalk:
        if split not in _CLASSES:
            raise ValueError(f"split must be one of {sorted(_CLASSES)} here, not {split!r}")
        class_key, walk_key = jr.split(key)
        number = 5 * jr.randint(walk_key, (), 0, 2**self.length // 5) + jr.choice(class_key, jnp.array(_CLASSES[split]))
        return CliffWalk(right=(number >> jnp.arange(self.length)) & 1, horizon=self.length + 1)
