"""MLP optimiser: a learned optimiser as small as it gets, trained without differentiating through optimisation.

One perceptron, shared by all parameters, reads the statistics that hand-designed optimisers keep and answers with a direction and a
log-magnitude. Back-propagation through long optimisation explodes; persistent ES estimates the meta-gradient from losses alone.

Slow: the perceptron's weights. Fast: each parameter's momenta and second moment, and the number of ticks. One outer step: 20 more
steps of optimisation by both members of 16 mirrored pairs, each pair in an objective of its own, then one Adam step on the estimate.

    direction, magnitude = MLP(features of p, grad f(p) and their averages),      p' = p - scale direction exp(magnitude)

Sources: Metz et al. 2022, "Practical tradeoffs between memory, compute, and performance in learned optimizers" (with more features,
on image classification); Vicol, Metz and Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with
Persistent Evolution Strategies".
Builds on: the LSTM optimiser, whose memory it replaces by fixed averages. Led to: VeLO (Metz et al. 2022).
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.claims import Claim
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Preset, Program, evolve
from quickstudy.strategies.persistent_es import persistent_es
from quickstudy.tasks.objective import ObjectiveView, Parameters
from quickstudy.tasks.quadratics import Quadratics

_TIMESCALES = (10.0, 100.0)  # ticks; ours: the order of a window and of a life


class Averages(eqx.Module):
    """Exponential averages of each parameter's gradient, one row per decay rate, and of its square; `tick` counts the gradients."""

    momenta: Float[Array, "decays n"]
    square: Float[Array, " n"]
    tick: Int[Array, ""]


class MLPOptimizer(AbstractLearner):
    """A perceptron over per-parameter features; it fits objectives of every size."""

    network: MLP
    decays: tuple[float, ...] = eqx.field(static=True)
    square_decay: float = eqx.field(static=True)
    step_scale: float = eqx.field(static=True)

    def begin(self, view: ObjectiveView, key: PRNGKeyArray) -> Averages:
        flat, _ = ravel_pytree(view.parameters)
        return Averages(jnp.zeros((len(self.decays), flat.size), flat.dtype), jnp.zeros_like(flat), jnp.zeros((), jnp.int32))

    def respond(self, fast: Averages, view: ObjectiveView, key: PRNGKeyArray) -> Parameters:
        flat, unravel = ravel_pytree(view.parameters)
        gradient, _ = ravel_pytree(view.gradient)
        direction, magnitude = jax.vmap(self.network)(self.features(self.average(fast, gradient), flat, gradient)).T
        return unravel(-self.step_scale * direction * jnp.exp(magnitude))

    def observe(self, fast: Averages, view: ObjectiveView, response: Parameters, feedback: None, key: PRNGKeyArray) -> Averages:
        return self.average(fast, ravel_pytree(view.gradient)[0])

    def average(self, fast: Averages, gradient: Float[Array, " n"]) -> Averages:
        """The averages after one more gradient."""
        decays, mix = jnp.asarray(self.decays, gradient.dtype)[:, None], self.square_decay
        momenta = decays * fast.momenta + (1 - decays) * gradient[None]
        return Averages(momenta, mix * fast.square + (1 - mix) * jnp.square(gradient), fast.tick + 1)

    def features(self, averages: Averages, parameters: Float[Array, " n"], gradient: Float[Array, " n"]) -> Float[Array, "n features"]:
        """What the perceptron reads about each parameter: gradient, value and momenta, Adam's directions, and the time."""
        rows = jnp.concatenate([gradient[None], parameters[None], averages.momenta])
        # Divided by their root mean square over all parameters, so that the scale of the objective does not matter.
        rows = rows * jax.lax.rsqrt(jnp.mean(jnp.square(rows), axis=1, keepdims=True) + 1e-8)
        adam = averages.momenta * jax.lax.rsqrt(averages.square + 1e-8)[None]
        time = jnp.tanh(averages.tick.astype(gradient.dtype) / jnp.asarray(_TIMESCALES, gradient.dtype) - 1)
        return jnp.concatenate([rows, adam, jnp.broadcast_to(time[:, None], (len(_TIMESCALES), gradient.size))]).T


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the optimiser and of its training; `unroll` and `horizon` are ticks, `steps` outer steps."""

    hidden: int = 16  # ours: small beside the 32 of Metz et al. 2022
    decays: tuple[float, ...] = (0.5, 0.9, 0.99)  # ours: averages over about 2, 10 and 100 gradients
    square_decay: float = 0.99  # ours: an average over about as many gradients as a life has
    step_scale: float = 0.1  # ours: best of 0.1 and 0.3 on validation quadratics; 0.001 in Metz et al. 2022, for networks
    pairs: int = 16  # ours
    deviation: float = 0.01  # ours: as good as 0.03 and better than 0.1 on validation quadratics
    unroll: int = 20  # ours: as the LSTM optimiser's
    horizon: int = 100  # ours: as the LSTM optimiser's
    learning_rate: float = 1e-2  # ours: faster than 3e-3 on validation quadratics, and 3e-2 diverged for one seed of two
    steps: int = 10_000  # ours: half as many end higher; the outer learning rate falls to zero over them, along half a cosine


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MLPOptimizer:
    """An untrained optimiser; it fits objectives of every size, so `tasks` is not looked at."""
    features = 2 + 2 * len(config.decays) + len(_TIMESCALES)
    return MLPOptimizer(MLP((features, config.hidden, 2), key=key), config.decays, config.square_decay, config.step_scale)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Train by persistent ES."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    strategy = persistent_es(optimizer, pairs=config.pairs, deviation=config.deviation)
    return evolve(tasks, strategy, learner=lambda key: learner(config, tasks, key), unroll=config.unroll, horizon=config.horizon)


PRESETS = {
    "quadratics": Preset(Config(), Quadratics, Config().steps, 100, "final loss about 0.3 (Adam, tuned: 0.4), 10 s"),
    "smoke": Preset(Config(pairs=2, steps=20), Quadratics, 20, 100, "a few seconds: it runs"),
}

CLAIMS: tuple[Claim, ...] = ()
