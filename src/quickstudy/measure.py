"""Timing that waits for the result, and the machine and versions that every stored number comes with.

JAX returns before it has computed: a clock read without blocking measures the dispatch, not the work.
"""

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

_PACKAGES = ("jax", "jaxlib", "equinox", "optax", "numpy", "safetensors")


class Timing(NamedTuple):
    """Seconds per call: of all cores together (`cpu_seconds`) and by the clock on the wall (`wall_seconds`)."""

    cpu_seconds: float
    wall_seconds: float


def time_call(f: Callable[..., Any], *args: Any, repeats: int = 1) -> Timing:
    """Call `f(*args)` `repeats` times, wait for each result, and return the mean time of a call.

    Compilation counts if it falls into the calls; call `f` once before to leave it out. Raises `ValueError` for `repeats` below one.

    >>> import jax.numpy as jnp
    >>> time_call(jnp.sin, jnp.zeros(3)).wall_seconds > 0
    True
    """
    import jax

    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    jax.block_until_ready(args)
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeats):
        jax.block_until_ready(f(*args))
    return Timing((time.process_time() - cpu) / repeats, (time.perf_counter() - wall) / repeats)


def versions() -> dict[str, str]:
    """The versions that a result depends on: Python, quickstudy and the packages under it."""
    from quickstudy import __version__

    found = {"python": platform.python_version(), "quickstudy": __version__}
    return found | {name: importlib.metadata.version(name) for name in _PACKAGES}


def machine() -> dict[str, str | int]:
    """The processor's model, the number of cores this process may use, and the operating system."""
    cores = len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count() or 1
    return {"cpu": _cpu_model(), "cores": cores, "system": f"{platform.system()} {platform.machine()}"}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def checkout() -> Path | None:
    """The root of the source checkout that this package runs from; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def commit() -> tuple[str, bool] | None:
    """The checkout's commit and whether files differ from it; None outside a git checkout."""
    root = checkout()
    if root is None or not (root / ".git").exists():
        return None
    # Evidence is written while a claim runs: only changes to the code make a measurement "dirty".
    head, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--", "src", "pyproject.toml")
    return None if head is None else (head, bool(changes))


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
