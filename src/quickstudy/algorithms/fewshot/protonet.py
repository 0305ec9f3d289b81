"""Prototypical networks: embed, average each class, and answer with the nearest average.

Slow: the embedding network. Fast: one prototype per class, the mean of its embedded support examples. One outer step: the cross-
entropy of the queries' classes, whose logits are minus squared distances to the prototypes. Nothing is learned by gradient at test
time.

    c_k = mean of f(x) over support examples of class k,      p(y = k | x) = softmax over k of -|f(x) - c_k|^2

Source: Snell, Swersky and Zemel 2017, "Prototypical Networks for Few-shot Learning".
Builds on: matching networks, nearest class mean. Led to: relation networks, semi-supervised prototypes, Proto-MAML.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import predict
from quickstudy.algorithms.fewshot.measuring import held_out
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.nn.networks import Kind, network
from quickstudy.outer import Metrics, Preset, Program, descend, train
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, episode_shapes, prediction_loss, prediction_score
from quickstudy.tasks.glyphs import Glyphs
from quickstudy.tasks.omniglot import Omniglot


class ProtoNet(AbstractLearner):
    """An embedding whose class means answer queries."""

    embedding: eqx.Module

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "way features"]:
        members = jax.nn.one_hot(view.support_y, view.outputs)
        return members.T @ predict(self.embedding, view.support_x) / jnp.sum(members, axis=0)[:, None]

    def respond(self, fast: Float[Array, "way features"], view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query way"]:
        return -squared_distances(predict(self.embedding, view.query_x), fast)

    def observe(self, fast: Array, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Array:
        return fast


def squared_distances(a: Float[Array, "n features"], b: Float[Array, "m features"]) -> Float[Array, "n m"]:
    """All squared Euclidean distances between two sets of vectors, as one matrix product."""
    return jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :] - 2 * a @ b.T


@dataclasses.dataclass(frozen=True)
class Config:
    """Snell et al. 2017, section 3.1, unless it says otherwise."""

    network: Kind = "conv4"  # Snell et al. 2017
    width: int = 64  # Snell et al. 2017: 64 filters
    learning_rate: float = 0.001  # Snell et al. 2017: Adam, 1e-3
    halve_every: int = 2_000  # Snell et al. 2017: the rate is halved every 2,000 episodes
    tasks_per_step: int = 1  # Snell et al. 2017: one episode an update


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ProtoNet:
    """A prototypical network with a fresh embedding."""
    return ProtoNet(network(config.network, episode_shapes(tasks).query_x.shape[1:], config.width, None, key=key))


def episode_loss(learner: AbstractLearner, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """The cross-entropy of the queries, answered from the support set."""
    view = task.view()
    logits = learner.respond(learner.begin(view, key), view, key)
    return prediction_loss(logits, task.query_y), {"score": prediction_score(logits, task.query_y)}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train the embedding on episodes; they may have a larger way than the test's."""
    schedule = optax.exponential_decay(config.learning_rate, config.halve_every, 0.5, staircase=True)
    return descend(
        episode_loss,
        tasks,
        optax.adam(schedule),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )


PRESETS = {
    "omniglot": Preset(
        Config(width=32, learning_rate=0.004, halve_every=250),
        lambda: Omniglot(way=60, shot=1, query=5),
        1_000,
        1,
        "5-way 1-shot 97.5 %, 5 min",
    ),
    # Snell et al. 2017: 60-way, 5 queries a class, rate halved every 2,000 episodes; 98.8 and 96.0 % there.
    "omniglot-full": Preset(
        Config(), lambda: Omniglot(way=60, shot=1, query=5), 20_000, 1, "98.8 and 96.0 % in the paper; an accelerator"
    ),
    "glyphs": Preset(
        Config("conv4-stride", 64, learning_rate=0.003, halve_every=150),
        lambda: Glyphs(way=60, shot=1, query=2),
        700,
        1,
        "75 % on real digits, 10-way 1-shot, where pixels give 66 %, 40 s: see `quickstudy demo`",
    ),
    "smoke": Preset(Config("mlp", width=16), lambda: Glyphs(way=3, shot=1, query=2), 10, 2, "a few seconds: it runs"),
}


def measure_omniglot(scale: Scale, seed: int) -> Measurements:
    """One embedding, trained on 60-way 1-shot episodes, tested at four settings; pixels' nearest class mean beside it."""
    preset = PRESETS["omniglot-full" if scale == "full" else "omniglot"]
    config, tasks, steps, n_tasks = preset.config, preset.tasks(), preset.steps, 1_000
    if scale == "smoke":
        config, tasks, steps, n_tasks = Config("mlp", width=32), Omniglot(way=20, shot=1, query=2), 30, 50
    ours = train(program(config, tasks), steps=steps, seed=seed)
    pixels = ProtoNet(eqx.nn.Lambda(jnp.ravel))
    measured = {}
    for way, shot in ((5, 1), (5, 5), (20, 1), (20, 5)) if scale != "smoke" else ((5, 1), (20, 1)):
        test = Omniglot(way=way, shot=shot, query=5)
        for name, arm in (("ProtoNet", ours), ("pixels", pixels)):
            measured[f"{name}, {way}-way {shot}-shot"] = float(held_out(arm, test, seed, ticks=1, n_tasks=n_tasks).curve.mean[0])
    return measured


CLAIMS = (
    Claim(
        id="protonet-omniglot",
        statement="Prototypical networks reach 97 % at 5-way and 92 % at 20-way 1-shot on new Omniglot characters within minutes.",
        source="Snell et al. 2017, table 1",
        reported="98.8 % and 96.0 % (5- and 20-way 1-shot), 99.7 % and 98.9 % (5-shot), until convergence on a GPU",
        not_answered=(
            "the harder original split and alphabets; our embedding normalises each image by itself, the paper's whole batches."
        ),
        measure=measure_omniglot,
        expected=(
            Expectation("ProtoNet, 5-way 1-shot", ">", 0.97),
            Expectation("ProtoNet, 20-way 1-shot", ">", 0.92),
            Expectation("ProtoNet, 5-way 1-shot", ">", "pixels, 5-way 1-shot"),
        ),
    ),
)
