"""Our tasks as Gymnasium's environments: one at a time, or many in one compiled step."""

from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from quickstudy.adapters.gymnasium_spaces import gymnasium, space_of
from quickstudy.core import SPLITS, AbstractTask, End, Split, Turn, World, sample_tasks
from quickstudy.failures import plain_failures
from quickstudy.tasks.control import AbstractControl, Actions, ControlView, Discrete, control_shapes

_OPTIONS = ("split", "same_task")


class GymnasiumEnv(gymnasium.Env):
    """One of our environments. `reset` draws a task, `step` lives in it until the episode ends.

    `reset(options={"same_task": True})` begins the next episode of the task that was drawn last, so that an agent can live in one task
    for several episodes; `options={"split": "test"}` draws from another split than the one given here. After an end the observation is
    the episode's last, and `reset` must be called before the next step. Rendering after an end shows the next episode's beginning,
    because our tasks begin it in the same tick.

    Raises `TypeError` unless `tasks` are of the control kind, `ValueError` for an unknown split, render mode, option or action.

    >>> from quickstudy.tasks import MountainCar
    >>> env = GymnasiumEnv(MountainCar(vary=("force",)), split="test", render_mode="ansi")
    >>> _ = env.reset(seed=1)
    >>> env.step(2)[1:4]
    (-1.0, False, False)
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 20}  # noqa: RUF012  (Gymnasium's own form)

    def __init__(self, tasks: AbstractControl, *, split: str = "train", render_mode: str | None = None):
        self.tasks, self.split, self.render_mode = tasks, check_split(split), check_mode(render_mode)
        self.observation_space, self.action_space = _spaces(tasks)
        self._actions = tasks.actions
        self._task: AbstractTask | None = None
        self._world: World = None
        self._view: Any = None
        self._over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        split, same = read_options(options, self.split)
        draw_key, reset_key, self._key = jr.split(_draw_key(self.np_random), 3)
        goes_on = same and self._task is not None and self._over and seed is None
        if self._task is None or not same:
            self._task = _sample(self.tasks, draw_key, split)
        with plain_failures():
            # After an end our task has already begun its next episode; where it left off matters to tasks that change over a life.
            self._world, view = (self._world, self._view) if goes_on else jax.block_until_ready(_reset(self._task, reset_key))
        self._over, self._time = False, 0
        return np.asarray(view.observation), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._over or self._task is None:
            raise gymnasium.error.ResetNeeded("reset must be called before the first step, and after an episode has ended")
        response = to_response(action, self._actions, ())
        with plain_failures():
            turn = jax.block_until_ready(_step(self._task, self._world, response, self._key, np.uint32(self._time)))
        self._world, self._view, self._time = turn.world, turn.view, self._time + 1
        end = int(turn.end)
        self._over = end != End.RUNNING
        seen = np.asarray(turn.feedback.observation)
        return seen, float(turn.score), end == End.TERMINATED, end == End.TRUNCATED, {}

    def render(self) -> Any:
        """The world as text ("ansi") or as an RGB array ("rgb_array"); nothing without a render mode."""
        return _render(self._task, self._world, self.render_mode) if self._task is not None else None


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """`num_envs` of our environments, each with a task of its own, stepped by one compiled program.

    An episode that ends is followed by the next one of the same task in the same step (`AutoresetMode.SAME_STEP`): the observation is
    then the new episode's first, and `infos["final_obs"]` holds the old one's last. `reset` draws new tasks, unless
    `options={"same_task": True}`. Raises what `GymnasiumEnv` raises.

    >>> from quickstudy.tasks import CartPole
    >>> envs = GymnasiumVectorEnv(CartPole(), 3)
    >>> observations, infos = envs.reset(seed=0)
    >>> envs.step(envs.action_space.sample())[1].tolist()
    [1.0, 1.0, 1.0]
    """

    metadata = {  # noqa: RUF012  (Gymnasium's own form)
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 20,
        "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP,
    }

    def __init__(self, tasks: AbstractControl, num_envs: int, *, split: str = "train", render_mode: str | None = None):
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, not {num_envs}")
        self.tasks, self.num_envs, self.split, self.render_mode = tasks, num_envs, check_split(split), check_mode(render_mode)
        self.single_observation_space, self.single_action_space = _spaces(tasks)
        self._actions = tasks.actions
        batch = gymnasium.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self._many: AbstractTask | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        split, same = read_options(options, self.split)
        draw_key, reset_key, self._key = jr.split(_draw_key(self.np_random), 3)
        if self._many is None or not same:
            self._many = _sample_many(self.tasks, draw_key, split, self.num_envs)
        with plain_failures():
            self._worlds, view = jax.block_until_ready(_reset_many(self._many, jr.split(reset_key, self.num_envs)))
        self._time = 0
        return np.asarray(view.observation), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._many is None:
            raise gymnasium.error.ResetNeeded("reset must be called before the first step")
        responses = to_response(actions, self._actions, (self.num_envs,))
        with plain_failures():
            turn = jax.block_until_ready(_step_many(self._many, self._worlds, responses, self._key, np.uint32(self._time)))
        self._worlds, self._time = turn.world, self._time + 1
        ends = np.asarray(turn.end)
        infos = _final(np.asarray(turn.feedback.observation), ends != End.RUNNING)
        rewards = np.asarray(turn.score, np.float64)
        return np.asarray(turn.view.observation), rewards, ends == End.TERMINATED, ends == End.TRUNCATED, infos

    def render(self) -> tuple[Any, ...] | None:
        """What `GymnasiumEnv.render` gives, for each environment."""
        if self._many is None or self.render_mode is None:
            return None
        each = lambda tree, i: jax.tree.map(lambda leaf: leaf[i], tree)
        return tuple(_render(each(self._many, i), each(self._worlds, i), self.render_mode) for i in range(self.num_envs))


def _final(last: np.ndarray, over: np.ndarray) -> dict[str, Any]:
    """What Gymnasium's own vector environments say about episodes that ended and began anew in one step."""
    if not over.any():
        return {}
    observations = np.full(len(over), None, dtype=object)
    for i in np.flatnonzero(over):
        observations[i] = last[i]
    return {"final_obs": observations, "_final_obs": over, "final_info": {}, "_final_info": over.copy()}


# At module level, so that environments of one kind share their compiled programs.
_sample = eqx.filter_jit(lambda tasks, key, split: tasks.sample(key, split))
_sample_many = eqx.filter_jit(sample_tasks)
_reset = jax.jit(lambda task, key: task.reset(key))
_reset_many = jax.jit(jax.vmap(lambda task, key: task.reset(key)))
_step = jax.jit(lambda task, world, response, key, time: task.step(world, response, jr.fold_in(key, time)))


@jax.jit
def _step_many(tasks: AbstractTask, worlds: World, responses: Array, key: PRNGKeyArray, time: Array) -> Turn:
    keys = jr.split(jr.fold_in(key, time), len(responses))
    return jax.vmap(lambda task, world, response, key: task.step(world, response, key))(tasks, worlds, responses, keys)


def _draw_key(random: np.random.Generator) -> PRNGKeyArray:
    return jr.key(int(random.integers(2**31)))


def _spaces(tasks: AbstractControl) -> tuple[gymnasium.Space, gymnasium.Space]:
    observation: ControlView = control_shapes(tasks)
    seen = gymnasium.spaces.Box(-np.inf, np.inf, observation.observation.shape, np.float32)
    return seen, space_of(tasks.actions)


def _render(task: Any, world: World, mode: str | None) -> Any:
    if mode is None:
        return None
    return task.text(world) if mode == "ansi" else task.image(world)


def check_split(split: str) -> Split:
    """The split itself; raises `ValueError` for one that there is not."""
    for known in SPLITS:
        if split == known:
            return known
    raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")


def check_mode(mode: str | None) -> str | None:
    """The render mode itself; raises `ValueError` for one that there is not."""
    if mode in (None, "ansi", "rgb_array"):
        return mode
    raise ValueError(f"render_mode must be None, 'ansi' or 'rgb_array', not {mode!r}")


def read_options(options: dict[str, Any] | None, split: Split) -> tuple[Split, bool]:
    """The split to draw from and whether to keep the task, from `reset`'s options. Raises `ValueError` for any other option."""
    given = options or {}
    for name in given:
        if name not in _OPTIONS:
            raise ValueError(f"options must be among {', '.join(_OPTIONS)}, not {name!r}")
    return check_split(given.get("split", split)), bool(given.get("same_task", False))


def to_response(action: Any, actions: Actions, batch: tuple[int, ...]) -> np.ndarray:
    """Our response from an action of Gymnasium's, or from a batch of them. Raises `ValueError` for what is no action."""
    values = np.asarray(action)
    shape = batch if isinstance(actions, Discrete) else (*batch, actions.size)
    if values.shape != shape:
        raise ValueError(f"an action must be of shape {shape} for {actions}, not {values.shape}")
    if isinstance(actions, Discrete):
        if not np.issubdtype(values.dtype, np.integer) or (values < 0).any() or (values >= actions.n).any():
            raise ValueError(f"an action must be a whole number from 0 to {actions.n - 1}, not {action!r}")
        return values.astype(np.int32)
    return values.astype(np.float32)
