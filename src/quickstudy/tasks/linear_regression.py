"""Random linear regression: the smallest task on which one may ask which learning algorithm a sequence model has become.

y = w . x + noise, w ~ N(0, I / dimensions), x ~ N(0, I): what can be known of y varies by one, whatever the dimensions.
Source: Garg et al. 2022, "What Can Transformers Learn In-Context? A Case Study of Simple Function Classes", section 3 (w ~ N(0, I), in
20 dimensions, without noise), and Akyurek et al. 2022, "What learning algorithm is in-context learning? Investigations with linear
models", section 4 (with noise, by which ridge regression and least squares differ).
The splits own disjoint slices of the first weight, which is drawn by its quantile; "out-of-range" has inputs of a skewed covariance.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.factorisations import orthogonal
from quickstudy.tasks.bandits import normal_in_split
from quickstudy.tasks.streams import StreamTask


class LinearRegression(AbstractTaskDistribution):
    """Streams of `examples` noisy values of a random linear function.

    Inputs `(examples, dimensions)`, targets `(examples, 1)`; `noise` is the standard deviation of what is added to a target. Latent:
    the weights. Out of range, the variances of the inputs along a random basis fall as 1 / i^2, and sum up to `dimensions` as ever.

    Raises `ValueError` for sizes below one or a negative noise.

    >>> import jax
    >>> LinearRegression(dimensions=3, examples=7).sample(jax.random.key(0), "test").x.shape
    (7, 3)
    """

    dimensions: int = eqx.field(static=True, default=4)  # ours: Garg et al. 2022 take 20 and Akyurek et al. 2022 8, on accelerators
    examples: int = eqx.field(static=True, default=16)  # ours: four times the dimensions; Garg et al. 2022 take twice
    noise: float = 0.5  # ours, so that ridge regression is far from least squares; Garg et al. 2022 take 0

    def __check_init__(self) -> None:
        for name in ("dimensions", "examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.noise < 0:
            raise ValueError(f"noise must be at least 0, not {self.noise}")

    def sample(self, key: PRNGKeyArray, split: Split) -> StreamTask:
        first_key, normal_key, basis_key = jr.split(key, 3)
        far = split == "out-of-range"
        size, n = self.dimensions, self.examples
        # One draw for everything compiles faster than three.
        drawn = jr.normal(normal_key, (size + n * size + n,))
        weights, x, noise = jnp.split(drawn, [size, size + n * size])
        weights = weights.at[0].set(normal_in_split(first_key, "test" if far else split)) / size**0.5
        x = x.reshape(n, size) @ skewing(basis_key, size) if far else x.reshape(n, size)
        return StreamTask(x, (x @ weights + self.noise * noise)[:, None], {"weights": weights})


def skewing(key: PRNGKeyArray, dimensions: int) -> Float[Array, "dimensions dimensions"]:
    """The symmetric matrix that gives standard normal inputs variances falling as 1 / i^2 along a random basis, `dimensions` in all.

    Source: Garg et al. 2022, section 4 ("skewed covariance").

    >>> import jax
    >>> skewed = skewing(jax.random.key(0), 2)
    >>> [round(float(variance), 2) for variance in jnp.linalg.eigvalsh(skewed @ skewed)]
    [0.4, 1.6]
    """
    deviations = 1 / jnp.arange(1, dimensions + 1, dtype=jnp.float32)
    deviations = deviations * (dimensions / jnp.sum(deviations**2)) ** 0.5
    (basis,) = orthogonal(key, 1, dimensions, dimensions)
    return (basis * deviations[None]) @ basis.T
