"""Search, then go: in a dark room, visit all cells once along a spiral until the goal is found, then walk to it straight.

It is told nothing about the task, and shows what memory is worth: within an episode nobody sees new cells faster, since every tick
shows one, and near cells, which pay most often once they are known, come first. It is not proven best where an episode is too short to
see all cells: who plans ahead may leave others for the second one.

Source: ours.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.tasks.control import ControlView
from quickstudy.tasks.grids import STEPS, is_at


class Known(NamedTuple):
    """What a searcher knows: the cells it has seen, and the goal, or (-1, -1)."""

    seen: Bool[Array, "size size"]
    goal: Int[Array, "2"]


class SearchThenGo(AbstractLearner):
    """A searcher for square rooms without walls whose observation is the one-hot position (`HiddenGoal`, `DarkRoom`).

    Actions are up, right, down, left, and to stay where it stands on a goal.

    >>> import jax
    >>> from quickstudy import lifetime
    >>> from quickstudy.tasks import HiddenGoal
    >>> room = HiddenGoal().sample(jax.random.key(0), "test")
    >>> int(lifetime(SearchThenGo(), room, jax.random.key(0), steps=80)[1].sum()) > 10
    True
    """

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Known:
        return Known(_plane(view.observation) > 0, jnp.full(2, -1, jnp.int32))

    def respond(self, fast: Known, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        order = jnp.asarray(spiral(len(fast.seen)))
        unseen = ~fast.seen[order[:, 0], order[:, 1]]
        target = jnp.where(fast.goal[0] >= 0, fast.goal, order[jnp.argmax(unseen)])
        return towards(_place(view.observation), target)

    def observe(self, fast: Known, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray) -> Known:
        here = _place(feedback.observation)
        return Known(fast.seen | is_at(fast.seen, here), jnp.where(feedback.reward > 0, here, fast.goal))


def spiral(size: int) -> Int[np.ndarray, "cells 2"]:
    """Every cell of a square of odd size, from the middle outwards, each a step from the one before.

    >>> spiral(3).tolist()
    [[1, 1], [1, 2], [2, 2], [2, 1], [2, 0], [1, 0], [0, 0], [0, 1], [0, 2]]
    """
    # Right, down, left, up: one step each of the first two, then two, then three ...
    legs = [STEPS[(1 + leg) % 4] for leg in range(2 * size - 1) for _ in range(min(leg // 2 + 1, size - 1))]
    return np.cumsum([[size // 2, size // 2], *legs], axis=0).astype(np.int32)


def towards(here: Int[Array, "2"], target: Int[Array, "2"]) -> Int[Array, ""]:
    """The step up or down, else right or left, that brings a place nearer to another; 4 where they are the same.

    >>> int(towards(jnp.array([2, 2]), jnp.array([0, 3])))
    0
    """
    down, right = jnp.sign(target - here)
    vertical, horizontal = jnp.where(down < 0, 0, 2), jnp.where(right > 0, 1, 3)
    return jnp.where(down != 0, vertical, jnp.where(right != 0, horizontal, 4)).astype(jnp.int32)


def _plane(observation: Float[Array, " cells"]) -> Float[Array, "size size"]:
    size = math.isqrt(observation.size)
    return observation.reshape(size, size)


def _place(observation: Float[Array, " cells"]) -> Int[Array, "2"]:
    cell, size = jnp.argmax(observation).astype(jnp.int32), math.isqrt(observation.size)
    return jnp.stack([cell // size, cell % size])
