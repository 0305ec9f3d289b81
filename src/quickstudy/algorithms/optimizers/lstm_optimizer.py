"""LSTM optimiser: a recurrent network that reads gradients and writes updates, trained by the losses it leads to.

One small network serves every coordinate of the parameters, each with a memory of its own, so it fits objectives of any size. It
beats general optimisers on the family of functions it was trained on, because it may forget all the others.

Slow: the weights of the LSTM and its head. Fast: the LSTM memory of every coordinate. One outer step: 20 more steps of optimisation
in each of 16 objectives, then one Adam step on the mean loss along them (by back-propagation, or estimated by persistent ES).

    update, memory' = LSTM(memory, preprocess(grad f(p))),      p' = p + scale update,      min over weights of the sum of f(p')

The gradient counts as data: second derivatives of f are dropped.

Source: Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent".
Builds on: learning algorithms learned by recurrent networks (Hochreiter, Younger and Conwell 2001). Led to: hierarchical learned
optimisers (Wichrowska et al. 2017), and small networks without recurrence trained by persistent ES (`mlp_optimizer`).
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.optimizers.optax_interface import HAND_DESIGNED, draw_suite, final_loss, tuned_losses
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.outer import Preset, Program, evolve, train, truncate
from quickstudy.strategies.persistent_es import persistent_es
from quickstudy.tasks.objective import ObjectiveView, Parameters
from quickstudy.tasks.quadratics import Quadratics
from quickstudy.tasks.small_nets import SmallNets

Memory = tuple[Float[Array, "coordinates hidden"], Float[Array, "coordinates hidden"]]  # an LSTM's output and cell


def preprocess(gradient: Float[Array, " coordinates"], p: float) -> Float[Array, "coordinates 2"]:
    """A gradient's size on a logarithmic scale, and its sign (Andrychowicz et al. 2016, appendix A).

    (log|g| / p, sign g) where |g| >= exp(-p), and (-1, exp(p) g) below: of order one for gradients of every size.

    >>> preprocess(jnp.array([-1.0, 0.0]), 10.0).tolist()
    [[0.0, -1.0], [-1.0, 0.0]]
    """
    size, smallest = jnp.abs(gradient), jnp.exp(-p)
    large = size >= smallest
    logarithm = jnp.log(jnp.maximum(size, smallest)) / p
    return jnp.stack([jnp.where(large, logarithm, -1.0), jnp.where(large, jnp.sign(gradient), gradient / smallest)], axis=-1)


class LSTMOptimizer(AbstractLearner):
    """LSTM layers and a linear head, shared by all coordinates of the parameters."""

    cells: tuple[eqx.nn.LSTMCell, ...]
    head: Float[Array, " hidden"]
    p: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def begin(self, view: ObjectiveView, key: PRNGKeyArray) -> tuple[Memory, ...]:
        flat, _ = ravel_pytree(view.parameters)
        zeros = jnp.zeros((flat.size, self.head.size), flat.dtype)
        return tuple((zeros, zeros) for _ in self.cells)

    def respond(self, fast: tuple[Memory, ...], view: ObjectiveView, key: PRNGKeyArray) -> Parameters:
        _, unravel = ravel_pytree(view.gradient)
        output, _ = self.advance(fast, view)[-1]
        return unravel(self.scale * (output @ self.head))

    def observe(
        self, fast: tuple[Memory, ...], view: ObjectiveView, response: Parameters, feedback: None, key: PRNGKeyArray
    ) -> tuple[Memory, ...]:
        return self.advance(fast, view)

    def advance(self, fast: tuple[Memory, ...], view: ObjectiveView) -> tuple[Memory, ...]:
        """Every coordinate's memory once it has read its gradient; the rows of one matrix product."""
        gradient, _ = ravel_pytree(view.gradient)
        x, after = preprocess(jax.lax.stop_gradient(gradient), self.p), []
        for cell, memory in zip(self.cells, fast, strict=True):
            after.append(jax.vmap(cell)(x, memory))
            x, _ = after[-1]
        return tuple(after)


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the optimiser and of its training; `unroll` and `horizon` are ticks, `steps` outer steps."""

    hidden: int = 20  # Andrychowicz et al. 2016
    layers: int = 2  # Andrychowicz et al. 2016
    p: float = 10.0  # Andrychowicz et al. 2016
    scale: float = 0.1  # Andrychowicz et al. 2016
    unroll: int = 20  # Andrychowicz et al. 2016
    horizon: int = 100  # Andrychowicz et al. 2016
    estimator: Literal["backpropagation", "persistent-es"] = "backpropagation"  # Andrychowicz et al. 2016
    learning_rate: float = 3e-2  # ours: best of 3e-3, 1e-2 and 3e-2 on validation quadratics
    steps: int = 1_500  # ours: the outer learning rate falls to zero over them, along half a cosine
    tasks_per_step: int = 16  # ours: 64 cost four times as much and ended hardly lower on validation quadratics
    pairs: int = 32  # ours, for persistent ES: 64 cost twice as much and were no better at a learning rate of 1e-2
    deviation: float = 0.03  # ours, for persistent ES

    def __post_init__(self) -> None:
        if self.estimator not in ("backpropagation", "persistent-es"):
            raise ValueError(f'estimator must be "backpropagation" or "persistent-es", not {self.estimator!r}')


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> LSTMOptimizer:
    """An untrained optimiser; it fits objectives of every size, so `tasks` is not looked at."""
    *keys, head_key = jr.split(key, config.layers + 1)
    inputs = [2] + [config.hidden] * (config.layers - 1)
    cells = tuple(eqx.nn.LSTMCell(i, config.hidden, key=k) for i, k in zip(inputs, keys, strict=True))
    # Standard deviation 1 / sqrt(inputs), the convention for linear layers.
    return LSTMOptimizer(cells, jr.normal(head_key, (config.hidden,)) / config.hidden**0.5, config.p, config.scale)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Train by back-propagation through windows of `unroll` ticks, or by persistent ES over the same windows."""
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.steps))
    new = lambda key: learner(config, tasks, key)
    if config.estimator == "persistent-es":
        strategy = persistent_es(optimizer, pairs=config.pairs, deviation=config.deviation)
        return evolve(tasks, strategy, learner=new, unroll=config.unroll, horizon=config.horizon)
    return truncate(tasks, optimizer, learner=new, tasks_per_step=config.tasks_per_step, unroll=config.unroll, horizon=config.horizon)


QUADRATICS = Config()
EVOLVED = Config(estimator="persistent-es", steps=3_000)
# One network per outer step, because 1,510 coordinates are a batch by themselves; 3e-3 beat 1e-2 on validation networks.
DIGITS = Config(tasks_per_step=1, learning_rate=3e-3, steps=500)

PRESETS = {
    "quadratics": Preset(QUADRATICS, Quadratics, QUADRATICS.steps, 100, "final loss about 0.25 (Adam, tuned: 0.4), 20 s"),
    "quadratics-evolved": Preset(EVOLVED, Quadratics, EVOLVED.steps, 100, "final loss about 0.3 (Adam, tuned: 0.4), 20 s"),
    "digits": Preset(DIGITS, SmallNets, DIGITS.steps, 100, "final loss about 0.001 (Adam, tuned: 0.01), 45 s"),
    "smoke": Preset(Config(tasks_per_step=2, steps=20), Quadratics, 20, 100, "a few seconds: it runs"),
}


def _trained(config: Config, tasks: AbstractTaskDistribution, scale: Scale, seed: int) -> AbstractLearner:
    """Train for the configured steps, or at smoke scale for a few."""
    config = dataclasses.replace(config, steps=20) if scale == "smoke" else config
    return train(program(config, tasks), steps=config.steps, seed=seed, chunk=50)


def measure_quadratics(scale: Scale, seed: int) -> Measurements:
    """The mean loss after 100 steps on test quadratics: the LSTM by both estimators, and tuned optimisers on the same tasks."""
    tasks, n = Quadratics(), 64 if scale == "smoke" else 1_000
    valid_key, test_key = jr.split(jr.key(seed))
    valid, test = draw_suite(tasks, "valid", valid_key, n), draw_suite(tasks, "test", test_key, n)
    configs = {"lstm": QUADRATICS, "lstm_evolved": EVOLVED}
    arms = {name: float(final_loss(_trained(config, tasks, scale, seed), test, 100)) for name, config in configs.items()}
    return arms | {name: tuned_losses(family, valid, (test,), 100)[0] for name, family in HAND_DESIGNED.items()}


def measure_digits(scale: Scale, seed: int) -> Measurements:
    """The mean loss after 100 steps on networks learning test digits, with the sigmoid of training and with rectifiers.

    The tuned optimisers keep the learning rate that was best for sigmoid networks, as the LSTM keeps its weights.
    """
    # The smoke scale leaves out the rectifiers, whose five arms would have to be compiled too.
    suffixes, n = ([""], 4) if scale == "smoke" else (["", "_relu"], 32)
    sigmoid, relu = SmallNets(), SmallNets(activation="relu")
    valid_key, test_key = jr.split(jr.key(seed))
    valid = draw_suite(sigmoid, "valid", valid_key, n)
    tests = tuple(draw_suite(tasks, "test", test_key, n) for tasks, _ in zip((sigmoid, relu), suffixes, strict=False))
    trained = _trained(DIGITS, sigmoid, scale, seed)
    arms = {"lstm": tuple(float(final_loss(trained, test, 100)) for test in tests)}
    arms |= {name: tuned_losses(family, valid, tests, 100) for name, family in HAND_DESIGNED.items()}
    return {name + suffix: loss for name, losses in arms.items() for suffix, loss in zip(suffixes, losses, strict=True)}


_SOURCE = "Andrychowicz et al. 2016, Learning to learn by gradient descent by gradient descent"
_BEATS_ALL = tuple(Expectation("lstm", "<", name) for name in HAND_DESIGNED)

CLAIMS = (
    Claim(
        id="lstm-optimizer",
        statement="On 10-dimensional quadratics, an LSTM optimiser ends 100 steps lower than SGD, RMSProp and Adam, each tuned.",
        source=_SOURCE,
        reported="Below all tuned baselines after 100 steps (figure 4, left: curves, no table).",
        not_answered="Whether it stays ahead beyond the 100 steps it was trained for, or on functions of another family.",
        measure=measure_quadratics,
        expected=_BEATS_ALL,
    ),
    Claim(
        id="lstm-optimizer-digits",
        statement="Training small sigmoid networks on digits, an LSTM optimiser ends 100 steps lower than tuned baselines.",
        source=_SOURCE,
        reported="On MNIST, below all tuned baselines for 100 steps; with rectifiers instead of sigmoids it fails (figures 4 and 5).",
        not_answered="Training losses on minibatches are compared, not accuracy on unseen images; the `_relu` arms are only reported.",
        measure=measure_digits,
        expected=_BEATS_ALL,
    ),
)
