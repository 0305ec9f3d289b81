"""Krazy World: a grid whose colours mean something else in every task, and whose buttons do something else.

| symbol | tile | what it does |
|---|---|---|
| `.` | normal | nothing |
| `#` | wall | blocks |
| `G` | goal | pays 1 once |
| `i` | ice | who enters slides on in the same direction |
| `~` | death | ends the episode |
| `D` | lock | blocks who has no key |
| `k` | key | is taken |
| `T` | gate | brings who enters to the other gate |
| `e` | energy | is taken and refills the energy, of which every tick costs one; without any the episode ends |

Observation: the colours of the 3 x 3 cells around the agent, one-hot, then its place, one-hot: `(90 + size * size,)`. Which colour a
tile has belongs to the task, and so does the order of the four actions. The hand and the energy are not seen. Score: the reward. Every
episode of a task begins on the same board, so an agent may spend the first one on finding out what is what.

Source: Stadie et al. 2018, "Some Considerations on Learning to Explore via Meta-Reinforcement Learning", and the code its authors
published. Kept from there: the tiles, their counts, the closed corner, energy, local colours, permuted colours and actions. Ours: a
goal pays when it is taken (there every tick pays the number taken so far), ice also slides along the edges, a gate acts only on who
enters it, the start belongs to the task and goals may be right beside it, and the exact shape of the corner.
"""

import enum
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Discrete, Episode
from quickstudy.tasks.drawing import BLACK, BROWN, GREEN, ORANGE, PINK, RED, SKY, WHITE, YELLOW
from quickstudy.tasks.grids import (
    AGENT,
    STEPS,
    at,
    grid_from_text,
    grid_picture,
    grid_text,
    is_at,
    own_key,
    pick,
    pick_place,
    pick_start,
    place_in,
    seen_from,
    square_around,
)


class Tile(enum.IntEnum):
    """What a cell is."""

    NORMAL = 0
    WALL = 1
    GOAL = 2
    ICE = 3
    DEATH = 4
    LOCK = 5
    KEY = 6
    GATE = 7
    ENERGY = 8


SYMBOLS = ".#Gi~DkTe"
_COLOURS = [WHITE, BLACK, GREEN, SKY, RED, BROWN, ORANGE, PINK, YELLOW]
_TAKEN = np.isin(np.arange(len(Tile)), [Tile.GOAL, Tile.KEY, Tile.ENERGY])


class Standing(NamedTuple):
    """The state: where the agent is, whether it holds a key, the energy it has left, and what is left of the board."""

    place: Int[Array, "2"]
    key: Bool[Array, ""]
    energy: Int[Array, ""]
    kinds: Int[Array, "rows columns"]


class KrazyBoard(AbstractEnvironment):
    """One board: its tiles, the start, both gates, the (rows, columns) that each action adds, and each tile's colour (0 to 8).

    `energy` is what an episode begins with, `refill` what an energy tile adds. An action that adds more than one row or column jumps.
    """

    kinds: Int[Array, "rows columns"]
    start: Int[Array, "2"]
    gates: Int[Array, "2 2"]
    moves: Int[Array, "4 2"]
    colours: Int[Array, " tiles"]
    energy: Int[Array, ""]
    refill: Int[Array, ""]
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Discrete:
        return Discrete(4)

    def begin(self, key: PRNGKeyArray) -> Standing:
        return Standing(self.start, jnp.asarray(False), self.energy, self.kinds)

    def act(self, state: Standing, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[Standing, Float[Array, ""], Bool[Array, ""]]:
        place = state.place + self._way(state, self.moves[action])
        tile = at(state.kinds, place)
        kinds = jnp.where(is_at(state.kinds, place) & jnp.asarray(_TAKEN)[tile], Tile.NORMAL, state.kinds)
        energy = state.energy - 1 + jnp.where(tile == Tile.ENERGY, self.refill, 0)
        enters = (tile == Tile.GATE) & jnp.any(place != state.place)
        other = jnp.where(jnp.all(place == self.gates[0]), self.gates[1], self.gates[0])
        after = Standing(jnp.where(enters, other, place), state.key | (tile == Tile.KEY), energy, kinds)
        return after, (tile == Tile.GOAL).astype(jnp.float32), (tile == Tile.DEATH) | (energy < 1)

    def _way(self, state: Standing, move: Int[Array, "2"]) -> Int[Array, "2"]:
        """How far a move leads: over ice to the first cell that is not, or to the one before it if that cell blocks."""
        times = jnp.arange(1, max(state.kinds.shape) + 1)
        tiles = seen_from(state.kinds, state.place, jnp.outer(times, move), Tile.WALL)
        last = jnp.argmax(tiles != Tile.ICE)
        stuck = (tiles[last] == Tile.WALL) | ((tiles[last] == Tile.LOCK) & ~state.key)
        return (times[last] - stuck.astype(jnp.int32)) * move

    def look(self, state: Standing) -> Float[Array, "..."]:
        # What lies beyond the board has a colour of its own, which tells nobody what walls look like.
        beyond = len(Tile)
        tiles = seen_from(state.kinds, state.place, jnp.asarray(square_around(3)), beyond)
        colours = jax.nn.one_hot(jnp.append(self.colours, beyond)[tiles], beyond + 1)
        return jnp.concatenate([colours.ravel(), is_at(state.kinds, state.place).ravel().astype(jnp.float32)])

    def text(self, world: Episode) -> str:
        """The board as it is now, in the symbols of what tiles really are, with the agent as `@`."""
        return grid_text(np.asarray(world.state.kinds), SYMBOLS, {place_in(world.state.place): AGENT})

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The board as it is now, in the colours of what tiles really are."""
        return grid_picture(np.asarray(world.state.kinds), _COLOURS, place_in(world.state.place), None)


def board_from_text(text: str, **settings: Any) -> KrazyBoard:
    """Read a board: one character for each cell, `@` where episodes begin, on a normal tile.

    `settings` are those of `KrazyBoard`; by default the actions are up, right, down and left, and colours are tiles.
    Raises `ValueError` for lines of different lengths, unknown characters, other than one start, or other than two gates or none.

    >>> board = board_from_text("@ii.G")
    >>> board.act(board.begin(jr.key(0)), jnp.int32(1), jr.key(0))[0].place.tolist()
    [0, 3]
    """
    kinds, starts = grid_from_text(text, SYMBOLS, {AGENT: int(Tile.NORMAL)})
    gates = np.argwhere(kinds == Tile.GATE).astype(np.int32)
    if len(starts) != 1:
        raise ValueError(f"a board must have one start, not {len(starts)}")
    if len(gates) not in (0, 2):
        raise ValueError(f"a board must have two gates or none, not {len(gates)}")
    given = {
        "kinds": jnp.asarray(kinds),
        "start": jnp.array(starts[0][:2], jnp.int32),
        "gates": jnp.asarray(gates if len(gates) else np.zeros((2, 2), np.int32)),
        "moves": jnp.asarray(STEPS),
        "colours": jnp.arange(len(Tile), dtype=jnp.int32),
        "energy": jnp.int32(50),
        "refill": jnp.int32(8),
        "horizon": 100,
    }
    return KrazyBoard(**given | settings)


class KrazyWorld(AbstractControl):
    """Boards with three goals, one of them in a corner that is locked, and with permuted colours and actions.

    A board belongs to the split that a sum over its tiles and its start says, so no two splits share one; "out-of-range" boards have
    actions that are the sum of two permuted steps, and so jump, go diagonally, or do nothing (the authors' "moderate" dynamics).
    Nothing promises that every goal can be reached: as in the original, death or ice may be in the way.

    Raises `ValueError` for a size below 8 or a horizon below 1.

    >>> KrazyWorld().sample(jr.key(0), "test").kinds.shape
    (10, 10)
    """

    size: int = eqx.field(static=True, default=10)  # the authors' code
    energy: int = eqx.field(static=True, default=50)  # the authors' code: ticks without an energy tile
    refill: int = eqx.field(static=True, default=8)  # the authors' code
    horizon: int = eqx.field(static=True, default=100)  # ours: more than the energy of most boards lasts

    def __check_init__(self) -> None:
        for name, given, least in (
            ("size", self.size, 8),
            ("energy", self.energy, 1),
            ("refill", self.refill, 0),
            ("horizon", self.horizon, 1),
        ):
            if given < least:
                raise ValueError(f"{name} must be at least {least}, not {given}")

    @property
    def actions(self) -> Discrete:
        return Discrete(4)

    def sample(self, key: PRNGKeyArray, split: Split) -> KrazyBoard:
        # One draw for everything random: where things lie, then colours, two orders of the steps, the corner and the start.
        cells = self.size**2
        numbers = jr.uniform(own_key(key, split), (cells + len(Tile) + 8 + 7,))
        scattered, colours, first, second, corner, (start,) = jnp.split(numbers, np.cumsum([cells, len(Tile), 4, 4, 6]))
        kinds, outside = locked_corner(corner, self.size)
        order = jnp.argsort(jnp.where(outside.ravel() & (kinds.ravel() == Tile.NORMAL), scattered, 2.0))
        things = self._things()
        kinds = kinds.ravel().at[order[: len(things)]].set(things).reshape(kinds.shape)
        steps = jnp.asarray(STEPS)
        moves = steps[jnp.argsort(first)] + (steps[jnp.argsort(second)] if split == "out-of-range" else 0)
        return KrazyBoard(
            kinds=kinds,
            start=pick_start(start, kinds, outside, split),
            gates=jnp.stack([order[:2] // self.size, order[:2] % self.size], axis=1).astype(jnp.int32),
            moves=moves,
            colours=jnp.argsort(colours).astype(jnp.int32),
            energy=jnp.int32(self.energy),
            refill=jnp.int32(self.refill),
            horizon=self.horizon,
        )

    def _things(self) -> Int[np.ndarray, " things"]:
        """What lies outside the corner, the gates first; the counts are those of the authors' code."""
        share = lambda tile, part: [tile] * int(part * self.size**2)
        fixed = [Tile.GATE, Tile.GATE, Tile.GOAL, Tile.GOAL, Tile.KEY]
        return np.array([*fixed, *share(Tile.DEATH, 0.08), *share(Tile.ICE, 0.05), *share(Tile.ENERGY, 0.05)], np.int32)


def locked_corner(numbers: Float[Array, "6"], size: int) -> tuple[Int[Array, "size size"], Bool[Array, "size size"]]:
    """A board with one corner of two or three rows and columns behind walls, a lock and a goal; and the cells that things may lie in.

    Those are outside, and not beside the lock. The numbers are uniform on [0, 1).
    """
    bottom, right, height, width, lock, goal = numbers
    down, across = np.indices((size, size), np.int32)
    # Counted from the corner, whichever it is.
    rows = jnp.where(bottom < 0.5, down, size - 1 - down)
    columns = jnp.where(right < 0.5, across, size - 1 - across)
    height, width = 2 + pick(height, 2), 2 + pick(width, 2)
    beside = (rows == height) & (columns < width) | (columns == width) & (rows < height)
    inside = (rows < height) & (columns < width)
    door = pick_place(lock, beside)
    kinds = jnp.where(beside | (rows == height) & (columns == width), jnp.int32(Tile.WALL), jnp.int32(Tile.NORMAL))
    kinds = jnp.where(is_at(kinds, door), Tile.LOCK, kinds)
    kinds = jnp.where(is_at(kinds, pick_place(goal, inside)), Tile.GOAL, kinds)
    return kinds, ~inside & (jnp.abs(down - door[0]) + jnp.abs(across - door[1]) > 1)
