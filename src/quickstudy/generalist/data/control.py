"""Classic control: Gymnasium's five tasks, experts that are a few lines of mechanics, and two ways to write an observation.

Tasks: Gymnasium 1.x, `CartPole-v1`, `Acrobot-v1`, `MountainCar-v0`, `MountainCarContinuous-v0` and `Pendulum-v1`, unchanged. What is
stored of a step is what the environment gives. An expert is a function of that alone, and remembers nothing.

On every second seed for training the expert is not always obeyed, and what is stored is what it said: so episodes show how it comes
back from where it would not have gone. These experts are so good that without it no episode would show a pole that leans. The idea:
Laskey et al. 2017, "DART: Noise Injection for Robust Imitation Learning" (recalled); there noise is fitted to the learner.

An episode is a success if its return comes up to the task's threshold in Gymnasium's registry. Gymnasium means it for the mean of
many episodes: so an expert whose mean is above it may fall short of it from an unlucky start. No episode is left out for that.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.playing import CHANCE, Encoding, Step, disturbance, replaced, text_every
from quickstudy.generalist.data.store import Episode, Facts
from quickstudy.generalist.spaces import Space

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise ImportError("classic control needs gymnasium: pip install 'quickstudy[generalist]'") from error

TITLE = "Classic control: Gymnasium's five tasks, played by feedback laws of mechanics"
LICENCE = "made here by Gymnasium's environments (MIT) and our experts"
CAVEATS = (
    "Success is a return of at least Gymnasium's threshold (Pendulum: ours, -400). No seed is left out, so some episodes are none.",
    "The experts are good, not optimal; that of MountainCar needs more than 110 steps from three in ten starts.",
    "On odd seeds for training some actions are replaced or disturbed by chance: returns there are lower than the expert's own.",
    "Another processor may round differently: equal seeds give equal episodes on equal machines.",
)

State = Float32[np.ndarray, " numbers"]
Action = int | Float32[np.ndarray, " forces"]

NOISE = 0.2  # standard deviation of what is added to a continuous action, in parts of the largest; as in `metaworld.py`


# --- the experts ---------------------------------------------------------------------------------------------------------------------


def _balance(state: State) -> int:
    """Push to where cart and pole lean: the sign of a linear function of position, speed, angle and angular velocity."""
    return int(float(state @ np.array([0.1, 0.5, 3.0, 1.0])) > 0)  # ours: 500 steps on each of 300 seeds


def _swing_acrobot(state: State) -> int:
    """Put energy in: the torque works with the elbow's motion, and half as much against the shoulder's, so that the arms whip."""
    return 2 if state[5] > 0.5 * state[4] else 0  # ours: the best of 0, 0.2, 0.3, 0.4, 0.5, 0.7 and 1 on 150 seeds for training


def _pump(speed: float) -> int:
    return 1 if speed >= 0 else -1


def _next(position: float, speed: float, push: int) -> tuple[float, float]:
    """One step of the car, as Gymnasium's `MountainCar-v0` moves it."""
    speed = min(max(speed + 0.001 * push - 0.0025 * math.cos(3 * position), -0.07), 0.07)
    position = min(max(position + speed, -1.2), 0.6)
    return position, 0.0 if position == -1.2 and speed < 0 else speed


def _steps_to_the_goal(position: float, speed: float) -> int:
    """How long pushing along with the speed takes, which always puts energy in and so comes to an end."""
    steps = 0
    while position < 0.5:
        position, speed = _next(position, speed, _pump(speed))
        steps += 1
    return steps


def _drive(state: State) -> int:
    """The push after which pumping is fastest: one step of policy improvement (Bertsekas's rollout). Pumping alone takes 120 steps."""
    position, speed = float(state[0]), float(state[1])
    took = {push: _steps_to_the_goal(*_next(position, speed, push)) for push in (-1, 0, 1)}
    return 1 + min(took, key=lambda push: (took[push], push != _pump(speed)))  # of equally fast ones pumping's own


def _drive_gently(state: State) -> Float32[np.ndarray, "1"]:
    """Push along with the speed, and not with full force, which is squared in the reward."""
    # 0.6, ours: a return of 95.6 in 123 steps. At 0.4 it is 97.0 in 189 steps, at 1 it is 89.4, below the threshold.
    return np.array([0.6 * _pump(float(state[1]))], np.float32)


def _swing_pendulum(state: State) -> Float32[np.ndarray, "1"]:
    """Near the top a spring and a damper, elsewhere a torque that brings the energy to that of standing on top.

    The idea: Åström and Furuta 2000, "Swinging up a pendulum by energy control" (recalled).
    """
    cosine, sine, speed = (float(number) for number in state)
    energy = speed**2 / 2 + 15 * (cosine - 1)  # acceleration is 15 sin(angle) + 3 torque; 0 when it stands on top
    if cosine > 0.85 and abs(speed) < 4:  # ours, as are the gains: of nine pairs, the best mean return
        torque = -10 * math.atan2(sine, cosine) - 2 * speed
    else:
        torque = -energy * (speed if abs(speed) > 1e-3 else 1e-3)  # it is not to hang still
    return np.array([min(max(torque, -2.0), 2.0)], np.float32)


# --- the tasks -----------------------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A task: its name in Gymnasium, its words, its expert, and the middle and half the width of what its numbers are scaled from."""

    registered: str
    words: str
    expert: Callable[[State], Action]
    middle: tuple[float, ...]
    half: tuple[float, ...]


# Scaled to [-1, 1], in which numbers are not companded, a bin is 1/512 of `half` wide. The scales are the bounds that Gymnasium
# declares; of CartPole's position and angle half of these, where an episode ends. Its speeds have none there: 3 is ours, three times
# the fastest that the expert gets.
KINDS = {
    "CartPole": Kind("CartPole-v1", "balance the pole", _balance, (0.0,) * 4, (2.4, 3.0, 0.21, 3.0)),
    "Acrobot": Kind("Acrobot-v1", "swing the tip up", _swing_acrobot, (0.0,) * 6, (1.0, 1.0, 1.0, 1.0, 4 * math.pi, 9 * math.pi)),
    "MountainCar": Kind("MountainCar-v0", "drive up the mountain", _drive, (-0.3, 0.0), (0.9, 0.07)),
    "MountainCarContinuous": Kind(
        "MountainCarContinuous-v0", "drive up the mountain with little force", _drive_gently, (-0.3, 0.0), (0.9, 0.07)
    ),
    "Pendulum": Kind("Pendulum-v1", "swing the pendulum up and hold it", _swing_pendulum, (0.0,) * 3, (1.0, 1.0, 8.0)),
}
GROUPS = {"all": tuple(KINDS)}
# Gymnasium has none for Pendulum. Ours: the expert gets -379 at worst in 500 episodes, and chance -759 at best in 30.
_PENDULUM = -400.0


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by those of `GROUPS`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["Pendulum", "all"])[:2]
    ['Pendulum', 'CartPole']
    """
    return naming.find(names, GROUPS, list(KINDS))


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    return {
        "generator": naming.with_versions("gymnasium", "numpy"),
        "expert": f"ours; on every second seed for training a chance of {CHANCE} of another action, or noise of {NOISE}",
    }


def threshold(task: str) -> float:
    """The return from which on an episode is a success: Gymnasium's, but for Pendulum, which has none.

    >>> threshold("CartPole"), threshold("Pendulum")
    (475.0, -400.0)
    """
    given = gymnasium.spec(_kind(task).registered).reward_threshold
    return _PENDULUM if given is None else float(given)


def _kind(task: str) -> Kind:
    return KINDS[catalog.require(task, KINDS, "task")]


def _world(task: str) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(_kind(task).registered, disable_env_checker=True)


@dataclass
class Environment:
    """One task as one seed makes it."""

    task: str
    seed: int
    world: Any  # Gymnasium's own environment, with its limit of steps
    total: float = 0.0  # the return so far

    def reset(self) -> Mapping[str, Any]:
        """Begin, always the same episode. The raw observation: `state` as Gymnasium gives it, float32, and `task` in words."""
        self.total = 0.0
        return self._raw(self.world.reset(seed=self.seed)[0])

    def step(self, action: Any) -> Step:
        """Act; a continuous action is clipped. Success is told at the end: a return of at least the `threshold`.

        Raises `ValueError` for what is not an action of the task.
        """
        state, reward, terminated, truncated, _ = self.world.step(checked(action, self.world.action_space))
        self.total += float(reward)
        end = bool(terminated or truncated)
        return Step(self._raw(state), float(reward), end, end and self.total >= threshold(self.task))

    def _raw(self, state: np.ndarray) -> Mapping[str, Any]:
        return {"state": np.asarray(state, np.float32), "task": _kind(self.task).words}


def checked(action: Any, space: Any) -> Action:
    """An action as its space has it; forces are clipped. Raises `ValueError` for what is none."""
    if isinstance(space, spaces.Discrete):
        if np.shape(action) != () or action not in range(int(space.n)):
            raise ValueError(f"an action must be a whole number from 0 to {space.n - 1}, not {action}")
        return int(action)
    force = np.asarray(action, np.float32)
    if force.shape != space.shape or not np.isfinite(force).all():
        numbers = "one number" if space.shape == (1,) else f"{space.shape[0]} numbers"
        raise ValueError(f"an action must be an array of {numbers}, not {action}")
    return np.clip(force, space.low, space.high)


def environment(task: str, seed: int) -> Environment:
    """A task to be played. Raises `ValueError` with the nearest name for an unknown task.

    >>> environment("CartPole", seed=0).reset()["task"]
    'balance the pole'
    """
    return Environment(task, seed, _world(task))


def disturbed(action: Action, space: Any, random: np.random.Generator | None) -> Action:
    """What is executed in place of the expert's action."""
    if isinstance(space, spaces.Discrete):
        return replaced(int(action), int(space.n), random)
    if random is None:
        return action
    return np.asarray(action + NOISE * space.high * random.normal(size=space.shape), np.float32)


def record(task: str, seed: int) -> Episode:
    """Let the expert play what a seed makes of a task; equal arguments give equal episodes.

    No seed is rejected, whatever comes of it. Raises `ValueError` for an unknown task.
    """
    world, random, act = environment(task, seed), disturbance(task, seed), _kind(task).expert
    space, observation, end, success = world.world.action_space, world.reset(), False, False
    seen, actions, rewards = [], [], []
    while not end:
        seen.append(observation["state"])
        actions.append(act(observation["state"]))
        observation, reward, end, success = world.step(disturbed(actions[-1], space, random))
        rewards.append(reward)
    facts = {"seed": seed, "task": task, "success": success, "return": round(world.total, 6), "disturbed": random is not None}
    kind = np.uint8 if isinstance(space, spaces.Discrete) else np.float32
    return Episode({"state": np.stack(seen)}, np.array(actions, kind), np.array(rewards, np.float32), facts)


# --- two encodings -------------------------------------------------------------------------------------------------------------------


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations, with the task in words at every step."""
    return dict(episode.observations) | {"task": [_kind(episode.facts["task"]).words] * len(episode.actions)}


def scaled(raw: Mapping[str, Any], *, kind: Any, named: bool) -> dict[str, Any]:
    """A raw observation with its numbers scaled by the `middle` and `half` of a kind, with the task in words if it is to be named."""
    numbers = (np.asarray(raw["state"], np.float64) - np.array(kind.middle)) / np.array(kind.half)
    observed: dict[str, Any] = {"state": np.clip(numbers, -1, 1).astype(np.float32)}
    return observed | {"task": raw["task"]} if named else observed


ENCODINGS = ("plain", "named")


def scaled_encoding(name: str, kind: Any, actions: Any) -> Encoding:
    """One of `ENCODINGS` for a kind, here and in `box2d.py`, with its space of actions; raises as `encoding`."""
    named = catalog.require(name, ENCODINGS, "encoding") == "named"
    space: dict[str, Space] = {"state": spaces.Box(-1.0, 1.0, (len(kind.half),), np.float32)}
    if named:
        space["task"] = spaces.Text(64, charset="abcdefghijklmnopqrstuvwxyz ")
    every = text_every(len(kind.half) + int(np.prod(actions.shape or ()))) if named else 1
    return Encoding(name, spaces.Dict(space), actions, every, False, functools.partial(scaled, kind=kind, named=named))


@functools.cache
def encoding(name: str, task: str) -> Encoding:
    """Numbers scaled to [-1, 1], as `plain`, or as `named` with the task in words at step 0 and every so many.

    Neither writes separators: a step has 3 to 7 tokens besides the words. In `plain` only the states and the actions tell the tasks
    apart. There each time step stands alone: the experts need no more than the state. Raises `ValueError` with the nearest name for
    another encoding or an unknown task.
    """
    return scaled_encoding(name, _kind(task), _world(task).action_space)._replace(alone=name == "plain")
