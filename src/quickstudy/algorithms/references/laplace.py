"""The best predictor of loaded dice: counts, and Laplace's rule.

    p(side) = (times it came up + 1) / (throws + sides)

Source: Laplace 1814, "Essai philosophique sur les probabilites"; as the posterior predictive distribution under a Dirichlet prior:
Gelman et al. 2013, "Bayesian Data Analysis", section 3.4.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner


class Laplace(AbstractLearner):
    """Counts how often each side came up.

    >>> import jax
    >>> rule, key = Laplace(2), jax.random.key(0)
    >>> [round(float(p), 3) for p in jnp.exp(rule.respond(jnp.array([1.0, 2.0]), jnp.zeros(2), key))]
    [0.4, 0.6]
    """

    sides: int = eqx.field(static=True)

    def begin(self, view: Float[Array, " sides"], key: PRNGKeyArray) -> Float[Array, " sides"]:
        return jnp.zeros(self.sides)

    def respond(self, fast: Float[Array, " sides"], view: Array, key: PRNGKeyArray) -> Float[Array, " sides"]:
        return jnp.log(fast + 1) - jnp.log(jnp.sum(fast) + self.sides)

    def observe(self, fast: Array, view: Array, response: Array, feedback: Float[Array, " sides"], key: PRNGKeyArray) -> Array:
        return fast + feedback
