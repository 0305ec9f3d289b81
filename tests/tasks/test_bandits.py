"""Bandits pay what they say, and the splits differ where they say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from quickstudy.core import End, sample_tasks
from quickstudy.tasks import BernoulliBandit
from quickstudy.tasks.bandits import Bandit

KEY = jr.key(0)


def probabilities(split, arms=4, n=2_000):
    return np.asarray(eqx.filter_jit(sample_tasks)(BernoulliBandit(arms=arms), KEY, split, n).probabilities)


def test_sure_arms_always_pay_and_dead_arms_never():
    bandit = Bandit(jnp.array([0.0, 1.0]))
    for arm, reward in ((0, 0.0), (1, 1.0)):
        turns = jax.vmap(lambda key, arm=arm: bandit.step(None, jnp.int32(arm), key))(jr.split(KEY, 200))
        assert set(turns.score.tolist()) == {reward} == set(turns.feedback.reward.tolist())
        assert set(turns.view.action.tolist()) == {arm}
        assert set(turns.end.tolist()) == {End.TERMINATED}


def test_before_the_first_pull_there_is_no_action_and_no_reward():
    _, view = Bandit(jnp.array([0.5, 0.5])).reset(KEY)
    assert (int(view.action), float(view.reward), int(view.end)) == (-1, 0.0, End.RUNNING)


def test_splits_own_slices_of_the_first_arm_and_share_the_others():
    first = {split: set(np.floor(100 * probabilities(split)[:, 0]).astype(int).tolist()) for split in ("train", "valid", "test")}
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
    assert set(np.floor(100 * hard[:, 0]).astype(int) % 10) == {9}, "not drawn like a test"
    assert np.ptp(probabilities("test"), axis=1).mean() > 0.4
