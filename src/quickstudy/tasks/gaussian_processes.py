"""Gaussian processes: random functions whose Bayesian posterior is known in closed form.

    y = f(x) + noise * e,  e ~ N(0, 1),      f ~ GP(0, amplitude^2 k(|x - x'| / length scale)),      k one of

    squared exponential: exp(-r^2 / 2),      Matern 3/2: (1 + sqrt(3) r) exp(-sqrt(3) r),
    Matern 5/2: (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r)

Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equations 4.9, 4.17 and 2.22 to 2.24.
"out-of-range" has functions of half the length scale.
"""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import Split
from quickstudy.factorisations import cholesky
from quickstudy.tasks.curves import AbstractCurves, require_ranges
from quickstudy.tasks.episode import EpisodeTask

Kernel = Literal["squared-exponential", "matern-3/2", "matern-5/2"]

# The correlation of two values whose inputs are r length scales apart.
CORRELATIONS: dict[str, Callable[[Array], Array]] = {
    "squared-exponential": lambda r: jnp.exp(-jnp.square(r) / 2),
    "matern-3/2": lambda r: (1 + 3**0.5 * r) * jnp.exp(-(3**0.5) * r),
    "matern-5/2": lambda r: (1 + 5**0.5 * r + 5 * jnp.square(r) / 3) * jnp.exp(-(5**0.5) * r),
}


class GaussianProcess(AbstractCurves):
    """Regression episodes over functions drawn from a Gaussian process.

    `length_scale`, `amplitude` and `noise` are ranges, from which each task's own are drawn uniformly: a range of one number is a
    kernel that is known. Latent: these three. Sizes are those of `AbstractCurves`.

    Raises `ValueError` for an unknown kernel, and unless 0 < low <= high in every range.

    >>> tasks = GaussianProcess(shot=5, query=3)
    >>> mean, deviation = jax.jit(lambda key: tasks.predictive(tasks.sample(key, "test")))(jax.random.key(0))
    >>> mean.shape, bool((0.1 <= deviation).all() and (deviation < 1.1).all())
    ((3,), True)
    """

    kernel: Kernel = eqx.field(static=True, default="squared-exponential")  # Mueller et al. 2022, section 5.1
    length_scale: tuple[float, float] = (0.6, 0.6)  # Kim et al. 2019, "Attentive Neural Processes", appendix C
    amplitude: tuple[float, float] = (1.0, 1.0)  # Kim et al. 2019
    noise: tuple[float, float] = (0.1, 0.1)  # ours: 0.02 there, which takes far more training to match

    def __check_init__(self) -> None:
        if self.kernel not in CORRELATIONS:
            raise ValueError(f"kernel must be one of {sorted(CORRELATIONS)}, not {self.kernel!r}")
        require_ranges({"length_scale": self.length_scale, "amplitude": self.amplitude, "noise": self.noise})

    def observe(
        self, key: PRNGKeyArray, x: Float[Array, "n dimensions"], split: Split
    ) -> tuple[Float[Array, " n"], dict[str, Float[Array, ""]]]:
        setting_key, value_key = jr.split(key)
        low, high = jnp.asarray([self.length_scale, self.amplitude, self.noise], float).T
        length_scale, amplitude, noise = low + (high - low) * jr.uniform(setting_key, (3,))
        length_scale = length_scale * (0.5 if split == "out-of-range" else 1.0)
        latent = {"length_scale": length_scale, "amplitude": amplitude, "noise": noise}
        covariance = self.covariance(latent, x, x) + latent["noise"] ** 2 * jnp.eye(x.shape[0])
        return cholesky(covariance) @ jr.normal(value_key, (x.shape[0],)), latent

    def covariance(
        self, latent: dict[str, Float[Array, ""]], a: Float[Array, "n dimensions"], b: Float[Array, "m dimensions"]
    ) -> Float[Array, "n m"]:
        """The covariance of a function's values, without noise, at inputs `a` with those at `b`."""
        squared = jnp.sum(jnp.square(a[:, None] - b[None]), axis=2)
        return latent["amplitude"] ** 2 * CORRELATIONS[self.kernel](jnp.sqrt(squared) / latent["length_scale"])

    def predictive(self, task: EpisodeTask) -> tuple[Float[Array, " query"], Float[Array, " query"]]:
        """The exact posterior's mean and standard deviation of every query's noisy target, given the task's own hyper-parameters.

        Source: Rasmussen and Williams 2006, equations 2.23 and 2.24.
        """
        known, noise = task.view().known(), task.latent["noise"]
        both = known[:, None] & known[None]
        # What is not known becomes independent of everything.
        among = jnp.where(both, self.covariance(task.latent, task.support_x, task.support_x), 0.0)
        among = among + jnp.diag(jnp.where(known, noise**2, 1.0))
        across = jnp.where(known[:, None], self.covariance(task.latent, task.support_x, task.query_x), 0.0)
        mean, explained = _conditioned(among, across, jnp.where(known, task.support_y[:, 0], 0.0))
        return mean, jnp.sqrt(task.latent["amplitude"] ** 2 + noise**2 - explained)


# One matrix at a time, as quickstudy.factorisations says.
@jax.custom_batching.sequential_vmap
def _conditioned(
    among: Float[Array, "n n"], across: Float[Array, "n m"], y: Float[Array, " n"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """The conditional mean of m values with covariances `across` to the values y, and by how much their variance falls."""
    solved = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(among), jnp.concatenate([across, y[:, None]], axis=1), lower=True)
    return solved[:, :-1].T @ solved[:, -1], jnp.sum(jnp.square(solved[:, :-1]), axis=0)
