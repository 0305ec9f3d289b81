"""Classical learners of linear regression against closed forms in numpy, and against each other where one of them is optimal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.references import LeastSquares, NearestNeighbours, OneGradientStep, Ridge, default_references
from quickstudy.check import check_learner
from quickstudy.core import lifetime, sample_tasks
from quickstudy.tasks import LinearRegression

KEY = jr.key(0)
TASKS = LinearRegression(dimensions=3, examples=9, noise=0.4)


@eqx.filter_jit
def predictions(who, drawn):
    record = lambda tick: tick.response[0]
    return jax.vmap(lambda task: lifetime(who, task, KEY, steps=task.x.shape[0], record=record)[1])(drawn)


def weights_after(fit):
    """What numpy predicts at every tick of 20 tasks from the examples before it, and the tasks."""
    drawn = eqx.filter_jit(sample_tasks)(TASKS, KEY, "train", 20)
    xs, ys = np.asarray(drawn.x, float), np.asarray(drawn.y, float)[..., 0]
    told = [[fit(x[:t], y[:t]) @ x[t] if t else 0.0 for t in range(9)] for x, y in zip(xs, ys, strict=True)]
    return np.array(told), drawn


def test_recursive_ridge_is_the_closed_form():
    told, drawn = weights_after(lambda x, y: np.linalg.solve(x.T @ x + 0.4**2 * 3 * np.eye(3), x.T @ y))
    np.testing.assert_allclose(predictions(Ridge(3, 1 / 3, 0.4), drawn), told, atol=1e-4)


def test_least_squares_is_the_shortest_fit():
    told, drawn = weights_after(lambda x, y: np.linalg.pinv(x) @ y)
    conditions = [np.linalg.cond(x[:3]) for x in np.asarray(drawn.x)]
    fair = np.array(conditions) < 20
    assert fair.sum() > 10
    np.testing.assert_allclose(predictions(LeastSquares(3), drawn)[fair], told[fair], rtol=2e-3, atol=2e-3)


def test_least_squares_is_exact_in_double_precision_and_takes_repeated_inputs():
    with jax.enable_x64(True):
        x = jnp.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
        y = jnp.array([[1.0], [3.0], [5.0], [2.0]])
        who = LeastSquares(3)
        fast = jax.tree.map(lambda leaf: leaf.astype(x.dtype), who.begin(x[0], KEY))
        for i in range(4):
            fast = who.observe(fast, x[i], y[i], y[i], KEY)
        np.testing.assert_allclose(who.weights(fast), np.linalg.pinv(np.asarray(x)) @ np.asarray(y)[:, 0], atol=1e-4)


def test_one_gradient_step_is_one_at_a_rate_that_no_other_beats():
    who = OneGradientStep(3, 1 / 3, 0.4)
    told, drawn = weights_after(lambda x, y: float(who.rate(jnp.float32(len(x)))) * x.T @ y)
    np.testing.assert_allclose(predictions(who, drawn), told, atol=1e-5)
    many = eqx.filter_jit(sample_tasks)(TASKS, KEY, "train", 40_000)
    step = np.einsum("nti,nt->ni", many.x[:, :6], many.y[:, :6, 0])
    weights = np.asarray(many.latent["weights"])
    best = (step * weights).sum() / (step**2).sum()  # the minimum of |w - rate step|^2 over tasks
    assert abs(best / float(who.rate(jnp.float32(6))) - 1) < 0.02


def test_neighbours_are_the_three_nearest_of_those_seen_and_the_oldest_are_forgotten():
    who, x = NearestNeighbours(1, capacity=4), jnp.array([[0.0], [1.0], [2.0], [5.0], [9.0]])
    fast, said = who.begin(x[0], KEY), []
    for i in range(5):
        said.append(float(who.respond(fast, jnp.array([0.0]), KEY)[0]))
        fast = who.observe(fast, x[i], x[i], 10 * x[i], KEY)
    assert said == [0.0, 0.0, 5.0, 10.0, 10.0]
    assert float(who.respond(fast, jnp.array([0.0]), KEY)[0]) == pytest.approx((10 + 20 + 50) / 3)


def test_the_bayes_optimal_line_is_the_best_one():
    drawn = eqx.filter_jit(sample_tasks)(TASKS, KEY, "test", 20_000)
    truth = jnp.einsum("nti,ni->nt", drawn.x, drawn.latent["weights"])
    errors = {name: np.mean((predictions(who, drawn) - truth) ** 2, axis=0) for name, who in default_references(TASKS, 9).items()}
    best = errors.pop("ridge (Bayes-optimal)")
    assert list(errors) == ["least squares", "one gradient step", "3 nearest neighbours"]
    for name, error in errors.items():
        assert (best[1:] < error[1:]).all(), name
    # One step's error in closed form: 1 - n / (n + d + 1 + d noise^2).
    n = np.arange(9)  # the deviation of a mean of so many squared errors is 0.015
    np.testing.assert_allclose(errors["one gradient step"], 1 - n / (n + 4 + 3 * 0.16), atol=0.06)


def test_references_conform_and_without_noise_the_best_is_the_fit():
    for who in (LeastSquares(3), NearestNeighbours(3, capacity=9)):
        check_learner(who, TASKS, KEY)
    clean = default_references(LinearRegression(noise=0.0), 5)
    assert clean["ridge (Bayes-optimal)"] == clean["least squares"] == LeastSquares(4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Ridge(2, 0.0, 1.0), "variance must be above 0, not 0.0"),
        (lambda: Ridge(2, 1.0, 0.0), "noise must be above 0, not 0.0: without noise, use LeastSquares"),
        (lambda: NearestNeighbours(2, capacity=2), "neighbours must be between 1 and the capacity 2, not 3"),
    ],
)
def test_bad_settings_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
