"""What the claims of this folder share: what a learner earns in held-out tasks, before and after it adapts, and apart from luck."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.measuring import held_out
from quickstudy.algorithms.metarl.policy_adaptation import AbstractPolicyAdapter, horizon
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Split, Tick, lifetime
from quickstudy.evaluation import AbstractOracle, Reference

_AT_ONCE = 1_000  # ours: tasks side by side, which bounds the memory


# At module level, so that learners of one shape are compiled once for all repeats.
@eqx.filter_jit
def expected_reward(
    who: Reference,
    tasks: AbstractTaskDistribution,
    pays: Callable[[Any, Tick], Float[Array, ""]],
    key: PRNGKeyArray,
    ticks: int,
    n_tasks: int,
) -> Float[Array, ""]:
    """What a life's actions pay on average, over `n_tasks` test tasks that depend on the key only.

    `pays(task, tick)` is the mean reward of the tick's action: it tells strategies apart with less luck than the reward that came.
    """

    def one(key: PRNGKeyArray) -> Float[Array, ""]:
        task_key, life_key = jr.split(key)
        task = tasks.sample(task_key, "test")
        learner: AbstractLearner = who.informed(task) if isinstance(who, AbstractOracle) else who
        return jnp.sum(lifetime(learner, task, life_key, steps=ticks, record=lambda tick: pays(task, tick))[1])

    return jnp.mean(jax.lax.map(one, jr.split(key, n_tasks), batch_size=min(n_tasks, _AT_ONCE)))


def returns_by_step(
    learner: AbstractPolicyAdapter, tasks: AbstractTaskDistribution, seed: int, *, n_tasks: int, steps: int = 1, split: Split = "test"
) -> Float[np.ndarray, " batches"]:
    """The mean return of an episode (of the time limit's ticks) before the first inner step and after each of `steps`."""
    curve = held_out(learner, tasks, seed, ticks=(steps + 1) * learner.ticks, n_tasks=n_tasks, split=split).curve.mean
    return horizon(tasks) * curve.reshape(steps + 1, learner.ticks).mean(axis=1)
