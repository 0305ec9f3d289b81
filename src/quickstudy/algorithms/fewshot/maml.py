"""MAML: find initial weights from which a few gradient steps solve a new task.

Slow: the initial weights theta. Fast: the adapted weights phi. One outer step: adapt to each task of a batch by a few steps of
gradient descent on its support set, then move theta down the gradient of the query losses *through* those steps.

    phi = theta - alpha grad L(theta, support)   (repeated),      min over theta of sum over tasks of L(phi, query)

Source: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks".
Builds on: fine-tuning a pre-trained network. Led to: FOMAML and Reptile (no second derivatives), Meta-SGD (learned rates),
ANIL (adapt the head only), iMAML (implicit gradient).
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from quickstudy.algorithms.fewshot import finetune
from quickstudy.algorithms.fewshot.adaptation import AbstractAdapter, adapt_by_living, query_loss, step_against, support_loss
from quickstudy.algorithms.fewshot.measuring import errors, held_out, lowest_error
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.nn.networks import Kind, network
from quickstudy.outer import Gradient, Preset, Program, descend, train
from quickstudy.tasks.episode import EpisodeView, episode_shapes
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.tasks.sinusoid import Sinusoid


class MAML(AbstractAdapter):
    """A network that descends the support loss by one gradient step per tick, starting from its slow weights."""

    model: eqx.Module
    inner_learning_rate: float

    def observe(self, fast: eqx.Module, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> eqx.Module:
        return step_against(fast, eqx.filter_grad(support_loss)(fast, view), self.inner_learning_rate)


@dataclasses.dataclass(frozen=True)
class Config:
    """Every default is the sine setting of Finn et al. 2017, section 5.1 and its code, unless it says otherwise."""

    network: Kind = "mlp"  # Finn et al. 2017
    width: int = 40  # Finn et al. 2017: two hidden layers of 40
    inner_learning_rate: float = 0.01  # Finn et al. 2017
    inner_steps: int = 1  # Finn et al. 2017
    outer_learning_rate: float = 0.001  # Finn et al. 2017: Adam
    tasks_per_step: int = 25  # Finn et al. 2017: meta-batch 25
    halve_every: int = 0  # outer steps after which the outer rate is halved; Finn et al. 2017: never (0)


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> MAML:
    """A MAML learner with fresh weights, fitting the tasks' inputs and outputs."""
    episode = episode_shapes(tasks)
    model = network(config.network, episode.query_x.shape[1:], config.width, episode.outputs, key=key)
    return MAML(model, config.inner_learning_rate)


def program(config: Config, tasks: AbstractTaskDistribution, gradient: Gradient = "exact") -> Program:
    """Meta-train by descending the query loss after adaptation, through the adaptation's exact derivative by default."""
    rate = config.outer_learning_rate
    return descend(
        query_loss,
        tasks,
        optax.adam(optax.exponential_decay(rate, config.halve_every, 0.5, staircase=True) if config.halve_every else rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        adapt=adapt_by_living(config.inner_steps),
        gradient=gradient,
    )


# Rates and decay are ours, chosen on validation characters.
_OMNIGLOT = Config(
    network="conv4-stride", width=32, inner_learning_rate=0.4, outer_learning_rate=0.003, tasks_per_step=32, halve_every=1_500
)
_OMNIGLOT_FULL = dataclasses.replace(_OMNIGLOT, width=64, outer_learning_rate=0.001, halve_every=0)

PRESETS = {
    "sinusoid": Preset(Config(), lambda: Sinusoid(shot=10), 20_000, 11, "about 0.4 squared error after one step, 15 s"),
    "omniglot": Preset(_OMNIGLOT, lambda: Omniglot(way=5, shot=1, query=1), 6_000, 4, "about 95 % on new characters, 4 min"),
    # Finn et al. 2017, appendix A.1: 60,000 steps, rate 0.4, one step in training, three at test time; 98.7 % there.
    "omniglot-full": Preset(
        _OMNIGLOT_FULL, lambda: Omniglot(way=5, shot=1, query=1), 60_000, 4, "98.7 % in the paper; an accelerator"
    ),
    "smoke": Preset(Config(tasks_per_step=4), lambda: Sinusoid(shot=5), 20, 3, "a few seconds: it runs"),
}


def measure_sinusoid(scale: Scale, seed: int) -> Measurements:
    """MAML and fine-tuning, equally long meta-trained, on 5- and 10-shot waves; fine-tuning's rate is tuned on validation waves."""
    outer_steps = {"smoke": 1_000, "laptop": 20_000, "full": 70_000}[scale]
    measured = {}
    for shot in (5, 10):
        tasks = Sinusoid(shot=shot)
        ours = train(program(Config(), tasks), steps=outer_steps, seed=seed)
        joint = train(finetune.program(finetune.Config(), tasks), steps=outer_steps, seed=seed)
        rivals = {r: eqx.tree_at(lambda m: m.inner_learning_rate, joint, jnp.asarray(r)) for r in (0.001, 0.003, 0.01, 0.03, 0.1)}
        tuning = {rate: errors(rival, tasks, seed, steps=10, split="valid") for rate, rival in rivals.items()}
        curve = errors(ours, tasks, seed, steps=10)
        measured[f"MAML, {shot}-shot, no step"] = curve[0]
        for step in (1, 10):
            rate = lowest_error(tuning, step)
            measured[f"MAML, {shot}-shot, step {step}"] = curve[step]
            measured[f"fine-tuning, {shot}-shot, step {step}"] = errors(rivals[rate], tasks, seed, steps=10)[step]
            measured[f"fine-tuning's tuned rate, {shot}-shot, step {step}"] = rate
        if scale != "smoke":
            elsewhere: dict[str, Split] = {"training waves": "train", "out of range": "out-of-range"}
            for name, split in elsewhere.items():
                measured[f"MAML, {shot}-shot, step 1, {name}"] = errors(ours, tasks, seed, steps=1, split=split)[1]
    return {name: float(value) for name, value in measured.items()}


def measure_omniglot(scale: Scale, seed: int) -> Measurements:
    """MAML on Omniglot, 5-way 1-shot: accuracy after each of three steps on training and on new characters."""
    preset = PRESETS["omniglot-full" if scale == "full" else "omniglot"]
    steps, n_tasks = (20, 20) if scale == "smoke" else (preset.steps, 1_000)
    ours = train(program(preset.config, preset.tasks()), steps=steps, seed=seed)
    test = Omniglot(way=5, shot=1, query=5)
    splits: dict[str, Split] = {"new characters": "test"}
    if scale != "smoke":
        splits["training characters"] = "train"
    measured: dict[str, float] = {}
    for name, split in splits.items():
        curve = held_out(ours, test, seed, ticks=preset.ticks, n_tasks=n_tasks, split=split).curve.mean
        measured |= {f"{name}, step {step}": float(accuracy) for step, accuracy in enumerate(curve)}
    return measured


CLAIMS = (
    Claim(
        id="maml-sinusoid",
        statement="After one gradient step on 5 or 10 points, MAML's error is far (at least 3 times) below fine-tuning's.",
        source="Finn et al. 2017, section 5.1",
        reported="figures only: MAML fits a wave from 5 points where the pre-trained network cannot; 70,000 outer steps",
        not_answered="whether this holds for waves outside the training range, or for networks much larger than 40-40.",
        measure=measure_sinusoid,
        expected=(
            Expectation("MAML, 5-shot, step 1", "<", "fine-tuning, 5-shot, step 1", factor=1 / 3),
            Expectation("MAML, 10-shot, step 1", "<", "fine-tuning, 10-shot, step 1", factor=1 / 3),
            Expectation("MAML, 10-shot, step 10", "<", "fine-tuning, 10-shot, step 10", factor=1 / 3),
        ),
    ),
    Claim(
        id="maml-omniglot",
        statement="MAML reaches 95 % at 5-way 1-shot on new Omniglot characters within minutes, after one gradient step.",
        source="Finn et al. 2017, table 1",
        reported="98.7 +- 0.4 %, with 64 filters, batch normalisation over the queries, and 60,000 outer steps",
        not_answered="20-way, more shots, and the harder original split; our queries do not see each other, the paper's do.",
        measure=measure_omniglot,
        expected=(Expectation("new characters, step 1", ">", 0.95),),
    ),
)
