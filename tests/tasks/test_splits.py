"""Slices of an interval: no value belongs to two splits, and together they are the interval."""

import jax
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from quickstudy.tasks.splits import draw_in_split

PLACES = {"train": {0, 1, 2, 3, 5, 6, 7, 8}, "valid": {4}, "test": {9}}


def draws(split, low, high, n=20_000):
    return np.asarray(jax.vmap(lambda key: draw_in_split(key, split, low, high))(jr.split(jr.key(0), n)), float)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-5.0, 5.0), (0.0, np.pi)])
@pytest.mark.parametrize("split", PLACES)
def test_a_split_fills_its_own_slices_and_no_other(split, low, high):
    slices = np.floor(100 * (draws(split, low, high) - low) / (high - low)).astype(int)
    assert set(slices.tolist()) == {10 * block + place for block in range(10) for place in PLACES[split]}


@pytest.mark.parametrize("split", PLACES)
def test_a_split_is_drawn_uniformly(split):
    slices, occurrences = np.unique(np.floor(100 * draws(split, 0.0, 1.0)), return_counts=True)
    share = 1 / len(slices)
    assert np.abs(occurrences / 20_000 - share).max() < 5 * (share / 20_000) ** 0.5


def test_a_split_without_slices_is_refused(monkeypatch):
    with pytest.raises(ValueError, match=r"split must be one of \['test', 'train', 'valid'\] here, not 'out-of-range'"):
        draw_in_split(jr.key(0), "out-of-range", 0.0, 1.0)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="not 'dev'"):
        draw_in_split(jr.key(0), "dev", 0.0, 1.0)
