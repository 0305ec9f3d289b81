"""Few-shot learning of language models by size: the larger the model, the more each further demonstration in its prompt is worth.

Models of three sizes read texts of many small tasks, all for as many steps. In the test, demonstrations of tasks never read in
training are written as text, and no weight changes. Beside them, the same models are fine-tuned on the same demonstrations instead,
and answer without any in sight:

    gain per shot = (exact answers after 8 demonstrations - after none) / 8

Source: Brown et al. 2020, "Language Models are Few-Shot Learners", sections 1 and 3.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from quickstudy.algorithms.incontext import language_model
from quickstudy.algorithms.incontext.language_model import LanguageModel
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import Split, sample_tasks
from quickstudy.outer import apply_gradient, train
from quickstudy.tasks.streams import StreamTask
from quickstudy.tasks.text_tasks import TextTasks

SHOTS = (0, 1, 2, 4, 8)
WIDTHS = {"small": 16, "middle": 32, "large": 64}  # ours: about 7, 26 and 100 thousand weights
RATES = (0.001, 0.003, 0.01)  # of fine-tuning, the best of them on valid texts is taken
FINE_TUNING_STEPS = 10  # ours


@eqx.filter_jit
def exact(who: LanguageModel, tasks: TextTasks, texts: StreamTask) -> Bool[Array, "texts examples"]:
    """Which answers of stacked texts are foreseen letter by letter, each after all demonstrations before it."""

    def one(text: StreamTask) -> Bool[Array, " examples"]:
        hits = jnp.argmax(who.unroll(text.x), axis=1) == text.y
        # Each letter is read with the right ones before it: all are foreseen just if the model, writing alone, would write them.
        return jnp.all(hits[tasks.answers()], axis=1)

    return jax.lax.map(one, texts, batch_size=200)


@eqx.filter_jit
def fine_tuned(who: LanguageModel, tasks: TextTasks, texts: StreamTask, rate: Float[Array, ""]) -> Bool[Array, " texts"]:
    """Which last answers are foreseen without demonstrations in sight, after fine-tuning on those of the text with Adam."""
    optimizer = optax.adam(rate)
    asked = tasks.answers()[0]

    def surprise(model: LanguageModel, demonstrations: Array) -> Float[Array, ""]:
        logits = jax.vmap(lambda text: model.unroll(text[:-1])[asked])(demonstrations)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, demonstrations[:, asked + 1]))

    def one(text: StreamTask) -> Bool[Array, ""]:
        examples = jnp.append(text.x, text.y[-1:]).reshape(tasks.examples, tasks.size)
        arrays, rest = eqx.partition(who, eqx.is_inexact_array)

        def step(state, _):
            model = eqx.combine(state[0], rest)
            after, optimizer_state = apply_gradient(optimizer, eqx.filter_grad(surprise)(model, examples[:-1]), state[1], model)
            return (eqx.filter(after, eqx.is_inexact_array), optimizer_state), None

        (arrays, _), _ = jax.lax.scan(step, (arrays, optimizer.init(arrays)), length=FINE_TUNING_STEPS)
        logits = eqx.combine(arrays, rest).unroll(examples[-1, :-1])
        return jnp.all(jnp.argmax(logits[asked], axis=1) == examples[-1, asked + 1])

    return jax.lax.map(one, texts, batch_size=20)


def drawn(tasks: TextTasks, split: Split, seed: int, n: int) -> StreamTask:
    """So many texts of a split."""
    texts = eqx.filter_jit(sample_tasks)(tasks, jr.fold_in(jr.key(seed), 1), split, n)
    assert isinstance(texts, StreamTask)
    return texts


def measure_sizes(scale: Scale, seed: int) -> Measurements:
    """Exact answers in unseen tasks by the number of demonstrations, for three sizes; and after fine-tuning on eight."""
    steps, n, tuned = {"smoke": (4, 20, 2), "laptop": (1_500, 2_000, 100), "full": (20_000, 10_000, 1_000)}[scale]
    tasks, base = TextTasks(), language_model.PRESETS["text-tasks"].config
    texts, held = drawn(tasks, "test", seed, n), drawn(tasks, "valid", seed, tuned)
    few = jax.tree.map(lambda leaf: leaf[:tuned], texts)
    measured: dict[str, float] = {}
    # At smoke scale one size stands for all, which saves the compiler's time.
    widths = {"small": 8} if scale == "smoke" else WIDTHS
    for name, width in widths.items():
        config = dataclasses.replace(base, width=width, steps=steps, documents_per_step=4 if scale == "smoke" else 32)
        ours = train(language_model.program(config, tasks), steps=steps, seed=seed)
        assert isinstance(ours, LanguageModel)
        found = np.asarray(exact(ours, tasks, texts)).mean(axis=0)
        measured |= {f"{name}: {shots} shots": float(found[shots]) for shots in SHOTS}
        measured[f"{name}: gain per shot"] = float(found[-1] - found[0]) / max(SHOTS)
        if name != "middle":
            rate = max(RATES, key=lambda rate: float(fine_tuned(ours, tasks, held, jnp.array(rate)).mean()))
            measured[f"{name}: fine-tuned on 8"] = float(fine_tuned(ours, tasks, few, jnp.array(rate)).mean())
    alike = {key.replace("small", name): value for key, value in measured.items() for name in WIDTHS if scale == "smoke"}
    return alike | measured


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="gpt3-shots",
        statement=(
            "What a further demonstration is worth to a language model grows with its size, in tasks that it never read; the largest "
            "one with eight demonstrations in its prompt is ahead of fine-tuning it, or the smallest, on the same eight."
        ),
        source="Brown et al. 2020, sections 1 and 3",
        reported="figures: the steeper with shots the larger the model; few-shot at times rivals fine-tuning (recalled)",
        not_answered="language; models trained until they learn no more; fine-tuning on more examples than a prompt holds.",
        measure=measure_sizes,
        expected=(
            # Set before anything was measured.
            Expectation("middle: gain per shot", ">", "small: gain per shot"),
            Expectation("large: gain per shot", ">", "middle: gain per shot"),
            Expectation("large: 8 shots", ">", "large: fine-tuned on 8"),
            Expectation("large: 8 shots", ">", "small: fine-tuned on 8"),
        ),
    ),
)
