"""What domains share that are played: a step, and an encoding. Without JAX, because who only makes episodes does not need it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from quickstudy.generalist.spaces import Space


class Step(NamedTuple):
    """What follows an action: the next raw observation, the reward, whether the episode is over, and whether the task is done."""

    observation: Mapping[str, Any]
    reward: float
    end: bool
    success: bool


class Encoding(NamedTuple):
    """How raw observations become those of a `Tokenizer`; `observe` takes them with or without a leading axis of time."""

    name: str
    space: Space
    action_space: Space
    text_every: int  # text is written at step 0 and every so many steps
    separator: bool  # whether a separator stands between observation and action
    observe: Callable[[Mapping[str, Any]], dict[str, Any]]
