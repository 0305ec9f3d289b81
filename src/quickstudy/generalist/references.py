"""Constants of the scoreboard: what the expert and random actions get of a task, in episodes of its valid seeds.

    python -m quickstudy.generalist.references [DOMAIN or DOMAIN/TASK ...]

measures them anew, of all domains that are played or only of these, and writes them into the file beside this one. A task may be a
group of its domain, as in `metaworld/all`. They are kept so that a normalised score does not depend on which test seeds were played.
"""

import functools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from quickstudy import catalog
from quickstudy.generalist.data import build
from quickstudy.generalist.data.store import SEEDS
from quickstudy.generalist.embodiments import EMBODIMENTS, parse
from quickstudy.persist import Facts, read_json, write_json

FILE = Path(__file__).with_name("references.json")
_EPISODES = {"metaworld": 50}  # of others 100; ours: random actions in Meta-World take 500 steps an episode
_MANY = 100


def find(name: str) -> Facts | None:
    """The constants of a task, named as in `babyai-compact/GoToLocal`: the same for all encodings. None if it was not measured.

    For `expert` and `random` the mean `return` and the rate of `success`; `episodes`, and the `generator` that made them. Raises
    `OSError` if the file is damaged.

    >>> found = find("bandits-plain/bernoulli-5")
    >>> found["expert"]["return"] > found["random"]["return"]
    True
    """
    body, _, task = name.partition("/")
    known: Facts | None = _constants().get(f"{_domain_of(body)}/{task}")
    return known


@functools.cache
def _constants() -> Facts:
    tasks: Facts = read_json(FILE)["tasks"]
    return tasks


def _domain_of(embodiment: str) -> str:
    return embodiment.rpartition("-")[0]


def measure(name: str, episodes: int) -> Facts:
    """The constants of a task from its first valid seeds; a seed that the expert fails counts as no return. Raises as `parse`."""
    # Here, because the scoreboard reads what this module writes.
    from quickstudy.generalist.scoreboard import Random, expert, play

    body, task = parse(name)
    seeds = SEEDS["valid"][:episodes]
    both = {"expert": expert(body, task, seeds), "random": play(Random(body), body, task, seeds)}
    told = {who: {"return": float(played.returns.mean()), "success": float(played.success.mean())} for who, played in both.items()}
    return {"episodes": episodes, **told, "generator": build.domain_module(body.domain).provenance()["generator"]}


def names(wanted: Sequence[str] = ()) -> Iterator[str]:
    """The tasks that are measured, of some domains or of all, each in the first of its encodings.

    Raises `ValueError` for a domain that is not played, or an unknown task.
    """
    first = {_domain_of(body): body for body in reversed(list(EMBODIMENTS))}
    for what in wanted or sorted(first):
        domain, _, task = what.partition("/")
        body = first[catalog.require(domain, first, "domain that is played")]
        for found in build.domain_module(domain).find([task or "all"]):
            yield f"{body}/{found}"


def main(wanted: Sequence[str]) -> None:
    """Measure, and write the file: after each task, so that nothing is lost. Other tasks stay as they are."""
    for name in names(wanted):
        domain, task = _domain_of(name.partition("/")[0]), name.partition("/")[2]
        tasks = dict(read_json(FILE)["tasks"]) if FILE.exists() else {}
        tasks[f"{domain}/{task}"] = measure(name, _EPISODES.get(domain, _MANY))
        command = "python -m quickstudy.generalist.references"
        write_json(FILE, {"command": command, "split": "valid", "tasks": dict(sorted(tasks.items()))})
        print(f"{name} measured", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
