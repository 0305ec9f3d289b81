"""Unsupervised meta-RL: where nobody gives tasks, propose them: meta-train on rewards that tell an environment's states apart.

* Slow: a discriminator of states, from DIAYN or drawn at random, and then fixed; MAML-RL's initial policy. Fast: the adapted policy.
* One outer step: one of MAML-RL's, in tasks that the discriminator proposes. The user's reward is seen at test time only.

    r_z(s) = log D(z | s) - log p(z),      theta = MAML-RL over z ~ p(z),      then  phi = theta + alpha grad J(theta; user's task)

Source: Gupta, Eysenbach, Finn and Levine 2018, "Unsupervised Meta-Learning for Reinforcement Learning" (TRPO where we use PPO).
Builds on: DIAYN, MAML-RL. Led to: no-regret proposals, curricula of tasks that an agent makes for itself.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.metarl import maml_rl
from quickstudy.algorithms.metarl.meta_training import Training
from quickstudy.algorithms.rl import diayn
from quickstudy.algorithms.rl.actor_critic import TanhMLP
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Split
from quickstudy.evaluation import evaluate
from quickstudy.outer import Metrics, Preset, Program, shared_settings, train
from quickstudy.tasks.control import AbstractControl
from quickstudy.tasks.dark_rooms import DarkRoom
from quickstudy.tasks.point_navigation import HalfCircle


@dataclasses.dataclass(frozen=True)
class Config:
    """Where tasks come from, and the settings of MAML-RL, which are its own where no other source is named."""

    discriminator: Literal["diayn", "random"] = "diayn"  # Gupta et al. 2018: both
    skills: int = 8  # ours: as in `diayn`
    lives: int = 64  # ours: as in `diayn`
    diayn_steps: int = 300  # ours: outer steps of DIAYN, until most skills are guessed
    width: int = 64  # ours: two layers of 64 in all networks
    inner_learning_rate: float = 0.3  # ours: three times that of Finn et al. 2017, since gains are standardised
    episodes: int = 20  # Finn et al. 2017
    tasks_per_step: int = 20  # Finn et al. 2017
    epochs: int = 5  # Rothfuss et al. 2018
    outer_learning_rate: float = 0.001  # Rothfuss et al. 2018: Adam


class State(NamedTuple):
    """The state of the slow loop: the discriminator that proposes the tasks, and MAML-RL's."""

    discriminator: TanhMLP
    training: Training


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> maml_rl.MAMLRL:
    """MAML-RL's learner. Raises `TypeError` unless the tasks are of the control kind."""
    return maml_rl.learner(shared_settings(maml_rl.Config, config), tasks, key)


def propose(config: Config, tasks: AbstractControl, key: PRNGKeyArray) -> TanhMLP:
    """A discriminator: trained by DIAYN in the worlds of the training tasks, or as it was drawn."""
    if config.discriminator == "random":
        return diayn.new_discriminator(shared_settings(diayn.Config, config), tasks, key=key)
    skills = diayn.program(shared_settings(diayn.Config, config), tasks)
    arrays, rest = eqx.partition(skills.init(key), eqx.is_array)

    def update(arrays: diayn.State, step: Array) -> tuple[diayn.State, None]:
        after, _ = skills.update(eqx.combine(arrays, rest), jr.fold_in(key, step))
        return eqx.filter(after, eqx.is_array), None

    arrays, _ = jax.lax.scan(update, arrays, jnp.arange(config.diayn_steps))
    return eqx.combine(arrays, rest).discriminator


def program(config: Config, tasks: AbstractControl) -> Program:
    """Propose tasks at the start, in the worlds of the training tasks, whose rewards are never looked at; then meta-train on them."""
    practise = lambda discriminator: maml_rl.program(
        shared_settings(maml_rl.Config, config), diayn.Proposals(tasks, discriminator, config.skills, False)
    )

    def init(key: PRNGKeyArray) -> State:
        propose_key, learner_key = jr.split(key)
        discriminator = propose(config, tasks, propose_key)
        return State(discriminator, practise(discriminator).init(learner_key))

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        training, metrics = practise(state.discriminator).update(state.training, key)
        return state._replace(training=training), metrics

    return Program(init, update, lambda state: state.training.learner)


_SMALL = Config(diayn_steps=4, skills=3, lives=4, width=8, episodes=2, tasks_per_step=2, epochs=2)
PRESETS = {
    "point": Preset(
        Config(), lambda: HalfCircle(sparse=False), 300, 1_600, "above a fresh policy after three steps: -0.34 a tick to -0.52"
    ),
    "dark-room": Preset(Config(), lambda: DarkRoom(size=5), 300, 1_600, "below a fresh policy, which it should beat"),
    "smoke": Preset(_SMALL, lambda: HalfCircle(horizon=4), 4, 8, "it runs"),
}


# --- Claims -------------------------------------------------------------------------------------------------------------------------

RATES = (0.1, 0.3, 1.0, 3.0)  # inner rates that are tried for every arm, on validation tasks
INNER_STEPS = 3


def adaptation(
    who: maml_rl.MAMLRL, tasks: AbstractControl, key: PRNGKeyArray, n_tasks: int, split: Split
) -> Float[np.ndarray, " batches"]:
    """The mean reward of a tick before the first inner step and after each."""
    report = evaluate(who, tasks, split=split, n_tasks=n_tasks, steps=(INNER_STEPS + 1) * who.ticks, key=key)
    return report.curve.mean.reshape(INNER_STEPS + 1, who.ticks).mean(axis=1)


def tuned(who: AbstractLearner, tasks: AbstractControl, key: PRNGKeyArray, n_tasks: int) -> maml_rl.MAMLRL:
    """The learner with the inner rate that is best on validation tasks after the last step."""
    rivals = [eqx.tree_at(lambda learner: learner.inner_learning_rate, who, jnp.asarray(rate)) for rate in RATES]
    return max(rivals, key=lambda rival: adaptation(rival, tasks, key, n_tasks, "valid")[-1])


def measure(scale: Scale, seed: int) -> Measurements:
    """Adaptation to the user's rewards in two families of worlds: meta-trained on proposals of either kind, or fresh."""
    measured: dict[str, float] = {}
    for family in ("point",) if scale == "smoke" else ("point", "dark-room"):
        preset = PRESETS[family]
        tasks: Any = preset.tasks()
        config = _SMALL if scale == "smoke" else preset.config
        steps = {"smoke": 4, "laptop": preset.steps, "full": 10 * preset.steps}[scale]
        arms: dict[str, AbstractLearner] = {"scratch": learner(config, tasks, jr.fold_in(jr.key(seed), 2))}
        # Each source compiles a program of its own, which is too much for the tests.
        for source in ("diayn",) if scale == "smoke" else ("diayn", "random"):
            arms[source] = train(program(dataclasses.replace(config, discriminator=source), tasks), steps=steps, seed=seed)
        for name, who in arms.items():
            measured |= {f"{family}, {name}, {what}": value for what, value in _adapting(who, tasks, scale, seed).items()}
    if scale == "smoke":  # two programs to compile are enough for a test
        measured |= {name.replace("point", "dark-room"): value for name, value in measured.items()}
    return measured


def _adapting(who: AbstractLearner, tasks: AbstractControl, scale: Scale, seed: int) -> dict[str, float]:
    """The curve of one arm on test tasks, with the inner rate that is best for it."""
    tune_key, test_key = jr.split(jr.fold_in(jr.key(seed), 1))
    n_tasks = {"smoke": 10, "laptop": 200, "full": 1_000}[scale]
    best = tuned(who, tasks, tune_key, n_tasks)
    curve = adaptation(best, tasks, test_key, n_tasks, "test")
    return {f"step {step}": float(value) for step, value in enumerate(curve)} | {"tuned rate": float(best.inner_learning_rate)}


CLAIMS = (
    Claim(
        id="unsup-meta-rl",
        statement="Meta-trained on tasks that DIAYN proposes, a policy adapts faster to the user's reward than a fresh one.",
        source="Gupta et al. 2018, figure 3",
        reported="figures only: DIAYN proposals help in navigation and with two bodies, random ones in two of the three",
        not_answered="bodies with legs, and worlds where few of the states that can be told apart matter.",
        measure=measure,
        expected=(
            Expectation("point, diayn, step 1", ">", "point, scratch, step 1"),
            Expectation(f"point, diayn, step {INNER_STEPS}", ">", f"point, scratch, step {INNER_STEPS}"),
            Expectation(f"dark-room, diayn, step {INNER_STEPS}", ">", f"dark-room, scratch, step {INNER_STEPS}"),
        ),
    ),
)
