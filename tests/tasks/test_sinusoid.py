"""Sines are the sines that their latent parameters say."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks import Sinusoid

KEY = jr.key(0)


def drawn(tasks, split, n=200):
    return eqx.filter_jit(sample_tasks)(tasks, KEY, split, n)


@pytest.mark.parametrize("split", ["train", "test", "out-of-range"])
def test_values_follow_the_formula(split):
    tasks = drawn(Sinusoid(shot=3, query=4), split)
    for x, y in ((tasks.support_x, tasks.support_y), (tasks.query_x, tasks.query_y)):
        amplitude, phase = (tasks.latent[name][:, None, None] for name in ("amplitude", "phase"))
        np.testing.assert_allclose(y, np.asarray(amplitude) * np.sin(np.asarray(x) + np.asarray(phase)), atol=1e-4)


@pytest.mark.parametrize(("split", "low", "high"), [("train", 0.1, 5.0), ("test", 0.1, 5.0), ("out-of-range", 5.0, 10.0)])
def test_amplitudes_inputs_and_phases_fill_their_ranges(split, low, high):
    # The lowest slice of the phase that the test owns begins at 9 %.
    tasks = drawn(Sinusoid(), split, 2_000)
    ranges = {"amplitude": (low, high), "phase": (0, np.pi)}
    values = {name: np.asarray(tasks.latent[name]) for name in ranges} | {"x": np.asarray(tasks.query_x)}
    for name, (least, most) in (ranges | {"x": (-5, 5)}).items():
        assert least <= values[name].min() <= least + 0.1 * (most - least)
        assert most - 0.1 * (most - least) <= values[name].max() <= most


def test_noise_is_on_the_support_only_and_of_the_given_size():
    clean, noisy = (Sinusoid(shot=4_000, noise=noise).sample(KEY, "train") for noise in (0.0, 0.5))
    np.testing.assert_array_equal(clean.query_y, noisy.query_y)
    assert float(jnp.std(noisy.support_y - clean.support_y)) == pytest.approx(0.5, rel=0.05)


def test_support_and_query_inputs_differ():
    task = Sinusoid(shot=10, query=10).sample(KEY, "train")
    assert not set(task.support_x.ravel().tolist()) & set(task.query_x.ravel().tolist())


@pytest.mark.parametrize("name", ["shot", "query"])
def test_empty_sets_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        Sinusoid(**{name: 0})
