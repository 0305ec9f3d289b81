"""What on-policy methods share: living on with the current policy, and judging what came of it.

A method's outer step is `gather`, which gives sequences with advantages and value targets, and then steps of its own on them.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import AbstractActorCritic
from quickstudy.core import AbstractTaskDistribution, End, Number, Switch, Tick, sample_tasks
from quickstudy.nn.policies import Policy
from quickstudy.outer.program import Metrics, switch
from quickstudy.outer.windows import Keys, Window, begin_lives, choose, live_window
from quickstudy.rl import advantages, bootstrap, explained_variance
from quickstudy.tasks.control import ControlView

Weights = Float[Array, " weights"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a method's `Config` that living and judging ask for; see `ppo.Config`.

    Raises `ValueError` for lives that do not consist of whole windows, or that never end while their end counts.
    """

    lives: int
    ticks: int
    horizon: int
    across_episodes: bool
    discount: Number
    decay: Number
    normalise_values: Switch
    scale_rewards: Switch

    def __post_init__(self) -> None:
        if self.horizon and self.horizon % self.ticks:
            raise ValueError(f"horizon must be a multiple of ticks, not {self.horizon} with ticks={self.ticks}")
        if self.across_episodes and not self.horizon:
            raise ValueError("across_episodes needs a horizon: without one, what follows never ends")


def settings(config: Any) -> Settings:
    """Those of a method's settings that living and judging ask for."""
    return Settings(**{field.name: getattr(config, field.name) for field in dataclasses.fields(Settings)})


class Moments(NamedTuple):
    """A running mean and mean square, forgetting slowly; all zero before anything was seen."""

    weight: Float[Array, ""]
    first: Float[Array, ""]
    second: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
        """The mean; zero while nothing was seen."""
        return self.first / jnp.maximum(self.weight, 1e-8)

    @property
    def deviation(self) -> Float[Array, ""]:
        """The standard deviation; one while nothing was seen."""
        variance = self.second / jnp.maximum(self.weight, 1e-8) - self.mean**2
        return jnp.where(self.weight > 0, jnp.sqrt(jnp.maximum(variance, 1e-6)), 1.0)

    def after(self, values: Float[Array, "..."], keep: float = 0.99) -> "Moments":
        """These moments with one more batch of values in them."""
        seen = (jnp.ones(()), jnp.mean(values), jnp.mean(values**2))
        return Moments(*(keep * old + (1 - keep) * new for old, new in zip(self, seen, strict=True)))


def no_moments() -> Moments:
    """The moments of nothing."""
    return Moments(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()))


class State(NamedTuple):
    """The state of the slow loop: `window.slow` is the learner and its optimiser, `step` counts the windows.

    `values` are the moments of the value targets, in which the critic counts; `rewards` those of running discounted sums of rewards,
    one of which, `sums`, every life keeps.
    """

    window: Window
    values: Moments
    rewards: Moments
    sums: Float[Array, " lives"]
    step: Int[Array, ""]


class Rollout(NamedTuple):
    """What the agent did, `(lives, ticks, ...)`, and what it thought of it at the time."""

    views: ControlView
    responses: Array
    scores: Float[Array, "lives ticks"]
    ends: Int[Array, "lives ticks"]
    policies: Policy
    values: Float[Array, "lives ticks"]
    feedback: Any  # a ControlView, or None where lives are not cut
    memories: Any


class Batch(NamedTuple):
    """Sequences to learn from, `(sequences, ticks, ...)`, with the memory that each starts with."""

    memories: Any
    views: ControlView
    responses: Array
    policies: Policy
    log_probabilities: Float[Array, "sequences ticks"]
    values: Float[Array, "sequences ticks"]
    advantages: Float[Array, "sequences ticks"]
    targets: Float[Array, "sequences ticks"]


def begin(settings: Settings, tasks: AbstractTaskDistribution, new: AbstractActorCritic, optimizer: Any, key: PRNGKeyArray) -> State:
    """The first state of a slow loop, a life begun in each of some new tasks; `optimizer` is the optimiser's state."""
    task_key, life_key = jr.split(key)
    drawn = sample_tasks(tasks, task_key, "train", settings.lives)
    lives = begin_lives(new, drawn, jr.split(life_key, settings.lives), None)
    return State(
        Window((new, optimizer), lives, drawn), no_moments(), no_moments(), jnp.zeros(settings.lives), jnp.zeros((), jnp.int32)
    )


def gather(settings: Settings, tasks: AbstractTaskDistribution, state: State, key: PRNGKeyArray) -> tuple[State, Batch, Metrics]:
    """Live on for a window of ticks, and judge what was done: the state after it, what there is to learn from, and what to watch."""
    keys = jr.split(key, 1 + settings.lives)
    before = renew(settings, tasks, state.window, keys[0])
    window, rollout = act(settings, before, keys[1:])
    rewards, sums, rewards_seen = _scale(settings, state, rollout)
    batch, metrics = _judge(settings, window, rollout, rewards, state.values)
    batch = batch._replace(memories=before.lives.fast)
    if not jax.tree.leaves(batch.memories):
        # Without a memory every tick is a sequence of its own.
        batch = jax.tree.map(lambda leaf: leaf.reshape(settings.lives * settings.ticks, 1, *leaf.shape[2:]), batch)
    values_seen = switch(settings.normalise_values, lambda: state.values.after(batch.targets), lambda: state.values)
    return State(window, values_seen, rewards_seen, sums, state.step + 1), batch, metrics


def renew(settings: Settings, tasks: AbstractTaskDistribution, window: Window, key: PRNGKeyArray) -> Window:
    """Let lives that have reached the horizon begin again, in new tasks."""
    if not settings.horizon:
        return window
    task_key, life_key = jr.split(key)
    ended = window.lives.tick >= settings.horizon
    drawn = choose(ended, sample_tasks(tasks, task_key, "train", settings.lives), window.tasks)
    born = begin_lives(window.slow[0], drawn, jr.split(life_key, settings.lives), None)
    return window._replace(tasks=drawn, lives=choose(ended, born, window.lives))


def act(settings: Settings, window: Window, keys: Keys) -> tuple[Window, Rollout]:
    """Live `ticks` more in every life, each with a key, and keep what there is to learn from."""
    learner, _ = window.slow

    def record(tick: Tick) -> Rollout:
        _, policy, value = learner.judge(tick.fast, tick.view)
        # Where lives are cut at episodes' ends, the last place of each is asked for its worth.
        last = (None, None) if settings.across_episodes else (tick.feedback, tick.fast)
        return Rollout(tick.view, tick.response, tick.score, tick.end, policy, value, *last)

    lives, rollout = live_window(learner, window, keys, settings.ticks, None, record)
    return window._replace(lives=lives), rollout


def _scale(settings: Settings, state: State, rollout: Rollout) -> tuple[Float[Array, "lives ticks"], Float[Array, " lives"], Moments]:
    """Rewards divided by the spread of their running discounted sums, if `scale_rewards` says so."""

    def add(total: Array, tick: tuple[Array, Array]) -> tuple[Array, Array]:
        score, end = tick
        total = settings.discount * total + score
        return jnp.where(end == End.RUNNING, total, 0.0), total

    def scaled() -> tuple[Array, Array, Moments]:
        sums, totals = jax.lax.scan(add, state.sums, (rollout.scores.T, rollout.ends.T))
        seen = state.rewards.after(totals)
        return rollout.scores / seen.deviation, sums, seen

    return switch(settings.scale_rewards, scaled, lambda: (rollout.scores, state.sums, state.rewards))


def _judge(
    settings: Settings, window: Window, rollout: Rollout, rewards: Float[Array, "lives ticks"], seen: Moments
) -> tuple[Batch, Metrics]:
    """Advantages and value targets, in the units of the rewards."""
    in_units = lambda value: value * seen.deviation + seen.mean
    values = in_units(rollout.values)
    after, goes_on = _what_follows(settings, window, rollout, values, in_units)
    gains = advantages(rewards.T, values.T, after.T, goes_on.T, discount=settings.discount, decay=settings.decay).T
    metrics = {
        "score": jnp.mean(rollout.scores),
        "episode return": jnp.sum(rollout.scores) / jnp.maximum(jnp.sum(rollout.ends != End.RUNNING, dtype=jnp.float32), 1.0),
        "episodes": jnp.sum(rollout.ends != End.RUNNING, dtype=jnp.float32),
        "explained variance": explained_variance(values, gains + values),
    }
    logs = rollout.policies.log_probability(rollout.responses)
    return Batch(None, rollout.views, rollout.responses, rollout.policies, logs, values, gains, gains + values), metrics


def _what_follows(
    settings: Settings,
    window: Window,
    rollout: Rollout,
    values: Float[Array, "lives ticks"],
    in_units: Callable[[Array], Array],
) -> tuple[Float[Array, "lives ticks"], Float[Array, "lives ticks"]]:
    """What the place that each tick led to is worth, and whether anything is added up through it."""
    learner, _ = window.slow
    if settings.across_episodes:
        # The life is the episode: it ends where the horizon is, and nothing comes after.
        over = (window.lives.tick >= settings.horizon)[:, None]
        last = in_units(jax.vmap(learner.judge)(window.lives.fast, window.lives.view)[2])[:, None]
        after = jnp.concatenate([values[:, 1:], jnp.where(over, 0.0, last)], axis=1)
        return after, jnp.ones_like(after)

    def worth(memory: Any, view: ControlView, feedback: ControlView) -> Float[Array, ""]:
        return learner.judge(learner.judge(memory, view)[0], feedback)[2]

    after = in_units(jax.vmap(jax.vmap(worth))(rollout.memories, rollout.views, rollout.feedback))
    return bootstrap(after, rollout.ends)


def unroll(learner: AbstractActorCritic, batch: Batch) -> tuple[Policy, Float[Array, "sequences ticks"]]:
    """What an agent says at every tick of a batch."""
    if jax.tree.leaves(batch.memories):
        return jax.vmap(learner.unroll)(batch.memories, batch.views)
    # Sequences of one tick each are unrolled as one: an axis less saves the gradient of each matrix product a transposition.
    said = learner.unroll(batch.memories, jax.tree.map(lambda leaf: leaf[:, 0], batch.views))
    return jax.tree.map(lambda leaf: leaf[:, None], said)


def value_errors(
    values: Float[Array, "sequences ticks"], batch: Batch, seen: Moments, clip: Number, clips: Switch
) -> Float[Array, "sequences ticks"]:
    """Squared errors of the critic, in its own scale.

    If it `clips`, a value that moved further than `clip` from the old one is judged as if it had not, unless that would flatter it.
    Source of the clipping: Engstrom et al. 2020, "Implementation Matters in Deep Policy Gradients", after OpenAI's baselines.
    """
    targets, old = ((x - seen.mean) / seen.deviation for x in (batch.targets, batch.values))
    errors = (values - targets) ** 2
    clipped = lambda: jnp.maximum(errors, (old + jnp.clip(values - old, -clip, clip) - targets) ** 2)
    return switch(clips, clipped, lambda: errors)


def standardise(gains: Float[Array, "..."]) -> Float[Array, "..."]:
    """Advantages with mean zero and standard deviation one.

    >>> standardise(jnp.array([1.0, 3.0])).tolist()
    [-1.0, 1.0]
    """
    return (gains - jnp.mean(gains)) / (jnp.std(gains) + 1e-8)


def minibatches(sequences: int, epochs: int, n: int, key: PRNGKeyArray) -> Int[Array, "steps few"]:
    """Which sequences each gradient step learns from: `n` steps an epoch, and every sequence once in each.

    Raises `ValueError` unless `n` divides the sequences.
    """
    if sequences % n:
        raise ValueError(f"minibatches must divide the {sequences} sequences of a window, not {n}")
    # Random numbers are sorted that are their own places modulo the sequences: it takes a sixth of the time of an argsort.
    place = jnp.arange(sequences, dtype=jnp.uint32)
    numbers = jr.bits(key, (epochs, sequences)) // 2  # so that the next line cannot overflow
    order = jnp.sort(numbers - numbers % sequences + place[None], axis=1) % sequences
    return order.astype(jnp.int32).reshape(epochs * n, -1)


def left(state: State, anneal: int | Float[Array, ""]) -> Number:
    """The share of learning rate and entropy bonus that is left where they fall to zero over so many outer steps; 0 steps: all of it.

    The state is that after `gather`, which counts its own step.
    """
    steps = jnp.asarray(anneal, jnp.float32)
    falling = lambda: jnp.maximum(1 - (state.step - 1).astype(jnp.float32) / jnp.maximum(steps, 1.0), 0.0)
    return switch(anneal > 0, falling, lambda: jnp.ones(()))


def descend(
    optimizer: optax.GradientTransformation, gradient: Weights, state: optax.OptState, weights: Weights, rate: Number
) -> tuple[Weights, optax.OptState]:
    """A step of so much times the optimiser's direction: its rate is not the optimiser's own, so that it can fall, and be an array."""
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes integer counts with floats
        direction, state = optimizer.update(gradient, state)
    return weights - rate * direction, state
