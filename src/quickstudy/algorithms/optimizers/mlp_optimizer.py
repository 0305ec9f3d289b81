"""A learned optimiser as small as it gets: one perceptron, shared by all parameters, reads what hand-designed optimisers keep."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Program, evolve
from quickstudy.strategies.persistent_es import persistent_es
from quickstudy.tasks.objective import ObjectiveView, Parameters


class Averages(eqx.Module):
    momenta: Float[Array, "decays n"]
    square: Float[Array, " n"]
    tick: Int[Array, ""]


class MLPOptimizer(AbstractLearner):
    network: MLP
    decays: tuple[float, ...] = eqx.field(static=True)
    square_decay: float = eqx.field(static=True)
    step_scale: float = eqx.field(static=True)
    magnitude_scale: float = eqx.field(static=True)

    def begin(self, view: ObjectiveView, key: PRNGKeyArray) -> Averages:
        flat, _ = ravel_pytree(view.parameters)
        return Averages(jnp.zeros((len(self.decays), flat.size)), jnp.zeros(flat.size), jnp.zeros((), jnp.int32))

    def respond(self, fast: Averages, view: ObjectiveView, key: PRNGKeyArray) -> Parameters:
        parameters, unravel = ravel_pytree(view.parameters)
        gradient, _ = ravel_pytree(view.gradient)
        out = jax.vmap(self.network)(self.features(self.average(fast, gradient), parameters, gradient))
        return unravel(-self.step_scale * out[:, 0] * jnp.exp(self.magnitude_scale * out[:, 1]))

    def observe(self, fast: Averages, view: ObjectiveView, response: Parameters, feedback: None, key: PRNGKeyArray) -> Averages:
        gradient, _ = ravel_pytree(view.gradient)
        return self.average(fast, gradient)

    def average(self, fast: Averages, gradient) -> Averages:
        decays = jnp.asarray(self.decays)[:, None]
        momenta = decays * fast.momenta + (1 - decays) * gradient[None]
        return Averages(momenta, self.square_decay * fast.square + (1 - self.square_decay) * gradient**2, fast.tick + 1)

    def features(self, averages: Averages, parameters, gradient):
        adam = averages.momenta * jax.lax.rsqrt(averages.square + 1e-8)[None]
        per = jnp.concatenate([gradient[None], parameters[None], averages.momenta])
        per = per * jax.lax.rsqrt(jnp.mean(per**2, axis=1, keepdims=True) + 1e-8)
        times = jnp.tanh(averages.tick / jnp.asarray([10.0, 100.0]) - 1)
        return jnp.concatenate([per, adam, jnp.broadcast_to(times[:, None], (2, gradient.size))]).T


@dataclasses.dataclass(frozen=True)
class Config:
    hidden: int = 16
    decays: tuple = (0.5, 0.9, 0.99)
    square_decay: float = 0.99
    step_scale: float = 0.1
    magnitude_scale: float = 1.0
    pairs: int = 16
    deviation: float = 0.01
    unroll: int = 20
    horizon: int = 100
    learning_rate: float = 3e-3


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MLPOptimizer:
    features = 4 + 2 * len(config.decays)
    network = MLP((features, config.hidden, 2), key=key)
    return MLPOptimizer(network, config.decays, config.square_decay, config.step_scale, config.magnitude_scale)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    strategy = persistent_es(optax.adam(config.learning_rate), pairs=config.pairs, deviation=config.deviation)
    return evolve(tasks, strategy, learner=lambda key: learner(config, tasks, key), unroll=config.unroll, horizon=config.horizon)
