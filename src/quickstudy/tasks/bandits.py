"""Bandits: arms that pay, and a player who must find out which pays best while playing.

Observation: nothing (an empty array). Response: the arm. Score: the reward. Every pull is an episode of its own, and the arms of a
restless bandit move on between pulls. The player sees the last arm, its reward and the end, which is all there is to see.

Sources: Bernoulli arms, uniform on [0, 1]: Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning".
Dependent and restless arms: Wang et al. 2016, "Learning to reinforcement learn", sections 3.1.2 and 3.1.4.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.scipy.stats
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree, UInt8

from quickstudy.core import End, Split, Turn
from quickstudy.tasks.control import AbstractControl, AbstractControlTask, ControlView, Discrete, check_response, first_view
from quickstudy.tasks.drawing import bars
from quickstudy.tasks.splits import draw_in_split

# Slices of a ten-thousandth: every split's mean of an arm is then 0.5 to three digits, as a forced first pull shows.
_BLOCKS = 1_000


class AbstractBandit(AbstractControlTask):
    """A bandit: what its arms are worth at birth, what a pull pays, and how the arms move between pulls."""

    @abc.abstractmethod
    def worth(self) -> Float[Array, " arms"]:
        """The mean reward of every arm at birth: the hidden world."""

    @abc.abstractmethod
    def pay(self, mean: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, ""]:
        """The reward of pulling an arm with this mean."""

    @abc.abstractmethod
    def move(self, means: Float[Array, " arms"], key: PRNGKeyArray) -> Float[Array, " arms"]:
        """The arms' means at the next pull."""

    @property
    def actions(self) -> Discrete:
        return Discrete(self.worth().shape[-1])

    def reset(self, key: PRNGKeyArray) -> tuple[Float[Array, " arms"], ControlView]:
        return self.worth(), first_view(jnp.zeros(0), self.actions)

    def step(self, world: Float[Array, " arms"], response: Int[Array, ""], key: PRNGKeyArray) -> Turn:
        pay_key, move_key = jr.split(key)
        reward = self.pay(world[check_response(response, self.actions)], pay_key)
        view = ControlView(jnp.zeros(0), response, reward, jnp.asarray(End.TERMINATED, jnp.int32))
        return Turn(self.move(world, move_key), view, view, reward, view.end)

    def text(self, world: PyTree) -> str:
        """One line for each arm: its mean and a bar."""
        means = np.asarray(world)
        longest = max(float(np.abs(means).max()), 1e-9)
        return "\n".join(f"{arm:3d} {mean:6.2f} {'#' * round(20 * abs(mean) / longest)}" for arm, mean in enumerate(means))

    def image(self, world: PyTree) -> UInt8[np.ndarray, "height width 3"]:
        """One bar for each arm."""
        return bars(np.asarray(world))


class BernoulliArms(AbstractBandit):
    """Arms that pay one with a probability, else nothing; `probabilities` has shape `(arms,)`."""

    probabilities: Float[Array, " arms"]

    def worth(self) -> Float[Array, " arms"]:
        return self.probabilities

    def pay(self, mean: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, ""]:
        return (jr.uniform(key) < mean).astype(jnp.float32)

    def move(self, means: Float[Array, " arms"], key: PRNGKeyArray) -> Float[Array, " arms"]:
        return means


class GaussianArms(AbstractBandit):
    """Arms that pay a normal number: `means` of shape `(arms,)`, one standard `deviation` for all."""

    means: Float[Array, " arms"]
    deviation: Float[Array, ""]

    def worth(self) -> Float[Array, " arms"]:
        return self.means

    def pay(self, mean: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, ""]:
        return mean + self.deviation * jr.normal(key)

    def move(self, means: Float[Array, " arms"], key: PRNGKeyArray) -> Float[Array, " arms"]:
        return means


class RestlessArms(AbstractBandit):
    """Bernoulli arms whose probabilities change places: before every pull, with chance `volatility`, they are handed on by one arm."""

    probabilities: Float[Array, " arms"]
    volatility: Float[Array, ""]

    def worth(self) -> Float[Array, " arms"]:
        return self.probabilities

    def pay(self, mean: Float[Array, ""], key: PRNGKeyArray) -> Float[Array, ""]:
        return (jr.uniform(key) < mean).astype(jnp.float32)

    def move(self, means: Float[Array, " arms"], key: PRNGKeyArray) -> Float[Array, " arms"]:
        return jnp.where(jr.uniform(key) < self.volatility, jnp.roll(means, 1), means)


class AbstractBandits(AbstractControl):
    """A distribution of bandits with `arms` arms."""

    arms: eqx.AbstractVar[int]

    @property
    def actions(self) -> Discrete:
        return Discrete(self.arms)

    def __check_init__(self) -> None:
        if self.arms < 2:
            raise ValueError(f"arms must be at least 2, not {self.arms}")


class BernoulliBandit(AbstractBandits):
    """Bandits with `arms` independent arms, uniform on [0, 1]; the splits own disjoint slices of the first arm's probability.

    "out-of-range" bandits are hard: all arms lie within 0.1 of each other, in the slices of the test split.

    >>> import jax
    >>> BernoulliBandit(arms=3).sample(jax.random.key(0), "test").probabilities.shape
    (3,)
    """

    arms: int = eqx.field(static=True, default=5)  # Duan et al. 2016: 5, 10 and 50

    def sample(self, key: PRNGKeyArray, split: Split) -> BernoulliArms:
        first_key, other_key = jr.split(key)
        hard = split == "out-of-range"
        first = draw_in_split(first_key, "test" if hard else split, 0.0, 1.0, blocks=_BLOCKS)
        others = jr.uniform(other_key, (self.arms - 1,))
        if hard:
            others = jnp.clip(first + 0.2 * others - 0.1, 0.0, 1.0)
        return BernoulliArms(jnp.concatenate([first[None], others]))


class GaussianBandit(AbstractBandits):
    """Bandits whose arms' means are standard normal, with rewards of standard deviation `deviation`.

    The splits own disjoint slices of the first mean's distribution function; "out-of-range" means are three times as wide.

    >>> import jax
    >>> GaussianBandit(arms=3).sample(jax.random.key(0), "test").means.shape
    (3,)
    """

    arms: int = eqx.field(static=True, default=5)  # ours, as for Bernoulli arms
    deviation: float = eqx.field(static=True, default=1.0)  # ours: as wide as the prior, so that one pull tells half

    def __check_init__(self) -> None:
        if not self.deviation > 0:
            raise ValueError(f"deviation must be positive, not {self.deviation}")

    def sample(self, key: PRNGKeyArray, split: Split) -> GaussianArms:
        first_key, other_key = jr.split(key)
        hard = split == "out-of-range"
        first = normal_in_split(first_key, "test" if hard else split)
        means = jnp.concatenate([first[None], jr.normal(other_key, (self.arms - 1,))])
        return GaussianArms(3 * means if hard else means, jnp.asarray(self.deviation))


def normal_in_split(key: PRNGKeyArray, split: Split) -> Float[Array, ""]:
    """A standard normal number from the slices of its distribution function that a split owns."""
    return jax.scipy.stats.norm.ppf(draw_in_split(key, split, 0.0, 1.0, blocks=_BLOCKS))


class CorrelatedBandit(AbstractBandits):
    """Two arms that pay with probabilities p and 1 - p: what one pays tells about the other. p is uniform on [0, 1].

    "out-of-range" bandits are hard: p within 0.1 of a half.
    Source: Wang et al. 2016, section 3.1.2 ("uniform" dependent arms).

    >>> import jax
    >>> float(CorrelatedBandit().sample(jax.random.key(0), "test").probabilities.sum())
    1.0
    """

    arms: int = eqx.field(static=True, default=2, init=False)

    def sample(self, key: PRNGKeyArray, split: Split) -> BernoulliArms:
        hard = split == "out-of-range"
        first = draw_in_split(key, "test" if hard else split, *((0.4, 0.6) if hard else (0.0, 1.0)), blocks=_BLOCKS)
        return BernoulliArms(jnp.stack([first, 1 - first]))


class RestlessBandit(AbstractBandits):
    """Two arms that pay with probabilities p and 1 - p and change places with a chance that differs from bandit to bandit.

    The chance per pull is uniform on [0, 0.2], p uniform on [0, 1]; "out-of-range" bandits change places with a chance of up to 0.4.
    Source: the volatile bandits of Wang et al. 2018, "Prefrontal cortex as a meta-reinforcement learning system"; the ranges are ours.

    >>> import jax
    >>> float(RestlessBandit().sample(jax.random.key(0), "test").volatility) < 0.2
    True
    """

    arms: int = eqx.field(static=True, default=2, init=False)

    def sample(self, key: PRNGKeyArray, split: Split) -> RestlessArms:
        first_key, volatility_key = jr.split(key)
        hard = split == "out-of-range"
        first = draw_in_split(first_key, "test" if hard else split, 0.0, 1.0, blocks=_BLOCKS)
        low, high = (0.2, 0.4) if hard else (0.0, 0.2)
        return RestlessArms(jnp.stack([first, 1 - first]), jr.uniform(volatility_key, minval=low, maxval=high))
