"""Persistent ES: evolution strategies over short windows of long lives, without the bias of truncation.

Each pair remembers the sum of all perturbations since its life began and weighs it, not the last one, by the window's loss:

gradient = mean over pairs of (loss(mean + e) - loss(mean - e)) / (2 deviation^2) * (sum of e since birth).
Source: Vicol, Metz and Sohl-Dickstein 2021, "Unbiased Gradient Estimation in Unrolled Computation Graphs with Persistent Evolution
Strategies", algorithm 2. With windows as long as the life it is OpenES.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from quickstudy.strategies.base import Mean, Strategy
from quickstudy.strategies.open_es import draw_perturbations, estimate_gradient, mirror


class PersistentESState(NamedTuple):
    """The sum of each pair's perturbations since its birth, stacked `(pairs, ...)`, and the optimiser's state."""

    accumulated: Mean
    optimizer: optax.OptState


def persistent_es(optimizer: optax.GradientTransformation, *, pairs: int, deviation: float) -> Strategy:
    """A persistent strategy that feeds its gradient estimate to an Optax optimiser; used as `open_es` is."""

    def init(mean: Mean) -> PersistentESState:
        return PersistentESState(jax.tree.map(lambda m: jnp.zeros((pairs, *m.shape), m.dtype), mean), optimizer.init(mean))

    def ask(state: PersistentESState, mean: Mean, key: PRNGKeyArray, fresh: Bool[Array, " pairs"]) -> tuple[PersistentESState, Mean]:
        drawn = draw_perturbations(key, mean, pairs, deviation)
        keep = lambda a, e: jnp.where(fresh.reshape((-1,) + (1,) * (a.ndim - 1)), 0.0, a) + e
        return state._replace(accumulated=jax.tree.map(keep, state.accumulated, drawn)), mirror(mean, drawn)

    def tell(state: PersistentESState, mean: Mean, losses: Float[Array, " members"]) -> tuple[PersistentESState, Mean]:
        gradient = estimate_gradient(state.accumulated, losses, deviation)
        # Optax's own arithmetic promotes integers and floats; ours does not.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, mean)
        return state._replace(optimizer=optimizer_state), optax.apply_updates(mean, updates)

    return Strategy(pairs, init, ask, tell)
