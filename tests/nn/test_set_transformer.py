"""A set has no order, padding is nothing, and queries do not meet."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from quickstudy.nn.set_transformer import SetTransformer
from quickstudy.nn.transformer import Architecture

MODEL = SetTransformer(Architecture(width=8, layers=2, heads=4, groups=2), key=jr.key(0))
SUPPORT, QUERIES = jr.normal(jr.key(1), (5, 8)), jr.normal(jr.key(2), (3, 8))
read = eqx.filter_jit(lambda *arguments: MODEL(*arguments))


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_support_says_nothing():
    close(read(SUPPORT[jnp.array([3, 0, 4, 1, 2])], QUERIES), read(SUPPORT, QUERIES))


def test_each_example_of_the_support_says_something():
    for i in range(len(SUPPORT)):
        assert np.abs(read(SUPPORT.at[i].multiply(-1.0), QUERIES) - read(SUPPORT, QUERIES)).max() > 1e-3


def test_padding_is_nothing_wherever_it_lies():
    padding = jr.normal(jr.key(3), (1, 8))
    padded = jnp.concatenate([padding, SUPPORT[:2], padding, SUPPORT[2:], padding])
    known = jnp.array([False, True, True, False, True, True, True, False])
    close(read(padded, QUERIES, known), read(SUPPORT, QUERIES))


def test_an_empty_support_leaves_a_function_of_the_query():
    nothing = jnp.zeros(5, bool)
    found = read(SUPPORT, QUERIES, nothing)
    assert np.isfinite(found).all()
    close(read(SUPPORT[::-1] ** 2, QUERIES, nothing), found)


def test_queries_do_not_influence_each_other():
    close(read(SUPPORT, QUERIES.at[1].multiply(-1.0))[jnp.array([0, 2])], read(SUPPORT, QUERIES)[jnp.array([0, 2])])


def test_a_support_is_remembered_once_for_many_queries():
    support = eqx.filter_jit(MODEL.remember)(SUPPORT)
    answer = eqx.filter_jit(MODEL.answer)
    close(jnp.concatenate([answer(support, query[None]) for query in QUERIES]), read(SUPPORT, QUERIES))


def test_an_example_of_the_support_reads_it_as_a_query_does():
    """The same example among the queries passes through the same blocks to the same keys and values."""
    support = eqx.filter_jit(MODEL.remember)(jnp.concatenate([SUPPORT[:4], SUPPORT[:1]]), jnp.array(4 * [True] + [False]))
    close(support.keys[:, 4], support.keys[:, 0])  # padding reads the known support, as a query does
    close(support.values[:, 4], support.values[:, 0])


def test_bfloat16_is_close_to_float32():
    rough = SetTransformer(Architecture(width=8, layers=2, heads=4, groups=2, dtype=jnp.bfloat16), key=jr.key(0))
    support = eqx.filter_jit(rough.remember)(SUPPORT)
    assert support.keys.dtype == jnp.bfloat16
    # Features have a variance of one, bfloat16 has eight bits: three hundredths are a few roundings.
    np.testing.assert_allclose(eqx.filter_jit(rough.answer)(support, QUERIES), read(SUPPORT, QUERIES), atol=0.03)
