"""Language model: whoever predicts each next token well must find out, while reading, what the text is about.

Slow: all weights. Fast: what was read, as a transformer's keys and values or a recurrent state. One outer step: the cross-entropy of
every next token of a batch of documents, all read at once.

    min over weights of E_document sum_t -log p(token_(t+1) | token_1 .. token_t)

Nothing here knows of tasks, examples or labels: whatever is learned in context is learned by the way.

Source: Brown et al. 2020, "Language Models are Few-Shot Learners"; with long short-term memory as well as transformers: Xie et al.
2021, "An Explanation of In-context Learning as Implicit Bayesian Inference".
Builds on: meta-learned prediction. Led to: prompting, instruction tuning, generalist agents.
"""

import dataclasses
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.claims import Claim
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, lifetime
from quickstudy.nn.memory import LSTM, AbstractMemory, Memory
from quickstudy.nn.transformer import Architecture, Transformer
from quickstudy.outer import Metrics, Preset, Program, descend, rise_and_fall
from quickstudy.tasks.documents import AbstractDocuments
from quickstudy.tasks.hidden_markov import HiddenMarkovDocuments
from quickstudy.tasks.streams import StreamTask
from quickstudy.tasks.text_tasks import TextTasks

Body = Literal["transformer", "lstm"]


class LanguageModel(AbstractLearner):
    """Reads tokens one by one, and answers with logits of the next."""

    embedding: Float[Array, "tokens width"]
    body: AbstractMemory
    head: eqx.nn.Linear

    def begin(self, view: Int[Array, ""], key: PRNGKeyArray) -> Memory:
        return self.body.start()

    def respond(self, fast: Memory, view: Int[Array, ""], key: PRNGKeyArray) -> Float[Array, " tokens"]:
        return self.head(self.body.step(fast, self.embedding[view])[1])

    def observe(self, fast: Memory, view: Int[Array, ""], response: Array, feedback: Array, key: PRNGKeyArray) -> Memory:
        # The same step as in `respond`: the compiler takes it once.
        return self.body.step(fast, self.embedding[view])[0]

    def unroll(self, text: Int[Array, " ticks"]) -> Float[Array, "ticks tokens"]:
        """The logits after every token of a whole text, at once."""
        # A transformer that starts here spends no time on an empty cache.
        memory = None if isinstance(self.body, Transformer) else self.body.start()
        features = self.body.unroll(memory, self.embedding[text])
        return jax.vmap(self.head)(features)


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours, for a minute on a CPU."""

    body: Body = "transformer"  # Brown et al. 2020; Xie et al. 2021 take both
    width: int = 48  # ours; Xie et al. 2021 take 768 (recalled)
    layers: int = 2  # ours, of the transformer; the LSTM has one; Xie et al. 2021 take 4 to 16, and 6 for the LSTM (recalled)
    heads: int = 4  # ours; Xie et al. 2021 take 12 (recalled)
    learning_rate: float = 0.003  # ours, not tuned
    steps: int = 3_000  # ours: after which the learning rate, which falls as a cosine does, is zero
    warmup: int = 50  # ours
    documents_per_step: int = 16  # ours: better on valid prompts than 32 and half as many steps


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> LanguageModel:
    """A language model with fresh weights; raises `TypeError` unless the tasks are documents, `ValueError` for another body."""
    if not isinstance(tasks, AbstractDocuments):
        raise TypeError(f"language-model reads documents, not {type(tasks).__name__}")
    embedding_key, body_key, head_key = jr.split(key, 3)
    reach = jax.eval_shape(lambda key: tasks.sample(key, "train"), key).x.shape[0]
    embedding = jr.normal(embedding_key, (tasks.tokens, config.width))
    return LanguageModel(embedding, _body(config, reach, body_key), eqx.nn.Linear(config.width, tasks.tokens, key=head_key))


def _body(config: Config, reach: int, key: PRNGKeyArray) -> AbstractMemory:
    if config.body == "transformer":
        return Transformer(Architecture(config.width, config.layers, config.heads), reach=reach, key=key)
    if config.body == "lstm":
        return LSTM(eqx.nn.LSTMCell(config.width, config.width, key=key))
    raise ValueError(f"body must be 'transformer' or 'lstm', not {config.body!r}")


def loss(learner: LanguageModel, task: StreamTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """The mean cross-entropy in nats of all tokens of a document but the first, and the share that are foreseen."""
    logits = learner.unroll(task.x)
    surprise = optax.softmax_cross_entropy_with_integer_labels(logits, task.y)
    return jnp.mean(surprise), {"score": jnp.mean(jnp.argmax(logits, axis=1) == task.y)}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Descend the surprise at whole documents with Adam."""
    return descend(
        loss,
        tasks,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rise_and_fall(config.learning_rate, config.warmup, config.steps))),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.documents_per_step,
        task_axis="vmap",
    )


def read(who: AbstractLearner, text: StreamTask) -> Float[Array, "ticks tokens"]:
    """What a language model, or a reference of the same task, answers at every tick of one text."""
    if isinstance(who, LanguageModel):
        return who.unroll(text.x)
    return lifetime(who, text, jr.key(0), steps=text.x.shape[0], record=lambda tick: tick.response)[1]


PRESETS = {
    "hidden-markov": Preset(Config(), HiddenMarkovDocuments, 3_000, 63, "0.48 of labels after 8 examples; the posterior: 0.52; 50 s"),
    "hidden-markov-lstm": Preset(
        Config(body="lstm", width=64), HiddenMarkovDocuments, 3_000, 63, "0.50 of labels after 8 examples, 20 s"
    ),
    "text-tasks": Preset(
        Config(width=64, steps=1_500, documents_per_step=32),
        TextTasks,
        1_500,
        53,
        "about half of new tasks' answers after 8 examples, 60 s",
    ),
    "smoke": Preset(
        Config(width=8, layers=1, heads=2, steps=4, warmup=2, documents_per_step=4),
        lambda: HiddenMarkovDocuments(length=8),
        4,
        4,
        "it runs",
    ),
}

CLAIMS: tuple[Claim, ...] = ()  # it is the subject of ginc-hmm, rethinking-demos and gpt3-shots
