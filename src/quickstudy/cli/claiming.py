"""`quickstudy claim`: a verdict from stored evidence, or measured now."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from quickstudy import catalog, evidence
from quickstudy.cli.compile_cache import use_compile_cache
from quickstudy.cli.flags import Parser, add_data_flags


def claim_command(arguments: Sequence[str]) -> int:
    """Print the verdict on each claim; 0 if all held."""
    parser = Parser("claim", "Verdicts from the evidence in results/, measured first where there is none or --rerun asks for it.")
    parser.add_argument("claims", nargs="+", metavar="ID", help="claims' ids (quickstudy list)")
    parser.add_argument("--scale", choices=evidence.SCALES, default="laptop", help="laptop by default")
    parser.add_argument("--results", type=Path, help="the folder of the evidence (results/ of the checkout by default)")
    parser.add_argument("--rerun", action="store_true", help="measure again; an interrupted measurement continues")
    add_data_flags(parser)
    found = parser.read(arguments)
    for claim in found.claims:
        catalog.require(claim, catalog.CLAIMS, "claim")
    results = found.results or evidence.results_folder()
    command = shlex.join(["quickstudy", "claim", *arguments])
    verdicts = [_verdict(claim, found.scale, results, found.rerun, command) for claim in found.claims]
    return 0 if set(verdicts) == {"held"} else 1


def _verdict(claim: str, scale: str, results: Path, rerun: bool, command: str) -> str:
    stored = None if rerun else evidence.read(claim, scale, results)
    if stored is None:
        _measure(claim, scale, results, command)
        stored = evidence.read(claim, scale, results)
    assert stored is not None
    _print(stored)
    return stored["verdict"]


def _measure(claim: str, scale: str, results: Path, command: str) -> None:
    print(f"{claim}: measuring at {scale} scale", flush=True)
    use_compile_cache()
    try:
        for done, total, repeat in evidence.measure_claim(claim, scale, results, command):
            values = "  ".join(f"{arm} {value:.4g}" for arm, value in repeat["values"].items())
            left = f", about {repeat['seconds'] * (total - done):.0f} s left" if done < total else ""
            print(f"  repeat {done}/{total}  {values}  {repeat['seconds']:.0f} s{left}", flush=True)
    except KeyboardInterrupt:
        print("quickstudy: interrupted; the same command keeps the finished repeats and continues", file=sys.stderr)
        raise


def _print(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]{found['claim']}[/bold] ({found['scale']} scale): {found['statement']}", soft_wrap=True)
    arms = Table("arm", "mean", "95 % interval", box=None, pad_edge=False)
    for arm, interval in found["arms"].items():
        arms.add_row(arm, f"{interval['mean']:.4g}", _bounds(interval))
    expected = Table("expected", "margin", "95 % interval", "verdict", box=None, pad_edge=False)
    for item in found["expected"]:
        expected.add_row(item["expectation"], f"{item['margin']['mean']:.4g}", _bounds(item["margin"]), item["verdict"])
    console.print(arms, expected)
    commit = (found["commit"] or "unknown")[:9] + (" with changed files" if found["changed_files"] else "")
    repeats = f"{len(found['repeats'])} repeat{'s' if len(found['repeats']) > 1 else ''}"
    seconds = sum(repeat["seconds"] for repeat in found["repeats"])
    lines = [
        f"source: {found['source']}; reported: {found['reported']}",
        f"not answered: {found['not_answered']}",
        f"evidence: {repeats}, {seconds:.0f} s, {found['date']}, commit {commit}, {found['machine']['cpu']}",
        f"verdict: {found['verdict']}\n",
    ]
    console.print("\n".join(lines), soft_wrap=True, markup=False)


def _bounds(interval: dict[str, float | None]) -> str:
    return "one repeat" if interval["low"] is None else f"{interval['low']:.4g} to {interval['high']:.4g}"
