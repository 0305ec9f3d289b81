"""In-context learning with a recurrent network: it reads examples one by one, and its hidden state is what it has learned.

Slow: the recurrent weights. Fast: the hidden state, and nothing else changes inside a task. One outer step: read a batch of streams,
predict every target before it is shown, and descend the mean error back through time.

    h_t = GRU([x_t, y_t], h_(t-1)),      prediction of y_t = head([x_t, h_(t-1)])

Source: Hochreiter, Younger and Conwell 2001, "Learning to Learn Using Gradient Descent" (with an LSTM).
Builds on: recurrent networks as learning machines. Led to: memory-augmented networks, RL^2, in-context learning of transformers.
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Split
from quickstudy.evaluation import evaluate
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Preset, Program, train, truncate
from quickstudy.tasks.sinusoid import Sinusoid
from quickstudy.tasks.streams import Stream, stream_shapes


class InContextGRU(AbstractLearner):
    """A gated recurrent network that observes examples and answers from its hidden state."""

    cell: eqx.nn.GRUCell
    head: MLP

    def begin(self, view: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " hidden"]:
        return jnp.zeros(self.cell.hidden_size)

    def respond(self, fast: Float[Array, " hidden"], view: Float[Array, " inputs"], key: PRNGKeyArray) -> Float[Array, " outputs"]:
        return self.head(jnp.concatenate([view, fast]))

    def observe(self, fast: Array, view: Array, response: Array, feedback: Float[Array, " outputs"], key: PRNGKeyArray) -> Array:
        return self.cell(jnp.concatenate([view, feedback]), fast)


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours throughout, not tuned."""

    width: int = 64  # ours, not tuned
    learning_rate: float = 0.003  # ours, not tuned
    tasks_per_step: int = 64  # ours, not tuned
    ticks: int = 20  # ours, not tuned


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> InContextGRU:
    """A recurrent learner with fresh weights; raises `TypeError` unless the tasks are streams of vectors with float targets."""
    task = stream_shapes(tasks, "incontext-gru")
    inputs, outputs = task.x.shape[1], task.y.shape[1]
    cell_key, head_key = jr.split(key)
    cell = eqx.nn.GRUCell(inputs + outputs, config.width, key=cell_key)
    return InContextGRU(cell, MLP((inputs + config.width, config.width, outputs), key=head_key))


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train by back-propagation through whole lives."""
    return truncate(
        tasks,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate)),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        unroll=config.ticks,
        horizon=config.ticks,
    )


PRESETS = {
    "sinusoid": Preset(
        Config(), lambda: Stream(Sinusoid(shot=10, query=10)), 4_000, 20, "about 0.1 squared error at the 20th point, 60 s"
    ),
    "smoke": Preset(Config(width=8, tasks_per_step=4, ticks=4), lambda: Stream(Sinusoid(shot=2, query=2)), 20, 4, "it runs"),
}


def measure_stream(scale: Scale, seed: int) -> Measurements:
    """The error at the 1st, 5th, 10th and 20th point of a wave, on test waves and on waves out of the training range."""
    steps = {"smoke": 300, "laptop": 4_000, "full": 40_000}[scale]
    tasks = PRESETS["sinusoid"].tasks()
    ours = train(program(Config(), tasks), steps=steps, seed=seed)
    measured: dict[str, float] = {}
    splits: tuple[Split, ...] = ("test", "out-of-range")
    for split in splits:
        report = evaluate(ours, tasks, split=split, n_tasks=1_000, steps=20, key=jr.fold_in(jr.key(seed), 1))
        measured |= {f"{split}: point {n}": -float(report.curve.mean[n - 1]) for n in (1, 5, 10, 20)}
    return measured


CLAIMS = (
    Claim(
        id="incontext-gru",
        statement=(
            "Without changing a weight, a recurrent network learns a new wave in context: 20 points cut the first error tenfold."
        ),
        source="Hochreiter et al. 2001 (quadratic functions, LSTM)",
        reported="quadratic functions learned in about 30 examples",
        not_answered="where it stands against transformers and exact Bayes, and lives longer than those it was trained on.",
        measure=measure_stream,
        expected=(
            Expectation("test: point 10", "<", "test: point 5"),
            Expectation("test: point 20", "<", "test: point 1", factor=0.1),
        ),
    ),
)
