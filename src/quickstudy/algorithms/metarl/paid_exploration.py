"""Who is paid for exploring? E-MAML against MAML-RL, and E-RL^2 against RL^2, where finding out costs more than it brings at once.

Slow and fast are those of each method. A life has two halves, exploration and what comes after, and what is measured is what an agent
earns in the second half. An unknown arm is expected to pay -1 a pull, a sure one nothing; only who takes the unknown arm in the first
half can know in which tasks to take it in the second.

* MAML-RL is blind to the first half: its derivative takes the exploring batch for given. E-MAML credits the batch with what followed.
* RL^2 is charged for the first half, and its life is so short that even the optimal player never takes the unknown arm. E-RL^2 is not.

Both pairs differ in one number: E-MAML's weight of the exploring part, and E-RL^2's number of ticks without pay.

Source: Stadie et al. 2018, "Some Considerations on Learning to Explore via Meta-Reinforcement Learning"; the task: Lange and Sprekeler
2020, "Learning not to Learn: Nature versus Nurture in Silico".
Builds on: E-MAML, E-RL^2.
"""

import dataclasses
from statistics import NormalDist

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from quickstudy.algorithms.metarl import emaml, erl2
from quickstudy.algorithms.metarl.maml_rl import MAMLRL, schedule
from quickstudy.algorithms.metarl.meta_training import practise
from quickstudy.algorithms.references.unknown_arm import solve_unknown_arm
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, lifetime
from quickstudy.outer import train
from quickstudy.tasks.unknown_arm import EXPECTED, SureAndUnknownArm, UnknownArm

PULLS = 6  # ours: of RL^2's life; so few that exploring does not pay for itself, so many that it tells something
TASKS = UnknownArm(spread=1.25)  # ours: from a spread of 1.59 on, exploring would pay for itself in six pulls

# The unknown arm has no observation, and a policy without memory needs an input. The rate is such that 20 pulls can turn a policy.
_EMAML = emaml.Config(width=16, sees="everything", inner_learning_rate=10.0, tasks_per_step=100, outer_learning_rate=0.003)
_ERL2 = erl2.Config(width=32, lives=512, ticks=PULLS, exploration=PULLS // 2)


def halves(task: SureAndUnknownArm, first: Array, second: Array) -> Array:
    """How often the unknown arm was taken in the first half, and what a pull of the second half was worth."""
    return jnp.stack([jnp.mean(first.astype(jnp.float32)), jnp.mean(task.worth()[second])])


@eqx.filter_jit
def adapting(learner: MAMLRL, config: emaml.Config, key: PRNGKeyArray, n_tasks: int) -> Array:
    """The `halves` of a batch before and a batch after the inner step, lived as in training, over held-out tasks."""

    def one(key: PRNGKeyArray) -> Array:
        task_key, life_key = jr.split(key)
        task = TASKS.sample(task_key, "test")
        trial = practise(learner, task, life_key, schedule(emaml.common(config)), 1)
        return halves(task, trial.inner.episodes.responses, trial.last.episodes.responses)

    return jnp.mean(jax.vmap(one)(jr.split(key, n_tasks)), axis=0)


@eqx.filter_jit
def remembering(learner: AbstractLearner, key: PRNGKeyArray, n_tasks: int) -> Array:
    """The `halves` of a life, over held-out tasks."""

    def one(key: PRNGKeyArray) -> Array:
        task_key, life_key = jr.split(key)
        task = TASKS.sample(task_key, "test")
        arms = lifetime(learner, task, life_key, steps=PULLS, record=lambda tick: tick.response)[1]
        return halves(task, *jnp.split(arms, 2))

    return jnp.mean(jax.vmap(one)(jr.split(key, n_tasks)), axis=0)


def informed(spread: float) -> float:
    """What a pull is worth to who knows the unknown arm's mean: the expected larger one of that mean and nothing."""
    normal = NormalDist()
    return EXPECTED * normal.cdf(EXPECTED / spread) + spread * normal.pdf(EXPECTED / spread)


def measure_exploring(scale: Scale, seed: int) -> Measurements:
    """How often each agent takes the unknown arm while it explores, and what a pull of its second half is worth.

    Beside them who knows the arm, and what a whole life of RL^2's is worth to the optimal player: nothing, or exploring would pay.
    A smoke test, which only looks whether it runs, trains nothing.
    """
    steps, n_tasks = {"smoke": (0, 20), "laptop": (200, 5_000), "full": (2_000, 20_000)}[scale]
    key = jr.fold_in(jr.key(seed), 1)
    found = {}
    for name, weight in (("E-MAML", _EMAML.exploration), ("MAML-RL", 0.0)):
        adapter = dataclasses.replace(_EMAML, exploration=weight)
        fresh = emaml.learner(adapter, TASKS, jr.key(seed))
        agent = train(emaml.program(adapter, TASKS), steps=steps // 2, seed=seed) if steps else fresh
        found[name] = adapting(agent, _EMAML, key, n_tasks)  # type: ignore[arg-type]
    for name, unpaid in (("E-RL^2", _ERL2.exploration), ("RL^2", 0)):
        recurrent = dataclasses.replace(_ERL2, exploration=unpaid, anneal=steps)
        untrained = erl2.learner(recurrent, TASKS, jr.key(seed))
        found[name] = remembering(train(erl2.program(recurrent, TASKS), steps=steps, seed=seed) if steps else untrained, key, n_tasks)
    spread, deviation = float(TASKS.spread), float(TASKS.deviation)
    measured = {"oracle, earns later": informed(spread), "optimal RL^2, earns": solve_unknown_arm(spread, deviation, PULLS)[1]}
    for name, (explores, earns) in found.items():
        measured |= {f"{name}, explores": float(explores), f"{name}, earns later": float(earns)}
    return measured


CLAIMS = (
    Claim(
        id="emaml-erl2",
        statement=(
            "Agents that are credited for how exploring serves what comes after (E-MAML), or not charged for it (E-RL^2), explore "
            "more and then earn more than MAML-RL without that credit and RL^2."
        ),
        source="Stadie et al. 2018, sections 4 and 5",
        reported="figures only: above MAML and RL^2 after exploring in Krazy World and mazes, and more tiles and keys seen",
        not_answered="Krazy World and mazes, where exploring has an order, and whether other credits for sampling (DiCE) do as well.",
        measure=measure_exploring,
        expected=tuple(
            Expectation(f"{ours}, {what}", ">", f"{theirs}, {what}")
            for ours, theirs in (("E-MAML", "MAML-RL"), ("E-RL^2", "RL^2"))
            for what in ("earns later", "explores")
        ),
    ),
)
