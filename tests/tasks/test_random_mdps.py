"""Random decision processes follow their tables, restart on time, and come from the prior they name."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End, sample_tasks
from quickstudy.tasks import RandomMDP, RandomMDPs
from quickstudy.tasks.control import Episode

KEY = jr.key(0)


def drawn(split, n=400):
    return eqx.filter_jit(sample_tasks)(RandomMDPs(), KEY, split, n)


def at(state, time=0):
    return Episode(jnp.int32(state), jnp.int32(time))


def test_next_states_and_rewards_follow_the_tables():
    task = RandomMDPs(n_states=4, n_actions=2).sample(KEY, "train")
    turns = jax.jit(jax.vmap(lambda key: task.step(at(2), jnp.int32(1), key)))(jr.split(KEY, 10_000))
    shares = np.bincount(np.asarray(turns.world.state), minlength=4) / 10_000
    # The deviation of a share is at most 0.005, that of the mean reward 0.01, and that of the rewards' deviation 0.007.
    assert np.abs(shares - task.transitions[2, 1]).max() < 0.02
    assert abs(float(turns.score.mean() - task.rewards[2, 1])) < 0.04
    assert abs(float(turns.score.std()) - 1) < 0.03


def test_an_episode_is_cut_off_on_time_and_the_next_begins_in_state_0():
    always_next = jnp.roll(jnp.eye(3), 1, axis=1)[:, None]
    task = RandomMDP(transitions=always_next, rewards=jnp.zeros((3, 1)), horizon=4)
    world, view = task.reset(KEY)
    seen = [int(view.observation.argmax())]
    ends = []
    for _ in range(5):
        turn = task.step(world, jnp.int32(0), KEY)
        world, last = turn.world, turn.feedback.observation
        seen.append(int(turn.view.observation.argmax()))
        ends.append(int(turn.end))
        if turn.end == End.TRUNCATED:
            assert int(last.argmax()) == 1, "feedback shows where the last action led: 4 steps around a ring of 3"
    assert seen == [0, 1, 2, 0, 0, 1]
    assert ends == [End.RUNNING] * 3 + [End.TRUNCATED, End.RUNNING]


def test_the_prior_is_the_one_it_names():
    tasks = drawn("train")
    rewards, transitions = np.asarray(tasks.rewards), np.asarray(tasks.transitions)
    # 20,000 normal numbers: deviations of the mean 0.007, of the deviation 0.005.
    assert abs(rewards.mean() - 1) < 0.03
    assert abs(rewards.std() - 1) < 0.02
    np.testing.assert_allclose(transitions.sum(axis=-1), 1, atol=1e-5)
    # Shares of Dirichlet(1) in 10 dimensions have variance 9 / 1100, and the largest is a tenth of 1 + 1/2 + ... + 1/10 on average.
    assert transitions.var() == pytest.approx(9 / 1100, rel=0.02)
    assert transitions.max(axis=-1).mean() == pytest.approx(np.mean(1 / np.arange(1, 11)), rel=0.02)


def test_out_of_range_processes_are_nearly_deterministic():
    hard = drawn("out-of-range", n=50)
    assert float(hard.transitions.max(axis=-1).mean()) > 2 * np.mean(1 / np.arange(1, 11))
    assert set(np.floor(10_000 * jax.scipy.stats.norm.cdf(hard.rewards[:, 0, 0] - 1)).astype(int) % 10) == {9}, "not drawn like a test"


@pytest.mark.parametrize(("name", "least"), [("n_states", 2), ("n_actions", 2), ("horizon", 1)])
def test_sizes_that_make_no_problem_are_refused(name, least):
    with pytest.raises(ValueError, match=f"{name} must be at least {least}, not {least - 1}"):
        RandomMDPs(**{name: least - 1})


def test_a_process_can_be_looked_at():
    task = RandomMDP(transitions=jnp.full((2, 2, 2), 0.5), rewards=jnp.array([[0.0, 1.0], [2.0, -1.5]]), horizon=3)
    assert task.text(at(1)).splitlines() == ["   0   0.00   1.00", ">  1   2.00  -1.50"]
    picture = task.image(at(1))
    assert picture.shape == (32, 32, 3)
    assert picture[8, 8, 2] > picture[8, 8, 0], "blue where one is not"
    assert picture[24, 8, 0] > picture[24, 8, 2], "orange where one is"
