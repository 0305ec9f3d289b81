"""Environments whose physics differs from task to task: which parameters vary, how far, and which values each split owns.

A varied parameter is its default times a factor, uniform on [0.5, 2]. The splits own disjoint slices of the first varied
parameter's factor; the others are free. "out-of-range" factors lie on [2, 3], for every varied parameter. Where nothing varies,
every task is the standard one, so all splits are the same problem: train and test there on the same task, and call it so.
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Actions
from quickstudy.tasks.splits import draw_in_split

IN_RANGE = (0.5, 2.0)  # ours: half to double
BEYOND = (2.0, 3.0)  # ours: the same sign of change, never seen in training
# Slices of a thousandth of the range, so that every split has nearly the same mean.
_BLOCKS = 100


def parameter(default: float) -> Any:
    """A field of a task that holds one physical number, and may be varied."""
    return eqx.field(default=default, converter=lambda value: jnp.asarray(value, float))


def parameters(task: AbstractEnvironment) -> tuple[str, ...]:
    """The names of a task's physical parameters: its fields that are not static.

    >>> from quickstudy.tasks.mountain_car import MountainCarTask
    >>> parameters(MountainCarTask())
    ('gravity', 'force', 'speed_limit')
    """
    return tuple(field.name for field in dataclasses.fields(task) if not field.metadata.get("static", False))


class AbstractVaried(AbstractControl):
    """A distribution of one environment with varied physics. Raises `ValueError` for a parameter that the environment has not."""

    vary: eqx.AbstractVar[tuple[str, ...]]
    horizon: eqx.AbstractVar[int]

    @abc.abstractmethod
    def standard(self) -> AbstractEnvironment:
        """The task whose parameters all have their default values."""

    @property
    def actions(self) -> Actions:
        return self.standard().actions

    def __check_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, not {self.horizon}")
        allowed = parameters(self.standard())
        for name in self.vary:
            if name not in allowed:
                raise ValueError(f"vary must be names among {', '.join(allowed)}, not {name!r}")
        if len(set(self.vary)) < len(self.vary):
            raise ValueError(f"vary must name each parameter once, not {', '.join(self.vary)}")

    def sample(self, key: PRNGKeyArray, split: Split) -> AbstractEnvironment:
        standard = self.standard()
        factors = draw_factors(key, split, len(self.vary))
        varied = {name: getattr(standard, name) * factor for name, factor in zip(self.vary, factors, strict=True)}
        return dataclasses.replace(standard, **varied)


def draw_factors(key: PRNGKeyArray, split: Split, n: int) -> Float[Array, " n"]:
    """One factor for each of `n` varied parameters; the first lies in the slices that `split` owns.

    >>> import jax
    >>> draw_factors(jax.random.key(0), "train", 2).shape
    (2,)
    """
    beyond = split == "out-of-range"
    low, high = BEYOND if beyond else IN_RANGE
    first_key, other_key = jr.split(key)
    first = draw_in_split(first_key, "test" if beyond else split, low, high, blocks=_BLOCKS)
    others = jr.uniform(other_key, (max(n - 1, 0),), minval=low, maxval=high)
    return jnp.concatenate([first[None], others])[:n]
