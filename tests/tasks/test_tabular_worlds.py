"""The prior over tables: it has all that it says, in shapes that never change."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks.tabular_worlds import UNKNOWN, TabularWorlds


@pytest.fixture(scope="module")
def tables():
    return jax.jit(lambda key: sample_tasks(TabularWorlds(support=64, query=32, columns=6), key, "train", 200))(jr.key(0))


def test_tables_have_any_number_of_columns_rows_and_classes(tables):
    columns = np.sum(np.any(~np.isnan(tables.query_x), axis=1), axis=1)
    rows = np.sum(np.asarray(tables.support_y) != UNKNOWN, axis=1)
    classes = np.array([len(np.unique(y)) for y in np.asarray(tables.query_y)])
    assert set(columns) == {2, 3, 4, 5, 6}
    assert rows.min() < 20 and rows.max() > 56
    assert 0.3 < np.mean(classes <= 2) < 0.8 and classes.max() >= 6


def test_labels_have_no_order_and_are_not_all_the_same(tables):
    shares = np.bincount(np.asarray(tables.query_y).ravel(), minlength=10) / tables.query_y.size
    assert shares.min() > 0.05 and shares.max() < 0.2
    assert np.mean([len(np.unique(y)) == 1 for y in np.asarray(tables.query_y)]) < 0.1


def test_some_columns_are_whole_numbers_and_some_cells_are_empty(tables):
    x = np.asarray(tables.support_x).transpose(0, 2, 1).reshape(-1, 64)
    there = x[~np.isnan(x).all(axis=1)]
    whole = np.mean([np.all(column[~np.isnan(column)] % 1 == 0) for column in there])
    assert 0.1 < whole < 0.6
    assert 0.005 < np.isnan(there).mean() < 0.1
    assert np.isfinite(there[~np.isnan(there)]).all()


def test_a_nearest_neighbour_beats_the_commonest_class(tables):
    """Tables are learnable: rows that are alike have labels that are alike."""

    def accuracies(task):
        known = task.support_y != UNKNOWN
        apart = jnp.nansum((task.query_x[:, None] - task.support_x[None]) ** 2, axis=2)
        near = task.support_y[jnp.argmin(jnp.where(known[None], apart, jnp.inf), axis=1)]
        common = jnp.argmax(jnp.sum(jnp.where(known[:, None], jax.nn.one_hot(task.support_y, 10), 0.0), axis=0))
        return jnp.mean(near == task.query_y), jnp.mean(common == task.query_y)

    near, common = jax.vmap(accuracies)(tables)
    assert float(near.mean()) > float(common.mean()) + 0.05


def test_out_of_range_tables_are_noisier():
    tables = TabularWorlds(support=16, query=1, columns=1)
    # Only the signal is asked for, so that nothing else is compiled.
    draw = jax.jit(lambda key, split: sample_tasks(tables, key, split, 50).latent["signal"], static_argnums=1)
    assert float(draw(jr.key(0), "out-of-range").max()) <= 2.0 <= float(draw(jr.key(0), "test").min())


@pytest.mark.parametrize(("name", "value"), [("support", 8), ("query", 0), ("columns", 0), ("classes", 1)])
def test_impossible_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        TabularWorlds(**{name: value})
