"""A memory read all at once is the memory read tick by tick."""

import equinox as eqx
import jax
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


def test_the_gru_s_derivative_is_that_of_its_steps():
    gru, xs, start = MEMORIES["gru"], jr.normal(KEY, (7, 3)), jr.normal(jr.key(2), (8,))
    weight = jr.normal(jr.key(3), (7, 8))

    def by_steps(arguments):
        gru, start, xs = arguments
        features = []
        for x in xs:
            start, out = gru.step(start, x)
            features.append(out)
        return jnp.sum(weight * jnp.stack(features))

    at_once = lambda arguments: jnp.sum(weight * arguments[0].unroll(*arguments[1:]))
    found, wanted = (eqx.filter_jit(eqx.filter_grad(f))((gru, start, xs)) for f in (at_once, by_steps))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)
