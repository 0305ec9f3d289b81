"""Players of the two-step task whose kind is known, to tell what kind a learned player is of.

Slow: a few constants. Fast: two values and the last choice. Model-free: a value for each *action*, moved towards the reward at the end
of the trial, whatever happened between (temporal differences with traces of length 1). Model-based: a value for each *state*, and an
action is worth the states to which it leads. Both choose by softmax.

Sources: Daw et al. 2011, "Model-Based Influences on Humans' Choices and Striatal Prediction Errors". The optimum: forward filtering of
a hidden Markov model with two states, Rabiner 1989, "A Tutorial on Hidden Markov Models".
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.tasks.control import ControlView


class Values(NamedTuple):
    """What two actions or two states are worth, and the action at the last first stage."""

    values: Float[Array, "2"]
    chosen: Int[Array, ""]


class AbstractTwoStepPlayer(AbstractLearner):
    """Moves one of two values towards the reward of each trial at `rate`, and chooses with inverse temperature `sharpness`."""

    rate: eqx.AbstractVar[float]
    sharpness: eqx.AbstractVar[float]

    @abc.abstractmethod
    def credited(self, chosen: Int[Array, ""], state: Int[Array, ""]) -> Int[Array, ""]:
        """The value that the reward in a state is credited to, after this choice."""

    @abc.abstractmethod
    def worth(self, values: Float[Array, "2"]) -> Float[Array, "2"]:
        """What the two actions are worth."""

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Values:
        return Values(jnp.full(2, 0.5), jnp.zeros((), jnp.int32))

    def respond(self, fast: Values, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return jr.categorical(key, self.sharpness * self.worth(fast.values)).astype(jnp.int32)

    def observe(self, fast: Values, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray) -> Values:
        choosing, state = _where(view)
        place = self.credited(fast.chosen, state)
        moved = fast.values.at[place].add(self.rate * (feedback.reward - fast.values[place]))
        return Values(jnp.where(choosing, fast.values, moved), jnp.where(choosing, response, fast.chosen))


class ModelFree(AbstractTwoStepPlayer):
    """Repeats what was rewarded, whichever way the reward came.

    >>> import jax
    >>> from quickstudy.evaluation import evaluate
    >>> from quickstudy.tasks import TwoStep
    >>> evaluate(ModelFree(), TwoStep(), n_tasks=10, steps=20, key=jax.random.key(0)).curve.mean.shape
    (20,)
    """

    rate: float = 0.5  # Daw et al. 2011: the median of people, rounded
    sharpness: float = 5.0  # Daw et al. 2011: the median of people, rounded

    def credited(self, chosen: Int[Array, ""], state: Int[Array, ""]) -> Int[Array, ""]:
        return chosen

    def worth(self, values: Float[Array, "2"]) -> Float[Array, "2"]:
        return values


class ModelBased(AbstractTwoStepPlayer):
    """Does what commonly leads to where rewards were."""

    rate: float = 0.5  # Daw et al. 2011: the median of people, rounded
    sharpness: float = 5.0  # Daw et al. 2011: the median of people, rounded
    common: float = 0.8  # the middle of `TwoStep`

    def credited(self, chosen: Int[Array, ""], state: Int[Array, ""]) -> Int[Array, ""]:
        return state

    def worth(self, values: Float[Array, "2"]) -> Float[Array, "2"]:
        return self.common * values + (1 - self.common) * jnp.flip(values)


class TwoStepOptimal(AbstractLearner):
    """Keeps the exact probability that state 0 is rich and takes what commonly leads to the likelier one: no player earns more.

    Either state tells the same about which one is rich, and no choice changes it, so there is nothing to explore for.
    """

    rich: float = 0.9  # that of `TwoStep`
    poor: float = 0.1  # that of `TwoStep`
    volatility: float = 0.025  # that of `TwoStep`

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.asarray(0.5)

    def respond(self, fast: Float[Array, ""], view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return jnp.where(fast == 0.5, jr.bernoulli(key), fast < 0.5).astype(jnp.int32)

    def observe(
        self, fast: Float[Array, ""], view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        choosing, state = _where(view)
        pays = jnp.where(state == 0, jnp.array([self.rich, self.poor]), jnp.array([self.poor, self.rich]))
        likelihood = jnp.where(feedback.reward > 0, pays, 1 - pays)  # if state 0 is rich, and if it is poor
        belief = fast * likelihood[0] / (fast * likelihood[0] + (1 - fast) * likelihood[1])
        return jnp.where(choosing, fast, belief + self.volatility * (1 - 2 * belief))


def _where(view: ControlView) -> tuple[Array, Int[Array, ""]]:
    """Whether this is the first stage, and if not, which state."""
    stage = jnp.argmax(view.observation).astype(jnp.int32)
    return stage == 0, jnp.maximum(stage - 1, 0)
