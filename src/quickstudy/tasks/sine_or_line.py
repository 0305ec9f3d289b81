"""A sine wave or a line: functions of two families, which a few noisy points often cannot tell apart.

y = amplitude * sin(x + phase) or slope * x + intercept, each for half of the tasks, and noise on the support targets.
Source: Finn, Xu and Levine 2018, "Probabilistic Model-Agnostic Meta-Learning", section 5 (ranges, 5 points; noise as recalled).
The splits own disjoint slices of the phase, or of the slope; "out-of-range" has amplitudes and intercepts the others never have.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.splits import draw_in_split

AMPLITUDE, PHASE, SLOPE, INTERCEPT = (0.1, 5.0), (0.0, jnp.pi), (-3.0, 3.0), (-3.0, 3.0)


def between(ends: tuple[float, float], fraction: Float[Array, "..."]) -> Float[Array, "..."]:
    """What lies at a fraction of the way from one end to the other."""
    return ends[0] + (ends[1] - ends[0]) * fraction


def value(
    line: Bool[Array, "..."], first: Float[Array, "..."], second: Float[Array, "..."], x: Float[Array, "..."]
) -> Float[Array, "..."]:
    """The function at `x`, for a wave by amplitude and phase, for a line by intercept and slope, as fractions of their ranges."""
    wave = between(AMPLITUDE, first) * jnp.sin(x + between(PHASE, second))
    return jnp.where(line, between(INTERCEPT, first) + between(SLOPE, second) * x, wave)


class SineOrLine(AbstractTaskDistribution):
    """Regression episodes over sine waves and lines.

    Support inputs and targets `(shot, 1)`, of which `fewest` to `shot` have a target and the others NaN; queries `(query, 1)`, judged
    against the noise-free function. Latent: whether it is a line, and its two parameters as fractions of their ranges.

    Raises `ValueError` for sizes or a noise that no task can have.

    >>> import jax
    >>> SineOrLine(shot=3).sample(jax.random.key(0), "test").support_x.shape
    (3, 1)
    """

    shot: int = eqx.field(static=True, default=5)  # Finn et al. 2018
    fewest: int = eqx.field(static=True, default=1)  # ours: so that one network answers to any number of points
    query: int = eqx.field(static=True, default=10)  # ours
    noise: float = eqx.field(static=True, default=0.3)  # Finn et al. 2018, as recalled
    inputs: tuple[float, float] = eqx.field(static=True, default=(-5.0, 5.0))  # Finn et al. 2018

    def __check_init__(self) -> None:
        for name, least in (("fewest", 1), ("shot", self.fewest), ("query", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if self.noise <= 0:
            raise ValueError(f"noise must be above 0, not {self.noise}")

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        far = split == "out-of-range"
        split_key, other_key, x_key, noise_key = jr.split(key, 4)
        second = draw_in_split(split_key, "test" if far else split, 0.0, 1.0)
        family, first, count = jr.uniform(other_key, (3,))
        line = family < 0.5
        # Beyond the upper end by as much as the range is wide.
        first = first + 1.0 if far else first
        x = jr.uniform(x_key, (self.shot + self.query, 1), minval=self.inputs[0], maxval=self.inputs[1])
        y = value(line, first, second, x)
        noisy = y[: self.shot] + self.noise * jr.normal(noise_key, (self.shot, 1))
        known = jnp.arange(self.shot) < self.fewest + jnp.floor(count * (self.shot - self.fewest + 1)).astype(jnp.int32)
        support_y = jnp.where(known[:, None], noisy, jnp.nan)
        latent = {"line": line, "first": first, "second": second}
        return EpisodeTask(x[: self.shot], support_y, x[self.shot :], y[self.shot :], latent, outputs=1)
