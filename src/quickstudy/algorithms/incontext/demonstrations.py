"""The role of demonstrations: what a prompt loses when its labels, its inputs or its format are spoiled.

The language model is that of `ginc-hmm`. Examples say which concept the prompt is of, and all their words do, not the labels alone: so
examples with random labels may still help. What the exact posterior loses by each corruption stands beside what the model loses.

    share lost = (accuracy with right examples - with spoiled ones) / (accuracy with right examples - with none)

Where the mapping from inputs to labels is new, and inputs are single words, only labels can tell it: a second model has read documents
that each have a concept of their own, and finds it out as it reads.

Source: Min et al. 2022, "Rethinking the Role of Demonstrations: What Makes In-Context Learning Work?"; why inputs may do: Xie et al.
2021, "An Explanation of In-context Learning as Implicit Bayesian Inference".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Int, Key

from quickstudy.algorithms.incontext import language_model
from quickstudy.algorithms.incontext.implicit_bayes import PROMPTS, foreseen, pretrained
from quickstudy.algorithms.references.hidden_markov import ConceptPosterior
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner
from quickstudy.tasks.hidden_markov import DELIMITER, HiddenMarkovDocuments, join
from quickstudy.tasks.streams import StreamTask

NONE, RIGHT, RANDOM_LABELS = "no examples", "right examples", "random labels"


def spoiled(words: Int[Array, "examples length"], others: Array, labels: Array, fillers: Array) -> dict[str, Int[Array, " tokens"]]:
    """All corruptions of a prompt, of whose examples the last is to be completed and stays intact, its label at the end.

    `others` are as many words as there are in the demonstrations' inputs, `labels` and `fillers` as many as they have labels.
    """
    inputs, right, last = words[:-1, :-1], words[:-1, -1:], words[-1]
    listed = lambda *parts: jnp.concatenate([join(jnp.concatenate(parts, axis=1)), jnp.array([DELIMITER]), last])
    return {
        NONE: last,
        RIGHT: listed(inputs, right),
        RANDOM_LABELS: listed(inputs, labels),
        "fillers as labels": listed(inputs, fillers),
        "random inputs": listed(others, right),
        "inputs only": listed(inputs),
        "labels only": listed(right),
        "no delimiters": words.reshape(-1),
    }


def draw(documents: HiddenMarkovDocuments, key: Array, *, shots: int, length: int) -> dict[str, Int[Array, " tokens"]]:
    """One test prompt of `shots` demonstrations of `length` words each, in all its corruptions."""
    draw_key, inputs_key, labels_key, fillers_key = jr.split(key, 4)
    words = documents.examples(draw_key, "test", shots + 1, length).words
    any_of = lambda key, first, n, size: first + (n * jr.uniform(key, (shots, size))).astype(jnp.int32)
    others = any_of(inputs_key, 1, documents.words, length - 1)
    labels = any_of(labels_key, 1, documents.words, 1)
    return spoiled(words, others, labels, any_of(fillers_key, 1 + documents.words, documents.fillers, 1))


@eqx.filter_jit
def _filled(documents: HiddenMarkovDocuments, keys: Key[Array, " n"], shots: int, length: int) -> tuple[StreamTask, dict[str, int]]:
    """Prompts `(n, kinds, ticks)` of one length, and the tick of each kind whose target is asked for."""
    drawn = jax.vmap(lambda key: draw(documents, key, shots=shots, length=length))(keys)
    longest = max(text.shape[1] for text in drawn.values())
    fill = lambda text: jnp.pad(text, ((0, 0), (0, longest - text.shape[1])), constant_values=DELIMITER)
    texts = jnp.stack([fill(text) for text in drawn.values()], axis=1)
    return StreamTask(texts[..., :-1], texts[..., 1:], None), {kind: text.shape[1] - 2 for kind, text in drawn.items()}


def shares_lost(who: AbstractLearner, documents: HiddenMarkovDocuments, keys: Array, *, shots: int, length: int) -> dict[str, float]:
    """A reader's accuracy with every kind of examples, and the share of what right ones gain that it loses with others."""
    texts, asked = _filled(documents, keys, shots, length)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, leaf.shape[-1]), texts)
    hits = np.asarray(foreseen(who, flat)).reshape(texts.y.shape)
    found = {kind: float(hits[:, i, tick].mean()) for i, (kind, tick) in enumerate(asked.items())}
    gain = found[RIGHT] - found[NONE]
    corruptions = [kind for kind in found if kind not in (NONE, RIGHT)]
    lost = {f"{kind}: lost": (found[RIGHT] - found[kind]) / gain if gain else 1.0 for kind in corruptions}
    return found | {"gain": gain} | lost


# Every document a new permutation of seven words and the delimiter, which the next word follows nearly always.
NEW_CONCEPTS = HiddenMarkovDocuments(concepts=0, entities=1, properties=8, words=7, order=0.9)


def measure_corruptions(scale: Scale, seed: int) -> Measurements:
    """What the model and the exact posterior lose by every corruption; and a model of new mappings, by random labels."""
    documents, config = HiddenMarkovDocuments(), language_model.PRESETS["hidden-markov"].config
    keys = jr.split(jr.fold_in(jr.key(seed), 1), PROMPTS[scale] // 2)
    known = pretrained(scale, seed, documents, config)
    # At smoke scale the first model stands for the second, which saves the compiler's time.
    inventive = pretrained(scale, seed, NEW_CONCEPTS, config) if scale != "smoke" else known
    arms = (
        ("model", known, documents, 8, 5),
        ("posterior", ConceptPosterior.of(documents), documents, 8, 5),
        ("known mapping of single words", known, documents, 16, 2),
        ("new mapping of single words", inventive, NEW_CONCEPTS, 16, 2),
    )
    measured = {
        f"{name}, {what}": value
        for name, who, language, shots, length in arms
        for what, value in shares_lost(who, language, keys, shots=shots, length=length).items()
    }
    kinds = [key.removeprefix("model, ") for key in measured if key.startswith("model, ") and f"{key}: lost" in measured]
    apart = [abs(measured[f"model, {kind}"] - measured[f"posterior, {kind}"]) for kind in (NONE, RIGHT, *kinds)]
    return measured | {"model, largest distance from the posterior's accuracy": max(apart)}


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="rethinking-demos",
        statement=(
            "Random labels in the examples of a prompt cost little, other corruptions cost much: labels that are no labels, inputs "
            "that are unlike documents, examples without labels or without inputs. A new mapping needs right labels."
        ),
        source="Min et al. 2022, sections 4 and 5",
        reported="twelve language models: random labels cost 0 to 5 points; other inputs, labels and formats more (recalled)",
        not_answered="language; labels of a few classes; how the format is learned, as no document here is a list of examples.",
        measure=measure_corruptions,
        expected=(
            # The source's order, set before anything was measured.
            Expectation(f"model, {RANDOM_LABELS}: lost", "<", 1 / 3),
            Expectation("model, fillers as labels: lost", ">", 0.5),
            Expectation("model, random inputs: lost", ">", 0.5),
            Expectation("model, inputs only: lost", ">", 0.5),
            Expectation("model, labels only: lost", ">", 0.5),
            Expectation("model, largest distance from the posterior's accuracy", "<", 0.06),
            Expectation("new mapping of single words, gain", ">", 0.15),
            Expectation(f"new mapping of single words, {RANDOM_LABELS}: lost", ">", 0.8),
        ),
    ),
)
