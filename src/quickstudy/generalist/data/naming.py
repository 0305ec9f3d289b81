"""How tasks and their makers are named. Without JAX, because who only makes episodes does not need it."""

import importlib.metadata
from collections.abc import Mapping, Sequence

from quickstudy import catalog


def find(names: Sequence[str], groups: Mapping[str, Sequence[str]], tasks: Sequence[str], what: str = "task") -> list[str]:
    """Tasks by their own names or by those of groups, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["b", "all"], {"all": ("a", "b")}, ("a", "b"))
    ['b', 'a']
    """
    known = [*groups, *tasks]
    return list(dict.fromkeys(task for name in names for task in groups.get(catalog.require(name, known, what), (name,))))


def with_versions(*packages: str) -> str:
    """Installed packages, each with its version: those on which episodes depend."""
    return " ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
