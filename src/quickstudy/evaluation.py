"""One evaluator for every kind of learner: the adaptation curve on held-out tasks, with its interval and reference lines."""

import abc
import dataclasses
import time
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Key, PRNGKeyArray

from quickstudy.core import (
    SPLITS,
    AbstractLearner,
    AbstractTask,
    AbstractTaskDistribution,
    Records,
    Split,
    Tick,
    lifetime,
    sample_tasks,
)
from quickstudy.failures import plain_failures


class AbstractOracle(eqx.Module):
    """A reference that is told what others must find out: it becomes a learner only when it is given its task."""

    @abc.abstractmethod
    def informed(self, task: AbstractTask) -> AbstractLearner:
        """The learner that knows this one task."""


Reference = AbstractLearner | AbstractOracle


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean score per tick over tasks with its 95 % bootstrap interval over tasks, each of shape `(ticks,)`.

    `total` is the mean of a whole life's summed score, with its interval: (mean, low, high).
    """

    mean: Float[np.ndarray, " ticks"]
    low: Float[np.ndarray, " ticks"]
    high: Float[np.ndarray, " ticks"]
    total: tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Report:
    """How a learner does on tasks of one split that were drawn with one key.

    `curve` is the adaptation curve (its first tick is the learner before any adaptation), `scores` the `(n_tasks,)` scores of the last
    tick, `references` the curves of the reference learners on the same tasks, `seconds` the wall time with compilation.
    """

    split: Split
    n_tasks: int
    ticks: int
    curve: Curve
    scores: Float[np.ndarray, " n_tasks"]
    references: Mapping[str, Curve]
    seconds: float

    def __str__(self) -> str:
        mean, low, high = (values[-1] for values in (self.curve.mean, self.curve.low, self.curve.high))
        line = f"{self.split}: {mean:.4g} [{low:.4g}, {high:.4g}] after {self.ticks} ticks, {self.n_tasks} tasks"
        others = "; ".join(f"{name} {curve.mean[-1]:.4g}" for name, curve in self.references.items())
        return f"{line} ({others})" if others else line


def bootstrap_interval(
    values: Float[np.ndarray, "n *rest"], *, confidence: float = 0.95, resamples: int = 2_000
) -> tuple[np.ndarray, np.ndarray]:
    """The percentile bootstrap interval of the mean over the first axis; NaN bounds for a single value.

    >>> low, high = bootstrap_interval(np.array([1.0, 1.0, 1.0]))
    >>> float(low), float(high)
    (1.0, 1.0)
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    # Resampling n values with replacement is a multinomial weighting of them: one matrix product gives every resampled mean.
    weights = np.random.default_rng(0).multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    tail = 50 * (1 - confidence)
    with np.errstate(invalid="ignore"):  # the interval of a learner that diverged is NaN, and that is no news
        low, high = np.percentile(np.tensordot(weights / len(values), values, axes=1), [tail, 100 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def evaluate(
    learner: AbstractLearner,
    tasks: AbstractTaskDistribution,
    *,
    split: Split = "test",
    n_tasks: int,
    steps: int,
    key: PRNGKeyArray,
    references: Mapping[str, Reference] | None = None,
    batch_size: int | None = None,
) -> Report:
    """Let a learner live `steps` ticks in each of `n_tasks` held-out tasks and report its adaptation curve.

    The references, learners or oracles, live in the same tasks. Tasks run `batch_size` at a time, by default as many as hold 100,000
    numbers, which bounds the memory. The default split is "test": training tasks are looked at only on request. Raises `ValueError`
    for an unknown split or a non-positive count, `EnvironmentFailure` if an environment on the host fails.

    >>> import jax
    >>> from quickstudy.algorithms.fewshot import maml
    >>> from quickstudy.tasks import Sinusoid
    >>> learner = maml.learner(maml.Config(), Sinusoid(), jax.random.key(0))
    >>> evaluate(learner, Sinusoid(), n_tasks=20, steps=3, key=jax.random.key(1)).curve.mean.shape
    (3,)
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    batch_size = _fitting_batch(tasks, split) if batch_size is None else batch_size
    for name, count in (("n_tasks", n_tasks), ("steps", steps), ("batch_size", batch_size)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, not {count}")
    began = time.perf_counter()

    run = lambda who: np.asarray(_scores(who, tasks, split, jr.split(key, n_tasks), steps, min(batch_size, n_tasks)))
    with plain_failures():
        scores = run(learner)
        others = {name: summarise(run(other)) for name, other in (references or {}).items()}
    return Report(split, n_tasks, steps, summarise(scores), scores[:, -1], others, time.perf_counter() - began)


def _fitting_batch(tasks: AbstractTaskDistribution, split: Split) -> int:
    shapes = jax.tree.leaves(jax.eval_shape(lambda key: tasks.sample(key, split), jr.key(0)))
    return max(1, 100_000 // sum(leaf.size for leaf in shapes))


# At module level, so that learners and tasks of one shape are compiled once for the whole process.
@eqx.filter_jit
def _scores(
    who: Reference,
    tasks: AbstractTaskDistribution,
    split: Split,
    keys: Key[jax.Array, " n_tasks"],
    steps: int,
    batch_size: int,
) -> Float[jax.Array, "n_tasks ticks"]:
    def one(task_key: PRNGKeyArray) -> Float[jax.Array, " ticks"]:
        draw_key, life_key = jr.split(task_key)
        task = tasks.sample(draw_key, split)
        learner = who.informed(task) if isinstance(who, AbstractOracle) else who
        return lifetime(learner, task, life_key, steps=steps)[1]

    # Batches of one size, the last one filled up with the first tasks: a smaller one would be compiled separately.
    n_tasks = keys.shape[0]
    batches = -(-n_tasks // batch_size)
    size = -(-n_tasks // batches)
    scores = jax.lax.map(jax.vmap(one), keys[jnp.arange(batches * size) % n_tasks].reshape(batches, size))
    return scores.reshape(batches * size, -1)[:n_tasks]


def recorded_lives(
    who: AbstractLearner,
    tasks: AbstractTaskDistribution,
    key: PRNGKeyArray,
    *,
    n: int,
    ticks: int,
    record: Callable[[AbstractTask, Tick], Records],
) -> Records:
    """What `record(task, tick)` keeps of every tick of a learner's lives in `n` test tasks: arrays `(n, ticks, ...)`.

    Lives, as tasks, depend on the key alone, so that every learner meets the same ones.
    """

    @eqx.filter_jit
    def go(who, tasks, key):
        live = lambda task, k: lifetime(who, task, k, steps=ticks, record=lambda tick: record(task, tick))[1]
        return jax.vmap(live)(sample_tasks(tasks, key, "test", n), jr.split(jr.fold_in(key, 1), n))

    return go(who, tasks, key)


def summarise(scores: Float[np.ndarray, "n_tasks ticks"]) -> Curve:
    """The mean curve of per-task curves, with its interval over tasks."""
    totals = scores.sum(axis=1)
    low, high = bootstrap_interval(totals)
    return Curve(scores.mean(axis=0), *bootstrap_interval(scores), (float(totals.mean()), float(low), float(high)))
