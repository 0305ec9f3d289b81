"""Pushing: several blocks lie on a table, and only one of them is worth pushing; which one, and where to, the rewards must tell.

Observation: the positions of the pusher and of all blocks. Action: the pusher's velocity, two numbers, of which 1 means 0.1 a tick.
Pusher and blocks are discs. Nothing slides on: a block moves only while something pushes it, out of the overlap, along the line
between the centres; a pushed block pushes the next one. The table has no edge. Episodes are cut off after `horizon` ticks.

Source: the block-pushing tasks of Gupta et al. 2018, "Meta-Reinforcement Learning of Structured Exploration Strategies"; the
geometry and its numbers are ours.
"""

import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, AbstractEnvironment, Continuous, Episode
from quickstudy.tasks.drawing import BLACK, BLUE, GREEN, ORANGE, canvas, disc
from quickstudy.tasks.point_navigation import STEP, at_angle
from quickstudy.tasks.sketching import Page
from quickstudy.tasks.splits import draw_in_split

PUSHER, BLOCK = 0.05, 0.1  # radii; together longer than the longest step, so that the pusher cannot jump behind a block's centre
_NEAR, _FAR = 0.4, 0.8  # how far from the pusher's start the blocks begin
# Two blocks as near as they may be do not touch if their directions differ by this angle.
_APART = 2 * math.asin(BLOCK / _NEAR) + 0.01


class Table(NamedTuple):
    """Where the centres of the pusher and of the blocks are."""

    pusher: Float[Array, "2"]
    blocks: Float[Array, "blocks 2"]


class PushingTask(AbstractEnvironment):
    """One table: where the `blocks` begin, which of them is `rewarded`, and the `goal` to push it to.

    Reward: if `sparse`, by how much the rewarded block came nearer to the goal, which is nothing until it moves. Else minus its
    distance to the goal and minus the pusher's distance to it.
    """

    blocks: Float[Array, "blocks 2"]
    rewarded: Int[Array, ""]
    goal: Float[Array, "2"]
    sparse: bool = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Continuous:
        return Continuous(2)

    def begin(self, key: PRNGKeyArray) -> Table:
        return Table(jnp.zeros(2), self.blocks)

    def look(self, state: Table) -> Float[Array, " coordinates"]:
        return jnp.concatenate([state.pusher, state.blocks.ravel()])

    def act(self, state: Table, action: Float[Array, "2"], key: PRNGKeyArray) -> tuple[Table, Float[Array, ""], Bool[Array, ""]]:
        pusher = state.pusher + STEP * jnp.clip(action, -1.0, 1.0)
        after = Table(pusher, push_apart(pusher, state.blocks))
        block = after.blocks[self.rewarded]
        left = jnp.linalg.norm(block - self.goal)
        progress = jnp.linalg.norm(state.blocks[self.rewarded] - self.goal) - left
        return after, progress if self.sparse else -left - jnp.linalg.norm(block - pusher), jnp.asarray(False)

    def text(self, world: Episode) -> str:
        """The goal `!`, the blocks `o`, the rewarded one `*`, and the pusher `@`."""
        page = Page(17, 35, x=(-1.7, 1.7), y=(-1.7, 1.7))
        page.mark(np.asarray(self.goal), "!")
        for i, place in enumerate(np.asarray(world.state.blocks)):
            page.mark(place, "*" if i == int(self.rewarded) else "o")
        page.mark(np.asarray(world.state.pusher), "@")
        return page.text()

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The goal, the blocks (the rewarded one orange) and the pusher."""
        picture, view = canvas(160, 160), {"low": -1.7, "high": 1.7}
        discs = [(self.goal, 0.12, GREEN)]
        discs += [(place, BLOCK, ORANGE if i == int(self.rewarded) else BLUE) for i, place in enumerate(world.state.blocks)]
        for place, radius, colour in [*discs, (world.state.pusher, PUSHER, BLACK)]:
            x, y = np.asarray(place).tolist()
            disc(picture, (x, y), radius, colour, **view)
        return picture


def push_apart(pusher: Float[Array, "2"], blocks: Float[Array, "blocks 2"]) -> Float[Array, "blocks 2"]:
    """The blocks after the pusher has come to where it is: each moves out of whatever is nearer to the pusher, until none overlap.

    A straight row of blocks needs one round for each; blocks wedged between others come apart by a constant factor a round.

    >>> push_apart(jnp.array([0.0, 0.0]), jnp.array([[0.1, 0.0], [0.0, 0.5]])).round(3).tolist()
    [[0.15000000596046448, 0.0], [0.0, 0.5]]
    """

    def move(blocks: Float[Array, "blocks 2"], _: None) -> tuple[Float[Array, "blocks 2"], None]:
        from_pusher = blocks - pusher[None]
        far = jnp.linalg.norm(from_pusher, axis=-1)
        pairs = blocks[:, None] - blocks[None]
        # Of two blocks the farther one gives way; of two equally far, each by half.
        gives_way = jnp.heaviside(far[:, None] - far[None], 0.5) * (1 - jnp.eye(len(blocks)))
        moved = _out_of(from_pusher, PUSHER + BLOCK) + jnp.sum(gives_way[..., None] * _out_of(pairs, 2 * BLOCK), axis=1)
        return blocks + moved, None

    return jax.lax.scan(move, blocks, None, length=2 * len(blocks))[0]


def _out_of(away: Float[Array, "... 2"], contact: float) -> Float[Array, "... 2"]:
    """How a disc moves so that its distance `away` from another one becomes at least `contact`."""
    distance = jnp.sqrt(jnp.maximum(jnp.sum(away**2, axis=-1, keepdims=True), 1e-12))
    return jnp.maximum(contact - distance, 0.0) * away / distance


class Pushing(AbstractControl):
    """Tables with `blocks` blocks in random directions, 0.4 to 0.8 from the pusher, of which a random one is rewarded.

    The goal is in a random direction, 1 to 1.2 from the pusher's start. The splits own disjoint slices of its direction;
    "out-of-range" goals are farther, 1.2 to 1.6.
    Raises `ValueError` unless there are 2 to 10 blocks.

    >>> import jax
    >>> Pushing(blocks=3).sample(jax.random.key(0), "test").blocks.shape
    (3, 2)
    """

    blocks: int = eqx.field(static=True, default=4)  # ours: a wrong block is pushed first three times of four
    sparse: bool = eqx.field(static=True, default=True)  # Gupta et al. 2018
    horizon: int = eqx.field(static=True, default=50)  # ours: twice what pushing one block to the goal takes

    @property
    def actions(self) -> Continuous:
        return Continuous(2)

    def __check_init__(self) -> None:
        if not 2 <= self.blocks <= 10:
            raise ValueError(f"blocks must be 2 to 10, not {self.blocks}")
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, not {self.horizon}")

    def sample(self, key: PRNGKeyArray, split: Split) -> PushingTask:
        goal_key, other_key = jr.split(key)
        beyond = split == "out-of-range"
        direction = draw_in_split(goal_key, "test" if beyond else split, -math.pi, math.pi, blocks=100)
        low, high = (1.2, 1.6) if beyond else (1.0, 1.2)
        # All other numbers from one call: each call would be compiled by itself.
        far, which, turn, *places = jnp.split(jr.uniform(other_key, (3 + 2 * self.blocks,)), [1, 2, 3, 3 + self.blocks])
        goal = (low + (high - low) * far) * at_angle(direction)
        rewarded = jnp.minimum((which[0] * self.blocks).astype(jnp.int32), self.blocks - 1)
        blocks = self.scatter(turn, *places)
        return PushingTask(blocks=blocks, rewarded=rewarded, goal=goal, sparse=self.sparse, horizon=self.horizon)

    def scatter(
        self, turn: Float[Array, "1"], along: Float[Array, " blocks"], out: Float[Array, " blocks"]
    ) -> Float[Array, "blocks 2"]:
        """Places that do not touch, from numbers on [0, 1]: each block stays in its own sector of a ring that is turned by `turn`."""
        sector = 2 * math.pi / self.blocks
        angles = sector * jnp.arange(self.blocks, dtype=float) + (sector - _APART) * along + 2 * math.pi * turn
        return (_NEAR + (_FAR - _NEAR) * out)[:, None] * at_angle(angles)
