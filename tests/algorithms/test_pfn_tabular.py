"""A network for tables of any size: what must not matter to it does not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.incontext import pfn_tabular
from quickstudy.core import sample_tasks
from quickstudy.tasks import Sinusoid
from quickstudy.tasks.episode import EpisodeView
from quickstudy.tasks.tabular_worlds import UNKNOWN, TabularWorlds

CONFIG = pfn_tabular.PRESETS["smoke"].config
ROWS, QUERIES, COLUMNS, CLASSES = 12, 5, 4, 3


@pytest.fixture(scope="module")
def network():
    return pfn_tabular.learner(CONFIG, TabularWorlds(classes=CLASSES), jr.key(0))


@pytest.fixture(scope="module")
def table():
    """Numbers, a few of them missing, and labels."""
    x = jr.normal(jr.key(1), (ROWS + QUERIES, COLUMNS)).at[3, 1].set(jnp.nan).at[ROWS, 2].set(jnp.nan)
    return x[:ROWS], jr.randint(jr.key(2), (ROWS,), 0, CLASSES), x[ROWS:]


@eqx.filter_jit
def answer(network, x, y, queries):
    view = EpisodeView(x, y, queries, outputs=CLASSES)
    return network.respond(network.begin(view, jr.key(0)), view, jr.key(0))


def same(a, b):
    np.testing.assert_allclose(a, b, atol=2e-4)


def test_the_order_of_rows_and_of_columns_does_not_matter(network, table):
    x, y, queries = table
    rows, columns = jr.permutation(jr.key(3), ROWS), jr.permutation(jr.key(4), COLUMNS)
    same(answer(network, x[rows][:, columns], y[rows], queries[:, columns]), answer(network, x, y, queries))


def test_padding_does_not_matter(network, table):
    x, y, queries = table
    wide = lambda rows: jnp.pad(rows, ((0, 0), (0, 3)), constant_values=jnp.nan)
    x_padded = jnp.concatenate([wide(x), jnp.full((4, COLUMNS + 3), 1e6)])
    y_padded = jnp.concatenate([y, jnp.full((4,), UNKNOWN)])
    same(answer(network, x_padded, y_padded, wide(queries)), answer(network, x, y, queries))


def test_units_do_not_matter(network, table):
    x, y, queries = table
    other = lambda rows: 1_000 * rows - 5
    same(answer(network, other(x), y, other(queries)), answer(network, x, y, queries))


def test_queries_do_not_see_each_other(network, table):
    x, y, queries = table
    same(answer(network, x, y, queries[:1]), answer(network, x, y, queries)[:1])


def test_labels_and_columns_do_matter(network, table):
    x, y, queries = table
    now = answer(network, x, y, queries)
    assert float(jnp.abs(now - answer(network, x, (y + 1) % CLASSES, queries)).max()) > 1e-3
    assert float(jnp.abs(now - answer(network, x, y, -queries)).max()) > 1e-3


def test_a_class_that_the_support_does_not_show_is_never_predicted(network, table):
    x, y, queries = table
    assert float(jax.nn.softmax(answer(network, x, jnp.zeros_like(y), queries))[:, 1:].max()) == 0.0


def test_a_constant_or_an_empty_column_says_nothing_that_is_not_finite(network, table):
    x, y, queries = table
    strange = x.at[:, 0].set(7.0).at[:, 1].set(jnp.nan)
    assert bool(jnp.isfinite(answer(network, strange, y, queries)).all())


def test_a_small_step_against_the_gradient_lowers_the_loss(network):
    tables = TabularWorlds(support=16, query=8, columns=2, classes=CLASSES)
    tasks = jax.jit(lambda key: sample_tasks(tables, key, "train", 8))(jr.key(5))
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)

    @jax.jit
    def loss(arrays):
        each = jax.vmap(lambda task: pfn_tabular.loss(eqx.combine(arrays, rest), task, jr.key(0))[0])
        return jnp.mean(each(tasks))

    value, gradient = jax.value_and_grad(loss)(arrays)
    length = sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(gradient))
    after = loss(jax.tree.map(lambda a, g: a - 0.01 / length * g, arrays, gradient))
    np.testing.assert_allclose(value - after, 0.01, rtol=0.5)


def test_floating_point_targets_and_heads_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="predicts classes"):
        pfn_tabular.learner(CONFIG, Sinusoid(), jr.key(0))
    with pytest.raises(ValueError, match="heads must divide"):
        pfn_tabular.Config(heads=7)
