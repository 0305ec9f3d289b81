"""A sure arm and an unknown one: a bandit in which finding out has a price, so that it may be wise never to begin.

The first arm always pays nothing. The second pays a normal number whose mean is unknown, and expected to be below nothing. Whoever
takes it loses at first, on average, and gains only if its mean turns out well and life is long enough to make use of it.

Source: Lange and Sprekeler 2020, "Learning not to Learn: Nature versus Nurture in Silico", its first task.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import Number, Split
from quickstudy.tasks.bandits import AbstractBandit, AbstractBandits, normal_in_split

EXPECTED = -1.0  # Lange and Sprekeler 2020: what the unknown arm's mean is expected to be


class SureAndUnknownArm(AbstractBandit):
    """An arm that pays nothing, and one that pays normal numbers of this `mean` and `deviation`."""

    mean: Float[Array, ""]
    deviation: Float[Array, ""]

    def worth(self) -> Float[Array, " arms"]:
        return jnp.stack([jnp.zeros_like(self.mean), self.mean])

    def pay(self, mean: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, ""]:
        # Only the sure arm is worth exactly nothing: the unknown one's mean comes from a continuous distribution.
        return jnp.where(mean == 0, 0.0, mean + self.deviation * jr.normal(key))

    def move(self, means: Float[Array, " arms"], key: PRNGKeyArray) -> Float[Array, " arms"]:
        return means


class UnknownArm(AbstractBandits):
    """Bandits whose second arm has a mean drawn from a normal distribution around -1 with standard deviation `spread`.

    `deviation` is that of the rewards; both may be arrays, so that a sweep over them is a `vmap`. The splits own disjoint slices of
    the mean's distribution function; "out-of-range" bandits have twice the spread. Raises `ValueError` unless both are positive.

    >>> import jax
    >>> UnknownArm().sample(jax.random.key(0), "test").worth().shape
    (2,)
    """

    spread: Number = 1.0  # ours: with rewards this noisy and 20 pulls, just enough uncertainty for learning to pay
    deviation: Number = 1.0  # ours: one pull tells half
    arms: int = eqx.field(static=True, default=2, init=False)

    def __check_init__(self) -> None:
        for name in ("spread", "deviation"):
            value = getattr(self, name)
            if not eqx.is_array(value) and not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")

    def sample(self, key: PRNGKeyArray, split: Split) -> SureAndUnknownArm:
        hard = split == "out-of-range"
        standard = normal_in_split(key, "test" if hard else split)
        mean = EXPECTED + (2 if hard else 1) * self.spread * standard
        return SureAndUnknownArm(mean, jnp.asarray(self.deviation))
