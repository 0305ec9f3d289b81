"""Worlds drawn in characters: a page shows a rectangle of the plane, y upwards; characters are twice as high as wide."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

# What an axis of a page spans: (low, high).
Span = tuple[float, float]
# An x and a y.
Place = Sequence[float] | Float[np.ndarray, "2"]


class Page:
    """A sheet of `rows` by `columns` characters that shows `x` times `y` of the plane. What lies outside is not drawn.

    >>> page = Page(2, 4, x=(0.0, 1.0), y=(0.0, 1.0))
    >>> page.line((0.0, 0.0), (1.0, 0.0), "-")
    >>> page.mark((1.0, 1.0), "o")
    >>> print(page.text())
       o
    ----
    """

    def __init__(self, rows: int, columns: int, *, x: Span, y: Span):
        self.cells = np.full((rows, columns), " ")
        self.x, self.y = x, y

    def mark(self, place: Place, sign: str) -> None:
        """Put one character at a place (x, y)."""
        self._put(np.asarray([place], float), sign)

    def line(self, start: Place, stop: Place, sign: str) -> None:
        """A straight line of characters between two places."""
        along = np.linspace(0.0, 1.0, 2 * max(self.cells.shape))[:, None]
        self._put((1 - along) * np.asarray(start, float) + along * np.asarray(stop, float), sign)

    def _put(self, places: Float[np.ndarray, "n 2"], sign: str) -> None:
        rows, columns = self.cells.shape
        row = np.rint((self.y[1] - places[:, 1]) / (self.y[1] - self.y[0]) * (rows - 1)).astype(int)
        column = np.rint((places[:, 0] - self.x[0]) / (self.x[1] - self.x[0]) * (columns - 1)).astype(int)
        inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
        self.cells[row[inside], column[inside]] = sign

    def text(self) -> str:
        """The page as lines, without blanks at their ends."""
        return "\n".join("".join(row).rstrip() for row in self.cells)
