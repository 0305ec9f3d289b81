"""Gridworlds and mazes: one small engine in which a level is arrays and the rules are tables.

A level is a grid of cell kinds; what a kind does is looked up in `RULES`, so a rule costs a gather and not a branch:

| symbol | kind | what it does |
|---|---|---|
| `.` | floor | nothing |
| `#` | wall | blocks; so does everything beyond the grid |
| `G`, `H` | goal, second goal | pays and ends the episode |
| `*` | spring | pays at every tick that the agent stands on it |
| `o` | prize | pays once: it is taken |
| `k` | key | is taken into the hand |
| `D` | door | blocks without a key in the hand; opens for good with one, and the key stays |
| `~` | lava | costs and ends the episode |

Observations: "position" (one-hot, nothing else is seen), "full" (one plane for each kind and one for the agent, or one for each
direction where it turns), "partial" (a window of the kinds around the agent, or ahead of it where it turns; walls do not hide what is
behind them). A key in the hand is seen in the agent's own cell.
Steering: "compass" (up, right, down, left), "compass and stay", "turn" (left, right, forward).

Source: our own engine; kinds and the egocentric window follow Chevalier-Boisvert et al. 2023, "Minigrid & Miniworld".
"""

import enum
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.tasks.control import AbstractEnvironment, Discrete, Episode
from quickstudy.tasks.drawing import BLACK, BROWN, GREEN, ORANGE, PINK, RED, SKY, WHITE, YELLOW, Colour
from quickstudy.tasks.grids import (
    AGENT,
    ARROWS,
    STEPS,
    at,
    grid_from_text,
    grid_picture,
    grid_text,
    is_at,
    place_in,
    seen_from,
    square_ahead,
    square_around,
)


class Kind(enum.IntEnum):
    """What a cell is."""

    FLOOR = 0
    WALL = 1
    GOAL = 2
    SECOND_GOAL = 3
    SPRING = 4
    PRIZE = 5
    KEY = 6
    DOOR = 7
    LAVA = 8


class Rule(NamedTuple):
    """What a kind of cell does, and how people see it."""

    symbol: str
    colour: Colour
    pays: float = 0.0
    blocks: bool = False  # nobody enters ...
    opens: bool = False  # ... but with a key in the hand
    taken: bool = False  # who enters finds floor there from then on
    ends: bool = False


RULES: dict[Kind, Rule] = {
    Kind.FLOOR: Rule(".", WHITE),
    Kind.WALL: Rule("#", BLACK, blocks=True),
    Kind.GOAL: Rule("G", GREEN, pays=1.0, ends=True),
    Kind.SECOND_GOAL: Rule("H", PINK, pays=1.0, ends=True),
    Kind.SPRING: Rule("*", SKY, pays=1.0),
    Kind.PRIZE: Rule("o", YELLOW, pays=1.0, taken=True),
    Kind.KEY: Rule("k", ORANGE, taken=True),
    Kind.DOOR: Rule("D", BROWN, blocks=True, opens=True, taken=True),
    Kind.LAVA: Rule("~", RED, pays=-1.0, ends=True),
}
SYMBOLS = "".join(rule.symbol for rule in RULES.values())
_COLOURS = [rule.colour for rule in RULES.values()]
_BLOCKS, _OPENS, _TAKEN, _ENDS = (
    np.array([getattr(rule, name) for rule in RULES.values()]) for name in ("blocks", "opens", "taken", "ends")
)
PAYS = np.array([rule.pays for rule in RULES.values()], np.float32)


class Steering(NamedTuple):
    """What actions do: `faces[direction, action]` is the direction afterwards, `strides[action]` how many steps are taken in it."""

    faces: np.ndarray
    strides: np.ndarray


_DIRECTIONS = np.arange(4, dtype=np.int32)
STEERINGS = {
    "compass": Steering(np.tile(_DIRECTIONS, (4, 1)), np.ones(4, np.int32)),
    "compass and stay": Steering(np.c_[np.tile(_DIRECTIONS, (4, 1)), _DIRECTIONS], np.array([1, 1, 1, 1, 0], np.int32)),
    "turn": Steering((_DIRECTIONS[:, None] + np.array([-1, 1, 0], np.int32)) % 4, np.array([0, 0, 1], np.int32)),
}


VIEWS = ("position", "full", "partial")


class Standing(NamedTuple):
    """The state: where the agent is and looks, whether it holds a key, what is left of the level, what it is still owed, and when."""

    place: Int[Array, "2"]
    direction: Int[Array, ""]
    key: Bool[Array, ""]
    kinds: Int[Array, "rows columns"]
    owed: Float[Array, " delay"]
    time: Int[Array, ""]


class GridWorld(AbstractEnvironment):
    """A level: `kinds` of cells `(rows, columns)`, places `(n, 2)` to start from (one is drawn for each episode), what each kind pays.

    `facing` is the direction in which an episode begins (0 to 3: up, right, down, left). Every reward arrives `delay` ticks late, or
    with the last tick of the episode, whichever comes first: with a delay of the horizon or more everything is paid at the end.
    Raises `ValueError` for an unknown steering or view, an even window, a negative delay, or a horizon below 1.
    """

    kinds: Int[Array, "rows columns"]
    starts: Int[Array, "n 2"]
    facing: Int[Array, ""]
    pays: Float[Array, " kinds"]
    delay: int = eqx.field(static=True, default=0)  # ours: at once
    steering: str = eqx.field(static=True, default="compass")  # ours: the fewest steps
    view: str = eqx.field(static=True, default="partial")  # ours: what asks for memory
    window: int = eqx.field(static=True, default=5)  # ours: a room of nine by nine is more than one glance
    horizon: int = eqx.field(static=True, default=100)  # ours: enough to cross any maze of nine by nine

    def __check_init__(self) -> None:
        check_settings(self.steering, self.view, self.window, self.horizon)
        if self.delay < 0:
            raise ValueError(f"delay must be at least 0, not {self.delay}")

    @property
    def actions(self) -> Discrete:
        return Discrete(len(STEERINGS[self.steering].strides))

    def begin(self, key: PRNGKeyArray) -> Standing:
        n = self.starts.shape[-2]
        # One start needs no draw, and then nothing of an episode's beginning is computed at every tick.
        which = 0 if n == 1 else jr.randint(key, (), 0, n)
        owed = jnp.zeros(min(self.delay, self.horizon))
        return Standing(self.starts[which], self.facing, jnp.asarray(False), self.kinds, owed, jnp.zeros((), jnp.int32))

    def act(self, state: Standing, action: Int[Array, ""], key: PRNGKeyArray) -> tuple[Standing, Float[Array, ""], Bool[Array, ""]]:
        moved, kind = self.move(state, action)
        ends = jnp.asarray(_ENDS)[kind]
        queue = jnp.append(state.owed, self.pays[kind])
        over = ends | (state.time + 1 >= self.horizon)
        return moved._replace(owed=queue[1:], time=state.time + 1), jnp.where(over, jnp.sum(queue), queue[0]), ends

    def move(self, state: Standing, action: Int[Array, ""]) -> tuple[Standing, Int[Array, ""]]:
        """The state after a move, and the kind of cell the agent then stands on; nothing is paid yet."""
        faces, strides = STEERINGS[self.steering]
        direction = jnp.asarray(faces)[state.direction, action]
        step = jnp.asarray(strides)[action] * jnp.asarray(STEPS)[direction]
        ahead = seen_from(state.kinds, state.place, step, Kind.WALL)
        stuck = jnp.asarray(_BLOCKS)[ahead] & ~(jnp.asarray(_OPENS)[ahead] & state.key)
        place = jnp.where(stuck, state.place, state.place + step)
        kind = jnp.where(stuck, at(state.kinds, state.place), ahead)
        kinds = jnp.where(is_at(state.kinds, place) & jnp.asarray(_TAKEN)[kind], Kind.FLOOR, state.kinds)
        return state._replace(place=place, direction=direction, key=state.key | (kind == Kind.KEY), kinds=kinds), kind

    def look(self, state: Standing) -> Float[Array, "..."]:
        here = is_at(state.kinds, state.place)
        turns = self.steering == "turn"
        looking = (jnp.arange(4) == state.direction) if turns else jnp.ones(1, bool)
        if self.view == "position":
            return jnp.concatenate([here.ravel(), looking[: 4 * turns]]).astype(jnp.float32)
        own = jnp.where(state.key, Kind.KEY, at(state.kinds, state.place))
        if self.view == "full":
            kinds = jnp.where(here, own, state.kinds)
            return jnp.concatenate([_planes(kinds), (here[..., None] & looking[None, None, :]).astype(jnp.float32)], axis=-1)
        offsets = jnp.asarray(square_ahead(self.window))[state.direction] if turns else jnp.asarray(square_around(self.window))
        kinds = seen_from(state.kinds, state.place, offsets, Kind.WALL)
        return _planes(jnp.where(jnp.all(offsets == 0, axis=-1), own, kinds))

    def text(self, world: Episode) -> str:
        """The level as it is now, other starts as `S`, the agent as `@`, or as an arrow where it turns; `level_from_text` reads it."""
        place, direction = place_in(world.state.place), int(world.state.direction)
        starts = {(int(row), int(column)): "S" for row, column in np.asarray(self.starts)}
        agent = ARROWS[direction] if self.steering == "turn" else AGENT
        return grid_text(np.asarray(world.state.kinds), SYMBOLS, starts | {place: agent})

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        direction = int(world.state.direction) if self.steering == "turn" else None
        return grid_picture(np.asarray(world.state.kinds), _COLOURS, place_in(world.state.place), direction)


def level_from_text(text: str, **settings: Any) -> GridWorld:
    """Read a level: one character for each cell (see `RULES`), `S`, `@` or an arrow where an episode may start.

    `settings` are those of `GridWorld`; `pays` is a mapping from kinds to rewards where they differ from `RULES`.
    Raises `ValueError` for lines of different lengths, unknown characters, or no start.

    >>> world = level_from_text('''
    ... #####
    ... #S.G#
    ... #####''', view="position")
    >>> state, reward, ends = world.act(world.begin(jr.key(0)), jnp.int32(1), jr.key(0))
    >>> state.place.tolist(), float(reward), bool(ends)
    ([1, 2], 0.0, False)
    """
    starts = {symbol: int(Kind.FLOOR) for symbol in ("S", AGENT, *ARROWS)}
    kinds, marked = grid_from_text(text, SYMBOLS, starts)
    if not marked:
        raise ValueError(f"a level must have a start, one of {''.join(starts)}")
    arrows = [ARROWS.index(symbol) for _, _, symbol in marked if symbol in ARROWS]
    pays = PAYS.copy()
    for kind, reward in settings.pop("pays", {}).items():
        pays[kind] = reward
    starts_at = jnp.array([(row, column) for row, column, _ in marked], jnp.int32)
    facing = jnp.int32(arrows[0] if arrows else 0)
    return GridWorld(kinds=jnp.asarray(kinds), starts=starts_at, facing=facing, pays=jnp.asarray(pays), **settings)


def level_from(kinds: Int[Array, "rows columns"], start: Int[Array, "2"], **settings: Any) -> GridWorld:
    """The level with one start, looking up, and the rewards of `RULES`; `settings` are those of `GridWorld` and may replace these."""
    return GridWorld(**{"kinds": kinds, "starts": start[None], "facing": jnp.int32(0), "pays": jnp.asarray(PAYS)} | settings)


def _planes(kinds: Int[Array, "rows columns"]) -> Float[Array, "rows columns kinds"]:
    return jax.nn.one_hot(kinds, len(Kind))


def check_settings(steering: str, view: str, window: int, horizon: int) -> None:
    """Raises `ValueError` for what a gridworld cannot be."""
    for name, given, allowed in (("steering", steering, tuple(STEERINGS)), ("view", view, VIEWS)):
        if given not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {given!r}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 1, not {window}")
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, not {horizon}")
