"""The exact posterior over sine waves and lines, on a grid of all that they can be.

    p(function | support)  ~  prod over support of N(y; function(x), noise^2),      prediction = sum over functions of p * function(x)

The grid's cells are narrower than the noise, so that a finer one changes nothing that matters.

Source: Bayes' rule; tasks of Finn, Xu and Levine 2018.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.tasks.episode import EpisodeView
from quickstudy.tasks.sine_or_line import value

Probabilities = Float[Array, "families cells"]


class SineOrLinePosterior(AbstractLearner):
    """Weighs `cells` times `cells` waves and as many lines by the support; `noise` is that of the support's targets.

    Fast: the probability of every function (2, cells * cells), waves first. Answers with the posterior mean.

    >>> from quickstudy.tasks.sine_or_line import SineOrLine
    >>> task = SineOrLine(shot=40, fewest=40).sample(jax.random.key(1), "test")
    >>> fast = SineOrLinePosterior(0.3).begin(task.view(), jax.random.key(0))
    >>> bool(task.latent["line"]), round(float(fast[1].sum()), 3)
    (True, 1.0)
    """

    noise: float
    cells: int = eqx.field(static=True, default=96)  # ours: a line's slope is known to a sixteenth, its value to 0.3 at the ends

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Probabilities:
        y, known = view.support_y[None, None, :, 0], view.known()[None, None, :]
        missed = jnp.where(known, (self.values(view.support_x) - y) / self.noise, 0.0)
        log = -0.5 * jnp.sum(missed**2, axis=2)
        return jax.nn.softmax(log.ravel()).reshape(log.shape)

    def respond(self, fast: Probabilities, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query 1"]:
        return jnp.einsum("fc,fcq->q", fast, self.values(view.query_x))[:, None]

    def observe(self, fast: Array, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Array:
        return fast

    def values(self, x: Float[Array, "points 1"]) -> Float[Array, "families cells points"]:
        """Every function of the grid at every point."""
        middle = (jnp.arange(float(self.cells)) + 0.5) / self.cells
        first, second = (part.ravel()[None, :, None] for part in jnp.meshgrid(middle, middle))
        return value(jnp.array([False, True])[:, None, None], first, second, x[:, 0][None, None, :])
