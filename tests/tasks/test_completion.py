"""Images as functions from place to ink."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.fewshot.image_completion import NearestPixel
from quickstudy.core import sample_tasks
from quickstudy.tasks import Completion, Sinusoid, from_arrays

KEY = jr.key(0)
PIXELS = np.random.default_rng(0).random((30, 6, 6)).astype(np.float32)
IMAGES = from_arrays(PIXELS, np.repeat(np.arange(10), 3), way=2, shot=1, query=2, splits=(0.6, 0.2, 0.2))


def places(x, size):
    """Rows and columns of places in [-1, 1]."""
    return np.rint((np.asarray(x) + 1) / 2 * (size - 1)).astype(int).T


def test_known_and_unknown_pixels_together_are_one_image_averaged_down():
    tasks = Completion(IMAGES, shot=4, fewest=4, size=3)
    task = tasks.sample(KEY, "test")
    image = np.full((3, 3), np.nan)
    for x, y in ((task.support_x, task.support_y), (task.query_x, task.query_y)):
        image[tuple(places(x, 3))] = np.asarray(y)[:, 0]
    np.testing.assert_allclose(image, task.latent["image"], rtol=1e-6)
    averaged = PIXELS.reshape(30, 3, 2, 3, 2).mean(axis=(2, 4))
    assert np.abs(averaged - image[None]).max(axis=(1, 2)).min() < 1e-6


def test_few_pixels_are_known_as_often_as_many():
    tasks = sample_tasks(Completion(IMAGES, shot=32, fewest=2, size=6), KEY, "train", 400)
    known = np.sum(~np.isnan(np.asarray(tasks.support_y[..., 0])), axis=1)
    assert known.min() == 2
    assert known.max() == 32
    assert abs(np.mean(known <= 8) - 0.5) < 0.1


def test_just_as_many_pixels_are_known_as_are_asked_for():
    tasks = Completion(IMAGES, shot=5, fewest=5, size=6, known=jnp.int32(2)).sample(KEY, "test")
    assert np.isnan(np.asarray(tasks.support_y[:, 0])).tolist() == [False, False, True, True, True]


def test_the_nearest_known_pixel_answers():
    task = Completion(IMAGES, shot=5, fewest=5, size=6).sample(KEY, "test")
    view = task.view()
    half = view.support_y.at[2:].set(jnp.nan)
    view = type(view)(view.support_x, half, view.query_x, 1)
    answers = NearestPixel().respond(None, view, KEY)
    apart = np.linalg.norm(np.asarray(view.query_x)[:, None] - np.asarray(view.support_x)[None, :2], axis=2)
    np.testing.assert_array_equal(answers[:, 0], np.asarray(half)[apart.argmin(axis=1), 0])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Completion(IMAGES, shot=9, size=3), "shot must be 1 to 8 here, not 9"),
        (lambda: Completion(IMAGES, shot=4, fewest=5, size=3), "fewest must be 1 to 4 here, not 5"),
        (lambda: Completion(IMAGES, shot=4, fewest=4, size=4).sample(KEY, "test"), "sides are a multiple of size, 4"),
        (lambda: Completion(Sinusoid(), shot=4, fewest=4, size=4).sample(KEY, "test"), "images must be episodes of images"),
    ],
)
def test_sizes_that_do_not_fit_are_one_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()
