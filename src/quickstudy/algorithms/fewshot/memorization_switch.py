"""Memorisation: if a class always has the same label, a meta-learner need not look at the support set at all. A study.

Slow and fast are those of MAML and of a prototypical network. One switch changes the tasks: labels reshuffled in every episode
(mutually exclusive tasks), or a class's label fixed for ever. With fixed labels a network can memorise the training classes; then
swapping the support set for another episode's changes nothing, and new classes are answered by chance.

    I(prediction; support | query) = 0   when predictions do not change with the support set

Source: Yin, Tucker, Zhou, Levine and Finn 2020, "Meta-Learning without Memorization".
Builds on: MAML, prototypical networks. Led to: meta-regularisation, meta-augmentation.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from quickstudy.algorithms.fewshot import maml, protonet
from quickstudy.algorithms.fewshot.measuring import held_out
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, lifetime, sample_tasks
from quickstudy.nn.networks import Kind
from quickstudy.outer import train
from quickstudy.tasks.class_episodes import ClassCounts
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.glyphs import Glyphs


def swap_effect(learner: AbstractLearner, tasks: AbstractTaskDistribution, key: PRNGKeyArray, *, ticks: int, n: int = 200) -> float:
    """The share of training queries whose predicted label changes when the support set comes from another episode."""
    drawn = eqx.filter_jit(sample_tasks)(tasks, key, "train", n)

    def labels(task: EpisodeTask) -> Int[Array, " query"]:
        responses = lifetime(learner, task, key, steps=ticks, record=lambda tick: tick.response)[1]
        return jnp.argmax(responses[-1], axis=-1)

    assert isinstance(drawn, EpisodeTask)
    others = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), (drawn.support_x, drawn.support_y))
    swapped = eqx.tree_at(lambda t: (t.support_x, t.support_y), drawn, others)
    compare = eqx.filter_jit(jax.vmap(lambda a, b: jnp.mean(labels(a) != labels(b), dtype=jnp.float32)))
    return float(jnp.mean(compare(drawn, swapped)))


def measure_switch(scale: Scale, seed: int) -> Measurements:
    """MAML and ProtoNet, 5-way 1-shot, few training classes, labels fixed or shuffled; accuracy on training and on new classes."""
    classes, steps = {"smoke": (25, 4), "laptop": (25, 1_500), "full": (25, 20_000)}[scale]
    # Smoke shows that everything runs; a multi-layer perceptron compiles sooner.
    kind: Kind = "mlp" if scale == "smoke" else "conv4-stride"
    n_tasks = 50 if scale == "smoke" else 500
    maml_config = maml.Config(kind, 32, inner_learning_rate=0.4, outer_learning_rate=0.003, tasks_per_step=16)
    measured = {}
    # A smoke test, which only looks whether it runs, trains one arm of each method for both.
    for labels in ("fixed",) if scale == "smoke" else ("fixed", "shuffled"):
        counts = ClassCounts(classes, 500, 500)
        tasks = Glyphs(way=5, shot=1, query=3, counts=counts, shuffle_labels=labels == "shuffled")
        novel = Glyphs(way=5, shot=1, query=3, counts=counts)
        arms = {
            "MAML": (train(maml.program(maml_config, tasks), steps=steps, seed=seed), 2),
            "ProtoNet": (train(protonet.program(protonet.Config(kind, 32), tasks), steps=steps, seed=seed), 1),
        }
        for name, (arm, ticks) in arms.items():
            seen = held_out(arm, tasks, seed, ticks=ticks, n_tasks=n_tasks, split="train")
            new = held_out(arm, novel, seed, ticks=ticks, n_tasks=n_tasks)
            measured[f"{name}, {labels} labels: training classes"] = float(seen.curve.mean[-1])
            measured[f"{name}, {labels} labels: new classes"] = float(new.curve.mean[-1])
            changed = swap_effect(arm, tasks, jr.key(seed), ticks=ticks)
            measured[f"{name}, {labels} labels: predictions changed by a swapped support set"] = changed
    if scale == "smoke":
        measured |= {name.replace("fixed", "shuffled"): value for name, value in measured.items()}
    return measured


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="memorization-switch",
        statement=(
            "With fixed labels MAML memorises the training classes and fails on new ones; shuffled labels cure it; ProtoNet is immune."
        ),
        source="Yin et al. 2020, section 6",
        reported="recalled, not verified here: 20-way 1-shot Omniglot with fixed labels, MAML 7.8 %, meta-regularised MAML 83.3 %",
        not_answered="whether regularisation cures what shuffling cures, for tasks that cannot be shuffled.",
        measure=measure_switch,
        expected=(
            Expectation("MAML, fixed labels: training classes", ">", 0.9),
            Expectation("MAML, fixed labels: new classes", "<", "MAML, shuffled labels: new classes", factor=0.7),
            Expectation("MAML, fixed labels: predictions changed by a swapped support set", "<", 0.1),
            Expectation("MAML, shuffled labels: new classes", ">", 0.5),
            Expectation("ProtoNet, fixed labels: new classes", ">", "ProtoNet, shuffled labels: new classes", slack=0.05),
        ),
    ),
)
