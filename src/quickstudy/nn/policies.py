"""Distributions over actions, as few lines as they need: draw, log-probability, entropy, divergence."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray


class Categorical(eqx.Module):
    """A distribution over `n` actions from logits `(..., n)`.

    >>> policy = Categorical(jnp.log(jnp.array([0.25, 0.75])))
    >>> round(float(jnp.exp(policy.log_probability(jnp.array(1)))), 2)
    0.75
    """

    logits: Float[Array, "... n"]

    def draw(self, key: PRNGKeyArray) -> Int[Array, "..."]:
        # One number a draw, where the Gumbel trick needs one an action.
        place = jr.uniform(key, (*self.logits.shape[:-1], 1))
        below = jnp.cumsum(jax.nn.softmax(self.logits), axis=-1) <= place
        return jnp.sum(below, axis=-1).clip(max=self.logits.shape[-1] - 1).astype(jnp.int32)

    def likeliest(self) -> Int[Array, "..."]:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_probability(self, action: Int[Array, "..."]) -> Float[Array, "..."]:
        # A masked sum, since the gradient of an index is a scatter, which goes one by one on a CPU.
        chosen = jax.nn.one_hot(action, self.logits.shape[-1], dtype=bool)
        return jnp.sum(jnp.where(chosen, jax.nn.log_softmax(self.logits), 0.0), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        log = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log) * log, axis=-1)

    def divergence(self, other: Any) -> Float[Array, "..."]:
        """KL(self || other)."""
        log = jax.nn.log_softmax(self.logits)
        return jnp.sum(jnp.exp(log) * (log - jax.nn.log_softmax(other.logits)), axis=-1)


class Gaussian(eqx.Module):
    """Independent normal distributions: mean `(..., size)` and logarithm of the standard deviation, broadcast against it.

    Draws are not bounded: a task clips them, and the log-probability is that of the draw before clipping.

    >>> policy = Gaussian(jnp.zeros(1), jnp.zeros(1))
    >>> round(float(policy.entropy()), 3)
    1.419
    """

    mean: Float[Array, "... size"]
    log_deviation: Float[Array, "... size"]

    def draw(self, key: PRNGKeyArray) -> Float[Array, "... size"]:
        return self.mean + jnp.exp(self.log_deviation) * jr.normal(key, self.mean.shape)

    def likeliest(self) -> Float[Array, "... size"]:
        return self.mean

    def log_probability(self, action: Float[Array, "... size"]) -> Float[Array, "..."]:
        z = (action - self.mean) * jnp.exp(-self.log_deviation)
        return jnp.sum(-0.5 * z * z - self.log_deviation - 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> Float[Array, "..."]:
        wide = jnp.broadcast_to(self.log_deviation, self.mean.shape)
        return jnp.sum(wide + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def divergence(self, other: Any) -> Float[Array, "..."]:
        """KL(self || other)."""
        ratio = jnp.exp(2 * (self.log_deviation - other.log_deviation))
        away = (self.mean - other.mean) * jnp.exp(-other.log_deviation)
        return 0.5 * jnp.sum(ratio + away * away - 1 - jnp.log(ratio), axis=-1)


class SquashedGaussian(eqx.Module):
    """The tanh of independent normal numbers, so that draws lie within -1 and 1: mean and logarithm of the deviation `(..., size)`.

    Source: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", appendix C.

    >>> policy = SquashedGaussian(jnp.zeros(1), jnp.zeros(1))
    >>> float(policy.likeliest()[0])
    0.0
    """

    mean: Float[Array, "... size"]
    log_deviation: Float[Array, "... size"]

    def draw(self, key: PRNGKeyArray) -> Float[Array, "... size"]:
        return self.draw_and_judge(key)[0]

    def likeliest(self) -> Float[Array, "... size"]:
        """The tanh of the mean."""
        return jnp.tanh(self.mean)

    def draw_and_judge(self, key: PRNGKeyArray) -> tuple[Float[Array, "... size"], Float[Array, "..."]]:
        """A draw and its log-probability, both differentiable by mean and deviation."""
        normal = Gaussian(self.mean, self.log_deviation)
        inner = normal.draw(key)
        # log(1 - tanh(x)^2), written so that it stays finite where tanh rounds to one.
        squeeze = 2 * (math.log(2) - inner - jax.nn.softplus(-2 * inner))
        return jnp.tanh(inner), normal.log_probability(inner) - jnp.sum(squeeze, axis=-1)


# The policies whose log-probability, entropy and divergence are known.
Policy = Categorical | Gaussian
