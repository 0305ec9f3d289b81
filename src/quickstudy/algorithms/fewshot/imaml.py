"""Implicit MAML: adapt as long as you like, and differentiate only where the adaptation ended.

Slow: the initial weights theta. Fast: the adapted weights phi, kept near theta by a proximal term. One outer step: adapt to each task of
a batch by many gradient steps, then move theta along the derivative of the *optimum*, whatever path led there: a linear system with the
inner Hessian H, solved by conjugate gradients. Memory does not grow with the number of inner steps.

    phi = argmin L(phi, support) + lambda / 2 |phi - theta|^2,      d phi / d theta = (I + H / lambda)^-1

Source: Rajeswaran, Finn, Kakade and Levine 2019, "Meta-Learning with Implicit Gradients".
Builds on: MAML, FOMAML (no conjugate-gradient steps). Led to: implicit differentiation of any inner solver.
"""

import dataclasses

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import adapt_by_living, predict, query_loss, step_against, support_loss
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind, network
from quickstudy.outer import Implicit, Program, descend
from quickstudy.tasks.episode import EpisodeView, episode_shapes


def proximal_gradient(model: eqx.Module, anchor: eqx.Module, view: EpisodeView, strength: float) -> eqx.Module:
    """The gradient of the inner problem: support loss plus strength / 2 times the squared distance from the anchor."""
    gradient = eqx.filter_grad(support_loss)(model, view)
    return jax.tree.map(lambda g, m, a: g + strength * (m - a), gradient, *(eqx.filter(t, eqx.is_inexact_array) for t in (model, anchor)))


class IMAML(AbstractLearner):
    """A network that descends the proximal support loss by one gradient step per tick, starting from its slow weights."""

    model: eqx.Module
    inner_learning_rate: float
    strength: float

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> eqx.Module:
        return self.model

    def respond(self, fast: eqx.Module, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return predict(fast, view.query_x)

    def observe(self, fast: eqx.Module, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> eqx.Module:
        return step_against(fast, proximal_gradient(fast, self.model, view, self.strength), self.inner_learning_rate)


@dataclasses.dataclass(frozen=True)
class Config:
    """The sine setting of MAML, with the inner problem solved nearly to its optimum."""

    network: Kind = "mlp"  # Finn et al. 2017
    width: int = 40  # Finn et al. 2017: two hidden layers of 40
    inner_learning_rate: float = 0.02  # ours: the largest of 0.005, 0.01, 0.02, 0.05 that converges on validation waves
    inner_steps: int = 16  # Rajeswaran et al. 2019: 16 gradient steps on Omniglot
    strength: float = 0.5  # ours: chosen among 0.1, 0.5, 2 on validation waves
    conjugate_steps: int = 5  # Rajeswaran et al. 2019: 5
    outer_learning_rate: float = 0.001  # Finn et al. 2017: Adam
    tasks_per_step: int = 25  # Finn et al. 2017


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> IMAML:
    """An iMAML learner with fresh weights."""
    episode = episode_shapes(tasks)
    model = network(config.network, episode.query_x.shape[1:], config.width, episode.outputs, key=key)
    return IMAML(model, config.inner_learning_rate, config.strength)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train by the implicit gradient of the query loss at the adapted weights."""
    inner_loss = lambda learner, task: support_loss(learner.model, task.view())  # noqa: E731
    return descend(
        query_loss,
        tasks,
        optax.adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        adapt=adapt_by_living(config.inner_steps),
        gradient=Implicit(inner_loss, config.strength, config.conjugate_steps),
    )
