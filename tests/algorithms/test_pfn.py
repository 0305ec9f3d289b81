"""Bars are a distribution, and a prior-fitted network reads a set."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

from quickstudy.algorithms.fewshot import cnp
from quickstudy.algorithms.incontext import pfn, pfn_gp
from quickstudy.tasks import GaussianProcess, Glyphs

KEY = jr.key(0)
TASKS = GaussianProcess(shot=5, fewest=3, query=4)
BARS = pfn.Bars(jnp.array([-1.0, -0.25, 0.5, 2.0]), jnp.array([0.7, 1.3]))
LOGITS = jr.normal(KEY, (1, 5))


@pytest.fixture(scope="module")
def densities():
    """A fine grid, and the density at it."""
    grid = jnp.linspace(-8.0, 14.0, 40_001)
    log_density = eqx.filter_jit(BARS.log_density)(jnp.broadcast_to(LOGITS, (grid.size, 5)), grid)
    return np.asarray(grid, float), np.exp(np.asarray(log_density, float))


def test_the_bars_are_a_density_whose_masses_are_the_softmax(densities):
    grid, density = densities
    step = grid[1] - grid[0]
    assert density.sum() * step == pytest.approx(1, abs=1e-3)
    masses = [density[np.asarray(BARS.bar(jnp.asarray(grid, jnp.float32))) == bar].sum() * step for bar in range(5)]
    np.testing.assert_allclose(masses, jax.nn.softmax(LOGITS)[0], atol=1e-3)


def test_mean_and_quantiles_agree_with_numeric_integration(densities):
    grid, density = densities
    step = grid[1] - grid[0]
    assert float(BARS.mean(LOGITS)[0]) == pytest.approx((grid * density).sum() * step, abs=2e-3)
    below = np.cumsum(density) * step
    for level in (0.01, 0.025, 0.2, 0.5, 0.77, 0.975, 0.995):
        assert np.interp(BARS.quantile(LOGITS, level)[0], grid, below) == pytest.approx(level, abs=1e-3)
    low, high = BARS.interval(LOGITS, 0.5)
    np.testing.assert_allclose([low[0], high[0]], [BARS.quantile(LOGITS, level)[0] for level in (0.25, 0.75)], rtol=1e-5)


def test_bars_of_equal_logits_are_the_prior():
    y = jr.normal(KEY, (50_000,))
    bars = pfn.Bars.fit(y, 50)
    np.testing.assert_allclose(jnp.bincount(bars.bar(y), length=50), 1_000, atol=2)
    for level in (0.005, 0.3, 0.999):
        assert float(bars.quantile(jnp.zeros((1, 50)), level)[0]) == pytest.approx(stats.norm.ppf(level), abs=0.08)
    # The expected surprise of a standard normal is its entropy, and a little more.
    surprise = -float(jnp.mean(bars.log_density(jnp.zeros((50_000, 50)), y)))
    assert stats.norm.entropy() - 0.01 < surprise < stats.norm.entropy() + 0.02


def test_a_certain_bar_holds_every_quantile():
    sure = jnp.array([[0.0, 0.0, 100.0, 0.0, 0.0]])
    low, high = BARS.interval(sure, 0.999)
    assert -0.25 <= float(low[0]) < -0.24 and 0.49 < float(high[0]) <= 0.5


@pytest.fixture(scope="module")
def network():
    return eqx.filter_jit(lambda key: pfn.learner(pfn.Config(width=8, layers=2, heads=2, bars=10), TASKS, key))(KEY)


@pytest.fixture(scope="module")
def task():
    drawn = eqx.filter_jit(TASKS.sample)(KEY, "test")
    return eqx.tree_at(lambda t: t.support_y, drawn, jnp.array([[0.3], [-1.0], [0.8], [jnp.nan], [jnp.nan]]))


@eqx.filter_jit
def logits(network, view):
    return network.logits(network.begin(view, KEY), view)


def test_the_order_of_the_support_says_nothing(network, task):
    order = jnp.array([3, 1, 4, 0, 2])
    shuffled = eqx.tree_at(lambda t: (t.support_x, t.support_y), task, (task.support_x[order], task.support_y[order]))
    np.testing.assert_allclose(logits(network, shuffled.view()), logits(network, task.view()), atol=1e-5)


def test_padding_says_nothing(network, task):
    expected = logits(network, task.view())
    elsewhere = eqx.tree_at(lambda t: t.support_x, task, task.support_x.at[3:].set(100.0))
    np.testing.assert_array_equal(logits(network, elsewhere.view()), expected)
    short = eqx.tree_at(lambda t: (t.support_x, t.support_y), task, (task.support_x[:3], task.support_y[:3]))
    np.testing.assert_allclose(logits(network, short.view()), expected, atol=1e-5)
    told = eqx.tree_at(lambda t: t.support_y, task, task.support_y.at[3].set(2.0))
    assert float(jnp.abs(logits(network, told.view()) - expected).max()) > 1e-5


def test_queries_never_meet(network, task):
    moved = eqx.tree_at(lambda t: t.query_x, task, task.query_x.at[0].set(1.5))
    np.testing.assert_array_equal(logits(network, moved.view())[1:], logits(network, task.view())[1:])


def test_padding_has_no_gradient_and_bars_are_no_weights(network, task):
    gradient = eqx.filter_jit(eqx.filter_grad(lambda network: pfn.likelihood_loss(network, task, KEY)[0]))(network)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    assert not jnp.any(gradient.bars.edges) and not jnp.any(gradient.bars.tails)
    assert jnp.any(gradient.embed_y)


def test_a_conditional_neural_process_knows_padding_too(task):
    network = cnp.learner(cnp.Config(width=8), TASKS, KEY)
    short = eqx.tree_at(lambda t: (t.support_x, t.support_y), task, (task.support_x[:3], task.support_y[:3]))
    np.testing.assert_allclose(network.begin(task.view(), KEY), network.begin(short.view(), KEY), rtol=1e-5)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda network: cnp.likelihood_loss(network, task, KEY)[0]))(network)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))


def test_the_divergence_on_fine_bars_is_that_of_gaussians():
    mean, deviation, others, spreads = np.array([0.0, 1.0]), np.array([1.0, 0.5]), np.array([0.3, 0.0]), np.array([1.5, 0.8])
    closed = np.log(spreads / deviation) + (deviation**2 + (mean - others) ** 2) / (2 * spreads**2) - 0.5
    exact, other = (pfn_gp.masses(np.linspace(-8, 8, 2_001), *law) for law in ((mean, deviation), (others, spreads)))
    np.testing.assert_allclose(exact.sum(axis=1), 1)
    assert pfn_gp.divergence(exact, other) == pytest.approx(closed.mean(), rel=1e-4)
    assert pfn_gp.divergence(exact, exact) == 0


def test_other_targets_and_levels_are_refused():
    with pytest.raises(ValueError, match="one floating-point number"):
        pfn.learner(pfn.Config(), Glyphs(), KEY)
    with pytest.raises(ValueError, match="bars must be at least 3, of which two are tails, not 2"):
        pfn.Bars.fit(jnp.arange(5.0), 2)
    for ask, name in ((BARS.quantile, "level"), (BARS.interval, "mass")):
        with pytest.raises(ValueError, match=f"{name} must be above 0 and below 1, not 1.0"):
            ask(LOGITS, 1.0)
