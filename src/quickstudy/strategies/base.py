"""The shape of an evolution strategy: pure functions over a tree of arrays, the mean of its search distribution."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

Mean = PyTree[Float[Array, "..."]]


class Strategy(NamedTuple):
    """An antithetic evolution strategy.

    * `init(mean) -> state`
    * `ask(state, mean, key, fresh) -> (state, members)`: `2 * pairs` perturbed means, stacked; member `i + pairs` mirrors member
      `i`. `fresh` marks the pairs whose lives begin anew.
    * `tell(state, mean, losses) -> (state, mean)`: the improved mean, given one loss per member.
    """

    pairs: int
    init: Callable[[Mean], Any]
    ask: Callable[[Any, Mean, PRNGKeyArray, Bool[Array, " pairs"]], tuple[Any, Mean]]
    tell: Callable[[Any, Mean, Float[Array, " members"]], tuple[Any, Mean]]
