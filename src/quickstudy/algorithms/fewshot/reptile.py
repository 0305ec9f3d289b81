"""Reptile: train on a task for a while, then move the initial weights a little towards where that led.

Slow: the initial weights theta. Fast: the adapted weights phi. One outer step: from theta, take k steps of gradient descent on each task
of a batch, over all its examples (there is no query set in training), and move theta towards the mean phi.

    theta <- theta + epsilon * mean over tasks of (phi_k - theta)

Source: Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms".
Builds on: FOMAML. With k = 1 it is joint training exactly. Led to: serial variants for translation and image generation.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot import maml
from quickstudy.algorithms.fewshot.adaptation import predict, query_loss, step_against
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind
from quickstudy.outer import Metrics, Program, descend
from quickstudy.tasks.episode import EpisodeTask, prediction_loss


@dataclasses.dataclass(frozen=True)
class Config:
    """The sine setting of Nichol et al. 2018, section 4.1 of the blog's demonstration: plain SGD inside and outside."""

    network: Kind = "mlp"  # Nichol et al. 2018
    width: int = 64  # Nichol et al. 2018: two hidden layers of 64 in the sine demonstration
    inner_learning_rate: float = 0.02  # Nichol et al. 2018: sine demonstration
    inner_steps: int = 32  # Nichol et al. 2018: 32 steps at test time in the sine demonstration
    batch: int = 10  # Nichol et al. 2018: minibatches of 10 in the sine demonstration
    outer_learning_rate: float = 0.1  # Nichol et al. 2018: sine demonstration, epsilon
    tasks_per_step: int = 5  # ours: a small meta-batch halves the noise of the paper's serial updates


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> maml.MAML:
    """The same learner as MAML's: a network that takes one gradient step on its support set per tick."""
    return maml.learner(maml.Config(config.network, config.width, config.inner_learning_rate), tasks, key)


def train_on_task(model: eqx.Module, task: EpisodeTask, key: PRNGKeyArray, config: Config) -> eqx.Module:
    """`inner_steps` steps of SGD on random minibatches of all of a task's examples, support and query alike."""
    x = jnp.concatenate([task.support_x, task.query_x])
    y = jnp.concatenate([task.support_y, task.query_y])
    arrays, rest = eqx.partition(model, eqx.is_array)

    def step(arrays: eqx.Module, key: PRNGKeyArray) -> tuple[eqx.Module, None]:
        chosen = jr.choice(key, x.shape[0], (min(config.batch, x.shape[0]),), replace=False)
        loss = lambda m: prediction_loss(predict(m, x[chosen]), y[chosen])  # noqa: E731
        phi = eqx.combine(arrays, rest)
        return eqx.filter(step_against(phi, eqx.filter_grad(loss)(phi), config.inner_learning_rate), eqx.is_array), None

    return eqx.combine(jax.lax.scan(step, arrays, jr.split(key, config.inner_steps))[0], rest)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train by moving theta towards phi.

    The Reptile update is gradient descent with rate epsilon on |theta - phi|^2 / 2, phi held fixed: that is the loss below.
    """

    def loss(learner: AbstractLearner, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        phi = jax.lax.stop_gradient(eqx.filter(train_on_task(learner.model, task, key, config), eqx.is_inexact_array))
        theta = eqx.filter(learner.model, eqx.is_inexact_array)
        distance = sum(jnp.sum(jnp.square(a - b)) for a, b in zip(jax.tree.leaves(theta), jax.tree.leaves(phi), strict=True)) / 2
        return distance, {"score": query_loss(learner, task, key)[1]["score"]}

    return descend(
        loss,
        tasks,
        optax.sgd(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )
