"""The dual form of a trained layer: a linear layer that learned by gradient descent is attention to everything it was trained on.

* Slow: the weights to start from, and the learning rate. Fast: every example so far and the error that was made on it.
* One outer step: back-propagation through whole streams, in which each target is predicted before it is shown.

Every step of gradient descent adds an outer product, so the layer is never needed: its patterns and their errors are enough, and an
output is what attention without a softmax reads from them. Keys are inputs, values are errors.

    e_t = rate (y_t - W_t x_t),      W_T x = (W_0 + sum_t e_t x_t^T) x = W_0 x + sum_t e_t (x_t . x)

Source: Irie, Csordas and Schmidhuber 2022, "The Dual Form of Neural Networks Revisited: Connecting Test Time Predictions to Training
Patterns via Spotlights of Attention"; the perceptron's dual form: Aizerman, Braverman and Rozonoer 1964.
Builds on: kernel perceptrons, fast weights. Led to: in-context learning as implicit gradient descent.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.outer import Preset, Program, truncate
from quickstudy.tasks.digits import load_digits
from quickstudy.tasks.linear_regression import LinearRegression
from quickstudy.tasks.streams import stream_shapes


def attend_to_training(
    query: Float[Array, " inputs"], patterns: Float[Array, "patterns inputs"], errors: Float[Array, "patterns outputs"]
) -> Float[Array, " outputs"]:
    """What training has added to a layer's output: the errors of all patterns, each as much as its pattern is like the query.

    >>> attend_to_training(jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([[10.0], [1.0]])).tolist()
    [12.0]
    """
    return (patterns @ query) @ errors


class Training(NamedTuple):
    """The last patterns that a layer was trained on, that number i at i % capacity, the errors made, and how many there have been."""

    patterns: Float[Array, "capacity inputs"]
    errors: Float[Array, "capacity outputs"]
    seen: Int[Array, ""]


class DualLayer(AbstractLearner):
    """A linear layer that descends each example's half squared error, kept as the examples themselves.

    It equals the layer while there are at most `capacity` examples; then it forgets the oldest, which a layer cannot.
    """

    weights: Float[Array, "outputs inputs"]
    log_rate: Float[Array, ""]
    capacity: int = eqx.field(static=True)

    def begin(self, view: Float[Array, " inputs"], key: PRNGKeyArray) -> Training:
        outputs, inputs = self.weights.shape
        empty = lambda size: jnp.zeros((self.capacity, size), self.weights.dtype)
        return Training(empty(inputs), empty(outputs), jnp.zeros((), jnp.int32))

    def respond(self, fast: Training, view: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " outputs"]:
        return self.weights @ view + attend_to_training(view, fast.patterns, fast.errors)

    def observe(
        self, fast: Training, view: Array, response: Float[Array, " outputs"], feedback: Float[Array, " outputs"], key: PRNGKeyArray
    ) -> Training:
        slot, error = fast.seen % self.capacity, jnp.exp(self.log_rate) * (feedback - response)
        return Training(fast.patterns.at[slot].set(view), fast.errors.at[slot].set(error), fast.seen + 1)


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours throughout, not tuned."""

    rate: float = 0.1  # ours: the learning rate inside a task before it is learned
    learning_rate: float = 0.01  # ours
    tasks_per_step: int = 64  # ours


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> DualLayer:
    """A layer of zeros that remembers a stream; raises `TypeError` unless the tasks are streams of vectors with float targets."""
    task = stream_shapes(tasks, "dual-form")
    (ticks, inputs), outputs = task.x.shape, task.y.shape[1]
    return DualLayer(jnp.zeros((outputs, inputs)), jnp.log(jnp.asarray(config.rate)), capacity=ticks)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Learn where to start and how fast to learn, by back-propagation through whole streams."""
    ticks = jax.eval_shape(lambda key: learner(config, tasks, key), jr.key(0)).capacity
    return truncate(
        tasks,
        optax.adam(config.learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        unroll=ticks,
        horizon=ticks,
    )


PRESETS = {
    "linear": Preset(Config(), LinearRegression, 500, 16, "a least-mean-squares filter with its best rate"),
    "smoke": Preset(Config(tasks_per_step=4), lambda: LinearRegression(dimensions=2, examples=4), 20, 4, "it runs"),
}


# --- Claim: a network on digits, layer by layer ------------------------------------------------------------------------------------


Weights = tuple[Float[Array, "inputs hidden"], Float[Array, "hidden outputs"]]


class Traces(NamedTuple):
    """What each layer was trained on, step by step: its inputs, the gradients at its outputs times minus the rate, labels."""

    inputs: tuple[Float[Array, "patterns inputs"], Float[Array, "patterns hidden"]]
    errors: tuple[Float[Array, "patterns hidden"], Float[Array, "patterns outputs"]]
    labels: Int[Array, " patterns"]


def layers(weights: Weights, x: Float[Array, "n inputs"], shifts: tuple[Array, Array] | None = None) -> tuple[Array, Array, Array]:
    """Hidden sums, hidden units and logits of a rectified network, with `shifts` added to sums and logits."""
    first, second = shifts or (0.0, 0.0)
    sums = x @ weights[0] + first
    hidden = jax.nn.relu(sums)
    return sums, hidden, hidden @ weights[1] + second


@eqx.filter_jit
def train_network(
    weights: Weights, x: Float[Array, "steps batch inputs"], y: Int[Array, "steps batch"], rate: float
) -> tuple[Weights, Traces]:
    """The weights after a step of gradient descent on each batch's mean cross-entropy, and what each layer was trained on."""

    def loss(weights: Weights, shifts: tuple[Array, Array], x: Array, y: Array) -> tuple[Array, Array]:
        _, hidden, logits = layers(weights, x, shifts)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y)), hidden

    def step(weights: Weights, batch: tuple[Array, Array]) -> tuple[Weights, tuple[tuple[Array, Array], tuple[Array, Array]]]:
        shifts = tuple(jnp.zeros((len(batch[0]), layer.shape[1])) for layer in weights)
        (slopes, errors), hidden = jax.grad(loss, argnums=(0, 1), has_aux=True)(weights, shifts, *batch)
        after = jax.tree.map(lambda layer, slope: layer - rate * slope, weights, slopes)
        return after, ((batch[0], hidden), jax.tree.map(lambda error: -rate * error, errors))

    after, (inputs, errors) = jax.lax.scan(step, weights, (x, y))
    flat = lambda tree: jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), tree)
    return after, Traces(flat(inputs), flat(errors), y.ravel())


@eqx.filter_jit
def examine(start: Weights, after: Weights, traces: Traces, x: Float[Array, "n inputs"], y: Int[Array, " n"]) -> dict[str, Array]:
    """How far the dual form is from the trained layers, and on whom the last one's attention falls.

    Deviations are the largest, relative to one plus the output. The attention to a class, or to the five digits of its half, is the
    share of the sum over its patterns; units are not negative, so no pattern's attention is.
    """
    sums, hidden, logits = layers(after, x)
    trained = zip((x, hidden), start, traces.inputs, traces.errors, (sums, logits), strict=True)
    read = jax.vmap(attend_to_training, in_axes=(0, None, None))
    deviations = [
        jnp.max(jnp.abs(layer_in @ first + read(layer_in, patterns, errors) - out) / (1 + jnp.abs(out)))
        for layer_in, first, patterns, errors, out in trained
    ]
    by_class = hidden @ (traces.inputs[1].T @ jax.nn.one_hot(traces.labels, 10))
    shares = by_class / jnp.maximum(jnp.sum(by_class, axis=1, keepdims=True), 1e-9)
    halves = jnp.sum(shares.reshape(-1, 2, 5), axis=2)
    own = lambda table, which: jnp.take_along_axis(table, which[:, None], axis=1)[:, 0]
    return {
        "largest deviation": jnp.maximum(*deviations),
        "accuracy": jnp.mean(jnp.argmax(logits, axis=1) == y, dtype=jnp.float32),
        "attention to the own class": jnp.mean(own(shares, y)),
        "attention to the own half": jnp.mean(own(halves, y // 5)),
        "attention of digits 0 to 4 to their own half": jnp.sum(jnp.where(y < 5, halves[:, 0], 0.0))
        / jnp.sum(y < 5, dtype=jnp.float32),
    }


def in_order(labels: np.ndarray, sequential: bool, steps: int, generator: np.random.Generator) -> np.ndarray:
    """Which examples to train on, `(steps, 20)`: drawn from all, or first from digits 0 to 4 alone, and then from the others alone."""
    if not sequential:
        return generator.choice(len(labels), (steps, 20))
    first, second = np.flatnonzero(labels < 5), np.flatnonzero(labels >= 5)
    return np.concatenate([generator.choice(first, (steps // 2, 20)), generator.choice(second, (steps - steps // 2, 20))])


def measure_attention(scale: Scale, seed: int) -> Measurements:
    """A network of 64 hidden units trained on digits, on all together or on one half after the other; 797 digits are held out."""
    steps = {"smoke": 20, "laptop": 500, "full": 2_000}[scale]
    images, labels = load_digits()
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    x, y = images.reshape(len(images), -1)[shuffled], labels[shuffled].astype(np.int32)
    first_key, second_key = jr.split(jr.key(seed))
    start = (jr.normal(first_key, (x.shape[1], 64)) / x.shape[1] ** 0.5, jr.normal(second_key, (64, 10)) / 8)
    measured: dict[str, float] = {}
    for name, sequential in (("together", False), ("one after the other", True)):
        chosen = in_order(y[:1000], sequential, steps, generator)
        after, traces = train_network(start, jnp.asarray(x[chosen]), jnp.asarray(y[chosen]), 0.1)
        found = examine(start, after, traces, jnp.asarray(x[1000:]), jnp.asarray(y[1000:]))
        measured |= {f"{name}: {what}": float(value) for what, value in found.items()}
    return measured


CLAIMS = (
    Claim(
        id="dual-form",
        statement=(
            "The layers of a network trained on digits equal attention to all that trained them, and a digit attends to its own class."
        ),
        source="Irie et al. 2022, sections 3 and 4",
        reported="the identity is exact; figures show attention by class for MNIST and Fashion-MNIST, trained jointly and in sequence",
        not_answered="networks whose training does not fit in memory; whether attention explains what a deep network decides.",
        measure=measure_attention,
        expected=(
            Expectation("together: largest deviation", "<", 1e-4),
            Expectation("one after the other: largest deviation", "<", 1e-4),
            Expectation("together: attention to the own class", ">", 0.1),
            Expectation("together: attention to the own half", ">", 0.5),
        ),
    ),
)
