"""Returns, advantages and off-policy targets against their definitions, written as plain loops, and their known limits."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End
from quickstudy.rl import advantages, bootstrap, explained_variance, returns, v_trace

TICKS, DISCOUNT, DECAY = 12, 0.9, 0.8
RUNNING, TERMINATED, TRUNCATED = End.RUNNING, End.TERMINATED, End.TRUNCATED


def lives(seed=0):
    """Rewards, values and what the last places are worth, of one life with an end of each kind."""
    rewards, values, after = jr.normal(jr.key(seed), (3, TICKS))
    ends = jnp.full(TICKS, RUNNING).at[4].set(TERMINATED).at[8].set(TRUNCATED).astype(jnp.int32)
    # Within an episode the place that a tick led to is where the next one starts.
    after = jnp.where(ends == RUNNING, jnp.append(values[1:], after[-1]), after)
    return rewards, values, ends, *bootstrap(after, ends)


def test_advantages_are_the_weighted_sums_of_errors_within_an_episode():
    rewards, values, ends, after, goes_on = lives()
    found = advantages(rewards, values, after, goes_on, discount=DISCOUNT, decay=DECAY)
    errors = np.asarray(rewards + DISCOUNT * after - values)
    for t in range(TICKS):
        total, weight = 0.0, 1.0
        for k in range(t, TICKS):
            total += weight * errors[k]
            weight *= DISCOUNT * DECAY
            if ends[k] != RUNNING:
                break
        np.testing.assert_allclose(found[t], total, rtol=1e-5, atol=1e-6)


def test_with_decay_one_advantages_are_returns_minus_values_and_with_zero_one_tick_errors():
    rewards, values, _, after, goes_on = lives(1)
    ended = rewards + DISCOUNT * jnp.where(goes_on == 0, after, 0.0)  # a cut-off episode is worth its last place
    whole = returns(ended, goes_on, after[-1], discount=DISCOUNT) - values
    np.testing.assert_allclose(advantages(rewards, values, after, goes_on, discount=DISCOUNT, decay=1.0), whole, rtol=1e-5, atol=1e-6)
    errors = rewards + DISCOUNT * after - values
    np.testing.assert_allclose(advantages(rewards, values, after, goes_on, discount=DISCOUNT, decay=0.0), errors, rtol=1e-6)


def test_a_terminated_episode_bootstraps_from_nothing_and_a_cut_off_one_from_its_last_place():
    after, goes_on = bootstrap(jnp.full(3, 7.0), jnp.array([RUNNING, TERMINATED, TRUNCATED]))
    assert (after.tolist(), goes_on.tolist()) == ([7.0, 0.0, 7.0], [1.0, 0.0, 0.0])


def test_nothing_leaks_backwards_over_an_end():
    rewards, values, _, after, goes_on = lives(2)
    changed = advantages(rewards.at[9:].add(100.0), values, after, goes_on, discount=DISCOUNT, decay=DECAY)
    found = advantages(rewards, values, after, goes_on, discount=DISCOUNT, decay=DECAY)
    np.testing.assert_array_equal(changed[:9], found[:9])
    assert (np.asarray(changed[9:]) != np.asarray(found[9:])).all()


def test_v_trace_with_equal_policies_is_the_return_that_the_advantages_estimate():
    rewards, values, _, after, goes_on = lives(3)
    targets, gains = v_trace(rewards, values, after, goes_on, jnp.zeros(TICKS), discount=DISCOUNT)
    on_policy = advantages(rewards, values, after, goes_on, discount=DISCOUNT, decay=1.0)
    np.testing.assert_allclose(targets, values + on_policy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gains, on_policy, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("most", [1.0, 2.0])
def test_v_trace_follows_its_definition(most):
    rewards, values, _, after, goes_on = lives(4)
    ratios = jnp.exp(jr.normal(jr.key(5), (TICKS,)))
    targets, _ = v_trace(rewards, values, after, goes_on, jnp.log(ratios), discount=DISCOUNT, decay=DECAY, most=most)
    for t in range(TICKS):
        total, weight = float(values[t]), 1.0
        for k in range(t, TICKS):
            error = min(float(ratios[k]), most) * float(rewards[k] + DISCOUNT * after[k] - values[k])
            total += weight * error
            weight *= DISCOUNT * DECAY * min(float(ratios[k]), 1.0) * float(goes_on[k])
        np.testing.assert_allclose(targets[t], total, rtol=1e-4, atol=1e-5)


def test_v_trace_forgets_actions_that_the_new_policy_would_never_take():
    rewards, values, _, after, goes_on = lives(6)
    targets, gains = v_trace(rewards, values, after, goes_on, jnp.full(TICKS, -1e9), discount=DISCOUNT)
    np.testing.assert_array_equal(targets, values)
    np.testing.assert_array_equal(gains, jnp.zeros(TICKS))


def test_explained_variance_of_a_constant_is_zero_and_of_the_opposite_negative():
    targets = jr.normal(jr.key(7), (50,))
    assert float(explained_variance(jnp.ones(50), targets)) == pytest.approx(0.0, abs=1e-6)
    assert float(explained_variance(-targets, targets)) == pytest.approx(-3.0, rel=1e-5)
    assert float(explained_variance(targets, jnp.ones(50))) == 0.0
