"""A store keeps the newest items, and draws them as often as it says."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.rl.dqn import importance_weights
from quickstudy.algorithms.rl.replay import add, draw_by_priority, draw_evenly, empty, reprioritise

KEY = jr.key(0)


def filled(n, capacity):
    return add(empty(jnp.zeros(()), capacity), jnp.arange(n, dtype=jnp.float32))


def frequencies(drawn, capacity):
    return np.bincount(np.asarray(drawn.places), minlength=capacity) / len(drawn.places)


def test_the_newest_items_overwrite_the_oldest():
    put, replay = eqx.filter_jit(add), empty(jnp.zeros(()), 7)
    expected = []
    for n in range(6):
        items = jnp.arange(3.0) + 10 * n
        replay, expected = put(replay, items), (expected + items.tolist())[-7:]
        assert int(replay.size) == len(expected)
        assert sorted(replay.items.tolist()[: len(expected)]) == sorted(expected)


@pytest.mark.parametrize("draw", [draw_evenly, draw_by_priority])
def test_items_are_drawn_as_often_as_their_probability_says(draw):
    replay = reprioritise(filled(4, 6), jnp.arange(4), jnp.array([1.0, 2.0, 3.0, 4.0]))
    drawn = eqx.filter_jit(draw)(replay, 20_000, KEY)
    shares = np.full(4, 0.25) if draw is draw_evenly else np.array([0.1, 0.2, 0.3, 0.4])
    # 20,000 draws: the deviation of a share is below 0.0035. Empty places are never drawn.
    np.testing.assert_allclose(frequencies(drawn, 6), [*shares, 0, 0], atol=0.015)
    np.testing.assert_allclose(drawn.probabilities, shares[np.asarray(drawn.places)], rtol=1e-5)
    np.testing.assert_array_equal(drawn.items, drawn.places.astype(jnp.float32))


def test_no_empty_place_is_drawn_from_a_large_store():
    # 3,000 priorities that no float sums exactly, and 47,000 empty places after them.
    replay = reprioritise(filled(3_000, 50_000), jnp.arange(3_000), 0.1 + jr.uniform(KEY, (3_000,)))
    places = eqx.filter_jit(draw_by_priority)(replay, 100_000, KEY).places
    assert int(places.max()) == 2_999


def test_new_items_get_the_largest_priority():
    replay = reprioritise(filled(2, 4), jnp.array([0, 1]), jnp.array([5.0, 0.5]))
    assert add(replay, jnp.zeros(1)).priorities.tolist() == [5.0, 0.5, 5.0, 0.0]


def test_importance_weights_undo_the_priorities():
    values = jr.uniform(KEY, (50,))
    replay = reprioritise(add(empty(jnp.zeros(()), 64), values), jnp.arange(50), 0.1 + values)

    def estimate(key):
        drawn = draw_by_priority(replay, 5_000, key)
        weights = importance_weights(drawn, replay.size, jnp.ones(()))
        return jnp.max(weights), jnp.sum(weights * drawn.items) / jnp.sum(weights), jnp.mean(drawn.items)

    largest, weighted, biased = eqx.filter_jit(estimate)(KEY)
    assert float(largest) == 1.0
    assert float(weighted) == pytest.approx(float(values.mean()), abs=0.02)
    # Large values come more often: their mean is 0.38 / 0.6, not 0.5.
    assert float(biased - values.mean()) > 0.1


def test_without_beta_importance_does_not_matter():
    drawn = draw_by_priority(reprioritise(filled(3, 3), jnp.arange(3), jnp.array([1.0, 2.0, 9.0])), 8, KEY)
    np.testing.assert_array_equal(importance_weights(drawn, jnp.int32(3), jnp.zeros(())), np.ones(8))


def test_impossible_stores_are_refused():
    with pytest.raises(ValueError, match="capacity must be at least 1, not 0"):
        empty(jnp.zeros(()), 0)
    with pytest.raises(ValueError, match="items must be at most the 2 that there is room for, not 3"):
        filled(3, 2)
