"""Splits of a continuous parameter that cannot overlap, because each owns its own slices of the interval."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import Split

# Of every ten slices, eight are for training, one for validation, one for the test: interleaved, so all splits span the range.
_SLICES: dict[Split, tuple[int, ...]] = {"train": (0, 1, 2, 3, 5, 6, 7, 8), "valid": (4,), "test": (9,)}


def draw_in_split(key: PRNGKeyArray, split: Split, low: float, high: float, *, blocks: int = 10) -> Float[Array, ""]:
    """Draw uniformly from the part of `[low, high)` that `split` owns.

    The interval is cut into `blocks` times ten slices; of every ten, eight belong to "train", one to "valid", one to "test".
    More blocks bring each split's mean nearer to the middle. "out-of-range" is not a part of any interval: a distribution that has one
    gives its own range and draws from it like a test.

    Raises `ValueError` for a split that has no slices.
    """
    if split not in _SLICES:
        raise ValueError(f"split must be one of {sorted(_SLICES)} here, not {split!r}")
    slices = jnp.asarray([10 * block + i for block in range(blocks) for i in _SLICES[split]], float)
    which, place = jr.uniform(key, (2,))
    chosen = slices[jnp.minimum((which * slices.size).astype(jnp.int32), slices.size - 1)]
    # Stay a hair inside the slice, so that rounding cannot move a value into its neighbour's.
    fraction = (chosen + 0.001 + 0.998 * place) / (10 * blocks)
    return low + (high - low) * fraction
