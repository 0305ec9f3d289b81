"""A2C: many agents side by side act for a few ticks, then all take one step up the policy gradient, with the critic as baseline.

* Slow: the policy's and the critic's weights. Fast: the agent's memory, if it has one.
* One outer step: live `ticks` more in every life, estimate advantages, and take a single gradient step. A memory is trained through
  the window and no further: truncated back-propagation.

    maximise  mean log pi(a | s) A  -  value_weight (V - target)^2  +  entropy H(pi),      A = target - V, held constant

Source: Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", whose agents take turns; the synchronous form is that
of Wu et al. 2017, "Scalable Trust-Region Method for Deep Reinforcement Learning Using Kronecker-Factored Approximation".

Builds on: REINFORCE with a baseline, n-step returns. Led to: PPO, of which it is the first gradient step; learning to
reinforcement learn.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import AbstractActorCritic, ActorCritic, Sees, reacting
from quickstudy.algorithms.rl.rollouts import (
    Batch,
    Moments,
    State,
    begin,
    descend,
    gather,
    left,
    settings,
    standardise,
    unroll,
    value_errors,
)
from quickstudy.core import AbstractTaskDistribution, Number, Switch
from quickstudy.outer import Metrics, Preset, Program, flatten, switch
from quickstudy.tasks.bandits import BernoulliBandit


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of Mnih et al. 2016 and, where they differ, of OpenAI's synchronous implementation ("baselines")."""

    lives: int = 16  # Mnih et al. 2016: 16 agents
    ticks: int = 5  # Mnih et al. 2016
    horizon: int = 0  # ticks of a whole life, after which it begins again in a new task; 0: lives never end
    across_episodes: bool = False  # whether what follows an episode's end counts, as meta-RL wants
    learning_rate: Number = 7e-4  # baselines: RMSProp that forgets 1 % a step
    anneal: int | Float[Array, ""] = 0  # outer steps until learning rate and entropy bonus have fallen to zero; 0: they do not
    discount: Number = 0.99  # Mnih et al. 2016
    decay: Number = 1.0  # Mnih et al. 2016: plain n-step returns
    entropy: Number = 0.01  # Mnih et al. 2016
    value_weight: Number = 0.5  # Mnih et al. 2016: the critic's gradient counts half
    largest_gradient: Number = 0.5  # baselines
    normalise_advantages: Switch = False  # Mnih et al. 2016 do not
    normalise_values: Switch = True  # ours: without it the critic fails silently where returns are large
    scale_rewards: Switch = False  # Mnih et al. 2016 clip them instead
    orthogonal: Switch = True  # baselines
    width: int = 64  # baselines: two layers of 64
    sees: Sees = "observation"  # everything: the last action, reward and end too

    def __post_init__(self) -> None:
        settings(self)  # which refuses what cannot be lived


def improve(config: Config, tasks: AbstractTaskDistribution, learner: Callable[[PRNGKeyArray], AbstractActorCritic]) -> Program:
    """A2C as a slow loop, for any actor-critic: `learner(key)` draws its initial weights."""
    optimizer = optax.chain(optax.clip_by_global_norm(config.largest_gradient), optax.scale_by_rms(decay=0.99, eps=1e-5))  # baselines

    def init(key: PRNGKeyArray) -> State:
        learner_key, begin_key = jr.split(key)
        new = learner(learner_key)
        return begin(settings(config), tasks, new, optimizer.init(flatten(new)[0]), begin_key)

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        state, batch, metrics = gather(settings(config), tasks, state, key)
        current, optimizer_state = state.window.slow
        weights, shaped = flatten(current)
        share = left(state, config.anneal)
        gradient, watched = jax.grad(lambda w: policy_loss(shaped(w), batch, config, state.values, share), has_aux=True)(weights)
        weights, optimizer_state = descend(optimizer, gradient, optimizer_state, weights, config.learning_rate * share)
        return state._replace(window=state.window._replace(slow=(shaped(weights), optimizer_state))), metrics | watched

    return Program(init, update, lambda state: state.window.slow[0])


def policy_loss(
    learner: AbstractActorCritic, batch: Batch, config: Config, seen: Moments, share: Number = 1.0
) -> tuple[Float[Array, ""], Metrics]:
    """The loss of a window, and what to watch while it is minimised; `share` is what is left of the entropy bonus."""
    policies, values = unroll(learner, batch)
    gain = switch(config.normalise_advantages, lambda: standardise(batch.advantages), lambda: batch.advantages)
    actor = -jnp.mean(policies.log_probability(batch.responses) * gain)
    critic = jnp.mean(value_errors(values, batch, seen, 0.0, clips=False)) / 2
    entropy = jnp.mean(policies.entropy())
    loss = actor + config.value_weight * critic - config.entropy * share * entropy
    return loss, {"loss": loss, "entropy": entropy}


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ActorCritic:
    """An agent without memory. Raises `TypeError` unless these are control tasks, `ValueError` if there is nothing to see in them."""
    return reacting(tasks, config.width, config.sees, config.orthogonal, key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """A2C in one task after another, or in one that never ends."""
    return improve(config, tasks, lambda key: learner(config, tasks, key))


PRESETS = {
    "smoke": Preset(Config(lives=4, ticks=8, width=8, sees="everything"), BernoulliBandit, 4, 8, "it runs"),
}
