"""An external memory: by hand in tiny cases, what was written is found again, and what a life wrote stays in it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.nn.external_memory import Asked, LeastUsedMemory, Slots, access, address_by_content, cosine_similarity, least_used
from quickstudy.nn.memory import LSTM, sized_lstm

KEY = jr.key(0)
SHARP = 200.0  # so sharp that a read is of one slot


def empty(slots, size, heads):
    return Slots(jnp.zeros((slots, size)), jnp.zeros((heads, slots)), jnp.zeros(slots))


def ask(key, gate, sharpness=SHARP):
    return Asked(jnp.array([key], float), jnp.array([gate], float), jnp.array([sharpness]))


def test_three_ticks_by_hand():
    """Two slots, one head that reads one slot: (1) write east; (2) write north, the other slot; (3) write more where was read."""
    after, read = access(empty(2, 2, 1), ask([1.0, 0.0], 0.0), decay=0.5)
    np.testing.assert_allclose(after.contents, [[1, 0], [0, 0]], atol=1e-5)
    np.testing.assert_allclose(after.usage, [2, 0], atol=1e-5)  # read and written, all of it in the first slot
    np.testing.assert_allclose(read, [[1, 0]], atol=1e-5)
    after, read = access(after, ask([0.0, 1.0], 0.0), decay=0.5)
    np.testing.assert_allclose(after.contents, [[1, 0], [0, 1]], atol=1e-5)
    np.testing.assert_allclose(after.usage, [1, 2], atol=1e-5)  # half of two; read and written
    np.testing.assert_allclose(read, [[0, 1]], atol=1e-5)
    # The first slot is now used least: it is erased, though all is written where was read last, in the second.
    after, read = access(after, ask([0.0, 1.0], 1.0), decay=0.5)
    np.testing.assert_allclose(after.contents, [[0, 0], [0, 2]], atol=1e-5)
    np.testing.assert_allclose(after.usage, [0.5, 3], atol=1e-5)
    np.testing.assert_allclose(read, [[0, 2]], atol=1e-5)


def test_half_a_gate_writes_half_here_and_half_there():
    slots = Slots(jnp.zeros((3, 1)), jnp.array([[0.0, 1.0, 0.0]]), jnp.array([5.0, 4.0, 0.0]))
    after, _ = access(slots, ask([1.0], 0.25), decay=1.0)
    np.testing.assert_allclose(after.contents[:, 0], [0, 0.25, 0.75], atol=1e-6)


def test_the_least_used_slots_are_those_of_a_sort():
    usage = jr.uniform(KEY, (9,))
    order = np.argsort(usage)
    np.testing.assert_array_equal(least_used(usage, 4).argmax(axis=1), order[:4])
    assert least_used(jnp.zeros(4), 2).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]  # equally used: distinct ones all the same


@pytest.mark.parametrize("which", range(6))
def test_what_was_written_is_read_back_by_what_it_is_like(which):
    """Six directions into eight slots, none over another; a blurred and longer one of them then finds its own."""
    directions = jnp.eye(6)
    slots = empty(8, 6, 1)
    for direction in directions:
        slots, _ = access(slots, ask(direction, 0.0), decay=0.99)
    blurred = 3 * directions[which] + 0.3
    weights = address_by_content(blurred[None], slots.contents, jnp.array([SHARP]))
    np.testing.assert_allclose(weights @ slots.contents, directions[which][None], atol=1e-4)


def test_similarity_is_the_cosine_and_an_empty_slot_has_a_gradient():
    keys, contents = jr.normal(KEY, (2, 5)), jr.normal(jr.key(1), (4, 5))
    by_hand = [[k @ c / (np.linalg.norm(k) * np.linalg.norm(c)) for c in np.asarray(contents)] for k in np.asarray(keys)]
    np.testing.assert_allclose(cosine_similarity(keys, contents), by_hand, rtol=1e-4, atol=1e-5)
    slope = jax.grad(lambda c: jnp.sum(cosine_similarity(keys, c) ** 2))(contents.at[0].set(0.0))
    assert jnp.all(jnp.isfinite(slope))


def memory():
    return LeastUsedMemory(LSTM(eqx.nn.LSTMCell(3 + 8, 5, key=KEY)), 5, slots=6, size=4, heads=2, key=KEY)


def test_every_weight_has_a_gradient_through_time():
    xs = jr.normal(KEY, (6, 3))
    slope = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m.unroll(m.start(), xs)[-1])))(memory())
    for path, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(slope, eqx.is_array)):
        assert jnp.all(jnp.isfinite(leaf)), path
        assert jnp.any(leaf != 0), path


def test_what_was_seen_long_ago_reaches_the_last_features_through_the_memory_alone():
    """With a controller that forgets everything, a change of the first input still shows at the last tick."""
    forgetful = eqx.tree_at(lambda m: m.controller.cell.weight_hh, memory(), jnp.zeros((20, 5)))
    # Its forget gate is shut, and it does not see what was read: only the slots carry anything from tick to tick.
    bias = forgetful.controller.cell.bias.at[5:10].set(-100.0)
    forgetful = eqx.tree_at(lambda m: m.controller.cell.bias, forgetful, bias)
    forgetful = eqx.tree_at(lambda m: m.controller.cell.weight_ih, forgetful, forgetful.controller.cell.weight_ih.at[:, 3:].set(0.0))
    xs = jr.normal(KEY, (3, 3))
    last = eqx.filter_jit(lambda xs: forgetful.unroll(forgetful.start(), xs)[-1])
    moved = np.abs(last(xs.at[0].add(1.0)) - last(xs))
    assert moved[:5].max() < 1e-6 < moved[5:].max()


def test_lives_side_by_side_do_not_share_a_memory():
    xs = jr.normal(KEY, (2, 5, 3))
    both = eqx.filter_jit(lambda m, xs: jax.vmap(lambda x: m.unroll(m.start(), x))(xs))
    np.testing.assert_array_equal(both(memory(), xs)[0], both(memory(), xs.at[1].multiply(-2.0))[0])


def test_a_rival_is_of_about_the_size_that_is_asked_for():
    lstm, head = sized_lstm(7, 3, 5_000, key=KEY)
    leaves = jax.tree.leaves(eqx.filter((lstm, head), eqx.is_array))
    assert sum(leaf.size for leaf in leaves) == pytest.approx(5_000, rel=0.03)


def test_more_heads_than_slots_are_refused():
    with pytest.raises(ValueError, match="heads must be at most the 2 slots, not 3"):
        LeastUsedMemory(LSTM(eqx.nn.LSTMCell(3, 5, key=KEY)), 5, slots=2, size=4, heads=3, key=KEY)
