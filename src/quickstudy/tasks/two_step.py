"""The two-step task: does a player who was rewarded after a *rare* turn of luck repeat the choice, or take what leads there commonly?

A tick is one step, two ticks are a trial, and every trial is an episode. Step 1 shows the first stage, and the action decides: action
a leads commonly to state a and rarely to the other. Step 2 shows that state, where any action brings the reward: one state is rich
(0.9), the other poor (0.1), and after each trial they change places with a chance of 0.025. A task is one life of such trials, usually
100; hidden are the rich state, as in a restless bandit, and how common is common. Observation: first stage, state 0 or state 1,
one-hot. The last action and the last reward are in the view, as in all control tasks. Score: the reward.

Sources: Daw et al. 2011, "Model-Based Influences on Humans' Choices and Striatal Prediction Errors"; without choices at the second
stage: Wang et al. 2016, "Learning to reinforcement learn", section 3.2, and 2018, "Prefrontal cortex as a meta-reinforcement
learning system".
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import End, Split, Tick, Turn
from quickstudy.tasks.control import AbstractControl, AbstractControlTask, ControlView, Discrete, check_response, first_view
from quickstudy.tasks.drawing import bars
from quickstudy.tasks.splits import draw_in_split

_ACTIONS = Discrete(2)
_BLOCKS = 100


class Stage(NamedTuple):
    """Where a life is: `stage` 0, or 1 + the state; and which state is `rich`."""

    stage: Int[Array, ""]
    rich: Int[Array, ""]


class TwoStepTask(AbstractControlTask):
    """One life: how likely `common` is, which state is `rich` at birth, what rich and poor states pay, and how often they swap.

    All but `payoffs` are scalars; `volatility` is the chance per trial that the two states change places.
    """

    common: Float[Array, ""]
    rich: Int[Array, ""]
    payoffs: Float[Array, " rich_and_poor"]
    volatility: Float[Array, ""]

    @property
    def actions(self) -> Discrete:
        return _ACTIONS

    def reset(self, key: PRNGKeyArray) -> tuple[Stage, ControlView]:
        return Stage(jnp.zeros((), jnp.int32), self.rich), first_view(_look(jnp.zeros((), jnp.int32)), _ACTIONS)

    def step(self, world: Stage, response: Int[Array, ""], key: PRNGKeyArray) -> Turn:
        turn_key, pay_key, swap_key = jr.split(key, 3)
        choosing = world.stage == 0
        action = check_response(response, _ACTIONS)
        state = jnp.where(jr.uniform(turn_key) < self.common, action, 1 - action)
        paid = jr.uniform(pay_key) < jnp.where(world.stage - 1 == world.rich, self.payoffs[0], self.payoffs[1])
        swapped = ~choosing & (jr.uniform(swap_key) < self.volatility)
        after = Stage(jnp.where(choosing, 1 + state, 0), jnp.where(swapped, 1 - world.rich, world.rich))
        reward = (paid & ~choosing).astype(jnp.float32)
        end = jnp.where(choosing, jnp.int32(End.RUNNING), jnp.int32(End.TERMINATED))
        view = ControlView(_look(after.stage), response, reward, end)
        return Turn(after, view, view, reward, end)

    def text(self, world: Stage) -> str:
        """Where the life is, and what the two states pay."""
        here = "first stage" if int(world.stage) == 0 else f"state {int(world.stage) - 1}"
        return f"{here}; " + ", ".join(f"state {state} pays {pays:.2f}" for state, pays in enumerate(self._pays(world)))

    def image(self, world: Stage) -> UInt8[np.ndarray, "height width 3"]:
        """One bar for each state, as high as what it pays."""
        return bars(self._pays(world))

    def _pays(self, world: Stage) -> Float[np.ndarray, " states"]:
        payoffs = np.asarray(self.payoffs)
        return payoffs if int(world.rich) == 0 else payoffs[::-1]


def _look(stage: Int[Array, ""]) -> Float[Array, " stages"]:
    return jax.nn.one_hot(stage, 3)


class TwoStep(AbstractControl):
    """Two-step tasks whose common transition has a chance between 0.75 and 0.85: the splits own disjoint slices of it.

    In "out-of-range" tasks the rich state and the poor one change places four times as often.

    Raises `ValueError` for chances beyond 0 and 1.

    >>> 0.75 < float(TwoStep().sample(jax.random.key(0), "test").common) < 0.85
    True
    """

    rich: float = eqx.field(static=True, default=0.9)  # Wang et al. 2018
    poor: float = eqx.field(static=True, default=0.1)  # Wang et al. 2018
    volatility: float = eqx.field(static=True, default=0.025)  # Wang et al. 2018
    common: tuple[float, float] = eqx.field(
        static=True, default=(0.75, 0.85)
    )  # ours, so that tasks differ: Wang et al. have 0.8 throughout

    def __check_init__(self) -> None:
        for name in ("rich", "poor", "volatility"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}")
        if not 0 <= self.common[0] < self.common[1] <= 1:
            raise ValueError(f"common must be a range within 0 and 1, not {self.common}")

    @property
    def actions(self) -> Discrete:
        return _ACTIONS

    def sample(self, key: PRNGKeyArray, split: Split) -> TwoStepTask:
        common_key, rich_key = jr.split(key)
        hard = split == "out-of-range"
        common = draw_in_split(common_key, "test" if hard else split, *self.common, blocks=_BLOCKS)
        rich = jr.bernoulli(rich_key).astype(jnp.int32)
        volatility = jnp.asarray(min(1.0, 4 * self.volatility) if hard else self.volatility)
        return TwoStepTask(common, rich, jnp.array([self.rich, self.poor]), volatility)


class Trials(NamedTuple):
    """The trials of a life: the `action` at the first stage, the `state` that it led to, and the `reward` there."""

    action: Int[Array, "*lives trials"]
    state: Int[Array, "*lives trials"]
    reward: Float[Array, "*lives trials"]


def step_record(tick: Tick) -> tuple[Float[Array, " stages"], Int[Array, ""], Float[Array, ""]]:
    """What to record of each tick so that `trials` can be made of it: what was seen, the response, and the reward."""
    return tick.view.observation, tick.response, tick.feedback.reward


def trials(
    observations: Float[Array, "*lives ticks stages"], responses: Int[Array, "*lives ticks"], rewards: Float[Array, "*lives ticks"]
) -> Trials:
    """Put the two ticks of every trial together.

    >>> from quickstudy.algorithms.references import RandomAction
    >>> from quickstudy.core import lifetime
    >>> key = jax.random.key(0)
    >>> record = lifetime(RandomAction(2), TwoStep().sample(key, "test"), key, steps=10, record=step_record)[1]
    >>> trials(*record).state.shape
    (5,)
    """
    state = jnp.argmax(observations[..., 1::2, :], axis=-1) - 1
    return Trials(responses[..., ::2], state, rewards[..., 1::2])


def stay_probabilities(trials: Trials) -> Float[Array, "2 2"]:
    """How often the next trial's choice is the same, at `[rewarded, common]`, each 0 or 1, over all lives; NaN where it never came up.

    Model-free players stay after a reward, model-based ones after a reward that came the common way or none that came the rare way.
    Over long lives a model-free player shows much of that interaction too, because good choices, common transitions and rewards come
    together (Akam, Costa and Dayan 2015, "Simple Plans or Sophisticated Habits?"). What tells them apart is the column of rare
    transitions: there a reward makes model-free players stay, and model-based ones leave.

    >>> played = Trials(jnp.array([0, 0, 1]), jnp.array([0, 1, 1]), jnp.array([1.0, 1.0, 0.0]))
    >>> stay_probabilities(played).tolist()  # after a common reward stayed, after a rare one left
    [[nan, nan], [0.0, 1.0]]
    """
    stayed = trials.action[..., 1:] == trials.action[..., :-1]
    rewarded, common = trials.reward[..., :-1] > 0, (trials.action == trials.state)[..., :-1]
    share = lambda cell: jnp.where(cell.any(), jnp.sum(stayed & cell) / jnp.maximum(jnp.sum(cell), 1), jnp.nan)
    return jnp.stack([jnp.stack([share((rewarded == r) & (common == c)) for c in (False, True)]) for r in (False, True)])
