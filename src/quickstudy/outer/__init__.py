"""Slow loops: who improves the slow weights, and from what signal.

A `Program` is a pair of pure functions and a view of the learner inside its state, shaped like an Optax transformation.
`descend` follows meta-gradients (exact, first-order or implicit), `truncate` back-propagates through windows of long lives,
`evolve` needs no gradient at all. `population` is many of one kind side by side. `run` drives any of them.
"""

from quickstudy.outer.descent import (
    Adapt,
    Descent,
    Gradient,
    Implicit,
    Loss,
    TaskAxis,
    descend,
    differentiate_adaptation,
    mean_over_tasks,
    rise_and_fall,
    with_adaptation,
)
from quickstudy.outer.population import member, population
from quickstudy.outer.program import (
    Metrics,
    NonFiniteError,
    Preset,
    Program,
    Progress,
    State,
    apply_gradient,
    flatten,
    run,
    shared_settings,
    switch,
    train,
)
from quickstudy.outer.windows import Window, evolve, truncate

__all__ = [
    "Adapt",
    "Descent",
    "Gradient",
    "Implicit",
    "Loss",
    "Metrics",
    "NonFiniteError",
    "Preset",
    "Program",
    "Progress",
    "State",
    "TaskAxis",
    "Window",
    "apply_gradient",
    "descend",
    "differentiate_adaptation",
    "evolve",
    "flatten",
    "mean_over_tasks",
    "member",
    "population",
    "rise_and_fall",
    "run",
    "shared_settings",
    "switch",
    "train",
    "truncate",
    "with_adaptation",
]
