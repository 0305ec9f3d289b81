"""Meta-SGD: learn not only where to start but, for every weight, how far and in which direction to step.

Slow: the initial weights theta and one learning rate per weight, a. Fast: the adapted weights phi. One outer step: as MAML's, and the
exact gradient of the query loss moves theta and a together.

    phi = theta - a * grad L(theta, support)   (element by element),      min over theta, a of sum over tasks of L(phi, query)

Source: Li, Zhou, Chen and Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning".
Builds on: MAML. Led to: MAML++ (rates per layer and step), learned preconditioners.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import adapt_by_living, predict, query_loss, step_against, support_loss
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind, network
from quickstudy.outer import Program, descend
from quickstudy.tasks.episode import EpisodeView, episode_shapes


class MetaSGD(AbstractLearner):
    """A network that descends the support loss with a learned rate for every weight, one gradient step per tick."""

    model: eqx.Module
    rates: eqx.Module

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> eqx.Module:
        return self.model

    def respond(self, fast: eqx.Module, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return predict(fast, view.query_x)

    def observe(self, fast: eqx.Module, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> eqx.Module:
        return step_against(fast, eqx.filter_grad(support_loss)(fast, view), self.rates)


@dataclasses.dataclass(frozen=True)
class Config:
    """The sine setting of MAML (Finn et al. 2017, section 5.1) with learned rates."""

    network: Kind = "mlp"  # Finn et al. 2017
    width: int = 40  # Finn et al. 2017: two hidden layers of 40
    initial_rate: float = 0.01  # ours: MAML's inner rate, so that both start alike
    inner_steps: int = 1  # Li et al. 2017: one step
    outer_learning_rate: float = 0.001  # Finn et al. 2017: Adam
    tasks_per_step: int = 25  # Finn et al. 2017


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MetaSGD:
    """A Meta-SGD learner with fresh weights and equal rates."""
    episode = episode_shapes(tasks)
    model = network(config.network, episode.query_x.shape[1:], config.width, episode.outputs, key=key)
    rates = jax.tree.map(lambda leaf: jnp.full_like(leaf, config.initial_rate), eqx.filter(model, eqx.is_inexact_array))
    return MetaSGD(model, rates)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train weights and rates by the exact gradient of the query loss after adaptation."""
    return descend(
        query_loss,
        tasks,
        optax.adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        adapt=adapt_by_living(config.inner_steps),
    )
