"""`quickstudy.load`: a run from its folder, or what comes with the package by its name."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from quickstudy import store

if TYPE_CHECKING:
    from quickstudy.generalist.trained import Trained


@overload
def load(name: Literal["generalist"]) -> "Trained": ...


@overload
def load(name: str | Path) -> store.Run: ...


def load(name: str | Path) -> "store.Run | Trained":
    """The learner of a run folder with its configuration and tasks, or "generalist", the trained one that comes with the package.

    A folder of that name is meant by `./generalist`. Raises `OSError` if a file is missing or damaged, `ValueError` if the folder is
    of another version's method, `ImportError` with what to install for the generalist.
    """
    if name == "generalist":
        from quickstudy.generalist.trained import shipped  # here, because runs need none of what it needs

        return shipped()
    if not Path(name).exists() and difflib.get_close_matches(str(name), ["generalist"], cutoff=0.8):
        raise FileNotFoundError(f"{name} is not a folder; did you mean 'generalist', which comes with the package?")
    return store.load(name)
