"""Random quadratics: the smallest objective that tells optimisers apart.

loss(p) = |W p - y|^2, the *sum* of squares, with all elements of W and y drawn from N(0, 1).
Source: Andrychowicz et al. 2016, "Learning to learn by gradient descent by gradient descent", section 3.1 (10 x 10 matrices).
The splits own disjoint slices of the first element of y, which is drawn by its quantile; "out-of-range" has a larger W.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import ndtri
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.objective import AbstractObjective
from quickstudy.tasks.splits import draw_in_split


class Quadratic(AbstractObjective):
    """One quadratic and the point to start from; its parameters are one vector."""

    matrix: Float[Array, "equations dimensions"]
    target: Float[Array, " equations"]
    start: Float[Array, " dimensions"]

    def initial(self, key: PRNGKeyArray) -> Float[Array, " dimensions"]:
        return self.start

    def loss(self, parameters: Float[Array, " dimensions"], key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.sum(jnp.square(self.matrix @ parameters - self.target))

    def optimum(self) -> Float[Array, " dimensions"]:
        """The least-squares solution, for oracle lines; with as many equations as dimensions its loss is zero."""
        return jnp.linalg.lstsq(self.matrix, self.target)[0]


class Quadratics(AbstractTaskDistribution):
    """Random quadratics in `dimensions` parameters, one residual per equation (None: as many as dimensions).

    Raises `ValueError` for sizes below one.

    >>> import jax
    >>> tasks = Quadratics(dimensions=3)
    >>> task = tasks.sample(jax.random.key(0), "test")
    >>> bool(task.loss(task.optimum(), jax.random.key(0)) < 1e-6)
    True
    """

    dimensions: int = eqx.field(static=True, default=10)  # Andrychowicz et al. 2016
    equations: int | None = eqx.field(static=True, default=None)  # Andrychowicz et al. 2016: a square matrix
    out_of_range_scale: float = 2.0  # ours: four times the curvature that training ever sees on average

    def __check_init__(self) -> None:
        for name in ("dimensions", "equations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")

    def sample(self, key: PRNGKeyArray, split: Split) -> Quadratic:
        normal_key, first_key = jr.split(key)
        far = split == "out-of-range"
        rows, columns = self.dimensions if self.equations is None else self.equations, self.dimensions
        # One draw for everything compiles three times faster than three.
        drawn = jr.normal(normal_key, (rows * columns + rows + columns,))
        matrix, target, start = jnp.split(drawn, [rows * columns, rows * columns + rows])
        # A uniform quantile makes a Gaussian element: all splits together are the plain Gaussian.
        first = ndtri(draw_in_split(first_key, "test" if far else split, 0.0, 1.0))
        scale = self.out_of_range_scale if far else 1.0
        return Quadratic(scale * matrix.reshape(rows, columns), target.at[0].set(first), start)
