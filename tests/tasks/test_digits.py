import jax
import jax.random as jr
import numpy as np
import pytest
from sklearn import datasets

from quickstudy.tasks import Digits, load_digits


def test_digits_are_scikit_learns_at_28_pixels():
    images, labels = load_digits()
    original = datasets.load_digits()
    assert images.shape == (1_797, 28, 28) and images.min() >= 0 and images.max() <= 1
    assert (labels == original.target).all()
    # Bilinear interpolation by 3.5 keeps the mean of the inside and of the whole nearly alike.
    np.testing.assert_allclose(images.mean(axis=(1, 2)), original.images.mean(axis=(1, 2)) / 16, atol=0.02)


def test_an_episode_shows_the_digits_that_it_names():
    images, labels = load_digits()
    tasks = Digits(way=4, shot=2, query=3)
    task = jax.jit(lambda key: tasks.sample(key, "test"))(jr.key(3))
    digits = np.asarray(task.latent["classes"])
    assert len(set(digits.tolist())) == 4
    shown = np.concatenate([np.asarray(task.support_x), np.asarray(task.query_x)])
    rows = [int(np.flatnonzero((images == image).all(axis=(1, 2)))[0]) for image in shown]
    assert len(set(rows)) == len(rows), "an example occurs twice"
    assert (labels[rows] == digits[np.concatenate([task.support_y, task.query_y])]).all()


@pytest.mark.parametrize("split", ["train", "valid", "out-of-range"])
def test_digits_are_never_trained_on(split):
    with pytest.raises(ValueError, match="never trained on"):
        Digits().sample(jr.key(0), split)


@pytest.mark.parametrize(("sizes", "name"), [({"way": 11}, "way"), ({"shot": 170}, "shot"), ({"query": 0}, "query")])
def test_sizes_beyond_the_data_are_refused(sizes, name):
    with pytest.raises(ValueError, match=name):
        Digits(**sizes)
