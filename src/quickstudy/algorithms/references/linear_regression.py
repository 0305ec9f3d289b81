"""Classical learners of random linear regression, one example at a time: from Bayes-optimal to naive.

    ridge, which is Bayes-optimal   w <- w + k (y - w . x),   C <- C - k (C x)^T,   k = C x / (noise^2 + x . C x),   C_0 = variance I
    one gradient step from zero     w = rate_n sum_i y_i x_i,   rate_n = variance / ((n + d + 1) variance + noise^2)

Ridge regression is the mean of the exact posterior, given by recursion. It does not ask where inputs come from, so it stays optimal when
they come from elsewhere. `rate_n` is the best for n standard normal inputs of d dimensions: E |w - rate X^T y|^2 is a quadratic in it.

Sources: recursive ridge regression and the posterior: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", section
2.1; recursive least squares of any rank: Albert and Sittler 1966, "A Method for Computing Least Squares Estimators that Keep Up with the
Data"; which of them to compare with: Akyurek et al. 2022, "What learning algorithm is in-context learning? Investigations with linear
models", section 4.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner

# Ours: an input whose part outside what was spanned is shorter than a ten-thousandth of it adds no dimension, in single precision.
_NOTHING_NEW = 1e-8


class Posterior(NamedTuple):
    """What is believed of the weights: their mean and covariance."""

    mean: Float[Array, " dimensions"]
    covariance: Float[Array, "dimensions dimensions"]


class Ridge(AbstractLearner):
    """The posterior mean under the prior N(0, `variance` I) of the weights and a known standard deviation `noise` of the targets.

    Raises `ValueError` unless variance and noise are positive; without noise the posterior mean is that of `LeastSquares`.

    >>> Ridge(2, variance=1.0, noise=1.0).begin(jnp.zeros(2), jax.random.key(0)).mean.tolist()
    [0.0, 0.0]
    """

    dimensions: int = eqx.field(static=True)
    variance: float
    noise: float

    def __check_init__(self) -> None:
        if self.variance <= 0:
            raise ValueError(f"variance must be above 0, not {self.variance}")
        if self.noise <= 0:
            raise ValueError(f"noise must be above 0, not {self.noise}: without noise, use LeastSquares")

    def begin(self, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Posterior:
        return Posterior(jnp.zeros(self.dimensions), self.variance * jnp.eye(self.dimensions))

    def respond(self, fast: Posterior, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Float[Array, " 1"]:
        return (fast.mean @ view)[None]

    def observe(self, fast: Posterior, view: Array, response: Array, feedback: Float[Array, " 1"], key: PRNGKeyArray) -> Posterior:
        spread = fast.covariance @ view
        gain = spread / (self.noise**2 + view @ spread)
        return Posterior(fast.mean + gain * (feedback - fast.mean @ view), fast.covariance - jnp.outer(gain, spread))


class Fit(NamedTuple):
    """A least-squares fit: the weights, the pseudo-inverse of X^T X, and the projection on what no input has spanned yet."""

    weights: Float[Array, " dimensions"]
    inverse: Float[Array, "dimensions dimensions"]
    unseen: Float[Array, "dimensions dimensions"]


class LeastSquares(AbstractLearner):
    """The shortest of the weights that fit what was seen best. In single precision, where inputs nearly depend on each other it is rough.

    >>> LeastSquares(2).begin(jnp.zeros(2), jax.random.key(0)).weights.tolist()
    [0.0, 0.0]
    """

    dimensions: int = eqx.field(static=True)

    def begin(self, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Fit:
        size = self.dimensions
        return Fit(jnp.zeros(size), jnp.zeros((size, size)), jnp.eye(size))

    def respond(self, fast: Fit, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Float[Array, " 1"]:
        return (fast.weights @ view)[None]

    def observe(self, fast: Fit, view: Array, response: Array, feedback: Float[Array, " 1"], key: PRNGKeyArray) -> Fit:
        outside, inside = fast.unseen @ view, fast.inverse @ view
        new = outside @ outside > _NOTHING_NEW * (view @ view)
        direction = outside / jnp.where(new, outside @ outside, 1.0)
        grown = (1 + view @ inside) * jnp.outer(direction, direction) - jnp.outer(inside, direction) - jnp.outer(direction, inside)
        gain = jnp.where(new, direction, inside / (1 + view @ inside))
        return Fit(
            fast.weights + gain * (feedback - fast.weights @ view),
            fast.inverse + jnp.where(new, grown, -jnp.outer(gain, inside)),
            fast.unseen - jnp.where(new, jnp.outer(outside, direction), 0.0),
        )


class Moments(NamedTuple):
    """The sum of y x, and how many examples it adds up."""

    total: Float[Array, " dimensions"]
    count: Float[Array, ""]


class OneGradientStep(AbstractLearner):
    """One step on half the summed squared error from weights of zero, with the best rate for as many standard normal inputs.

    >>> step = OneGradientStep(2, variance=0.5, noise=0.5)
    >>> round(float(step.rate(jnp.array(4.0))), 3)  # one step is worth 4 / 7.5 of the variance
    0.133
    """

    dimensions: int = eqx.field(static=True)
    variance: float
    noise: float

    def rate(self, count: Float[Array, ""]) -> Float[Array, ""]:
        """The best learning rate after `count` examples."""
        return self.variance / ((count + self.dimensions + 1) * self.variance + self.noise**2)

    def begin(self, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Moments:
        return Moments(jnp.zeros(self.dimensions), jnp.zeros(()))

    def respond(self, fast: Moments, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Float[Array, " 1"]:
        return (self.rate(fast.count) * fast.total @ view)[None]

    def observe(self, fast: Moments, view: Array, response: Array, feedback: Float[Array, " 1"], key: PRNGKeyArray) -> Moments:
        return Moments(fast.total + feedback * view, fast.count + 1)


class Examples(NamedTuple):
    """The last examples seen, that number i at i % capacity, and how many there have been."""

    x: Float[Array, "capacity dimensions"]
    y: Float[Array, "capacity outputs"]
    count: Int[Array, ""]


class NearestNeighbours(AbstractLearner):
    """The mean target of the `neighbours` nearest of the last `capacity` inputs, or of all while there are fewer; at first zero.

    Raises `ValueError` for fewer than one neighbour or a capacity below their number.
    """

    dimensions: int = eqx.field(static=True)
    capacity: int = eqx.field(static=True)
    neighbours: int = eqx.field(static=True, default=3)  # Garg et al. 2022, section 3

    def __check_init__(self) -> None:
        if not 1 <= self.neighbours <= self.capacity:
            raise ValueError(f"neighbours must be between 1 and the capacity {self.capacity}, not {self.neighbours}")

    def begin(self, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Examples:
        return Examples(jnp.zeros((self.capacity, self.dimensions)), jnp.zeros((self.capacity, 1)), jnp.zeros((), jnp.int32))

    def respond(self, fast: Examples, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Float[Array, " 1"]:
        seen = jnp.arange(self.capacity) < fast.count
        nearness, nearest = jax.lax.top_k(jnp.where(seen, -jnp.sum((fast.x - view[None]) ** 2, axis=1), -jnp.inf), self.neighbours)
        counts = jnp.isfinite(nearness)
        return jnp.sum(jnp.where(counts[:, None], fast.y[nearest], 0.0), axis=0) / jnp.maximum(jnp.sum(counts), 1).astype(view.dtype)

    def observe(self, fast: Examples, view: Array, response: Array, feedback: Float[Array, " 1"], key: PRNGKeyArray) -> Examples:
        slot = fast.count % self.capacity
        return Examples(fast.x.at[slot].set(view), fast.y.at[slot].set(feedback), fast.count + 1)
