"""A transformer reads the same whether at once, tick by tick, packed with others, or beside others that stand elsewhere."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from quickstudy.nn.transformer import Architecture, Block, Transformer

REACH = 4
XS = jr.normal(jr.key(0), (9, 8))  # longer than twice the reach: the cache overflows, and its slots come round


@functools.cache
def model(positions="rotary", layers=2, reach=REACH, **options):
    """A small stack; learned positions grow to the size of the input, where they cannot hide."""
    made = Transformer(Architecture(width=8, layers=layers, heads=4, **options), reach=reach, positions=positions, key=jr.key(1))
    return made if made.table is None else eqx.tree_at(lambda m: m.table, made, 50 * made.table)


KINDS = {"rotary, two groups, gated": {"groups": 2, "gated": True}, "learned, one group": {"positions": "learned", "groups": 1}}

prefill = eqx.filter_jit(lambda made, *arguments: made.prefill(*arguments))
stepped = eqx.filter_jit(lambda made, memory, xs: jax.lax.scan(lambda past, x: made.step(past, x), memory, xs))
unroll = eqx.filter_jit(lambda made, *arguments: made.unroll(*arguments))


def alone(made, xs):
    """A sequence read at once, with no cache. Something follows it, so that one program serves all lengths."""
    return unroll(made, None, jnp.concatenate([xs, jnp.ones((len(XS) - len(xs), 8))]))[: len(xs)]


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def difference(found, wanted):
    return np.abs(found - wanted).max(axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cached_path_is_the_uncached_one_however_it_is_cut(kind):
    made, wanted = model(**KINDS[kind]), alone(model(**KINDS[kind]), XS)
    for ways in ((stepped, stepped, stepped), (stepped, prefill, stepped), (prefill, stepped, prefill)):
        memory, parts = made.start(), []
        for way, xs in zip(ways, jnp.split(XS, 3), strict=True):
            memory, features = way(made, memory, xs)
            parts.append(features)
        close(jnp.concatenate(parts), wanted)
    memory, features = prefill(made, None, XS[:3])
    close(features, wanted[:3])
    close(stepped(made, memory, XS[3:6])[1], wanted[3:6])


def test_a_tick_sees_the_last_ones_within_reach_and_nothing_else():
    made = model(layers=1)
    changed = difference(alone(made, XS.at[3].multiply(-1.0)), alone(made, XS)) > 1e-4
    assert changed.tolist() == [False] * 3 + [True] * REACH + [False] * 2


def test_the_future_cannot_change_the_past():
    # Turned round, not shifted: norms take shifts away.
    np.testing.assert_array_equal(alone(model(), XS.at[5:].multiply(-1.0))[:5], alone(model(), XS)[:5])


def test_batch_members_may_stand_at_different_positions():
    made, xs = model(), jr.normal(jr.key(2), (3, 9, 8))
    go_on = lambda memory, part: stepped(made, memory, part)[0]
    # Before the first tick, within reach, and past it.
    memories = [made.start(), go_on(made.start(), xs[1, :3]), go_on(go_on(made.start(), xs[2, :3]), xs[2, 3:6])]
    rest = jnp.stack([xs[i, 3 * i : 3 * i + 3] for i in range(3)])
    together = jax.tree.map(lambda *parts: jnp.stack(parts), *memories)
    after, features = eqx.filter_vmap(stepped, in_axes=(None, 0, 0))(made, together, rest)
    assert after.position.tolist() == [3, 6, 9]
    for i in range(3):
        close(features[i], alone(made, xs[i])[3 * i : 3 * i + 3])


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_are_as_if_alone(kind):
    made, segments = model(**KINDS[kind]), jnp.array([3, 3, 5, 5, 5, 5, 5, 3, 3])  # a number that comes back is another sequence
    memory, features = prefill(made, None, XS, segments)
    close(features, jnp.concatenate([alone(made, XS[:2]), alone(made, XS[2:7]), alone(made, XS[7:])]))
    # What follows goes on with the last sequence alone, though the cache still holds keys of the one before.
    more = jr.normal(jr.key(3), (3, 8))
    close(stepped(made, memory, more)[1], alone(made, jnp.concatenate([XS[7:], more]))[2:])


def test_the_first_packed_sequence_goes_on_with_the_memory():
    made, segments = model(), jnp.array([0, 0, 1, 1, 1, 1])
    memory, _ = stepped(made, made.start(), XS[:3])
    close(unroll(made, memory, XS[3:], segments), jnp.concatenate([alone(made, XS[:5])[3:], alone(made, XS[5:])]))


def test_positions_tell_orders_apart_and_none_does_not():
    # One block: a second one tells orders apart even without positions, as it reads what the first made of ticks that saw less.
    swapped = jnp.concatenate([XS[2::-1], XS[3:]])
    for positions, differs in (("rotary", True), ("learned", True), ("none", False)):
        made = model(positions, layers=1)
        change = difference(alone(made, swapped), alone(made, XS))[3]
        assert (change > 1e-4) == differs, (positions, change)


@pytest.mark.parametrize("gated", [False, True])
def test_a_block_follows_its_definition(gated):
    """In numpy, with as many groups as heads, and one tick that attends to itself: attention reads its value."""
    block = Block(Architecture(width=8, layers=1, heads=2, gated=gated), key=jr.key(1))
    x, part = np.asarray(XS[0]), lambda name: np.asarray(getattr(block, name))
    norm = lambda x: (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    gelu = lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    wanted = x + np.einsum("w,whs,hsv->v", norm(x), part("offering")[1], part("mixing"))
    units = np.einsum("w,gwh->gh", norm(wanted), part("expanding"))
    wanted = wanted + (gelu(units[0]) * units[1] if gated else gelu(units[0])) @ part("contracting")
    close(eqx.filter_jit(lambda block, x: block.finish(x, block.project(x)[2]))(block, XS[:1])[0], wanted)


def test_bfloat16_is_close_to_float32_and_keeps_float32_outside_its_products():
    exact, rough = model(), model(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(rough, eqx.is_array))} == {jnp.dtype(jnp.float32)}
    features, (memory, first) = alone(rough, XS), stepped(rough, rough.start(), XS[:3])
    assert (memory.keys[0].dtype, first.dtype, features.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    # Features have a variance of one, bfloat16 has eight bits: three hundredths are a few roundings.
    np.testing.assert_allclose(features, alone(exact, XS), atol=0.03)
    np.testing.assert_allclose(first, features[:3], atol=0.03)


def test_gradients_in_bfloat16_are_close_to_those_in_float32():
    gradient = eqx.filter_jit(eqx.filter_grad(lambda made: jnp.sum(made.unroll(None, XS)[:, 0] ** 2)))
    found, wanted = (ravel_pytree(gradient(model(layers=1, dtype=dtype)))[0] for dtype in (jnp.bfloat16, jnp.float32))
    assert jnp.linalg.norm(found - wanted) < 0.03 * jnp.linalg.norm(wanted)


REFUSED = {
    "width must be at least 1, not 0": lambda: Architecture(width=0, layers=1, heads=1),
    "groups must be at least 1, not 0": lambda: Architecture(width=8, layers=1, heads=2, groups=0),
    "width must be a multiple of heads, not 8 with heads=3": lambda: Architecture(width=8, layers=1, heads=3),
    "heads must be a multiple of groups, not 4 with groups=3": lambda: Architecture(width=8, layers=1, heads=4, groups=3),
    "dtype must be float32 or bfloat16, not float16": lambda: Architecture(width=8, layers=1, heads=4, dtype=jnp.float16),
    "reach must be at least 1, not 0": lambda: model(reach=0),
    "must be even for rotary positions, not 1": lambda: Transformer(Architecture(8, 1, 8), reach=1, key=jr.key(0)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_built_is_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_unknown_positions_are_refused():
    with pytest.raises(Exception, match="sinusoidal"):  # by us, or where types are checked at run time
        model("sinusoidal")
