"""Random networks: functions drawn by drawing the weights of a small tanh network, a Bayesian neural network's prior.

    y = v . tanh(W x + b) + noise * e,      W ~ N(0, s^2 / inputs),   b ~ N(0, s^2),   v ~ N(0, 1 / hidden)

The posterior has no closed form: `predictive` approximates it by importance sampling from the prior, which is exact in the
limit of many draws.

Source: Neal 1996, "Bayesian Learning for Neural Networks", chapter 2. "out-of-range" has first-layer weights twice as large.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import Split
from quickstudy.tasks.curves import AbstractCurves, require_ranges
from quickstudy.tasks.episode import EpisodeTask


class Networks(NamedTuple):
    """The weights of `networks` networks."""

    first: Float[Array, "networks dimensions hidden"]
    biases: Float[Array, "networks hidden"]
    last: Float[Array, "networks hidden"]


class RandomNetworks(AbstractCurves):
    """Regression episodes over functions drawn from a Bayesian neural network's prior.

    `hidden` is the number of tanh units, `spread` the standard deviation s of what goes into them, and `noise` that of the targets.
    Latent: the weights. Sizes are those of `AbstractCurves`.

    Raises `ValueError` unless `hidden` is at least one, and `spread` and `noise` are above zero.

    >>> RandomNetworks(shot=5).sample(jax.random.key(0), "test").support_x.shape
    (5, 1)
    """

    hidden: int = eqx.field(static=True, default=16)  # ours: enough for functions of many shapes
    spread: float = 2.0  # ours: two or three turns in the range of inputs
    noise: float = 0.2  # ours: importance sampling from the prior still works

    def __check_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"hidden must be at least 1, not {self.hidden}")
        require_ranges({"spread": (self.spread, self.spread), "noise": (self.noise, self.noise)})

    def observe(
        self, key: PRNGKeyArray, x: Float[Array, "n dimensions"], split: Split
    ) -> tuple[Float[Array, " n"], dict[str, Networks]]:
        weights_key, noise_key = jr.split(key)
        weights = self.networks(weights_key, 1, 2.0 if split == "out-of-range" else 1.0)
        return network_values(weights, x)[0] + self.noise * jr.normal(noise_key, (x.shape[0],)), {"weights": weights}

    def networks(self, key: PRNGKeyArray, n: int, larger: float = 1.0) -> Networks:
        """The weights of `n` networks of the prior, those of the first layer `larger` times as large."""
        # One draw for everything compiles sooner than three.
        drawn = jr.normal(key, (n, (self.dimensions + 2) * self.hidden))
        first, biases, last = jnp.split(drawn, [self.dimensions * self.hidden, (self.dimensions + 1) * self.hidden], axis=1)
        first = larger * self.spread / self.dimensions**0.5 * first.reshape(n, self.dimensions, self.hidden)
        return Networks(first, self.spread * biases, last / self.hidden**0.5)

    def predictive(
        self, task: EpisodeTask, key: PRNGKeyArray, *, batches: int, batch: int = 4096
    ) -> tuple[Float[Array, " query"], Float[Array, ""]]:
        """The posterior predictive's log density of every query's target, and the effective sample size.

        Self-normalised importance sampling: `batches` times `batch` draws of the prior count by their likelihood of the support.
        Source: Owen 2013, "Monte Carlo theory, methods and examples", sections 9.2 and 9.3.
        """

        def sums(key: PRNGKeyArray) -> tuple[Array, Array, Array]:
            weights, density = self._likelihoods(task, self.networks(key, batch))
            add = lambda terms: jax.nn.logsumexp(terms, axis=0)
            return add(weights), add(2 * weights), add(weights[:, None] + density)

        total, squares, weighted = (jax.nn.logsumexp(part, axis=0) for part in jax.lax.map(sums, jr.split(key, batches)))
        return weighted - total[None], jnp.exp(2 * total - squares)

    def _likelihoods(self, task: EpisodeTask, networks: Networks) -> tuple[Float[Array, " networks"], Float[Array, "networks query"]]:
        """The log density that each network gives to the support's targets together, and to each query's."""
        values = network_values(networks, jnp.concatenate([task.support_x, task.query_x]))
        targets = jnp.concatenate([task.support_y, task.query_y]).T
        support, queries = jnp.split(jax.scipy.stats.norm.logpdf(targets, values, self.noise), [task.support_x.shape[0]], axis=1)
        return jnp.sum(jnp.where(task.view().known()[None], support, 0.0), axis=1), queries


def network_values(networks: Networks, x: Float[Array, "n dimensions"]) -> Float[Array, "networks n"]:
    """The value of every network at every input."""
    hidden = jnp.tanh(jnp.einsum("nd,kdh->knh", x, networks.first) + networks.biases[:, None])
    return jnp.einsum("knh,kh->kn", hidden, networks.last)
