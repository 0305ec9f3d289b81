"""SAC: an actor that follows exp(Q), critics that count its freedom as reward, and a temperature that keeps it as free as asked.

* Slow: the weights of the actor and of two critics, and the temperature. Fast: nothing.
* One outer step: live `ticks` more in every life, keep the transitions, and take `updates` gradient steps, each on a batch drawn from
  all that is kept; after each the target critics move a little towards the critics.

With the smaller of the two target critics' values Q', actions a' drawn from the actor, and the entropy H that is asked for:

    critics:      minimise (r + discount (Q'(s', a') - temperature log pi(a' | s')) - Q(s, a))^2
    actor:        minimise mean temperature log pi(a | s) - Q(s, a),      a = tanh(mean(s) + deviation(s) noise)
    temperature:  minimise -log temperature (log pi(a | s) + H)

Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications".

Builds on: soft Q-learning, DDPG, the clipped double critics of TD3. Led to: PEARL, DIAYN, and most of robot learning from scratch.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl.actor_critic import READS, Feature, Sees, inputs, see
from quickstudy.algorithms.rl.off_policy import Experience, Transition, begin, experience, require_room
from quickstudy.algorithms.rl.replay import draw_evenly
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Number
from quickstudy.nn.mlp import MLP
from quickstudy.nn.policies import SquashedGaussian
from quickstudy.outer import Metrics, Preset, Program, apply_gradient, flatten
from quickstudy.tasks.control import Continuous, ControlView
from quickstudy.tasks.pendulum import Pendulum

Critics = tuple[MLP, MLP]


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of Haarnoja et al. 2018, table 1, with smaller networks and stores."""

    lives: int = 1  # Haarnoja et al. 2018
    ticks: int = 1  # Haarnoja et al. 2018
    updates: int = 1  # Haarnoja et al. 2018
    batch: int = 128  # ours; Haarnoja et al. 2018: 256
    capacity: int = 50_000  # ours; Haarnoja et al. 2018: a million
    warmup: int = 500  # ticks lived before anything is learned: ours
    learning_rate: Number = 1e-3  # ours: for small networks; Haarnoja et al. 2018: 3e-4
    discount: Number = 0.99  # Haarnoja et al. 2018
    target_rate: Number = 0.005  # Haarnoja et al. 2018: the share by which target critics move
    entropy: float | None = None  # that the actor shall keep; none: minus one for each number of an action, as in Haarnoja et al. 2018
    width: int = 64  # ours: two layers; Haarnoja et al. 2018: 256
    sees: Sees = "observation"  # everything: the last action, reward and end too

    def __post_init__(self) -> None:
        require_room(self.lives, self.ticks, self.capacity, self.warmup)


class Networks(eqx.Module):
    """All that is learned: an actor, two critics of what is seen and done, and the temperature."""

    actor: MLP
    critics: Critics
    log_temperature: Float[Array, ""]

    def policy(self, seen: Float[Array, " inputs"]) -> SquashedGaussian:
        """The policy of one place."""
        mean, log_deviation = jnp.split(self.actor(seen), 2)
        return SquashedGaussian(mean, jnp.clip(log_deviation, -20.0, 2.0))  # Haarnoja et al. 2018, their code


class SoftActor(AbstractLearner):
    """Draws its actions, or, where nothing is learned any more, takes the likeliest one (`draws` false)."""

    networks: Networks
    actions: Continuous = eqx.field(static=True)
    reads: tuple[Feature, ...] = eqx.field(static=True)
    draws: bool = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> None:
        return None

    def respond(self, fast: None, view: ControlView, key: PRNGKeyArray) -> Float[Array, " size"]:
        policy = self.networks.policy(see(view, self.actions, self.reads))
        return policy.draw(key) if self.draws else policy.likeliest()

    def observe(self, fast: None, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> None:
        return None


class State(NamedTuple):
    """The state of the slow loop: the agent, the target critics, the optimiser's state, and what was lived."""

    agent: SoftActor
    targets: Critics
    optimizer: optax.OptState
    experience: Experience


def judge(critics: Critics, seen: Float[Array, "batch inputs"], action: Float[Array, "batch size"]) -> Float[Array, "2 batch"]:
    """What each critic says of doing this there."""
    both = jnp.concatenate([seen, action], axis=1)
    return jnp.stack([jax.vmap(critic)(both)[:, 0] for critic in critics])


def act(networks: Networks, seen: Float[Array, "batch inputs"], key: PRNGKeyArray) -> tuple[Float[Array, "batch size"], Array]:
    """An action for every place, and its log-probability."""
    return jax.vmap(lambda one, k: networks.policy(one).draw_and_judge(k))(seen, jr.split(key, seen.shape[0]))


# The three losses. What is seen may be longer than an observation: a context put after it is treated like a part of it, and the
# critics' loss may be differentiated by it.


def critic_loss(
    networks: Networks, targets: Critics, batch: Transition, discount: Number, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Half the squared errors of both critics, and their mean value; only critics, and what is `seen`, have a gradient here."""
    action, log_probability = act(networks, batch.after, key)
    after = jnp.min(judge(targets, batch.after, action), axis=0) - jnp.exp(networks.log_temperature) * log_probability
    goal = jax.lax.stop_gradient(batch.reward + discount * jnp.where(batch.terminated, 0.0, after))
    values = judge(networks.critics, batch.seen, batch.action)
    return jnp.sum(jnp.mean((values - goal[None]) ** 2, axis=1)) / 2, jnp.mean(values)


def actor_loss(networks: Networks, seen: Float[Array, "batch inputs"], key: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """How far the actor is from exp(Q / temperature), and its entropy; only the actor has a gradient here."""
    fixed = jax.lax.stop_gradient((networks.critics, networks.log_temperature, seen))
    critics, log_temperature, seen = fixed
    action, log_probability = act(networks, seen, key)
    worth = jnp.min(judge(critics, seen, action), axis=0)
    return jnp.mean(jnp.exp(log_temperature) * log_probability - worth), -jnp.mean(log_probability)


def temperature_loss(networks: Networks, entropy: Float[Array, ""], asked: float) -> Float[Array, ""]:
    """Falls with the temperature while the actor is freer than asked; only the temperature has a gradient here."""
    return networks.log_temperature * jax.lax.stop_gradient(entropy - asked)


def loss(
    networks: Networks, targets: Critics, batch: Transition, discount: Number, asked: float, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Metrics]:
    """The sum of the three losses, whose gradients touch different weights, and what to watch."""
    critic_key, actor_key = jr.split(key)
    critics, value = critic_loss(networks, targets, batch, discount, critic_key)
    actor, entropy = actor_loss(networks, batch.seen, actor_key)
    metrics = {"critic loss": critics, "mean value": value, "entropy": entropy, "temperature": jnp.exp(networks.log_temperature)}
    return critics + actor + temperature_loss(networks, entropy, asked), metrics


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """SAC in one task after another, or in one that never ends."""
    optimizer = optax.adam(config.learning_rate)
    exploring = lambda agent: dataclasses.replace(agent, draws=True)

    def init(key: PRNGKeyArray) -> State:
        agent_key, begin_key, live_key = jr.split(key, 3)
        new = learner(config, tasks, agent_key)
        lived = begin(new, tasks, new.reads, config.lives, config.capacity, begin_key)
        lived, _ = experience(lived, exploring(new), new.actions, new.reads, -(-config.warmup // config.lives), live_key)
        return State(new, new.networks.critics, optimizer.init(flatten(new.networks)[0]), lived)

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        live_key, learn_key = jr.split(key)
        agent = state.agent
        lived, metrics = experience(state.experience, exploring(agent), agent.actions, agent.reads, config.ticks, live_key)
        asked = float(-agent.actions.size) if config.entropy is None else config.entropy
        (weights, shaped), (targets, as_critics) = flatten(agent.networks), flatten(state.targets)

        def step(carry: tuple, number: Int[Array, ""]) -> tuple[tuple, Metrics]:
            weights, targets, optimizer_state = carry
            draw_key, loss_key = jr.split(jr.fold_in(learn_key, number))
            batch = draw_evenly(lived.replay, config.batch, draw_key).items
            of = lambda w: loss(shaped(w), as_critics(targets), batch, config.discount, asked, loss_key)
            gradient, watched = jax.grad(of, has_aux=True)(weights)
            weights, optimizer_state = apply_gradient(optimizer, gradient, optimizer_state, weights)
            targets = targets + config.target_rate * (flatten(shaped(weights).critics)[0] - targets)
            return (weights, targets, optimizer_state), watched

        carry, learned = jax.lax.scan(step, (weights, targets, state.optimizer), jnp.arange(config.updates))
        weights, targets, optimizer_state = carry
        agent = dataclasses.replace(agent, networks=shaped(weights))
        return State(agent, as_critics(targets), optimizer_state, lived), metrics | jax.tree.map(jnp.mean, learned)

    return Program(init, update, lambda state: state.agent)


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> SoftActor:
    """An agent with fresh weights that takes the likeliest action.

    Raises `TypeError` unless these are control tasks with continuous actions, `ValueError` if there is nothing to see in them.
    """
    reads = READS[config.sees]
    size, actions = inputs(tasks, reads)
    if not isinstance(actions, Continuous):
        raise TypeError(f"SAC is for continuous actions, not {actions}: use soft-q")
    if not size:
        raise ValueError("these tasks have no observation: use sees='everything'")
    return SoftActor(networks(size, actions.size, config.width, key), actions, reads, draws=False)


def networks(inputs: int, size: int, width: int, key: PRNGKeyArray) -> Networks:
    """Fresh networks for so many numbers to see and to do."""
    actor_key, *critic_keys = jr.split(key, 3)
    one, other = (MLP((inputs + size, width, width, 1), key=k) for k in critic_keys)
    return Networks(MLP((inputs, width, width, 2 * size), key=actor_key), (one, other), jnp.zeros(()))


PRESETS = {
    "pendulum": Preset(Config(), Pendulum, 20_000, 200, "-0.8 a tick, 15 s"),
    "smoke": Preset(Config(lives=2, batch=8, capacity=64, warmup=16, width=8), Pendulum, 4, 8, "it runs"),
}
