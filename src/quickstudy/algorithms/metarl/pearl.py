"""PEARL: infer what task this is as a latent variable, and act as if a draw from what is believed about it were the truth.

* Slow: the weights of an encoder, and of SAC's actor and critics, which see the latent variable beside the observation. Fast: the
  belief about the latent variable, which every transition of the life makes narrower, and the draw that is acted on.
* One outer step: live whole lives in some of the training tasks, keep every transition in its task's own store, and take gradient
  steps, each on transitions drawn from *all* of a task's store and on a context drawn from its *latest* life only, because a context
  must look like one that this agent will meet.

Each transition c_n is one Gaussian factor, and the belief is their product, so that order does not matter and a sum is enough:

    q(z | c) ~ N(z; 0, 1) product over n of N(z; mean(c_n), deviation(c_n)^2)
    encoder and critics: minimise  critic loss(z) + weight KL(q(z | c) || N(0, 1)),   z ~ q(z | c);   actor: minimise SAC's loss

The prior is a factor here, where the source leaves it out: an empty context then *is* the prior, without being a special case.

Source: Rakelly et al. 2019, "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context Variables".
Builds on: SAC, neural processes, posterior sampling. Led to: variational belief networks (VariBAD), latent contexts on real robots.
"""

import dataclasses
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl import sac
from quickstudy.algorithms.rl.actor_critic import OBSERVATION, inputs, see
from quickstudy.algorithms.rl.off_policy import Transition
from quickstudy.algorithms.rl.replay import Replay, add, draw_evenly, empty
from quickstudy.claims import Claim
from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, End, Number, Tick, lifetime, sample_tasks
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Metrics, Preset, Program, apply_gradient, flatten
from quickstudy.tasks.control import Continuous, ControlView
from quickstudy.tasks.point_navigation import HalfCircle

Resample = Literal["episode", "tick"]


# --- What is believed ---------------------------------------------------------------------------------------------------------------


class Normal(NamedTuple):
    """Independent normal numbers by their natural parameters, of which a product of densities is the sum: the precision, one over the
    variance, and the precision times the mean. A factor may have the precision zero: it says nothing."""

    precision: Float[Array, "*batch latent"]
    pull: Float[Array, "*batch latent"]

    @property
    def mean(self) -> Float[Array, "*batch latent"]:
        """The mean."""
        return self.pull / self.precision

    def draw(self, key: PRNGKeyArray) -> Float[Array, "*batch latent"]:
        """A draw, differentiable by both parameters."""
        return self.mean + jax.lax.rsqrt(self.precision) * jr.normal(key, self.pull.shape)

    def divergence(self) -> Float[Array, "*batch"]:
        """KL(self || N(0, 1)), summed over the numbers."""
        return 0.5 * jnp.sum(1 / self.precision + self.mean**2 - 1 + jnp.log(self.precision), axis=-1)


def prior(latent: int) -> Normal:
    """N(0, 1): what is believed before anything was lived.

    >>> float(prior(2).divergence())
    0.0
    """
    return Normal(jnp.ones(latent), jnp.zeros(latent))


def product(belief: Normal, factors: Normal) -> Normal:
    """A belief `(latent,)` times a set of factors `(n, latent)`: in any order, one by one or at once.

    >>> product(prior(1), Normal(jnp.ones((3, 1)), jnp.ones((3, 1)))).mean.tolist()
    [0.75]
    """
    return Normal(belief.precision + jnp.sum(factors.precision, axis=0), belief.pull + jnp.sum(factors.pull, axis=0))


class Fast(NamedTuple):
    """The belief about the task, and the draw from it that is acted on."""

    belief: Normal
    latent: Float[Array, " latent"]


class Weights(NamedTuple):
    """All that is learned."""

    networks: sac.Networks
    encoder: MLP


class PEARL(AbstractLearner):
    """Believes in one draw of the latent variable for an episode (`resample` "episode"), or for no longer than a tick ("tick").

    Its actions are drawn, or, where nothing is learned any more, the likeliest (`draws` false).
    """

    weights: Weights
    actions: Continuous = eqx.field(static=True)
    latent: int = eqx.field(static=True)
    resample: Resample = eqx.field(static=True)
    draws: bool = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Fast:
        belief = prior(self.latent)
        return Fast(belief, belief.draw(key))

    def respond(self, fast: Fast, view: ControlView, key: PRNGKeyArray) -> Float[Array, " size"]:
        policy = self.weights.networks.policy(jnp.concatenate([see(view, self.actions, OBSERVATION), fast.latent]))
        return policy.draw(key) if self.draws else policy.likeliest()

    def observe(self, fast: Fast, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> Fast:
        seen = context_row(view, response, feedback, self.actions)
        belief = product(fast.belief, factors(self.weights.encoder, seen[None]))
        again = jnp.asarray(self.resample == "tick") | (feedback.end != End.RUNNING)
        return Fast(belief, jnp.where(again, belief.draw(key), fast.latent))


def context_row(view: ControlView, response: Array, feedback: ControlView, actions: Continuous) -> Float[Array, " inputs"]:
    """What the encoder reads of a transition: what was seen and done, and the reward that this brought."""
    return jnp.concatenate([see(view, actions, OBSERVATION), response, feedback.reward[None]])


def factors(encoder: MLP, context: Float[Array, "n inputs"]) -> Normal:
    """One Gaussian factor for each transition, `(n, latent)`."""
    mean, spread = jnp.split(jax.vmap(encoder)(context), 2, axis=1)
    precision = jax.nn.softplus(spread)
    return Normal(precision, precision * mean)


# --- What is learned from -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of Rakelly et al. 2019 (code) for sparse point navigation, with smaller networks and fewer steps."""

    tasks: int = 100  # training tasks, each with a store of its own: Rakelly et al. 2019, code: 100 with sparse rewards
    lives: int = 5  # tasks lived in an outer step: Rakelly et al. 2019, code
    ticks: int = 200  # of a life: ours; ten episodes of 20 ticks
    warmup: int = 1  # lives in every training task before anything is learned: ours
    updates: int = 20  # gradient steps in an outer step: ours
    tasks_per_update: int = 16  # Rakelly et al. 2019, code
    batch: int = 32  # transitions of each task: ours; Rakelly et al. 2019: 256
    context: int = 100  # transitions of a task's latest life: ours; Rakelly et al. 2019: 1024, of longer lives
    capacity: int = 2_000  # transitions in the store of a task: ours
    latent: int = 5  # Rakelly et al. 2019, code
    divergence: Number = 0.01  # weight of KL(belief, prior): ours, with rewards of the task's own scale; Rakelly et al. 2019: 0.1
    entropy: float | None = None  # that the actor shall keep; none: minus one for each number of an action, as in SAC
    resample: Resample = "episode"  # Rakelly et al. 2019
    learning_rate: Number = 1e-3  # ours: for small networks; Rakelly et al. 2019: 3e-4
    discount: Number = 0.9  # Rakelly et al. 2019, code: with sparse rewards
    target_rate: Number = 0.005  # Rakelly et al. 2019
    width: int = 64  # ours; Rakelly et al. 2019: three layers of 200 to 300

    def __post_init__(self) -> None:
        if not 1 <= self.ticks <= self.capacity:
            raise ValueError(f"capacity must hold a life's ticks, one or more, not capacity={self.capacity} with ticks={self.ticks}")
        for name in ("lives", "tasks_per_update"):
            if not 1 <= getattr(self, name) <= self.tasks:
                raise ValueError(f"{name} must be at least 1 and at most the {self.tasks} training tasks, not {getattr(self, name)}")


class Stored(NamedTuple):
    """What was lived in each training task: the store of all transitions, and the context rows of the latest life."""

    replay: Replay
    latest: Float[Array, "tasks ticks inputs"]


class State(NamedTuple):
    """The state of the slow loop."""

    agent: PEARL
    targets: sac.Critics
    optimizer: optax.OptState
    tasks: AbstractTask
    stored: Stored


def live_in(
    agent: PEARL, tasks: AbstractTask, stored: Stored, chosen: Int[Array, " lives"], ticks: int, key: PRNGKeyArray
) -> tuple[Stored, Float[Array, "lives ticks"]]:
    """Live a whole life in each of the chosen tasks: what is stored then, and the scores."""
    agent = dataclasses.replace(agent, draws=True)

    def record(tick: Tick) -> tuple[Transition, Array]:
        seen, after = (see(view, agent.actions, OBSERVATION) for view in (tick.view, tick.feedback))
        row = context_row(tick.view, tick.response, tick.feedback, agent.actions)
        return Transition(seen, tick.response, tick.score, after, tick.end == End.TERMINATED), row

    go = lambda task, k: lifetime(agent, task, k, steps=ticks, record=record)[1]
    few = lambda tree: jax.tree.map(lambda leaf: leaf[chosen], tree)
    transitions, rows = eqx.filter_vmap(go)(few(tasks), jr.split(key, chosen.shape[0]))
    grown = jax.vmap(add)(few(stored.replay), transitions)
    replay = jax.tree.map(lambda all, some: all.at[chosen].set(some), stored.replay, grown)
    return Stored(replay, stored.latest.at[chosen].set(rows)), transitions.reward


def draw(
    stored: Stored, tasks: Int[Array, " tasks"], config: Config, key: PRNGKeyArray
) -> tuple[Transition, Float[Array, "tasks context inputs"]]:
    """For each of some tasks a batch of all its transitions, and a context from its latest life."""

    def one(task: Int[Array, ""], key: PRNGKeyArray) -> tuple[Transition, Array]:
        batch_key, context_key = jr.split(key)
        rows = jr.randint(context_key, (config.context,), 0, config.ticks)
        replay = jax.tree.map(lambda leaf: leaf[task], stored.replay)
        return draw_evenly(replay, config.batch, batch_key).items, stored.latest[task, rows]

    return jax.vmap(one)(tasks, jr.split(key, tasks.shape[0]))


def loss(
    weights: Weights,
    targets: sac.Critics,
    batch: Transition,
    context: Float[Array, "tasks context inputs"],
    config: Config,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Metrics]:
    """SAC's losses with the latent variable as a part of what is seen, and the divergence of the belief from the prior.

    The encoder's gradient comes from the critics' loss and the divergence.
    """
    latent_key, sac_key = jr.split(key)
    belief = jax.vmap(lambda rows: product(prior(config.latent), factors(weights.encoder, rows)))(context)
    latent = jnp.repeat(belief.draw(latent_key)[:, None], batch.reward.shape[1], axis=1)
    beside = lambda seen: jnp.concatenate([seen, latent], axis=2)
    batch = batch._replace(seen=beside(batch.seen), after=beside(batch.after))
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    asked = float(-batch.action.shape[2]) if config.entropy is None else config.entropy
    value, metrics = sac.loss(weights.networks, targets, flat, config.discount, asked, sac_key)
    divergence = jnp.mean(belief.divergence())
    return value + config.divergence * divergence, metrics | {"divergence": divergence}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train in a fixed set of training tasks."""
    optimizer = optax.adam(config.learning_rate)

    def init(key: PRNGKeyArray) -> State:
        task_key, agent_key, live_key = jr.split(key, 3)
        agent = learner(config, tasks, agent_key)
        drawn = sample_tasks(tasks, task_key, "train", config.tasks)
        stored = nothing_stored(config, tasks)
        for k in jr.split(live_key, config.warmup):
            stored, _ = live_in(agent, drawn, stored, jnp.arange(config.tasks), config.ticks, k)
        return State(agent, agent.weights.networks.critics, optimizer.init(flatten(agent.weights)[0]), drawn, stored)

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        choose_key, live_key, learn_key = jr.split(key, 3)
        chosen = jr.choice(choose_key, config.tasks, (config.lives,), replace=False)
        stored, scores = live_in(state.agent, state.tasks, state.stored, chosen, config.ticks, live_key)
        (weights, shaped), (targets, as_critics) = flatten(state.agent.weights), flatten(state.targets)

        def step(carry: tuple, number: Int[Array, ""]) -> tuple[tuple, Metrics]:
            weights, targets, optimizer_state = carry
            task_key, draw_key, loss_key = jr.split(jr.fold_in(learn_key, number), 3)
            some = jr.choice(task_key, config.tasks, (config.tasks_per_update,), replace=False)
            batch, context = draw(stored, some, config, draw_key)
            of = lambda w: loss(shaped(w), as_critics(targets), batch, context, config, loss_key)
            gradient, watched = jax.grad(of, has_aux=True)(weights)
            weights, optimizer_state = apply_gradient(optimizer, gradient, optimizer_state, weights)
            targets = targets + config.target_rate * (flatten(shaped(weights).networks.critics)[0] - targets)
            return (weights, targets, optimizer_state), watched

        carry, learned = jax.lax.scan(step, (weights, targets, state.optimizer), jnp.arange(config.updates))
        weights, targets, optimizer_state = carry
        agent = dataclasses.replace(state.agent, weights=shaped(weights))
        metrics = {"score": jnp.mean(scores)} | jax.tree.map(jnp.mean, learned)
        return State(agent, as_critics(targets), optimizer_state, state.tasks, stored), metrics

    return Program(init, update, lambda state: state.agent)


def nothing_stored(config: Config, tasks: AbstractTaskDistribution) -> Stored:
    """Empty stores for all training tasks."""
    (seen, actions), none = inputs(tasks, OBSERVATION), jnp.zeros(())
    item = Transition(jnp.zeros(seen), jnp.zeros(actions.numbers), none, jnp.zeros(seen), jnp.zeros((), bool))
    replay = jax.vmap(lambda _: empty(item, config.capacity))(jnp.arange(config.tasks))
    return Stored(replay, jnp.zeros((config.tasks, config.ticks, seen + actions.numbers + 1)))


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> PEARL:
    """An agent with fresh weights that takes the likeliest action.

    Raises `TypeError` unless these are control tasks with continuous actions.
    """
    size, actions = inputs(tasks, OBSERVATION)
    if not isinstance(actions, Continuous):
        raise TypeError(f"PEARL is for continuous actions, not {actions}: use rl2")
    network_key, encoder_key = jr.split(key)
    networks = sac.networks(size + config.latent, actions.size, config.width, network_key)
    encoder = MLP((size + actions.size + 1, config.width, config.width, 2 * config.latent), key=encoder_key)
    return PEARL(Weights(networks, encoder), actions, config.latent, config.resample, draws=False)


_SMALL = Config(tasks=4, lives=2, ticks=8, updates=2, tasks_per_update=2, batch=4, context=4, capacity=16, latent=2, width=8)

PRESETS = {
    # With the defaults it settles between the goals (1 of 12): an actor that keeps more entropy explores more.
    "half-circle": Preset(
        Config(divergence=0.0005, entropy=0.5), lambda: HalfCircle(shaped=True), 360, 200, "3 of 12 in the tenth sparse episode"
    ),
    "smoke": Preset(_SMALL, HalfCircle, 4, 8, "it runs"),
}

CLAIMS: tuple[Claim, ...] = ()  # pearl-halfcircle is in pearl_half_circle
