"""The weights that come with the package, and where they come from."""

import shlex
from importlib import resources
from pathlib import Path

from quickstudy.persist import Facts, read_arrays

FOLDER = Path(str(resources.files("quickstudy"))) / "weights"


def weights_of(method: str) -> Path:
    """The file of a method's weights."""
    return FOLDER / f"{method}.safetensors"


def provenance(method: str) -> Facts:
    """The command that repeats the training of a method's weights, with commit, seed, prior, versions, machine and seconds."""
    return read_arrays(weights_of(method))[1]


def without_places(command: str) -> str:
    """A command line without the folder of its run, and with a word for the file that it began with: others have other places.

    >>> without_places("quickstudy train maml --out /home/me/run --start-from old.safetensors --seed 3")
    'quickstudy train maml --start-from WEIGHTS --seed 3'
    """
    words = shlex.split(command)
    for flag, instead in (("--out", []), ("--start-from", ["--start-from", "WEIGHTS"])):
        if flag in words:
            place = words.index(flag)
            words[place : place + 2] = instead
    return shlex.join(words)
