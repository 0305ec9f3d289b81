"""The ideal player of Harlow's learning sets: it guesses once, and from then on it knows.

Slow: nothing. Fast: the object that is right. Win: stay with the *object*, wherever it lies; lose: shift to the other.

Source: Harlow 1949, "The Formation of Learning Sets"; Levine 1959, "A Model of Hypothesis Behavior in Discrimination Learning Set".
"""

from typing import NamedTuple

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.tasks.control import ControlView


class Remembered(NamedTuple):
    """The features of the object that is right, and whether it is known."""

    right: Float[Array, " features"]
    known: Bool[Array, ""]


class WinStayLoseShift(AbstractLearner):
    """Takes the object that it knows to be right, the first time either.

    >>> import jax
    >>> from quickstudy.evaluation import evaluate
    >>> from quickstudy.tasks import Harlow
    >>> evaluate(WinStayLoseShift(), Harlow(), n_tasks=20, steps=6, key=jax.random.key(0)).curve.mean[1:].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Remembered:
        return Remembered(jnp.zeros_like(view.observation[0]), jnp.zeros((), bool))

    def respond(self, fast: Remembered, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        distance = jnp.sum((view.observation - fast.right[None]) ** 2, axis=1)
        return jnp.where(fast.known, jnp.argmin(distance) == 1, jr.bernoulli(key)).astype(jnp.int32)

    def observe(
        self, fast: Remembered, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray
    ) -> Remembered:
        right = jnp.where(feedback.reward > 0, response, 1 - response)
        return Remembered(view.observation[right], jnp.ones((), bool))
