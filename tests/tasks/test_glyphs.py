import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.tasks import Glyphs
from quickstudy.tasks.class_episodes import ClassCounts
from quickstudy.tasks.glyphs import _lens


def drawings(tasks, ids, n):
    """`n` drawings of each class, `(classes, n, 28, 28)`."""
    keys = jr.split(jr.key(1), (len(ids), n))
    return np.asarray(jax.jit(jax.vmap(tasks.draw))(jnp.asarray(ids), keys))


def classes_drawn(tasks, split, n):
    """The classes of `n` episodes; compiled, the images are never drawn."""
    return np.asarray(jax.jit(jax.vmap(lambda key: tasks.sample(key, split).latent["classes"]))(jr.split(jr.key(0), n)))


def test_drawings_are_ink_on_nothing():
    images = drawings(Glyphs(), range(100), 2)
    assert images.shape == (100, 2, 28, 28) and images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    share = images.mean(axis=(2, 3))
    assert share.min() > 0.01 and share.max() < 0.6


def test_drawings_of_a_class_vary_but_are_more_alike_than_drawings_of_others():
    first, second = np.moveaxis(drawings(Glyphs(), range(60), 2), 1, 0).reshape(2, 60, -1)
    centred = [x - x.mean(axis=1, keepdims=True) for x in (first, second)]
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in centred]
    alike = unit[0] @ unit[1].T
    assert np.diag(alike).max() < 0.999
    # The odds of recognising one of sixty by chance are 1.7 %; pixels alone do much better.
    assert (alike.argmax(axis=1) == np.arange(60)).mean() > 0.2


def test_a_class_is_its_id_and_another_seed_is_another_universe():
    first, again = drawings(Glyphs(), [7, 8], 1), drawings(Glyphs(), [7, 8], 1)
    np.testing.assert_array_equal(first, again)
    other = drawings(Glyphs(seed=1), [7, 8], 1)
    assert np.abs(first[0] - first[1]).max() > 0.5 and np.abs(first - other).max() > 0.5


def test_splits_share_no_class_and_stronger_warps_are_of_test_classes():
    tasks = Glyphs(way=4, query=1, counts=ClassCounts(10, 5, 6))
    seen = {}
    for split in ("train", "valid", "test", "out-of-range"):
        seen[split] = set(classes_drawn(tasks, split, 40).ravel().tolist())
    assert seen == {
        "train": set(range(10)),
        "valid": set(range(10, 15)),
        "test": set(range(15, 21)),
        "out-of-range": set(range(15, 21)),
    }


def test_fixed_labels_stay_with_their_class():
    tasks = Glyphs(way=4, query=1, shuffle_labels=False)
    assert (classes_drawn(tasks, "valid", 20) % 4 == np.arange(4)).all()


def test_low_resolution_is_averaging_then_interpolation():
    np.testing.assert_allclose(_lens(28), np.eye(28), atol=1e-6)
    for resolution in (14, 8):
        np.testing.assert_allclose(_lens(resolution).sum(axis=1), 1, atol=1e-6)
    # At 14 pixels, the second new pixel is three quarters the mean of the first two old ones and a quarter that of the next two.
    np.testing.assert_allclose(_lens(14)[1, :5], [0.375, 0.375, 0.125, 0.125, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"), [({"way": 501}, "500 classes of the valid split"), ({"shot": 0}, "shot must be at least 1")]
)
def test_impossible_sizes_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Glyphs(**arguments)
