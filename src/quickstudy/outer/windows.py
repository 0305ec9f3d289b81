"""Slow loops over windows of long lives: truncated back-propagation and evolution strategies."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Key, PRNGKeyArray, PyTree

from quickstudy.core import (
    AbstractLearner,
    AbstractTask,
    AbstractTaskDistribution,
    Life,
    Records,
    Tick,
    birth,
    live,
    sample_tasks,
    score,
)
from quickstudy.outer.program import Metrics, Program, apply_gradient
from quickstudy.strategies.base import Strategy

Keys = Key[Array, " n"]


class Window(NamedTuple):
    """The state of a slow loop over windows of long lives: `slow` is its own state, lives and their tasks are stacked."""

    slow: Any
    lives: Life
    tasks: AbstractTask


def begin_lives(learners: AbstractLearner, tasks: AbstractTask, keys: Keys, axis: int | None) -> Life:
    """Begin a life in every task: one shared learner (`axis` None) or one learner per task (`axis` 0)."""
    return eqx.filter_vmap(birth, in_axes=(eqx.if_array(0) if axis == 0 else None, eqx.if_array(0), 0))(learners, tasks, keys)


def live_window(
    learners: AbstractLearner,
    window: Window,
    keys: Keys,
    unroll: int,
    axis: int | None,
    record: Callable[[Tick], Records] = score,
) -> tuple[Life, Records]:
    """Live `unroll` more ticks in every task; returns the lives and their records, by default scores `(lives, unroll)`."""
    go = lambda learner, task, life, k: live(learner, task, life, k, steps=unroll, record=record)
    each = eqx.if_array(0)
    return eqx.filter_vmap(go, in_axes=(each if axis == 0 else None, each, each, 0))(learners, window.tasks, window.lives, keys)


def choose(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    """Choose whole entries along the first axis of two stacked trees."""
    pick = lambda a, b: jnp.where(condition.reshape((-1,) + (1,) * (a.ndim - 1)), a, b) if eqx.is_array(a) else a
    return jax.tree.map(pick, new, old)


def _require_window(unroll: int, horizon: int) -> None:
    if unroll < 1 or horizon % unroll:
        raise ValueError(f"horizon must be a multiple of unroll, not horizon={horizon} with unroll={unroll}")


def truncate(
    tasks: AbstractTaskDistribution,
    optimizer: optax.GradientTransformation,
    *,
    learner: Callable[[PRNGKeyArray], AbstractLearner],
    tasks_per_step: int,
    unroll: int,
    horizon: int,
) -> Program:
    """Truncated back-propagation: lives of `horizon` ticks, an outer step after every `unroll` of them.

    The loss is minus the mean score of the window; no gradient flows into earlier windows. Ended lives begin again in new tasks.
    Raises `ValueError` unless `unroll` divides `horizon`.
    """
    _require_window(unroll, horizon)

    def init(key: PRNGKeyArray) -> Window:
        learner_key, task_key, life_key = jr.split(key, 3)
        new = learner(learner_key)
        drawn = sample_tasks(tasks, task_key, "train", tasks_per_step)
        lives = begin_lives(new, drawn, jr.split(life_key, tasks_per_step), None)
        return Window((new, optimizer.init(eqx.filter(new, eqx.is_inexact_array))), lives, drawn)

    def update(window: Window, key: PRNGKeyArray) -> tuple[Window, Metrics]:
        task_key, life_key, live_key = (jr.split(k, tasks_per_step) for k in jr.split(key, 3))
        current, optimizer_state = window.slow
        ended = window.lives.tick >= horizon
        drawn = choose(ended, jax.vmap(lambda k: tasks.sample(k, "train"))(task_key), window.tasks)
        lives = jax.lax.stop_gradient(choose(ended, begin_lives(current, drawn, life_key, None), window.lives))

        def loss(current):
            after, scores = live_window(current, Window(None, lives, drawn), live_key, unroll, None)
            return -jnp.mean(scores), (after, scores)

        (value, (after, scores)), gradient = eqx.filter_value_and_grad(loss, has_aux=True)(current)
        slow = apply_gradient(optimizer, gradient, optimizer_state, current)
        return Window(slow, after, drawn), {"loss": value, "score": jnp.mean(scores)}

    return Program(init, update, lambda window: window.slow[0])


def evolve(
    tasks: AbstractTaskDistribution,
    strategy: Strategy,
    *,
    learner: Callable[[PRNGKeyArray], AbstractLearner],
    unroll: int,
    horizon: int,
) -> Program:
    """Improve slow weights by evolution strategies, without differentiating a lifetime.

    Each of the strategy's antithetic pairs lives in a task of its own, with the same randomness for both members; `unroll` ticks are
    lived per outer step. With `unroll == horizon` every outer step judges whole lives; with shorter windows use a persistent
    strategy, whose estimate stays unbiased for the whole life. Raises `ValueError` unless `unroll` divides `horizon`.
    """
    _require_window(unroll, horizon)

    def draw(key: PRNGKeyArray) -> AbstractTask:
        return _paired(sample_tasks(tasks, key, "train", strategy.pairs))

    def begin(members: AbstractLearner, drawn: AbstractTask, key: PRNGKeyArray) -> Life:
        return begin_lives(members, drawn, _paired_keys(key, strategy.pairs), 0)

    def init(key: PRNGKeyArray) -> Window:
        learner_key, task_key, life_key = jr.split(key, 3)
        new = learner(learner_key)
        mean, rest = eqx.partition(new, eqx.is_inexact_array)
        drawn, members = draw(task_key), jax.tree.map(lambda leaf: jnp.stack([leaf] * 2 * strategy.pairs), mean)
        return Window((new, strategy.init(mean)), begin(eqx.combine(members, rest), drawn, life_key), drawn)

    def update(window: Window, key: PRNGKeyArray) -> tuple[Window, Metrics]:
        task_key, life_key, live_key, ask_key = jr.split(key, 4)
        current, state = window.slow
        mean, rest = eqx.partition(current, eqx.is_inexact_array)
        ended = window.lives.tick >= horizon
        state, perturbed = strategy.ask(state, mean, ask_key, ended[: strategy.pairs])
        members = eqx.combine(perturbed, rest)
        drawn = choose(ended, draw(task_key), window.tasks)
        lives = choose(ended, begin(members, drawn, life_key), window.lives)
        after, scores = live_window(members, Window(None, lives, drawn), _paired_keys(live_key, strategy.pairs), unroll, 0)
        state, mean = strategy.tell(state, mean, -jnp.mean(scores, axis=1))
        metrics = {"loss": -jnp.mean(scores), "score": jnp.mean(scores)}
        return Window((eqx.combine(mean, rest), state), after, drawn), metrics

    return Program(init, update, lambda window: window.slow[0])


def _paired(tree: PyTree) -> PyTree:
    """Repeat stacked entries, so that both members of antithetic pair `i` (entries `i` and `i + pairs`) get the same."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), tree)


def _paired_keys(key: PRNGKeyArray, pairs: int) -> Keys:
    return _paired(jr.split(key, pairs))
