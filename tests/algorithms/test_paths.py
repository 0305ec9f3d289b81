"""References of gridworlds: the oracle is as fast as plain breadth-first search, and the searcher earns what a count by hand says."""

import collections

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.references.search_then_go import SearchThenGo, spiral
from quickstudy.algorithms.references.shortest_path import ShortestPath, ticks_and_best
from quickstudy.core import lifetime, sample_tasks
from quickstudy.tasks import BernoulliBandit, DarkRoom, HiddenGoal, Maze, MultiRoom, level_from_text
from quickstudy.tasks.grids import STEPS
from quickstudy.tasks.gridworld import Kind

KEY = jr.key(0)
N = 20
_, RIGHT, _, LEFT = range(4)


def neighbours(state, turns):
    """Where each action would lead from (hand, direction, row, column), walls and doors aside."""
    hand, direction, row, column = state
    if turns:
        yield hand, (direction - 1) % 4, row, column
        yield hand, (direction + 1) % 4, row, column
    for way in [direction] if turns else range(4):
        yield hand, direction, row + int(STEPS[way][0]), column + int(STEPS[way][1])


def search(kinds, start, paying, turns):
    """Ticks to the first cell of the kind that pays, by breadth-first search, one state at a time."""
    waiting = collections.deque([((0, 0, *start), 0)])
    seen = {waiting[0][0]}
    while waiting:
        state, ticks = waiting.popleft()
        for hand, direction, row, column in neighbours(state, turns):
            kind = kinds[row][column] if 0 <= row < len(kinds) and 0 <= column < len(kinds[0]) else Kind.WALL
            if kind == paying:
                return ticks + 1
            after = (int(hand or kind == Kind.KEY), direction, row, column)
            enters = kind in {Kind.FLOOR, Kind.KEY} or (kind == Kind.DOOR and hand)
            if enters and after not in seen:
                seen.add(after)
                waiting.append((after, ticks + 1))
    raise AssertionError("no way")


@eqx.filter_jit
def curves(tasks, steps):
    """The scores of the oracle in stacked tasks."""
    return jax.vmap(lambda task: lifetime(ShortestPath().informed(task), task, KEY, steps=steps)[1])(tasks)


@pytest.mark.parametrize("tasks", [Maze(), MultiRoom(steering="turn")])
def test_the_oracle_is_paid_as_often_as_the_shortest_way_allows(tasks):
    drawn = eqx.filter_jit(sample_tasks)(tasks, KEY, "out-of-range", N)
    scores = np.asarray(curves(drawn, 130))
    for i in range(N):
        pays = np.asarray(drawn.pays[i])
        paying = Kind.SECOND_GOAL if pays[Kind.GOAL] == 0 else Kind.GOAL
        length = search(drawn.kinds[i].tolist(), drawn.starts[i, 0].tolist(), paying, drawn.steering == "turn")
        assert length <= tasks.horizon
        assert (np.flatnonzero(scores[i]) + 1).tolist() == list(range(length, 131, length))


def test_ticks_are_those_to_the_nearest_reward_with_and_without_a_key():
    ticks, best = ticks_and_best(level_from_text("kSDG"))
    # Left to the key, back, into the door, to the goal; with the key in the hand straight on.
    assert (ticks[0, 0, 0, 1], best[0, 0, 0, 1]) == (4, LEFT)
    assert (ticks[1, 0, 0, 1], best[1, 0, 0, 1]) == (2, RIGHT)


def test_lava_and_prizes_are_no_target_and_springs_are():
    ticks, best = ticks_and_best(level_from_text("oS.*", steering="compass and stay"))
    assert ticks[0, 0, 0].tolist() == [3, 2, 1, 1]
    assert best[0, 0, 0].tolist()[1:3] == [RIGHT, RIGHT]
    assert best[0, 0, 0, 3] != LEFT, "it stays on the spring"
    ticks, _ = ticks_and_best(level_from_text("S~G"))
    assert ticks[0, 0, 0, 0] == np.inf


def test_an_oracle_says_which_tasks_it_cannot_know():
    with pytest.raises(TypeError, match="task must be a GridWorld, not BernoulliArms"):
        ShortestPath().informed(BernoulliBandit().sample(KEY, "test"))
    with pytest.raises(ValueError, match=r"a level must have one start .*, not 2"):
        ShortestPath().informed(level_from_text("S.GS"))


@pytest.mark.parametrize("size", [5, 9])
def test_the_spiral_visits_every_cell_once_by_steps(size):
    path = spiral(size)
    assert len({tuple(cell) for cell in path.tolist()}) == size**2 == len(path)
    assert (np.abs(np.diff(path, axis=0)).sum(axis=1) == 1).all()
    assert path[0].tolist() == [size // 2, size // 2]


@eqx.filter_jit
def in_every_room(room, goals, kind, steps):
    """The searcher's scores with the goal in each of some cells."""

    def life(goal):
        kinds = jnp.zeros_like(room.kinds).at[goal[0], goal[1]].set(kind)
        return lifetime(SearchThenGo(), eqx.tree_at(lambda r: r.kinds, room, kinds), KEY, steps=steps)[1]

    return jax.vmap(life)(goals)


def test_the_searcher_earns_in_hidden_goal_rooms_what_a_count_by_hand_says():
    goals = spiral(5)[1:]
    scores = np.asarray(in_every_room(HiddenGoal().sample(KEY, "train"), jnp.asarray(goals), Kind.GOAL, 80))
    # The first episode shows one cell per tick. The row at the top is left: two steps up, one left, and back to the right.
    found = dict(enumerate(range(1, 21))) | {21: 20 + 2, 20: 20 + 3, 22: 20 + 5, 23: 20 + 6}
    for i, goal in enumerate(goals.tolist()):
        away = abs(goal[0] - 2) + abs(goal[1] - 2)
        assert (np.flatnonzero(scores[i]) + 1).tolist() == list(range(found[i], 81, away))


def test_the_searcher_stays_on_a_spring_once_it_is_there():
    goals = spiral(9)[1:21]
    scores = np.asarray(in_every_room(DarkRoom().sample(KEY, "train"), jnp.asarray(goals), Kind.SPRING, 40))
    for found, (goal, score) in enumerate(zip(goals.tolist(), scores, strict=True), start=1):
        away = abs(goal[0] - 4) + abs(goal[1] - 4)
        assert [score[:20].sum(), score[20:].sum()] == [20 - found + 1, 20 - away + 1]
