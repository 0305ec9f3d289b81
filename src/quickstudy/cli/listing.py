"""`quickstudy list` and `quickstudy show`: what there is, read from the sources as text, without JAX."""

import ast
import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from quickstudy import catalog, evidence
from quickstudy.cli.flags import Parser


def list_command(arguments: Sequence[str]) -> int:
    """Print the methods, tasks and claims."""
    parser = Parser("list", "Methods, tasks and claims, with their one-line ideas.")
    parser.add_argument("--family", help=f"only one family of methods: {', '.join(catalog.FAMILIES)}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    found = parser.read(arguments)
    if found.family is not None:
        catalog.require(found.family, catalog.FAMILIES, "family")
    listing = _listing(found.family)
    print(json.dumps(listing, indent=1) if found.json else _listing_text(listing))
    return 0


def _listing(family: str | None) -> dict[str, list[dict[str, str]]]:
    chosen = lambda module: family is None or catalog.family(module) == family
    methods = [
        {"id": method, "family": catalog.family(module), "idea": catalog.card(module).idea}
        for method, module in catalog.METHODS.items()
        if chosen(module)
    ]
    places = {task: place.partition(":")[0] for task, place in catalog.TASKS.items()}
    tasks = [{"id": task, "idea": catalog.one_line(module)} for task, module in places.items() if family is None]
    claims = [
        {"id": claim, "module": module, "verdict": _verdict(evidence.latest(claim))}
        for claim, module in catalog.CLAIMS.items()
        if chosen(module)
    ]
    return {"methods": methods, "tasks": tasks, "claims": claims}


def _verdict(found: dict[str, Any] | None) -> str:
    return f"{found['verdict']} at {found['scale']} scale" if found else "not measured yet"


def _listing_text(listing: dict[str, list[dict[str, str]]]) -> str:
    lines: list[str] = []
    for family, idea in catalog.FAMILIES.items():
        members = [method for method in listing["methods"] if method["family"] == family]
        lines += [f"{family}: {idea}", *_rows(members, "idea"), ""] if members else []
    for kind, column in (("tasks", "idea"), ("claims", "verdict")):
        lines += [kind, *_rows(listing[kind], column), ""] if listing[kind] else []
    return "\n".join([*lines, "quickstudy show ID says more about a method."])


def _rows(items: Iterable[dict[str, str]], column: str) -> list[str]:
    return [f"  {item['id']:20} {item[column]}" for item in items]


def show_command(arguments: Sequence[str]) -> int:
    """Print everything that a method's file says about it."""
    parser = Parser("show", "One method: idea, what is slow and fast, equation, source, lineage, defaults, presets, claims.")
    parser.add_argument("method", metavar="ID", help="a method's id (quickstudy list)")
    method = parser.read(arguments).method
    if method in catalog.CLAIMS and method not in catalog.METHODS:
        raise ValueError(f"{method!r} is a claim, not a method: quickstudy claim {method} tells what it says and what was measured")
    module = catalog.METHODS[catalog.require(method, catalog.METHODS, "method")]
    card = catalog.card(module)
    labels = {field: field.replace("_", " ") for field in ("slow", "fast", "outer_step", "source", "builds_on", "led_to", "lineage")}
    lines = [f"{method}: {card.idea}", "", *_indented(card.equation), ""]
    lines += [_labelled(label, getattr(card, field)) for field, label in labels.items() if getattr(card, field)]
    lines += ["", "defaults:", *_defaults(module), "", "presets:", *_presets(module, card), "", "claims:", *_claims(module)]
    print("\n".join(lines))
    return 0


def _labelled(label: str, text: str) -> str:
    return textwrap.fill(text, 110, initial_indent=f"{label + ':':12}", subsequent_indent=" " * 12)


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.splitlines()]


def _defaults(module: str) -> list[str]:
    fields = catalog.defaults(module)
    width = max((len(f"{field.name} = {field.default}") for field in fields), default=0)
    return [f"  {f'{field.name} = {field.default}':{width}}   {field.source}".rstrip() for field in fields]


def _presets(module: str, card: catalog.Card) -> list[str]:
    told = [f"  {card.presets}"] if card.presets else []
    return [f"  {name:20} {expected}".rstrip() for name, expected in catalog.presets(module).items()] + told or ["  none"]


def _claims(module: str) -> list[str]:
    own = [claim for claim, home in catalog.CLAIMS.items() if home == module]
    lines = [line for claim in own for line in _claim(claim, evidence.latest(claim))]
    # Claims in files of their own, and those of other methods with which this one is compared.
    others = [claim for claim, home in catalog.CLAIMS.items() if home != module and module in _imported(home)]
    return [*lines, *(f"  {claim}: {_verdict(evidence.latest(claim))}, measured with this method" for claim in others)] or ["  none"]


def _imported(module: str) -> set[str]:
    """What a module imports by name, "module.name" each, without importing it.

    >>> catalog.METHODS["pfn"] in _imported(catalog.CLAIMS["pfn-gp"])
    True
    """
    nodes = ast.walk(ast.parse(catalog.source_text(module)))
    return {f"{node.module}.{name.name}" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}


def _claim(claim: str, found: dict[str, Any] | None) -> list[str]:
    lines = [f"  {claim}: {_verdict(found)}"]
    if found:
        lines.append(f"    {found['statement']}")
        lines += [f"    {expected['expectation']}: {expected['verdict']}" for expected in found["expected"]]
    return lines
