"""The table of claims in the README, made from the evidence in `results/`: `python -m quickstudy.claims_table`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quickstudy import catalog, evidence

BEGIN, END = "<!-- claims -->", "<!-- /claims -->"


def table(results: Path | None = None) -> str:
    """A Markdown table with a row for every claim, from its evidence at the largest scale that was measured."""
    rows = [_row(claim, evidence.latest(claim, results)) for claim in catalog.CLAIMS]
    head = ["claim", "finding", "verdict", "what came out (margins with 95 % intervals)", "the source reports"]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def _row(claim: str, found: dict[str, Any] | None) -> list[str]:
    if found is None:
        return [f"`{claim}`", "", "not measured yet", "", ""]
    outcomes = "<br>".join(f"{item['expectation']}: {_margin(item['margin'])}" for item in found["expected"])
    seconds = sum(repeat["seconds"] for repeat in found["repeats"])
    verdict = f"**{found['verdict']}** ({found['scale']}, {len(found['repeats'])} repeats, {seconds:.0f} s)"
    return [_cell(text) for text in (f"`{claim}`", found["statement"], verdict, outcomes, f"{found['reported']} ({found['source']})")]


def _margin(interval: dict[str, float | None]) -> str:
    bounds = "" if interval["low"] is None else f" ({interval['low']:.3g} to {interval['high']:.3g})"
    return f"{interval['mean']:.3g}{bounds}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def updated(text: str, results: Path | None = None) -> str:
    """A text with the table between its markers renewed. Raises `ValueError` if it does not have the two markers.

    >>> updated("a <!-- claims --> old <!-- /claims --> b").startswith("a <!-- claims -->\\n| claim |")
    True
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the text must have the markers {BEGIN} and {END}, in this order")
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Renew the table in each of the files; without arguments, in the README of the current folder."""
    for path in map(Path, arguments or ["README.md"]):
        path.write_text(updated(path.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
