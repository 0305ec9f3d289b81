"""The exact posterior probability that an arm is best: acting by it is Thompson sampling.

    P(a is best) = integral of p_a(x) prod_{b != a} P_b(x) dx,    p_a the density of Beta(paid + 1, not paid + 1), P_a its integral

Source: Thompson 1933, "On the likelihood that one unknown probability exceeds another in view of the evidence of two samples".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner

_GRID = 512  # ours: errors of a probability are then below a thousandth for a hundred pulls


class PosteriorBest(AbstractLearner):
    """Counts what each arm paid.

    >>> belief, key = PosteriorBest(2), jax.random.key(0)
    >>> paid_once = jnp.array([1.0, 0.0, 0.0, 0.0])
    >>> [round(float(p), 2) for p in jnp.exp(belief.respond(paid_once, paid_once, key))]
    [0.67, 0.33]
    """

    arms: int = eqx.field(static=True)

    def begin(self, view: Float[Array, " pull"], key: PRNGKeyArray) -> Float[Array, " counts"]:
        return jnp.zeros(2 * self.arms)

    def respond(self, fast: Float[Array, " counts"], view: Array, key: PRNGKeyArray) -> Float[Array, " arms"]:
        paid, unpaid = jnp.split(fast, 2)
        x = (jnp.arange(float(_GRID)) + 0.5) / _GRID
        logs = paid[:, None] * jnp.log(x)[None] + unpaid[:, None] * jnp.log1p(-x)[None]
        mass = jax.nn.softmax(logs, axis=1)
        below = jnp.cumsum(mass, axis=1) - mass / 2
        rest = jnp.stack([jnp.prod(jnp.delete(below, arm, axis=0, assume_unique_indices=True), axis=0) for arm in range(self.arms)])
        best = jnp.sum(mass * rest, axis=1)
        return jnp.log(jnp.maximum(best, 1e-9)) - jnp.log(jnp.sum(best))

    def observe(self, fast: Array, view: Array, response: Array, feedback: Float[Array, " pull"], key: PRNGKeyArray) -> Array:
        return fast + feedback
