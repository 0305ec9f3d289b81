"""JAX's persistent compile cache, which the command line turns on (the library, when imported, does not)."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where compiled programs are kept: `JAX_COMPILATION_CACHE_DIR`, or `~/.cache/quickstudy/jax`."""
    return Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or "~/.cache/quickstudy/jax").expanduser()


def use_compile_cache() -> None:
    """Keep compiled programs from run to run; JAX's own environment variables, where set, win."""
    import jax

    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)  # ours: what a person notices
