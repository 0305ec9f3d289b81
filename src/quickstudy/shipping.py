"""The weights that come with the package, made from training runs: `python -m quickstudy.shipping RUN ...`.

A file's header says where it comes from: the command that repeats the training, commit, seed, prior, versions, machine, seconds, and
as `start` the same of the weights that the training began with.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from quickstudy import store
from quickstudy.generalist.demonstrations import Demonstrations
from quickstudy.generalist.network import Generalist
from quickstudy.persist import read_json, save_tree
from quickstudy.shipped import FOLDER, weights_of, without_places

METHODS = ("pfn-tabular", "protonet", "generalist")  # whose weights the package has a use for


def ship(run: Path, folder: Path = FOLDER) -> Path:
    """Write the learner of a run as the package's weights.

    Raises `ValueError` for a run of a method of which no weights are shipped, or one that has not ended.
    """
    loaded, settings, metrics = store.load(run), read_json(run / store.CONFIG), store.read_metrics(run)
    if loaded.method not in METHODS:
        raise ValueError(f"{run} must be a run of {', '.join(METHODS)}, not of {loaded.method}")
    if loaded.step < settings["steps"]:
        raise ValueError(f"{run} has done {loaded.step} of {settings['steps']} steps: train it to its end first")
    facts = {name: settings[name] for name in ("commit", "changed files", "seed", "preset", "config", "steps", "tasks", "versions")}
    origin = settings.get("start")
    facts |= {"start": origin} if origin else {}
    facts |= {
        "command": without_places(settings["command"]),
        "machine": settings["machine"],
        "seconds": round(sum(line["seconds"] for line in metrics)),
        "last metrics": metrics[-1]["metrics"],
    }
    if isinstance(loaded.learner, Generalist):
        assert isinstance(loaded.tasks, Demonstrations)
        facts |= {"reach": loaded.learner.body.reach, "names": loaded.tasks.names}
    folder.mkdir(exist_ok=True)
    path = folder / weights_of(loaded.method).name
    save_tree(path, loaded.learner, facts)
    return path


def main(arguments: Sequence[str]) -> int:
    """Ship the runs in the folders that are named."""
    if not arguments:
        print("usage: python -m quickstudy.shipping RUN ...", file=sys.stderr)
        return 2
    for folder in arguments:
        print(ship(Path(folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
