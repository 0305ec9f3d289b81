"""The weights that come with the package, and where they come from."""

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
