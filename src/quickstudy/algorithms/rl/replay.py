"""Replay: what was lived through, kept to learn from again, and drawn evenly or by priority. Pure functions on a tree of arrays.

Source: Lin 1992, "Self-Improving Reactive Agents Based on Reinforcement Learning, Planning and Teaching"; priorities: Schaul et al.
2016, "Prioritized Experience Replay".
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Replay(NamedTuple):
    """A store of `capacity` places, in which the newest items overwrite the oldest.

    `items` is a tree of arrays `(capacity, ...)`; an item is drawn in proportion to its priority, zero where nothing was put yet;
    `added` counts all items that were ever put in.
    """

    items: Any
    priorities: Float[Array, " capacity"]
    added: Int[Array, ""]

    @property
    def size(self) -> Int[Array, ""]:
        """How many items there are."""
        return jnp.minimum(self.added, self.priorities.shape[0])


class Drawn(NamedTuple):
    """Items drawn from a store, `(n, ...)`, the places where they lie, and the probability with which each was drawn."""

    items: Any
    places: Int[Array, " n"]
    probabilities: Float[Array, " n"]


def empty(item: Any, capacity: int) -> Replay:
    """A store for items like this one (arrays, or their shapes). Raises `ValueError` for a capacity below one.

    >>> int(empty(jnp.zeros(3), 100).size)
    0
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, not {capacity}")
    items = jax.tree.map(lambda leaf: jnp.zeros((capacity, *leaf.shape), leaf.dtype), item)
    return Replay(items, jnp.zeros(capacity), jnp.zeros((), jnp.int32))


def add(replay: Replay, items: Any) -> Replay:
    """Put in items `(n, ...)`, with the largest priority there is (one in an empty store), so that each is likely to be seen once.

    Raises `ValueError` for more items than there are places.

    >>> replay = add(empty(jnp.zeros(()), 3), jnp.arange(2.0))
    >>> add(replay, jnp.array([5.0, 6.0])).items.tolist()
    [6.0, 1.0, 5.0]
    """
    n, capacity = jax.tree.leaves(items)[0].shape[0], replay.priorities.shape[0]
    if n > capacity:
        raise ValueError(f"items must be at most the {capacity} that there is room for, not {n}")
    places = (replay.added + jnp.arange(n)) % capacity
    kept = jax.tree.map(lambda old, new: old.at[places].set(new, unique_indices=True), replay.items, items)
    largest = jnp.max(replay.priorities)
    priorities = replay.priorities.at[places].set(jnp.where(largest > 0, largest, 1.0), unique_indices=True)
    return Replay(kept, priorities, replay.added + n)


def draw_evenly(replay: Replay, n: int, key: PRNGKeyArray) -> Drawn:
    """Draw `n` items, each as likely as any other, with replacement. The store must hold at least one."""
    size = jnp.maximum(replay.size, 1)
    places = jr.randint(key, (n,), 0, size)
    probabilities = jnp.full(n, 1 / size.astype(jnp.float32))
    return Drawn(jax.tree.map(lambda leaf: leaf[places], replay.items), places, probabilities)


def draw_by_priority(replay: Replay, n: int, key: PRNGKeyArray) -> Drawn:
    """Draw `n` items in proportion to their priorities: one from each of `n` equal parts of their sum. The store must hold one.

    Source of the parts: Schaul et al. 2016, appendix B.2.1.
    """
    # A running sum of all priorities is faster than a tree of partial sums up to some 50,000 places, and shorter.
    upto = jnp.cumsum(replay.priorities)
    targets = (jnp.arange(n, dtype=jnp.float32) + jr.uniform(key, (n,))) / n * upto[-1]
    # Rounding may lead past the last item.
    places = jnp.minimum(jnp.searchsorted(upto, targets, side="right"), replay.size - 1)
    items = jax.tree.map(lambda leaf: leaf[places], replay.items)
    return Drawn(items, places, replay.priorities[places] / upto[-1])


def reprioritise(replay: Replay, places: Int[Array, " n"], priorities: Float[Array, " n"]) -> Replay:
    """Give the items at these places new priorities, which must be positive.

    >>> replay = add(empty(jnp.zeros(()), 3), jnp.arange(2.0))
    >>> reprioritise(replay, jnp.array([1]), jnp.array([4.0])).priorities.tolist()
    [1.0, 4.0, 0.0]
    """
    return replay._replace(priorities=replay.priorities.at[places].set(priorities))
