"""Line charts as inline SVG: intervals as bands, reference lines dashed, a legend, and the numbers in a table below."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from quickstudy.report.html import STYLE, details, escape, number, table

# The drawing's own units; the page scales it. Wide margins on the left hold tick labels like -0.0025.
_WIDTH, _HEIGHT = 520, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 14, 48
_COLOURS = 6
_MOST_MARKS = 25  # ours: more dots than that hide the line
_MOST_POINTS = 300  # ours: more cannot be told apart in a drawing this wide


Number = int | float


class Series(NamedTuple):
    """One line: `x` and `y` of shape `(n,)`, optionally an interval `low` to `high` of that shape; dashed for references."""

    name: str
    x: Sequence[Number] | Num[np.ndarray, " n"]
    y: Sequence[Number] | Num[np.ndarray, " n"]
    low: Sequence[Number] | Num[np.ndarray, " n"] | None = None
    high: Sequence[Number] | Num[np.ndarray, " n"] | None = None
    dashed: bool = False


class _Line(NamedTuple):
    """A series as arrays of one length."""

    name: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None
    dashed: bool


class _Scale(NamedTuple):
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: Number, high: Number, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, steps of 1, 2 or 5 times a power of ten.

    >>> ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / (most - 1)
    power = 10 ** math.floor(math.log10(rough))
    # The hair absorbs rounding, so that a step that fits exactly is not passed over.
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_range: tuple[Number, Number] | None = None,
    note: str = "",
) -> str:
    """A chart of one or more lines as an accessible figure, with its numbers in a folded table.

    `y_range` fixes the vertical axis (accuracy: `(0, 1)`); otherwise it fits the lines. Long lines are averaged to 300 points at most.
    Raises `ValueError` without any finite point, or if lengths differ.
    """
    lines = [_shorten(_require_equal_lengths(one)) for one in series]
    drawing = _drawing(lines, x_label, y_label, y_range)  # which finds out whether there is anything to draw
    remark = f'<p class="subtitle">{escape(note)}</p>' if note else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_described(lines, title, x_label, y_label)}">'
        f"{drawing}</svg>{_legend(lines)}{remark}{_numbers(lines, x_label)}</figure>"
    )


_NAMES, _APART = 80, 16  # units at the right for the names of lines, and from one name to the next


def picture(series: Sequence[Series], *, title: str, x_label: str, y_label: str, y_range: tuple[Number, Number] | None = None) -> str:
    """The drawing of `line_chart` as an SVG file of its own, each line's name at its end. Raises as `line_chart` does.

    >>> picture([Series("large", [1, 2], [0.3, 0.6])], title="Sizes", x_label="tokens", y_label="return").startswith("<svg xmlns")
    True
    """
    lines, style = [_shorten(_require_equal_lengths(one)) for one in series], STYLE.read_text()
    # Of the page's style the light colours and the rules for charts: alone it has a light ground, whatever the page around it has.
    rules = [
        style.partition("@media")[0],
        *(line for line in style.splitlines() if line.startswith(".chart ")),
        ".chart { background: var(--card) }",
    ]
    drawing, heights, lowest = _drawing(lines, x_label, y_label, y_range), {}, -math.inf
    for height, i in sorted((_vertical(lines, y_range)(float(line.y[-1])), i) for i, line in enumerate(lines)):
        heights[i] = lowest = max(height, lowest + _APART)
    names = "".join(
        f'<text x="{_WIDTH - _RIGHT + 8}" y="{heights[i]:.1f}" dominant-baseline="middle" '
        f'style="fill: var(--series-{i % _COLOURS})">{escape(line.name)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {_WIDTH + _NAMES} {_HEIGHT}" role="img" '
        f'aria-label="{_described(lines, title, x_label, y_label)}"><style>{" ".join(rules)}</style>{drawing}{names}</svg>'
    )


def _described(lines: Sequence[_Line], title: str, x_label: str, y_label: str) -> str:
    ends = "; ".join(f"{line.name}: from {number(float(line.y[0]))} to {number(float(line.y[-1]))}" for line in lines)
    return f"{escape(title)}. {escape(y_label)} against {escape(x_label)}. {escape(ends)}"


def _vertical(lines: Sequence[_Line], y_range: tuple[Number, Number] | None) -> _Scale:
    return _Scale(*(y_range or _span(_heights(lines))), _HEIGHT - _BOTTOM, _TOP)


def _drawing(lines: Sequence[_Line], x_label: str, y_label: str, y_range: tuple[Number, Number] | None) -> str:
    across = _Scale(*_span(np.concatenate([np.empty(0), *(line.x for line in lines)])), _LEFT, _WIDTH - _RIGHT)
    up = _vertical(lines, y_range)
    return _axes(across, up, x_label, y_label) + "".join(_draw(i, line, across, up) for i, line in enumerate(lines))


def _require_equal_lengths(one: Series) -> _Line:
    x, y, low, high = (None if values is None else np.asarray(values, float) for values in (one.x, one.y, one.low, one.high))
    assert x is not None
    assert y is not None
    shapes = [array.shape for array in (x, y, low, high) if array is not None]
    if len(set(shapes)) != 1 or x.ndim != 1:
        raise ValueError(f"x, y, low and high of series {one.name!r} must have one length, not shapes {shapes}")
    return _Line(one.name, x, y, low, high, one.dashed)


def _shorten(line: _Line) -> _Line:
    if len(line.x) <= _MOST_POINTS:
        return line
    starts = np.arange(0, len(line.x), -(-len(line.x) // _MOST_POINTS))
    counts = np.diff(starts, append=len(line.x))
    mean = lambda values: np.add.reduceat(values, starts) / counts
    low, high = (None if values is None else mean(values) for values in (line.low, line.high))
    return _Line(line.name, mean(line.x), mean(line.y), low, high, line.dashed)


def _heights(lines: Sequence[_Line]) -> np.ndarray:
    return np.concatenate([np.empty(0), *(v for line in lines for v in (line.y, line.low, line.high) if v is not None)])


def _span(values: np.ndarray) -> tuple[float, float]:
    """The range of an axis: the finite values', widened where they are all equal."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("a chart needs at least one finite point")
    low, high = float(finite.min()), float(finite.max())
    if high - low > 1e-9 * max(abs(low), abs(high), 1e-12):
        return low, high
    return low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)


def _draw(index: int, line: _Line, across: _Scale, up: _Scale) -> str:
    colour = f"var(--series-{index % _COLOURS})"
    place = lambda x, y: (across(x), min(max(up(y), _TOP), _HEIGHT - _BOTTOM))
    trace = lambda points: " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    style = f'fill="none" stroke="{colour}" stroke-width="2.2" stroke-linejoin="round"{_dashes(line)}'
    drawn = [f'<polyline points="{trace(part)}" {style}/>' for part in _finite_parts(line)]
    if line.low is not None and line.high is not None and np.isfinite(line.low).all() and np.isfinite(line.high).all():
        outline = [*zip(line.x, line.high, strict=True), *zip(line.x[::-1], line.low[::-1], strict=True)]
        drawn.insert(0, f'<polygon points="{trace(outline)}" fill="{colour}" fill-opacity="0.16"/>')
    # Few points are marked, and a pointer resting on one shows its numbers.
    marked = [(x, y) for x, y in zip(line.x, line.y, strict=True) if len(line.x) <= _MOST_MARKS and np.isfinite(y)]
    for x, y in marked:
        (cx, cy), title = place(x, y), escape(f"{line.name}: {number(float(y))} at {number(float(x))}")
        drawn.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3.4" fill="{colour}"><title>{title}</title></circle>')
    return "".join(drawn)


def _finite_parts(line: _Line) -> Iterator[list[tuple[float, float]]]:
    """The stretches of a line between values that are not finite."""
    part: list[tuple[float, float]] = []
    for x, y in zip(line.x, line.y, strict=True):
        if np.isfinite(y):
            part.append((x, y))
        elif part:
            yield part
            part = []
    if part:
        yield part


def _dashes(line: _Line) -> str:
    return ' stroke-dasharray="7 5"' if line.dashed else ""


def _axes(across: _Scale, up: _Scale, x_label: str, y_label: str) -> str:
    bottom, middle = _HEIGHT - _BOTTOM, (_TOP + _HEIGHT - _BOTTOM) / 2
    parts = []
    for value in ticks(up.low, up.high, 6):
        height = f"{up(value):.1f}"
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{height}" text-anchor="end" dominant-baseline="middle">{value:g}</text>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    for value in ticks(across.low, across.high, 7):
        parts.append(f'<text x="{across(value):.1f}" y="{bottom + 19}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text transform="translate(15 {middle}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>')
    return "".join(parts)


def _legend(lines: Sequence[_Line]) -> str:
    swatch = lambda i, line: (
        f'<svg viewBox="0 0 36 14" aria-hidden="true"><line x1="1" x2="35" y1="7" y2="7" stroke="var(--series-{i % _COLOURS})" '
        f'stroke-width="4"{_dashes(line)}/></svg>'
    )
    return f'<ul class="legend">{"".join(f"<li>{swatch(i, line)}{escape(line.name)}</li>" for i, line in enumerate(lines))}</ul>'


def _numbers(lines: Sequence[_Line], x_label: str) -> str:
    rows: list[list[str | float]] = []
    for line in lines:
        for i in np.unique(np.linspace(0, len(line.x) - 1, 25).round().astype(int)):
            bounds = "" if line.low is None or line.high is None else f"{line.low[i]:.4g} to {line.high[i]:.4g}"
            rows.append([line.name, float(line.x[i]), float(line.y[i]), bounds])
    return details("Numbers", table(rows, ["line", x_label, "value", "interval"]))
