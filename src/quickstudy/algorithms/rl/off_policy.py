"""What off-policy methods share: living on with an agent that explores, and keeping every transition to learn from again."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import Feature, see
from quickstudy.algorithms.rl.replay import Replay, add, empty
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, End, Tick, sample_tasks
from quickstudy.outer.program import Metrics
from quickstudy.outer.windows import Window, begin_lives, live_window
from quickstudy.tasks.control import Actions


class Transition(NamedTuple):
    """One tick: what the agent saw, what it did, what that brought, and what it saw next *in the same episode*.

    `after` is read from the feedback, not from the next view, which after an end shows another episode. An episode that was cut off
    goes on in `after`; only where it `terminated` nothing follows.
    """

    seen: Float[Array, "*batch inputs"]
    action: Array
    reward: Float[Array, "*batch"]
    after: Float[Array, "*batch inputs"]
    terminated: Bool[Array, "*batch"]


class Experience(NamedTuple):
    """Where experience stands: the lives (`window.slow` is unused), the store, and recent sums of rewards and of ended episodes."""

    window: Window
    replay: Replay
    rewards: Float[Array, ""]
    ends: Float[Array, ""]


def begin(
    learner: AbstractLearner, tasks: AbstractTaskDistribution, reads: tuple[Feature, ...], lives: int, capacity: int, key: PRNGKeyArray
) -> Experience:
    """A life begun in each of some new tasks, and an empty store for what will happen there."""
    task_key, life_key = jr.split(key)
    drawn = sample_tasks(tasks, task_key, "train", lives)
    window = Window(None, begin_lives(learner, drawn, jr.split(life_key, lives), None), drawn)
    one = jax.eval_shape(lambda: _live(learner, window, tasks.actions, reads, 1, key)[1][0])  # type: ignore[attr-defined]
    item = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[2:], leaf.dtype), one)
    return Experience(window, empty(item, capacity), jnp.zeros(()), jnp.zeros(()))


def experience(
    now: Experience, learner: AbstractLearner, actions: Actions, reads: tuple[Feature, ...], ticks: int, key: PRNGKeyArray
) -> tuple[Experience, Metrics]:
    """Live `ticks` more in every life, and put all transitions into the store."""
    window, (transitions, ends) = _live(learner, now.window, actions, reads, ticks, key)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), transitions)
    # Windows are short: the return of an episode is that of the last hundred or so.
    rewards = 0.99 * now.rewards + jnp.sum(flat.reward)
    ended = 0.99 * now.ends + jnp.sum(ends != End.RUNNING, dtype=jnp.float32)
    metrics = {"score": jnp.mean(flat.reward), "episode return": rewards / jnp.maximum(ended, 1.0)}
    return Experience(window, add(now.replay, flat), rewards, ended), metrics


def _live(
    learner: AbstractLearner, window: Window, actions: Actions, reads: tuple[Feature, ...], ticks: int, key: PRNGKeyArray
) -> tuple[Window, tuple[Transition, Int[Array, "lives ticks"]]]:
    def record(tick: Tick) -> tuple[Transition, Int[Array, ""]]:
        seen, after = (see(view, actions, reads) for view in (tick.view, tick.feedback))
        return Transition(seen, tick.response, tick.score, after, tick.end == End.TERMINATED), tick.end

    keys = jr.split(key, window.lives.tick.shape[0])
    lives, records = live_window(learner, window, keys, ticks, None, record)
    return window._replace(lives=lives), records


def require_room(lives: int, ticks: int, capacity: int, warmup: int) -> None:
    """Raise `ValueError` unless the store holds what is put into it at once."""
    if not lives * ticks <= capacity >= warmup >= 1:
        raise ValueError(
            f"capacity must hold the warmup, of one tick or more, and what is lived between updates, not capacity={capacity} "
            f"with warmup={warmup}, lives={lives}, ticks={ticks}"
        )
