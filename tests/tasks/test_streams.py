"""A stream is its episode, read in order, again and again."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import AbstractLearner, lifetime
from quickstudy.tasks import BernoulliBandit, Glyphs, Sinusoid, Stream
from quickstudy.tasks.streams import StreamTask, labelled_stream_shapes

KEY = jr.key(0)


class Zero(AbstractLearner):
    """Always predicts zero."""

    outputs: int

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return jnp.zeros(self.outputs)

    def observe(self, fast, view, response, feedback, key):
        return None


def test_support_comes_first_then_the_queries_then_all_again():
    episodes = Sinusoid(shot=2, query=3)
    episode, stream = (tasks.sample(KEY, "test") for tasks in (episodes, Stream(episodes)))
    record = lambda tick: (tick.view, tick.feedback, tick.score)
    _, (views, truths, scores) = lifetime(Zero(1), stream, KEY, steps=8, record=record)
    x, y = (np.concatenate(pair) for pair in ((episode.support_x, episode.query_x), (episode.support_y, episode.query_y)))
    np.testing.assert_array_equal(views, np.concatenate([x, x[:3]]))
    np.testing.assert_array_equal(truths, np.concatenate([y, y[:3]]))
    np.testing.assert_allclose(scores, -np.square(truths)[:, 0], rtol=1e-6)


def test_labels_are_scored_by_being_right():
    stream = StreamTask(jnp.zeros((3, 1)), jnp.array([0, 1, 0], jnp.int32), None)
    assert lifetime(Zero(2), stream, KEY, steps=3)[1].tolist() == [1.0, 0.0, 1.0]


def test_a_shuffled_stream_is_its_episode_in_an_order_of_its_own():
    episodes = Sinusoid(shot=20, query=20)
    draw = jax.jit(lambda key: (Stream(episodes).sample(key, "test"), Stream(episodes, shuffled=True).sample(key, "test")))
    orders = []
    for seed in range(2):
        plain, shuffled = draw(jr.key(seed))
        order = np.argsort(plain.x[:, 0])[np.argsort(np.argsort(shuffled.x[:, 0]))]
        np.testing.assert_array_equal(plain.x[order], shuffled.x)
        np.testing.assert_array_equal(plain.y[order], shuffled.y)  # every input keeps its target
        orders.append(order.tolist())
    assert orders[0] != orders[1] != sorted(orders[1])


def test_who_reads_labels_refuses_streams_without():
    assert labelled_stream_shapes(Stream(Glyphs(way=3, shot=1, query=1)), "it").outputs == 3
    with pytest.raises(TypeError, match=r"it reads streams of labelled examples; wrap classification episodes in tasks\.Stream"):
        labelled_stream_shapes(Stream(Sinusoid()), "it")
    with pytest.raises(TypeError, match="it reads streams of labelled examples"):
        labelled_stream_shapes(Glyphs(), "it")


def test_only_episodes_can_be_read_as_streams():
    with pytest.raises(TypeError, match="episodes must draw EpisodeTasks, not BernoulliArms"):
        Stream(BernoulliBandit()).sample(KEY, "train")
