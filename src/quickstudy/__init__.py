"""quickstudy: learning to learn, on JAX and Equinox.

Draw a task; let a fast learner live in it; improve the slow weights; test on tasks never drawn in training.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# Names are loaded on first use, so that `quickstudy --help` never waits for JAX.
_HOMES = {
    "quickstudy.core": (
        "AbstractCurriculum AbstractLearner AbstractTask AbstractTaskDistribution End Life Split Tick Turn lifetime live sample_tasks"
    ),
    "quickstudy.evaluation": "Report evaluate",
    "quickstudy.loading": "load",
    "quickstudy.outer": "Implicit NonFiniteError Program Progress descend evolve member population run train truncate",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'quickstudy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
