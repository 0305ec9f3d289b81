"""In-context learning as implicit Bayesian inference: to foresee documents of several concepts is to infer the concept.

A language model never sees a prompt in training. Given examples of one concept, it answers as the posterior over the concepts of its
documents does, which the forward algorithm gives exactly:

    p(label | prompt) = sum over concepts c of p(label | prompt, c) p(c | prompt)

Examples help for as long as the concept is in doubt. Who knows one concept only has nothing to infer, and a concept of no document is
not among the answers.

Source: Xie et al. 2021, "An Explanation of In-context Learning as Implicit Bayesian Inference".
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float

from quickstudy.algorithms.incontext import language_model
from quickstudy.algorithms.incontext.language_model import LanguageModel, read
from quickstudy.algorithms.references.hidden_markov import ConceptPosterior, KnowsConcept
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import Split, sample_tasks
from quickstudy.evaluation import AbstractOracle, Reference
from quickstudy.outer import train
from quickstudy.tasks.hidden_markov import HiddenMarkovDocuments, HiddenMarkovPrompts
from quickstudy.tasks.streams import StreamTask

SHOTS = (0, 1, 2, 4, 8)
PROMPTS = {"smoke": 40, "laptop": 4_000, "full": 20_000}
STEPS = {"smoke": 4, "laptop": 3_000, "full": 40_000}


def pretrained(scale: Scale, seed: int, documents: HiddenMarkovDocuments, config: language_model.Config) -> LanguageModel:
    """A language model of these documents; a tiny one at smoke scale."""
    config = dataclasses.replace(config, steps=STEPS[scale])
    if scale == "smoke":
        config = dataclasses.replace(config, width=8, layers=1, heads=2, documents_per_step=4)
    ours = train(language_model.program(config, documents), steps=config.steps, seed=seed)
    assert isinstance(ours, LanguageModel)
    return ours


def accuracy(who: Reference, prompts: HiddenMarkovPrompts, drawn: StreamTask) -> Float[np.ndarray, " shots"]:
    """The share of labels that are foreseen after no example, after one, and so on, over drawn prompts."""
    return np.asarray(foreseen(who, drawn))[:, prompts.answers()].mean(axis=0)


# At module level, so that readers of one shape are compiled once.
@eqx.filter_jit
def foreseen(who: Reference, drawn: StreamTask) -> Bool[Array, "prompts ticks"]:
    """Which tokens of stacked prompts are the most likely of all, in the eyes of a reader."""

    def one(prompt: StreamTask) -> Bool[Array, " ticks"]:
        reader = who.informed(prompt) if isinstance(who, AbstractOracle) else who
        return jnp.argmax(read(reader, prompt), axis=1) == prompt.y

    return jax.lax.map(one, drawn, batch_size=200)


def measure_shots(scale: Scale, seed: int) -> Measurements:
    """The share of foreseen labels by the number of examples, of five concepts or of unseen ones, for models and exact predictors."""
    documents = HiddenMarkovDocuments()
    prompts = HiddenMarkovPrompts(documents, shots=max(SHOTS))
    transformer, lstm = (language_model.PRESETS[name].config for name in ("hidden-markov", "hidden-markov-lstm"))
    mixture, single = ConceptPosterior.of(documents), HiddenMarkovDocuments(concepts=1)
    ours = pretrained(scale, seed, documents, transformer)
    seen: dict[str, Reference] = {
        "transformer": ours,
        "LSTM": pretrained(scale, seed, documents, lstm),
        # At smoke scale the first model stands for it, which saves the compiler's time.
        "one-concept transformer": pretrained(scale, seed, single, transformer) if scale != "smoke" else ours,
        "untrained": eqx.filter_jit(lambda key: language_model.learner(transformer, documents, key))(jr.key(seed)),
        "posterior": mixture,
        "told the concept": KnowsConcept(documents),
    }
    unseen: dict[str, Reference] = {"unseen concepts, transformer": ours, "unseen concepts, posterior": mixture}
    key = jr.fold_in(jr.key(seed), 1)
    measured: dict[str, float] = {}
    arms: list[tuple[dict[str, Reference], Split]] = [(seen, "test"), (unseen, "out-of-range")]
    for readers, split in arms:
        drawn = eqx.filter_jit(sample_tasks)(prompts, key, split, PROMPTS[scale])
        assert isinstance(drawn, StreamTask)
        for name, who in readers.items():
            found = accuracy(who, prompts, drawn)
            measured |= {f"{name}: {shots} shots": float(found[shots]) for shots in SHOTS}
            measured[f"{name}: gain"] = float(found[-1] - found[0])
    return measured


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="ginc-hmm",
        statement=(
            "A transformer and a recurrent network that only learned to foresee documents of five hidden Markov models answer prompts "
            "better the more examples these have, nearly as the exact posterior does; not with unseen concepts, nor with one concept."
        ),
        source="Xie et al. 2021, sections 2 and 4",
        reported="figures: accuracy rises with examples, for LSTMs above transformers; flat with one concept or with unseen concepts",
        not_answered="larger languages and models, longer examples, and the order of examples, of which the source reports effects.",
        measure=measure_shots,
        expected=(
            # Set before any model was measured, with the exact predictors' curves on valid prompts in sight.
            Expectation("transformer: gain", ">", "posterior: gain", factor=0.5),
            Expectation("LSTM: gain", ">", "posterior: gain", factor=0.5),
            Expectation("transformer: 8 shots", ">", "posterior: 8 shots", slack=0.05),
            Expectation("LSTM: 8 shots", ">", "posterior: 8 shots", slack=0.05),
            Expectation("unseen concepts, transformer: gain", "<", "transformer: gain", factor=1 / 3),
            Expectation("one-concept transformer: gain", "<", "transformer: gain", factor=1 / 3),
        ),
    ),
)
