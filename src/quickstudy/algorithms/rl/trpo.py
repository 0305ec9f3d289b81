"""TRPO: the largest step up the policy gradient after which the policy still acts nearly as before.

* Slow: the policy's and the critic's weights. Fast: the agent's memory, if it has one.
* One outer step: live `ticks` more in every life, estimate advantages, move the policy along the natural gradient as far as the bound
  on the KL divergence allows, then fit the critic by minibatch steps.

With the gradient g of the surrogate and the Fisher information F of the policy, both at the old weights:

    step = sqrt(2 delta / x.F x) x,   F x = g   (conjugate gradient),   halved until KL(old, new) <= delta and the surrogate rises

Source: Schulman et al. 2015, "Trust Region Policy Optimization".

Builds on: the natural policy gradient, conservative policy iteration. Led to: PPO, which trades the bound for a clipped ratio.
"""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import ActorCritic, Sees, reacting
from quickstudy.algorithms.rl.rollouts import (
    Batch,
    State,
    Weights,
    begin,
    descend,
    gather,
    left,
    minibatches,
    settings,
    standardise,
    unroll,
    value_errors,
)
from quickstudy.core import AbstractTaskDistribution, Number, Switch
from quickstudy.nn.policies import Policy
from quickstudy.outer import Metrics, Preset, Program, flatten, switch
from quickstudy.tasks.bandits import BernoulliBandit


@dataclasses.dataclass(frozen=True)
class Config:
    """The policy's step as in Schulman et al. 2015 and its code; windows, critic and switches as in `ppo.Config`."""

    lives: int = 8  # as PPO
    ticks: int = 128  # as PPO
    horizon: int = 0  # ticks of a whole life, after which it begins again in a new task; 0: lives never end
    across_episodes: bool = False  # whether what follows an episode's end counts, as meta-RL wants
    delta: Number = 0.01  # Schulman et al. 2015: the largest mean KL(old policy, new policy)
    conjugate_steps: int = 10  # Schulman et al. 2015, appendix C
    damping: Number = 0.1  # code of Schulman et al. 2015: added to the Fisher information
    halvings: int = 10  # code of Schulman et al. 2015: of the step, before it is given up
    epochs: int = 4  # of the critic: as PPO
    minibatches: int = 4  # of the critic: as PPO
    learning_rate: Number = 2.5e-4  # of the critic: as PPO
    anneal: int | Float[Array, ""] = 0  # outer steps after which the critic's learning rate has fallen to zero; 0: it does not fall
    discount: Number = 0.99  # as PPO
    decay: Number = 0.95  # as PPO
    largest_gradient: Number = 0.5  # of the critic: as PPO
    clip_values: Switch = False  # as PPO
    value_clip: Number = 0.2  # as PPO
    normalise_advantages: Switch = True  # as PPO
    normalise_values: Switch = True  # as PPO
    scale_rewards: Switch = False  # as PPO
    orthogonal: Switch = True  # as PPO
    width: int = 64  # as PPO
    sees: Sees = "observation"  # everything: the last action, reward and end too

    def __post_init__(self) -> None:
        settings(self)  # which refuses what cannot be lived


def improve(config: Config, tasks: AbstractTaskDistribution, learner: Callable[[PRNGKeyArray], ActorCritic]) -> Program:
    """TRPO as a slow loop, for any actor-critic with a head for the critic: `learner(key)` draws its initial weights."""
    optimizer = optax.chain(optax.clip_by_global_norm(config.largest_gradient), optax.scale_by_adam(eps=1e-5))  # as PPO

    def init(key: PRNGKeyArray) -> State:
        learner_key, begin_key = jr.split(key)
        new = learner(learner_key)
        return begin(settings(config), tasks, new, optimizer.init(flatten(new.critic)[0]), begin_key)

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        gather_key, order_key = jr.split(key)
        state, batch, metrics = gather(settings(config), tasks, state, gather_key)
        current, optimizer_state = state.window.slow
        current, stepped = step_policy(config, current, batch)
        state = state._replace(window=state.window._replace(slow=(current, optimizer_state)))
        state, error = fit_critic(config, optimizer, state, batch, order_key)
        return state, metrics | stepped | {"critic loss": error}

    return Program(init, update, lambda state: state.window.slow[0])


def step_policy(config: Config, learner: ActorCritic, batch: Batch) -> tuple[ActorCritic, Metrics]:
    """The learner after one bounded step of its policy, and what to watch: loss, entropy, realised divergence, share of the step."""
    weights, shaped = flatten(learner)
    policies_of = lambda w: unroll(shaped(w), batch)[0]
    gain = switch(config.normalise_advantages, lambda: standardise(batch.advantages), lambda: batch.advantages)

    def surrogate(w: Weights) -> Float[Array, ""]:
        return jnp.mean(jnp.exp(policies_of(w).log_probability(batch.responses) - batch.log_probabilities) * gain)

    gradient = jax.grad(surrogate)(weights)
    fisher = fisher_information(policies_of, weights)
    damped = lambda vector: fisher(vector) + config.damping * vector
    direction = conjugate_gradient(damped, gradient, config.conjugate_steps)
    longest = jnp.sqrt(2 * config.delta / jnp.maximum(direction @ damped(direction), 1e-12))

    def judge(share: Float[Array, ""]) -> tuple[Array, Array]:
        """The realised divergence of a share of the longest step, and whether that step is good."""
        there = weights + share * longest * direction
        divergence = jnp.mean(batch.policies.divergence(policies_of(there)))
        return divergence, (divergence <= config.delta) & (surrogate(there) > jnp.mean(gain))

    def halve(search: tuple) -> tuple:
        halvings, *_ = search
        return halvings + 1, *judge(0.5 ** (halvings + 1.0))

    searching = lambda search: ~search[2] & (search[0] < config.halvings)
    halvings, divergence, good = jax.lax.while_loop(searching, halve, (jnp.zeros(()), *judge(jnp.ones(()))))
    share = jnp.where(good, 0.5**halvings, 0.0)
    metrics = {
        "loss": -surrogate(weights + share * longest * direction),
        "entropy": jnp.mean(batch.policies.entropy()),
        "divergence": jnp.where(good, divergence, 0.0),
        "share of step": share,
    }
    return shaped(weights + share * longest * direction), metrics


def fisher_information(policies_of: Callable[[Weights], Policy], weights: Weights) -> Callable[[Weights], Weights]:
    """The product of a vector with the second derivative of the mean KL divergence from the policies at `weights`.

    It is J' H J, where J is the derivative of what defines the policies (logits, or means and deviations) by the weights, and H the
    second derivative of the divergence by those: the term with the second derivative of the network is zero at `weights`.
    """
    old, push = jax.linearize(policies_of, weights)
    pull = jax.linear_transpose(push, weights)
    slope = jax.grad(lambda new: jnp.mean(old.divergence(new)))
    return lambda vector: pull(jax.jvp(slope, (old,), (push(vector),))[1])[0]


def conjugate_gradient(product: Callable[[Weights], Weights], target: Weights, steps: int) -> Weights:
    """Nearly the x with product(x) = target, for a symmetric positive product; exact after as many steps as there are weights.

    >>> conjugate_gradient(lambda x: jnp.array([2.0, 4.0]) * x, jnp.array([2.0, 2.0]), 2).round(4).tolist()
    [1.0, 0.5]
    """

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        x, residual, direction, square = carry
        along = product(direction)
        # Once the residual has vanished nothing may move any more.
        length = jnp.where(square > 1e-10, square / jnp.maximum(direction @ along, 1e-20), 0.0)
        x, residual = x + length * direction, residual - length * along
        after = residual @ residual
        return (x, residual, residual + after / jnp.maximum(square, 1e-20) * direction, after), None

    start = (jnp.zeros_like(target), target, target, target @ target)
    return jax.lax.scan(step, start, None, length=steps)[0][0]


def fit_critic(
    config: Config, optimizer: optax.GradientTransformation, state: State, batch: Batch, key: PRNGKeyArray
) -> tuple[State, Float[Array, ""]]:
    """The state after some epochs of minibatch steps of the critic's head towards the value targets; the policy stays what it is."""
    current, optimizer_state = state.window.slow
    weights, shaped = flatten(current.critic)
    judging = lambda w: eqx.tree_at(lambda agent: agent.critic, current, shaped(w))
    rate = config.learning_rate * left(state, config.anneal)

    def loss(w: Weights, few: Batch) -> Float[Array, ""]:
        values = unroll(judging(w), few)[1]
        return jnp.mean(value_errors(values, few, state.values, config.value_clip, config.clip_values)) / 2

    def step(carry: tuple, chosen: Int[Array, " sequences"]) -> tuple[tuple, Float[Array, ""]]:
        weights, optimizer_state = carry
        error, gradient = jax.value_and_grad(loss)(weights, jax.tree.map(lambda leaf: leaf[chosen], batch))
        return descend(optimizer, gradient, optimizer_state, weights, rate), error

    order = minibatches(batch.targets.shape[0], config.epochs, config.minibatches, key)
    (weights, optimizer_state), errors = jax.lax.scan(step, (weights, optimizer_state), order)
    window = state.window._replace(slow=(judging(weights), optimizer_state))
    return state._replace(window=window), jnp.mean(errors[-config.minibatches :])


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent without memory. Raises `TypeError` unless these are control tasks, `ValueError` if there is nothing to see in them."""
    return reacting(tasks, config.width, config.sees, config.orthogonal, key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """TRPO in one task after another, or in one that never ends."""
    return improve(config, tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "smoke": Preset(Config(lives=4, ticks=8, minibatches=2, width=8, sees="everything"), BernoulliBandit, 4, 8, "it runs"),
}
