"""Arithmetic of reinforcement learning: returns, advantages, off-policy targets. Each exists once, and along the first axis.

Ends come in two kinds. `values_after[t]` is what the place that the action of tick `t` led to is worth: zero where the episode
terminated, the value of the *last* observation where it was cut off. `goes_on[t]` is 0 where tick `t` ended an episode in either way,
so that nothing of the next one leaks backwards. `bootstrap` makes both from `End`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from quickstudy.core import End, Number


def bootstrap(values_after: Float[Array, "ticks ..."], ends: Int[Array, "ticks ..."]) -> tuple[Array, Array]:
    """What may be bootstrapped from, and through: `(values_after, goes_on)` as the functions below want them.

    >>> after, goes_on = bootstrap(jnp.array([5.0, 6.0, 7.0]), jnp.array([End.RUNNING, End.TRUNCATED, End.TERMINATED]))
    >>> after.tolist(), goes_on.tolist()
    ([5.0, 6.0, 0.0], [1.0, 0.0, 0.0])
    """
    return jnp.where(ends == End.TERMINATED, 0.0, values_after), (ends == End.RUNNING).astype(values_after.dtype)


def returns(
    rewards: Float[Array, "ticks ..."], goes_on: Float[Array, "ticks ..."], last: Float[Array, "..."], *, discount: Number
) -> Float[Array, "ticks ..."]:
    """Discounted sums of what follows each tick, `last` being the worth of the future after the last one.

    >>> returns(jnp.array([1.0, 1.0, 1.0]), jnp.array([1.0, 0.0, 1.0]), jnp.array(8.0), discount=0.5).tolist()
    [1.5, 1.0, 5.0]
    """

    def back(after: Array, tick: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, on = tick
        now = reward + discount * on * after
        return now, now

    return jax.lax.scan(back, last, (rewards, goes_on), reverse=True)[1]


def advantages(
    rewards: Float[Array, "ticks ..."],
    values: Float[Array, "ticks ..."],
    values_after: Float[Array, "ticks ..."],
    goes_on: Float[Array, "ticks ..."],
    *,
    discount: Number,
    decay: Number,
) -> Float[Array, "ticks ..."]:
    """Generalised advantage estimates: errors of one-tick predictions, summed with weights (discount decay)^k within an episode.

    With `decay` 0 they are one-tick errors, with 1 the return minus the value.
    Source: Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation", equation 16.

    >>> ones = jnp.ones(2)
    >>> advantages(ones, 0 * ones, 0 * ones, ones, discount=1.0, decay=1.0).tolist()
    [2.0, 1.0]
    """
    errors = rewards + discount * values_after - values
    return returns(errors, goes_on, jnp.zeros_like(errors[0]), discount=discount * decay)


def v_trace(
    rewards: Float[Array, "ticks ..."],
    values: Float[Array, "ticks ..."],
    values_after: Float[Array, "ticks ..."],
    goes_on: Float[Array, "ticks ..."],
    log_ratios: Float[Array, "ticks ..."],
    *,
    discount: Number,
    decay: Number = 1.0,
    most: Number = 1.0,
) -> tuple[Float[Array, "ticks ..."], Float[Array, "ticks ..."]]:
    """Value targets and policy-gradient advantages from actions that another policy drew.

    `log_ratios` are log(new policy / policy that acted); ratios are clipped at `most`. With equal policies the targets are those of
    `advantages` plus the values.
    Source: Espeholt et al. 2018, "IMPALA: Scalable Distributed Deep-RL with Importance Weighted Actor-Learner Architectures",
    equation 1.

    >>> ones, zeros = jnp.ones(2), jnp.zeros(2)
    >>> v_trace(ones, zeros, zeros, ones, zeros, discount=1.0)[0].tolist()
    [2.0, 1.0]
    """
    ratios = jnp.minimum(jnp.exp(log_ratios), most)
    traces = decay * jnp.minimum(jnp.exp(log_ratios), 1.0)
    errors = ratios * (rewards + discount * values_after - values)

    def back(after: Array, tick: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        error, trace, on = tick
        now = error + discount * on * trace * after
        return now, now

    corrections = jax.lax.scan(back, jnp.zeros_like(errors[0]), (errors, traces, goes_on), reverse=True)[1]
    targets = values + corrections
    # Where an episode goes on, the next tick's own target is worth more than its value alone.
    following = jnp.concatenate([corrections[1:], jnp.zeros_like(corrections[:1])])
    return targets, ratios * (rewards + discount * (values_after + goes_on * following) - values)


def explained_variance(predictions: Float[Array, "..."], targets: Float[Array, "..."]) -> Float[Array, ""]:
    """The share of the targets' variance that the predictions explain: 1 is perfect, 0 no better than their mean.

    >>> float(explained_variance(jnp.array([1.0, 2.0]), jnp.array([1.0, 2.0])))
    1.0
    """
    variance = jnp.var(targets)
    return jnp.where(variance > 0, 1 - jnp.var(targets - predictions) / jnp.maximum(variance, 1e-12), 0.0)
