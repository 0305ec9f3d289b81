"""Mazes: a hidden goal is found once and then gone to, three times in one life, by one who sees only the walls around it.

Levels and moves are those of `quickstudy.tasks.Maze`: the halls are a minimum spanning tree of random weights over every second cell,
start and goal are any two cells of them, a step into a wall leaves the agent where it is, the goal pays 1, and then the way begins at
the start again. In `loops` a third of the walls between two cells of the tree is left out, as in that task's "out-of-range" mazes.
Other than there the goal is never seen. What is stored of a step is the agent's place, the walls around it (8 bits), and the reward of
the step before: so where the goal is follows from where the agent stood and what it did.

The expert knows nothing of the level but what the episode has shown: until it has been at the goal it goes to the nearest free cell
that it knows of and has not entered, then along a shortest way that it knows. This is a good explorer, not the Bayes-optimal one:
that one would also weigh where free cells are likely and where the next two ways will lead. Because it acts on nothing else, who
imitates it in context is not led to take its own actions for evidence: Ortega et al. 2021, "Shaking the foundations: delusions in
sequence models for interaction and control" (see the claim `delusions`).

Success: the goal is reached three times, the third time on a way at most one and a half times as long as the shortest there is.
"""

import zlib
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, SupportsInt

import numpy as np
from jaxtyping import Bool, Float64

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.playing import Encoding, Step, live
from quickstudy.generalist.data.store import Episode, Facts, Rejected

try:
    from gymnasium import spaces
except ImportError as error:
    raise ImportError("the generalist's mazes need Gymnasium: pip install 'quickstudy[generalist]'") from error

TITLE = "Mazes: a hidden goal to be found and then gone to, by an explorer that draws its own map"
LICENCE = "made here (Apache-2.0)"
CAVEATS = (
    "The expert learns within each episode: it explores until it has found the goal, and all that it has seen decides what it does.",
    "It goes to the nearest cell that it has not entered: good, not Bayes-optimal.",
    "No seed is missing. In mazes with loops the way it knows may be longer than the shortest, so some episodes are no success.",
)


class Kind(NamedTuple):
    """How a task's mazes are drawn: cells on a side, and whether some walls of the tree are left out; and the steps of a life."""

    size: int
    loops: bool
    limit: int


# Limits are ours: of 5,000 lives of the expert in each, the longest took 85, 128, 80 and 134 steps.
_KINDS = {
    "tree-7": Kind(7, False, 100),
    "tree-9": Kind(9, False, 150),
    "loops-7": Kind(7, True, 100),
    "loops-9": Kind(9, True, 150),
}
GROUPS = {"all": tuple(_KINDS)}
WAYS = 3  # to the goal, in one life; ours: one to explore, two to show what was learned
_LOOPS = 1 / 3  # of the walls that could be ways; as `quickstudy.tasks.Maze` "out-of-range"
_SHORT = 1.5  # times the shortest way: what a success may take at the third time; ours
MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left, as `quickstudy.tasks.gridworld` steers by compass
_AROUND = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))
Place = tuple[int, int]


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by `all`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["loops-7", "all"])
    ['loops-7', 'tree-7', 'tree-9', 'loops-9']
    """
    return naming.find(names, GROUPS, GROUPS["all"])


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    return {"generator": naming.with_versions("quickstudy", "numpy"), "expert": "nearest unentered cell, then the shortest known way"}


def halls(weights: Float64[np.ndarray, " edges"], left_out: Bool[np.ndarray, " edges"]) -> Bool[np.ndarray, "size size"]:
    """Which cells are free: every second one, and those between two that the minimum spanning tree joins or whose wall is left out.

    Edges are numbered as in `quickstudy.tasks.mazes.edges`: those to the right, then those down. The tree is found by Kruskal's rule:
    from the lightest edge on, each that joins two parts. 2 n (n - 1) weights give 2 n - 1 cells on a side.

    >>> halls(np.array([0.1, 0.4, 0.3, 0.2]), np.zeros(4, bool)).astype(int).tolist()
    [[1, 1, 1], [1, 0, 1], [1, 0, 1]]
    """
    n = round((1 + np.sqrt(1 + 2 * len(weights))) / 2)
    right = [((row, column), (row, column + 1)) for row in range(n) for column in range(n - 1)]
    down = [((row, column), (row + 1, column)) for row in range(n - 1) for column in range(n)]
    edges, part = right + down, np.arange(n * n).reshape(n, n)
    free = np.zeros((2 * n - 1, 2 * n - 1), bool)
    free[::2, ::2] = True
    for edge in np.argsort(weights):
        one, other = edges[edge]
        if part[one] != part[other] or left_out[edge]:
            part[part == part[other]] = part[one]
            free[one[0] + other[0], one[1] + other[1]] = True
    return free


@dataclass
class Environment:
    """One maze as one seed makes it; `free`, `start` and `goal` are hidden from who plays. `ways` counts the steps of each way."""

    task: str
    seed: int
    free: Bool[np.ndarray, "size size"] = field(init=False)
    start: Place = field(init=False)
    goal: Place = field(init=False)
    place: Place = field(init=False)
    ways: list[int] = field(init=False)

    def __post_init__(self) -> None:
        kind, random = _KINDS[self.task], np.random.default_rng([self.seed, zlib.crc32(self.task.encode())])
        n = kind.size // 2 + 1
        weights, loops = random.random((2, 2 * n * (n - 1)))
        self.free = halls(weights, (loops < _LOOPS) & kind.loops)
        cells = np.argwhere(self.free).tolist()
        self.start, self.goal = (tuple(cells[which]) for which in random.choice(len(cells), 2, replace=False))
        self._shortest = len(_way(self.start, {self.goal}, {tuple(cell) for cell in cells}))

    def reset(self) -> Mapping[str, Any]:
        """Begin. The raw observation, as uint8: `place`, row by row; `walls`, a bit for each of the 8 cells around; `reward`."""
        self.place, self.ways = self.start, [0]
        return self._raw(0)

    def step(self, action: SupportsInt) -> Step:
        """Go up (0), right, down or left (3). The reward is 1 at the goal, and then the agent is at the start again; 0 elsewhere.

        The third time ends the life, and so does step 100, in larger mazes step 150. Raises `ValueError` for other actions.
        """
        if not 0 <= int(action) < len(MOVES):
            raise ValueError(f"an action must be from 0 to {len(MOVES) - 1}, not {action}")
        ahead = _plus(self.place, MOVES[int(action)])
        self.place = ahead if self._is_free(ahead) else self.place
        self.ways[-1] += 1
        is_there = self.place == self.goal
        done = is_there and len(self.ways) == WAYS
        success = done and self.ways[-1] <= _SHORT * self._shortest
        if is_there:
            self.place = self.start
            self.ways += [] if done else [0]
        return Step(self._raw(is_there), float(is_there), done or sum(self.ways) == _KINDS[self.task].limit, success)

    def _is_free(self, place: Place) -> bool:
        return all(0 <= one < len(self.free) for one in place) and bool(self.free[place])

    def _raw(self, reward: int) -> Mapping[str, Any]:
        walls = sum(1 << bit for bit, offset in enumerate(_AROUND) if not self._is_free(_plus(self.place, offset)))
        place = self.place[0] * len(self.free) + self.place[1]
        return {"place": np.uint8(place), "reward": np.uint8(reward), "walls": np.uint8(walls)}


def _plus(place: Place, offset: Place) -> Place:
    return place[0] + offset[0], place[1] + offset[1]


def _way(start: Place, targets: Collection[Place], free: Collection[Place]) -> list[int]:
    """The moves of a shortest way through free cells to the nearest of some others; of equal ones, the first by the order of moves."""
    came: dict[Place, tuple[Place, int]] = {}
    ahead = deque([start])
    while ahead:
        place = ahead.popleft()
        if place in targets:
            moves = []
            while place != start:
                place, move = came[place]
                moves.append(move)
            return moves[::-1]
        for move, offset in enumerate(MOVES):
            after = _plus(place, offset)
            if after in free and after not in came and after != start:
                came[after] = (place, move)
                ahead.append(after)
    raise ValueError("there is no way to any of the targets")


def environment(task: str, seed: int) -> Environment:
    """A maze to be played. Raises `ValueError` with the nearest name for an unknown task.

    >>> sorted(environment("tree-7", seed=0).reset())
    ['place', 'reward', 'walls']
    """
    return Environment(catalog.require(task, _KINDS, "task"), seed)


@dataclass
class Explorer:
    """One life's player, from each step's observation to a move: it draws a map of what it is shown, and is told nothing else."""

    size: int
    free: set[Place] = field(default_factory=set)  # cells it has seen to be free
    entered: set[Place] = field(default_factory=set)
    goal: Place | None = None
    _ahead: Place | None = None  # where its last move led, if it was not into a wall

    def __call__(self, observation: Mapping[str, Any]) -> int:
        if observation["reward"]:
            self.goal = self._ahead
        row, column = divmod(int(observation["place"]), self.size)
        here = (row, column)
        self.entered.add(here)
        self.free |= {here} | {_plus(here, offset) for bit, offset in enumerate(_AROUND) if not observation["walls"] >> bit & 1}
        targets = self.free - self.entered if self.goal is None else {self.goal}
        move = _way(here, targets, self.free)[0]
        self._ahead = _plus(here, MOVES[move])
        return move


def expert(task: str) -> Callable[[Mapping[str, Any]], int]:
    """A new explorer for one life.

    >>> expert("tree-7")(environment("tree-7", seed=0).reset()) in range(4)
    True
    """
    return Explorer(_KINDS[task].size)


def record(task: str, seed: int) -> Episode | Rejected:
    """Let the expert live in the maze that a seed makes; equal arguments give equal episodes, and no seed is rejected.

    Raises `ValueError` with the nearest name for an unknown task.
    """
    world = environment(task, seed)
    episode = live(world, expert(task), seed)
    return episode._replace(facts=episode.facts | {"ways": world.ways})


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations: what is stored."""
    return dict(episode.observations)


ENCODINGS = ("plain",)


def encoding(name: str, task: str) -> Encoding:
    """The only one of `ENCODINGS`, `plain`: place, reward and walls as one number each, no separator, four tokens a step.

    Raises `ValueError` with the nearest name for another encoding or an unknown task.
    """
    size = _KINDS[catalog.require(task, _KINDS, "task")].size
    places, walls = spaces.Discrete(size**2), spaces.Discrete(2 ** len(_AROUND))
    space = spaces.Dict({"place": places, "reward": spaces.Discrete(2), "walls": walls})
    return Encoding(catalog.require(name, ENCODINGS, "encoding"), space, spaces.Discrete(len(MOVES)), 1, False, dict)
