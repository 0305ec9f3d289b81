"""Conditional neural processes: encode each example, average, and decode a Gaussian for every query.

Slow: encoder and decoder. Fast: the average r of the encoded examples, and how many it averages. One outer step: the negative
log-likelihood of the queries. Adaptation is one forward pass, and the order of the support set cannot matter.

    r = mean over support of h(x_i, y_i),      p(y | x, support) = N(mu(x, r), sigma(x, r)^2)

Source: Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende and Eslami 2018, "Conditional Neural Processes".
Builds on: Deep Sets. Led to: (attentive) neural processes, prior-fitted networks.
"""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot import finetune
from quickstudy.algorithms.fewshot.measuring import errors
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Metrics, Preset, Program, descend, train
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, episode_shapes, is_classification, prediction_score
from quickstudy.tasks.sinusoid import Sinusoid


class CNP(AbstractLearner):
    """An encoder whose average conditions a decoder."""

    encoder: MLP
    decoder: MLP

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, " features"]:
        return average_of(self.encoder, view.support_x, view.support_y, view.known())[0]

    def respond(self, fast: Float[Array, " features"], view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return self.predictive(fast, view)[0]

    def observe(self, fast: Array, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Array:
        return fast

    def predictive(
        self, fast: Float[Array, " features"], view: EpisodeView
    ) -> tuple[Float[Array, "query outputs"], Float[Array, "query outputs"]]:
        """The mean and standard deviation of every query's target."""
        queries = jax.vmap(lambda x: self.decoder(jnp.concatenate([x, fast])))(flat(view.query_x))
        mean, spread = jnp.split(queries, 2, axis=1)
        # The authors' published notebook keeps the deviation above 0.1, so that no single point can dominate the likelihood.
        return mean, 0.1 + 0.9 * jax.nn.softplus(spread)


def flat(x: Float[Array, "n ..."]) -> Float[Array, "n features"]:
    """Each example as one vector."""
    return x.reshape(x.shape[0], -1)


def average_of(
    encoder: MLP, x: Float[Array, "n ..."], y: Float[Array, "n outputs"], known: Bool[Array, " n"]
) -> tuple[Float[Array, " features"], Float[Array, ""]]:
    """The average of the known examples, encoded, and how many they are."""
    examples = jnp.where(known[:, None], jnp.concatenate([flat(x), y], axis=1), 0.0)
    features = jnp.where(known[:, None], jax.vmap(encoder)(examples), 0.0)
    count = jnp.sum(known, dtype=features.dtype)
    return jnp.sum(features, axis=0) / jnp.maximum(count, 1.0), count


@dataclasses.dataclass(frozen=True)
class Config:
    """The one-dimensional regression setting of Garnelo et al. 2018, section 4.1, unless it says otherwise."""

    width: int = 128  # Garnelo et al. 2018: 128 features in r
    learning_rate: float = 0.001  # ours, not tuned
    tasks_per_step: int = 64  # ours, not tuned


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> CNP:
    """A conditional neural process with fresh weights; raises `ValueError` for classification episodes."""
    episode = episode_shapes(tasks)
    if is_classification(episode.query_y):
        raise ValueError("cnp predicts floating-point targets; these tasks have class labels")
    inputs = flat(jnp.zeros(episode.query_x.shape)).shape[1]
    encoder_key, decoder_key = jr.split(key)
    width, outputs = config.width, episode.outputs
    encoder = MLP((inputs + outputs, width, width, width), key=encoder_key)
    return CNP(encoder, MLP((inputs + width, width, width, 2 * outputs), key=decoder_key))


def likelihood_loss(learner: CNP, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """Minus the mean log-density of the queries' targets, in nats."""
    mean, deviation = learner.predictive(learner.begin(task.view(), key), task.view())
    loss = -jnp.mean(jax.scipy.stats.norm.logpdf(task.query_y, mean, deviation))
    return loss, {"score": prediction_score(mean, task.query_y)}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train encoder and decoder on the queries' likelihood."""
    return descend(
        likelihood_loss,
        tasks,
        optax.adam(config.learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )


PRESETS = {
    "sinusoid": Preset(Config(), lambda: Sinusoid(shot=10), 5_000, 1, "about 0.1 squared error, no inner step, 60 s"),
    "smoke": Preset(Config(width=16, tasks_per_step=4), lambda: Sinusoid(shot=5), 20, 2, "a few seconds: it runs"),
}


def measure_shots(scale: Scale, seed: int) -> Measurements:
    """The error and the likelihood on waves of 3, 5, 10 and 20 points, for a process trained on 10, beside fine-tuning on 10."""
    steps = {"smoke": 300, "laptop": 5_000, "full": 50_000}[scale]
    tasks = Sinusoid(shot=10)
    ours = train(program(Config(), tasks), steps=steps, seed=seed)
    joint = train(finetune.program(finetune.Config(), tasks), steps=steps, seed=seed)
    measured = {f"CNP, {shot}-shot": float(errors(ours, Sinusoid(shot=shot), seed, steps=0)[0]) for shot in (3, 5, 10, 20)}
    return measured | {"fine-tuning, 10-shot, step 10": float(errors(joint, tasks, seed, steps=10)[10])}


CLAIMS = (
    Claim(
        id="cnp-regression",
        statement="A conditional neural process trained on 10 points improves with every point it is given, and beats fine-tuning.",
        source="Garnelo et al. 2018, section 4.1",
        reported="figures only: Gaussian-process curves",
        not_answered="how far its likelihood is from an exact Gaussian process; that is the in-context family's business.",
        measure=measure_shots,
        expected=(
            Expectation("CNP, 5-shot", "<", "CNP, 3-shot"),
            Expectation("CNP, 10-shot", "<", "CNP, 5-shot"),
            Expectation("CNP, 10-shot", "<", "fine-tuning, 10-shot, step 10", factor=0.5),
        ),
    ),
)
