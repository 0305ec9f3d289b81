"""How far predicted probabilities are from what happens: the curve of a reliability diagram, and its one-number summary.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

BINS = 10  # ours; Guo et al. 2017: 15, for tens of thousands of predictions


class Reliability(NamedTuple):
    """For every bin of confidence that has predictions: the mean confidence, the share that was right, and how many there are."""

    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    predictions: Int[np.ndarray, " bins"]


def reliability(probabilities: Float[np.ndarray, "rows classes"], labels: Int[np.ndarray, " rows"]) -> Reliability:
    """What becomes of predictions made with the same confidence, in `BINS` equal bins of it.

    >>> reliability(np.array([[0.95, 0.05], [0.95, 0.05]]), np.array([0, 1])).accuracy.tolist()
    [0.5]
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    there = np.unique(bins)
    mean = lambda values: np.array([values[bins == b].mean() for b in there])
    return Reliability(mean(confidence), mean(right), np.array([np.sum(bins == b) for b in there], int))


def calibration_error(probabilities: Float[np.ndarray, "rows classes"], labels: Int[np.ndarray, " rows"]) -> float:
    """The expected calibration error: how far confidence and accuracy of a bin are apart, averaged over predictions.

    >>> round(calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])), 6)
    0.4
    """
    found = reliability(probabilities, labels)
    return float(np.sum(found.predictions * np.abs(found.confidence - found.accuracy)) / len(labels))
