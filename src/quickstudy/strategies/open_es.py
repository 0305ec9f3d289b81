"""OpenES: a Gaussian cloud around the mean, mirrored; its mean loss is descended along the estimated gradient.

gradient = mean over pairs of (loss(mean + e) - loss(mean - e)) / (2 deviation^2) * e,   e ~ N(0, deviation^2).
Source: Salimans, Ho, Chen, Sidor and Sutskever 2017, "Evolution Strategies as a Scalable Alternative to Reinforcement Learning".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.strategies.base import Mean, Strategy


class OpenESState(NamedTuple):
    """The pairs' current perturbations, stacked `(pairs, ...)`, and the optimiser's state."""

    perturbations: Mean
    optimizer: optax.OptState


def draw_perturbations(key: PRNGKeyArray, mean: Mean, pairs: int, deviation: float) -> Mean:
    """`pairs` independent Gaussian perturbations of a mean, stacked along a first axis."""
    flat, unravel = ravel_pytree(mean)
    # One draw for the whole tree compiles in the time of one leaf's.
    return jax.vmap(unravel)(deviation * jr.normal(key, (pairs, flat.size), flat.dtype))


def mirror(mean: Mean, perturbations: Mean) -> Mean:
    """The members of the antithetic pairs: first all `mean + e`, then all `mean - e`."""
    return jax.tree.map(lambda m, e: jnp.concatenate([m[None] + e, m[None] - e]), mean, perturbations)


def estimate_gradient(perturbations: Mean, losses: Float[Array, " members"], deviation: float) -> Mean:
    """The antithetic estimate of the gradient of the smoothed loss; `losses` in the order of `mirror`."""
    plus, minus = jnp.split(losses, 2)
    weights = (plus - minus) / (2 * deviation**2 * plus.shape[0])
    return jax.tree.map(lambda e: jnp.tensordot(weights, e, axes=1), perturbations)


def open_es(optimizer: optax.GradientTransformation, *, pairs: int, deviation: float) -> Strategy:
    """An OpenES strategy that feeds its gradient estimate to an Optax optimiser.

    >>> import jax, jax.numpy as jnp, optax
    >>> strategy = open_es(optax.sgd(0.1), pairs=64, deviation=0.1)
    >>> mean = jnp.array([1.0])
    >>> state = strategy.init(mean)
    >>> state, members = strategy.ask(state, mean, jax.random.key(0), jnp.zeros(64, bool))
    >>> state, mean = strategy.tell(state, mean, jnp.square(members[:, 0]))
    >>> bool(mean[0] < 1.0)
    True
    """

    def init(mean: Mean) -> OpenESState:
        return OpenESState(jax.tree.map(lambda m: jnp.zeros((pairs, *m.shape), m.dtype), mean), optimizer.init(mean))

    def ask(state: OpenESState, mean: Mean, key: PRNGKeyArray, fresh: Array) -> tuple[OpenESState, Mean]:
        perturbations = draw_perturbations(key, mean, pairs, deviation)
        return state._replace(perturbations=perturbations), mirror(mean, perturbations)

    def tell(state: OpenESState, mean: Mean, losses: Float[Array, " members"]) -> tuple[OpenESState, Mean]:
        gradient = estimate_gradient(state.perturbations, losses, deviation)
        # Optax's own arithmetic promotes integers and floats; ours does not.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, mean)
        return state._replace(optimizer=optimizer_state), optax.apply_updates(mean, updates)

    return Strategy(pairs, init, ask, tell)
