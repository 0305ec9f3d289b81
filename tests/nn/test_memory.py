"""A memory read all at once is the memory read tick by tick."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.nn.memory import GRU, NoMemory

KEY = jr.key(0)
MEMORIES = {"none": NoMemory(), "gru": GRU(3, 8, key=KEY)}


@pytest.mark.parametrize("name", MEMORIES)
def test_unroll_is_step_after_step(name):
    memory, xs = MEMORIES[name], jr.normal(KEY, (7, 3))
    state, features = memory.start(), []
    for x in xs:
        state, out = memory.step(state, x)
        features.append(out)
    np.testing.assert_allclose(eqx.filter_jit(memory.unroll)(memory.start(), xs), jnp.stack(features), rtol=1e-5, atol=1e-6)


def test_the_gru_is_equinox_s_with_the_same_weights():
    ours = MEMORIES["gru"]
    theirs = eqx.nn.GRUCell(3, 8, key=KEY)
    where = lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias, cell.bias_n)
    theirs = eqx.tree_at(where, theirs, (ours.reading.T, ours.recurrence.T, ours.bias, ours.candidate_bias))
    x, h = jr.normal(KEY, (3,)), jr.normal(jr.key(1), (8,))
    np.testing.assert_allclose(ours.step(h, x)[1], theirs(x, h), rtol=1e-5, atol=1e-6)
