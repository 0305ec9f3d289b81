"""Bandits pay what they say, and the splits differ where they say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End, sample_tasks
from quickstudy.tasks import BernoulliBandit
from quickstudy.tasks.bandits import BernoulliArms, GaussianArms, RestlessArms
from quickstudy.tasks.control import Continuous, Discrete, check_response

KEY = jr.key(0)


def probabilities(split, arms=4, n=2_000):
    return np.asarray(eqx.filter_jit(sample_tasks)(BernoulliBandit(arms=arms), KEY, split, n).probabilities)


def test_sure_arms_always_pay_and_dead_arms_never():
    bandit = BernoulliArms(jnp.array([0.0, 1.0]))
    for arm, reward in ((0, 0.0), (1, 1.0)):
        turns = jax.vmap(lambda key, arm=arm: bandit.step(bandit.worth(), jnp.int32(arm), key))(jr.split(KEY, 200))
        assert set(turns.score.tolist()) == {reward} == set(turns.feedback.reward.tolist())
        assert set(turns.view.action.tolist()) == {arm}
        assert set(turns.end.tolist()) == {End.TERMINATED}


def test_before_the_first_pull_there_is_no_action_and_no_reward():
    _, view = BernoulliArms(jnp.array([0.5, 0.5])).reset(KEY)
    assert (int(view.action), float(view.reward), int(view.end)) == (-1, 0.0, End.RUNNING)


def test_splits_own_slices_of_the_first_arm_and_share_the_others():
    first = {split: set(np.floor(10_000 * probabilities(split)[:, 0]).astype(int).tolist()) for split in ("train", "valid", "test")}
    assert not first["train"] & first["valid"]
    assert not first["train"] & first["test"]
    assert not first["valid"] & first["test"]
    for split in first:
        others = probabilities(split)[:, 1:]
        # The deviation of the mean of 6,000 uniform numbers is 0.0037.
        assert abs(others.mean() - 0.5) < 0.02
        assert others.min() < 0.01
        assert others.max() > 0.99


def test_out_of_range_arms_are_close_to_each_other():
    hard = probabilities("out-of-range")
    assert (np.abs(hard - hard[:, :1]) <= 0.1 + 1e-6).all()
    assert (hard >= 0).all()
    assert (hard <= 1).all()
    assert set(np.floor(10_000 * hard[:, 0]).astype(int) % 10) == {9}, "not drawn like a test"
    assert np.ptp(probabilities("test"), axis=1).mean() > 0.4


def means_over_a_life(task, n=4_000):
    """The arms' means after each of n moves."""

    def move(means, key):
        after = task.move(means, key)
        return after, after

    return np.asarray(jax.lax.scan(move, task.worth(), jr.split(KEY, n))[1])


def test_restless_arms_change_places_as_often_as_they_say():
    moved = means_over_a_life(RestlessArms(jnp.array([0.2, 0.8]), jnp.array(0.1)))
    assert set(np.unique(moved).tolist()) == {np.float32(0.2), np.float32(0.8)}
    # 4,000 chances of 0.1: the deviation of the share is 0.005.
    assert abs((moved[1:, 0] != moved[:-1, 0]).mean() - 0.1) < 0.02


def test_gaussian_arms_pay_their_mean_with_their_deviation():
    bandit = GaussianArms(jnp.array([-2.0, 3.0]), jnp.array(0.5))
    rewards = np.asarray(jax.vmap(lambda key: bandit.step(bandit.worth(), jnp.int32(1), key).score)(jr.split(KEY, 4_000)))
    assert abs(rewards.mean() - 3.0) < 0.04
    assert abs(rewards.std() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("response", "actions"), [(jnp.float32(0), Discrete(2)), (jnp.zeros(2, jnp.int32), Discrete(2)), (jnp.zeros(3), Continuous(2))]
)
def test_a_response_that_is_no_action_is_refused(response, actions):
    with pytest.raises(TypeError, match="a response must be one action of"):
        check_response(response, actions)


def test_a_bandit_can_be_looked_at():
    bandit = BernoulliArms(jnp.array([0.25, 0.5]))
    assert bandit.text(bandit.worth()).splitlines() == ["  0   0.25 ##########", "  1   0.50 ####################"]
    assert bandit.image(bandit.worth()).shape == (64, 24, 3)
