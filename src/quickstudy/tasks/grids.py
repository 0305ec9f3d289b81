"""What worlds on a grid share: places and windows, the split that a level belongs to, levels as text and as pictures."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, Shaped, UInt8

from quickstudy.core import SPLITS, Split
from quickstudy.tasks.drawing import BLUE, Colour, cells

# (row, column) of one step up, right, down and left; row 0 is at the top.
STEPS = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]], np.int32)
ARROWS = "^>v<"
AGENT = "@"

# Which of five classes a split owns; "out-of-range" levels differ in another way, and are otherwise drawn like a test.
_CLASSES: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2), "valid": (3,), "test": (4,), "out-of-range": (4,)}


def at(grid: Int[Array, "rows columns"], place: Int[Array, "2"]) -> Int[Array, ""]:
    """What a grid holds at a place."""
    return grid[place[0], place[1]]


def check_odd_size(size: int) -> None:
    """Raises `ValueError` unless a square of this size has a middle and cells of every class."""
    if size < 5 or size % 2 == 0:
        raise ValueError(f"size must be odd and at least 5, not {size}")


def is_at(grid: Shaped[Array, "rows columns"], place: Int[Array, "2"]) -> Bool[Array, "rows columns"]:
    """The mask of one cell: cheaper to compute than a scatter on every processor.

    >>> is_at(jnp.zeros((2, 2), int), jnp.array([1, 0])).tolist()
    [[False, False], [True, False]]
    """
    rows, columns = np.indices(grid.shape, np.int32)
    return (rows == place[0]) & (columns == place[1])


def seen_from(
    grid: Int[Array, "rows columns"], place: Int[Array, "2"], offsets: Int[Array, "*window 2"], beyond: int
) -> Int[Array, "*window"]:
    """What a grid holds at some offsets from a place, some of which may lie `beyond` it.

    >>> seen_from(jnp.array([[5, 6]]), jnp.array([0, 0]), jnp.array([[0, 1], [1, 0]]), 9).tolist()
    [6, 9]
    """
    rows, columns = place[0] + offsets[..., 0], place[1] + offsets[..., 1]
    inside = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    return jnp.where(inside, grid[rows.clip(0, grid.shape[0] - 1), columns.clip(0, grid.shape[1] - 1)], beyond)


def square_around(size: int) -> Int[np.ndarray, "size size 2"]:
    """The offsets of a square window from its middle.

    >>> square_around(3)[0].tolist()
    [[-1, -1], [-1, 0], [-1, 1]]
    """
    return np.moveaxis(np.indices((size, size), np.int32), 0, -1) - size // 2


def square_ahead(size: int) -> Int[np.ndarray, "4 size size 2"]:
    """The offsets of a square window for each direction: who looks stands in the middle of its lowest row and looks to its top.

    >>> square_ahead(3)[:, 0, 1].tolist()  # the cell two steps ahead, looking up, right, down, left
    [[-2, 0], [0, 2], [2, 0], [0, -2]]
    """
    rows, columns = np.indices((size, size), np.int32)[..., None]
    ahead, aside = size - 1 - rows, columns - size // 2
    return ahead * STEPS[:, None, None] + aside * np.roll(STEPS, -1, axis=0)[:, None, None]


# --- Splits -------------------------------------------------------------------------------------------------------------------------


def owned(classes: Int[Array, "..."] | Int[np.ndarray, "..."], split: Split) -> Bool[Array, "..."]:
    """Which of these classes, counted modulo five, a split owns: three belong to "train", one to "valid", one to "test".

    Raises `ValueError` for an unknown split.

    >>> owned(jnp.arange(5), "valid").tolist()
    [False, False, False, True, False]
    """
    return jnp.isin(classes % 5, jnp.array(_CLASSES[_known(split)]))


def _known(split: Split) -> Split:
    if split not in _CLASSES:
        raise ValueError(f"split must be one of {', '.join(_CLASSES)}, not {split!r}")
    return split


def lattice(size: int) -> Int[np.ndarray, "size size"]:
    """A class for every cell of a square such that the cells of each class are spread evenly: a knight's move apart.

    >>> lattice(5)[:2].tolist()
    [[0, 2, 4, 1, 3], [1, 3, 0, 2, 4]]
    """
    rows, columns = np.indices((size, size), np.int32)
    return (rows + 2 * columns) % 5


def pick(number: Float[Array, ""], count: int | Int[Array, ""]) -> Int[Array, ""]:
    """One of `count` things, by a number that is uniform on [0, 1): to draw all numbers of a level at once compiles faster.

    >>> pick(jnp.array(0.99), 3).item()
    2
    """
    return jnp.minimum(jnp.floor(number * jnp.asarray(count, jnp.float32)).astype(jnp.int32), count - 1)


def pick_place(number: Float[Array, ""], allowed: Bool[Array, "rows columns"]) -> Int[Array, "2"]:
    """One of the allowed cells, by a number that is uniform on [0, 1).

    >>> pick_place(jnp.array(0.5), jnp.array([[True, False], [False, True]])).tolist()
    [1, 1]
    """
    before = jnp.cumsum(allowed.ravel().astype(jnp.int32))
    cell = jnp.sum(before <= pick(number, before[-1])).astype(jnp.int32)
    return jnp.stack([cell // allowed.shape[1], cell % allowed.shape[1]])


def start_classes(kinds: Int[Array, "rows columns"]) -> Int[Array, "rows columns"]:
    """The class of the level that each cell of kind 0 would make as the start, from a sum over the whole level.

    Cells of kind 0 take the classes in turn, so a level of any layout can be put into any split by the choice of its start, and no two
    splits share a level.
    """
    total = jnp.sum(kinds.ravel() * jnp.arange(1, kinds.size + 1))
    return (total + jnp.cumsum(kinds.ravel() == 0).reshape(kinds.shape)) % 5


def pick_start(
    number: Float[Array, ""], kinds: Int[Array, "rows columns"], allowed: Bool[Array, "rows columns"], split: Split
) -> Int[Array, "2"]:
    """A start among the allowed cells of kind 0 such that the level belongs to `split`."""
    return pick_place(number, allowed & (kinds == 0) & owned(start_classes(kinds), split))


def own_key(key: PRNGKeyArray, split: Split) -> PRNGKeyArray:
    """A key for each split, so that one key does not give a train and a test level the same walls.

    Raises `ValueError` for an unknown split.
    """
    return jr.fold_in(key, SPLITS.index(_known(split)))


# --- Text and pictures --------------------------------------------------------------------------------------------------------------


def grid_from_text(
    text: str, symbols: str, also: Mapping[str, int]
) -> tuple[Int[np.ndarray, "rows columns"], Sequence[tuple[int, int, str]]]:
    """Read one character for each cell: its index in `symbols`, or what `also` says; the places of the latter come beside the grid.

    Raises `ValueError` for lines of different lengths, and for characters that mean nothing.
    """
    lines = text.strip().split("\n")
    if len({len(line) for line in lines}) > 1:
        raise ValueError(f"a level's lines must be equally long, not {', '.join(str(len(line)) for line in lines)}")
    unknown = sorted(set("".join(lines)) - set(symbols) - set(also))
    if unknown:
        raise ValueError(f"a level may hold {symbols}{''.join(also)}, not {''.join(unknown)}")
    kinds = [[also[symbol] if symbol in also else symbols.index(symbol) for symbol in line] for line in lines]
    marked = [(row, column, symbol) for row, line in enumerate(lines) for column, symbol in enumerate(line) if symbol in also]
    return np.array(kinds, np.int32), marked


def grid_text(kinds: Int[np.ndarray, "rows columns"], symbols: str, marks: Mapping[tuple[int, int], str]) -> str:
    """One character for each cell; `marks` go over them.

    >>> print(grid_text(np.array([[0, 1], [0, 0]]), ".#", {(1, 0): "@"}))
    .#
    @.
    """
    lines = [[symbols[kind] for kind in row] for row in kinds]
    for (row, column), symbol in marks.items():
        lines[row][column] = symbol
    return "\n".join("".join(line) for line in lines)


def grid_picture(
    kinds: Int[np.ndarray, "rows columns"], colours: Sequence[Colour], agent: tuple[int, int], direction: int | None, size: int = 16
) -> UInt8[np.ndarray, "height width 3"]:
    """One square for each cell, and the agent as a disc, or as a triangle that points where it looks."""
    picture = cells(np.array(colours, np.uint8)[kinds], size)
    top, left = agent[0] * size, agent[1] * size
    picture[top : top + size, left : left + size][agent_mask(direction, size)] = BLUE
    return picture


def agent_mask(direction: int | None, size: int) -> Bool[np.ndarray, "size size"]:
    """The pixels of an agent in its cell."""
    across = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(across, across, indexing="ij")
    if direction is None:
        return x**2 + y**2 < 0.5
    # A triangle that points up, turned by quarters to the right.
    return np.rot90((np.abs(x) < 0.35 * (y + 0.8)) & (y < 0.7), -direction)


def place_in(place: Int[Array, "2"]) -> tuple[int, int]:
    """A place as two Python numbers."""
    row, column = np.asarray(place)
    return int(row), int(column)
