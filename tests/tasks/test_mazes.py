"""Dark rooms and mazes: every level can be solved, and the splits are apart where they say."""

import functools

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks import DarkRoom, HiddenGoal, Maze, MultiRoom
from quickstudy.tasks.gridworld import Kind
from quickstudy.tasks.mazes import edges, spanning_tree

KEY = jr.key(0)
SPLITS = ("train", "valid", "test")


@functools.cache
def draw(tasks, split):
    """The same 300 tasks for all tests."""
    return eqx.filter_jit(sample_tasks)(tasks, KEY, split, 300)


def reached(kinds, start, open_kinds):
    """The cells at which one can arrive over cells of `open_kinds`."""
    cells = {(row, column): kind for row, kinds_of_row in enumerate(kinds.tolist()) for column, kind in enumerate(kinds_of_row)}
    seen, waiting = {start}, [start]
    while waiting:
        row, column = waiting.pop()
        if (row, column) == start or cells[row, column] in open_kinds:
            beside = {(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)}
            new = {there for there in beside - seen if cells.get(there, Kind.WALL) != Kind.WALL}
            seen |= new
            waiting += new
    return seen


def levels(tasks, split):
    """The cells and the start of each level."""
    drawn = draw(tasks, split)
    return [(kinds, tuple(start[0])) for kinds, start in zip(np.asarray(drawn.kinds), drawn.starts.tolist(), strict=True)]


def only(kinds, kind):
    (place,) = np.argwhere(kinds == kind).tolist()
    return tuple(place)


@pytest.mark.parametrize(
    ("tasks", "split"),
    [
        (HiddenGoal(), "out-of-range"),
        (DarkRoom(), "out-of-range"),
        (Maze(), "train"),
        (Maze(), "test"),
        (Maze(), "out-of-range"),
        (Maze(size=5), "test"),
        (Maze(size=13), "test"),
    ],
)
def test_every_goal_can_be_reached_from_the_start(tasks, split):
    for kinds, start in levels(tasks, split):
        goal = only(kinds, Kind.SPRING if isinstance(tasks, DarkRoom) else Kind.GOAL)
        assert kinds[start] == Kind.FLOOR
        assert goal in reached(kinds, start, {Kind.FLOOR})


@pytest.mark.parametrize(("size", "split"), [(9, "train"), (9, "test"), (9, "out-of-range"), (5, "out-of-range")])
def test_the_locked_goal_needs_the_key_and_the_other_goal_does_not(size, split):
    drawn = draw(MultiRoom(size=size), split)
    for (kinds, start), pays in zip(levels(MultiRoom(size=size), split), drawn.pays.tolist(), strict=True):
        without, having = reached(kinds, start, {Kind.FLOOR, Kind.KEY}), reached(kinds, start, {Kind.FLOOR, Kind.KEY, Kind.DOOR})
        goals = {only(kinds, Kind.GOAL), only(kinds, Kind.SECOND_GOAL)}
        assert only(kinds, Kind.KEY) in without
        assert len(goals & without) == 1
        assert goals <= having
        assert sorted([pays[Kind.GOAL], pays[Kind.SECOND_GOAL]]) == [0.0, 1.0]


def test_either_colour_pays_behind_either_door():
    cases = set()
    drawn = draw(MultiRoom(), "train")
    for (kinds, start), pays in zip(levels(MultiRoom(), "train"), drawn.pays.tolist(), strict=True):
        open_goal = only(kinds, Kind.GOAL) in reached(kinds, start, {Kind.FLOOR, Kind.KEY})
        cases.add((open_goal, pays[Kind.GOAL]))
    assert len(cases) == 4


def test_a_maze_has_one_way_between_any_two_cells_and_loops_out_of_range():
    for kinds, _ in levels(Maze(), "test"):
        # A connected graph is a tree if it has one edge less than nodes: 25 cells, and 24 floors between them.
        assert (kinds != Kind.WALL).sum() == 49
        assert len(reached(kinds, (0, 0), {Kind.FLOOR, Kind.GOAL})) == 49
    floors = np.array([(kinds != Kind.WALL).sum() for kinds, _ in levels(Maze(), "out-of-range")])
    # 16 of the 40 walls are left, and a third of them goes: 5.3 on average, with a deviation of 1.9 / sqrt(300).
    assert abs(floors.mean() - 49 - 16 / 3) < 0.5


def test_the_spanning_tree_is_the_lightest_one():
    """Kruskal's algorithm in plain Python finds the same tree."""
    n = 4
    for weights in np.random.default_rng(0).random((10, 2 * n * (n - 1)), np.float32):
        group = {(row, column): (row, column) for row in range(n) for column in range(n)}
        chosen = set()
        for edge in np.argsort(weights).tolist():
            a, b = (group[tuple(end)] for end in edges(n)[edge].tolist())
            if a != b:
                chosen.add(edge)
                group = {cell: a if of == b else of for cell, of in group.items()}
        assert set(np.flatnonzero(_tree(jnp.asarray(weights), n)).tolist()) == chosen


@eqx.filter_jit
def _tree(weights, n):
    return spanning_tree(weights, n)


@pytest.mark.parametrize("tasks", [HiddenGoal(), DarkRoom()])
def test_goals_of_each_split_spread_over_the_room(tasks):
    cells = {split: {np.flatnonzero(kinds).item() for kinds, _ in levels(tasks, split)} for split in SPLITS}
    assert not (cells["train"] & cells["valid"] | cells["train"] & cells["test"] | cells["valid"] & cells["test"])
    middle = {tasks.size**2 // 2}
    assert set.union(*cells.values()) == set(range(tasks.size**2)) - middle, (
        "every cell but the start belongs to a split, and is drawn"
    )
    for split in ("valid", "test"):
        rows, columns = np.divmod(sorted(cells[split]), tasks.size)
        assert set(rows.tolist()) == set(columns.tolist()) == set(range(tasks.size))


@pytest.mark.parametrize("tasks", [Maze(), MultiRoom()])
def test_one_key_gives_each_split_walls_of_its_own(tasks):
    train, test = (np.asarray(draw(tasks, split).kinds) == Kind.WALL for split in ("train", "test"))
    assert (train != test).any(axis=(1, 2)).mean() > 0.9


def test_starts_are_where_the_split_allows_and_all_over_the_maze():
    starts = np.array([start for _, start in levels(Maze(), "test")])
    assert set(starts[:, 0].tolist()) == set(range(9)) == set(starts[:, 1].tolist())


@pytest.mark.parametrize("make", [HiddenGoal, DarkRoom, Maze, MultiRoom])
@pytest.mark.parametrize("size", [3, 6])
def test_a_bad_size_is_refused(make, size):
    with pytest.raises(ValueError, match=f"size must be odd and at least 5, not {size}"):
        make(size=size)
