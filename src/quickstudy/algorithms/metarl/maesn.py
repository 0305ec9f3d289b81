"""MAESN: a policy with a latent that is drawn once an episode, so that exploring means trying out whole behaviours.

* Slow: the policy's weights, the rates of the inner step, and a latent distribution for each training task. Fast: the latent's mean mu
  and spread sigma in this task, and the episodes since the last inner step. In a new task they begin as a unit Gaussian.
* One outer step: in each of a batch of training tasks live some episodes with latents from the task's own distribution, take a
  policy-gradient step on mu and sigma, live as many again; then move all slow weights up the clipped surrogate of the later episodes,
  through the step, while a penalty keeps the distributions before the step near the unit Gaussian, which new tasks must begin with.

The latent z_e of episode e is held while it lasts, and counts as its first action; G_e is the episode's return less a baseline:

    z_e ~ N(mu, sigma),    a_t ~ pi_theta(. | s_t, z_e),    (mu', log sigma') = (mu, log sigma) + rates * grad mean of log N(z_e) G_e
    maximise over theta, rates, all mu_i and sigma_i:   mean of J_i(mu_i', sigma_i') - weight KL(N(mu_i, sigma_i), N(0, 1))

Source: Gupta, Mendonca, Liu, Abbeel and Levine 2018, "Meta-Reinforcement Learning of Structured Exploration Strategies"; as in its
code only the latent adapts, and the step takes no derivative through the policy. Its outer step is TRPO's.
Builds on: MAML-RL, variational inference. Led to: PEARL, which infers the latent instead of climbing to it.
"""

import dataclasses
import math
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.metarl.meta_training import (
    Schedule,
    Training,
    Trial,
    adapted,
    clipped_adam,
    learn,
    practise_in_all,
    scores,
)
from quickstudy.algorithms.metarl.policy_adaptation import (
    READS,
    AbstractActor,
    AbstractPolicyAdapter,
    Actor,
    Lesson,
    Player,
    Sees,
    actor,
    clipped_surrogate,
    horizon,
)
from quickstudy.core import AbstractTask, AbstractTaskDistribution, sample_tasks
from quickstudy.nn.policies import Gaussian, Policy
from quickstudy.outer import Metrics, Preset, Program
from quickstudy.tasks.bandits import BernoulliBandit


class LatentActor(AbstractActor):
    """An actor whose plan is a latent that its network sees beside the view."""

    inner: Actor
    mean: Float[Array, " latent"]
    log_spread: Float[Array, " latent"]

    def __call__(self, seen: Float[Array, " inputs"], plan: Float[Array, " latent"]) -> Policy:
        return self.inner(jnp.concatenate([seen, plan]), jnp.zeros(0))

    def draw_plan(self, key: PRNGKeyArray) -> Float[Array, " latent"]:
        return Gaussian(self.mean, self.log_spread).draw(key)

    def plan_log_probability(self, plan: Float[Array, " latent"]) -> Float[Array, ""]:
        return Gaussian(self.mean, self.log_spread).log_probability(plan)


class MAESN(AbstractPolicyAdapter):
    """A policy that adapts its latent's distribution by a policy-gradient step after every batch.

    `log_rates` are those of the mean and of the spread's logarithm, `homes` these two of every training task.
    """

    player: Player
    log_rates: Float[Array, "2 latent"]
    homes: Float[Array, "tasks 2 latent"]
    ticks: int = eqx.field(static=True)
    discount: float = eqx.field(static=True)

    def improve(self, actor: LatentActor, lesson: Lesson) -> LatentActor:
        plans, fresh = lesson.episodes.plans
        drawn = fresh.astype(jnp.float32)
        gains = standardise(lesson.gains, drawn)

        def climb(latent: Float[Array, "2 latent"]) -> Float[Array, ""]:
            return jnp.sum(gains * jax.vmap(Gaussian(*latent).log_probability)(plans)) / jnp.sum(drawn)

        return with_latent(actor, latent_of(actor) + jnp.exp(self.log_rates) * jax.grad(climb)(latent_of(actor)))


def standardise(values: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, " n"]:
    """Values brought to mean zero and deviation one where the weights are one, and zero where they are zero.

    >>> standardise(jnp.array([1.0, 7.0, 3.0]), jnp.array([1.0, 0.0, 1.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    away = (values - jnp.sum(weights * values) / jnp.sum(weights)) * weights
    return away / (jnp.sqrt(jnp.sum(away**2) / jnp.sum(weights)) + 1e-8)


def latent_of(actor: LatentActor) -> Float[Array, "2 latent"]:
    """The mean and the logarithm of the spread."""
    return jnp.stack([actor.mean, actor.log_spread])


def with_latent(actor: LatentActor, latent: Float[Array, "2 latent"]) -> LatentActor:
    """The actor with another distribution of its latent."""
    return eqx.tree_at(lambda a: (a.mean, a.log_spread), actor, (latent[0], latent[1]))


def at_home(learner: MAESN, task: Int[Array, ""]) -> MAESN:
    """The learner as it begins in a training task: with the latents that it has for it."""
    home = with_latent(learner.player.actor, learner.homes[task])  # type: ignore[arg-type]
    return eqx.tree_at(lambda m: m.player.actor, learner, home)


@dataclasses.dataclass(frozen=True)
class Config:
    """As MAML-RL where no source is named."""

    width: int = 64  # as MAML-RL
    deviation: float = 1.0  # as MAML-RL
    sees: Sees = "observation"  # as MAML-RL; everything: the last action, reward and end too
    latent: int = 2  # Gupta et al. 2018 (code)
    redraw: Literal["episode", "tick"] = "episode"  # Gupta et al. 2018; tick: a new latent every tick, which explores incoherently
    training_tasks: int = 100  # Gupta et al. 2018
    inner_learning_rate: float = 1.0  # Gupta et al. 2018 (code): where the learned rates begin
    inner_steps: int = 1  # as MAML-RL
    episodes: int = 20  # as MAML-RL
    tasks_per_step: int = 20  # Gupta et al. 2018
    outer_learning_rate: float = 0.001  # as MAML-RL
    latent_learning_rate: float = 0.05  # ours: of the training tasks' latents, each of which is met in few outer steps
    epochs: int = 5  # as MAML-RL
    clip: float = 0.3  # as MAML-RL
    divergence: float = 0.1  # Gupta et al. 2018 (code): weight of KL(latents before the step, unit Gaussian)
    discount: float = 0.99  # as MAML-RL

    def __post_init__(self) -> None:
        if self.latent < 1:
            raise ValueError(f"latent must be at least 1, not {self.latent}")
        if self.training_tasks < self.tasks_per_step:
            raise ValueError(f"training_tasks must be at least tasks_per_step={self.tasks_per_step}, not {self.training_tasks}")


class State(NamedTuple):
    """The state of the slow loop: the learner with its optimiser, and the tasks it is trained in."""

    training: Training
    tasks: AbstractTask


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAESN:
    """A policy with fresh weights and unit Gaussian latents. Raises `TypeError` unless the tasks are of the control kind."""
    none = jnp.zeros(config.latent)
    inner = actor(tasks, config.sees, config.width, config.deviation, extra=config.latent, key=key)
    player = Player(LatentActor(inner, none, none), tasks.actions, READS[config.sees], config.redraw)  # type: ignore[attr-defined]
    return MAESN(
        player=player,
        log_rates=jnp.full((2, config.latent), math.log(config.inner_learning_rate), jnp.float32),
        homes=jnp.zeros((config.training_tasks, 2, config.latent)),
        ticks=config.episodes * horizon(tasks),
        discount=config.discount,
    )


def from_unit_gaussian(latent: Float[Array, "2 latent"]) -> Float[Array, ""]:
    """KL(N(mean, spread), N(0, 1)) of independent normal numbers.

    >>> from_unit_gaussian(jnp.array([[1.0, 0.0], [0.0, 0.0]])).item()
    0.5
    """
    mean, log_spread = latent
    return jnp.sum(jnp.exp(2 * log_spread) + mean**2 - 1 - 2 * log_spread) / 2


def loss(learner: MAESN, trial: Trial, task: Int[Array, ""], clip: float, divergence: float) -> tuple[Float[Array, ""], Metrics]:
    """How badly the adapted policy does in a training task, and how far its latents were from those of a new task."""
    own = at_home(learner, task)
    away = from_unit_gaussian(learner.homes[task])
    return divergence * away - clipped_surrogate(adapted(own, trial.inner)[0], trial.last, clip), {"divergence": away}


def optimiser(config: Config) -> optax.GradientTransformation:
    """Adam, with a rate of its own for the latents of training tasks."""

    def name(weights: MAESN) -> MAESN:
        labels = jax.tree.map(lambda _: "shared", weights)
        return eqx.tree_at(lambda m: m.homes, labels, "homes")

    return optax.multi_transform(
        {"shared": clipped_adam(config.outer_learning_rate), "homes": clipped_adam(config.latent_learning_rate)}, name
    )


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train on a fixed set of training tasks, each with latents of its own."""
    optimizer = optimiser(config)
    schedule = Schedule(config.tasks_per_step, config.episodes, config.inner_steps, config.epochs)
    ticks = horizon(tasks)

    def init(key: PRNGKeyArray) -> State:
        learner_key, task_key = jr.split(key)
        new = learner(config, tasks, learner_key)
        training = Training(new, optimizer.init(eqx.filter(new, eqx.is_inexact_array)))
        return State(training, sample_tasks(tasks, task_key, "train", config.training_tasks))

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        choose_key, live_key = jr.split(key)
        which = jr.choice(choose_key, config.training_tasks, (config.tasks_per_step,), replace=False)
        chosen = jax.tree.map(lambda leaf: leaf[which], state.tasks)
        now: MAESN = state.training.learner  # type: ignore[assignment]
        trials = practise_in_all(lambda i: at_home(now, which[i]), chosen, live_key, schedule, ticks)
        judge = lambda learner, lived, key: loss(learner, lived[0], lived[1], config.clip, config.divergence)
        training, metrics = learn(state.training, (trials, which), judge, optimizer, config.epochs)
        return State(training, state.tasks), metrics | scores(trials)

    return Program(init, update, lambda state: state.training.learner)


PRESETS = {
    "smoke": Preset(
        Config(width=8, sees="everything", training_tasks=3, episodes=4, tasks_per_step=2, epochs=2),
        lambda: BernoulliBandit(arms=3),
        4,
        8,
        "it runs",
    ),
}
