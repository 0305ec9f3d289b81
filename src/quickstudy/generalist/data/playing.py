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


def text_every(tokens: int) -> int:
    """How many steps of so many tokens to leave between texts that name the task.

    Windows of training begin where text is written. Were it at step 0 alone, the later part of a long episode would never be in one.
    So 160 tokens at most stand between (ours: of windows of 256, these leave room for the text and a prompt).

    >>> text_every(5), text_every(400)
    (32, 1)
    """
    return max(1, 160 // tokens)
