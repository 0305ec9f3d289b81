"""Dark rooms: an empty room with a goal that nobody sees, which an agent must search for once and then remember.

Observation: the agent's own place, one-hot, `(size * size,)`. Response: a step. Score: the reward. Every episode begins in the
middle, and the goal is the same for a lifetime, so all but the first episodes ask for memory only.

The splits own cells of a lattice of knight's moves: no goal of a test task was ever a goal in training, though every one has
neighbours that were. "out-of-range" rooms also have a wall across them, with one gap, that nobody sees either.

Sources: the dark room is that of Laskin et al. 2022, "In-context Reinforcement Learning with Algorithm Distillation"; the hidden goal
that ends an episode follows the gridworld of Zintgraf et al. 2020, "VariBAD", with a start in the middle and no price of a step.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, Discrete
from quickstudy.tasks.grids import check_odd_size, is_at, lattice, owned, pick, pick_place
from quickstudy.tasks.gridworld import STEERINGS, GridWorld, Kind, level_from


class HiddenGoal(AbstractControl):
    """Rooms in which reaching the hidden goal pays 1 and ends the episode; the next one begins in the middle again.

    Raises `ValueError` for an even size or one below 5.

    >>> HiddenGoal().sample(jr.key(0), "test").kinds.shape
    (5, 5)
    """

    size: int = eqx.field(static=True, default=5)  # VariBAD's grid
    horizon: int = eqx.field(static=True, default=20)  # ours: nearly enough to see all 24 cells in one episode

    def __check_init__(self) -> None:
        check_odd_size(self.size)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(STEERINGS["compass"].strides))

    def sample(self, key: PRNGKeyArray, split: Split) -> GridWorld:
        kinds, middle = dark_room(key, split, self.size, Kind.GOAL)
        return level_from(kinds, middle, steering="compass", view="position", horizon=self.horizon)


class DarkRoom(AbstractControl):
    """Rooms in which every tick on the hidden goal pays 1; there is an action to stay.

    Raises `ValueError` for an even size or one below 5.

    >>> DarkRoom().sample(jr.key(0), "test").actions
    Discrete(n=5)
    """

    size: int = eqx.field(static=True, default=9)  # Laskin et al. 2022
    horizon: int = eqx.field(static=True, default=20)  # Laskin et al. 2022

    def __check_init__(self) -> None:
        check_odd_size(self.size)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(STEERINGS["compass and stay"].strides))

    def sample(self, key: PRNGKeyArray, split: Split) -> GridWorld:
        kinds, middle = dark_room(key, split, self.size, Kind.SPRING)
        return level_from(kinds, middle, steering="compass and stay", view="position", horizon=self.horizon)


def dark_room(key: PRNGKeyArray, split: Split, size: int, goal: Kind) -> tuple[Int[Array, "size size"], Int[Array, "2"]]:
    """A room with one goal, in a cell that the split owns, and the place in its middle."""
    where, *wall = jr.uniform(key, (3,))
    kinds = jnp.zeros((size, size), jnp.int32)
    middle = jnp.full(2, size // 2, jnp.int32)
    if split == "out-of-range":
        kinds = _divided(kinds, *wall)
    allowed = owned(lattice(size), split) & (kinds == Kind.FLOOR) & ~is_at(kinds, middle)
    return jnp.where(is_at(kinds, pick_place(where, allowed)), goal, kinds), middle


def _divided(kinds: Int[Array, "size size"], where: Float[Array, ""], gap: Float[Array, ""]) -> Int[Array, "size size"]:
    """The room with a wall across any column but the middle one, and a gap in it."""
    size = len(kinds)
    left = pick(where, size - 1)
    rows, columns = np.indices(kinds.shape, np.int32)
    wall = (columns == jnp.where(left < size // 2, left, left + 1)) & (rows != pick(gap, size))
    return jnp.where(wall, Kind.WALL, kinds)
