"""Tabular worlds: random small classification tables, the prior of a tabular prior-fitted network.

A table is made in three steps, each with random choices that are drawn once a table:

* causes: rows are normal, clustered, heavy-tailed or uniform numbers, pushed through a random network with noise in every layer; the
  columns are some of its units, from any layer, so that columns cause one another or share a cause; a few are pure noise
* labels: from the columns by a random network, a sparse linear map or an ensemble of random trees, from the causes by a network, from
  either by the nearest of a few rows, or from the place of one hidden unit's value among cut points; with noise of their own and
  unequal classes
* what tables look like: numbers on skewed scales, whole numbers, codes without an order, empty cells

Sources: the structural causal models and networks of Hollmann et al. 2023, "TabPFN: A Transformer That Solves Small Tabular
Classification Problems in a Second", section 4; trees as a prior: Breejen et al. 2024, "Fine-tuned In-Context Learning Transformers
are Excellent Tabular Data Classifiers". All numbers are ours: none was tuned on real tables, but labels follow their causes about as
sharply as in public ones, where forests mostly reach a ROC AUC of 0.8 to 1 (table 1 of Hollmann et al. 2023: a mean near 0.9).
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.splits import draw_in_split

UNKNOWN = -1  # the label of a row that is there for its shape only
CLUSTERS, UNITS, LAYERS, TREES, DEPTH, PROTOTYPES = 8, 16, 3, 8, 4, 32
SIGNAL = (2.0, 60.0)  # how many times as large as the labels' own noise what decides them is
SHAPES = (jnp.tanh, jax.nn.relu, lambda x: x, jnp.sin, jnp.abs, jnp.sign, lambda x: x**2 - 1, lambda x: jnp.floor(1.5 * x))

Table = Float[Array, "rows columns"]
Causes = Float[Array, "layers rows units"]


class TabularWorlds(AbstractTaskDistribution):
    """Classification episodes over random tables of `columns` columns at most; absent ones are NaN, as empty cells are.

    `support` rows, of which as many as the table draws (16 or more) have labels and the others have -1, and `query` rows. Labels are
    `classes` integers at most, in random order. Latent: `signal`, how sharply labels follow what decides them. Its quantile, a slice
    of which belongs to each split, keeps the splits apart; "out-of-range" tables are noisier than training tables ever are.

    Raises `ValueError` for sizes that no table can have.

    >>> tables = TabularWorlds(support=32, query=8, columns=5)
    >>> jax.eval_shape(lambda key: tables.sample(key, "test"), jr.key(0)).support_x.shape
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
        split_key, dice_key = jr.split(key)
        far = split == "out-of-range"
        quantile = draw_in_split(split_key, "test" if far else split, 0.0, 1.0)
        signal = 0.5 * (SIGNAL[0] / 0.5) ** quantile if far else SIGNAL[0] * (SIGNAL[1] / SIGNAL[0]) ** quantile
        rows = self.support + self.query
        needed = rows * (UNITS * (LAYERS + 1) + 4 * self.columns + self.classes + 4) + 300 * (self.columns + 100)
        dice = Dice(jr.uniform(dice_key, (needed,), minval=1e-7, maxval=1 - 1e-7))
        causes = draw_causes(dice, rows)
        columns = draw_columns(dice, causes, self.columns)
        labels = draw_labels(dice, causes, columns, signal, self.classes)
        x = weathered(dice, columns)
        y = dice.permutation(self.classes)[labels].astype(jnp.int32)
        # The median table has a third of the labels: short contexts are cheap to learn, long ones are what users have.
        known = (16 * ((self.support + 1) / 16) ** jnp.sqrt(dice.uniform())).astype(jnp.int32)
        support_y = jnp.where(jnp.arange(self.support) < known, y[: self.support], UNKNOWN)
        return EpisodeTask(
            x[: self.support], support_y, x[self.support :], y[self.support :], {"signal": signal}, outputs=self.classes
        )


class Dice:
    """Random numbers cut from one draw: a table needs some eighty, of which each draw of its own would take as long to compile."""

    def __init__(self, pool: Float[Array, " numbers"]):
        self._pool, self._normal_pool = pool, ndtri(pool)
        self._used = 0

    def uniform(self, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Uniform numbers in (0, 1)."""
        return self._pool[self._next(shape)].reshape(shape)

    def normal(self, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Normal numbers."""
        return self._normal_pool[self._next(shape)].reshape(shape)

    def _next(self, shape: tuple[int, ...]) -> slice:
        size = math.prod(shape)
        self._used += size
        if self._used > len(self._pool):
            raise ValueError(f"at least {self._used} numbers must be drawn, not {len(self._pool)}")
        return slice(self._used - size, self._used)

    def log_uniform(self, low: float, high: float, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Numbers whose logarithm is uniform."""
        return low * jnp.exp(math.log(high / low) * self.uniform(shape))

    def sometimes(self, chance: float, high: float) -> Float[Array, ""]:
        """A number below `high` with some chance, else zero."""
        return jnp.where(self.uniform() < chance, high * self.uniform(), 0.0)

    def below(self, n: int | Int[Array, ""], shape: tuple[int, ...] = ()) -> Int[Array, "..."]:
        """Integers 0, 1, ... below `n`."""
        return jnp.floor(jnp.asarray(n, float) * self.uniform(shape)).astype(jnp.int32)

    def permutation(self, n: int) -> Int[Array, " n"]:
        """The integers below `n` in random order."""
        return jnp.argsort(self.uniform((n,)))

    def sample(self, logits: Float[Array, "*shape classes"]) -> Int[Array, "*shape"]:
        """A class from each row of logits."""
        return jnp.argmax(logits - jnp.log(-jnp.log(self.uniform(logits.shape))), axis=-1)


def standardised(x: Float[Array, "rows _"]) -> Float[Array, "rows _"]:
    """Each column with mean zero and variance one (constant columns: zero)."""
    centred = x - jnp.mean(x, axis=0)[None]
    return centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=0) + 1e-9)[None]


# --- Causes -------------------------------------------------------------------------------------------------------------------------


def draw_causes(dice: Dice, rows: int) -> Causes:
    """What no table shows: rows of the first layer by one of four laws, and the layers of a random network that follow from it."""
    normal = dice.normal((rows, UNITS))
    cluster = dice.sample(jnp.broadcast_to(dice.normal((CLUSTERS,))[None], (rows, CLUSTERS)))
    centres = dice.log_uniform(0.5, 4.0) * dice.normal((CLUSTERS, UNITS))
    spread = dice.log_uniform(0.3, 1.5, (CLUSTERS, UNITS))
    laws = (normal, centres[cluster] + spread[cluster] * normal, normal * jnp.exp(0.7 * normal[:, ::-1]), ndtr(normal))
    first = standardised(jnp.stack(laws)[dice.sample(jnp.log(jnp.array([0.3, 0.4, 0.12, 0.18])))])
    needed = 2 * UNITS**2 + 3 * UNITS + 2 + rows * UNITS
    layer = lambda x, pool: 2 * (next_layer(Dice(pool), x),)
    _, later = jax.lax.scan(layer, first, dice.uniform((LAYERS, needed)))
    return jnp.concatenate([first[None], later])


def next_layer(dice: Dice, x: Float[Array, "rows units"]) -> Float[Array, "rows units"]:
    """A random, perhaps sparse layer, each of whose units has a shape of its own, and noise."""
    there = dice.uniform((UNITS, UNITS)) < dice.log_uniform(0.1, 1.0)
    shaped = random_shapes(dice, standardised(x @ jnp.where(there, dice.normal((UNITS, UNITS)), 0.0)))
    return standardised(shaped) + dice.log_uniform(0.01, 0.5) * dice.normal(x.shape)


def random_shapes(dice: Dice, x: Float[Array, "rows units"]) -> Float[Array, "rows units"]:
    """Each column, stretched and moved, through one of a few functions."""
    units = x.shape[1:]
    x = dice.log_uniform(0.5, 2.5, units)[None] * x + 0.5 * dice.normal(units)[None]
    chosen = dice.below(len(SHAPES), units)
    return sum(jnp.where(chosen[None] == i, shape(x), 0.0) for i, shape in enumerate(SHAPES))  # type: ignore[return-value]


# --- Columns ------------------------------------------------------------------------------------------------------------------------


class Columns(NamedTuple):
    """A table before it is weathered: numbers, and for `coded` columns codes, in an order or in none."""

    numbers: Table
    codes: Table
    coded: Bool[Array, " columns"]
    there: Bool[Array, " columns"]


def draw_columns(dice: Dice, causes: Causes, columns: int) -> Columns:
    """Choose the columns among the units: of the first layer above all, of all, or something between."""
    layers, rows, units = causes.shape
    candidates = jnp.swapaxes(causes, 0, 1).reshape(rows, layers * units)
    order = dice.uniform((layers, units)) + (2.3 * dice.uniform() - 0.3) * jnp.arange(float(layers))[:, None]
    chosen = jnp.resize(jnp.argsort(order.ravel()), (columns,))
    noise = dice.normal((rows, columns))
    x = candidates[:, chosen] + dice.sometimes(0.5, 1.0) * dice.log_uniform(0.02, 1.0, (columns,))[None] * noise
    x = jnp.where((dice.uniform((columns,)) < dice.sometimes(0.5, 0.6))[None], noise, x)
    there = jnp.arange(float(columns)) < jnp.floor(dice.log_uniform(min(2.0, float(columns)), columns + 1.0))
    return coded(dice, jnp.where(there[None], standardised(x), 0.0), there)


def coded(dice: Dice, x: Table, there: Bool[Array, " columns"]) -> Columns:
    """Cut some columns into levels, and give half of those codes without an order."""
    shape = there.shape
    levels = jnp.floor(dice.log_uniform(2.0, 12.0, shape))[None]
    place = ndtr(dice.log_uniform(0.7, 1.5, shape)[None] * x + 0.7 * dice.normal(shape)[None])
    ranks = jnp.clip(jnp.floor(levels * place), 0, levels - 1)
    # The fractional parts of multiples of an irrational number are all different, and in hardly any order.
    jumbled = jnp.floor(1_000 * jnp.mod(0.61803 * (ranks + 1) * dice.log_uniform(1.0, 1_000.0, shape)[None], 1.0))
    discrete = dice.uniform(shape) < dice.sometimes(0.6, 1.0)
    nominal = dice.uniform(shape) < 0.5
    return Columns(jnp.where(discrete[None], standardised(ranks), x), jnp.where(nominal[None], jumbled, ranks), discrete, there)


def weathered(dice: Dice, columns: Columns) -> Table:
    """Skew the scales of some numbers, and empty some cells; absent columns are empty altogether."""
    x, scale = columns.numbers, dice.below(8, columns.there.shape)[None]
    scales = [jnp.exp(jnp.clip(x, -4, 4)), x**3, ndtr(x), jax.nn.relu(x)]
    skewed = jnp.select([scale == i for i in range(len(scales))], scales, x)
    empty = dice.uniform(x.shape) < dice.sometimes(0.2, 0.25)
    return jnp.where(empty | ~columns.there[None], jnp.nan, jnp.where(columns.coded[None], columns.codes, skewed))


# --- Labels -------------------------------------------------------------------------------------------------------------------------


def draw_labels(dice: Dice, causes: Causes, columns: Columns, signal: Float[Array, ""], classes: int) -> Int[Array, " rows"]:
    """Labels 0, 1, ... up to a number of classes that is drawn: two in half of the tables."""
    used = jnp.floor(dice.log_uniform(2.0, classes - 0.5))
    used = jnp.where(dice.uniform() < 0.35, 2.0, used).astype(jnp.int32)
    soft = [
        random_network(dice, columns.numbers, classes),
        random_network(dice, causes[1], classes),
        sparse_linear(dice, columns.numbers, classes),
        random_trees(dice, columns, classes),
    ]
    offsets = dice.sometimes(0.7, 2.0) * dice.normal((classes,))
    logits = [signal * standardised(one) + offsets[None] for one in soft]
    near = [by_prototype(dice, x, used) for x in (columns.numbers, causes[0])]
    hard = (by_cut_points(dice, causes, used, classes), *near)
    logits += [jnp.log(0.001 + jax.nn.one_hot(one, classes)) * jnp.minimum(signal, 3.0) for one in hard]
    rule = dice.sample(jnp.log(jnp.array([0.22, 0.07, 0.14, 0.28, 0.07, 0.14, 0.08])))
    return dice.sample(jnp.where((jnp.arange(classes) < used)[None], jnp.stack(logits)[rule], -jnp.inf))


def random_network(dice: Dice, x: Float[Array, "rows inputs"], classes: int) -> Float[Array, "rows classes"]:
    """One hidden layer that looks at some of its inputs."""
    there = dice.uniform((x.shape[1], 1)) < dice.log_uniform(0.15, 1.0)
    hidden = standardised(x @ jnp.where(there, dice.normal((x.shape[1], UNITS)), 0.0))
    return random_shapes(dice, hidden) @ dice.normal((UNITS, classes))


def sparse_linear(dice: Dice, x: Float[Array, "rows inputs"], classes: int) -> Float[Array, "rows classes"]:
    """Linear logits of some of the inputs."""
    there = dice.uniform((x.shape[1], 1)) < dice.log_uniform(0.2, 1.0)
    return x @ jnp.where(there, dice.normal((x.shape[1], classes)), 0.0)


def random_trees(dice: Dice, columns: Columns, classes: int) -> Float[Array, "rows classes"]:
    """A sum of trees that ask the same question everywhere in a level, each tree counting less than the one before or as much."""
    x = columns.numbers
    column = dice.below(jnp.sum(columns.there), (TREES, DEPTH))
    threshold = x[dice.below(x.shape[0], (TREES, DEPTH)), column]
    leaf = jnp.sum(jnp.where(x[:, column] > threshold[None], 2 ** jnp.arange(DEPTH)[None, None], 0), axis=2)
    weight = jnp.exp(-1.2 * dice.uniform() * jnp.arange(float(TREES)))
    values = weight[:, None, None] * dice.normal((TREES, 2**DEPTH, classes))
    return jnp.sum(values[jnp.arange(TREES)[None], leaf], axis=1)


def by_cut_points(dice: Dice, causes: Causes, used: Int[Array, ""], classes: int) -> Int[Array, " rows"]:
    """Where among random cut points one hidden unit's value lies; with twice as many intervals as classes, classes come back."""
    unit = causes[1 + dice.below(LAYERS), :, dice.below(UNITS)]
    intervals = used * jnp.where(dice.uniform() < 0.3, 2, 1)
    cuts = jnp.where(jnp.arange(2 * classes) < intervals - 1, dice.uniform((2 * classes,)), 2.0)
    return jnp.sum(ndtr(standardised(unit[:, None])) > cuts[None], axis=1) % used


def by_prototype(dice: Dice, x: Float[Array, "rows inputs"], used: Int[Array, ""]) -> Int[Array, " rows"]:
    """The class of the nearest of a few rows, by inputs that count for more or less; a class may have several such rows."""
    x = x * jnp.exp(dice.normal(x.shape[1:]))[None]
    chosen = x[dice.below(x.shape[0], (PROTOTYPES,))]
    distance = jnp.sum(chosen**2, axis=1)[None] - 2 * x @ chosen.T
    there = jnp.arange(float(PROTOTYPES)) < jnp.maximum(jnp.floor(dice.log_uniform(2.0, PROTOTYPES + 1.0)), used.astype(float))
    return jnp.argmin(jnp.where(there[None], distance, jnp.inf), axis=1).astype(jnp.int32) % used
