"""Tabular worlds: random small classification tables, the prior of a tabular prior-fitted network.

A table is made in three steps, each with random choices that are drawn once a table:

* causes: rows are normal, clustered, heavy-tailed or uniform numbers, pushed through a random network with noise in every layer; the
  columns are some of its units, from any layer, so that columns cause one another or share a cause; a few are pure noise
* labels: from the columns by a random network, a sparse linear map or an ensemble of random trees, from the causes by a network or by
  cluster, or from the place of one hidden unit's value among cut points; with noise of their own and unequal classes
* what tables look like: numbers on skewed scales, whole numbers, codes without an order, empty cells

Sources: the structural causal models and networks of Hollmann et al. 2023, "TabPFN: A Transformer That Solves Small Tabular
Classification Problems in a Second", section 4; trees as a prior: Breejen et al. 2024, "Fine-tuned In-Context Learning Transformers
are Excellent Tabular Data Classifiers". All numbers are ours: none was tuned on real tables.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.splits import draw_in_split

UNKNOWN = -1  # the label of a row that is there for its shape only
CLUSTERS, UNITS, LAYERS, TREES, DEPTH = 8, 16, 3, 8, 4
SHAPES = (jnp.tanh, jax.nn.relu, lambda x: x, jnp.sin, jnp.abs, jnp.sign, lambda x: x**2 - 1, lambda x: jnp.floor(1.5 * x))

Table = Float[Array, "rows columns"]


class TabularWorlds(AbstractTaskDistribution):
    """Classification episodes over random tables of `columns` columns at most; absent ones are NaN, as empty cells are.

    `support` rows, of which as many as the table draws (16 or more) have labels and the others have -1, and `query` rows. Labels are
    `classes` integers at most, in random order. Latent: `signal`, how sharply labels follow what decides them. Its quantile, a slice
    of which belongs to each split, keeps the splits apart; "out-of-range" tables are noisier than training tables ever are.

    Raises `ValueError` for sizes that no table can have.

    >>> TabularWorlds(support=32, query=8, columns=5).sample(jr.key(0), "test").support_x.shape
    (32, 5)
    """

    support: int = eqx.field(static=True, default=192)  # ours
    query: int = eqx.field(static=True, default=64)  # ours
    columns: int = eqx.field(static=True, default=10)  # ours
    classes: int = eqx.field(static=True, default=10)  # Hollmann et al. 2023

    def __check_init__(self) -> None:
        for name, least in (("support", 16), ("query", 1), ("columns", 1), ("classes", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        keys = jr.split(key, 7)
        far = split == "out-of-range"
        quantile = draw_in_split(keys[0], "test" if far else split, 0.0, 1.0)
        signal = 0.3 * (1 / 0.3) ** quantile if far else 30**quantile
        causes = draw_causes(keys[1], self.support + self.query)
        columns = draw_columns(keys[2], causes, self.columns)
        labels = draw_labels(keys[3], causes, columns, signal, self.classes)
        x = weathered(keys[4], jnp.where(columns.coded[None], columns.codes, columns.numbers), columns)
        known = log_uniform(keys[5], 16.0, self.support + 1.0)
        y = jr.permutation(keys[6], self.classes)[labels].astype(jnp.int32)
        support_y = jnp.where(jnp.arange(self.support) < known.astype(jnp.int32), y[: self.support], UNKNOWN)
        return EpisodeTask(
            x[: self.support], support_y, x[self.support :], y[self.support :], {"signal": signal}, outputs=self.classes
        )


def log_uniform(key: PRNGKeyArray, low: float, high: float, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Numbers whose logarithm is uniform."""
    return jnp.exp(jr.uniform(key, shape, minval=jnp.log(low), maxval=jnp.log(high)))


def standardised(x: Float[Array, "rows _"]) -> Float[Array, "rows _"]:
    """Each column with mean zero and variance one (constant columns: zero)."""
    centred = x - jnp.mean(x, axis=0)[None]
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=0) + 1e-9)[None]


def sometimes(key: PRNGKeyArray, chance: float, low: float, high: float) -> Float[Array, ""]:
    """A uniform number with some chance, else zero."""
    return jnp.where(jr.uniform(key) < chance, low + (high - low) * jr.uniform(jr.fold_in(key, 1)), 0.0)


# --- Causes -------------------------------------------------------------------------------------------------------------------------


class Causes(NamedTuple):
    """What no table shows: the units of a random network, layer by layer, and the cluster that each row comes from."""

    units: Float[Array, "layers rows units"]
    cluster: Int[Array, " rows"]


def draw_causes(key: PRNGKeyArray, rows: int) -> Causes:
    """Rows of the first layer by one of four laws, and the layers that follow from it."""
    keys = jr.split(key, 8)
    normal = jr.normal(keys[0], (rows, UNITS))
    cluster = jr.categorical(keys[1], jr.normal(keys[2], (CLUSTERS,)), shape=(rows,))
    centres = log_uniform(keys[3], 0.5, 4.0) * jr.normal(keys[4], (CLUSTERS, UNITS))
    spread = log_uniform(keys[5], 0.3, 1.5, (CLUSTERS, UNITS))
    laws = (normal, centres[cluster] + spread[cluster] * normal, normal * jnp.exp(0.7 * normal[:, ::-1]), ndtr(normal))
    law = jr.categorical(keys[6], jnp.log(jnp.array([0.3, 0.4, 0.12, 0.18])))
    units = [standardised(jnp.stack(laws)[law])]
    for layer_key in jr.split(keys[7], LAYERS):
        units.append(next_layer(layer_key, units[-1]))
    return Causes(jnp.stack(units), cluster)


def next_layer(key: PRNGKeyArray, x: Float[Array, "rows units"]) -> Float[Array, "rows units"]:
    """A random, perhaps sparse layer, each of whose units has a shape of its own, and noise."""
    keys = jr.split(key, 4)
    there = jr.uniform(keys[0], (UNITS, UNITS)) < log_uniform(keys[1], 0.1, 1.0)
    shaped = standardised(random_shapes(keys[2], standardised(x @ jnp.where(there, jr.normal(keys[3], (UNITS, UNITS)), 0.0))))
    return shaped + log_uniform(jr.fold_in(key, 1), 0.01, 0.5) * jr.normal(jr.fold_in(key, 2), x.shape)


def random_shapes(key: PRNGKeyArray, x: Float[Array, "rows units"]) -> Float[Array, "rows units"]:
    """Each column, stretched and moved, through one of a few functions."""
    shape_key, stretch_key, move_key = jr.split(key, 3)
    x = log_uniform(stretch_key, 0.5, 2.5, x.shape[1:])[None] * x + 0.5 * jr.normal(move_key, x.shape[1:])[None]
    chosen = jr.randint(shape_key, x.shape[1:], 0, len(SHAPES))
    return sum(jnp.where(chosen[None] == i, shape(x), 0.0) for i, shape in enumerate(SHAPES))  # type: ignore[return-value]


# --- Columns ------------------------------------------------------------------------------------------------------------------------


class Columns(NamedTuple):
    """A table before it is weathered: numbers, and for `coded` columns codes, in an order or in none."""

    numbers: Table
    codes: Table
    coded: Bool[Array, " columns"]
    there: Bool[Array, " columns"]


def draw_columns(key: PRNGKeyArray, causes: Causes, columns: int) -> Columns:
    """Choose the columns among the units: of the first layer above all, of all, or something between."""
    keys = jr.split(key, 8)
    layers, rows, units = causes.units.shape
    candidates = jnp.swapaxes(causes.units, 0, 1).reshape(rows, layers * units)
    order = jr.uniform(keys[0], (layers, units)) + jr.uniform(keys[1], minval=-0.3, maxval=2.0) * jnp.arange(float(layers))[:, None]
    chosen = jnp.resize(jnp.argsort(order.ravel()), (columns,))
    noise = jr.normal(keys[2], (rows, columns))
    x = candidates[:, chosen] + sometimes(keys[3], 0.5, 0.0, 1.0) * log_uniform(keys[4], 0.02, 1.0, (columns,))[None] * noise
    x = jnp.where((jr.uniform(keys[5], (columns,)) < sometimes(keys[6], 0.5, 0.0, 0.6))[None], noise, x)
    there = jnp.arange(float(columns)) < jnp.floor(log_uniform(keys[7], min(2.0, columns), columns + 1.0))
    return coded(jr.fold_in(key, 1), jnp.where(there[None], standardised(x), 0.0), there)


def coded(key: PRNGKeyArray, x: Table, there: Bool[Array, " columns"]) -> Columns:
    """Cut some columns into levels, and give half of those codes without an order."""
    keys = jr.split(key, 6)
    shape = there.shape
    levels = jnp.floor(log_uniform(keys[0], 2.0, 12.0, shape))[None]
    place = ndtr(log_uniform(keys[1], 0.7, 1.5, shape)[None] * x + 0.7 * jr.normal(keys[2], shape)[None])
    ranks = jnp.clip(jnp.floor(levels * place), 0, levels - 1)
    # The fractional parts of multiples of an irrational number are all different, and in hardly any order.
    jumbled = jnp.floor(1_000 * jnp.mod(0.61803 * (ranks + 1) * log_uniform(keys[3], 1.0, 1_000.0, shape)[None], 1.0))
    discrete = jr.uniform(keys[4], shape) < sometimes(jr.fold_in(key, 1), 0.6, 0.0, 1.0)
    nominal = jr.uniform(keys[5], shape) < 0.5
    return Columns(jnp.where(discrete[None], standardised(ranks), x), jnp.where(nominal[None], jumbled, ranks), discrete, there)


def weathered(key: PRNGKeyArray, x: Table, columns: Columns) -> Table:
    """Skew the scales of some numbers, and empty some cells; absent columns are empty altogether."""
    scale_key, empty_key, share_key = jr.split(key, 3)
    scale = jr.randint(scale_key, columns.there.shape, 0, 8)[None]
    skewed = jnp.select(
        [scale == 0, scale == 1, scale == 2, scale == 3], [jnp.exp(jnp.clip(x, -4, 4)), x**3, ndtr(x), jax.nn.relu(x)], x
    )
    x = jnp.where(columns.coded[None], x, skewed)
    empty = jr.uniform(empty_key, x.shape) < sometimes(share_key, 0.2, 0.0, 0.25)
    return jnp.where(empty | ~columns.there[None], jnp.nan, x)


# --- Labels -------------------------------------------------------------------------------------------------------------------------


def draw_labels(key: PRNGKeyArray, causes: Causes, columns: Columns, signal: Float[Array, ""], classes: int) -> Int[Array, " rows"]:
    """Labels 0, 1, ... up to a number of classes that is drawn: two in half of the tables."""
    keys = jr.split(key, 10)
    used = jnp.floor(log_uniform(keys[0], 2.0, classes - 0.5))
    used = jnp.where(jr.uniform(keys[1]) < 0.35, 2.0, used).astype(jnp.int32)
    soft = jnp.stack(
        [
            random_network(keys[2], columns.numbers, classes),
            random_network(keys[3], causes.units[1], classes),
            sparse_linear(keys[4], columns.numbers, classes),
            random_trees(keys[5], columns, classes),
        ]
    )
    offsets = sometimes(keys[6], 0.7, 0.0, 2.0) * jr.normal(keys[7], (classes,))
    soft = signal * jax.vmap(standardised)(soft) + offsets[None, None]
    hard = jnp.stack([by_cluster(keys[8], causes, used), by_cut_points(keys[9], causes, used, classes)])
    certain = jnp.log(0.001 + jax.nn.one_hot(hard, classes)) * jnp.minimum(signal, 3.0)
    rule = jr.categorical(jr.fold_in(key, 1), jnp.log(jnp.array([0.2, 0.15, 0.12, 0.28, 0.12, 0.13])))
    logits = jnp.concatenate([soft, certain])[rule]
    return jr.categorical(jr.fold_in(key, 2), jnp.where((jnp.arange(classes) < used)[None], logits, -jnp.inf))


def random_network(key: PRNGKeyArray, x: Float[Array, "rows inputs"], classes: int) -> Float[Array, "rows classes"]:
    """One hidden layer that looks at some of its inputs."""
    keys = jr.split(key, 5)
    there = jr.uniform(keys[0], (x.shape[1], 1)) < log_uniform(keys[1], 0.15, 1.0)
    hidden = standardised(x @ jnp.where(there, jr.normal(keys[2], (x.shape[1], 2 * UNITS)), 0.0))
    return random_shapes(keys[3], hidden) @ jr.normal(keys[4], (2 * UNITS, classes))


def sparse_linear(key: PRNGKeyArray, x: Float[Array, "rows inputs"], classes: int) -> Float[Array, "rows classes"]:
    """Linear logits of some of the inputs."""
    keys = jr.split(key, 3)
    there = jr.uniform(keys[0], (x.shape[1], 1)) < log_uniform(keys[1], 0.2, 1.0)
    return x @ jnp.where(there, jr.normal(keys[2], (x.shape[1], classes)), 0.0)


def random_trees(key: PRNGKeyArray, columns: Columns, classes: int) -> Float[Array, "rows classes"]:
    """A sum of trees that ask the same question everywhere in a level, each tree counting less than the one before or as much."""
    keys = jr.split(key, 4)
    x = columns.numbers
    column = jr.randint(keys[0], (TREES, DEPTH), 0, 1_000_000) % jnp.sum(columns.there)
    threshold = x[jr.randint(keys[1], (TREES, DEPTH), 0, x.shape[0]), column]
    leaf = jnp.sum(jnp.where(x[:, column] > threshold[None], 2 ** jnp.arange(DEPTH)[None, None], 0), axis=2)
    weight = jnp.exp(-1.2 * jr.uniform(keys[2]) * jnp.arange(float(TREES)))
    values = weight[:, None, None] * jr.normal(keys[3], (TREES, 2**DEPTH, classes))
    return jnp.sum(values[jnp.arange(TREES)[None], leaf], axis=1)


def by_cluster(key: PRNGKeyArray, causes: Causes, used: Int[Array, ""]) -> Int[Array, " rows"]:
    """Each cluster belongs to a class; a class may have several."""
    return (jr.permutation(key, CLUSTERS) % used)[causes.cluster]


def by_cut_points(key: PRNGKeyArray, causes: Causes, used: Int[Array, ""], classes: int) -> Int[Array, " rows"]:
    """Where among random cut points one hidden unit's value lies; with twice as many intervals as classes, classes come back."""
    keys = jr.split(key, 4)
    unit = causes.units[jr.randint(keys[0], (), 1, LAYERS + 1), :, jr.randint(keys[1], (), 0, UNITS)]
    intervals = used * jnp.where(jr.uniform(keys[2]) < 0.3, 2, 1)
    cuts = jnp.where(jnp.arange(2 * classes) < intervals - 1, jr.uniform(keys[3], (2 * classes,)), 2.0)
    return jnp.sum(ndtr(standardised(unit[:, None])) > cuts[None], axis=1) % used
