"""PPO: act for a while, then take many small steps on what was seen, and stop where the new policy leaves the old one.

* Slow: the policy's and the critic's weights. Fast: the agent's memory, if it has one.
* One outer step: live `ticks` more in every life, estimate advantages, and take `epochs` passes of minibatch steps on the clipped
  surrogate. Every code-level optimisation of the reference implementation is a switch.

The surrogate, with the ratio r = pi(a | s) / pi_old(a | s) and the advantage A:

    maximise  mean min(r A, clip(r, 1 - clip, 1 + clip) A)  -  value_weight (V - target)^2  +  entropy H(pi)

Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms"; the switches: Engstrom et al. 2020, "Implementation Matters in
Deep Policy Gradients: A Case Study on PPO and TRPO".

Builds on: TRPO (a step bounded by the KL divergence), generalised advantage estimates. Led to: the workhorse of RL^2 and its kin.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import EVERYTHING, OBSERVATION, AbstractActorCritic, ActorCritic, actor_critic, inputs
from quickstudy.core import AbstractTaskDistribution, End, Tick, sample_tasks
from quickstudy.nn.memory import NoMemory
from quickstudy.nn.policies import Policy
from quickstudy.outer import Preset, Program
from quickstudy.outer.program import Metrics
from quickstudy.outer.windows import Window, begin_lives, choose, live_window
from quickstudy.rl import advantages, bootstrap, explained_variance
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.control import ControlView


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the reference implementation for classic control, where it has them."""

    lives: int = 8  # Huang et al. 2022 (the 37 implementation details): 4 to 8 side by side
    ticks: int = 128  # Schulman et al. 2017, table 5
    horizon: int = 0  # ticks of a whole life, after which it begins again in a new task; 0: lives never end
    across_episodes: bool = False  # whether what follows an episode's end counts, as meta-RL wants
    epochs: int = 4  # Huang et al. 2022
    minibatches: int = 4  # Huang et al. 2022
    learning_rate: float = 2.5e-4  # Schulman et al. 2017, table 5
    anneal: int = 0  # outer steps after which learning rate and entropy bonus have fallen to zero; 0: they do not fall
    discount: float = 0.99  # Schulman et al. 2017
    decay: float = 0.95  # Schulman et al. 2017
    clip: float = 0.2  # Schulman et al. 2017
    divergence: float = 0.0  # weight of KL(old policy, new policy): with a large `clip`, the penalised step of Schulman et al. 2017
    entropy: float = 0.01  # Schulman et al. 2017, table 5
    value_weight: float = 0.5  # Huang et al. 2022
    largest_gradient: float = 0.5  # Huang et al. 2022
    clip_values: bool = False  # Engstrom et al. 2020 find no gain
    normalise_advantages: bool = True  # Huang et al. 2022
    normalise_values: bool = True  # ours: without it the critic fails silently where returns are large
    scale_rewards: bool = False  # Engstrom et al. 2020: reward scaling
    orthogonal: bool = True  # Engstrom et al. 2020: orthogonal initialisation
    width: int = 64  # Schulman et al. 2017: two layers of 64
    sees: Literal["observation", "everything"] = "observation"  # everything: the last action, reward and end too

    def __post_init__(self) -> None:
        if self.horizon and self.horizon % self.ticks:
            raise ValueError(f"horizon must be a multiple of ticks, not {self.horizon} with ticks={self.ticks}")
        if self.across_episodes and not self.horizon:
            raise ValueError("across_episodes needs a horizon: without one, what follows never ends")


class Moments(NamedTuple):
    """A running mean and mean square, forgetting slowly; all zero before anything was seen."""

    weight: Float[Array, ""]
    first: Float[Array, ""]
    second: Float[Array, ""]

    @property
    def mean(self) -> Float[Array, ""]:
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
    """The state of the slow loop: `window.slow` is the learner and its optimiser; `values` are the moments of the value targets,
    `rewards` those of running discounted sums of rewards, one of which, `sums`, every life keeps."""

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


def improve(config: Config, tasks: AbstractTaskDistribution, learner: Callable[[PRNGKeyArray], AbstractActorCritic]) -> Program:
    """PPO as a slow loop, for any actor-critic: `learner(key)` draws its initial weights."""
    # The learning rate is not the optimiser's, so that it can fall, and be an array.
    optimizer = optax.chain(optax.clip_by_global_norm(config.largest_gradient), optax.scale_by_adam(eps=1e-5))  # Huang et al. 2022

    def init(key: PRNGKeyArray) -> State:
        learner_key, task_key, life_key = jr.split(key, 3)
        new = learner(learner_key)
        drawn = sample_tasks(tasks, task_key, "train", config.lives)
        lives = begin_lives(new, drawn, jr.split(life_key, config.lives), None)
        window = Window((new, optimizer.init(ravel_pytree(eqx.filter(new, eqx.is_inexact_array))[0])), lives, drawn)
        return State(window, no_moments(), no_moments(), jnp.zeros(config.lives), jnp.zeros((), jnp.int32))

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        begin_key, live_key, learn_key = jr.split(key, 3)
        window = renew(config, tasks, state.window, begin_key)
        current, optimizer_state = window.slow
        window, rollout = act(config, window, live_key)
        rewards, sums, rewards_seen = _scale(config, state, rollout)
        batch, values_seen, metrics = _judge(config, current, window, rollout, rewards, state.values)

        left = jnp.maximum(1 - state.step / config.anneal, 0.0) if config.anneal else 1.0
        # One vector of all weights: the optimiser's arithmetic is then a handful of loops, not a handful for every layer.
        arrays, rest = eqx.partition(current, eqx.is_inexact_array)
        weights, shaped = ravel_pytree(arrays)

        def step(carry: tuple, chosen: Int[Array, " sequences"]) -> tuple[tuple, Metrics]:
            weights, optimizer_state = carry
            few = jax.tree.map(lambda leaf: leaf[chosen], batch)
            loss = lambda w: surrogate(eqx.combine(shaped(w), rest), few, config, values_seen, left)
            gradient, metrics = jax.grad(loss, has_aux=True)(weights)
            with jax.numpy_dtype_promotion("standard"):  # Optax mixes integer counts with floats
                direction, optimizer_state = optimizer.update(gradient, optimizer_state)
            return (weights - config.learning_rate * left * direction, optimizer_state), metrics

        order = minibatches(config, batch.targets.shape[0], learn_key)
        (weights, optimizer_state), learned = jax.lax.scan(step, (weights, optimizer_state), order)
        window = window._replace(slow=(eqx.combine(shaped(weights), rest), optimizer_state))
        metrics |= jax.tree.map(jnp.mean, learned)
        return State(window, values_seen, rewards_seen, sums, state.step + 1), metrics

    return Program(init, update, lambda state: state.window.slow[0])


def renew(config: Config, tasks: AbstractTaskDistribution, window: Window, key: PRNGKeyArray) -> Window:
    """Let lives that have reached the horizon begin again, in new tasks."""
    if not config.horizon:
        return window
    task_key, life_key = jr.split(key)
    ended = window.lives.tick >= config.horizon
    drawn = choose(ended, sample_tasks(tasks, task_key, "train", config.lives), window.tasks)
    born = begin_lives(window.slow[0], drawn, jr.split(life_key, config.lives), None)
    return window._replace(tasks=drawn, lives=choose(ended, born, window.lives))


def act(config: Config, window: Window, key: PRNGKeyArray) -> tuple[Window, Rollout]:
    """Live `ticks` more in every life, and keep what there is to learn from."""
    learner, _ = window.slow

    def record(tick: Tick) -> Rollout:
        _, policy, value = learner.judge(tick.fast, tick.view)
        # Where lives are cut at episodes' ends, the last place of each is asked for its worth.
        last = (None, None) if config.across_episodes else (tick.feedback, tick.fast)
        return Rollout(tick.view, tick.response, tick.score, tick.end, policy, value, *last)

    lives, rollout = live_window(learner, window, jr.split(key, config.lives), config.ticks, None, record)
    return window._replace(lives=lives), rollout


def _scale(config: Config, state: State, rollout: Rollout) -> tuple[Float[Array, "lives ticks"], Float[Array, " lives"], Moments]:
    """Rewards divided by the spread of their running discounted sums, if `scale_rewards` says so."""
    if not config.scale_rewards:
        return rollout.scores, state.sums, state.rewards

    def add(total: Array, tick: tuple[Array, Array]) -> tuple[Array, Array]:
        score, end = tick
        total = config.discount * total + score
        return jnp.where(end == End.RUNNING, total, 0.0), total

    sums, totals = jax.lax.scan(add, state.sums, (rollout.scores.T, rollout.ends.T))
    seen = state.rewards.after(totals)
    return rollout.scores / seen.deviation, sums, seen


def _judge(
    config: Config, learner: AbstractActorCritic, window: Window, rollout: Rollout, rewards: Float[Array, "lives ticks"], seen: Moments
) -> tuple[Batch, Moments, Metrics]:
    """Advantages and value targets, as sequences to learn from; targets in the critic's own scale."""
    in_units = lambda value: value * seen.deviation + seen.mean if config.normalise_values else value
    values = in_units(rollout.values)
    after, goes_on = _what_follows(config, learner, window, rollout, values, in_units)
    gains = advantages(rewards.T, values.T, after.T, goes_on.T, discount=config.discount, decay=config.decay).T
    targets = gains + values
    metrics = {
        "score": jnp.mean(rollout.scores),
        "episode return": jnp.sum(rollout.scores) / jnp.maximum(jnp.sum(rollout.ends != End.RUNNING, dtype=jnp.float32), 1.0),
        "explained variance": explained_variance(values, targets),
    }
    seen = seen.after(targets) if config.normalise_values else seen
    logs = rollout.policies.log_probability(rollout.responses)
    memories = jax.tree.map(lambda leaf: leaf[:, 0], rollout.memories)
    if config.across_episodes:
        memories = jax.vmap(learner.begin)(jax.tree.map(lambda leaf: leaf[:, 0], rollout.views), jr.split(jr.key(0), config.lives))
    batch = Batch(memories, rollout.views, rollout.responses, rollout.policies, logs, values, gains, targets)
    if not jax.tree.leaves(memories):
        # Without a memory every tick is a sequence of its own.
        batch = jax.tree.map(lambda leaf: leaf.reshape(config.lives * config.ticks, 1, *leaf.shape[2:]), batch)
    return batch, seen, metrics


def _what_follows(
    config: Config,
    learner: AbstractActorCritic,
    window: Window,
    rollout: Rollout,
    values: Float[Array, "lives ticks"],
    in_units: Callable[[Array], Array],
) -> tuple[Float[Array, "lives ticks"], Float[Array, "lives ticks"]]:
    """What the place that each tick led to is worth, and whether anything is added up through it."""
    if config.across_episodes:
        # The life is the episode: it ends where the horizon is, and nothing comes after.
        over = (window.lives.tick >= config.horizon)[:, None]
        last = in_units(jax.vmap(learner.judge)(window.lives.fast, window.lives.view)[2])[:, None]
        after = jnp.concatenate([values[:, 1:], jnp.where(over, 0.0, last)], axis=1)
        return after, jnp.ones_like(after)

    def worth(memory: Any, view: ControlView, feedback: ControlView) -> Float[Array, ""]:
        return learner.judge(learner.judge(memory, view)[0], feedback)[2]

    after = in_units(jax.vmap(jax.vmap(worth))(rollout.memories, rollout.views, rollout.feedback))
    return bootstrap(after, rollout.ends)


def minibatches(config: Config, sequences: int, key: PRNGKeyArray) -> Int[Array, "steps sequences"]:
    """Which sequences each gradient step learns from: every one once an epoch."""
    order = jnp.argsort(jr.uniform(key, (config.epochs, sequences)), axis=1)
    return order.reshape(config.epochs * config.minibatches, -1)


def surrogate(
    learner: AbstractActorCritic, batch: Batch, config: Config, seen: Moments, left: Float[Array, ""] | float = 1.0
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of a minibatch, and what to watch while it is minimised; `left` is the share of the entropy bonus that is left."""
    policies, values = jax.vmap(learner.unroll)(batch.memories, batch.views)
    log_ratio = policies.log_probability(batch.responses) - batch.log_probabilities
    ratio, gain = jnp.exp(log_ratio), batch.advantages
    if config.normalise_advantages:
        gain = (gain - jnp.mean(gain)) / (jnp.std(gain) + 1e-8)
    actor = -jnp.mean(jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - config.clip, 1 + config.clip) * gain))
    centre, spread = (seen.mean, seen.deviation) if config.normalise_values else (0.0, 1.0)
    error = (values - (batch.targets - centre) / spread) ** 2
    if config.clip_values:
        old = (batch.values - centre) / spread
        near = old + jnp.clip(values - old, -config.clip, config.clip)
        error = jnp.maximum(error, (near - (batch.targets - centre) / spread) ** 2)
    entropy = jnp.mean(policies.entropy())
    loss = actor + config.value_weight * jnp.mean(error) / 2 - config.entropy * left * entropy
    if config.divergence:
        loss = loss + config.divergence * jnp.mean(batch.policies.divergence(policies))
    metrics = {"loss": loss, "entropy": entropy, "divergence": jnp.mean(ratio - 1 - log_ratio)}
    return loss, metrics | {"clipped": jnp.mean((jnp.abs(ratio - 1) > config.clip).astype(jnp.float32))}


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent without memory: actor and critic are two networks of two layers.

    Raises `TypeError` unless these are control tasks, `ValueError` if there is nothing to see in them.
    """
    reads = {"observation": OBSERVATION, "everything": EVERYTHING}[config.sees]
    size, _ = inputs(tasks, reads)
    if not size:
        raise ValueError("these tasks have no observation: an agent without memory needs sees='everything', or use rl2")
    hidden = (config.width, config.width)
    return actor_critic(tasks, NoMemory(), size, hidden, reads=reads, orthogonal=config.orthogonal, key=key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO in one task after another, or in one that never ends."""
    return improve(config, tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "smoke": Preset(Config(lives=4, ticks=8, minibatches=2, width=8, sees="everything"), BernoulliBandit, 4, 8, "it runs"),
}
