"""What the claims of this folder share: train one arm, then score it on held-out tasks."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, Split, sample_tasks
from quickstudy.evaluation import Report, evaluate
from quickstudy.outer import Program
from quickstudy.outer.program import compile_lightly

_TEST = 1  # the purpose folded into a repeat's seed for its test tasks; training uses purposes of its own


def held_out(
    learner: AbstractLearner, tasks: AbstractTaskDistribution, seed: int, *, ticks: int, n_tasks: int, split: Split = "test"
) -> Report:
    """Evaluate on held-out tasks that depend on the repeat's seed only, so that every arm meets the same ones."""
    return evaluate(learner, tasks, split=split, n_tasks=n_tasks, steps=ticks, key=jr.fold_in(jr.key(seed), _TEST))


def held_out_tasks(tasks: AbstractTaskDistribution, seed: int, n: int, split: Split = "test") -> AbstractTask:
    """`n` held-out tasks, stacked, that depend on the repeat's seed only: where drawing is slow to compile, once for all arms."""
    draw = compile_lightly(lambda tasks, key: sample_tasks(tasks, key, split, n), once=True)
    return draw(tasks, jr.fold_in(jr.key(seed), _TEST))


def errors(
    learner: AbstractLearner, tasks: AbstractTaskDistribution, seed: int, *, steps: int, split: Split = "test", n_tasks: int = 1_000
) -> np.ndarray:
    """The mean squared error over held-out regression tasks before and after each of `steps` inner steps, shape `(steps + 1,)`."""
    return -held_out(learner, tasks, seed, ticks=steps + 1, n_tasks=n_tasks, split=split).curve.mean


def lowest_error(curves: dict[float, np.ndarray], step: int) -> float:
    """The hyper-parameter whose curve is lowest after `step` inner steps; divergence counts as infinite."""
    return min(curves, key=lambda value: np.nan_to_num(curves[value][step], nan=np.inf))


def update_memory(program: Program) -> int:
    """Bytes of temporary memory that the compiler plans for one outer step."""
    state = eqx.filter_eval_shape(program.init, jr.key(0))  # nothing is run, so it may be more than there is memory for
    arrays, rest = eqx.partition(state, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

    def update(arrays, key):
        return eqx.filter(program.update(eqx.combine(arrays, rest), key), eqx.is_array)

    return int(jax.jit(update).lower(arrays, jr.key(0)).compile().memory_analysis().temp_size_in_bytes)  # type: ignore
