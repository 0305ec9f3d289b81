"""ProMP: MAML-RL with less variance in the inner step's derivative, and outer steps that stay near the policies that acted.

* Slow: the initial policy's weights theta. Fast: the adapted weights phi, and the episodes since the last inner step.
* One outer step: as MAML-RL's; the derivative of the inner step takes each tick's credit from its own action only, and a penalty
  keeps the new initial policy near the one that drew the inner episodes, since they are used for several gradient steps.

With r_t the ratio of theta's probability of action t to that with which it was drawn:

    phi = theta + alpha grad J(theta),   J(theta) = mean over t of r_t gain_t,   maximise  J_clip(phi) - weight KL(pi_old, pi_theta)

The second derivative of J has a small bias, which vanishes where actions do not change what later ones are worth, and much less
variance than that of the products of ratios.

Source: Rothfuss, Lee, Clavera, Asfour and Abbeel 2018, "ProMP: Proximal Meta-Policy Search".
Builds on: MAML-RL, PPO. Led to: a common on-policy baseline of meta-reinforcement-learning.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl import maml_rl
from quickstudy.algorithms.metarl.maml_rl import MAMLRL
from quickstudy.algorithms.metarl.measuring import returns_by_step
from quickstudy.algorithms.metarl.meta_training import Trial, adapted, clipped_adam, meta_train
from quickstudy.algorithms.metarl.policy_adaptation import Sees, clipped_surrogate
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTaskDistribution
from quickstudy.outer import Metrics, Preset, Program, shared_settings, train
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.point_navigation import HalfCircle, PointGoals


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the paper's navigation and locomotion, with MAML-RL's number of tasks."""

    width: int = 64  # Rothfuss et al. 2018: two layers of 64
    deviation: float = 1.0  # Rothfuss et al. 2018 (code): the initial standard deviation of actions
    sees: Sees = "observation"  # Rothfuss et al. 2018; everything: the last action, reward and end too
    inner_learning_rate: float = 0.1  # Rothfuss et al. 2018
    inner_steps: int = 1  # Rothfuss et al. 2018
    episodes: int = 20  # Rothfuss et al. 2018: trajectories before and after the step
    tasks_per_step: int = 20  # Finn et al. 2017; Rothfuss et al. 2018: 40
    outer_learning_rate: float = 0.001  # Rothfuss et al. 2018: Adam
    epochs: int = 5  # Rothfuss et al. 2018
    clip: float = 0.3  # Rothfuss et al. 2018
    divergence: float = 0.0005  # Rothfuss et al. 2018: weight of KL(old, new) of the policies before each inner step
    discount: float = 0.99  # Rothfuss et al. 2018

    def __post_init__(self) -> None:
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps must be at least 1, not {self.inner_steps}")


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAMLRL:
    """A policy with fresh weights. Raises `TypeError` unless the tasks are of the control kind."""
    return dataclasses.replace(maml_rl.learner(common(config), tasks, key), credit="low-variance")


def common(config: Config) -> maml_rl.Config:
    """The settings that are MAML-RL's too."""
    return shared_settings(maml_rl.Config, config)


def loss(learner: MAMLRL, trial: Trial, clip: float, divergence: float) -> tuple[Float[Array, ""], Metrics]:
    """How badly the adapted policy does in one task, and how far the policies before each inner step are from those that acted."""
    after, before = adapted(learner, trial.inner)
    lived = trial.inner.episodes
    policies = jax.vmap(lambda actor, seen, plans: jax.vmap(actor)(seen, plans))(before, lived.seen, lived.plans.numbers)
    moved = jnp.mean(lived.policies.divergence(policies))
    return divergence * moved - clipped_surrogate(after, trial.last, clip), {"divergence": moved}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train through the low-variance derivative."""
    return meta_train(
        tasks,
        lambda learner, trial, key: loss(learner, trial, config.clip, config.divergence),
        clipped_adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        schedule=maml_rl.schedule(common(config)),
    )


_SMALL = Config(width=8, sees="everything", episodes=4, tasks_per_step=2, epochs=2)
PRESETS = {
    "goals": Preset(Config(), lambda: PointGoals(horizon=20), 150, 800, "about -3 an episode after one step, -8 before, 20 s"),
    "smoke": Preset(_SMALL, lambda: BernoulliBandit(arms=3), 4, 8, "it runs"),
}


# --- Claims -------------------------------------------------------------------------------------------------------------------------

FAMILIES = {"goals": lambda: PointGoals(horizon=20), "half circle": lambda: HalfCircle(sparse=False)}


def measure_samples(scale: Scale, seed: int) -> Measurements:
    """The return after one step, of ProMP and of MAML-RL with either of its credits, meta-trained on as many ticks.

    A smoke test, which only looks whether it runs, trains ProMP only.
    """
    steps, n_tasks = {"smoke": (2, 4), "laptop": (50, 200), "full": (500, 1_000)}[scale]
    config = _SMALL if scale == "smoke" else Config()
    measured: dict[str, float] = {}
    for family, make in FAMILIES.items():
        tasks = make()
        uncredited = dataclasses.replace(common(config), credit="none")
        arms = {"ProMP": program(config, tasks)}
        if scale != "smoke":
            arms |= {"MAML-RL": maml_rl.program(common(config), tasks), "MAML-RL, no credit": maml_rl.program(uncredited, tasks)}
        returns = {
            name: returns_by_step(train(arm, steps=steps, seed=seed), tasks, seed, n_tasks=n_tasks)  # type: ignore[arg-type]
            for name, arm in arms.items()
        }
        for name, (before, after) in ({"MAML-RL": returns["ProMP"]} | returns).items():
            measured |= {f"{family}: {name}, no step": float(before), f"{family}: {name}": float(after)}
    return measured


CLAIMS = (
    Claim(
        id="promp",
        statement="Meta-trained on as many ticks, with the same outer steps, ProMP earns more after one inner step than MAML-RL does.",
        source="Rothfuss et al. 2018, section 7.1 and figure 2",
        reported="figures only: above MAML with TRPO, in locomotion and in 2-D goals",
        not_answered="locomotion, episodes of hundreds of ticks, and MAML with TRPO.",
        measure=measure_samples,
        expected=tuple(Expectation(f"{family}: ProMP", ">", f"{family}: MAML-RL") for family in FAMILIES),
    ),
)
