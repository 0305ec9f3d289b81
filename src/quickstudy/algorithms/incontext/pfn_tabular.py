"""A prior-fitted network for tables: classify the rows of a new table in one forward pass, having seen random tables only.

* Slow: all weights. Fast: what is computed once from the labelled rows: a summary of every column, and every layer's keys and values.
* One outer step: the cross-entropy of the queries' labels in random tables of a few sizes (`TabularWorlds`). Minimising it over tables
  of the prior makes the forward pass approximate the posterior predictive distribution p(y | x, support) under that prior.

A cell is embedded by its value, and reads its column: `summaries` learned questions, asked to all labelled cells of the column, whose
answers every cell may read. A row gathers its cells into one vector of `hubs` times `width` numbers, and tells them what it gathered.
After a few such blocks, rows attend to labelled rows, layer by layer. No part knows the order of columns or of rows.

    answers = softmax_rows(questions . cell) cell;   cell <- cell + softmax(cell . answers) answers;   row <- row + softmax(cell) cell
    logit_k = w_k . row + row W (mean of the labelled rows of class k)

Source: Mueller et al. 2022, "Transformers Can Do Bayesian Inference"; Hollmann et al. 2023, "TabPFN: A Transformer That Solves Small
Tabular Classification Problems in a Second". Columns before rows, and summaries of columns, as in Qu et al. 2025, "TabICL: A Tabular
Foundation Model for In-Context Learning on Large Data"; set attention through few points: Lee et al. 2019, "Set Transformer".
Builds on: conditional neural processes, transformers. Led to: tabular foundation models.
"""

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from quickstudy.claims import Claim
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, sample_tasks
from quickstudy.nn.attention import NEVER
from quickstudy.nn.set_transformer import SetTransformer, Support
from quickstudy.nn.transformer import Architecture
from quickstudy.outer import Descent, Metrics, Preset, Program, apply_gradient, rise_and_fall
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, episode_shapes, is_classification
from quickstudy.tasks.tabular_worlds import TabularWorlds

_FAR = 8.0  # standardised values are cut off here: ours

Cells = Float[Array, "columns rows width"]
Rows = Float[Array, "rows size"]


# --- Layers -------------------------------------------------------------------------------------------------------------------------


def matrix(key: PRNGKeyArray, inputs: int, outputs: int, size: float = 1.0) -> Float[Array, "inputs outputs"]:
    """Normal weights that keep the size of what goes in, times `size`."""
    return size * inputs**-0.5 * jr.normal(key, (inputs, outputs))


def normalised(x: Float[Array, "*batch size"], scale: Float[Array, " size"]) -> Float[Array, "*batch size"]:
    """Vectors of root mean square one, times `scale`. Source: Zhang and Sennrich 2019, "Root Mean Square Layer Normalization"."""
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5) * scale.reshape((1,) * (x.ndim - 1) + (-1,))


class FeedForward(eqx.Module):
    """A residual network of one hidden layer, twice as wide."""

    scale: Float[Array, " size"]
    up: Float[Array, "size hidden"]
    down: Float[Array, "hidden size"]

    def __init__(self, size: int, key: PRNGKeyArray):
        up_key, down_key = jr.split(key)
        self.scale, self.up, self.down = jnp.ones(size), matrix(up_key, size, 2 * size), matrix(down_key, 2 * size, size, 0.3)

    def __call__(self, x: Float[Array, "*batch size"]) -> Float[Array, "*batch size"]:
        return x + jax.nn.silu(normalised(x, self.scale) @ self.up) @ self.down


class Answers(NamedTuple):
    """What a column's labelled cells answer: as keys and values to read."""

    keys: Float[Array, "columns summaries width"]
    values: Float[Array, "columns summaries width"]


class ColumnBlock(eqx.Module):
    """Cells read their column's answers, rows gather their cells."""

    scale: Float[Array, " width"]
    questions: Float[Array, "width summaries"]
    answer: Float[Array, "width width"]
    query: Float[Array, "width width"]
    key: Float[Array, "width width"]
    value: Float[Array, "width width"]
    cells: FeedForward
    gather_scale: Float[Array, " width"]
    gather: Float[Array, "width hubs"]
    mix: Float[Array, "gathered size"]
    rows: FeedForward
    tell_scale: Float[Array, " size"]
    tell: Float[Array, "size width"]

    def __init__(self, config: "Config", key: PRNGKeyArray):
        keys = jr.split(key, 10)
        width, size = config.width, config.width * config.hubs
        self.scale, self.gather_scale, self.tell_scale = jnp.ones(width), jnp.ones(width), jnp.ones(size)
        self.questions = matrix(keys[0], width, config.summaries, 2.0)
        self.answer, self.query, self.key = (matrix(k, width, width) for k in keys[1:4])
        self.value = matrix(keys[4], width, width, 0.3)
        self.cells, self.rows = FeedForward(width, keys[5]), FeedForward(size, keys[6])
        self.gather, self.mix = matrix(keys[7], width, config.hubs), matrix(keys[8], size, size, 0.5)
        self.tell = matrix(keys[9], size, width, 0.2)

    def ask(self, cells: Cells, labels: Float[Array, "rows width"], known: Bool[Array, " rows"]) -> Answers:
        """The answers of the labelled cells, each of which knows its row's label."""
        told = normalised(cells + labels[None], self.scale)
        weights = jax.nn.softmax(jnp.where(known[None, :, None], told @ self.questions, NEVER), axis=1)
        answers = jnp.matmul(jnp.swapaxes(weights, 1, 2), told @ self.answer)
        return Answers(answers @ self.key, answers @ self.value)

    def __call__(self, cells: Cells, rows: Rows, answers: Answers, there: Bool[Array, " columns"]) -> tuple[Cells, Rows]:
        """Read, gather and tell; `there` says which columns exist."""
        asking = normalised(cells, self.scale) @ self.query
        weights = jax.nn.softmax(jnp.matmul(asking, jnp.swapaxes(answers.keys, 1, 2)) / cells.shape[-1] ** 0.5, axis=2)
        cells = self.cells(cells + jnp.matmul(weights, answers.values))
        shown = normalised(cells, self.gather_scale)
        weights = jax.nn.softmax(jnp.where(there[:, None, None], shown @ self.gather, NEVER), axis=0)
        gathered = [jnp.sum(weights[:, :, hub, None] * shown, axis=0) for hub in range(weights.shape[2])]
        rows = self.rows(rows + jnp.concatenate(gathered, axis=1) @ self.mix)
        return cells + (normalised(rows, self.tell_scale) @ self.tell)[None], rows


# --- Learner ------------------------------------------------------------------------------------------------------------------------


class Context(NamedTuple):
    """The fast state: all that queries need of the labelled rows."""

    shift: Float[Array, " columns"]
    stretch: Float[Array, " columns"]
    there: Bool[Array, " columns"]
    answers: Answers  # of every block
    support: Support
    means: Float[Array, "classes size"]
    seen: Bool[Array, " classes"]


class TabularPFN(AbstractLearner):
    """Reads a table with empty cells as NaN. Support rows with the label -1, and columns without a number in the support, count for
    nothing, so that tables of many sizes can share one compiled program."""

    frequencies: Float[Array, " waves"]
    embedding: Float[Array, "inputs width"]
    cell_labels: Float[Array, "classes width"]
    row_labels: Float[Array, "classes size"]
    columns: ColumnBlock  # stacked
    rows: SetTransformer
    out: Float[Array, "size classes"]
    compare: Float[Array, "size size"]

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Context:
        known = view.known()
        shift, stretch, there = column_scales(view.support_x, known)
        labels = jnp.where(known[:, None], jax.nn.one_hot(view.support_y, view.outputs), 0.0)
        cells, rows = self.embed(view.support_x, shift, stretch)
        told = labels @ self.cell_labels

        def gather(carry: tuple[Cells, Rows], block: ColumnBlock) -> tuple[tuple[Cells, Rows], Answers]:
            answers = block.ask(carry[0], told, known)
            return block(*carry, answers, there), answers

        (_, rows), answers = jax.lax.scan(gather, (cells, rows), self.columns)
        support = self.rows.remember(rows + labels @ self.row_labels, known)
        count = jnp.sum(labels, axis=0)
        means = labels.T @ support.features / jnp.maximum(count, 1.0)[:, None]
        return Context(shift, stretch, there, answers, support, means, count > 0)

    def respond(self, fast: Context, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        gather = lambda carry, part: (part[0](*carry, part[1], fast.there), None)
        (_, rows), _ = jax.lax.scan(gather, self.embed(view.query_x, fast.shift, fast.stretch), (self.columns, fast.answers))
        rows = self.rows.answer(fast.support, rows)
        logits = rows @ self.out + rows @ self.compare @ fast.means.T / rows.shape[1] ** 0.5
        return jnp.where(fast.seen[None], logits, NEVER)

    def observe(self, fast: Context, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Context:
        return fast

    def embed(
        self, x: Float[Array, "rows columns"], shift: Float[Array, " columns"], stretch: Float[Array, " columns"]
    ) -> tuple[Cells, Rows]:
        """Cells by their standardised value, squashed and in waves, and rows that know nothing yet."""
        empty = jnp.isnan(x)
        value = jnp.where(empty, 0.0, jnp.clip((x - shift[None]) * stretch[None], -_FAR, _FAR)).T
        angle = value[..., None] * self.frequencies[None, None]
        plain = jnp.stack([jnp.ones_like(value), value, jnp.tanh(value), empty.T.astype(value.dtype)], axis=2)
        cells = jnp.concatenate([plain, jnp.sin(angle), jnp.cos(angle)], axis=2) @ self.embedding
        return cells, jnp.zeros((x.shape[0], self.out.shape[0]))


def column_scales(
    x: Float[Array, "rows columns"], known: Bool[Array, " rows"]
) -> tuple[Float[Array, " columns"], Float[Array, " columns"], Bool[Array, " columns"]]:
    """What to subtract, what to multiply by, and whether there is anything, by the labelled rows' numbers."""
    counts = known[:, None] & ~jnp.isnan(x)
    n = jnp.maximum(jnp.sum(counts, axis=0), 1).astype(x.dtype)
    shift = jnp.sum(jnp.where(counts, x, 0.0), axis=0) / n
    variance = jnp.sum(jnp.where(counts, (x - shift[None]) ** 2, 0.0), axis=0) / n
    return shift, jnp.where(variance > 0, jax.lax.rsqrt(jnp.maximum(variance, 1e-30)), 0.0), jnp.any(counts, axis=0)


# --- Program ------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    """A network that a laptop can train."""

    width: int = 32  # ours: of a cell
    hubs: int = 4  # ours: a row is `hubs` times as wide as a cell
    summaries: int = 16  # ours: questions to a column
    column_blocks: int = 2  # ours; Qu et al. 2025: 3
    row_blocks: int = 6  # ours; Hollmann et al. 2023: 12
    heads: int = 2  # ours; Hollmann et al. 2023: 4, which takes a CPU twice as long on long tables
    learning_rate: float = 0.002  # ours, not tuned
    anneal: int = 9_000  # ours: after so many outer steps the learning rate, which falls as a cosine does, is zero
    warmup: int = 200  # ours
    tasks_per_step: int = 4  # ours: of each size
    wider: int = 4  # ours: as many tables have so many times as many columns; 1: none
    longer: int = 3  # ours: a few tables have so many times as many rows; 1: none
    weight_decay: float = 0.01  # ours

    def __post_init__(self) -> None:
        if self.width * self.hubs % self.heads:
            raise ValueError(f"heads must divide width times hubs, not {self.heads} for {self.width} times {self.hubs}")


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> TabularPFN:
    """A network with fresh weights. Raises `ValueError` for regression episodes."""
    episode = episode_shapes(tasks)
    if not is_classification(episode.query_y):
        raise ValueError("pfn-tabular predicts classes; these tasks have floating-point targets")
    keys = jr.split(key, 8)
    width, size, classes, waves = config.width, config.width * config.hubs, episode.outputs, 8
    return TabularPFN(
        frequencies=2 * jr.normal(keys[0], (waves,)),
        embedding=matrix(keys[1], 4 + 2 * waves, width),
        cell_labels=jr.normal(keys[2], (classes, width)),
        row_labels=jr.normal(keys[3], (classes, size)),
        columns=eqx.filter_vmap(lambda k: ColumnBlock(config, k))(jr.split(keys[4], config.column_blocks)),
        rows=SetTransformer(Architecture(size, config.row_blocks, config.heads, feed_forward=2), key=keys[5]),
        out=matrix(keys[6], size, classes, 0.1),
        compare=matrix(keys[7], size, size),
    )


def loss(learner: TabularPFN, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """The mean cross-entropy in nats of queries whose class the support shows; nothing can be known of the others."""
    view = task.view()
    fast = learner.begin(view, key)
    logits = learner.respond(fast, view, key)
    fair = fast.seen[task.query_y]
    n = jnp.maximum(jnp.sum(fair), 1).astype(logits.dtype)
    surprise = jnp.where(fair, optax.softmax_cross_entropy_with_integer_labels(logits, task.query_y), 0.0)
    right = fair & (jnp.argmax(logits, axis=1) == task.query_y)
    return jnp.sum(surprise) / n, {"score": jnp.sum(right).astype(logits.dtype) / n}


# Which axes of a stacked block's weights go in, and which come out.
ROW_MATRICES = {"asking": (1, (2, 3)), "offering": (2, (3, 4)), "mixing": ((1, 2), 3), "expanding": (2, 3), "contracting": (1, 2)}


def optimizer_of(config: Config) -> optax.GradientTransformation:
    """Muon for matrices, stacked ones too, and Adam for the rest, with one learning rate.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; updates of Adam's size: Liu et al. 2025,
    "Muon is Scalable for LLM Training".
    """
    rate = rise_and_fall(config.learning_rate, config.warmup, config.anneal)

    def axes(path: tuple, leaf: Array) -> optax.contrib.MuonDimensionNumbers | None:
        known = ROW_MATRICES.get(path[-1].name, (1, 2) if leaf.ndim == 3 else None)
        return known and optax.contrib.MuonDimensionNumbers(*known)

    hidden = lambda tree: jax.tree_util.tree_map_with_path(axes, tree)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.contrib.muon(
            rate, weight_decay=config.weight_decay, consistent_rms=0.2, muon_weight_dimension_numbers=hidden, adam_b2=0.99
        ),
    )


def sizes(config: Config, tasks: TabularWorlds) -> list[tuple[TabularWorlds, int]]:
    """The tables of a step, and how many: as they are, `wider` with half as many rows, and a few `longer` ones (1: none)."""
    half = {"support": max(tasks.support // 2, 16), "query": tasks.query // 2 or 1}
    wide = dataclasses.replace(tasks, columns=config.wider * tasks.columns, **half)
    long = dataclasses.replace(tasks, support=config.longer * tasks.support)
    n = config.tasks_per_step
    return [(tasks, n), *[(wide, n)] * (config.wider > 1), *[(long, max(n // config.longer, 1))] * (config.longer > 1)]


def program(config: Config, tasks: TabularWorlds) -> Program:
    """Descend the mean loss over random tables of all sizes."""
    optimizer = optimizer_of(config)

    def init(key: PRNGKeyArray) -> Descent:
        fresh = learner(config, tasks, key)
        return Descent(fresh, optimizer.init(eqx.filter(fresh, eqx.is_inexact_array)), None)

    every = sizes(config, tasks)

    def of_all(current: TabularPFN, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        judged = lambda task: loss(current, task, key)
        keys = jr.split(key, len(every))
        parts = [jax.vmap(judged)(sample_tasks(part, k, "train", n)) for k, (part, n) in zip(keys, every, strict=True)]
        return jax.tree.map(lambda *part: jnp.mean(jnp.concatenate(part)), *parts)

    def update(state: Descent, key: PRNGKeyArray) -> tuple[Descent, Metrics]:
        (value, metrics), gradient = eqx.filter_value_and_grad(of_all, has_aux=True)(state.learner, key)  # type: ignore[arg-type]
        after, optimizer_state = apply_gradient(optimizer, gradient, state.optimizer, state.learner)
        return Descent(after, optimizer_state, None), {"loss": value} | metrics

    return Program(init, update, lambda state: state.learner)


_TINY = Config(
    width=8, hubs=2, summaries=4, column_blocks=1, row_blocks=1, heads=2, anneal=20, warmup=2, tasks_per_step=2, wider=1, longer=1
)
_LONG = Config(learning_rate=0.001, anneal=6_000, tasks_per_step=3)
PRESETS = {
    "laptop": Preset(Config(), TabularWorlds, 9_000, 1, "what the long preset starts from, under two hours of one core"),
    "long": Preset(_LONG, lambda: TabularWorlds(support=384, query=96), 6_000, 1, "longer tables, under two hours of one core"),
    "smoke": Preset(_TINY, lambda: TabularWorlds(support=16, query=8, columns=2, classes=3), 4, 1, "it runs"),
}

CLAIMS: tuple[Claim, ...] = ()  # what it is worth on real tables is a benchmark: quickstudy bench tabular
