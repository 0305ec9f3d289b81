"""Random linear regression: values that follow the formula, the prior it names, splits that share no first weight."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.stats import norm

from quickstudy.core import sample_tasks
from quickstudy.tasks import LinearRegression
from quickstudy.tasks.linear_regression import skewing

KEY = jr.key(0)


def drawn(tasks, split, n=2_000):
    return eqx.filter_jit(sample_tasks)(tasks, KEY, split, n)


@pytest.mark.parametrize("split", ["train", "out-of-range"])
def test_values_follow_the_formula_up_to_noise_of_the_given_size(split):
    tasks = drawn(LinearRegression(dimensions=3, examples=10, noise=0.3), split, 200)
    noise = np.asarray(tasks.y)[..., 0] - np.einsum("nti,ni->nt", tasks.x, tasks.latent["weights"])
    assert abs(noise.std() - 0.3) < 0.02
    assert abs(noise.mean()) < 0.03


def test_weights_and_inputs_are_normal_and_all_there_is_to_know_has_variance_one():
    tasks = drawn(LinearRegression(dimensions=4, examples=5, noise=0.0), "train")
    np.testing.assert_allclose(4 * np.cov(tasks.latent["weights"].T), np.eye(4), atol=0.15)
    np.testing.assert_allclose(np.cov(tasks.x.reshape(-1, 4).T), np.eye(4), atol=0.05)
    assert abs(float(jnp.mean(tasks.y**2)) - 1) < 0.1


@pytest.mark.parametrize(("split", "owned"), [("train", {0, 1, 2, 3, 5, 6, 7, 8}), ("out-of-range", {9})])
def test_splits_own_disjoint_slices_of_the_first_weight(split, owned):
    first = drawn(LinearRegression(dimensions=4), split, 500).latent["weights"][:, 0]
    assert set((1e4 * norm.cdf(2 * first)).astype(int).tolist()) <= {10 * i + j for i in range(1_000) for j in owned}


def test_out_of_range_inputs_are_skewed_along_a_basis_of_their_own_and_as_long_as_ever():
    matrices = [np.asarray(skewing(jr.key(seed), 4), float) for seed in range(2)]
    variances = 1 / np.arange(4, 0, -1) ** 2
    for matrix in matrices:
        np.testing.assert_allclose(np.linalg.eigvalsh(matrix @ matrix), 4 * variances / variances.sum(), rtol=1e-4)
    assert np.abs(matrices[0] - matrices[1]).max() > 0.1
    assert abs(float(jnp.mean(jnp.sum(drawn(LinearRegression(), "out-of-range", 500).x ** 2, axis=-1))) - 4) < 0.3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dimensions": 0}, "dimensions must be at least 1, not 0"),
        ({"examples": 0}, "examples must be at least 1, not 0"),
        ({"noise": -1.0}, "noise must be at least 0, not -1.0"),
    ],
)
def test_bad_settings_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        LinearRegression(**given)
