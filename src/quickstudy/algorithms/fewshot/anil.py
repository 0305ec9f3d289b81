"""ANIL: adapt a part of the network, almost no inner loop.

Slow: all weights. Fast: only a chosen part of them, the head (ANIL) or the biases (a small affine subset). One outer step: as MAML's,
through inner steps that leave the rest of the network alone.

    phi = theta - alpha m * grad L(theta, support),   m = 1 on the adapted part and 0 elsewhere

Source: Raghu, Raghu, Bengio and Vinyals 2020, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness of MAML".
Builds on: MAML. Led to: body-only adaptation (BOIL), and the question of what MAML learns; compare MT-net's learned masks.
"""

import dataclasses
from typing import Literal, get_args

import equinox as eqx
import jax
import optax
from jaxtyping import Array, PRNGKeyArray

from quickstudy.algorithms.fewshot.adaptation import AbstractAdapter, adapt_by_living, query_loss, step_against, support_loss
from quickstudy.algorithms.fewshot.measuring import errors
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTaskDistribution
from quickstudy.nn.networks import Kind, WithHead, with_head
from quickstudy.outer import Preset, Program, descend, train
from quickstudy.tasks.episode import EpisodeView, episode_shapes
from quickstudy.tasks.sinusoid import Sinusoid

Part = Literal["head", "biases", "all"]


class ANIL(AbstractAdapter):
    """A network that descends the support loss in a part of its weights, one gradient step per tick."""

    model: WithHead
    inner_learning_rate: float
    part: Part = eqx.field(static=True)

    def observe(self, fast: WithHead, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> WithHead:
        adapted, frozen = eqx.partition(fast, adapted_part(fast, self.part))
        gradient = eqx.filter_grad(lambda part: support_loss(eqx.combine(part, frozen), view))(adapted)
        return eqx.combine(step_against(adapted, gradient, self.inner_learning_rate), frozen)


def adapted_part(model: WithHead, part: Part) -> WithHead:
    """A tree of booleans like the model's: True on the weights that adapt. Biases are all vectors: shifts, and scales of norms."""
    everywhere = jax.tree.map(lambda leaf: part == "all" or (part == "biases" and leaf.ndim == 1), model)
    return eqx.tree_at(lambda m: (m.weight, m.bias), everywhere, (True, True)) if part == "head" else everywhere


@dataclasses.dataclass(frozen=True)
class Config:
    """The sine setting of MAML (Finn et al. 2017, section 5.1), adapting the head as Raghu et al. 2020 do."""

    part: Part = "head"  # Raghu et al. 2020
    network: Kind = "mlp"  # Finn et al. 2017
    width: int = 40  # Finn et al. 2017: two hidden layers of 40
    inner_learning_rate: float = 0.01  # Finn et al. 2017
    inner_steps: int = 1  # Finn et al. 2017
    outer_learning_rate: float = 0.001  # Finn et al. 2017: Adam
    tasks_per_step: int = 25  # Finn et al. 2017


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> ANIL:
    """An ANIL learner with fresh weights; raises `ValueError` for an unknown part."""
    if config.part not in get_args(Part):
        raise ValueError(f"part must be one of {', '.join(get_args(Part))}, not {config.part!r}")
    episode = episode_shapes(tasks)
    model = with_head(config.network, episode.query_x.shape[1:], config.width, episode.outputs, key=key)
    return ANIL(model, config.inner_learning_rate, config.part)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train all weights by the exact gradient of the query loss after partial adaptation."""
    return descend(
        query_loss,
        tasks,
        optax.adam(config.outer_learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        adapt=adapt_by_living(config.inner_steps),
    )


PRESETS = {
    "sinusoid": Preset(Config(), lambda: Sinusoid(shot=10), 20_000, 11, "about 0.9 squared error after one step, 15 s"),
    "sinusoid-biases": Preset(
        Config(part="biases"), lambda: Sinusoid(shot=10), 20_000, 11, "about 0.4 squared error after one step, 15 s"
    ),
    "smoke": Preset(Config(tasks_per_step=4), lambda: Sinusoid(shot=5), 20, 3, "a few seconds: it runs"),
}


def measure_parts(scale: Scale, seed: int) -> Measurements:
    """The error after one step on 10 points, before and after, when all weights, the biases or the head adapt."""
    steps = {"smoke": 1_000, "laptop": 20_000, "full": 60_000}[scale]
    tasks = Sinusoid(shot=10)
    measured: dict[str, float] = {}
    for part in get_args(Part):
        curve = errors(train(program(Config(part=part), tasks), steps=steps, seed=seed), tasks, seed, steps=1)
        measured |= {f"{part}: no step": float(curve[0]), f"{part}: step 1": float(curve[1])}
    gained = {part: measured[f"{part}: no step"] - measured[f"{part}: step 1"] for part in get_args(Part)}
    return measured | {f"share of MAML's gain, {part} only": gained[part] / gained["all"] for part in ("biases", "head")}


CLAIMS = (
    Claim(
        id="partial-adaptation",
        statement="Adapting the biases alone keeps most (at least 70 %) of what adapting all weights gains on sines in one step.",
        source="systems of the MT-net family; Raghu et al. 2020 for the head",
        reported="no number for sines; ANIL equals MAML on Omniglot and mini-ImageNet",
        not_answered="the variance over inner rates, and images.",
        measure=measure_parts,
        expected=(Expectation("share of MAML's gain, biases only", ">", 0.7),),
    ),
)
