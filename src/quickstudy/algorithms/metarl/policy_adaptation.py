"""What the methods that adapt a policy by policy gradients share: who plays, what is learned from it, and a life with inner steps.

A *batch* is the ticks between two inner steps: episodes of one task, one after another in a life, side by side in training. It is
learned from as a `Lesson`. The outer gradient goes through the inner step, whose derivative depends on how the batch's own sampling is
credited; that is `Credit`, in which the estimators differ.

Sources: Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.3; Foerster et al. 2018,
"DiCE: The Infinitely Differentiable Monte Carlo Estimator"; Rothfuss et al. 2018, "ProMP: Proximal Meta-Policy Search".
"""

import abc
import math
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import EVERYTHING, OBSERVATION, Feature, TanhMLP, head, inputs, see
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, End
from quickstudy.nn.policies import Categorical, Gaussian, Policy
from quickstudy.rl import returns
from quickstudy.tasks.bandits import AbstractBandit
from quickstudy.tasks.control import AbstractEnvironment, Actions, ControlView, Discrete

Credit = Literal["full", "low-variance", "none"]
Sees = Literal["observation", "everything"]
READS: dict[Sees, tuple[Feature, ...]] = {"observation": OBSERVATION, "everything": EVERYTHING}


# --- Who plays ----------------------------------------------------------------------------------------------------------------------


class AbstractActor(eqx.Module):
    """What adapts: from what is seen, and from a plan that was drawn before, to a policy."""

    @abc.abstractmethod
    def __call__(self, seen: Float[Array, " inputs"], plan: Float[Array, " plan"]) -> Policy:
        """The policy of one tick."""

    @abc.abstractmethod
    def draw_plan(self, key: PRNGKeyArray) -> Float[Array, " plan"]:
        """A plan to be held for some time: a draw that counts like an action."""

    @abc.abstractmethod
    def plan_log_probability(self, plan: Float[Array, " plan"]) -> Float[Array, ""]:
        """The logarithm of the probability density of drawing this plan."""


class Actor(AbstractActor):
    """A network whose outputs are logits, or means beside a `log_deviation` that does not depend on what is seen. It has no plans."""

    network: TanhMLP
    log_deviation: Float[Array, " size"] | None

    def __call__(self, seen: Float[Array, " inputs"], plan: Float[Array, "0"]) -> Policy:
        numbers = self.network(seen)
        return Categorical(numbers) if self.log_deviation is None else Gaussian(numbers, self.log_deviation)

    def draw_plan(self, key: PRNGKeyArray) -> Float[Array, "0"]:
        return jnp.zeros(0)

    def plan_log_probability(self, plan: Float[Array, "0"]) -> Float[Array, ""]:
        return jnp.zeros(())


class Plan(NamedTuple):
    """The plan of a tick, and whether it was drawn for this tick (else it is held)."""

    numbers: Float[Array, " plan"]
    fresh: Bool[Array, ""]


class Player(AbstractLearner):
    """Acts and does not learn. Its fast state is the actor's plan, drawn anew for each episode, or each tick."""

    actor: AbstractActor
    actions: Actions = eqx.field(static=True)
    reads: tuple[Feature, ...] = eqx.field(static=True)
    redraw: Literal["episode", "tick"] = eqx.field(static=True, default="episode")

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Plan:
        return Plan(self.actor.draw_plan(key), jnp.asarray(True))

    def respond(self, fast: Plan, view: ControlView, key: PRNGKeyArray) -> Array:
        return self.actor(see(view, self.actions, self.reads), fast.numbers).draw(key)

    def observe(self, fast: Plan, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> Plan:
        again = jnp.asarray(self.redraw == "tick") | (feedback.end != End.RUNNING)
        return Plan(jnp.where(again, self.actor.draw_plan(key), fast.numbers), again)


def actor(tasks: AbstractTaskDistribution, sees: Sees, width: int, deviation: float, *, extra: int = 0, key: PRNGKeyArray) -> Actor:
    """An actor with two hidden layers of `width`; continuous actions begin with the standard deviation `deviation`.

    It sees `extra` numbers beside the view. Raises `TypeError` unless the tasks are of the control kind, `ValueError` if there is
    nothing to see in them.
    """
    size, actions = inputs(tasks, READS[sees])
    if not size:
        raise ValueError("these tasks have no observation: a policy without memory needs sees='everything'")
    log_deviation = None if isinstance(actions, Discrete) else jnp.full(actions.numbers, math.log(deviation), jnp.float32)
    return Actor(head((size + extra, width, width, actions.numbers), 0.01, True, key=key), log_deviation)


def horizon(tasks: AbstractTaskDistribution) -> int:
    """The ticks of the longest episode: an environment's time limit; a bandit's episodes are single pulls.

    Raises `TypeError` for tasks that have neither.
    """
    task: Any = eqx.filter_eval_shape(lambda key: tasks.sample(key, "train"), jr.key(0))
    while not isinstance(task, AbstractEnvironment | AbstractBandit) and hasattr(task, "task"):
        task = task.task  # what a task is wrapped in changes its scores, not its episodes
    if isinstance(task, AbstractBandit):
        return 1
    if not isinstance(task, AbstractEnvironment):
        raise TypeError(f"tasks must have episodes with a time limit, not be {type(task).__name__}")
    return int(task.horizon)


# --- What is learned from it --------------------------------------------------------------------------------------------------------


class Episodes(NamedTuple):
    """Ticks of episodes, one after another, `(ticks, ...)`: what the actor saw, planned, did and brought in.

    `policies` are those that it drew from, `log_probabilities` those of what it drew: actions, and plans where they are fresh.
    """

    seen: Float[Array, "ticks inputs"]
    plans: Plan
    responses: Array
    rewards: Float[Array, " ticks"]
    ends: Int[Array, " ticks"]
    policies: Policy
    log_probabilities: Float[Array, " ticks"]


class Lesson(NamedTuple):
    """Episodes and how much better than expected what followed each action was, in units of `spread`, their standard deviation."""

    episodes: Episodes
    gains: Float[Array, " ticks"]
    spread: Float[Array, ""]


def within_episodes(values: Float[Array, " ticks"], ends: Int[Array, " ticks"]) -> Float[Array, " ticks"]:
    """Running sums that begin anew with every episode.

    >>> within_episodes(jnp.array([1.0, 2.0, 4.0]), jnp.array([0, 1, 0])).tolist()
    [1.0, 3.0, 4.0]
    """
    total = jnp.cumsum(values)
    first = jnp.concatenate([jnp.ones(1, bool), ends[:-1] != End.RUNNING])
    starts = jax.lax.cummax(jnp.where(first, jnp.arange(ends.shape[0]), 0))
    return total - (total - values)[starts]


def lesson(episodes: Episodes, discount: float) -> Lesson:
    """Judge a batch: discounted returns less a linear baseline, brought to mean zero and deviation one.

    The last episode counts as far as it was lived. Without any reward all gains are exactly zero.
    """
    ends = episodes.ends.at[-1].set(jnp.maximum(episodes.ends[-1], int(End.TRUNCATED)))
    total = returns(episodes.rewards, (ends == End.RUNNING).astype(jnp.float32), jnp.zeros(()), discount=discount)
    gains = total - linear_baseline(episodes, total)
    spread = jnp.std(gains) + 1e-8
    return Lesson(episodes._replace(ends=ends), (gains - jnp.mean(gains)) / spread, spread)


def linear_baseline(episodes: Episodes, total: Float[Array, " ticks"]) -> Float[Array, " ticks"]:
    """Returns as a least-squares fit on what was seen, its squares, and three powers of the episode's time.

    Source: Duan et al. 2016, "Benchmarking Deep Reinforcement Learning for Continuous Control", section 4.
    """
    time = within_episodes(jnp.ones_like(total), episodes.ends) / total.shape[0] ** 0.5
    x = jnp.concatenate([episodes.seen, episodes.seen**2, jnp.stack([time, time**2, time**3, jnp.ones_like(time)], axis=1)], axis=1)
    # Features often say the same twice. The ridge keeps the conditioning within what single precision can solve.
    products = x.T @ x
    return x @ jax.scipy.linalg.solve(products + 1e-5 * jnp.trace(products) * jnp.eye(x.shape[1]), x.T @ total, assume_a="pos")


def log_probabilities(actor: AbstractActor, episodes: Episodes) -> Float[Array, " ticks"]:
    """The logarithm of the probability with which this actor would draw what was drawn in each tick."""
    plans, fresh = episodes.plans
    actions = jax.vmap(actor)(episodes.seen, plans).log_probability(episodes.responses)
    return actions + jnp.where(fresh, jax.vmap(actor.plan_log_probability)(plans), 0.0)


def bounded(log_ratio: Float[Array, " ticks"]) -> Float[Array, " ticks"]:
    """Keep what has become all but impossible, or was, from overflowing."""
    return jnp.clip(log_ratio, -10.0, 10.0)


def surrogate(actor: AbstractActor, lesson: Lesson, credit: Credit) -> Float[Array, ""]:
    """What an inner step climbs. Its first derivative, the policy gradient, is the same for every credit; its second is not.

    With r_t the ratio of the actor's probability of action t to that with which it was drawn, and R_t the product of an episode's
    ratios up to t: "full", mean (R_t - R_(t-1)) gain_t, has the exact second derivative in expectation; "low-variance",
    mean r_t gain_t, leaves out what crosses ticks; "none", mean log pi_t gain_t, takes the batch for given.

    Sources: Foerster et al. 2018 (full), Rothfuss et al. 2018 (low-variance), Finn et al. 2017 (none, in its code).
    """
    episodes, gains, _ = lesson
    log = log_probabilities(actor, episodes)
    if credit == "none":
        return jnp.mean(log * gains)
    log_ratio = bounded(log - episodes.log_probabilities)
    if credit == "low-variance":
        return jnp.mean(jnp.exp(log_ratio) * gains)
    until = within_episodes(log_ratio, episodes.ends)
    return jnp.mean((jnp.exp(until) - jnp.exp(until - log_ratio)) * gains)


def clipped_surrogate(actor: AbstractActor, lesson: Lesson, clip: float) -> Float[Array, ""]:
    """The surrogate of PPO: it stops rewarding steps that leave the policy which acted.

    Source: Schulman et al. 2017, "Proximal Policy Optimization Algorithms", equation 7.
    """
    episodes, gains, _ = lesson
    ratio = jnp.exp(bounded(log_probabilities(actor, episodes) - episodes.log_probabilities))
    return jnp.mean(jnp.minimum(ratio * gains, jnp.clip(ratio, 1 - clip, 1 + clip) * gains))


# --- A life with inner steps --------------------------------------------------------------------------------------------------------


class Practice(NamedTuple):
    """The fast state: the adapted player, its plan, the current batch, and how many of its ticks are lived."""

    player: Player
    plan: Plan
    batch: Episodes
    tick: Int[Array, ""]


class AbstractPolicyAdapter(AbstractLearner):
    """A learner that acts for `ticks` ticks, learns a `Lesson` from them, and acts on with what it became."""

    player: eqx.AbstractVar[Player]
    ticks: eqx.AbstractVar[int]
    discount: eqx.AbstractVar[float]

    @abc.abstractmethod
    def improve(self, actor: AbstractActor, lesson: Lesson) -> AbstractActor:
        """One inner step."""

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Practice:
        plan = self.player.begin(view, key)
        row = jax.eval_shape(lambda: episode_tick(self.player, plan, view, self.player.respond(plan, view, key), view))
        batch = jax.tree.map(lambda leaf: jnp.zeros((self.ticks, *leaf.shape), leaf.dtype), row)
        return Practice(self.player, plan, batch, jnp.zeros((), jnp.int32))

    def respond(self, fast: Practice, view: ControlView, key: PRNGKeyArray) -> Array:
        return fast.player.respond(fast.plan, view, key)

    def observe(self, fast: Practice, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> Practice:
        now = episode_tick(fast.player, fast.plan, view, response, feedback)
        batch = jax.tree.map(lambda rows, row: rows.at[fast.tick].set(row), fast.batch, now)
        # The count of ticks is the same in all lives side by side, so the step is computed only where a batch is full.
        full = fast.tick + 1 == self.ticks
        learn = lambda player, batch: with_actor(player, self.improve(player.actor, lesson(batch, self.discount)))
        player = jax.lax.cond(full, learn, lambda player, batch: player, fast.player, batch)
        plan = player.observe(fast.plan, view, response, feedback, key)
        return Practice(player, plan, batch, jnp.where(full, 0, fast.tick + 1))


def with_actor(player: Player, actor: AbstractActor) -> Player:
    """The player with another actor."""
    return eqx.tree_at(lambda p: p.actor, player, actor)


def episode_tick(player: Player, plan: Plan, view: ControlView, response: Array, feedback: ControlView) -> Episodes:
    """One tick as a row of `Episodes`."""
    seen = see(view, player.actions, player.reads)
    policy = player.actor(seen, plan.numbers)
    log = policy.log_probability(response) + jnp.where(plan.fresh, player.actor.plan_log_probability(plan.numbers), 0.0)
    return Episodes(seen, plan, response, feedback.reward, feedback.end, policy, log)
