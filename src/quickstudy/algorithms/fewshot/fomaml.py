"""First-order MAML: MAML that forgets how the adapted weights depend on the initial ones.

Slow: the initial weights theta. Fast: the adapted weights phi. One outer step: adapt to each task of a batch, then move theta along
the query gradient *taken at phi*, as if d phi / d theta were the identity: no second derivatives, less time and memory.

    phi = theta - alpha grad L(theta, support)   (repeated),      theta <- theta - beta * mean over tasks of grad L(phi, query)

Source: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.2.
Builds on: MAML. Led to: Reptile, implicit gradients (FOMAML is iMAML with no conjugate-gradient steps).
"""

import dataclasses
import time

from jaxtyping import PRNGKeyArray

from quickstudy.algorithms.fewshot import maml
from quickstudy.algorithms.fewshot.measuring import held_out, update_memory
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.outer import Preset, Program, train
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.tasks.sinusoid import Sinusoid

Config = maml.Config


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> maml.MAML:
    """A MAML learner: the methods differ in their outer step only."""
    return maml.learner(config, tasks, key)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """MAML's program with the first-order gradient."""
    return maml.program(config, tasks, gradient="first-order")


PRESETS = {
    "sinusoid": Preset(Config(), lambda: Sinusoid(shot=10), 20_000, 11, "about 0.4 squared error after one step, 15 s"),
    "omniglot": maml.PRESETS["omniglot"],
    "omniglot-full": maml.PRESETS["omniglot-full"],
    "smoke": maml.PRESETS["smoke"],
}


# One setting for both arms. With MAML's single inner step of 0.4 (or 0.1) first order stays below 60 % on validation characters.
_COMPARED = Config("conv4-stride", 32, inner_learning_rate=0.1, inner_steps=5, tasks_per_step=16)


def measure_omniglot(scale: Scale, seed: int) -> Measurements:
    """MAML and first-order MAML on Omniglot, 5-way 1-shot, equally long meta-trained; accuracy, CPU time and memory of an update."""
    steps, n_tasks = {"smoke": (3, 20), "laptop": (1_000, 1_000), "full": (60_000, 1_000)}[scale]
    config = dataclasses.replace(_COMPARED, network="mlp") if scale == "smoke" else _COMPARED
    tasks, test = Omniglot(way=5, shot=1, query=3), Omniglot(way=5, shot=1, query=5)
    measured = {}
    for name, make in (("MAML", maml.program), ("FOMAML", program)):
        method = make(config, tasks)
        began = time.process_time()
        trained = train(method, steps=steps, seed=seed)
        measured[f"{name}: training CPU-seconds"] = time.process_time() - began
        measured[f"{name}: memory of an update (MB)"] = update_memory(method) / 1e6
        splits: tuple[Split, ...] = ("test",) if scale == "smoke" else ("train", "test")
        for split in splits:
            report = held_out(trained, test, seed, ticks=6, n_tasks=n_tasks, split=split)
            measured[f"{name}: {split} accuracy"] = float(report.curve.mean[-1])
    return measured


CLAIMS = (
    Claim(
        id="fomaml",
        statement="On Omniglot first-order MAML is within one point of MAML's accuracy at less time and memory.",
        source="Finn et al. 2017, section 5.2 (mini-ImageNet); Rajeswaran et al. 2019, table 2 (Omniglot)",
        reported="5-way 1-shot Omniglot: MAML 98.7 +- 0.4 %, FOMAML 98.3 +- 0.5 %, with 64 filters, until convergence",
        not_answered="what long training changes: both arms stop after 1,000 outer steps of 16 tasks, a hundredth of the source's.",
        measure=measure_omniglot,
        expected=(
            Expectation("FOMAML: test accuracy", ">", "MAML: test accuracy", slack=0.01),
            Expectation("FOMAML: training CPU-seconds", "<", "MAML: training CPU-seconds"),
            Expectation("FOMAML: memory of an update (MB)", "<", "MAML: memory of an update (MB)"),
        ),
    ),
)
