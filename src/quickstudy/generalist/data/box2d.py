"""Box2D: Gymnasium's lander and walker, experts that are feedback laws written by hand, and two ways to write an observation.

Tasks: Gymnasium 1.x, `LunarLander-v3` with engines that are on or off, `LunarLanderContinuous-v3` and `BipedalWalker-v3`, unchanged,
without wind and without obstacles. What is stored of a step is what the environment gives, and an expert is told no more. The lander's
are functions of it; the walker's remembers which leg swings. On every second seed for training they are not always obeyed, as
`control.py` does and explains.

An episode is a success if its return comes up to the task's `threshold`. Seeds on which it does not are rejected.
"""

import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.control import ENCODINGS as ENCODINGS
from quickstudy.generalist.data.control import NOISE, Action, State, checked, disturbed, scaled_encoding
from quickstudy.generalist.data.playing import CHANCE, Encoding, Step, disturbance
from quickstudy.generalist.data.store import Episode, Facts, Rejected

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame greets on standard output
try:
    import gymnasium
    from gymnasium import spaces

    # Gymnasium imports both when it makes a task, pygame for another environment in the same place, and its error is no `ImportError`.
    # Box2D's bindings warn as they are imported, and take the process down where a warning is an error.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import Box2D  # noqa: F401
        import pygame  # noqa: F401
except ImportError as error:
    raise ImportError("Box2D's tasks need gymnasium, box2d and pygame: pip install 'quickstudy[generalist]'") from error

TITLE = "Box2D: Gymnasium's lunar lander and its walker, moved by feedback laws written by hand"
LICENCE = "made here by Gymnasium's environments (MIT), Box2D (zlib) and our experts"
CAVEATS = (
    "Seeds on which the expert does not reach the threshold are missing, so a task may be a little easier here than as it is drawn.",
    "On odd seeds for training some actions are replaced or disturbed by chance: more of these are missing, and returns are lower.",
    "CarRacing is left out: it is seen in pictures of 96 x 96, for which we have no expert.",
    "Another processor may round differently, and contacts enlarge that: equal seeds give equal episodes on equal machines.",
)

# --- the experts ---------------------------------------------------------------------------------------------------------------------


def _turn_and_lift(state: State) -> tuple[float, float]:
    """How much to turn, counter-clockwise above 0, and how much slower to fall: two proportional-derivative laws.

    It leans against the side to which it is off and drifts, and falls the slower the lower it is. With a leg on the ground it is to
    stand upright.
    """
    # The gains are ours, found by a random search on seeds for training and then rounded, and the same for both tasks. At 0.6 of the
    # height, where it falls faster, the discrete one fails on 1 seed in 20.
    x, y, drift, rise, angle, spin, left, right = (float(number) for number in state)
    lean = 0.0 if left or right else min(max(0.5 * x + 0.7 * drift, -0.5), 0.5)
    return 1.5 * (lean - angle) - 1.5 * spin, -(0.05 + 0.5 * y) - rise


def _land(state: State) -> int:
    """Fire the main engine (2) where it falls too fast, that at a side (1, 3) where it should turn and that is more urgent."""
    turn, lift = _turn_and_lift(state)
    if state[6] and state[7]:
        return 0
    if lift > 0 and 2 * lift > abs(turn):
        return 2
    return 0 if abs(turn) < 0.05 else 1 if turn > 0 else 3


def _land_gently(state: State) -> Action:
    """The same with throttles: the main engine's is above 0 where it fires, that of those at the sides beyond half."""
    turn, lift = _turn_and_lift(state)
    if state[6] and state[7]:
        return np.array([-1, 0], np.float32)
    return np.clip(np.array([3 * lift, -5 * turn], np.float32), -1, 1)


class _Gait:
    """A walk in four states: which leg swings, and whether it is lifted or set down.

    It is lifted until it is ahead of the other, and set down until it meets the ground; then they change parts. The hip of the leg
    that stands keeps the hull upright, and the other swings the farther the faster the walk. The idea: Yin, Loken and van de Panne
    2007, "SIMBICON: Simple Biped Locomotion Control" (recalled), where a clock ends the lifting.
    """

    def __init__(self) -> None:
        self._swings, self._sets_down = 0, False

    def __call__(self, state: State) -> Action:
        """Torques of both hips and knees, clipped. To be called once for each step of an episode."""
        # A hip's angle is the thigh's to the hull, above 0 if it points forward; a knee's goes from -0.6, bent, to 0.9, straight. The
        # numbers are ours, found by an evolution strategy on seeds for training, half of them with noise, and then rounded.
        lean, turning, speed = (float(number) for number in state[:3])
        legs = state[4:9].tolist(), state[9:14].tolist()
        if self._sets_down and legs[self._swings][4]:
            self._swings, self._sets_down = 1 - self._swings, False
        hip, hip_speed, knee, knee_speed, _ = legs[self._swings]
        other_hip, _, other_knee, other_speed, _ = legs[1 - self._swings]
        self._sets_down = self._sets_down or hip - other_hip > 0.65
        thigh, shin = (0.12, 0.23) if self._sets_down else (0.55, -1.0)
        swing = 2.5 * (thigh + 0.98 * speed - lean - hip) - 0.9 * hip_speed, (shin - knee) - 0.35 * knee_speed
        stand = 7 * (lean - 0.12) + 10 * turning, 2.2 * (0.03 - other_knee) - 0.2 * other_speed
        torques = (*stand, *swing) if self._swings else (*swing, *stand)
        return np.clip(np.array(torques, np.float32), -1, 1)


# --- the tasks -----------------------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A task: its name in Gymnasium, its words, what makes an expert for an episode, and the scale of its numbers.

    They are scaled from `middle` less `half` to `middle` plus `half`.
    """

    registered: str
    words: str
    expert: Callable[[], Callable[[State], Action]]
    middle: tuple[float, ...]
    half: tuple[float, ...]


# Scaled to [-1, 1], in which numbers are not companded, a bin is 1/512 of `half` wide. The bounds that Gymnasium declares are far from
# what is ever met: so these are ours, which the experts' episodes leave for moments of impact only. What is outside is clipped.
_LANDER = ((0.0, 0.75, 0.0, 0.0, 0.0, 0.0, 0.5, 0.5), (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5))
_LEG, _HALF_LEG = (0.15, 0.0, 0.15, 0.0, 0.5), (1.0, 2.0, 1.0, 2.0, 0.5)  # hip and knee, each with its speed, and whether it stands
_RANGES = (0.5,) * 10  # to the ground in ten directions
_WALKER = ((0.0,) * 4 + _LEG + _LEG + _RANGES, (1.0,) * 4 + _HALF_LEG + _HALF_LEG + _RANGES)
KINDS = {
    "LunarLander": Kind("LunarLander-v3", "land between the flags", lambda: _land, *_LANDER),
    "LunarLanderContinuous": Kind("LunarLanderContinuous-v3", "land between the flags with throttles", lambda: _land_gently, *_LANDER),
    "BipedalWalker": Kind("BipedalWalker-v3", "walk to the far end", _Gait, *_WALKER),
}
GROUPS = {"all": tuple(KINDS)}


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by those of `GROUPS`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["BipedalWalker", "all"])[:2]
    ['BipedalWalker', 'LunarLander']
    """
    return naming.find(names, GROUPS, list(KINDS))


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    return {
        "generator": naming.with_versions("gymnasium", "box2d", "numpy"),
        "expert": f"ours; on every second seed for training a chance of {CHANCE} of another action, or noise of {NOISE}",
    }


def threshold(task: str) -> float:
    """The return from which on an episode is a success: Gymnasium's.

    >>> threshold("LunarLander")
    200.0
    """
    given = gymnasium.spec(_kind(task).registered).reward_threshold
    assert given is not None
    return float(given)


def _kind(task: str) -> Kind:
    return KINDS[catalog.require(task, KINDS, "task")]


def _world(task: str) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(_kind(task).registered, disable_env_checker=True)


@dataclass
class Environment:
    """One task as one seed makes it."""

    task: str
    seed: int
    world: Any = None  # Gymnasium's own environment, with its limit of steps
    total: float = 0.0  # the return so far

    def reset(self) -> Mapping[str, Any]:
        """Begin, always the same episode. The raw observation: `state` as Gymnasium gives it, float32, and `task` in words."""
        self.world, self.total = _world(self.task), 0.0  # a new one: Box2D may remember contacts of the episode before
        return self._raw(self.world.reset(seed=self.seed)[0])

    def step(self, action: Any) -> Step:
        """Act; continuous actions are clipped. Success is told at the end: a return of at least the `threshold`.

        Raises `ValueError` for what is not an action of the task.
        """
        state, reward, terminated, truncated, _ = self.world.step(checked(action, self.world.action_space))
        self.total += float(reward)
        end = bool(terminated or truncated)
        return Step(self._raw(state), float(reward), end, end and self.total >= threshold(self.task))

    def _raw(self, state: np.ndarray) -> Mapping[str, Any]:
        return {"state": np.asarray(state, np.float32), "task": _kind(self.task).words}


def environment(task: str, seed: int) -> Environment:
    """A task to be played. Raises `ValueError` with the nearest name for an unknown task.

    >>> environment("LunarLander", seed=0).reset()["task"]
    'land between the flags'
    """
    return Environment(catalog.require(task, KINDS, "task"), seed)


def record(task: str, seed: int) -> Episode | Rejected:
    """Let the expert play what a seed makes of a task; equal arguments give equal episodes.

    A seed is rejected if the return is below the `threshold`. Raises `ValueError` for an unknown task.
    """
    world, random, act = environment(task, seed), disturbance(task, seed), _kind(task).expert()
    observation, end, success = world.reset(), False, False
    space = world.world.action_space
    seen, actions, rewards = [], [], []
    while not end:
        seen.append(observation["state"])
        actions.append(act(observation["state"]))
        observation, reward, end, success = world.step(disturbed(actions[-1], space, random))
        rewards.append(reward)
    if not success:
        return Rejected(seed, f"a return below {threshold(task):g}")
    facts = {"seed": seed, "task": task, "success": True, "return": round(world.total, 6), "disturbed": random is not None}
    kind = np.uint8 if isinstance(space, spaces.Discrete) else np.float32
    return Episode({"state": np.stack(seen)}, np.array(actions, kind), np.array(rewards, np.float32), facts)


# --- two encodings -------------------------------------------------------------------------------------------------------------------


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations, with the task in words at every step."""
    return dict(episode.observations) | {"task": [_kind(episode.facts["task"]).words] * len(episode.actions)}


@functools.cache
def encoding(name: str, task: str) -> Encoding:
    """Numbers scaled to [-1, 1], as `plain`, or as `named` with the task in words at step 0 and every so many.

    Neither writes separators: a step has 9, 10 or 28 tokens besides the words. Raises `ValueError` with the nearest name for another
    encoding or an unknown task.
    """
    return scaled_encoding(name, _kind(task), _world(task).action_space)
