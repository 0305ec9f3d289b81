"""What tasks of the control kind share: what an agent sees, which actions it has, and what one step of an environment is.

A lifetime spans several episodes of one task: when an episode ends, the next one begins in the same tick, so the view after the end is
already the first of the new episode. Feedback shows where the action really led, which matters after an end: an agent that learns by
bootstrapping must ask what the *last* observation of a cut-off episode is worth, never what the first of the next one is.

Source: the setting of Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", section 2.
"""

import abc
from typing import Any, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Turn, World


class Discrete(NamedTuple):
    """Actions 0 to `n` - 1: int32 scalars."""

    n: int

    @property
    def numbers(self) -> int:
        """How many numbers show an action, as one-hot, or a policy's preference for each."""
        return self.n


class Continuous(NamedTuple):
    """Actions of `size` numbers, each within -1 and 1: float32 vectors. The task brings them to its own units, and clips them."""

    size: int

    @property
    def numbers(self) -> int:
        """How many numbers show an action, or a policy's mean."""
        return self.size


Actions = Discrete | Continuous
# What an environment's state holds is its own affair.
State: TypeAlias = Any


class ControlView(NamedTuple):
    """What an agent sees, and what a task feeds back.

    `observation` is a float array of the task's own shape; `action` the last action (of a `Discrete` space -1 before the first one, of
    a `Continuous` one zeros); `reward` what it brought, in the task's own unit; `end` how it left the episode, one of `End`.
    """

    observation: Float[Array, "..."]
    action: Int[Array, ""] | Float[Array, " size"]
    reward: Float[Array, ""]
    end: Int[Array, ""]


class Episode(NamedTuple):
    """The world of an environment: its state, and how many ticks the current episode is old."""

    state: State
    time: Int[Array, ""]


class AbstractControlTask(AbstractTask):
    """One task of the control kind: it names its actions and can be looked at by people."""

    @property
    @abc.abstractmethod
    def actions(self) -> Actions:
        """The actions there are."""

    @abc.abstractmethod
    def text(self, world: World) -> str:
        """The world drawn in characters."""

    @abc.abstractmethod
    def image(self, world: World) -> UInt8[np.ndarray, "height width 3"]:
        """The world drawn in pixels."""


class AbstractEnvironment(AbstractControlTask):
    """An environment with episodes: give the three methods below, and time limits, restarts and views follow.

    An episode is cut off after `horizon` ticks; `act` may end it before that.
    """

    horizon: eqx.AbstractVar[int]

    @abc.abstractmethod
    def begin(self, key: PRNGKeyArray) -> State:
        """The state in which an episode begins."""

    @abc.abstractmethod
    def look(self, state: State) -> Float[Array, "..."]:
        """The observation of a state."""

    @abc.abstractmethod
    def act(self, state: State, action: Array, key: PRNGKeyArray) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """The next state, the reward, and whether the episode ends here for good."""

    def reset(self, key: PRNGKeyArray) -> tuple[Episode, ControlView]:
        state = self.begin(key)
        return Episode(state, jnp.zeros((), jnp.int32)), first_view(self.look(state), self.actions)

    def step(self, world: Episode, response: Array, key: PRNGKeyArray) -> Turn:
        act_key, begin_key = jr.split(key)
        after, reward, terminated = self.act(world.state, check_response(response, self.actions), act_key)
        end = end_of(terminated, world.time + 1 >= self.horizon)
        feedback = ControlView(self.look(after), response, reward, end)
        over = end != End.RUNNING
        state = jax.tree.map(lambda new, old: jnp.where(over, new, old), self.begin(begin_key), after)
        view = feedback._replace(observation=jnp.where(over, self.look(state), feedback.observation))
        return Turn(Episode(state, jnp.where(over, 0, world.time + 1)), view, feedback, reward, end)


class AbstractControl(AbstractTaskDistribution):
    """A distribution of tasks of the control kind; it names the actions they have."""

    @property
    @abc.abstractmethod
    def actions(self) -> Actions:
        """The actions there are, the same in every task."""


def no_action(actions: Actions) -> Int[Array, ""] | Float[Array, " size"]:
    """What stands for the last action before the first one."""
    return jnp.asarray(-1, jnp.int32) if isinstance(actions, Discrete) else jnp.zeros(actions.size, jnp.float32)


def first_view(observation: Float[Array, "..."], actions: Actions) -> ControlView:
    """The view at birth: no action, no reward, nothing ended.

    >>> first_view(jnp.zeros(2), Discrete(3)).action.item()
    -1
    """
    return ControlView(observation, no_action(actions), jnp.zeros(()), jnp.asarray(End.RUNNING, jnp.int32))


def control_shapes(tasks: AbstractTaskDistribution) -> ControlView:
    """The shapes and dtypes of what an agent sees in these tasks. Raises `TypeError` if they are not of the control kind."""
    if not isinstance(tasks, AbstractControl):
        raise TypeError(f"tasks must be of the control kind (bandits, worlds), not {type(tasks).__name__}")
    return jax.eval_shape(lambda key: tasks.sample(key, "train").reset(key)[1], jr.key(0))


def end_of(terminated: Bool[Array, ""], truncated: Bool[Array, ""]) -> Int[Array, ""]:
    """How a tick left the episode; an end counts before a time limit.

    >>> end_of(jnp.array(True), jnp.array(True)).item() == End.TERMINATED
    True
    """
    cut = jnp.where(truncated, jnp.int32(End.TRUNCATED), jnp.int32(End.RUNNING))
    return jnp.where(terminated, jnp.int32(End.TERMINATED), cut)


def check_response(response: Array, actions: Actions) -> Array:
    """The response itself; raises `TypeError` unless it has the shape and dtype of an action. Free inside a compiled function."""
    shape, kind = ((), jnp.int32) if isinstance(actions, Discrete) else ((actions.size,), jnp.float32)
    if response.shape != shape or response.dtype != kind:
        raise TypeError(f"a response must be one action of {actions}, not {response.dtype} of shape {response.shape}")
    return response


def draw_among(key: PRNGKeyArray, weights: Float[Array, " n"]) -> Int[Array, ""]:
    """Draw an index with probability in proportion to its weight: one random number, where one per index would cost more.

    >>> int(draw_among(jax.random.key(0), jnp.array([0.0, 1.0, 0.0])))
    1
    """
    place = jr.uniform(key) * jnp.sum(weights)
    return jnp.sum(jnp.cumsum(weights) <= place).clip(max=weights.shape[0] - 1).astype(jnp.int32)
