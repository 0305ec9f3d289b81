"""The generalist's network: what it may see, and that reading token by token is reading at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from quickstudy.generalist.network import Generalist, Seen
from quickstudy.generalist.vocabulary import POSITION_BINS
from quickstudy.nn.attention import attend
from quickstudy.nn.transformer import Architecture, Block

KEY, TOKENS, TICKS, SIZES = jr.key(0), 7, 12, Architecture(8, layers=2, heads=2, gated=True)
NETWORK = Generalist(TOKENS, SIZES, reach=TICKS, channels=4, key=KEY)


def some_tokens(starts=(0,)):
    """Random tokens, every third of them a patch of random pixels at a random place."""
    draw = np.random.default_rng(0)
    ids = np.where(np.arange(TICKS) % 3 == 1, TOKENS + np.arange(TICKS), draw.integers(TOKENS, size=TICKS)).astype(np.int32)
    first = draw.integers(POSITION_BINS - 20, size=(TICKS, 2))
    interval = np.stack([first, first + draw.integers(20, size=(TICKS, 2))], axis=2).astype(np.uint8)
    pixels = draw.integers(256, size=(TICKS, 16, 16, 3)).astype(np.uint8)
    places, fresh = draw.integers(9, size=TICKS).astype(np.int32), np.isin(np.arange(TICKS), starts)
    return Seen(*(jnp.asarray(part) for part in (ids, places, pixels, interval, fresh)))


read_at_once = eqx.filter_jit(lambda made, seen, key=None, drop=0.0: made.unroll(seen, patches=TICKS, key=key, drop=drop))


def test_token_by_token_is_all_at_once_also_where_a_sequence_begins():
    seen = some_tokens(starts=(0, 5))
    step = lambda memory, one: NETWORK.read(memory, one)
    _, features = jax.jit(lambda: jax.lax.scan(step, NETWORK.body.start(), seen))()
    np.testing.assert_allclose(features, read_at_once(NETWORK, seen), rtol=1e-4, atol=1e-5)


def test_no_token_and_no_patch_can_change_what_came_before():
    seen = some_tokens()
    changed = seen._replace(id=seen.id.at[8:].set(0), pixels=seen.pixels.at[7].set(0))
    before, after = read_at_once(NETWORK, seen), read_at_once(NETWORK, changed)
    np.testing.assert_array_equal(before[:7], after[:7])
    assert np.abs(before[7] - after[7]).max() > 1e-3


def test_a_sequence_does_not_see_the_one_before_it():
    seen = some_tokens(starts=(0, 5))
    changed = seen._replace(id=seen.id.at[:5].set(0))
    np.testing.assert_array_equal(read_at_once(NETWORK, seen)[5:], read_at_once(NETWORK, changed)[5:])


def test_only_ordered_numbers_begin_alike_to_their_neighbours():
    sizes, bins = Architecture(64, layers=1, heads=2), range(20, 1044)
    plain, ordered = (Generalist(1050, sizes, reach=4, channels=4, ordered=which, key=KEY).embedding for which in (range(0), bins))
    others = np.r_[:20, 1044:1050]
    np.testing.assert_array_equal(plain[others], ordered[others])
    likeness = lambda rows, apart: np.diag(rows[20:1044] @ rows[20:1044].T, apart)
    np.testing.assert_array_less(0.6, likeness(ordered, 1))
    assert np.abs(likeness(ordered, 512)).mean() < 0.3
    assert np.abs(likeness(plain, 1)).mean() < 0.3


def test_the_second_half_of_a_block_works_on_what_the_first_has_added():
    block, xs = Block(SIZES, key=KEY), jr.normal(KEY, (4, 8))
    read = attend(*block.project(xs), jnp.tril(jnp.ones((4, 4), bool)))
    added = xs + jnp.einsum("ths,hsw->tw", read, block.mixing)
    np.testing.assert_allclose(block.finish(xs, read), block.finish(added, jnp.zeros_like(read)), rtol=1e-5, atol=1e-6)


def test_parts_of_blocks_are_left_out_in_training_only_and_change_nothing_on_average():
    # Patches are placed exactly, so that nothing else is random.
    seen = some_tokens()._replace(interval=jnp.zeros((TICKS, 2, 2), jnp.uint8))
    xs = NETWORK.embed(seen, patches=TICKS)
    through = eqx.filter_jit(lambda kept: NETWORK.body.unroll(None, xs, jnp.cumsum(seen.fresh), kept))
    np.testing.assert_allclose(through(jnp.zeros((2, 2))), jax.vmap(NETWORK.body.last)(xs), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(through(jnp.ones((2, 2))), read_at_once(NETWORK, seen), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(read_at_once(NETWORK, seen, KEY, 0.0), read_at_once(NETWORK, seen), rtol=1e-5, atol=1e-6)
    several = [read_at_once(NETWORK, seen, jr.fold_in(KEY, i), 0.5) for i in range(4)]
    assert np.std(several, axis=0).max() > 0.01


def test_a_patch_lies_at_the_mean_of_its_interval_and_in_training_anywhere_in_it():
    interval = jnp.array([[[10, 13], [100, 102]]], jnp.uint8)
    place = lambda i, j: tuple(np.round(NETWORK.rows[i] + NETWORK.columns[j], 5).tolist())
    there = lambda key: tuple(np.round(NETWORK.whereabouts(interval, key)[0], 5).tolist())
    assert there(None) == place(12, 101)
    drawn = {there(jr.key(i)) for i in range(60)}
    assert drawn <= {place(i, j) for i in range(10, 14) for j in range(100, 103)}
    assert len(drawn) > 8


def test_the_embedding_is_the_way_in_and_the_way_out():
    changed = eqx.tree_at(lambda made: made.embedding, NETWORK, NETWORK.embedding.at[3].multiply(-1.0))
    features = jnp.ones(8)
    assert (np.asarray(NETWORK.logits(features) != changed.logits(features))).tolist() == [i == 3 for i in range(TOKENS)]
    seen = some_tokens()
    differ = np.abs(NETWORK.embed(seen, patches=TICKS) - changed.embed(seen, patches=TICKS)).max(axis=1) > 0
    assert differ.tolist() == (seen.id == 3).tolist()
