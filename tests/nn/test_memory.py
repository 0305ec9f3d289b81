"""A memory read all at once is the memory read tick by tick."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.metarl import snail, trmrl
from quickstudy.nn.attention import CausalAttention
from quickstudy.nn.external_memory import LeastUsedMemory
from quickstudy.nn.memory import GRU, LSTM, Chain, NoMemory
from quickstudy.nn.recurrences import DeltaRule, LinearAttention, SelectiveStateSpace
from quickstudy.nn.transformer import Architecture, Transformer

KEY = jr.key(0)
MEMORIES = {
    "none": NoMemory(),
    "gru": GRU(3, 8, key=KEY),
    "lstm": LSTM(eqx.nn.LSTMCell(3, 8, key=KEY)),
    "external": LeastUsedMemory(LSTM(eqx.nn.LSTMCell(3 + 8, 5, key=KEY)), 5, slots=6, size=4, heads=2, key=KEY),
    "attention": CausalAttention(3, heads=2, size=4, reach=5, key=KEY),
    "snail": snail.memory(3, snail.Config(filters=2, ticks=6), KEY)[0],
    "trmrl": Chain((trmrl.Layer(3, 1, 4, key=KEY), trmrl.Layer(3, 1, 4, key=jr.key(1)))),
    "transformer": Transformer(Architecture(width=3, layers=1, heads=1), reach=4, positions="learned", key=KEY),
    "linear attention": LinearAttention(3, heads=2, size=4, key=KEY),
    "delta rule": DeltaRule(3, heads=2, size=4, key=KEY),
    "state space": SelectiveStateSpace(3, states=4, key=KEY),
}


@eqx.filter_jit
def unrolled(memory, xs):
    return memory.unroll(memory.start(), xs)


@pytest.mark.parametrize("name", MEMORIES)
def test_unroll_is_step_after_step(name):
    memory, xs = MEMORIES[name], jr.normal(KEY, (7, 3))
    state, features, step = memory.start(), [], eqx.filter_jit(memory.step)
    for x in xs:
        state, out = step(state, x)
        features.append(out)
    np.testing.assert_allclose(unrolled(memory, xs), jnp.stack(features), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MEMORIES)
def test_a_sequence_read_in_two_parts_is_the_whole_one(name):
    memory, xs = MEMORIES[name], jr.normal(KEY, (9, 3))

    @eqx.filter_jit
    def second(memory, xs):
        middle, _ = jax.lax.scan(lambda past, x: memory.step(past, x), memory.start(), xs[:4])
        return memory.unroll(middle, xs[4:])

    np.testing.assert_allclose(second(memory, xs), unrolled(memory, xs)[4:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MEMORIES)
def test_the_future_cannot_change_the_past(name):
    memory, xs = MEMORIES[name], jr.normal(KEY, (9, 3))
    changed = unrolled(memory, xs.at[5:].multiply(-2.0))  # norms would take a shift away
    np.testing.assert_array_equal(changed[:5], unrolled(memory, xs)[:5])


def test_attention_forgets_what_is_out_of_reach_and_nothing_before():
    attention, xs = MEMORIES["attention"], jr.normal(KEY, (9, 3))
    read = lambda xs: np.asarray(attention.unroll(attention.start(), xs))
    changed = np.abs(read(xs.at[1].add(1.0)) - read(xs)).max(axis=1) > 0
    assert changed.tolist() == [False] + 5 * [True] + 3 * [False]  # tick 1 is within reach of ticks 1 to 5


def test_attention_follows_its_definition():
    attention, xs = MEMORIES["attention"], np.asarray(jr.normal(KEY, (6, 3)))
    attention = eqx.tree_at(lambda a: a.bias, attention, jr.normal(jr.key(1), (2, 5)))
    query, key, value = np.einsum("tw,phws->pths", xs, attention.reading)
    for t in range(6):
        read = np.zeros(3)
        for head in range(2):
            past = range(max(0, t - 4), t + 1)
            scores = np.array([query[t, head] @ key[j, head] / 2 + attention.bias[head, t - j] for j in past])
            weights = np.exp(scores) / np.exp(scores).sum()
            read += sum(w * value[j, head] for w, j in zip(weights, past, strict=True)) @ np.asarray(attention.mixing[head])
        np.testing.assert_allclose(attention.unroll(attention.start(), jnp.asarray(xs))[t], read, rtol=1e-4, atol=1e-5)


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
