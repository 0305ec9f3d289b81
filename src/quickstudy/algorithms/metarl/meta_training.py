"""The outer loop of the methods that adapt a policy by policy gradients: practise in new tasks, then learn from what was lived there.

In training the episodes of a batch are lived side by side, in a life of a task one after another; what is learned from is the same.

Source: Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", algorithm 3; several gradient steps on
one batch of trials: Rothfuss et al. 2018, "ProMP: Proximal Meta-Policy Search", algorithm 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from quickstudy.algorithms.metarl.policy_adaptation import (
    AbstractActor,
    AbstractPolicyAdapter,
    Episodes,
    Lesson,
    Player,
    episode_tick,
    horizon,
    lesson,
    with_actor,
)
from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Tick, lifetime, sample_tasks
from quickstudy.outer import Loss, Metrics, Program, apply_gradient, mean_over_tasks


class Schedule(NamedTuple):
    """What one outer step lives and learns.

    In each of `tasks` tasks it lives a batch of `episodes` episodes before every one of `inner_steps` steps and after the last, and
    then takes `epochs` gradient steps.
    """

    tasks: int
    episodes: int
    inner_steps: int
    epochs: int


class Trial(NamedTuple):
    """One life in training, as lessons: those of the inner steps, `(inner_steps, ticks, ...)`, and that after the last of them.

    The rewards of `last` are the task's scores.
    `surplus` is by how much a tick after the last step brought more than in the other tasks of the outer step. The surplus and the
    gains of `last` are in one unit for all tasks, so that what counts is the mean return.
    """

    inner: Lesson
    last: Lesson
    surplus: Float[Array, "..."]


class Training(NamedTuple):
    """The state of the slow loop."""

    learner: AbstractPolicyAdapter
    optimizer: optax.OptState


def clipped_adam(learning_rate: float) -> optax.GradientTransformation:
    """Adam on gradients no longer than 0.5: at the ends of the batch's epochs single ratios can be large."""
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(learning_rate))


def collect(
    player: Player, task: AbstractTask, key: PRNGKeyArray, episodes: int, horizon: int
) -> tuple[Episodes, Float[Array, " ticks"]]:
    """A batch lived side by side: `episodes` lives of `horizon` ticks in one task, put one after another; and its scores."""

    def record(tick: Tick) -> tuple[Episodes, Float[Array, ""]]:
        return episode_tick(player, tick.fast, tick.view, tick.response, tick.feedback), tick.score

    lived, gained = jax.vmap(lambda k: lifetime(player, task, k, steps=horizon, record=record)[1])(jr.split(key, episodes))
    lived = lived._replace(ends=lived.ends.at[:, -1].set(jnp.maximum(lived.ends[:, -1], int(End.TRUNCATED))))
    return jax.tree.map(lambda leaf: leaf.reshape(episodes * horizon, *leaf.shape[2:]), (lived, gained))


def practise(learner: AbstractPolicyAdapter, task: AbstractTask, key: PRNGKeyArray, schedule: Schedule, horizon: int) -> Trial:
    """Live one task in batches, with an inner step between any two.

    Inner steps learn from the rewards, which a learner sees; what is lived after them is judged by its scores.
    """

    def stage(player: Player, now: tuple[PRNGKeyArray, Bool[Array, ""]]) -> tuple[Player, Lesson]:
        k, is_last = now
        lived, gained = collect(player, task, k, schedule.episodes, horizon)
        learned = lesson(lived._replace(rewards=jnp.where(is_last, gained, lived.rewards)), learner.discount)
        return with_actor(player, learner.improve(player.actor, learned)), learned

    stages = jnp.arange(schedule.inner_steps + 1)
    keys = jr.split(key, schedule.inner_steps + 1)
    lessons = jax.lax.scan(stage, learner.player, (keys, stages == schedule.inner_steps))[1]
    inner, last = (jax.tree.map(lambda leaf, part=part: leaf[part], lessons) for part in (slice(-1), -1))
    return Trial(inner, last, jnp.mean(last.episodes.rewards))


def practise_in_all(
    learner: Callable[[Int[Array, ""]], AbstractPolicyAdapter],
    tasks: AbstractTask,
    key: PRNGKeyArray,
    schedule: Schedule,
    horizon: int,
) -> Trial:
    """Practise in stacked tasks; `learner(i)` is who lives in the i-th of them."""
    live = lambda i, task, k: practise(learner(i), task, k, schedule, horizon)
    trials = jax.vmap(live)(jnp.arange(schedule.tasks), tasks, jr.split(key, schedule.tasks))
    means, spread = trials.surplus, trials.last.spread
    unit = jnp.sqrt(jnp.mean(spread**2))
    # Against the mean of the others: a baseline that a task's own draws do not touch leaves the gradient unbiased.
    others = (jnp.sum(means) - means) / max(schedule.tasks - 1, 1)
    last = trials.last._replace(gains=trials.last.gains * spread[:, None] / unit)
    return trials._replace(last=last, surplus=(means - others) / unit)


def adapted(learner: AbstractPolicyAdapter, inner: Lesson) -> tuple[AbstractActor, AbstractActor]:
    """The actor after an inner step on each of the stacked lessons, and the stacked actors before each: differentiable."""
    return jax.lax.scan(lambda actor, one: (learner.improve(actor, one), actor), learner.player.actor, inner)


def meta_train(
    tasks: AbstractTaskDistribution,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    learner: Callable[[PRNGKeyArray], AbstractPolicyAdapter],
    schedule: Schedule,
) -> Program:
    """Practise in new tasks, then take a few gradient steps on `loss(learner, trial, key)` of what was lived there; begin again."""
    ticks = horizon(tasks)

    def init(key: PRNGKeyArray) -> Training:
        new = learner(key)
        return Training(new, optimizer.init(eqx.filter(new, eqx.is_inexact_array)))

    def update(state: Training, key: PRNGKeyArray) -> tuple[Training, Metrics]:
        task_key, live_key = jr.split(key)
        drawn = sample_tasks(tasks, task_key, "train", schedule.tasks)
        trials = practise_in_all(lambda i: state.learner, drawn, live_key, schedule, ticks)
        state, metrics = learn(state, trials, loss, optimizer, schedule.epochs)
        return state, metrics | scores(trials)

    return Program(init, update, lambda state: state.learner)


def learn(
    state: Training, trials: PyTree, loss: Loss, optimizer: optax.GradientTransformation, epochs: int
) -> tuple[Training, Metrics]:
    """`epochs` gradient steps on one batch of trials, or of trials and what belongs to them; metrics are the last one's."""
    arrays, rest = eqx.partition(state, eqx.is_array)

    def step(arrays: Any, _: None) -> tuple[Any, Metrics]:
        now: Training = eqx.combine(arrays, rest)
        # Nothing is drawn any more: the key is not used.
        gradient, metrics = mean_over_tasks(loss, now.learner, trials, jr.key(0))
        after = Training(*apply_gradient(optimizer, gradient, now.optimizer, now.learner))
        return eqx.filter(after, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(step, arrays, None, length=epochs)
    return eqx.combine(arrays, rest), jax.tree.map(lambda m: m[-1], metrics)


def scores(trials: Trial) -> Metrics:
    """Rewards per tick before the first inner step, and scores after the last; the same where what is seen is what counts."""
    after = jnp.mean(trials.last.episodes.rewards)
    first = trials.inner.episodes.rewards[:, :1]
    return {"score before": jnp.mean(first) if first.size else after, "score": after}
