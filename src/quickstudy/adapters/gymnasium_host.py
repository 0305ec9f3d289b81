"""Gymnasium's environments behind a pure function: what an episode gives next depends on its seed and its actions so far only.

A callback that JAX may repeat, reorder or drop must be pure, and an environment is not. So the world of our task holds what an episode
is made of (the seed and the actions so far), and environments on the host are only a cache. One that stands where the episode stands
takes one more step; if there is none, because a life was continued twice from one place or in another process, an environment is
brought there by playing the episode again. This needs environments whose reset with a seed determines everything that follows.
"""

import dataclasses
import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt32

from quickstudy.adapters.gymnasium_spaces import from_observation, gymnasium, observation_shape, to_action
from quickstudy.core import End
from quickstudy.failures import fail

# What tells places apart: the values, the seed and the actions.
Key: TypeAlias = tuple[bytes, int, bytes]


@dataclasses.dataclass(frozen=True)
class Family:
    """All environments of one id: `settings` are given to all of them, the attributes `names` differ from task to task.

    `settle` is called after the attributes are set, for quantities that the environment derives from them.
    """

    id: str
    names: tuple[str, ...]
    settings: tuple[tuple[str, Any], ...]
    horizon: int
    settle: Callable[[Any], None] | None


class Place(NamedTuple):
    """Where an episode stands: the task's values, the episode's seed, and the actions so far, of shape `(ticks, ...)`."""

    values: Float[np.ndarray, " varied"]
    seed: int
    actions: np.ndarray

    @property
    def key(self) -> Key:
        return self.values.tobytes(), self.seed, self.actions.tobytes()


class Host:
    """The environments of one family that are alive on this host."""

    def __init__(self, family: Family):
        self.family = family
        # Where an environment stands -> those that stand there (equal lives in one batch do), the longest waiting first.
        self.live: OrderedDict[Key, list[gymnasium.Env]] = OrderedDict()
        self.waiting = 0
        self.idle: list[gymnasium.Env] = []
        self.most = 64  # ours: grows with the batches that are asked for
        # Programs on several devices call back at once.
        self.lock = threading.Lock()

    @functools.cached_property
    def model(self) -> gymnasium.Env:
        """An environment to ask about spaces and attributes; it never takes a step."""
        return self._make()

    @functools.cached_property
    def spaces(self) -> tuple[gymnasium.Space, gymnasium.Space, tuple[int, ...]]:
        """Of observations, of actions, and the shape of an observation as an array; asked once, because wrappers answer slowly."""
        seen, acts = self.model.observation_space, self.model.action_space
        return seen, acts, observation_shape(seen, self.family.id)

    def first(self, values: Float[Array, "*batch varied"], seed: UInt32[Array, "*batch"]) -> np.ndarray:
        """The first observation of an episode."""
        with self.lock:
            rows, shape = self._rows(seed)
            flat = np.asarray(values).reshape(len(rows), -1)
            seen = [self._begin(Place(own, int(number), _nothing_yet)) for own, number in zip(flat, rows, strict=True)]
            return np.stack(seen).reshape(*shape, *seen[0].shape)

    def step(
        self,
        values: Float[Array, "*batch varied"],
        seed: UInt32[Array, "*batch"],
        actions: Shaped[Array, "..."],
        time: Int[Array, "*batch"],
        action: Shaped[Array, "..."],
        next_seed: UInt32[Array, "*batch"],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What the next action of an episode brings: where it leads, the reward, the end, and what is seen next.

        `actions` are the episode's, of which the first `time` are taken. After an end what is seen is the first observation of the
        next episode.
        """
        with self.lock:
            seeds, shape = self._rows(seed)
            inputs = [np.asarray(x) for x in (values, actions, time, action, next_seed)]
            flat = [x.reshape(len(seeds), *x.shape[len(shape) :]) for x in inputs]
            turns = [
                self._step(Place(own, int(number), past[:ticks]), act, int(following))
                for number, own, past, ticks, act, following in zip(seeds, *flat, strict=True)
            ]
            after, rewards, ends, seen = (np.stack(column) for column in zip(*turns, strict=True))
            return (
                after.reshape(*shape, *after.shape[1:]),
                rewards.astype(np.float32).reshape(shape),
                ends.astype(np.int32).reshape(shape),
                seen.reshape(*shape, *seen.shape[1:]),
            )

    def render(self, place: Place, mode: str) -> Any:
        """A picture of an episode, from an environment that is made for it."""
        environment = self._make(render_mode=mode)
        try:
            self._replay(environment, place)
            return self._ask("render", lambda: environment.render())
        finally:
            environment.close()

    def _rows(self, seed: Array) -> tuple[np.ndarray, tuple[int, ...]]:
        rows = np.asarray(seed).reshape(-1)
        self.most = max(self.most, 2 * len(rows))
        return rows, np.shape(seed)

    def _step(self, place: Place, action: Any, next_seed: int) -> tuple[np.ndarray, float, int, np.ndarray]:
        environment = self._find(place)
        observation, reward, terminated, truncated = self._act(environment, action, len(place.actions))
        after = self._seen(observation)
        end = End.TERMINATED if terminated else End.TRUNCATED if truncated else End.RUNNING
        if end != End.RUNNING:
            self.idle.append(environment)
            return after, reward, end, self._begin(Place(place.values, next_seed, place.actions[:0]))
        self._keep(place._replace(actions=np.concatenate([place.actions, action[None]])), environment)
        return after, reward, end, after

    def _find(self, place: Place) -> gymnasium.Env:
        """An environment that stands where the episode stands."""
        if place.key in self.live:
            return self._pick(place.key)
        environment = self._take()
        self._replay(environment, place)
        return environment

    def _begin(self, place: Place) -> np.ndarray:
        """Begin an episode and keep its environment; the first observation."""
        environment = self._take()
        observation = self._reset(environment, place)
        self._keep(place, environment)
        return observation

    def _keep(self, place: Place, environment: gymnasium.Env) -> None:
        self.live.setdefault(place.key, []).append(environment)
        self.live.move_to_end(place.key)
        self.waiting += 1

    def _pick(self, key: Key) -> gymnasium.Env:
        environment = self.live[key].pop()
        if not self.live[key]:
            del self.live[key]
        self.waiting -= 1
        return environment

    def _take(self) -> gymnasium.Env:
        """An environment that nobody needs: an idle one, or a new one, or the one that waited longest for its next step."""
        if self.idle:
            return self.idle.pop()
        return self._make() if self.waiting < self.most else self._pick(next(iter(self.live)))

    def _replay(self, environment: gymnasium.Env, place: Place) -> None:
        self._reset(environment, place)
        for time, action in enumerate(place.actions):
            _, _, terminated, truncated = self._act(environment, action, time)
            if terminated or truncated:
                fail(f"{self.family.id} does not repeat itself: from one seed and by the same actions an episode ended, and did not")

    def _make(self, **more: Any) -> gymnasium.Env:
        family = self.family
        settings = {"max_episode_steps": family.horizon, "disable_env_checker": True, **dict(family.settings), **more}
        return self._ask("make", lambda: gymnasium.make(family.id, **settings))

    def _reset(self, environment: gymnasium.Env, place: Place) -> np.ndarray:
        for name, value in zip(self.family.names, place.values, strict=True):
            setattr(environment.unwrapped, name, float(value))
        if self.family.settle is not None:
            self._ask("settle", lambda: self.family.settle(environment.unwrapped))
        return self._seen(self._ask("reset", lambda: environment.reset(seed=place.seed))[0])

    def _act(self, environment: gymnasium.Env, action: Any, time: int) -> tuple[Any, float, bool, bool]:
        what = f"step {time + 1} of an episode"
        turn = self._ask(what, lambda: environment.step(to_action(self.spaces[1], action)))
        observation, reward, terminated, truncated, _ = turn
        if not np.isfinite(reward):
            fail(f"{self.family.id} gave a reward of {reward} in {what}; rewards must be finite")
        return observation, float(reward), bool(terminated), bool(truncated)

    def _seen(self, observation: Any) -> np.ndarray:
        space, _, wanted = self.spaces
        seen = self._ask("an observation", lambda: from_observation(space, observation))
        if seen.shape != wanted:
            fail(f"{self.family.id} gave an observation of shape {seen.shape}; its observation space says {wanted}")
        if np.isnan(seen).any():
            fail(f"{self.family.id} gave an observation with NaN in it; observations must be numbers")
        return seen

    def _ask(self, what: str, of: Callable[[], Any]) -> Any:
        try:
            return of()
        except Exception as error:  # whatever it is, it is the environment's
            fail(f"{self.family.id} raised {type(error).__name__} in {what}: {error}", error)


_nothing_yet = np.zeros((0,), np.int32)

host_of = functools.cache(Host)
