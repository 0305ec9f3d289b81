"""The two-step task: who leads where, who pays, and whether the analysis counts what it says."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End
from quickstudy.tasks import TwoStep, TwoStepTask
from quickstudy.tasks.two_step import Stage, Trials, stay_probabilities, trials

KEY = jr.key(0)
SURE = TwoStepTask(jnp.array(1.0), jnp.int32(1), jnp.array([1.0, 0.0]), jnp.array(0.0))
RISKY = TwoStepTask(jnp.array(0.8), jnp.int32(1), jnp.array([0.9, 0.1]), jnp.array(0.025))


def turns(stage, action, n=20_000):
    world = Stage(jnp.int32(stage), RISKY.rich)
    return jax.jit(jax.vmap(lambda key: RISKY.step(world, jnp.int32(action), key)))(jr.split(KEY, n))


@pytest.mark.parametrize("action", [0, 1])
def test_a_trial_leads_to_a_state_and_then_pays_what_it_pays(action):
    world, view = SURE.reset(KEY)
    assert view.observation.tolist() == [1, 0, 0]
    middle = SURE.step(world, jnp.int32(action), KEY)
    assert middle.view.observation.tolist() == [0, action == 0, action == 1]
    assert (float(middle.score), int(middle.end)) == (0.0, End.RUNNING)
    for ignored in (0, 1):
        last = SURE.step(middle.world, jnp.int32(ignored), KEY)
        assert last.view.observation.tolist() == [1, 0, 0]
        assert (float(last.score), float(last.view.reward), int(last.end)) == (action, action, End.TERMINATED)


@pytest.mark.parametrize("action", [0, 1])
def test_rare_transitions_are_rare_and_nothing_else_happens_at_the_first_stage(action):
    found = turns(stage=0, action=action)
    # The deviation of a share of 20,000 is at most 0.0036, here and below.
    assert abs(float((found.world.stage - 1 == action).mean()) - 0.8) < 0.015
    assert set(found.world.rich.tolist()) == {1}
    assert set(found.score.tolist()) == {0.0}


@pytest.mark.parametrize(("state", "pays"), [(0, 0.1), (1, 0.9)])
def test_the_rich_state_pays_more_often_and_states_change_places_after_a_trial(state, pays):
    found = turns(stage=1 + state, action=0)
    assert abs(float(found.score.mean()) - pays) < 0.015
    assert abs(float((found.world.rich == 0).mean()) - 0.025) < 0.006
    assert set(found.world.stage.tolist()) == {0}


def test_tasks_of_a_split_differ_and_out_of_range_ones_swap_more_often():
    draw = lambda split: jax.jit(jax.vmap(lambda key: TwoStep().sample(key, split)))(jr.split(KEY, 200))
    drawn = {split: draw(split) for split in ("test", "out-of-range")}
    for tasks in drawn.values():
        assert 0.75 < tasks.common.min() < 0.77 < 0.83 < tasks.common.max() < 0.85
        assert abs(tasks.rich.mean() - 0.5) < 4 * 0.5 / np.sqrt(200)
    np.testing.assert_allclose(drawn["out-of-range"].volatility, 4 * drawn["test"].volatility)


def test_the_two_ticks_of_a_trial_are_put_together():
    first, states = jnp.array([1.0, 0, 0]), jnp.eye(3)[1:]
    observations = jnp.stack([first, states[1], first, states[0]])
    found = trials(observations, jnp.array([1, 0, 0, 1]), jnp.array([0.0, 1.0, 0.0, 0.0]))
    assert [part.tolist() for part in found] == [[1, 0], [1, 0], [1.0, 0.0]]


def test_stays_are_counted_by_reward_and_transition():
    # By hand, trial by trial: rewarded common, stayed; rewarded rare, left; unrewarded common, left; unrewarded rare, stayed;
    # rewarded common, left; and a last one.
    played = Trials(jnp.array([0, 0, 1, 0, 0, 1]), jnp.array([0, 1, 1, 1, 0, 0]), jnp.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(stay_probabilities(played), [[1.0, 0.0], [0.0, 0.5]])
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), played)
    np.testing.assert_array_equal(stay_probabilities(twice), stay_probabilities(played))


@pytest.mark.parametrize(
    ("wrong", "said"), [({"rich": 1.5}, "rich must be between 0 and 1"), ({"common": (0.8, 0.8)}, "common must be a range")]
)
def test_chances_that_are_none_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        TwoStep(**wrong)


def test_a_task_can_be_looked_at():
    world = Stage(jnp.int32(2), jnp.int32(1))
    assert RISKY.text(world) == "state 1; state 0 pays 0.10, state 1 pays 0.90"
    assert RISKY.image(world).shape == (64, 24, 3)
