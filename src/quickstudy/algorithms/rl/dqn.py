"""DQN: learn what every action is worth from replayed transitions, with a target that moves only now and then.

* Slow: the network's weights. Fast: nothing.
* One outer step: live `ticks` more in every life, keep the transitions, and take `updates` gradient steps, each on a batch drawn from
  all that is kept: evenly, or by priority p = (|error| + least)^exponent, with importance weights w that undo the bias.

With the target network's values Q':

    error = r + discount max Q'(s', a') - Q(s, a),      minimise w error^2,      w = (N p / sum of p)^-beta / max w

Double Q: the target network judges the action that the network itself would take, max Q'(s', a') -> Q'(s', argmax Q(s', a')).
Errors are squared, as in CleanRL. Huber's loss, made for rewards within 1, counts rare large errors, such as those at the end of an
episode, for too little: on CartPole all values then grew without end.

Source: Mnih et al. 2015, "Human-level Control through Deep Reinforcement Learning"; priorities: Schaul et al. 2016, "Prioritized
Experience Replay"; double: van Hasselt, Guez and Silver 2016, "Deep Reinforcement Learning with Double Q-learning".

Builds on: Q-learning, experience replay. Led to: Rainbow, soft Q-learning, SAC's critics.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import READS, Feature, Sees, inputs, see
from quickstudy.algorithms.rl.off_policy import Experience, Transition, begin, experience, require_room
from quickstudy.algorithms.rl.replay import Drawn, draw_by_priority, draw_evenly, reprioritise
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Number
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Metrics, Preset, Program, apply_gradient, flatten
from quickstudy.tasks.bandits import BernoulliBandit
from quickstudy.tasks.control import ControlView, Discrete


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings for classic control of CleanRL (Huang et al. 2022, "CleanRL: High-quality Single-file Implementations ...")."""

    lives: int = 8  # ours: side by side, where Mnih et al. 2015 live one
    ticks: int = 2  # ours
    updates: int = 2  # ours: one for eight ticks; CleanRL: one for ten
    batch: int = 128  # CleanRL
    capacity: int = 10_000  # CleanRL
    warmup: int = 1_000  # ticks lived before anything is learned; CleanRL: 10,000
    learning_rate: Number = 2.5e-4  # CleanRL: Adam
    discount: Number = 0.99  # Mnih et al. 2015
    target_every: int = 50  # gradient steps between copies to the target network; CleanRL: 500 ticks, which are 50 steps
    double: bool = True  # van Hasselt et al. 2016
    prioritised: bool = False  # Schaul et al. 2016
    exponent: Number = 0.6  # of priorities: Schaul et al. 2016, proportional
    beta: Number = 0.4  # of importance weights at first, later 1: Schaul et al. 2016, proportional
    least: Number = 1e-6  # added to every error before it is a priority: ours, Schaul et al. 2016 call it small
    explore: int = 2_000  # outer steps until exploration and importance weights have come to their end: ours
    epsilon: Number = 0.05  # share of random actions at the end, from 1 at the start: CleanRL
    test_epsilon: Number = 0.0  # the same when nothing is learned any more: ours; Mnih et al. 2015 take 0.05
    width: int = 64  # ours: two layers, as PPO; CleanRL 120 and 84
    sees: Sees = "observation"  # everything: the last action, reward and end too

    def __post_init__(self) -> None:
        require_room(self.lives, self.ticks, self.capacity, self.warmup)


class AbstractValueAgent(AbstractLearner):
    """An agent that acts on what actions are worth; what is worth what follows from how it acts."""

    network: eqx.AbstractVar[eqx.Module]
    actions: eqx.AbstractVar[Discrete]
    reads: eqx.AbstractVar[tuple[Feature, ...]]

    @abc.abstractmethod
    def choose(self, values: Float[Array, " actions"], key: PRNGKeyArray) -> Int[Array, ""]:
        """An action, given what each is worth."""

    @abc.abstractmethod
    def worth(self, target: Float[Array, " actions"], online: Float[Array, " actions"]) -> Float[Array, ""]:
        """What a place is worth, given what the target network and the network itself say of the actions there."""

    def begin(self, view: ControlView, key: PRNGKeyArray) -> None:
        return None

    def respond(self, fast: None, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        return self.choose(self.network(see(view, self.actions, self.reads)), key)  # type: ignore[operator]

    def observe(self, fast: None, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> None:
        return None


class GreedyAgent(AbstractValueAgent):
    """Takes the best action, and a random one with chance `epsilon`."""

    network: eqx.Module
    epsilon: Number
    actions: Discrete = eqx.field(static=True)
    reads: tuple[Feature, ...] = eqx.field(static=True)
    double: bool = eqx.field(static=True)

    def choose(self, values: Float[Array, " actions"], key: PRNGKeyArray) -> Int[Array, ""]:
        chance_key, action_key = jr.split(key)
        random = jr.randint(action_key, (), 0, self.actions.n, dtype=jnp.int32)
        return jnp.where(jr.uniform(chance_key) < self.epsilon, random, jnp.argmax(values).astype(jnp.int32))

    def worth(self, target: Float[Array, " actions"], online: Float[Array, " actions"]) -> Float[Array, ""]:
        return target[jnp.argmax(online)] if self.double else jnp.max(target)


class State(NamedTuple):
    """The state of the slow loop: the agent, the target network, the optimiser's state, what was lived, and outer steps done."""

    agent: AbstractValueAgent
    target: eqx.Module
    optimizer: optax.OptState
    experience: Experience
    step: Int[Array, ""]


def improve(
    config: Config,
    tasks: AbstractTaskDistribution,
    agent: Callable[[PRNGKeyArray], AbstractValueAgent],
    exploring: Callable[[AbstractValueAgent, Int[Array, ""]], AbstractValueAgent],
) -> Program:
    """Q-learning from replay as a slow loop: `agent(key)` draws initial weights, `exploring(agent, step)` is who acts."""
    optimizer = optax.adam(config.learning_rate)

    def init(key: PRNGKeyArray) -> State:
        agent_key, begin_key, live_key = jr.split(key, 3)
        new, step = agent(agent_key), jnp.zeros((), jnp.int32)
        lived = begin(new, tasks, new.reads, config.lives, config.capacity, begin_key)
        lived, _ = experience(lived, exploring(new, step), new.actions, new.reads, -(-config.warmup // config.lives), live_key)
        return State(new, new.network, optimizer.init(flatten(new.network)[0]), lived, step)

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        live_key, learn_key = jr.split(key)
        agent = state.agent
        lived, metrics = experience(state.experience, exploring(agent, state.step), agent.actions, agent.reads, config.ticks, live_key)
        (weights, shaped), (target, _) = flatten(agent.network), flatten(state.target)
        beta = progress(config.beta, 1.0, state.step, config.explore)

        def step(carry: tuple, number: Int[Array, ""]) -> tuple[tuple, Metrics]:
            weights, target, optimizer_state, replay = carry
            draw = draw_by_priority if config.prioritised else draw_evenly
            drawn = draw(replay, config.batch, jr.fold_in(learn_key, number))
            importance = importance_weights(drawn, replay.size, beta) if config.prioritised else jnp.ones(config.batch)

            def loss(w: Array) -> tuple[Float[Array, ""], tuple[Array, Array]]:
                errors, values = errors_of(
                    eqx.tree_at(lambda a: a.network, agent, shaped(w)), shaped(target), drawn.items, config.discount
                )
                return jnp.mean(importance * errors**2) / 2, (errors, values)

            (value, (errors, values)), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
            weights, optimizer_state = apply_gradient(optimizer, gradient, optimizer_state, weights)
            if config.prioritised:
                replay = reprioritise(replay, drawn.places, (jnp.abs(errors) + config.least) ** config.exponent)
            due = (state.step * config.updates + number + 1) % config.target_every == 0
            target = jnp.where(due, weights, target)
            return (weights, target, optimizer_state, replay), {"loss": value, "mean value": jnp.mean(values)}

        carry = (weights, target, state.optimizer, lived.replay)
        (weights, target, optimizer_state, replay), learned = jax.lax.scan(step, carry, jnp.arange(config.updates))
        agent = eqx.tree_at(lambda a: a.network, agent, shaped(weights))
        after = State(agent, shaped(target), optimizer_state, lived._replace(replay=replay), state.step + 1)
        return after, metrics | jax.tree.map(jnp.mean, learned)

    return Program(init, update, lambda state: state.agent)


def errors_of(
    agent: AbstractValueAgent, target: eqx.Module, batch: Transition, discount: Number
) -> tuple[Float[Array, " batch"], Float[Array, " batch"]]:
    """By how much each transition surprises, and what the agent took its action to be worth."""
    value = jax.vmap(lambda seen, action: agent.network(seen)[action])(batch.seen, batch.action)  # type: ignore[operator]
    after = jax.vmap(lambda seen: agent.worth(target(seen), agent.network(seen)))(batch.after)  # type: ignore[operator]
    goal = batch.reward + discount * jnp.where(batch.terminated, 0.0, jax.lax.stop_gradient(after))
    return goal - value, value


def importance_weights(drawn: Drawn, size: Int[Array, ""], beta: Float[Array, ""]) -> Float[Array, " batch"]:
    """What each item must count for, so that drawing by priority is as drawing evenly (for `beta` 1); the largest of a batch is 1."""
    weights = (size.astype(jnp.float32) * drawn.probabilities) ** -beta
    return weights / jnp.max(weights)


def progress(start: Number, end: Number, step: Int[Array, ""], steps: int) -> Float[Array, ""]:
    """A number that goes in a line from start to end within so many steps, and stays there.

    >>> float(progress(1.0, 0.0, jnp.array(5), 10))
    0.5
    """
    share = jnp.clip(step.astype(jnp.float32) / max(steps, 1), 0.0, 1.0)
    return start + (end - start) * share


def values_network(
    width: int, sees: Sees, tasks: AbstractTaskDistribution, key: PRNGKeyArray
) -> tuple[MLP, Discrete, tuple[Feature, ...]]:
    """A network that says what each action is worth, the actions there are, and what it reads.

    Raises `TypeError` unless these are control tasks with discrete actions, `ValueError` if there is nothing to see in them.
    """
    reads = READS[sees]
    size, actions = inputs(tasks, reads)
    if not isinstance(actions, Discrete):
        raise TypeError(f"values are learned for discrete actions, not {actions}: use sac")
    if not size:
        raise ValueError("these tasks have no observation: use sees='everything'")
    return MLP((size, width, width, actions.n), key=key), actions, reads


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> GreedyAgent:
    """An agent that takes the action with the largest value; see `values_network` for what it refuses."""
    network, actions, reads = values_network(config.width, config.sees, tasks, key)
    return GreedyAgent(network=network, epsilon=config.test_epsilon, actions=actions, reads=reads, double=config.double)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """DQN in one task after another, or in one that never ends."""
    exploring = lambda agent, step: dataclasses.replace(agent, epsilon=progress(1.0, config.epsilon, step, config.explore))
    return improve(config, tasks, lambda key: learner(config, tasks, key), exploring)


_SMOKE = Config(lives=4, batch=8, capacity=64, warmup=16, explore=4, width=8, prioritised=True, sees="everything")

PRESETS = {
    "smoke": Preset(_SMOKE, BernoulliBandit, 4, 8, "it runs"),
}
