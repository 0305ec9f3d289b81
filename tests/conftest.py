"""Strictness that only tests pay for: no silent promotion of ranks or types; shapes are checked at run time (see pyproject.toml)."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path

import pytest

# Compiling for speed is wasted on tests: each program runs once, on tiny inputs. Level 0 takes half as long as level 1, and
# gives no NaN where the emitters of fused loops are off.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

# What was compiled once, in whichever process, is read from disk the next time, which saves two fifths of the suite's time. Every run
# begins with an empty folder. The first process to come here makes it, and those that it starts inherit its name.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    FOLDER = tempfile.mkdtemp(prefix="quickstudy-tests-")
    os.environ |= {
        "JAX_COMPILATION_CACHE_DIR": FOLDER,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def pytest_sessionfinish():
        """Leave nothing behind."""
        shutil.rmtree(FOLDER, ignore_errors=True)


import jax

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# The real Omniglot, where it is: in the environment's folder, or in one beside the repository. Without it its tests are skipped.
BESIDE = Path(__file__).parents[2] / "shared" / "data" / "omniglot"
if BESIDE.is_dir():
    os.environ.setdefault("QUICKSTUDY_OMNIGLOT", str(BESIDE))


MAPPINGS = Path("/proc/self/maps")  # Linux only: elsewhere nothing limits them
TESTS = itertools.count()


@pytest.fixture(autouse=True)
def compiled_programs():
    """Forget compiled programs once they are many: each maps pages of its own, and Linux ends a process with 65,530 mappings."""
    yield
    if next(TESTS) % 10 == 0 and MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 35_000:
        jax.clear_caches()
