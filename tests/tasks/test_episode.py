"""Episodes are judged by what they are: labels by cross-entropy and accuracy, numbers by squared error."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.tasks import BernoulliBandit, EpisodeTask, Sinusoid, Stream, prediction_loss, prediction_score
from quickstudy.tasks.episode import episode_shapes, is_classification

KEY = jr.key(0)


def test_losses_have_their_known_values():
    labels = jnp.array([0, 2], jnp.int32)
    assert float(prediction_loss(jnp.zeros((2, 4)), labels)) == pytest.approx(np.log(4))
    assert float(prediction_loss(100 * jax.nn.one_hot(labels, 4), labels)) == pytest.approx(0, abs=1e-6)
    assert float(prediction_loss(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]))) == pytest.approx(2.5)


def test_scores_are_accuracy_and_minus_squared_error():
    logits = jnp.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, -1.0]])
    assert float(prediction_score(logits, jnp.array([0, 1, 1, 0], jnp.int32))) == 0.75
    assert float(prediction_score(jnp.array([[1.0], [3.0]]), jnp.array([[0.0], [1.0]]))) == -2.5


def test_integers_are_labels_and_floats_are_not():
    assert is_classification(jnp.zeros(2, jnp.int32))
    assert not is_classification(jnp.zeros(2))


def test_the_view_hides_the_answers_and_the_latent_truth():
    task = Sinusoid(shot=2, query=3).sample(KEY, "train")
    other = EpisodeTask(task.support_x, task.support_y, task.query_x, task.query_y + 1, None, outputs=1)
    shown, hidden = jax.tree.leaves(task.reset(KEY)[1]), jax.tree.leaves(other.reset(KEY)[1])
    assert len(shown) == len(hidden) == 3
    for a, b in zip(shown, hidden, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("tasks", [BernoulliBandit(), Stream(Sinusoid())], ids=["bandit", "stream"])
def test_networks_for_episodes_need_episodes(tasks):
    with pytest.raises(TypeError, match="tasks must be episodes"):
        episode_shapes(tasks)
