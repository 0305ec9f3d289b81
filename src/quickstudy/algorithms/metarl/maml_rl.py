"""MAML-RL: find a policy from which one policy-gradient step, on a few episodes, solves a new task.

* Slow: the initial policy's weights theta. Fast: the adapted weights phi, and the episodes since the last inner step.
* One outer step: in each task of a batch live some episodes, take the inner step, live as many again; then move theta up the clipped
  surrogate of the later episodes, *through* the inner step, crediting theta also for what it drew before it.

Both the step and its derivative are estimated from the same episodes tau, with gain_t the return after tick t less a baseline, and R_t
the product of the ratios pi_theta / pi_old of an episode up to tick t:

    phi = theta + alpha grad J(theta; tau),      J(theta; tau) = mean over t of (R_t - R_(t-1)) gain_t

In expectation the second derivative of J is that of the expected return itself (DiCE), so I + alpha grad^2 J is the exact derivative
of the expected step. Taking the episodes for given, as differentiating log pi gain twice would, is biased.

Sources: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.3 (TRPO where we
use PPO); Foerster et al. 2018, "DiCE: The Infinitely Differentiable Monte Carlo Estimator" (the credit).
Builds on: MAML, the policy gradient. Led to: ProMP (less variance), E-MAML (credit for exploring), MAESN (a latent to explore with).
"""

import dataclasses

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import step_against
from quickstudy.algorithms.metarl.meta_training import Schedule, Trial, adapted, clipped_adam, meta_train
from quickstudy.algorithms.metarl.policy_adaptation import (
    READS,
    AbstractActor,
    AbstractPolicyAdapter,
    Credit,
    Lesson,
    Player,
    Sees,
    actor,
    clipped_surrogate,
    horizon,
    surrogate,
)
from quickstudy.core import AbstractTaskDistribution
from quickstudy.outer import Preset, Program
from quickstudy.tasks.bandits import BernoulliBandit


class MAMLRL(AbstractPolicyAdapter):
    """A policy that takes one policy-gradient step after every batch; `credit` says how the step's own derivative is taken."""

    player: Player
    inner_learning_rate: float | Float[Array, ""]
    ticks: int = eqx.field(static=True)
    discount: float = eqx.field(static=True)
    credit: Credit = eqx.field(static=True, default="full")

    def improve(self, actor: AbstractActor, lesson: Lesson) -> AbstractActor:
        return step_against(actor, eqx.filter_grad(lambda a: -surrogate(a, lesson, self.credit))(actor), self.inner_learning_rate)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of Finn et al. 2017 for navigation, where they fit an outer step that is not TRPO's."""

    width: int = 64  # Rothfuss et al. 2018: two layers of 64; Finn et al. 2017: 100
    deviation: float = 1.0  # Finn et al. 2017 (code): the initial standard deviation of actions
    sees: Sees = "observation"  # Finn et al. 2017; everything: the last action, reward and end too
    inner_learning_rate: float = 0.1  # Finn et al. 2017
    inner_steps: int = 1  # Finn et al. 2017
    episodes: int = 20  # Finn et al. 2017: trajectories before and after the step
    tasks_per_step: int = 20  # Finn et al. 2017
    outer_learning_rate: float = 0.001  # Rothfuss et al. 2018: Adam
    epochs: int = 5  # Rothfuss et al. 2018
    clip: float = 0.3  # Rothfuss et al. 2018 (code)
    discount: float = 0.99  # Finn et al. 2017


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAMLRL:
    """A policy with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    first = actor(tasks, config.sees, config.width, config.deviation, key=key)
    player = Player(first, tasks.actions, READS[config.sees])  # type: ignore[attr-defined]
    ticks = config.episodes * horizon(tasks)
    return MAMLRL(player=player, inner_learning_rate=config.inner_learning_rate, ticks=ticks, discount=config.discount)


def loss(learner: MAMLRL, trial: Trial, clip: float) -> Float[Array, ""]:
    """How badly the adapted policy does in one task, differentiable through the adaptation."""
    return -clipped_surrogate(adapted(learner, trial.inner)[0], trial.last, clip)


def schedule(config: Config) -> Schedule:
    """What an outer step lives."""
    return Schedule(config.tasks_per_step, config.episodes, config.inner_steps, config.epochs)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train through the inner step's exact derivative."""
    return meta_train(
        tasks,
        lambda learner, trial, key: (loss(learner, trial, config.clip), {}),
        clipped_adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        schedule=schedule(config),
    )


PRESETS = {
    "smoke": Preset(
        Config(width=8, sees="everything", episodes=4, tasks_per_step=2, epochs=2), lambda: BernoulliBandit(arms=3), 4, 8, "it runs"
    ),
}
