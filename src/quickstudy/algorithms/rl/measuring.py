"""What the claims of this folder share: train agents that differ in settings, and add up episodes' returns."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTaskDistribution, End, Number, Split
from quickstudy.outer import Metrics, Program
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Actions, ControlView, Discrete

Judge = Callable[[AbstractLearner, AbstractTaskDistribution, PRNGKeyArray], Any]


def nothing(*_: Any) -> None:
    """Judge nothing: the metrics of training say enough."""
    return None


class OneTask(AbstractControl):
    """Always the same environment: to train and to test on it is the same problem."""

    task: AbstractEnvironment

    @property
    def actions(self) -> Actions:
        return self.task.actions

    def sample(self, key: PRNGKeyArray, split: Split) -> AbstractEnvironment:
        return self.task


def train(
    program: Callable[[Any, AbstractTaskDistribution], Program],
    config: Any,
    tasks: AbstractTaskDistribution,
    key: PRNGKeyArray,
    *,
    steps: int,
    judge: Judge = nothing,
    settings: Mapping[str, float | bool] | None = None,
) -> tuple[Metrics, Any]:
    """Train one agent; returns the metrics of every outer step, and what `judge(learner, tasks, key)` says of the agent.

    `settings` replace numbers and switches of `config`: runs that differ in these only are compiled once.
    """
    changes = {name: jnp.asarray(value) for name, value in (settings or {}).items()}
    return _train(program, config, tasks, changes, key, steps, judge)


# At module level, so that what was compiled is kept for all repeats.
@eqx.filter_jit
def _train(
    program: Callable[[Any, AbstractTaskDistribution], Program],
    config: Any,
    tasks: AbstractTaskDistribution,
    changes: Mapping[str, Array],
    key: PRNGKeyArray,
    steps: int,
    judge: Judge,
) -> tuple[Metrics, Any]:
    init_key, update_key, judge_key = jr.split(key, 3)
    slow = program(dataclasses.replace(config, **changes), tasks)
    arrays, rest = eqx.partition(slow.init(init_key), eqx.is_array)

    def step(arrays: Any, k: PRNGKeyArray) -> tuple[Any, Metrics]:
        after, metrics = slow.update(eqx.combine(arrays, rest), k)
        return eqx.filter(after, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(step, arrays, jr.split(update_key, steps))
    return metrics, judge(slow.learner(eqx.combine(arrays, rest)), tasks, judge_key)


def in_first_episode(ends: Int[Array, " ticks"]) -> Bool[Array, " ticks"]:
    """Which ticks of a life belong to its first episode.

    >>> in_first_episode(jnp.array([End.RUNNING, End.TERMINATED, End.RUNNING])).tolist()
    [True, True, False]
    """
    ended = (ends != End.RUNNING).astype(jnp.int32)
    return jnp.cumsum(ended) - ended == 0


class Pushed(AbstractLearner):
    """A learner whose action is a random one with some chance, as if something pushed it."""

    learner: AbstractLearner
    chance: Number
    actions: Discrete = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Any:
        return self.learner.begin(view, key)

    def respond(self, fast: Any, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        chance_key, push_key, own_key = jr.split(key, 3)
        push = jr.randint(push_key, (), 0, self.actions.n, dtype=jnp.int32)
        return jnp.where(jr.uniform(chance_key) < self.chance, push, self.learner.respond(fast, view, own_key))

    def observe(self, fast: Any, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> Any:
        return self.learner.observe(fast, view, response, feedback, key)


def mean_return(metrics: Metrics, ticks: int, last: float = 1.0) -> float:
    """The mean return of an episode over the `last` share of training, from the metrics of windows of so many ticks.

    Over all of it, it favours fast learning, as in Schulman et al. 2017, "Proximal Policy Optimization Algorithms", section 6.4.
    """
    scores, episodes = (np.asarray(metrics[name])[-max(round(last * len(metrics[name])), 1) :] for name in ("score", "episodes"))
    return float(ticks * scores.sum() / max(episodes.sum(), 1.0))
