"""Episodes: a support set to learn from, query inputs to answer. One tick is one inner step of the learner.

An episode's targets decide how it is judged: integer targets are class labels (cross-entropy, accuracy),
floating-point targets are regressed (mean squared error).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray, PyTree

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Turn


class EpisodeView(eqx.Module):
    """What the learner sees: labelled support examples and the query inputs, never the query targets.

    `outputs` is the number of numbers in one prediction: the way of a classification, the size of a regression's target.
    Where the support varies in size, its shape is that of the largest, and what is there for its shape only has no target: NaN, or -1.
    """

    support_x: Num[Array, "support ..."] | Bool[Array, "support ..."]
    support_y: Num[Array, "support ..."]
    query_x: Num[Array, "query ..."] | Bool[Array, "query ..."]
    outputs: int = eqx.field(static=True)

    def known(self) -> Bool[Array, " support"]:
        """Which support examples have a target."""
        if is_classification(self.support_y):
            return self.support_y >= 0
        return ~jnp.any(jnp.isnan(self.support_y), axis=tuple(range(1, self.support_y.ndim)))


class EpisodeTask(AbstractTask):
    """A few-shot problem.

    Inputs are `(n, ...)`; targets are `(n,)` integers in `[0, outputs)` for classification or `(n, outputs)` floats for regression.
    `latent` is the hidden truth that only oracles and checks read: the class ids, or the parameters of the function.
    """

    support_x: Num[Array, "support ..."]
    support_y: Num[Array, "support ..."]
    query_x: Num[Array, "query ..."]
    query_y: Num[Array, "query ..."]
    latent: PyTree
    outputs: int = eqx.field(static=True)

    def view(self) -> EpisodeView:
        """The task without its answers."""
        return EpisodeView(self.support_x, self.support_y, self.query_x, self.outputs)

    def reset(self, key: PRNGKeyArray) -> tuple[None, EpisodeView]:
        return None, self.view()

    def step(self, world: None, response: Float[Array, "query outputs"], key: PRNGKeyArray) -> Turn:
        running = jnp.asarray(End.RUNNING, jnp.int32)
        return Turn(world, self.view(), None, prediction_score(response, self.query_y), running)


def episode_shapes(tasks: AbstractTaskDistribution) -> EpisodeTask:
    """The shapes and dtypes of a distribution's episodes (`jax.ShapeDtypeStruct` leaves), for building networks that fit them.

    Raises `TypeError` if the tasks are not episodes.

    >>> from quickstudy.tasks import Sinusoid
    >>> episode_shapes(Sinusoid(shot=5)).support_x.shape
    (5, 1)
    """
    task = jax.eval_shape(lambda key: tasks.sample(key, "train"), jax.random.key(0))
    if not isinstance(task, EpisodeTask):
        raise TypeError(f"tasks must be episodes (support and query sets), not {type(task).__name__}")
    return task


def is_classification(target: Num[Array, "..."] | jax.ShapeDtypeStruct) -> bool:
    """Integer targets are class labels."""
    return bool(jnp.issubdtype(target.dtype, jnp.integer))


def prediction_loss(prediction: Float[Array, "n outputs"], target: Num[Array, "n ..."]) -> Float[Array, ""]:
    """Mean cross-entropy in nats of logits against integer labels, or mean squared error against floats.

    >>> import jax.numpy as jnp
    >>> float(prediction_loss(jnp.zeros((2, 1)), jnp.array([[1.0], [3.0]])))
    5.0
    """
    if is_classification(target):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(prediction, target))
    return jnp.mean(jnp.square(prediction - target))


def prediction_score(prediction: Float[Array, "n outputs"], target: Num[Array, "n ..."]) -> Float[Array, ""]:
    """Accuracy in [0, 1] for integer labels, minus the mean squared error for floats: higher is better."""
    if is_classification(target):
        return jnp.mean(jnp.argmax(prediction, axis=-1) == target, dtype=prediction.dtype)
    return -jnp.mean(jnp.square(prediction - target))
