"""The weights that come with the package, made from a training run: `python -m quickstudy.estimators.shipping RUN`.

The file's header says where they come from: the command that repeats the training, commit, seed, prior, versions, machine, seconds.
`provenance()` reads it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from quickstudy import measure, store
from quickstudy.estimators.in_context import WEIGHTS
from quickstudy.persist import Facts, read_arrays, read_json, save_tree


def ship(run: Path, to: Path = WEIGHTS) -> Facts:
    """Write the learner of a run of pfn-tabular as the package's weights, and return what the header says.

    Raises `ValueError` for a run of another method or one that has not ended.
    """
    loaded, settings, metrics = store.load(run), read_json(run / store.CONFIG), store.read_metrics(run)
    if loaded.method != "pfn-tabular":
        raise ValueError(f"{run} must be a run of pfn-tabular, not of {loaded.method}")
    if loaded.step < settings["steps"]:
        raise ValueError(f"{run} has done {loaded.step} of {settings['steps']} steps: train it to its end first")
    facts = {name: settings[name] for name in ("commit", "changed files", "seed", "preset", "config", "steps", "tasks", "versions")}
    facts |= {
        "command": f"quickstudy train pfn-tabular --preset {settings['preset']} --seed {settings['seed']}",
        "machine": settings["machine"],
        "seconds": round(sum(line["seconds"] for line in metrics)),
        "last metrics": metrics[-1]["metrics"],
        "shipped at": measure.commit(),
    }
    to.parent.mkdir(exist_ok=True)
    save_tree(to, loaded.learner, facts)
    return facts


def provenance() -> Facts:
    """Where the package's weights come from."""
    return read_arrays(WEIGHTS)[1]


def main(arguments: Sequence[str]) -> int:
    """Ship the run in the one folder that is named."""
    if len(arguments) != 1:
        print("usage: python -m quickstudy.estimators.shipping RUN", file=sys.stderr)
        return 2
    print(ship(Path(arguments[0])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
