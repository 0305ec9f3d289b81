"""Learners that read labelled images: what they may know when they answer, and that labels are what they answer with."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.fewshot import snail_fewshot
from quickstudy.algorithms.incontext import mann
from quickstudy.core import count_floats, lifetime
from quickstudy.tasks import Glyphs, Sinusoid, Stream
from quickstudy.tasks.episode import EpisodeView
from quickstudy.tasks.streams import StreamTask

KEY = jr.key(0)
STREAMS = Stream(Glyphs(way=3, shot=1, query=2), shuffled=True)
EPISODES = Glyphs(way=3, shot=2, query=2)
X, Y = jr.uniform(KEY, (8, 28, 28)), jnp.array([0, 1, 2, 0, 1, 2, 1, 0])


def reader(controller="with memory"):
    return mann.learner(mann.Config(controller, width=6, slots=8, size=4), STREAMS, KEY)


@eqx.filter_jit
def unrolled(who, x, y):
    return who.unroll(x, y)


@pytest.mark.parametrize("controller", ["with memory", "alone"])
def test_an_answer_depends_on_labels_before_and_not_on_its_own(controller):
    who = reader(controller)
    told, retold = unrolled(who, X, Y), unrolled(who, X, Y.at[4].set(0))
    np.testing.assert_array_equal(told[:5], retold[:5])
    assert (np.abs(told[5:] - retold[5:]).max(axis=1) > 0).all()
    # Nor on images to come.
    np.testing.assert_array_equal(unrolled(who, X.at[4:].add(jr.uniform(KEY, (28, 28))[None]), Y)[:4], told[:4])


@pytest.mark.parametrize("controller", ["with memory", "alone"])
def test_a_life_read_at_once_is_the_life_lived(controller):
    who, task = reader(controller), StreamTask(X, Y, None)
    lived = eqx.filter_jit(lambda who: lifetime(who, task, KEY, steps=8, record=lambda tick: tick.response)[1])(who)
    np.testing.assert_allclose(lived, unrolled(who, X, Y), rtol=1e-4, atol=1e-5)


def test_a_memory_is_born_with_each_life():
    """After a life has been lived, another begins as if there had been none."""
    who = reader()
    life = eqx.filter_jit(lambda who, task: lifetime(who, task, KEY, steps=8)[0].fast)(who, StreamTask(X, Y, None))
    assert jnp.abs(life.memory.slots.contents).max() > 0
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(eqx.filter(who.begin(X[0], KEY), eqx.is_array)))


@pytest.mark.parametrize(
    ("big", "small"),
    [
        (reader(), reader("alone")),
        tuple(snail_fewshot.learner(snail_fewshot.Config(layer), EPISODES, KEY) for layer in ("attention and convolutions", "lstm")),
    ],
    ids=["mann", "snail-fewshot"],
)
def test_the_lstm_has_as_many_weights(big, small):
    assert count_floats(small) == pytest.approx(count_floats(big), rel=0.05)


def test_showings_are_counted_and_the_nearest_image_s_label_is_right_where_images_repeat():
    labels = np.array([[2, 0, 2, 1, 0, 2]])
    assert mann.showing(labels).tolist() == [[1, 1, 2, 1, 2, 3]]
    images = np.asarray(X)[labels]
    assert mann.nearest(images, labels).tolist() == [[False, False, True, False, True, True]]


# --- SNAIL --------------------------------------------------------------------------------------------------------------------------


def example_reader(layers="attention and convolutions"):
    return snail_fewshot.learner(snail_fewshot.Config(layers, filters=4), EPISODES, KEY)


@eqx.filter_jit
def answers(who, x, y, queries, key):
    view = EpisodeView(x, y, queries, 3)
    return who.respond(who.begin(view, key), view, key)


@pytest.mark.parametrize("layers", snail_fewshot.ARMS.values())
def test_no_query_sees_another_and_every_example_is_seen_with_its_label(layers):
    who, examples, queries = example_reader(layers), X[:6], X[6:]
    told = answers(who, examples, Y[:6], queries, KEY)
    np.testing.assert_allclose(answers(who, examples, Y[:6], queries[::-1], KEY), told[::-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(answers(who, examples, Y[:6], queries.at[0].multiply(0.5), KEY)[1], told[1], rtol=1e-5, atol=1e-6)
    for place in range(6):
        retold = answers(who, examples, Y[:6].at[place].set((Y[place] + 1) % 3), queries, KEY)
        assert np.abs(retold - told).max() > 1e-6, place


def test_reading_one_by_one_is_the_sequence_at_once():
    who = example_reader()
    tokens = jr.normal(KEY, (7, who.memory.links[0].attention.reading.shape[2]))
    one_by_one = eqx.filter_jit(lambda m, xs: jax.lax.scan(lambda past, x: m.step(past, x), m.start(), xs)[1])(who.memory, tokens)
    at_once = eqx.filter_jit(lambda m, xs: m.unroll(m.start(), xs))
    np.testing.assert_allclose(one_by_one, at_once(who.memory, tokens), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(at_once(who.memory, tokens.at[4:].multiply(-2.0))[:4], at_once(who.memory, tokens)[:4])


def test_the_order_of_examples_is_drawn_anew():
    """Convolutions know places: the same support in another order is read otherwise."""
    who = example_reader("convolutions")
    told = [answers(who, X[:6], Y[:6], X[6:], jr.key(seed)) for seed in range(2)]
    assert np.abs(told[0] - told[1]).max() > 1e-6


def test_regression_is_refused():
    with pytest.raises(TypeError, match="snail-fewshot reads labelled examples, not floating-point targets"):
        snail_fewshot.learner(snail_fewshot.Config(), Sinusoid(), KEY)
    with pytest.raises(TypeError, match="mann reads streams of labelled examples"):
        mann.learner(mann.Config(), Stream(Sinusoid()), KEY)
