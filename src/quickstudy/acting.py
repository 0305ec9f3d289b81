"""One acting interface for every learner of control tasks: `reset`, then `act` for every observation.

An agent is a learner with a life in progress, kept on the host for whoever runs the environment. Two compiled functions move it on.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTaskDistribution, End
from quickstudy.tasks.control import ControlView, Discrete, control_shapes, first_view


class Agent:
    """A learner that acts: every `act` first learns from what came of the last action, then answers the new observation.

    Fed by a task that was opened with the same key, it does exactly what `lifetime` does.

    >>> import jax
    >>> from quickstudy.algorithms.metarl import rl2
    >>> from quickstudy.tasks import BernoulliBandit
    >>> tasks = BernoulliBandit(arms=3)
    >>> agent = Agent(rl2.learner(rl2.Config(width=4), tasks, jax.random.key(0)), tasks)
    >>> agent.reset(seed=0)
    >>> agent.act(np.zeros(0)) in (0, 1, 2)
    True
    """

    def __init__(self, learner: AbstractLearner, tasks: AbstractTaskDistribution):
        """An agent for these tasks; raises `TypeError` unless they are of the control kind."""
        shapes = control_shapes(tasks)
        self.observation_shape: tuple[int, ...] = shapes.observation.shape
        self.actions = tasks.actions  # type: ignore[attr-defined]
        self._learner = learner
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Forget everything: a new life, in a task that may be another one. The episodes of one task need no reset between them."""
        self.reset_from(jr.key(seed))

    def reset_from(self, key: PRNGKeyArray) -> None:
        """`reset` with a key, split as `lifetime` splits its own."""
        _, self._begin_key, self._live_key = jr.split(key, 3)
        self._tick = 0
        self._life: tuple[Any, ControlView, Array] | None = None

    def act(
        self,
        observation: Any,
        *,
        reward: float = 0.0,
        terminated: bool = False,
        truncated: bool = False,
        last_observation: Any = None,
    ) -> int | np.ndarray:
        """The action for an observation, having learned what the last action brought.

        `observation` is what to act on. `reward`, `terminated` and `truncated` tell how the last action went; before the first one
        they are not looked at. After the end of an episode, `observation` is the first of the next one, and `last_observation`, if
        given, the one at which the last episode ended. Returns an int, or a float32 array for continuous actions within [-1, 1].
        Raises `ValueError` for an observation of the wrong shape, not of numbers or not finite, or a reward that is not finite.
        """
        seen = self._read(observation, "observation")
        if self._life is None:
            fast, view, action = _first(self._learner, seen, self.actions, self._begin_key, self._live_key)
        else:
            if not np.isfinite(reward):
                raise ValueError(f"reward must be a finite number, not {reward}")
            end = End.TERMINATED if terminated else End.TRUNCATED if truncated else End.RUNNING
            led_to = seen if last_observation is None else self._read(last_observation, "last_observation")
            came = (seen, led_to, np.float32(reward), np.int32(end))
            fast, view, action = _next(self._learner, self._life, came, np.int32(self._tick), self._live_key)
            self._tick += 1
        self._life = (fast, view, action)
        return int(action) if isinstance(self.actions, Discrete) else np.asarray(action)

    def _read(self, observation: Any, name: str) -> np.ndarray:
        given = np.asarray(observation)
        if given.shape != self.observation_shape:
            raise ValueError(f"{name} must have shape {self.observation_shape}, not {given.shape}")
        if given.dtype.kind not in "fiub":
            raise ValueError(f"{name} must hold numbers, not {given.dtype}")
        if not np.isfinite(given).all():
            raise ValueError(f"{name} must be finite, and this one is not")
        return given.astype(np.float32)


@eqx.filter_jit
def _first(learner, observation, actions, begin_key, live_key):
    view = first_view(jnp.asarray(observation), actions)
    fast = learner.begin(view, begin_key)
    return fast, view, learner.respond(fast, view, _keys(live_key, jnp.int32(0))[0])


@eqx.filter_jit
def _next(learner, life, came, tick, live_key):
    (fast, view, action), (observation, led_to, reward, end) = life, came
    feedback = ControlView(led_to, action, reward, end)
    fast = learner.observe(fast, view, action, feedback, _keys(live_key, tick)[1])
    view = feedback._replace(observation=observation)
    return fast, view, learner.respond(fast, view, _keys(live_key, tick + 1)[0])


def _keys(live_key: PRNGKeyArray, tick: Array) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys for responding and for observing at a tick, as `live` has them."""
    respond_key, _, observe_key = jr.split(jr.fold_in(live_key, tick), 3)
    return respond_key, observe_key
