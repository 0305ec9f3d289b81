import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.tasks.class_episodes import ClassCounts, class_episode, draw_classes, draw_distinct, require_episode_shape


def test_distinct_draws_are_uniform_over_ordered_pairs():
    n = 20_000
    drawn = jax.vmap(lambda key: draw_distinct(key, 4, 2))(jr.split(jr.key(0), n))
    pairs, occurrences = np.unique(np.asarray(drawn), axis=0, return_counts=True)
    assert pairs.tolist() == [list(pair) for pair in itertools.permutations(range(4), 2)]
    assert np.abs(occurrences / n - 1 / 12).max() < 5 * (1 / 12 / n) ** 0.5


def test_distinct_draws_follow_a_traced_number():
    drawn = jax.vmap(lambda key, n: draw_distinct(key, n, 3))(jr.split(jr.key(0), 400), jnp.tile(jnp.array([3, 7]), 200))
    assert all(len(set(row)) == 3 for row in drawn.tolist())
    assert set(np.ravel(drawn[0::2]).tolist()) == set(range(3)) and set(np.ravel(drawn[1::2]).tolist()) == set(range(7))


def test_splits_own_consecutive_ids():
    counts = ClassCounts(5, 2, 3)
    assert [counts.ids(split, 2) for split in ("train", "valid", "test")] == [range(5), range(5, 7), range(7, 10)]
    with pytest.raises(ValueError, match="way must be at most the 2 classes of the valid split, not 3"):
        counts.ids("valid", 3)
    with pytest.raises(ValueError, match="split must be one of"):
        counts.ids("out-of-range", 2)


def test_unshuffled_classes_keep_their_label_and_all_occur():
    ids = range(7, 20)
    drawn = np.asarray(jax.vmap(lambda key: draw_classes(key, ids, 4, shuffle_labels=False))(jr.split(jr.key(0), 500)))
    assert (drawn % 4 == np.arange(4)).all()
    assert set(drawn.ravel().tolist()) == set(ids)


def test_shuffled_classes_take_every_label():
    drawn = np.asarray(jax.vmap(lambda key: draw_classes(key, range(7, 11), 4, shuffle_labels=True))(jr.split(jr.key(0), 300)))
    assert all(set(column.tolist()) == set(range(7, 11)) for column in drawn.T)


def test_rows_stand_class_by_class_under_the_position_of_their_class():
    classes = jnp.array([7, 3, 5])
    inputs = jnp.broadcast_to(classes[:, None, None], (3, 5, 2)).astype(jnp.float32)
    task = class_episode(inputs, classes, shot=2)
    assert task.support_y.tolist() == [0, 0, 1, 1, 2, 2] and task.query_x.shape == (9, 2)
    for x, y in ((task.support_x, task.support_y), (task.query_x, task.query_y)):
        assert x[:, 0].tolist() == classes[y].tolist()


@pytest.mark.parametrize(("shape", "name"), [((1, 1, 1), "way"), ((5, 0, 1), "shot"), ((5, 1, 0), "query")])
def test_impossible_episodes_are_refused_by_name(shape, name):
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        require_episode_shape(*shape)
