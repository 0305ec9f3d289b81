"""Mazes and houses of several rooms, seen through a small window: where is the goal, and how does one get there?

Observation: a window `(window, window, kinds)` of the level (see `gridworld`). Response: a step. Score: the reward. A lifetime spans
several episodes in one level, so a learner that remembers the way is paid more often.

A level belongs to the split that a sum over all its cells and its start says (`grids.start_classes`): whatever is drawn, the start is
chosen so that the sum comes out right, and no two splits can share a level.

Sources: one maze over several episodes is the setting of Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement
Learning" (there seen in three dimensions); the generators are ours, the tree is that of Prim 1957, "Shortest Connection Networks".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, Discrete
from quickstudy.tasks.grids import check_odd_size, is_at, own_key, pick, pick_place, pick_start
from quickstudy.tasks.gridworld import PAYS, STEERINGS, GridWorld, Kind, check_settings, level_from


class Maze(AbstractControl):
    """Perfect mazes (one way between any two cells) with a goal that pays 1 and ends the episode.

    The halls are a minimum spanning tree of random weights over every second cell: no direction is preferred, unlike in mazes carved
    row by row, but not all trees are equally likely. The goal and the start are any two cells of the halls. "out-of-range" mazes have
    loops: a third of the walls between two cells of the tree is left out.

    Raises `ValueError` for an even size or one below 5, and for what `GridWorld` refuses.

    >>> Maze(size=13).sample(jr.key(0), "test").kinds.shape
    (13, 13)
    """

    size: int = eqx.field(static=True, default=9)  # ours: 25 cells in the tree
    horizon: int = eqx.field(static=True, default=100)  # ours: the longest of 5,000 shortest ways took 35 ticks
    view: str = eqx.field(static=True, default="partial")  # ours: what asks for memory
    window: int = eqx.field(static=True, default=5)  # ours: as GridWorld
    steering: str = eqx.field(static=True, default="compass")  # ours: as GridWorld

    def __check_init__(self) -> None:
        check_odd_size(self.size)
        check_settings(self.steering, self.view, self.window, self.horizon)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(STEERINGS[self.steering].strides))

    def sample(self, key: PRNGKeyArray, split: Split) -> GridWorld:
        n = self.size // 2 + 1
        halls_key, place_key = jr.split(own_key(key, split))
        weights, loops = jr.uniform(halls_key, (2, 2 * n * (n - 1)))
        goal, begin = jr.uniform(place_key, (2,))
        ways = spanning_tree(weights, n)
        kinds = carve(ways | (loops < 1 / 3) if split == "out-of-range" else ways, n)
        kinds = _put(goal, kinds, kinds == Kind.FLOOR, jnp.int32(Kind.GOAL))
        start = pick_start(begin, kinds, kinds == Kind.FLOOR, split)
        return level_from(kinds, start, steering=self.steering, view=self.view, window=self.window, horizon=self.horizon)


def edges(n: int) -> Int[np.ndarray, "edges 2 2"]:
    """The places of both ends of every edge of an `n` by `n` grid: first the edges to the right, then those down.

    >>> edges(2).tolist()
    [[[0, 0], [0, 1]], [[1, 0], [1, 1]], [[0, 0], [1, 0]], [[0, 1], [1, 1]]]
    """
    places = np.moveaxis(np.indices((n, n), np.int32), 0, -1)
    right = np.stack([places[:, :-1], places[:, 1:]], axis=2).reshape(-1, 2, 2)
    down = np.stack([places[:-1], places[1:]], axis=2).reshape(-1, 2, 2)
    return np.concatenate([right, down])


def spanning_tree(weights: Float[Array, " edges"], n: int) -> Bool[Array, " edges"]:
    """The edges of the minimum spanning tree of an `n` by `n` grid, by Prim's algorithm: join the nearest cell, n^2 - 1 times."""
    a, b = jnp.asarray(edges(n)[..., 0] * n + edges(n)[..., 1]).T

    def join(_, state):
        joined, chosen = state
        edge = jnp.argmin(jnp.where(joined[a] ^ joined[b], weights, jnp.inf))
        return joined.at[a[edge]].set(True).at[b[edge]].set(True), chosen.at[edge].set(True)

    first = jnp.arange(n * n) == 0
    return jax.lax.fori_loop(0, n * n - 1, join, (first, jnp.zeros(weights.shape, bool)))[1]


def carve(ways: Bool[Array, " edges"], n: int) -> Int[Array, "size size"]:
    """The level of `2 n - 1` rows whose cells of even row and column are floor, and so is what lies between two that a way joins.

    >>> carve(jnp.array([True, False, True, True]), 2).tolist()
    [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    """
    rows, columns = edges(n).sum(axis=1).T  # twice the middle between both ends
    walls = np.ones((2 * n - 1, 2 * n - 1), np.int32)
    walls[::2, ::2] = Kind.FLOOR
    return jnp.asarray(walls).at[rows, columns].set(jnp.where(ways, Kind.FLOOR, Kind.WALL))


class MultiRoom(AbstractControl):
    """Houses of four rooms in a ring: one is locked, its key lies in another, and of two goals in two colours only one pays.

    One goal is in the locked room, one in another, and which of the two colours pays is part of the task: both end the episode, one
    pays 1 and the other nothing. A learner looks for the open goal first, and for the key if that one does not pay.
    "out-of-range" houses have a pillar in each room without a goal.

    Raises `ValueError` for an even size or one below 5, and for what `GridWorld` refuses.

    >>> MultiRoom().sample(jr.key(0), "test").kinds.shape
    (9, 9)
    """

    size: int = eqx.field(static=True, default=9)  # ours: rooms of four by four
    horizon: int = eqx.field(static=True, default=64)  # ours: four episodes in 256 ticks; the longest of 5,000 shortest ways took 44
    view: str = eqx.field(static=True, default="partial")  # ours: what asks for memory
    window: int = eqx.field(static=True, default=5)  # ours: as GridWorld
    steering: str = eqx.field(static=True, default="compass")  # ours: as GridWorld

    def __check_init__(self) -> None:
        check_odd_size(self.size)
        check_settings(self.steering, self.view, self.window, self.horizon)

    @property
    def actions(self) -> Discrete:
        return Discrete(len(STEERINGS[self.steering].strides))

    def sample(self, key: PRNGKeyArray, split: Split) -> GridWorld:
        ring, turn, colour, idle, begin, *numbers = jr.uniform(own_key(key, split), (15,))
        vault = pick(ring, 4)
        # The three rooms that are not locked, in an order that begins anywhere.
        other, *empty = ((vault + 1 + (pick(turn, 3) + i) % 3) % 4 for i in range(3))
        kinds, clear = house(jnp.stack(numbers[5:]), self.size, vault)
        rooms = jnp.asarray(_rooms(self.size))
        first = Kind.GOAL + pick(colour, 2)
        kinds = _put(numbers[0], kinds, clear & (rooms == vault), first)
        kinds = _put(numbers[1], kinds, clear & (rooms == other), Kind.GOAL + Kind.SECOND_GOAL - first)
        if split == "out-of-range":
            for number, room in zip(numbers[2:], empty, strict=False):
                kinds = _put(number, kinds, clear & (rooms == room), jnp.int32(Kind.WALL))
        kinds = _put(numbers[4], kinds, rooms != vault, jnp.int32(Kind.KEY))
        start = pick_start(begin, kinds, rooms != vault, split)
        pays = jnp.asarray(PAYS).at[Kind.GOAL + pick(idle, 2)].set(0.0)
        settings = {"steering": self.steering, "view": self.view, "window": self.window, "horizon": self.horizon}
        return level_from(kinds, start, pays=pays, **settings)


def house(numbers: Float[Array, "5"], size: int, vault: Int[Array, ""]) -> tuple[Int[Array, "size size"], Bool[Array, "size size"]]:
    """Four rooms in a ring, whose room `vault` has a door on one side and a wall on the other; and the cells beside no doorway.

    What stands in such a clear cell bars nobody's way, as long as it stands alone in its room. The numbers are uniform on [0, 1).
    """
    half = size // 2
    first = jnp.array([[0, half], [half, half + 1], [half + 1, half], [half, 0]])
    along = jnp.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    doorways = first + along * jnp.floor(numbers[:4, None] * half).astype(jnp.int32)
    # Doorway i joins room i and the next: those of the vault are its own and that of the room before it.
    locked = (vault - pick(numbers[4], 2)) % 4
    sealed = (2 * vault - 1 - locked) % 4
    what = jnp.zeros(4, jnp.int32).at[locked].set(Kind.DOOR).at[sealed].set(Kind.WALL)
    walls = np.where(_rooms(size) < 0, Kind.WALL, Kind.FLOOR).astype(np.int32)
    kinds = jnp.asarray(walls).at[doorways[:, 0], doorways[:, 1]].set(what)
    rows, columns = np.indices(kinds.shape, np.int32)
    away = [jnp.abs(rows - row) + jnp.abs(columns - column) for row, column in doorways]
    return kinds, jnp.min(jnp.stack(away), axis=0) > 1


def _rooms(size: int) -> Int[np.ndarray, "size size"]:
    """The room of each cell: 0 to 3 clockwise from the upper left, -1 between them."""
    down, right = np.indices((size, size), np.int32) - size // 2
    rooms = np.where(down > 0, np.where(right > 0, 2, 3), np.where(right > 0, 1, 0))
    return np.where((down == 0) | (right == 0), -1, rooms).astype(np.int32)


def _put(
    number: Float[Array, ""], kinds: Int[Array, "size size"], allowed: Bool[Array, "size size"], thing: Int[Array, ""]
) -> Int[Array, "size size"]:
    """Put a thing into one of the allowed cells that are floor."""
    return jnp.where(is_at(kinds, pick_place(number, allowed & (kinds == Kind.FLOOR))), thing, kinds)
