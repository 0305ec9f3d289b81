"""What random functions have in common as episodes: where they are observed, how many points are shown, and how the splits part.

Inputs are uniform in [-2, 2] in every dimension (Kim et al. 2019, "Attentive Neural Processes", section 4.1): another range would only
be another scale of the function. The splits own disjoint slices of the first support input's first coordinate. Functions are thus
drawn from one prior in every split, and the posterior that is exact for one is exact for all.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.splits import draw_in_split

RANGE = (-2.0, 2.0)


class AbstractCurves(AbstractTaskDistribution):
    """Regression episodes over random functions of `dimensions` inputs, with one noisy target a point, queries included.

    A task shows from `fewest` to `shot` support points, every number as often (None: always `shot`), and asks for `query` others. The
    last targets of a smaller support are NaN.

    Raises `ValueError` for sizes below one, and unless `fewest` is from 0 to `shot`.
    """

    shot: int = eqx.field(static=True, default=10)  # ours: as many as a sinusoid's
    fewest: int | None = eqx.field(static=True, default=None)  # ours: learners that know no padding can learn from it
    query: int = eqx.field(static=True, default=10)  # ours: as many as a sinusoid's
    dimensions: int = eqx.field(static=True, default=1)  # ours: what can be drawn

    def __check_init__(self) -> None:
        for name in ("shot", "query", "dimensions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.fewest is not None and not 0 <= self.fewest <= self.shot:
            raise ValueError(f"fewest must be from 0 to shot, here {self.shot}, not {self.fewest}")

    @abc.abstractmethod
    def observe(
        self, key: PRNGKeyArray, x: Float[Array, "n dimensions"], split: Split
    ) -> tuple[Float[Array, " n"], dict[str, PyTree]]:
        """A new function's noisy values at `x`, and what the function is."""

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        first_key, place_key, function_key = jr.split(key, 3)
        first = draw_in_split(first_key, "test" if split == "out-of-range" else split, *RANGE)
        # One draw for inputs and size compiles sooner than two.
        n, fewest = self.shot + self.query, self.shot if self.fewest is None else self.fewest
        size, places = jnp.split(jr.uniform(place_key, (1 + n * self.dimensions,)), [1])
        x = (RANGE[0] + (RANGE[1] - RANGE[0]) * places.reshape(n, self.dimensions)).at[0, 0].set(first)
        y, latent = self.observe(function_key, x, split)
        known = jnp.arange(self.shot) < fewest + (size * (self.shot - fewest + 1)).astype(jnp.int32)
        support_y = jnp.where(known, y[: self.shot], jnp.nan)
        return EpisodeTask(x[: self.shot], support_y[:, None], x[self.shot :], y[self.shot :, None], latent, outputs=1)


def require_ranges(ranges: dict[str, tuple[float, float]]) -> None:
    """Raise `ValueError` unless every range is above zero and in order."""
    for name, (low, high) in ranges.items():
        if not 0 < low <= high:
            raise ValueError(f"{name} must be a range (low, high) with 0 < low <= high, not ({low}, {high})")
