"""Classical learners of random linear regression, one example at a time: from Bayes-optimal to naive.

    ridge, which is Bayes-optimal   w <- w + k (y - w . x),   C <- C - k (C x)^T,   k = C x / (noise^2 + x . C x),   C_0 = variance I
    one gradient step from zero     w = rate_n sum_i y_i x_i,   rate_n = variance / ((n + d + 1) variance + noise^2)

Ridge regression is the mean of the exact posterior, given by recursion. It does not ask where inputs come from, so it stays optimal
when they come from elsewhere. `rate_n` is the best for n standard normal inputs of d dimensions: E |w - rate X^T y|^2 is a quadratic
in it.

Sources: the posterior: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", section 2.1; conjugate gradients:
Hestenes and Stiefel 1952, "Methods of Conjugate Gradients for Solving Linear Systems"; which of them to compare with: Akyurek et al.
2022, "What learning algorithm is in-context learning? Investigations with linear models", section 4.
"""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner

_TOLERANCE = 1e-5  # ours: of a least-squares fit's residual, in single precision


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


class Moments(NamedTuple):
    """The sum of x x^T, that of y x, and how many examples they add up."""

    squares: Float[Array, "dimensions dimensions"]
    products: Float[Array, " dimensions"]
    seen: Float[Array, ""]


class AbstractMoments(AbstractLearner):
    """A linear prediction from the moments of the examples so far."""

    dimensions: eqx.AbstractVar[int]

    @abc.abstractmethod
    def weights(self, moments: Moments) -> Float[Array, " dimensions"]:
        """The weights to predict with."""

    def begin(self, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Moments:
        return Moments(jnp.zeros((self.dimensions, self.dimensions)), jnp.zeros(self.dimensions), jnp.zeros(()))

    def respond(self, fast: Moments, view: Float[Array, " dimensions"], key: PRNGKeyArray) -> Float[Array, " 1"]:
        return (self.weights(fast) @ view)[None]

    def observe(self, fast: Moments, view: Array, response: Array, feedback: Float[Array, " 1"], key: PRNGKeyArray) -> Moments:
        return Moments(fast.squares + jnp.outer(view, view), fast.products + feedback * view, fast.seen + 1)


class LeastSquares(AbstractMoments):
    """The shortest of the weights that fit what was seen best: where conjugate gradients that start from zero end.

    In single precision, inputs that nearly depend on each other are taken to do so.

    >>> squares = jnp.array([[4.0, 0.0], [0.0, 0.0]])
    >>> LeastSquares(2).weights(Moments(squares, jnp.array([2.0, 0.0]), jnp.array(1.0))).tolist()
    [0.5, 0.0]
    """

    dimensions: int = eqx.field(static=True)

    def weights(self, moments: Moments) -> Float[Array, " dimensions"]:
        # Exact after as many steps as dimensions, but for rounding, which twice as many make good.
        solve = jax.scipy.sparse.linalg.cg
        return solve(lambda w: moments.squares @ w, moments.products, tol=_TOLERANCE, maxiter=2 * self.dimensions)[0]


class OneGradientStep(AbstractMoments):
    """One step on half the summed squared error from weights of zero, with the best rate for as many standard normal inputs.

    >>> step = OneGradientStep(2, variance=0.5, noise=0.5)
    >>> round(float(step.rate(jnp.array(4.0))), 3)  # 4 examples and this rate explain 4 times it of what varies
    0.133
    """

    dimensions: int = eqx.field(static=True)
    variance: float
    noise: float

    def rate(self, count: Float[Array, ""]) -> Float[Array, ""]:
        """The best learning rate after `count` examples."""
        return self.variance / ((count + self.dimensions + 1) * self.variance + self.noise**2)

    def weights(self, moments: Moments) -> Float[Array, " dimensions"]:
        return self.rate(moments.seen) * moments.products


class Examples(NamedTuple):
    """The last examples seen, that number i at i % capacity, and how many there have been."""

    x: Float[Array, "capacity dimensions"]
    y: Float[Array, "capacity outputs"]
    seen: Int[Array, ""]


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
        known = jnp.arange(self.capacity) < fast.seen
        nearness, nearest = jax.lax.top_k(jnp.where(known, -jnp.sum((fast.x - view[None]) ** 2, axis=1), -jnp.inf), self.neighbours)
        counts = jnp.isfinite(nearness)
        return jnp.sum(jnp.where(counts[:, None], fast.y[nearest], 0.0), axis=0) / jnp.maximum(jnp.sum(counts), 1).astype(view.dtype)

    def observe(self, fast: Examples, view: Array, response: Array, feedback: Float[Array, " 1"], key: PRNGKeyArray) -> Examples:
        slot = fast.seen % self.capacity
        return Examples(fast.x.at[slot].set(view), fast.y.at[slot].set(feedback), fast.seen + 1)
