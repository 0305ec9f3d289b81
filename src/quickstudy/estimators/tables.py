"""Tables as a prior-fitted network reads them: numbers with NaN for empty cells, of a few sizes only.

A member of an ensemble sees a table in its own way: its categories are numbered in another order, and every second member sees the
rank of a number instead of the number.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

ROWS = (64, 128, 256, 512, 1_024, 2_048)  # the sizes that programs are compiled for
COLUMNS = (8, 16, 32, 64, 100)

Table = Float[np.ndarray, "rows columns"]


def padded(x: Table, rows: int, columns: int) -> Float[np.ndarray, "more_rows more_columns"]:
    """The table in the corner of a larger one whose other cells are empty, in single precision.

    >>> padded(np.ones((1, 1)), 2, 2).tolist()
    [[1.0, nan], [nan, nan]]
    """
    larger = np.full((rows, columns), np.nan, np.float32)
    larger[: x.shape[0], : x.shape[1]] = np.clip(x, -3e38, 3e38)
    return larger


def smallest(sizes: tuple[int, ...], n: int) -> int:
    """The first of some sizes that is large enough; the last one's multiples go on.

    >>> smallest((2, 4), 3), smallest((2, 4), 9)
    (4, 12)
    """
    return next((size for size in sizes if size >= n), -(-n // sizes[-1]) * sizes[-1])


class Look(NamedTuple):
    """How one member sees a table: new numbers of categories (none for plain columns), and the sorted values that ranks refer to."""

    codes: list[np.ndarray | None]
    sorted: list[np.ndarray] | None

    def __call__(self, x: Table) -> Table:
        """The table as the member sees it."""
        seen = x.astype(float)
        for column, codes in enumerate(self.codes):
            if codes is not None:
                there = ~np.isnan(x[:, column])
                seen[there, column] = codes[x[there, column].astype(int)]
            elif self.sorted is not None:
                seen[:, column] = normal_ranks(x[:, column], self.sorted[column])
        return seen


def normal_ranks(x: Float[np.ndarray, " rows"], reference: Float[np.ndarray, " values"]) -> Float[np.ndarray, " rows"]:
    """The normal quantile of each number's rank among the sorted reference, ties in the middle; NaN stays NaN.

    >>> normal_ranks(np.array([2.0]), np.array([1.0, 2.0, 3.0])).tolist()
    [0.0]
    """
    if not len(reference):
        return np.full(len(x), np.nan)
    below, upto = np.searchsorted(reference, x, "left"), np.searchsorted(reference, x, "right")
    ranks = ndtri((below + upto + 1) / (2 * len(reference) + 2))
    return np.where(np.isnan(x), np.nan, ranks)


def draw_look(member: int, x: Table, categorical: list[int], random: np.random.Generator) -> Look:
    """The look of a member: the first one's is plain, the others' categories are shuffled, every second one sees ranks."""
    shuffle = lambda n: random.permutation(n) if member else np.arange(n)
    levels = lambda values: int(np.nanmax(values, initial=-1)) + 1
    codes = [shuffle(levels(x[:, i])) if i in categorical else None for i in range(x.shape[1])]
    ranks = [np.sort(column[~np.isnan(column)]) for column in x.T] if member % 2 else None
    return Look(codes, ranks)
