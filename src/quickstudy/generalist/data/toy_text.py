"""Toy text: Gymnasium's small decision processes, solved exactly from their own tables, and two ways to write an observation.

Tasks: Gymnasium 1.x, FrozenLake with 4 x 4 and with 8 x 8 cells (slippery), CliffWalking, Taxi (dry) and Blackjack (its default
rules, those of Sutton and Barto). A lake is drawn anew from each seed and shown, so that there is not one table to learn by heart; no
lake of one split is in another.

The expert follows an optimal policy. It is computed by policy iteration (Howard 1960) from the table that the environment itself draws
from; for Blackjack by backward induction over sums, with cards from an endless deck. Of actions that are equally good it takes the
first. What is random is the world: an episode that luck ends badly is kept, since its actions are the best ones all the same.

CliffWalking and Taxi know no luck. So on every second seed for training another action is executed now and then, and what is stored is
the expert's: else no episode would show how to come back to the shortest way. The idea is told in `control.py`.

Success: FrozenLake the goal, CliffWalking the goal at any cost, Taxi the passenger at the destination, Blackjack a reward above 0.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int, Int64

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.domain import draw_within, split_of_seed
from quickstudy.generalist.data.playing import CHANCE, Encoding, Step, disturbance, replaced, text_every
from quickstudy.generalist.data.store import Episode, Facts
from quickstudy.generalist.spaces import Space

try:
    from gymnasium import spaces
    from gymnasium.envs.toy_text import blackjack, cliffwalking, frozen_lake, taxi
except ImportError as error:
    raise ImportError("toy text needs gymnasium: pip install 'quickstudy[generalist]'") from error

TITLE = "Toy text: lakes, cliffs, taxis and cards, played by exact solutions"
LICENCE = "made here by Gymnasium's environments (MIT) and our solutions of them"
CAVEATS = (
    "No seed is left out: on slippery lakes and at cards the best policy often fails.",
    "The lakes' policy discounts by 0.995 a step and knows of no limit of steps, so within one it is a little less than optimal.",
    "On odd seeds for training some actions in CliffWalking and Taxi are replaced by chance: returns there are lower.",
    "The other episodes of CliffWalking are all equal, in all splits: it has one start and no luck. Taxi has 300 starts.",
)

# --- the solutions -------------------------------------------------------------------------------------------------------------------

Table = Mapping[Any, Mapping[Any, Sequence[tuple[Any, ...]]]]  # Gymnasium's: by state and action, some (chance, next, reward, end)
Policy = Int64[np.ndarray, " states"]
Values = Float64[np.ndarray, " states"]
# Ours: undiscounted, a lake's policy may wait for ever where waiting costs nothing. Within the limit of steps it reaches the goal of
# 60 random lakes of 8 x 8 with a mean chance of 0.573; discounted by 0.99 it is 0.568, by 0.999 0.562.
DISCOUNT = 0.995
_EQUAL = 1e-9  # values that differ by less count as equal, so that rounding chooses no action; ours


def matrices(table: Table) -> tuple[Float64[np.ndarray, "states actions states"], Float64[np.ndarray, "states actions"]]:
    """The chances of going on in each next state, and the mean rewards, of a table; an end goes on nowhere."""
    states, actions = len(table), len(table[0])
    onward, rewards = np.zeros((states, actions, states)), np.zeros((states, actions))
    for state, of_state in table.items():
        for action, outcomes in of_state.items():
            for chance, after, reward, end in outcomes:
                rewards[state, action] += chance * reward
                onward[state, action, after] += chance * (not end)
    return onward, rewards


def solve(table: Table, discount: float = DISCOUNT) -> tuple[Policy, Values]:
    """An optimal policy and its discounted values, by policy iteration; the discount must be from 0 to 0.9999.

    Closer to 1 the equations are solved less exactly than `_EQUAL`. Raises `ValueError` for another discount.

    >>> solve({0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 2.0, True)]}, 1: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 1, 0.0, True)]}})
    (array([1, 0]), array([2., 0.]))
    """
    if not 0 <= discount <= 0.9999:
        raise ValueError(f"discount must be from 0 to 0.9999, not {discount}")
    onward, rewards = matrices(table)
    everywhere = np.arange(len(table))
    policy = np.zeros(len(table), np.int64)
    while True:
        values = np.linalg.solve(np.eye(len(table)) - discount * onward[everywhere, policy], rewards[everywhere, policy])
        worth = rewards + discount * onward @ values
        best = worth.max(axis=1)
        if np.all(worth[everywhere, policy] >= best - _EQUAL):
            return np.argmax(worth >= best[:, None] - _EQUAL, axis=1), values
        # Only where it helps, so that a policy comes back never and the loop comes to an end.
        policy = np.where(worth[everywhere, policy] >= best - _EQUAL, policy, worth.argmax(axis=1))


_CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}  # 10, jack, queen and king count 10; an ace is 1


def _with(total: int, usable: bool, card: int) -> tuple[int, bool]:
    """A hand and one more card; `total` counts an ace as 11 where that is no bust, and then the ace is usable."""
    hard, ace = total - 10 * usable + card, usable or card == 1
    return (hard + 10, True) if ace and hard + 10 <= 21 else (hard, False)


@functools.cache
def _dealer(total: int, usable: bool) -> tuple[float, ...]:
    """The chances that the dealer, who draws to 17, ends with 17, 18, 19, 20, 21 and bust."""
    if total >= 17:
        return tuple(float(end == min(total, 22)) for end in range(17, 23))
    ends = np.sum([chance * np.array(_dealer(*_with(total, usable, card))) for card, chance in _CARDS.items()], axis=0)
    return tuple(ends.tolist())


@functools.cache
def hand_values(total: int, showing: int, usable: bool) -> tuple[float, float]:
    """The mean rewards of sticking and of hitting, with a hand that is no natural and the best play from then on.

    >>> hand_values(20, 10, False)[1] < hand_values(20, 10, False)[0]
    True
    """
    if total > 21:
        return -1.0, -1.0
    ends = zip(range(17, 23), _dealer(*_with(0, False, showing)), strict=True)
    stick = sum(chance * (1.0 if end == 22 else float(np.sign(total - end))) for end, chance in ends)
    hit = sum(chance * max(hand_values(*_hand(total, usable, card, showing))) for card, chance in _CARDS.items())
    return stick, hit


def _hand(total: int, usable: bool, card: int, showing: int) -> tuple[int, int, bool]:
    after, still = _with(total, usable, card)
    return after, showing, still


# --- the tasks -----------------------------------------------------------------------------------------------------------------------

Numbers = Int[np.ndarray, "*time numbers"]


class Kind(NamedTuple):
    """A task: its words, how many values each number of its observation has, how many actions, and its limit of steps."""

    words: str
    values: tuple[int, ...]
    actions: int
    horizon: int


# The limits of steps are those of Gymnasium's registry. It has none for CliffWalking, where chance walks for thousands: ours.
# A game of Blackjack ends by itself.
_CELLS = 3  # ice, a hole, the goal
KINDS = {
    "FrozenLake4x4": Kind("cross the small frozen lake", (4, 4, *(_CELLS,) * 16), 4, 100),
    "FrozenLake8x8": Kind("cross the large frozen lake", (8, 8, *(_CELLS,) * 64), 4, 200),
    "CliffWalking": Kind("walk along the cliff to the goal", (4, 12), 4, 200),
    "Taxi": Kind("bring the passenger to the destination", (5, 5, 5, 4), 6, 200),
    "Blackjack": Kind("play blackjack", (32, 11, 2), 2, 100),
}
_WITHOUT_LUCK = ("CliffWalking", "Taxi")
GROUPS = {"all": tuple(KINDS)}


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by those of `GROUPS`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["Taxi", "all"])[:2]
    ['Taxi', 'FrozenLake4x4']
    """
    return naming.find(names, GROUPS, list(KINDS))


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    disturbed = f"on every second seed for training, without luck in the world, a chance of {CHANCE} of another action"
    return {"generator": naming.with_versions("gymnasium", "numpy"), "expert": f"ours, exact; {disturbed}"}


def _kind(task: str) -> Kind:
    return KINDS[catalog.require(task, KINDS, "task")]


def lake(side: int, seed: int) -> list[str]:
    """The lake of a seed, row by row: S start, F ice, H hole, G goal. There is a way, and each lake belongs to one split.

    >>> lake(4, seed=0)
    ['SFFF', 'HHFF', 'FFFF', 'FHFG']
    """
    random = np.random.default_rng(seed)
    draw = lambda: frozen_lake.generate_random_map(side, seed=int(random.integers(2**31)))
    return draw_within(split_of_seed(seed), draw, "".join)


@functools.cache
def _solved(task: str) -> Policy:
    world = cliffwalking.CliffWalkingEnv() if task == "CliffWalking" else taxi.TaxiEnv()
    return solve(world.P)[0]


@functools.lru_cache(maxsize=1000)  # lakes; ours
def _lake_policy(cells: tuple[str, ...]) -> Policy:
    return solve(frozen_lake.FrozenLakeEnv(desc=list(cells)).P)[0]


@dataclass
class Environment:
    """One task as one seed makes it. `state` is Gymnasium's own observation of now, `steps` how many were taken."""

    task: str
    seed: int
    world: Any  # Gymnasium's own environment, without its limit of steps
    state: Any = None
    steps: int = 0

    def reset(self) -> Mapping[str, Any]:
        """Begin, always the same episode. The raw observation: `numbers` as uint8, told at `numbers`, and `task` in words."""
        self.state, self.steps = self.world.reset(seed=self.seed)[0], 0
        return self._raw()

    def step(self, action: Any) -> Step:
        """Act. Raises `ValueError` for what is not an action of the task."""
        kind = _kind(self.task)
        if np.shape(action) != () or action not in range(kind.actions):
            raise ValueError(f"an action must be a whole number from 0 to {kind.actions - 1}, not {action}")
        self.state, reward, terminated, _, _ = self.world.step(int(action))
        self.steps += 1
        # CliffWalking pays nothing at its goal, and there alone it ends.
        success = bool(terminated) and (reward > 0 or self.task == "CliffWalking")
        return Step(self._raw(), float(reward), bool(terminated) or self.steps >= kind.horizon, success)

    def expert(self) -> int:
        """The best action now."""
        if self.task == "Blackjack":
            total, showing, usable = self.state
            stick, hit = hand_values(int(total), int(showing), bool(usable))
            return int(hit > stick + _EQUAL)
        policy = _solved(self.task) if self.task in _WITHOUT_LUCK else _lake_policy(_rows(self.world))
        return int(policy[self.state])

    def _raw(self) -> Mapping[str, Any]:
        return {"numbers": np.array(self._numbers(), np.uint8), "task": _kind(self.task).words}

    def _numbers(self) -> Sequence[int]:
        if self.task == "Blackjack":
            return [int(number) for number in self.state]
        if self.task == "Taxi":
            return list(self.world.decode(self.state))
        if self.task == "CliffWalking":
            return divmod(int(self.state), self.world.shape[1])
        cells = "".join(_rows(self.world))
        return [*divmod(int(self.state), self.world.ncol), *("FHG".find(cell.replace("S", "F")) for cell in cells)]


def _rows(world: Any) -> tuple[str, ...]:
    return tuple(b"".join(row).decode() for row in world.desc)


_WORLDS: dict[str, Callable[[int], Any]] = {
    "FrozenLake4x4": lambda seed: frozen_lake.FrozenLakeEnv(desc=lake(4, seed)),
    "FrozenLake8x8": lambda seed: frozen_lake.FrozenLakeEnv(desc=lake(8, seed)),
    "CliffWalking": lambda seed: cliffwalking.CliffWalkingEnv(),
    "Taxi": lambda seed: taxi.TaxiEnv(),
    "Blackjack": lambda seed: blackjack.BlackjackEnv(sab=True),  # as Gymnasium registers it
}


def environment(task: str, seed: int) -> Environment:
    """A task to be played. Its numbers, in order:

    * FrozenLake: row and column of the player, then the cells row by row: 0 ice, 1 a hole, 2 the goal.
    * CliffWalking: row and column of the player.
    * Taxi: row and column of the taxi, the passenger's place (4 is in the taxi), the destination.
    * Blackjack: the player's sum, the dealer's open card (1 is an ace), whether the player has a usable ace.

    Raises `ValueError` with the nearest name for an unknown task.

    >>> environment("CliffWalking", seed=0).reset()["numbers"].tolist()
    [3, 0]
    """
    return Environment(task, seed, _WORLDS[catalog.require(task, KINDS, "task")](seed))


def record(task: str, seed: int) -> Episode:
    """Let the expert play what a seed makes of a task; equal arguments give equal episodes.

    No seed is rejected, whatever comes of it. Raises `ValueError` for an unknown task.
    """
    world, random = environment(task, seed), disturbance(task, seed) if task in _WITHOUT_LUCK else None
    observation, end, success = world.reset(), False, False
    seen, actions, rewards = [], [], []
    while not end:
        seen.append(observation["numbers"])
        actions.append(world.expert())
        observation, reward, end, success = world.step(replaced(actions[-1], _kind(task).actions, random))
        rewards.append(reward)
    facts = {"seed": seed, "task": task, "success": success, "return": float(sum(rewards)), "disturbed": random is not None}
    return Episode({"numbers": np.stack(seen)}, np.array(actions, np.uint8), np.array(rewards, np.float32), facts)


# --- two encodings -------------------------------------------------------------------------------------------------------------------


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations, with the task in words at every step."""
    return dict(episode.observations) | {"task": [_kind(episode.facts["task"]).words] * len(episode.actions)}


def _plain(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"numbers": np.asarray(raw["numbers"], np.int64)}


def _named(raw: Mapping[str, Any]) -> dict[str, Any]:
    return _plain(raw) | {"task": raw["task"]}


ENCODINGS = ("plain", "named")


@functools.cache
def encoding(name: str, task: str) -> Encoding:
    """The numbers as discrete values, as `plain`, or as `named` with the task in words at step 0 and every so many.

    Neither writes separators: a step has 3 to 67 tokens besides the words. Of lakes, each of whose steps shows the whole map, time
    steps stand alone in `plain`. Raises `ValueError` with the nearest name for another encoding or an unknown task.
    """
    kind, named = _kind(task), catalog.require(name, ENCODINGS, "encoding") == "named"
    space: dict[str, Space] = {"numbers": spaces.MultiDiscrete(list(kind.values))}
    if named:
        space["task"] = spaces.Text(64, charset="abcdefghijklmnopqrstuvwxyz ")
    every = text_every(len(kind.values) + 1) if named else 1
    alone = not named and task.startswith("FrozenLake")
    return Encoding(name, spaces.Dict(space), spaces.Discrete(kind.actions), every, False, _named if named else _plain, alone)
