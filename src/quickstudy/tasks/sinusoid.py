"""Sine waves of unknown amplitude and phase: the field's first regression benchmark.

y = amplitude * sin(x + phase) + noise, amplitude in [0.1, 5], phase in [0, pi], x in [-5, 5].
Source: Finn, Abbeel and Levine 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", section 5.1
(written there as sin(x - phase)). The splits own disjoint slices of the phase; "out-of-range" has amplitudes the others never have.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.splits import draw_in_split


class Sinusoid(AbstractTaskDistribution):
    """Regression episodes over sine waves.

    `shot` support points and `query` query points, inputs and targets `(n, 1)`; `noise` is the standard deviation added to the
    *support* targets (queries are judged against the noise-free wave). Latent: amplitude and phase in radians.

    >>> import jax
    >>> Sinusoid(shot=5).sample(jax.random.key(0), "test").support_x.shape
    (5, 1)
    """

    shot: int = eqx.field(static=True, default=10)  # Finn et al. 2017: 5, 10 and 20
    query: int = eqx.field(static=True, default=10)  # Finn et al. 2017: as many as shots
    noise: float = 0.0  # Finn et al. 2017: noise-free
    amplitude: tuple[float, float] = (0.1, 5.0)  # Finn et al. 2017
    phase: tuple[float, float] = (0.0, jnp.pi)  # Finn et al. 2017
    inputs: tuple[float, float] = (-5.0, 5.0)  # Finn et al. 2017
    amplitude_out_of_range: tuple[float, float] = (5.0, 10.0)  # ours: the next interval of the same width

    def __check_init__(self) -> None:
        for name in ("shot", "query"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        amplitude_key, phase_key, x_key, noise_key = jr.split(key, 4)
        far = split == "out-of-range"
        low, high = self.amplitude_out_of_range if far else self.amplitude
        amplitude = jr.uniform(amplitude_key, (), minval=low, maxval=high)
        phase = draw_in_split(phase_key, "test" if far else split, *self.phase)
        n = self.shot + self.query
        x = jr.uniform(x_key, (n, 1), minval=self.inputs[0], maxval=self.inputs[1])
        y = amplitude * jnp.sin(x + phase)
        noisy = y[: self.shot] + self.noise * jr.normal(noise_key, (self.shot, 1))
        latent = {"amplitude": amplitude, "phase": phase}
        return EpisodeTask(x[: self.shot], noisy, x[self.shot :], y[self.shot :], latent, outputs=1)
