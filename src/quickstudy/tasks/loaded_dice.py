"""Loaded dice: predict the next throw of a die whose chances nobody knows.

The chances are uniform over all that add up to one (a Dirichlet distribution with concentration one), so that the best prediction
after some throws is known: Laplace's rule, (how often a side came up + 1) / (throws + sides).

Source: the Dirichlet prediction tasks of Mikulik et al. 2020, "Meta-trained agents implement Bayes-optimal agents", section 3.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Split, Turn
from quickstudy.tasks.splits import draw_in_split


class Die(AbstractTask):
    """One die. View: the last throw `(sides,)`, one at the side that came up (zeros before the first); response: logits `(sides,)`;
    feedback: the throw; score: the logarithm in nats of the probability that the response gave to it.
    """

    chances: Float[Array, " sides"]

    @property
    def outputs(self) -> int:
        """How many answers there are."""
        return self.chances.shape[0]

    def reset(self, key: PRNGKeyArray) -> tuple[None, Float[Array, " sides"]]:
        return None, jnp.zeros_like(self.chances)

    def step(self, world: None, response: Float[Array, " sides"], key: PRNGKeyArray) -> Turn:
        throw = jax.nn.one_hot(jr.categorical(key, jnp.log(self.chances)), self.chances.shape[0])
        return Turn(None, throw, throw, jax.nn.log_softmax(response) @ throw, jnp.asarray(End.RUNNING, jnp.int32))


class LoadedDice(AbstractTaskDistribution):
    """Dice of some `sides`; the splits own disjoint slices of the first side's chance, by its quantile.

    Raises `ValueError` for fewer than two sides.

    >>> LoadedDice(sides=6).sample(jr.key(0), "test").chances.shape
    (6,)
    """

    sides: int = eqx.field(static=True, default=2)  # ours: a coin

    def __check_init__(self) -> None:
        if self.sides < 2:
            raise ValueError(f"sides must be at least 2, not {self.sides}")

    def sample(self, key: PRNGKeyArray, split: Split) -> Die:
        first_key, rest_key = jr.split(key)
        quantile = draw_in_split(first_key, split, 0.0, 1.0, blocks=100)
        # Of chances uniform over the simplex the first is distributed as Beta(1, sides - 1), and the others share the rest uniformly.
        first = 1 - (1 - quantile) ** (1 / (self.sides - 1))
        others = jr.exponential(rest_key, (self.sides - 1,))
        return Die(jnp.append((1 - first) * others / jnp.sum(others), first)[::-1])
