"""The evidence behind a claim: measured repeat by repeat, kept as JSON in `results/`, and never read from memory.

Reading evidence needs no JAX; measuring does. While a claim is measured, every finished repeat is appended to a file beside its
result, so an interrupted measurement continues where it stood.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quickstudy import catalog, measure

Evidence = dict[str, Any]
SCALES = ("smoke", "laptop", "full")


def results_folder() -> Path:
    """Where evidence is kept: `results/` of the checkout that the package runs from, or of the current folder."""
    root = measure.checkout()
    return (root or Path.cwd()) / "results"


def path_of(claim: str, scale: str, results: Path | None = None) -> Path:
    """The file that holds a claim's evidence at one scale."""
    return (results or results_folder()) / f"{claim}.{scale}.json"


def read(claim: str, scale: str, results: Path | None = None) -> Evidence | None:
    """A claim's evidence, or None if it was never measured at this scale. Raises `OSError` if the file is damaged."""
    path = path_of(claim, scale, results)
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        if (found["claim"], found["scale"]) == (claim, scale) and found["verdict"] in ("held", "failed", "undecided"):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise OSError(f"{path} is damaged: it is not the evidence of claim {claim} at {scale} scale")


def latest(claim: str, results: Path | None = None) -> Evidence | None:
    """A claim's evidence at the largest scale that was measured."""
    return next((found for scale in reversed(SCALES) if (found := read(claim, scale, results))), None)


def claim_of(name: str) -> Any:
    """A claim by its id. Raises `ValueError` for an unknown id, with the nearest known one."""
    import importlib

    module = importlib.import_module(catalog.CLAIMS[catalog.require(name, catalog.CLAIMS, "claim")])
    return next(claim for claim in module.CLAIMS if claim.id == name)


def measure_claim(name: str, scale: str, results: Path, command: str) -> Iterator[tuple[int, int, Evidence]]:
    """Measure a claim, yielding `(repeats done, repeats in all, last repeat)`; at the end its evidence is in `results`.

    Repeats of an interrupted measurement are kept, unless the file that defines the claim has changed since.
    """
    import jax

    claim = claim_of(name)
    results.mkdir(parents=True, exist_ok=True)
    path = path_of(name, scale, results)
    partial = path.with_suffix(".partial.jsonl")
    done = _begin(partial, name, scale)
    total = claim.repeats[scale]
    for seed in range(len(done), total):
        cpu, wall = time.process_time(), time.perf_counter()
        values = {arm: float(value) for arm, value in claim.measure(scale, seed).items()}
        done.append({"seed": seed, "values": values, "seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu})
        _append(partial, done[-1])
        # Compiled programs map pages of their own, and Linux allows 65,530 mappings: the repeats of a large claim would get there.
        jax.clear_caches()
        yield len(done), total, done[-1]
    _write(path, summarise(claim, scale, done[:total], command))
    partial.unlink()


def _begin(partial: Path, name: str, scale: str) -> list[Evidence]:
    """The repeats that an interrupted measurement by the same code left; otherwise none, in a new file."""
    code = hashlib.sha256(catalog.source_text(catalog.CLAIMS[name]).encode()).hexdigest()
    header = {"claim": name, "scale": scale, "code": code}
    lines = partial.read_text().split("\n")[:-1] if partial.is_file() else []
    if lines and json.loads(lines[0]) == header:
        # Cut what a kill may have left of an unfinished line.
        partial.write_text("\n".join(lines) + "\n")
        return [json.loads(line) for line in lines[1:]]
    partial.write_text(json.dumps(header) + "\n")
    return []


def _append(partial: Path, repeat: Evidence) -> None:
    from quickstudy.persist import append

    append(partial, json.dumps(repeat).encode() + b"\n")


def _write(path: Path, found: Evidence) -> None:
    from quickstudy.persist import write_atomically

    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())


def summarise(claim: Any, scale: str, repeats: list[Evidence], command: str) -> Evidence:
    """Everything that a claim's repeats say: arms with intervals, expectations with margins and verdicts, and the provenance."""
    from quickstudy.claims import verdict

    values = [repeat["values"] for repeat in repeats]
    head = measure.commit()
    return {
        "claim": claim.id,
        "scale": scale,
        "verdict": verdict(claim, values),
        "statement": claim.statement,
        "source": claim.source,
        "reported": claim.reported,
        "not_answered": claim.not_answered,
        "arms": {arm: _interval([repeat[arm] for repeat in values]) for arm in values[0]},
        "expected": [_judged(expectation, values) for expectation in claim.expected],
        "repeats": repeats,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
        "commit": head[0] if head else None,
        "changed_files": head[1] if head else None,
        "versions": measure.versions(),
        "machine": measure.machine(),
    }


def _judged(expectation: Any, values: Any) -> Evidence:
    from quickstudy.claims import judge

    return {"expectation": str(expectation), "margin": _interval(expectation.margins(values)), "verdict": judge(expectation, values)}


def _interval(values: Any) -> dict[str, float | None]:
    """Mean and 95 % interval; a single repeat has no interval (JSON has no NaN)."""
    import numpy as np

    from quickstudy.evaluation import bootstrap_interval

    low, high = (float(bound) for bound in bootstrap_interval(np.asarray(values, float)))
    single = len(values) < 2
    return {"mean": float(np.mean(values)), "low": None if single else low, "high": None if single else high}
