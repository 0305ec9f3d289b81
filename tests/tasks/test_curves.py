"""Functions of a Gaussian process and of random networks are what their equations say, and so are their posteriors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from answers import Answer

from quickstudy.algorithms.references import default_references
from quickstudy.core import sample_tasks
from quickstudy.evaluation import evaluate
from quickstudy.tasks import GaussianProcess, RandomNetworks
from quickstudy.tasks.gaussian_processes import CORRELATIONS
from quickstudy.tasks.random_networks import network_values

KEY = jr.key(0)


def drawn(tasks, split="train", n=200):
    return eqx.filter_jit(sample_tasks)(tasks, KEY, split, n)


def first(tasks):
    return jax.tree.map(lambda leaf: leaf[0], tasks)


def kernel(name, a, b, length_scale):
    """The equations again, in double precision."""
    distance = np.linalg.norm(a[:, None] - b[None], axis=2) / length_scale
    if name == "squared-exponential":
        return np.exp(-(distance**2) / 2)
    root = {"matern-3/2": np.sqrt(3), "matern-5/2": np.sqrt(5)}[name] * distance
    return (1 + root + (root**2 / 3 if name == "matern-5/2" else 0)) * np.exp(-root)


@pytest.mark.parametrize("name", sorted(CORRELATIONS))
def test_the_exact_posterior_is_that_of_the_textbook(name):
    tasks = GaussianProcess(
        shot=6, fewest=2, query=4, dimensions=2, kernel=name, length_scale=(0.5, 1.0), amplitude=(0.5, 2.0), noise=(0.1, 0.3)
    )
    for task in (jax.tree.map(lambda leaf, i=i: leaf[i], drawn(tasks, n=3)) for i in range(3)):
        length_scale, amplitude, noise = (float(task.latent[part]) for part in ("length_scale", "amplitude", "noise"))
        y = np.asarray(task.support_y[:, 0], float)
        known = ~np.isnan(y)
        x, y, queries = np.asarray(task.support_x, float)[known], y[known], np.asarray(task.query_x, float)
        inverse = np.linalg.inv(amplitude**2 * kernel(name, x, x, length_scale) + noise**2 * np.eye(len(x)))
        across = amplitude**2 * kernel(name, queries, x, length_scale)
        variance = amplitude**2 + noise**2 - np.diag(across @ inverse @ across.T)
        mean, deviation = eqx.filter_jit(tasks.predictive)(task)
        np.testing.assert_allclose(mean, across @ inverse @ y, atol=2e-4)
        np.testing.assert_allclose(deviation, np.sqrt(variance), rtol=2e-3)


def test_the_reference_line_is_as_far_off_as_the_posterior_says():
    tasks = GaussianProcess(shot=4, query=3)
    who = default_references(tasks, 1)["exact posterior"]
    report = evaluate(Answer(jnp.zeros((3, 1))), tasks, n_tasks=1_000, steps=1, key=KEY, references={"exact": who})
    _, deviation = eqx.filter_jit(lambda many: jax.lax.map(tasks.predictive, many))(drawn(tasks, "test", 500))
    np.testing.assert_allclose(-report.references["exact"].mean[0], np.mean(np.square(deviation)), rtol=0.1)


def test_the_posterior_is_calibrated_on_functions_of_its_prior():
    """Standardised by the posterior, targets of the queries are standard normal: kernel, noise and posterior agree."""
    tasks = GaussianProcess(shot=4, query=3, length_scale=(0.5, 1.0))
    many = drawn(tasks, "test", 2_000)
    assert not np.isnan(np.asarray(many.support_y)).any()
    scales = np.asarray(many.latent["length_scale"])
    assert 0.5 <= scales.min() < 0.51 and 0.99 < scales.max() <= 1
    mean, deviation = eqx.filter_jit(lambda many: jax.lax.map(tasks.predictive, many))(many)
    standard = (np.asarray(many.query_y[..., 0]) - np.asarray(mean)) / np.asarray(deviation)
    assert abs(standard.mean()) < 0.06
    assert standard.std() == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize("make", [GaussianProcess, RandomNetworks])
def test_every_size_of_the_support_comes_as_often(make):
    missing = np.isnan(np.asarray(drawn(make(shot=3, fewest=1, query=1), n=600).support_y[..., 0]))
    assert (np.diff(missing.astype(int), axis=1) >= 0).all(), "what is missing comes last"
    counts = np.bincount(3 - missing.sum(axis=1), minlength=4)
    assert counts[0] == 0
    assert (np.abs(counts[1:] - 200) < 50).all()


def test_out_of_range_functions_turn_twice_as_fast():
    scales = np.asarray(drawn(GaussianProcess(length_scale=(0.4, 0.8)), "out-of-range").latent["length_scale"])
    assert 0.2 <= scales.min() < 0.22 and 0.38 < scales.max() <= 0.4
    weights = drawn(RandomNetworks(spread=1.5), "out-of-range").latent["weights"]
    assert float(jnp.std(weights.first)) == pytest.approx(3, rel=0.05)
    assert float(jnp.std(weights.biases)) == pytest.approx(1.5, rel=0.05)


def test_a_random_networks_targets_are_its_values_and_noise():
    many = drawn(RandomNetworks(noise=0.3), n=500)
    x, y = jnp.concatenate([many.support_x, many.query_x], axis=1), jnp.concatenate([many.support_y, many.query_y], axis=1)
    values = jax.vmap(lambda weights, x: network_values(weights, x)[0])(many.latent["weights"], x)
    noise = np.asarray(y[..., 0] - values)
    assert noise.std() == pytest.approx(0.3, rel=0.03)
    task = first(many)
    weights = jax.tree.map(lambda leaf: np.asarray(leaf[0], float), task.latent["weights"])
    by_hand = np.tanh(np.asarray(task.query_x) @ weights.first + weights.biases) @ weights.last
    np.testing.assert_allclose(values[0, task.support_x.shape[0] :], by_hand, rtol=1e-4, atol=1e-5)


def test_importance_sampling_is_the_weighted_mean_of_the_draws():
    tasks = RandomNetworks(shot=3, fewest=1, query=2, hidden=4)
    task = first(drawn(tasks, n=1))
    density, size = eqx.filter_jit(tasks.predictive)(task, KEY, batches=2, batch=50)
    x = jnp.concatenate([task.support_x, task.query_x])
    values = jax.jit(lambda keys: jax.lax.map(lambda key: network_values(tasks.networks(key, 50), x), keys))(jr.split(KEY, 2))
    values = np.concatenate(np.asarray(values, float))
    gauss = lambda error: np.exp(-((error / 0.2) ** 2) / 2) / (0.2 * np.sqrt(2 * np.pi))
    likelihood = np.nan_to_num(gauss(np.asarray(task.support_y.T) - values[:, :3]), nan=1.0).prod(axis=1)
    weights = likelihood / likelihood.sum()
    np.testing.assert_allclose(density, np.log(weights @ gauss(np.asarray(task.query_y.T) - values[:, 3:])), rtol=1e-3)
    assert float(size) == pytest.approx(1 / (weights**2).sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "given", "said"),
    [
        (GaussianProcess, {"shot": 0}, "shot must be at least 1, not 0"),
        (GaussianProcess, {"shot": 3, "fewest": 4}, "fewest must be from 0 to shot, here 3, not 4"),
        (GaussianProcess, {"noise": (0.0, 0.1)}, r"noise must be a range .* not \(0.0, 0.1\)"),
        (RandomNetworks, {"hidden": 0}, "hidden must be at least 1, not 0"),
        (RandomNetworks, {"spread": -1.0}, "spread must be a range"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, given, said):
    with pytest.raises(ValueError, match=said):
        make(**given)
