"""What the claims on policy adaptation share: the return of an episode before and after each inner step, in held-out tasks."""

import numpy as np
from jaxtyping import Float

from quickstudy.algorithms.fewshot.measuring import held_out
from quickstudy.algorithms.metarl.policy_adaptation import AbstractPolicyAdapter, horizon
from quickstudy.core import AbstractTaskDistribution, Split


def returns_by_step(
    learner: AbstractPolicyAdapter, tasks: AbstractTaskDistribution, seed: int, *, n_tasks: int, steps: int = 1, split: Split = "test"
) -> Float[np.ndarray, " batches"]:
    """The mean return of an episode (of the time limit's ticks) before the first inner step and after each of `steps`."""
    curve = held_out(learner, tasks, seed, ticks=(steps + 1) * learner.ticks, n_tasks=n_tasks, split=split).curve.mean
    return horizon(tasks) * curve.reshape(steps + 1, learner.ticks).mean(axis=1)
