"""A domain's data card: what its episodes are, who made them, how good they are, what is missing; made from the shards alone."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quickstudy.generalist.data import build
from quickstudy.generalist.data.store import Shard, shard_paths

NAME = "card.md"


def card(domain: str, folder: Path | None = None) -> str:
    """The card in Markdown. Raises `FileNotFoundError` if nothing is built, and `OSError` naming the file if a shard is damaged."""
    module = build.domain_module(domain)
    folder = folder or build.folder_of(domain)
    shards = [Shard.open(path) for path in shard_paths(folder)]
    if not shards:
        raise FileNotFoundError(f"there are no episodes in {folder}: build them with `quickstudy data build {domain}`")
    groups: dict[tuple[str, str], list[Shard]] = {}
    for shard in shards:
        groups.setdefault((shard.facts["task"], shard.facts["split"]), []).append(shard)
    rows = [_row(task, split, group) for (task, split), group in sorted(groups.items())]
    makers = Counter("; expert: ".join(shard.facts[who] for who in ("generator", "expert") if who in shard.facts) for shard in shards)
    lines = [f"# {module.TITLE}", "", f"Licence: {module.LICENCE}.", ""]
    lines += [f"* Generator: {maker} ({count} shards)" for maker, count in sorted(makers.items())]
    lines += [f"* {caveat}" for caveat in module.CAVEATS]
    lines += [
        "* Each seed, or number of an imported episode, belongs to one split, so no episode is in two.",
        "",
        _total(shards),
        "",
    ]
    head = ("task", "split", "seeds", "episodes", "steps", "mean return", "mean length", "bytes per step", "rejected")
    lines += ["| " + " | ".join(row) + " |" for row in (head, ("---",) * 2 + ("---:",) * 6 + ("---",), *rows)]
    return "\n".join(lines) + "\n"


def write_card(domain: str, folder: Path | None = None) -> Path:
    """Write the card into the domain's folder, and return its path. Raises as `card`."""
    from quickstudy import persist  # here, because it loads JAX

    path = (folder or build.folder_of(domain)) / NAME
    persist.write_atomically(path, card(domain, folder).encode())
    return path


def _row(task: str, split: str, shards: Sequence[Shard]) -> tuple[str, ...]:
    episodes = [facts for shard in shards for facts in shard.episodes]
    reasons = Counter(one.reason for shard in shards for one in shard.rejected)
    steps = sum(facts["steps"] for facts in episodes)
    mean = lambda values: f"{np.mean(values):.3f}" if values else "-"
    return (
        task,
        split,
        f"{len(episodes) + sum(reasons.values()):,}",
        f"{len(episodes):,}",
        f"{steps:,}",
        mean([facts["return"] for facts in episodes if "return" in facts]),
        f"{steps / len(episodes):.1f}" if episodes else "-",
        f"{_bytes(shards) / steps:.1f}" if steps else "-",
        "; ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none",
    )


def _total(shards: Sequence[Shard]) -> str:
    episodes = sum(len(shard.episodes) for shard in shards)
    steps = sum(facts["steps"] for shard in shards for facts in shard.episodes)
    rejected = sum(len(shard.rejected) for shard in shards)
    size = f"{len(shards):,} shards of {_bytes(shards):,} bytes"
    return f"In all {episodes:,} episodes of {steps:,} steps in {size}; {rejected:,} seeds rejected."


def _bytes(shards: Sequence[Shard]) -> int:
    return sum(shard.path.stat().st_size for shard in shards)
