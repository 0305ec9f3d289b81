"""Grouped attention follows its definition, and rotary positions leave nothing but distances."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.nn.attention import attend, rotate

TICKS, PAST, SIZE = 3, 5, 4
QUERY = jr.normal(jr.key(0), (TICKS, 4, SIZE))
ALLOWED = np.array([[1, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]], bool)


def by_hand(query, keys, values, allowed, bias):
    query, keys, values = (np.asarray(part, np.float64) for part in (query, keys, values))
    read = np.zeros(query.shape)
    share = query.shape[1] // keys.shape[1]
    for t in range(len(query)):
        for head in range(query.shape[1]):
            past = [j for j in range(len(keys)) if allowed[t, j]]
            weights = np.exp([query[t, head] @ keys[j, head // share] / SIZE**0.5 + bias[head, t, j] for j in past])
            read[t, head] = sum(w * values[j, head // share] for w, j in zip(weights / weights.sum(), past, strict=True))
    return read


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_attend_follows_its_definition(groups):
    keys, values = jr.normal(jr.key(1), (2, PAST, groups, SIZE))
    bias = jr.normal(jr.key(2), (4, TICKS, PAST))
    wanted = by_hand(QUERY, keys, values, ALLOWED, np.asarray(bias))
    np.testing.assert_allclose(attend(QUERY, keys, values, jnp.asarray(ALLOWED), bias), wanted, rtol=1e-4, atol=1e-5)


def test_a_query_that_is_allowed_nothing_reads_zero():
    keys, values = jr.normal(jr.key(1), (2, PAST, 2, SIZE))
    assert not jnp.any(attend(QUERY, keys, values, jnp.zeros((TICKS, PAST), bool)))
    assert not jnp.any(attend(QUERY, keys[:0], values[:0], jnp.zeros((TICKS, 0), bool)))


def test_bfloat16_reads_in_float32():
    keys, values = jr.normal(jr.key(1), (2, PAST, 2, SIZE))
    exact = attend(QUERY, keys, values, jnp.asarray(ALLOWED))
    rough = attend(*(part.astype(jnp.bfloat16) for part in (QUERY, keys, values)), jnp.asarray(ALLOWED))
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, exact, atol=0.03)


def test_heads_that_no_group_shares_evenly_are_refused():
    with pytest.raises(ValueError, match="heads must be a multiple of groups, not 4 with groups=3"):
        attend(QUERY, jnp.ones((PAST, 3, SIZE)), jnp.ones((PAST, 3, SIZE)), jnp.asarray(ALLOWED))


def test_rotated_products_depend_on_distances_alone():
    scores = jax.jit(lambda shift: jnp.einsum("ths,phs->htp", *2 * [rotate(QUERY, shift + 7 * jnp.arange(TICKS))]))
    np.testing.assert_allclose(scores(0), scores(50), rtol=1e-3, atol=1e-4)
    assert np.abs(scores(0) - jnp.einsum("ths,phs->htp", QUERY, QUERY)).max() > 0.1  # and they do depend on them


def test_rotation_is_a_complex_product():
    positions = np.array([0, 3, 11])
    planes = np.asarray(QUERY[..., :2]) + 1j * np.asarray(QUERY[..., 2:])
    turned = planes * np.exp(1j * positions[:, None, None] * np.array([1.0, 0.01]))  # 10000 ** (-2 / 4) = 0.01
    wanted = np.concatenate([turned.real, turned.imag], axis=-1)
    np.testing.assert_allclose(rotate(QUERY, jnp.asarray(positions)), wanted, rtol=1e-4, atol=1e-5)


def test_an_odd_size_is_refused():
    with pytest.raises(ValueError, match="size must be even to be rotated, not 3"):
        rotate(jnp.ones((2, 1, 3)), jnp.arange(2))
