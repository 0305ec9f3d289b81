"""Harlow's pairs: the object counts, not the side."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End
from quickstudy.tasks import Harlow, HarlowPair

KEY = jr.key(0)
PAIR = HarlowPair(jnp.array([[1.0, 2.0], [-3.0, 0.5]]))


def test_only_the_first_object_is_right_on_either_side():
    for side in (0, 1):
        for response in (0, 1):
            turn = PAIR.step(jnp.int32(side), jnp.int32(response), KEY)
            assert float(turn.score) == float(turn.view.reward) == (side == response)
            assert int(turn.end) == End.TERMINATED
            right = turn.view.observation[turn.world]
            assert right.tolist() == [1.0, 2.0], "what is shown next fits the side"


def test_sides_are_drawn_anew():
    n = 4_000
    born, _ = jax.jit(jax.vmap(PAIR.reset))(jr.split(KEY, n))
    after = jax.jit(jax.vmap(lambda key: PAIR.step(jnp.int32(0), jnp.int32(0), key).world))(jr.split(KEY, n))
    for sides in (born, after):
        assert abs(float(sides.mean()) - 0.5) < 4 * 0.5 / np.sqrt(n)


def test_out_of_range_objects_are_three_times_as_far_apart():
    draw = lambda split: jax.jit(jax.vmap(lambda key: Harlow().sample(key, split).objects))(jr.split(KEY, 50))
    np.testing.assert_allclose(draw("out-of-range"), 3 * draw("test"), rtol=1e-6)


def test_a_pair_can_be_looked_at():
    assert PAIR.text(jnp.int32(1)).splitlines() == ["  left  -3.00  0.50", "* right  1.00  2.00"]
    picture = PAIR.image(jnp.int32(1))
    assert picture.shape == (32, 32, 3)
    assert picture[24, 24, 0] > picture[24, 24, 2], "the right object is orange"


def test_objects_need_features():
    with pytest.raises(ValueError, match="features must be at least 1, not 0"):
        Harlow(features=0)
