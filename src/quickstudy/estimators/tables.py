"""Tables as a prior-fitted network reads them: numbers with NaN for empty cells, of a few sizes only.

Numbers stay numbers; the values of a categorical column become codes 0, 1, ...; what was not there at `fit` counts as an empty cell.
A member of an ensemble sees a table in its own way: its categories are numbered in another order, and every second member sees the
rank of a number instead of the number.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtri
from sklearn.base import BaseEstimator
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils.validation import check_array, validate_data

ROWS = (256, 1_024, 2_048)  # the sizes that programs are compiled for: few, as compiling one takes longer than using the next
COLUMNS = (8, 32, 64, 100)

Table = Float[np.ndarray, "rows columns"]


# --- From what users have to numbers ------------------------------------------------------------------------------------------------


def categorical_columns(X: Any, wanted: Sequence[int | str] | None) -> list[int]:
    """The numbers of the categorical columns: those asked for by number or name, and those of a data frame's categorical dtype.

    Raises `ValueError` for a column that is not there.
    """
    names = list(getattr(X, "columns", ()))
    found = {i for i, dtype in enumerate(X.dtypes) if str(dtype) == "category"} if names else set()
    if wanted is None:
        return sorted(found)
    n_columns = np.shape(X)[1] if len(np.shape(X)) == 2 else 0
    for column in wanted:
        number = names.index(column) if column in names else column
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < n_columns:
            raise ValueError(f"categorical must list columns of X by name or by number below {n_columns}, not {column!r}")
        found.add(int(number))
    return sorted(found)


def read(estimator: BaseEstimator, X: Any, columns: list[int], **rest: Any) -> tuple[Table, np.ndarray, Any]:
    """What an estimator is given, checked: the numbers of a table (NaN where categorical), its categorical columns as objects, and y.

    `rest` goes to scikit-learn's `validate_data`, whose `ValueError` and `TypeError` are raised for what no estimator reads: infinite
    numbers, text in numeric columns, another number of columns than at `fit`, no rows.
    """
    if hasattr(X, "isna") and hasattr(X, "columns"):
        # Numbers have types of their own, and need not be looked through.
        holds_text = lambda i: X.dtypes.iloc[i].kind == "O" and any(isinstance(value, str) for value in X.iloc[:, i])
        text = [name for i, name in enumerate(X.columns) if i not in columns and holds_text(i)]
        if text:
            raise ValueError(f"could not convert string to float: column {text[0]!r} of X holds text; list it in categorical")
        X = X.astype(object).where(~X.isna(), np.nan) if columns else X  # a data frame has several kinds of nothing
    kind = {"dtype": object, "ensure_all_finite": False} if columns else {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
    found = validate_data(estimator, X, **kind, **rest)
    table, y = found if isinstance(found, tuple) else (found, None)
    if not columns:
        return table, np.empty((len(table), 0), object), y
    values, numbers = table[:, columns].copy(), table.copy()
    values[np.vectorize(lambda value: value is None or value != value, otypes=[bool])(values)] = np.nan
    numbers[:, columns] = np.nan
    return check_array(numbers, ensure_all_finite="allow-nan", dtype=np.float64), values, y


def learn_codes(values: np.ndarray, categories: list[np.ndarray] | None = None) -> OrdinalEncoder:
    """The encoder of categorical columns: codes in the order of the values seen, or of the given ones; NaN for the rest."""
    encoder = OrdinalEncoder(
        categories=categories or "auto", handle_unknown="use_encoded_value", unknown_value=np.nan, encoded_missing_value=np.nan
    )
    return encoder.fit(np.array([[one[0] for one in categories]], object) if categories else values)


# --- From numbers to what the network reads -----------------------------------------------------------------------------------------


def padded(x: Table, rows: int, columns: int) -> Float[np.ndarray, "more_rows more_columns"]:
    """The table in the corner of a larger one whose other cells are empty, in single precision.

    >>> padded(np.ones((1, 1)), 2, 2).tolist()
    [[1.0, nan], [nan, nan]]
    """
    larger = np.full((rows, columns), np.nan, np.float32)
    larger[: x.shape[0], : x.shape[1]] = x
    return larger


def smallest(sizes: tuple[int, ...], n: int) -> int:
    """The first of some sizes that is large enough; the last one's multiples go on.

    >>> smallest((2, 4), 3), smallest((2, 4), 9)
    (4, 12)
    """
    return next((size for size in sizes if size >= n), -(-n // sizes[-1]) * sizes[-1])


class Look(NamedTuple):
    """How one member sees a table: new numbers of categories (None: a column of numbers), the sorted values that ranks refer to (None:
    no ranks), and what to subtract and to divide by, in double precision, before single precision loses small differences."""

    codes: list[Int[np.ndarray, " levels"] | None]
    sorted: list[Float[np.ndarray, " values"]] | None
    middle: Float[np.ndarray, " columns"]
    size: Float[np.ndarray, " columns"]

    def __call__(self, x: Table) -> Table:
        """The table as the member sees it."""
        with np.errstate(over="ignore"):
            seen = np.clip(x / self.size - self.middle / self.size, -1e6, 1e6)
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
    """The look of a member at training rows: the first one's is plain, the others shuffle categories, and every second sees ranks."""
    there = [column[~np.isnan(column)] for column in x.T]
    shuffle = lambda n: random.permutation(n) if member else np.arange(n)
    codes = [shuffle(int(np.max(there[i], initial=-1)) + 1) if i in categorical else None for i in range(x.shape[1])]
    middle = np.array([np.median(values) if len(values) else 0.0 for values in there])
    spread = lambda values, m: np.max(np.abs(values / 2 - m / 2), initial=0.0)  # halves: their difference cannot overflow
    size = np.array([spread(values, m) for values, m in zip(there, middle, strict=True)])
    return Look(codes, [np.sort(values) for values in there] if member % 2 else None, middle, np.where(size > 0, size, 1.0))
