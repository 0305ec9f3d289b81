"""Bodies that are paid for one of two directions, and tables whose goal lies behind the block."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks import Pushing, PushingOutward, TwoDirections
from quickstudy.tasks.two_directions import TwoDirectionsTask

KEY = jr.key(0)


def rewards(task, action, ticks):
    """What an episode brings whose every action is the same."""

    def tick(state, _):
        after, reward, _ = task.act(state, action, KEY)
        return after, reward

    return np.asarray(jax.lax.scan(tick, task.begin(KEY), length=ticks)[1])


def test_full_force_in_the_right_direction_brings_what_is_best_and_the_other_its_opposite():
    task = TwoDirectionsTask(direction=jnp.array(-1.0), mass=jnp.array(1.6), horizon=20)
    best = np.asarray(task.best())
    np.testing.assert_allclose(rewards(task, -jnp.ones(1), 20), best, rtol=1e-5)
    np.testing.assert_allclose(rewards(task, 5 * jnp.ones(1), 20), -best, rtol=1e-5, err_msg="forces are clipped")
    # A mass of 1.6 closes an eighth of the gap in a tick.
    assert best[0] == pytest.approx(0.125)
    assert (np.diff(best) > 0).all()


def test_half_of_the_bodies_are_paid_for_each_direction_in_every_split():
    for split in ("train", "test", "out-of-range"):
        tasks = eqx.filter_jit(sample_tasks)(TwoDirections(), KEY, split, 2_000)
        # The deviation of the mean of 2,000 signs is 0.022.
        assert abs(float(tasks.direction.mean())) < 0.1
        assert set(np.abs(np.asarray(tasks.direction)).tolist()) == {1.0}
        low, high = (2.0, 3.0) if split == "out-of-range" else (0.5, 2.0)
        assert low <= float(tasks.mass.min()) < float(tasks.mass.max()) <= high


def test_a_body_can_be_looked_at():
    task = TwoDirectionsTask(direction=jnp.array(1.0), mass=jnp.array(1.0), horizon=20)
    world = task.reset(KEY)[0]._replace(state=jnp.array(-0.4))
    assert task.text(world) == "<<<<       forward is paid"
    assert task.image(world).shape == (96, 96, 3)


def test_outward_goals_lie_straight_behind_the_rewarded_block_and_nothing_else_changes():
    ours, theirs = (eqx.filter_jit(sample_tasks)(tasks, KEY, "test", 50) for tasks in (PushingOutward(), Pushing(horizon=30)))
    block = jax.vmap(lambda blocks, which: blocks[which])(ours.blocks, ours.rewarded)
    lengths = jnp.linalg.norm(block, axis=1) * jnp.linalg.norm(ours.goal, axis=1)
    np.testing.assert_allclose(jnp.sum(block * ours.goal, axis=1) / lengths, 1, atol=1e-5)
    np.testing.assert_array_equal(ours.goal, theirs.goal)
    apart = lambda task: np.linalg.norm(np.asarray(task.blocks)[:, :, None] - np.asarray(task.blocks)[:, None], axis=-1)
    np.testing.assert_allclose(apart(ours), apart(theirs), atol=1e-5, err_msg="a turn keeps distances")
    np.testing.assert_allclose(jnp.linalg.norm(ours.blocks, axis=-1), jnp.linalg.norm(theirs.blocks, axis=-1), atol=1e-5)


def test_bad_settings_are_refused_in_one_sentence():
    with pytest.raises(ValueError, match="horizon must be at least 1, not 0"):
        TwoDirections(horizon=0)
    with pytest.raises(ValueError, match="blocks must be 2 to 10, not 1"):
        PushingOutward(blocks=1)
