"""The scaling figure of the generalist's guide, from the evidence of `gato-mini`: `python -m quickstudy.claims_figure`."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quickstudy import evidence
from quickstudy.algorithms.imitation import gato_mini
from quickstudy.report.charts import Series, picture

FIGURE = Path("docs/guides/gato-mini.svg")


def drawn(results: Path) -> str:
    """The mean normalised return of each size against the tokens that it was trained on, with 95 % intervals, as an SVG file."""
    found = evidence.latest("gato-mini", results)
    assert found is not None
    arms, tokens = found["arms"], gato_mini.tokens(found["scale"])
    shares = np.arange(1, len(gato_mini.POINTS) + 1) / len(gato_mini.POINTS)
    series = []
    for size in gato_mini.SIZES:
        points = [arms[f"{size}: {point}"] for point in gato_mini.POINTS]
        mean, low, high = ([point[which] for point in points] for which in ("mean", "low", "high"))
        series.append(Series(size, tokens * shares / 1_000, mean, low, high))
    return picture(
        series,
        title="Three sizes of a generalist at equal tokens",
        x_label="thousand tokens",
        y_label="mean normalised return",
        y_range=(0, 1),
    )


def main(arguments: Sequence[str]) -> int:
    """Draw the figure anew in the current folder, or in the one that is given."""
    folder = Path(*arguments[:1])
    (folder / FIGURE).write_text(drawn(folder / "results") + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
