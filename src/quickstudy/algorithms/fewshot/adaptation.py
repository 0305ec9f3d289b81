"""What the methods that adapt a network by gradient descent share: losses on support and query, and living as adaptation."""

from typing import TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, Num, PRNGKeyArray, PyTree

from quickstudy.core import AbstractLearner, AbstractTask, lifetime, nothing
from quickstudy.outer import Adapt, Metrics
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, prediction_loss, prediction_score

Learner = TypeVar("Learner", bound=AbstractLearner)
Model = TypeVar("Model", bound=eqx.Module)


class AbstractAdapter(AbstractLearner):
    """A learner whose fast state is a copy of its slow `model`; what one tick of learning does to it is left to the method."""

    model: eqx.AbstractVar[eqx.Module]

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> eqx.Module:
        return self.model

    def respond(self, fast: eqx.Module, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return predict(fast, view.query_x)


def predict(model: eqx.Module, x: Num[Array, "n ..."]) -> Float[Array, "n outputs"]:
    """Apply a one-example network to every example."""
    return jax.vmap(model)(x)  # type: ignore


def support_loss(model: eqx.Module, view: EpisodeView) -> Float[Array, ""]:
    """The inner loss: how badly a network fits the support set."""
    return prediction_loss(predict(model, view.support_x), view.support_y)


def step_against(model: Model, gradient: PyTree, rate: float | Array | PyTree) -> Model:
    """One step of gradient descent, phi <- phi - rate * gradient, with one rate for all or a tree of rates like the model's."""
    if isinstance(rate, eqx.Module):
        change = jax.tree.map(lambda g, r: -r * g, gradient, rate)
    else:
        # The inner rate belongs to the method, not to the slow weights, also when a sweep makes it an array.
        change = jax.tree.map(lambda g: -jax.lax.stop_gradient(rate) * g, gradient)
    return eqx.apply_updates(model, change)


def query_loss(learner: AbstractAdapter, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """The outer loss of a learner whose `model` was adapted: how badly it answers the queries."""
    prediction = predict(learner.model, task.query_x)
    return prediction_loss(prediction, task.query_y), {"score": prediction_score(prediction, task.query_y)}


def adapt_by_living(steps: int) -> Adapt:
    """Adaptation theta -> phi of a learner whose fast state is its adapted `model`: live `steps` ticks, keep what was learned."""

    def adapt(learner: Learner, task: AbstractTask, key: PRNGKeyArray) -> Learner:
        life, _ = lifetime(learner, task, key, steps=steps, record=nothing)
        return eqx.tree_at(lambda tree: tree.model, learner, life.fast)

    return adapt
