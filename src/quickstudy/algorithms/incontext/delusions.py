"""Delusions: who learns by watching an expert takes its own actions for the expert's, and believes what they seem to say.

An expert who knows which arm is best pulls it. A network that has learned to predict the expert is right to take a pull as a sign that
the arm is good; left to itself it takes its own first, random pull as such a sign, and never doubts it. Asked instead, in every
situation that it gets into by its own actions, what the expert would do, it learns that its actions say nothing: Thompson sampling.

    factual error          -log p(expert's action | history of the expert's actions)
    counterfactual error   -log p(what the expert would do | history of one's own actions)

Source: Ortega et al. 2021, "Shaking the foundations: delusions in sequence models for interaction and control".
"""

import jax.random as jr
import numpy as np
from jaxtyping import Array

from quickstudy.algorithms.incontext import meta_bayes
from quickstudy.algorithms.incontext.sequential_strategies import arms_of, judge
from quickstudy.algorithms.references.best_arm import PosteriorBest
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner
from quickstudy.evaluation import recorded_lives
from quickstudy.outer import train
from quickstudy.tasks.best_arm import BestArm


def stubbornness(who: AbstractLearner, tasks: BestArm, key: Array, *, n: int, pulls: int) -> float:
    """The share of later pulls, over `n` lives in test bandits, that are of the arm that was pulled first."""
    pulled = recorded_lives(who, tasks, key, n=n, ticks=pulls, record=lambda task, tick: arms_of(tick.feedback))
    arms = np.argmax(np.asarray(pulled), axis=-1)
    return float(np.mean(arms[:, 1:] == arms[:, :1]))


def measure_delusions(scale: Scale, seed: int) -> Measurements:
    """A network that watched an expert, and one that was told what the expert would do, left to themselves in new bandits."""
    steps, n, pulls = {"smoke": (4, 20, 5), "laptop": (10_000, 10_000, 30), "full": (30_000, 100_000, 30)}[scale]
    alone, watching = BestArm(), BestArm(demonstrated=True)
    config = meta_bayes.Config(width=8 if scale == "smoke" else 64, throws=pulls)
    taught = lambda tasks: train(meta_bayes.program(config, tasks), steps=steps, seed=seed)
    arms = {"factual": taught(watching), "counterfactual": taught(alone), "Thompson": PosteriorBest(alone.arms)}
    measured = {}
    for name, who in arms.items():
        key = jr.fold_in(jr.key(seed), 1)
        measured[f"{name}: regret"] = float(judge(who, alone, key, n=n, pulls=pulls)[0].mean())
        measured[f"{name}: pulls of the first arm"] = stubbornness(who, alone, key, n=n, pulls=pulls)
    return measured


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="delusions",
        statement=(
            "A network trained to predict an expert repeats its own first, random action for good; asked what the expert would do "
            "where it has got to itself, it has, within a twentieth, the regret of the exact Bayesian policy."
        ),
        source="Ortega et al. 2021",
        reported="a derivation with examples: actions must be treated as interventions, which counterfactual teaching achieves",
        not_answered="experts who err, whose demonstrations say less; other environments.",
        measure=measure_delusions,
        expected=(
            Expectation("factual: pulls of the first arm", ">", 0.9),
            Expectation("factual: regret", ">", "Thompson: regret", factor=2.0),
            Expectation("counterfactual: regret", "<", "Thompson: regret", factor=1.05),
            Expectation("counterfactual: pulls of the first arm", "<", 0.7),
        ),
    ),
)
