"""`quickstudy doctor`: what this installation has, and whether it works."""

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

from quickstudy import measure
from quickstudy.cli.compile_cache import cache_folder, use_compile_cache
from quickstudy.cli.flags import Parser

# extra -> a module that it brings
_EXTRAS = {
    "tasks": ("sklearn", "PIL"),
    "estimators": ("sklearn",),
    "gymnasium": ("gymnasium",),
    "generalist": ("minigrid", "sentencepiece"),
    "bench": ("torch", "higher"),
    "dev": ("pytest", "hypothesis", "ruff", "mypy"),
}


def doctor_command(arguments: Sequence[str]) -> int:
    """Print versions, devices, caches and extras, and compile and run one small function."""
    Parser("doctor", "Versions, devices, caches, extras, and whether compiling works.").read(arguments)
    use_compile_cache()
    import jax
    import jax.numpy as jnp

    rows = {**measure.versions(), **{name: str(value) for name, value in measure.machine().items()}}
    rows["devices"] = ", ".join(str(device) for device in jax.devices())
    rows["compile cache"] = _folder(cache_folder())
    rows["extras"] = "; ".join(f"{extra}: {_missing(modules)}" for extra, modules in _EXTRAS.items())
    timing = measure.time_call(jax.jit(lambda x: jnp.sin(x) @ x), jnp.ones((64, 64)))
    rows["compiling"] = f"works ({timing.wall_seconds:.2f} s)"
    print("\n".join(f"{name:16} {value}" for name, value in rows.items()))
    return 0


def _missing(modules: Sequence[str]) -> str:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"lacks {', '.join(absent)}" if absent else "installed"


def _folder(path: Path) -> str:
    """A folder and whether files can be made in it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return f"{path} (writable)"
    except OSError as error:
        return f"{path} (not writable: {error.strerror})"
