"""E-MAML: MAML-RL that also credits the episodes before the inner step with what was earned after it, and so learns to explore.

* Slow: the initial policy's weights theta. Fast: the adapted weights phi, and the episodes since the last inner step.
* One outer step: as MAML-RL's, and every action of the earlier episodes is made likelier by how much more the task's later episodes
  brought than those of other tasks.

What a learner is worth that takes its step from a batch tau of its own drawing is an expectation over tau. So its gradient has two
parts, through the step and through the draw:

    J(theta) = E over tau of R(phi(tau)),      grad J = E[(d phi / d theta)^T grad R(phi) + R(phi) grad log p_theta(tau)]

Here the step's derivative takes tau for given: its draw is credited by the second part, for a batch of any size. (MAML-RL's product of
ratios is the same gradient in the limit of large batches, where the step no longer depends on the draw.)

Source: Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel and Sutskever 2018, "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning".
Builds on: MAML-RL. Led to: ProMP's analysis of credit; see also E-RL^2, of the same paper.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl import maml_rl
from quickstudy.algorithms.metarl.maml_rl import MAMLRL
from quickstudy.algorithms.metarl.meta_training import Trial, adapted, clipped_adam, meta_train
from quickstudy.algorithms.metarl.policy_adaptation import Sees, clipped_surrogate
from quickstudy.core import AbstractTaskDistribution
from quickstudy.outer import Preset, Program, shared_settings
from quickstudy.tasks.bandits import BernoulliBandit


@dataclasses.dataclass(frozen=True)
class Config:
    """As MAML-RL, with the weight of the exploring part."""

    width: int = 64  # as MAML-RL
    deviation: float = 1.0  # as MAML-RL
    sees: Sees = "observation"  # as MAML-RL; everything: the last action, reward and end too
    inner_learning_rate: float = 0.1  # as MAML-RL
    inner_steps: int = 1  # as MAML-RL
    episodes: int = 20  # as MAML-RL
    tasks_per_step: int = 20  # as MAML-RL
    outer_learning_rate: float = 0.001  # as MAML-RL
    epochs: int = 5  # as MAML-RL
    clip: float = 0.3  # as MAML-RL
    exploration: float = 1.0  # Stadie et al. 2018: the gradient itself, in which both parts count the same
    discount: float = 0.99  # as MAML-RL


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAMLRL:
    """A policy with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    return dataclasses.replace(maml_rl.learner(common(config), tasks, key), credit="none")


def common(config: Config) -> maml_rl.Config:
    """The settings that are MAML-RL's too."""
    return shared_settings(maml_rl.Config, config)


def loss(learner: MAMLRL, trial: Trial, clip: float, exploration: float) -> Float[Array, ""]:
    """How badly the adapted policy does in one task, and the policies before each inner step in serving it."""
    after, before = adapted(learner, trial.inner)
    served = trial.inner._replace(gains=jnp.full_like(trial.inner.gains, 1) * trial.surplus)
    # The surrogate is a mean over ticks; the logarithm of a batch's probability is a sum.
    draw = jnp.sum(jax.vmap(lambda actor, lesson: clipped_surrogate(actor, lesson, clip))(before, served)) * learner.ticks
    return -clipped_surrogate(after, trial.last, clip) - exploration * draw


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train through the inner step and through the draw of what it learns from."""
    return meta_train(
        tasks,
        lambda learner, trial, key: (loss(learner, trial, config.clip, config.exploration), {}),
        clipped_adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        schedule=maml_rl.schedule(common(config)),
    )


PRESETS = {
    "smoke": Preset(
        Config(width=8, sees="everything", episodes=4, tasks_per_step=2, epochs=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"
    ),
}
