"""MAML: find initial weights from which a few gradient steps solve a new task.

Slow: the initial weights theta. Fast: the adapted weights phi. One outer step: adapt to each task of a batch by a few steps of
gradient descent on its support set, then move theta down the gradient of the query losses *through* those steps.

    phi = theta - alpha grad L(theta, support)   (repeated),      min over theta of sum over tasks of L(phi, query)

Source: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks".
Builds on: fine-tuning a pre-trained network. Led to: FOMAML and Reptile (no second derivatives), Meta-SGD (learned rates),
ANIL (adapt the head only), iMAML (implicit gradient).
"""

import dataclasses

import equinox as eqx
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import adapt_by_living, predict, query_loss, step_against, support_loss
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind, network
from quickstudy.outer import Gradient, Preset, Program, descend
from quickstudy.tasks.episode import EpisodeView, episode_shapes
from quickstudy.tasks.sinusoid import Sinusoid


class MAML(AbstractLearner):
    """A network that descends the support loss by one gradient step per tick, starting from its slow weights."""

    model: eqx.Module
    inner_learning_rate: float

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> eqx.Module:
        return self.model

    def respond(self, fast: eqx.Module, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return predict(fast, view.query_x)

    def observe(self, fast: eqx.Module, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> eqx.Module:
        return step_against(fast, eqx.filter_grad(support_loss)(fast, view), self.inner_learning_rate)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every default is the sine setting of Finn et al. 2017, section 5.1 and its code, unless it says otherwise."""

    network: Kind = "mlp"  # Finn et al. 2017
    width: int = 40  # Finn et al. 2017: two hidden layers of 40
    inner_learning_rate: float = 0.01  # Finn et al. 2017
    inner_steps: int = 1  # Finn et al. 2017
    outer_learning_rate: float = 0.001  # Finn et al. 2017: Adam
    tasks_per_step: int = 25  # Finn et al. 2017: meta-batch 25


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAML:
    """A MAML learner with fresh weights, fitting the tasks' inputs and outputs."""
    episode = episode_shapes(tasks)
    model = network(config.network, episode.query_x.shape[1:], config.width, episode.outputs, key=key)
    return MAML(model, config.inner_learning_rate)


def program(config: Config, tasks: AbstractTaskDistribution, gradient: Gradient = "exact") -> Program:
    """Meta-train by descending the query loss after adaptation, through the adaptation's exact derivative by default."""
    return descend(
        query_loss,
        tasks,
        optax.adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        adapt=adapt_by_living(config.inner_steps),
        gradient=gradient,
    )
