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
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import step_against
from quickstudy.algorithms.metarl.measuring import returns_by_step
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
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, sample_tasks
from quickstudy.outer import Preset, Program, train
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.point_navigation import STEP, PointGoals
from quickstudy.tasks.two_directions import TwoDirections, TwoDirectionsTask


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
    credit: Credit = "full"  # Foerster et al. 2018; Finn et al. 2017 (code): none


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAMLRL:
    """A policy with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    first = actor(tasks, config.sees, config.width, config.deviation, key=key)
    player = Player(first, tasks.actions, READS[config.sees])  # type: ignore[attr-defined]
    return MAMLRL(
        player=player,
        inner_learning_rate=config.inner_learning_rate,
        ticks=config.episodes * horizon(tasks),
        discount=config.discount,
        credit=config.credit,
    )


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


_SMALL = Config(width=8, sees="everything", episodes=4, tasks_per_step=2, epochs=2)
PRESETS = {
    "directions": Preset(Config(), TwoDirections, 60, 800, "about 15 an episode after one step, 0 before, 15 s"),
    "goals": Preset(Config(), lambda: PointGoals(horizon=20), 60, 800, "about -3.3 an episode after one step, -7.9 before, 15 s"),
    "smoke": Preset(_SMALL, lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}


# --- Claims -------------------------------------------------------------------------------------------------------------------------

RATES = (0.1, 0.3, 1.0, 3.0, 10.0)  # fine-tuning's, of which the best on validation tasks is taken


def best_returns(tasks: TwoDirections | PointGoals, n: int = 10_000) -> float:
    """The mean return of an episode for who knows the task: full force in the right direction; straight to the goal, and stay."""

    def best(task: Any) -> Float[Array, ""]:
        if isinstance(task, TwoDirectionsTask):
            return jnp.sum(task.best())
        left = 1 - STEP * jnp.arange(1.0, task.horizon + 1) / jnp.max(jnp.abs(task.goal))
        return -jnp.sum(jnp.maximum(left, 0.0)) * jnp.linalg.norm(task.goal)

    return float(jnp.mean(jax.vmap(best)(sample_tasks(tasks, jr.key(0), "test", n))))


def at_rate(learner: AbstractLearner, rate: float) -> MAMLRL:
    """The learner with another inner learning rate."""
    return eqx.tree_at(lambda m: m.inner_learning_rate, learner, jnp.asarray(rate))


def measure_navigation(scale: Scale, seed: int) -> Measurements:
    """Returns before and after one step on 20 episodes: MAML-RL's, and those of a policy trained on all tasks at once, fine-tuned.

    Both live as many ticks in training, with the same outer steps. A smoke test, which only looks whether it runs, trains nothing.
    """
    steps, n_tasks = {"smoke": (0, 4), "laptop": (60, 100), "full": (500, 1_000)}[scale]
    config = _SMALL if scale == "smoke" else Config()
    jointly = dataclasses.replace(config, inner_steps=0, tasks_per_step=2 * config.tasks_per_step)
    families: dict[str, TwoDirections | PointGoals] = {"directions": TwoDirections(), "goals": PointGoals(horizon=20)}
    measured: dict[str, float] = {}
    for family, tasks in families.items():
        look = functools.partial(returns_by_step, tasks=tasks, seed=seed, n_tasks=n_tasks)
        trained: AbstractLearner = learner(config, tasks, jr.key(seed))
        joint, rate = trained, RATES[0]
        if scale != "smoke":
            trained = train(program(config, tasks), steps=steps, seed=seed)
            joint = train(program(jointly, tasks), steps=steps, seed=seed)
            rate = max(RATES, key=lambda rate: look(at_rate(joint, rate), split="valid")[1])
        best, ours, tuned = best_returns(tasks), look(at_rate(trained, config.inner_learning_rate)), look(at_rate(joint, rate))
        measured |= {f"{family}: oracle": best, f"{family}: tuned rate of fine-tuning": rate}
        for name, value in {
            "MAML-RL, no step": ours[0],
            "MAML-RL": ours[1],
            "jointly trained": tuned[0],
            "fine-tuned": tuned[1],
        }.items():
            measured |= {f"{family}: {name}": float(value), f"{family}: {name}, short of the oracle": float(best - value)}
    return measured


CLAIMS = (
    Claim(
        id="maml-rl-nav",
        statement=(
            "One policy-gradient step on 20 episodes of a new task brings MAML-RL at least twice as near to the best possible return, "
            "in two directions and to 2-D goals, and nearer than a jointly trained policy after its own, tuned step."
        ),
        source="Finn et al. 2017, section 5.3",
        reported="figures only: one step suffices where pretraining needs many; 500 outer steps with TRPO, bodies with legs",
        not_answered="bodies with legs, episodes of hundreds of ticks, and goals that are rewarded sparsely.",
        measure=measure_navigation,
        expected=tuple(
            Expectation(f"{family}: MAML-RL, short of the oracle", "<", f"{family}: {rival}, short of the oracle", factor=factor)
            for family in ("directions", "goals")
            for rival, factor in (("MAML-RL, no step", 0.5), ("fine-tuned", 1.0))
        ),
    ),
)
