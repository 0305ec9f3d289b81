"""Memories of a fixed size against their closed forms and plain loops; that `unroll` is `step` is tested with all memories."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.nn.recurrences import DeltaRule, LinearAttention, SelectiveStateSpace, correct, correct_all

XS = jr.normal(jr.key(0), (6, 8))


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_delta_rule_recalls_the_values_of_orthonormal_keys_exactly():
    keys, values = jr.orthogonal(jr.key(1), 4), jr.normal(jr.key(2), (4, 3))
    write = lambda memory, pair: (correct(memory, *pair, jnp.ones(())), None)
    memory, _ = jax.lax.scan(write, jnp.zeros((3, 4)), (keys, values))
    close(keys @ memory.T, values)


def test_the_delta_rule_overwrites_where_a_sum_would_add():
    key = jnp.array([0.6, 0.8])
    memory = correct(jnp.zeros((1, 2)), key, jnp.array([5.0]), jnp.ones(()))
    memory = correct(memory, key, jnp.array([3.0]), jnp.ones(()))
    close(memory @ key, [3.0])


def test_the_delta_rule_at_once_is_the_rule_tick_by_tick():
    """Also where keys repeat, which makes its system of equations dense."""
    keys = jnp.tile(jr.orthogonal(jr.key(1), 4), (5, 1)) + 0.1 * jr.normal(jr.key(4), (20, 4))
    queries, values = jr.normal(jr.key(2), (20, 4)), jr.normal(jr.key(3), (20, 3))
    rates, memory = jnp.linspace(0.0, 1.0, 20), jr.normal(jr.key(6), (3, 4))

    def tick(memory, shown):
        query, *pair = shown
        memory = correct(memory, *pair)
        return memory, memory @ query

    wanted = jax.lax.scan(tick, memory, (queries, keys, values, rates))[1]
    close(jax.jit(correct_all)(memory, queries, keys, values, rates), wanted)


def test_linear_attention_is_a_mean_weighted_by_products_of_features():
    made = LinearAttention(8, heads=2, size=3, key=jr.key(1))
    query, key, value = np.einsum("tw,phws->phts", XS, made.reading).astype(np.float64)
    feature = lambda x: np.where(x > 0, x + 1, np.exp(x))
    wanted = np.zeros((6, 8))
    for head in range(2):
        weights = np.tril(feature(query[head]) @ feature(key[head]).T)
        wanted += weights / weights.sum(axis=1, keepdims=True) @ value[head] @ np.asarray(made.mixing[head])
    close(eqx.filter_jit(made.unroll)(made.start(), XS), wanted)


def test_the_state_space_is_a_loop_over_its_definition():
    made = SelectiveStateSpace(8, states=3, key=jr.key(1))
    made = eqx.tree_at(lambda m: m.bias, made, jnp.ones(8))  # steps that forget within the test
    part = lambda name: np.asarray(getattr(made, name), np.float64)
    state = np.asarray(jr.normal(jr.key(2), (8, 3)), np.float64)
    found = eqx.filter_jit(made.unroll)(jnp.asarray(state, jnp.float32), XS)
    for x, row in zip(np.asarray(XS, np.float64), found, strict=True):
        step = np.log1p(np.exp(x @ part("narrowing") @ part("widening") + part("bias")))
        enters, leaves = x @ part("entering"), x @ part("leaving")
        for i in range(8):
            state[i] = np.exp(-step[i] * np.exp(part("decay")[i])) * state[i] + step[i] * enters * x[i]
        close(row, state @ leaves + part("through") * x)


def test_a_state_space_is_born_with_slow_and_quick_rates():
    made = SelectiveStateSpace(64, key=jr.key(1))
    close(np.exp(made.decay[0]), np.arange(1.0, 17.0))
    steps = jax.nn.softplus(made.bias)
    assert 0.001 <= steps.min() < 0.005 and 0.03 < steps.max() <= 0.1


@pytest.mark.parametrize("made", [DeltaRule(8, heads=2, size=4, key=jr.key(1)), LinearAttention(8, heads=2, size=4, key=jr.key(1))])
def test_an_input_of_zeros_has_a_gradient(made):
    gradient = jax.jit(jax.grad(lambda xs: jnp.sum(made.unroll(made.start(), xs) ** 2)))(jnp.zeros((3, 8)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("layer", [DeltaRule, LinearAttention])
def test_sizes_below_one_are_refused(layer):
    with pytest.raises(ValueError, match="heads must be at least 1, not 0"):
        layer(8, heads=0, size=4, key=jr.key(0))
    with pytest.raises(ValueError, match="states must be at least 1, not 0"):
        SelectiveStateSpace(8, states=0, key=jr.key(0))
