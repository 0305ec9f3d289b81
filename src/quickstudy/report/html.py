"""One self-contained HTML page: no script, no external resource, light and dark, readable on a phone.

Every block is a string of HTML; texts are escaped where they enter, so blocks can be joined freely.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

Cell = str | int | float | None

# The style sheet is a file of its own, so that editors know its language; it is read once, when a page is made.
STYLE = Path(__file__).with_name("page.css")


class Section(NamedTuple):
    """A part of a page: its heading and its body, a string of HTML made by the blocks."""

    heading: str
    body: str


def escape(text: object) -> str:
    """Text made safe for HTML, also inside attributes.

    >>> escape('a < "b"')
    'a &lt; &quot;b&quot;'
    """
    return html.escape(str(text), quote=True)


def number(value: Cell) -> str:
    """A cell's text: four significant digits for floats, as it is otherwise.

    >>> number(0.123456), number(12), number(None)
    ('0.1235', '12', '')
    """
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def stats(items: Sequence[tuple[str, Cell]]) -> str:
    """The few numbers that matter most, large, each above its name: `(name, value)` pairs."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(number(value))}</dd></div>" for name, value in items)
    return f'<dl class="stats">{cells}</dl>'


def table(rows: Sequence[Sequence[Cell]], header: Sequence[str] = (), *, caption: str = "") -> str:
    """A table of text and numbers; numbers are aligned to the right, the first cell of a row is its heading.

    Raises `ValueError` if a row has not as many cells as the header.
    """
    for row in rows:
        if header and len(row) != len(header):
            raise ValueError(f"every row must have {len(header)} cells like the header, not {len(row)}: {list(row)}")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    numeric = [all(isinstance(row[i], int | float | None) for row in rows) for i in range(len(header))]
    heads = "".join(f'<th scope="col"{_aligned(right)}>{escape(name)}</th>' for name, right in zip(header, numeric, strict=True))
    head = f"<thead><tr>{heads}</tr></thead>" if header else ""
    body = "".join(f"<tr>{''.join(_cell(i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    # Wide tables scroll inside their own box, reachable by keyboard, so that the page never scrolls sideways.
    box = f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption or "table")}">'
    return f"{box}<table>{title}{head}<tbody>{body}</tbody></table></div>"


def _aligned(right: bool) -> str:
    return ' class="number"' if right else ""


def _cell(column: int, value: Cell) -> str:
    aligned = _aligned(isinstance(value, int | float))
    text = escape(number(value))
    return f'<th scope="row"{aligned}>{text}</th>' if column == 0 else f"<td{aligned}>{text}</td>"


def details(summary: str, body: str) -> str:
    """A part that is folded until the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def side_by_side(blocks: Sequence[str]) -> str:
    """Blocks next to each other where the screen is wide enough, below each other on a phone."""
    return f'<div class="side">{"".join(f"<div>{block}</div>" for block in blocks)}</div>'


def page(title: str, sections: Sequence[Section], *, subtitle: str = "", footer: str = "Made by quickstudy.") -> str:
    """A whole page.

    >>> "<h2>Results</h2>" in page("A run", [Section("Results", paragraph("good"))])
    True
    """
    below = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    body = "".join(f"<section><h2>{escape(section.heading)}</h2>{section.body}</section>" for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{STYLE.read_text()}</style></head>\n"
        f"<body><header><h1>{escape(title)}</h1>{below}</header>\n<main>{body}</main>\n"
        f"<footer><p>{escape(footer)}</p></footer></body></html>\n"
    )
