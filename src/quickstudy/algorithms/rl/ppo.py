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
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import AbstractActorCritic, ActorCritic, Sees, reacting
from quickstudy.algorithms.rl.rollouts import (
    Batch,
    Moments,
    State,
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
from quickstudy.core import AbstractTask, AbstractTaskDistribution, Number, Switch
from quickstudy.outer import Metrics, Preset, Program, flatten, switch
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.cartpole import CartPole


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the reference implementation for classic control, where it has them."""

    lives: int = 8  # Huang et al. 2022 (the 37 implementation details): 4 to 8 side by side
    ticks: int = 128  # Schulman et al. 2017, table 5
    horizon: int = 0  # ticks of a whole life, after which it begins again in a new task; 0: lives never end
    across_episodes: bool = False  # whether what follows an episode's end counts, as meta-RL wants
    epochs: int = 4  # Huang et al. 2022
    minibatches: int = 4  # Huang et al. 2022
    learning_rate: Number = 2.5e-4  # Schulman et al. 2017, table 5
    anneal: int | Float[Array, ""] = 0  # outer steps until learning rate and entropy bonus have fallen to zero; 0: they do not
    discount: Number = 0.99  # Schulman et al. 2017
    decay: Number = 0.95  # Schulman et al. 2017
    clip: Number = 0.2  # Schulman et al. 2017
    divergence: Number = 0.0  # weight of KL(old policy, new policy): with a large `clip`, the penalised step of Schulman et al. 2017
    entropy: Number = 0.01  # Schulman et al. 2017, table 5
    value_weight: Number = 0.5  # Huang et al. 2022
    largest_gradient: Number = 0.5  # Huang et al. 2022
    clip_values: Switch = False  # Engstrom et al. 2020: value clipping; Andrychowicz et al. 2021 find that it hurts
    value_clip: Number = 0.2  # Engstrom et al. 2020: how far a value may move, if `clip_values`
    normalise_advantages: Switch = True  # Huang et al. 2022
    normalise_values: Switch = True  # ours: without it the critic fails silently where returns are large
    scale_rewards: Switch = False  # Engstrom et al. 2020: reward scaling
    orthogonal: Switch = True  # Engstrom et al. 2020: orthogonal initialisation
    width: int = 64  # Schulman et al. 2017: two layers of 64
    sees: Sees = "observation"  # everything: the last action, reward and end too

    def __post_init__(self) -> None:
        settings(self)  # which refuses what cannot be lived


# A loss beside PPO's: of a minibatch of lives, and of the tasks they are lived in.
Beside = Callable[[Any, Batch, AbstractTask], tuple[Float[Array, ""], Metrics]]


def improve(
    config: Config,
    tasks: AbstractTaskDistribution,
    learner: Callable[[PRNGKeyArray], AbstractActorCritic],
    beside: Beside | None = None,
) -> Program:
    """PPO as a slow loop, for any actor-critic: `learner(key)` draws its initial weights.

    What `beside` gives, for agents with a memory, is added to PPO's loss.
    """
    optimizer = optax.chain(optax.clip_by_global_norm(config.largest_gradient), optax.scale_by_adam(eps=1e-5))  # Huang et al. 2022

    def init(key: PRNGKeyArray) -> State:
        learner_key, begin_key = jr.split(key)
        new = learner(learner_key)
        return begin(settings(config), tasks, new, optimizer.init(flatten(new)[0]), begin_key)

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        gather_key, order_key = jr.split(key)
        state, batch, metrics = gather(settings(config), tasks, state, gather_key)
        current, optimizer_state = state.window.slow
        weights, shaped = flatten(current)
        share = left(state, config.anneal)

        def step(carry: tuple, chosen: Int[Array, " sequences"]) -> tuple[tuple, Metrics]:
            weights, optimizer_state = carry
            few = jax.tree.map(lambda leaf: leaf[chosen], batch)

            def objective(weights: Float[Array, " weights"]) -> tuple[Float[Array, ""], Metrics]:
                loss, watched = surrogate(shaped(weights), few, config, state.values, share)
                if beside is None:
                    return loss, watched
                own = jax.tree.map(lambda leaf: leaf[chosen], state.window.tasks)
                more, seen = beside(shaped(weights), few, own)
                return loss + more, watched | seen

            gradient, watched = jax.grad(objective, has_aux=True)(weights)
            return descend(optimizer, gradient, optimizer_state, weights, config.learning_rate * share), watched

        order = minibatches(batch.targets.shape[0], config.epochs, config.minibatches, order_key)
        (weights, optimizer_state), learned = jax.lax.scan(step, (weights, optimizer_state), order)
        window = state.window._replace(slow=(shaped(weights), optimizer_state))
        # What the last epoch saw: by then the policy has gone nearly all the way.
        metrics |= jax.tree.map(lambda values: jnp.mean(values[-config.minibatches :]), learned)
        return state._replace(window=window), metrics

    return Program(init, update, lambda state: state.window.slow[0])


def surrogate(
    learner: AbstractActorCritic, batch: Batch, config: Config, seen: Moments, share: Number = 1.0
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of a minibatch, and what to watch while it is minimised; `share` is what is left of the entropy bonus."""
    policies, values = unroll(learner, batch)
    log_ratio = policies.log_probability(batch.responses) - batch.log_probabilities
    ratio = jnp.exp(log_ratio)
    gain = switch(config.normalise_advantages, lambda: standardise(batch.advantages), lambda: batch.advantages)
    actor = -jnp.mean(jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - config.clip, 1 + config.clip) * gain))
    critic = jnp.mean(value_errors(values, batch, seen, config.value_clip, config.clip_values)) / 2
    entropy = jnp.mean(policies.entropy())
    loss = actor + config.value_weight * critic - config.entropy * share * entropy
    # A sweep over weights is an array, which cannot be asked whether it is zero.
    if eqx.is_array(config.divergence) or config.divergence:
        loss = loss + config.divergence * jnp.mean(batch.policies.divergence(policies))
    metrics = {"loss": loss, "entropy": entropy, "divergence": jnp.mean(ratio - 1 - log_ratio)}
    return loss, metrics | {"clipped": jnp.mean((jnp.abs(ratio - 1) > config.clip).astype(jnp.float32))}


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent without memory. Raises `TypeError` unless these are control tasks, `ValueError` if there is nothing to see in them."""
    return reacting(tasks, config.width, config.sees, config.orthogonal, key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """PPO in one task after another, or in one that never ends."""
    return improve(config, tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "cartpole": Preset(
        Config(lives=16, ticks=64, epochs=8, learning_rate=0.002, anneal=60),
        CartPole,
        60,
        500,
        "the pole stands for all of 500 ticks after 61,440 of training, 6 s",
    ),
    "smoke": Preset(Config(lives=4, ticks=8, minibatches=2, width=8, sees="everything"), BernoulliBandit, 4, 8, "it runs"),
}
