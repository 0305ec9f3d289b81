"""A stream is its episode, read in order, again and again."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import AbstractLearner, lifetime
from quickstudy.tasks import BernoulliBandit, Sinusoid, Stream
from quickstudy.tasks.streams import StreamTask

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


def test_only_episodes_can_be_read_as_streams():
    with pytest.raises(TypeError, match="episodes must draw EpisodeTasks, not BernoulliArms"):
        Stream(BernoulliBandit()).sample(KEY, "train")
