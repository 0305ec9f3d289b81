"""What domains share that are played: a step, and an encoding. Without JAX, because who only makes episodes does not need it."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from quickstudy.generalist.data.store import SEEDS, Episode, Observations
from quickstudy.generalist.spaces import Space


class Step(NamedTuple):
    """What follows an action: the next raw observation, the reward, whether the episode is over, and whether the task is done."""

    observation: Mapping[str, Any]
    reward: float
    end: bool
    success: bool


def live(world: Any, act: Callable[[Mapping[str, Any]], int], seed: int) -> Episode:
    """An episode of an expert with discrete actions in an environment, from its reset to its end."""
    observation, end, success = world.reset(), False, False
    seen, actions, rewards = [], [], []
    while not end:
        seen.append(observation)
        actions.append(act(observation))
        observation, reward, end, success = world.step(actions[-1])
        rewards.append(reward)
    facts = {"seed": seed, "success": success, "return": float(sum(rewards))}
    stacked: Observations = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    return Episode(stacked, np.array(actions, np.uint8), np.array(rewards, np.float32), facts)


class Encoding(NamedTuple):
    """How raw observations become those of a `Tokenizer`; `observe` takes them with or without a leading axis of time."""

    name: str
    space: Space
    action_space: Space
    text_every: int  # text is written at step 0 and every so many steps
    separator: bool  # whether a separator stands between observation and action
    observe: Callable[[Mapping[str, Any]], dict[str, Any]]
    alone: bool = False  # whether each time step is a sequence of its own, as `Tokenizer` says


def text_every(tokens: int) -> int:
    """How many steps of so many tokens to leave between texts that name the task.

    Windows of training begin where text is written. Were it at step 0 alone, the later part of a long episode would never be in one.
    So 160 tokens at most stand between (ours: of windows of 256, these leave room for the text and a prompt).

    >>> text_every(5), text_every(400)
    (32, 1)
    """
    return max(1, 160 // tokens)


CHANCE = 0.1  # that another discrete action is executed, drawn uniformly; ours: at 0.2 CartPole's pole falls now and then


def disturbance(task: str, seed: int) -> np.random.Generator | None:
    """What draws the disturbance of an episode: a generator on odd seeds for training, else none.

    >>> disturbance("CartPole", 4) is disturbance("CartPole", 2_000_001) is None
    True
    """
    disturbs = seed in SEEDS["train"] and seed % 2 == 1
    return np.random.default_rng([seed, zlib.crc32(task.encode())]) if disturbs else None


def replaced(action: int, actions: int, random: np.random.Generator | None) -> int:
    """What is executed in place of one of so many discrete actions: mostly itself."""
    return int(random.integers(actions)) if random is not None and random.random() < CHANCE else action
