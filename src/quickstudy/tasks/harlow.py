"""Harlow's learning sets: two new objects, one of them hides food; who has learned to learn errs at most once.

A tick is a trial: the two objects are shown side by side, in random places, and the player takes one. The same object is right in all
trials. A task is one pair of objects, a life is usually 6 trials with it, and every trial is an episode of its own. Observation: the
objects on the left and on the right, each a vector of features. Response: 0 takes the left one, 1 the right one. Score: 1 if it was
right.

Sources: Harlow 1949, "The Formation of Learning Sets"; as meta-learning: Wang et al. 2018, "Prefrontal cortex as a meta-reinforcement
learning system".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from quickstudy.core import End, Split, Turn
from quickstudy.tasks.bandits import normal_in_split
from quickstudy.tasks.control import AbstractControl, AbstractControlTask, ControlView, Discrete, check_response, first_view
from quickstudy.tasks.drawing import BLUE, ORANGE, WHITE, cells

_ACTIONS = Discrete(2)


class HarlowPair(AbstractControlTask):
    """Two objects; the first is the right one. The world is the side on which it lies: 0 is left, 1 is right."""

    objects: Float[Array, "2 features"]

    @property
    def actions(self) -> Discrete:
        return _ACTIONS

    def reset(self, key: PRNGKeyArray) -> tuple[Int[Array, ""], ControlView]:
        side = jr.bernoulli(key).astype(jnp.int32)
        return side, first_view(self._shown(side), _ACTIONS)

    def step(self, world: Int[Array, ""], response: Int[Array, ""], key: PRNGKeyArray) -> Turn:
        reward = (check_response(response, _ACTIONS) == world).astype(jnp.float32)
        side = jr.bernoulli(key).astype(jnp.int32)
        view = ControlView(self._shown(side), response, reward, jnp.asarray(End.TERMINATED, jnp.int32))
        return Turn(side, view, view, reward, view.end)

    def _shown(self, side: Int[Array, ""]) -> Float[Array, "2 features"]:
        return jnp.where(side == 0, self.objects, jnp.flip(self.objects, axis=0))

    def text(self, world: Int[Array, ""]) -> str:
        """The features of the object on the left and of that on the right; a star marks the right one."""
        line = lambda side, name, row: f"{'*' if side == int(world) else ' '} {name} " + " ".join(f"{x:5.2f}" for x in row)
        return "\n".join(map(line, (0, 1), ("left ", "right"), np.asarray(self._shown(world))))

    def image(self, world: Int[Array, ""]) -> UInt8[np.ndarray, "height width 3"]:
        """A row of squares for each object, left above right, the deeper the larger the feature; the right one is orange."""
        depth = np.clip(np.asarray(self._shown(world), float) / 4 + 0.5, 0, 1)
        full = np.stack([np.array(ORANGE if i == int(world) else BLUE) for i in range(2)])
        return cells((np.array(WHITE) + depth[..., None] * (full[:, None] - np.array(WHITE))).astype(np.uint8))


class Harlow(AbstractControl):
    """Pairs of objects of `features` standard normal numbers. The splits share no object: each owns slices of the first feature.

    "out-of-range" objects are three times as far apart. Raises `ValueError` for fewer than 1 feature.

    >>> Harlow(features=4).sample(jax.random.key(0), "test").objects.shape
    (2, 4)
    """

    features: int = eqx.field(static=True, default=8)  # ours: enough for two objects to be far apart

    def __check_init__(self) -> None:
        if self.features < 1:
            raise ValueError(f"features must be at least 1, not {self.features}")

    @property
    def actions(self) -> Discrete:
        return _ACTIONS

    def sample(self, key: PRNGKeyArray, split: Split) -> HarlowPair:
        first_key, other_key = jr.split(key)
        hard = split == "out-of-range"
        first = jax.vmap(lambda k: normal_in_split(k, "test" if hard else split))(jr.split(first_key, 2))
        objects = jnp.concatenate([first[:, None], jr.normal(other_key, (2, self.features - 1))], axis=1)
        return HarlowPair(3 * objects if hard else objects)
