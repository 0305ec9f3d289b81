"""Pushing outward: the tables of `pushing`, turned so that the goal lies straight behind the rewarded block.

Whoever runs into the right block and runs on pushes it to the goal; which block that is, the rewards must tell.

Source: the block-pushing tasks of Gupta et al. 2018, "Meta-Reinforcement Learning of Structured Exploration Strategies", whose goals
lie behind the blocks as seen from the pusher; the geometry and its numbers are ours.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import Split
from quickstudy.tasks.control import AbstractControl, Continuous
from quickstudy.tasks.pushing import Pushing, PushingTask


class PushingOutward(AbstractControl):
    """Tables with `blocks` blocks, of which a random one is rewarded; see `Pushing` for the rest, splits included.

    >>> import jax
    >>> PushingOutward(blocks=3).sample(jax.random.key(0), "test").blocks.shape
    (3, 2)
    """

    blocks: int = eqx.field(static=True, default=4)  # ours, as for Pushing
    sparse: bool = eqx.field(static=True, default=True)  # Gupta et al. 2018
    horizon: int = eqx.field(static=True, default=30)  # ours: three times what pushing one block to the goal takes

    @property
    def actions(self) -> Continuous:
        return Continuous(2)

    def __check_init__(self) -> None:
        Pushing(self.blocks, self.sparse, self.horizon)

    def sample(self, key: PRNGKeyArray, split: Split) -> PushingTask:
        task = Pushing(self.blocks, self.sparse, self.horizon).sample(key, split)
        return eqx.tree_at(lambda t: t.blocks, task, turned(task.blocks, task.blocks[task.rewarded], task.goal))


def turned(places: Float[Array, "n 2"], start: Float[Array, "2"], end: Float[Array, "2"]) -> Float[Array, "n 2"]:
    """Places turned about the origin as `start` must be to lie in the direction of `end`.

    >>> turned(jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([2.0, 0.0]), jnp.array([0.0, 3.0])).tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """
    lengths = jnp.linalg.norm(start) * jnp.linalg.norm(end)
    cosine, sine = jnp.dot(start, end) / lengths, (start[0] * end[1] - start[1] * end[0]) / lengths
    return places @ jnp.array([[cosine, sine], [-sine, cosine]])
