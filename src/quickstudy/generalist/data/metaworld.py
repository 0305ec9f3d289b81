"""Meta-World: 50 tasks for a robot arm at a table, its scripted policies as experts, and four ways to write an observation.

Tasks and policies: Meta-World (Yu et al. 2019; metaworld 3.1.1). A seed decides where things and the goal are, anew each time, as its
multi-task benchmarks do; the goal is shown. What is stored of a step is what the environment gives, 39 numbers: hand (3), gripper, two
objects (3 + 4 each, zeros if there is none), the same of the step before, goal (3), in metres but for gripper and quaternions.

An episode ends at success, or after 500 steps: the policies go on moving, and in many tasks undo what they did. Its reward is 1 at
success and 0 until then. Meta-World's own is positive at every step, so of episodes that end at success it would favour the slow; its
sum is told as `dense_return`.

Actions are clipped to [-1, 1], in which the arm moves by up to a centimetre a step. On every second seed for training, noise is
added to what is executed, not to what is stored: so episodes show how the expert comes back from where it would not have gone. The
idea: Laskey et al. 2017, "DART: Noise Injection for Robust Imitation Learning" (recalled); there noise is fitted to the learner.
"""

import copy
import functools
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.playing import Encoding, Step
from quickstudy.generalist.data.store import SEEDS, Episode, Facts, Rejected

try:
    import mujoco
    from gymnasium import spaces
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS, MT10_V3
    from metaworld.policies import ENV_POLICY_MAP
except ImportError as error:
    raise ImportError("Meta-World needs metaworld and mujoco: pip install 'quickstudy[generalist]'") from error

TITLE = "Meta-World: a robot arm at a table, moved by scripted policies"
LICENCE = "made here by Meta-World's environments and policies (MIT)"
CAVEATS = (
    "The goal is shown, as in Meta-World's multi-task benchmarks; its meta-learning benchmarks hide it.",
    "Seeds on which the policy fails within 500 steps are missing, so a task may be a little easier here than as it is drawn.",
    "With noise the policies fail more often, most of all at peg-insert-side, so more of these seeds are missing.",
    "Another processor may round differently, and contacts enlarge that: equal seeds give equal episodes on equal machines.",
)

_VERSION = "-v3"  # of all of Meta-World's tasks, left out of our names
GROUPS = {
    "all": tuple(name.removesuffix(_VERSION) for name in ALL_V3_ENVIRONMENTS),
    "mt10": tuple(name.removesuffix(_VERSION) for name in MT10_V3),
}
HORIZON = 500  # steps, Meta-World's own
NOISE = 0.2  # standard deviation of each part of an action; ours: policies do 97 % of MT10 with it, at 0.3 94 %, without 99 %
STATE = 39
State = Float32[np.ndarray, "39"]
Action = Float32[np.ndarray, "4"]


def tasks() -> list[str]:
    """All tasks of Meta-World, in its order.

    >>> len(tasks()), tasks()[-1]
    (50, 'window-close')
    """
    return list(GROUPS["all"])


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by those of `GROUPS`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["door-lock", "mt10"])[:3]
    ['door-lock', 'reach', 'push']
    """
    return naming.find(names, GROUPS, tasks())


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    return {
        "generator": naming.with_versions("metaworld", "mujoco", "gymnasium", "numpy"),
        "expert": f"metaworld.policies, on every second seed for training with noise of {NOISE}",
    }


class _Compiled:
    """Compiles the model of a task once in a process: that takes several times as long as an episode."""

    fullpath: str

    def _initialize_simulation(self) -> tuple[Any, Any]:  # in place of Gymnasium's, which compiles
        model = copy.copy(_model(self.fullpath))
        return model, mujoco.MjData(model)


@functools.cache
def _model(path: str) -> Any:
    return mujoco.MjModel.from_xml_path(path)


@functools.cache
def _kind(task: str) -> type[Any]:
    return type(task, (_Compiled, ALL_V3_ENVIRONMENTS[task + _VERSION]), {})


def _world(task: str, seed: int) -> Any:
    """Meta-World's own environment, its goal shown and its draws from a seed; always a new one, so that no earlier episode matters."""
    world = _kind(task)()
    # As Meta-World's benchmarks set these up, which draw 50 goals to begin with and from NumPy's global state.
    world._partially_observable = False
    del world.sawyer_observation_space  # which hides the goal; it is made anew
    world._set_task_called, world._freeze_rand_vec, world.seeded_rand_vec = True, False, True
    world.seed(seed)
    return world


@dataclass
class Environment:
    """One task as one seed makes it: between equal actions, always the same. `dense` is Meta-World's own reward of the last step."""

    task: str
    seed: int
    world: Any = None  # Meta-World's own environment
    dense: float = 0.0

    def reset(self) -> Mapping[str, Any]:
        """Begin, always the same episode. The raw observation: `state` (39,) as float32, `task` in words."""
        self.world = _world(self.task, self.seed)
        return self._raw(self.world.reset()[0])

    def step(self, action: Any) -> Step:
        """Move the hand by up to a centimetre along each of three axes, and open (-1) or close (1) the gripper; (4,), clipped.

        The reward is 1 at success, which ends the episode, and 0 until then. Raises `ValueError` for what is not four numbers.
        """
        move = np.asarray(action, np.float32)
        if move.shape != (4,) or not np.isfinite(move).all():
            raise ValueError(f"an action must be four numbers, not {action}")
        state, dense, _, truncated, facts = self.world.step(np.clip(move, -1, 1))
        self.dense, success = float(dense), bool(facts["success"] > 0)
        return Step(self._raw(state), float(success), success or bool(truncated), success)

    def _raw(self, state: np.ndarray) -> Mapping[str, Any]:
        return {"state": state.astype(np.float32), "task": words(self.task)}


def words(task: str) -> str:
    """A task's name as text.

    >>> words("drawer-open")
    'drawer open'
    """
    return task.replace("-", " ")


_NUMBERS = {words(task): number for number, task in enumerate(tasks())}


def environment(task: str, seed: int) -> Environment:
    """A task to be played. Raises `ValueError` with the nearest name for an unknown task.

    >>> environment("reach", seed=0).reset()["state"].shape
    (39,)
    """
    return Environment(catalog.require(task, GROUPS["all"], "task"), seed)


def expert(task: str) -> Callable[[State], Action]:
    """The scripted policy of a task, from a state to an action, clipped to [-1, 1]."""
    policy: Any = ENV_POLICY_MAP[task + _VERSION]
    decide = policy().get_action

    def act(state: State) -> Action:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Constant", UserWarning)  # actions are too large: they are clipped here
            # A copy, because some policies write into what they are given.
            return np.clip(decide(np.array(state, np.float64)), -1, 1).astype(np.float32)

    return act


def noise(task: str, seed: int) -> Float32[np.ndarray, "500 4"]:
    """What is added to the expert's actions before they are executed: normal draws on odd seeds for training, else zeros."""
    if seed not in SEEDS["train"] or seed % 2 == 0:
        return np.zeros((HORIZON, 4), np.float32)
    random = np.random.default_rng([seed, zlib.crc32(task.encode())])
    return random.normal(0.0, NOISE, (HORIZON, 4)).astype(np.float32)


def record(task: str, seed: int) -> Episode | Rejected:
    """Let the scripted policy play what a seed makes of a task; equal arguments give equal episodes.

    A seed is rejected if the policy does not succeed within 500 steps. Raises `ValueError` for an unknown task.
    """
    world, added = environment(task, seed), noise(task, seed)
    act = expert(task)
    observation, end, success, dense = world.reset(), False, False, 0.0
    seen, actions, rewards = [], [], []
    while not end:
        seen.append(observation["state"])
        actions.append(act(observation["state"]))
        observation, reward, end, success = world.step(actions[-1] + added[len(actions) - 1])
        rewards.append(reward)
        dense += world.dense
    if not success:
        return Rejected(seed, f"no success within {HORIZON} steps")
    facts = {"seed": seed, "task": task, "success": True, "return": 1.0, "dense_return": round(dense, 3)}
    facts["noise"] = NOISE if added.any() else 0.0
    return Episode({"state": np.stack(seen)}, np.stack(actions), np.array(rewards, np.float32), facts)


# --- four encodings ------------------------------------------------------------------------------------------------------------------


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations, with the task at every step."""
    return dict(episode.observations) | {"task": [words(episode.facts["task"])] * len(episode.actions)}


# Hand, gripper, objects and goal. Left out are the state of the step before, and three parts of the second object's quaternion, which
# are 0 in all tasks.
LEAN = (*range(15), 36, 37, 38)


def _full(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"state": np.clip(raw["state"], -1, 1)}


def _lean(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {"state": np.clip(raw["state"][..., LEAN], -1, 1)}


def _named(raw: Mapping[str, Any]) -> dict[str, Any]:
    return _lean(raw) | {"task": raw["task"]}


def _relative(raw: Mapping[str, Any]) -> dict[str, Any]:
    state = raw["state"]
    hand = state[..., :3]
    # As in `LEAN`: the first object, the second and the goal, then the parts of quaternions. Zeros stand for a
    # second object where there is none: what is told of it is then where the hand is, with its sign turned.
    away = np.concatenate([state[..., at : at + 3] - hand for at in (4, 11, 36)], axis=-1)
    told = raw["task"]
    which = _NUMBERS[told] if isinstance(told, str) else np.array([_NUMBERS[one] for one in told])
    turned = np.clip(state[..., (7, 8, 9, 10, 14)], -1, 1)
    return {"away": away, "hand": np.clip(state[..., :4], -1, 1), "turned": turned, "which_task": which}


# Everything in reach lies within a metre of the origin, so the numbers are declared to lie in [-1, 1], and clipped where a thing is
# pushed farther. Declared so they are not companded, and their bins are 2 mm wide. Companding takes up to 9 mm at the far edge of the
# table, 1.5 mm on average against 0.5 mm (measured on positions in three episodes of each task).
def _box(numbers: int) -> spaces.Box:
    return spaces.Box(-1.0, 1.0, (numbers,), np.float32)


ACTION_SPACE = spaces.Box(-1.0, 1.0, (4,), np.float32)
ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        # Gato's own reading: all 39 numbers and a separator, 44 tokens a step.
        Encoding("full", spaces.Dict({"state": _box(STATE)}), ACTION_SPACE, 1, True, _full),
        # Ours: 22 tokens a step. Velocities are told by the step before, which the context has.
        Encoding("lean", spaces.Dict({"state": _box(len(LEAN))}), ACTION_SPACE, 1, False, _lean),
        # The numbers of `lean`, with objects and goal as seen from the hand: differences are what a policy begins with. They have no
        # declared bounds, so they are companded, and the nearer a thing is, the finer it is told: to half a millimetre at 2 cm.
        # Each time step stands alone, for the policies need no more than what is seen (`docs/decisions.md` says what that is worth)
        # and the task, whose number is told as in Meta-World's multi-task benchmarks: `reach` and `pick-place` begin alike.
        Encoding(
            "relative",
            spaces.Dict(
                {
                    "away": spaces.Box(-np.inf, np.inf, (9,), np.float32),
                    "hand": _box(4),
                    "turned": _box(5),
                    "which_task": spaces.Discrete(len(_NUMBERS)),
                }
            ),
            ACTION_SPACE,
            1,
            False,
            _relative,
            alone=True,
        ),
        # `lean` with the task in words every 64 steps; in the others only states, or a prompt, tell the task.
        Encoding(
            "named",
            spaces.Dict({"state": _box(len(LEAN)), "task": spaces.Text(32, charset="abcdefghijklmnopqrstuvwxyz ")}),
            ACTION_SPACE,
            64,
            False,
            _named,
        ),
    )
}


def encoding(name: str, task: str) -> Encoding:
    """One of `ENCODINGS`, the same for all tasks. Raises `ValueError` with the nearest name for another encoding or task."""
    found = ENCODINGS[catalog.require(name, ENCODINGS, "encoding")]
    catalog.require(task, GROUPS["all"], "task")
    return found
