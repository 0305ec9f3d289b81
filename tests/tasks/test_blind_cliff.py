"""A cliff walk pays at its end only, and falls off at every wrong action."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import pytest

from quickstudy.core import End
from quickstudy.tasks.blind_cliff import BlindCliff, CliffWalk

KEY = jr.key(0)
WALK = CliffWalk(jnp.array([0, 1, 1, 0]), 5)


def walked(actions):
    """Scores and ends of an episode, and where each tick led."""
    step, (world, _) = eqx.filter_jit(WALK.step), WALK.reset(KEY)
    turns = []
    for action in actions:
        turns.append(step(world, jnp.int32(action), KEY))
        world = turns[-1].world
    return [float(t.score) for t in turns], [int(t.end) for t in turns], [int(t.feedback.observation.argmax()) for t in turns]


def test_the_right_actions_lead_to_the_reward():
    scores, ends, places = walked([0, 1, 1, 0])
    assert scores == [0.0, 0.0, 0.0, 1.0]
    assert ends == [End.RUNNING] * 3 + [End.TERMINATED]
    assert places[:3] == [1, 2, 3]


def test_a_wrong_action_ends_the_episode_and_the_next_begins_at_the_first_place():
    scores, ends, _ = walked([0, 0, 0])
    assert scores == [0.0] * 3
    assert ends == [End.RUNNING, End.TERMINATED, End.RUNNING]


def test_a_walk_can_be_looked_at():
    world, _ = WALK.reset(KEY)
    assert WALK.text(world) == "0110\n@"
    assert WALK.image(world).shape == (32, 64, 3)


def test_impossible_walks_are_refused():
    with pytest.raises(ValueError, match="length must be from 4 to 30, not 3"):
        BlindCliff(length=3)
    with pytest.raises(ValueError, match="split must be one of"):
        BlindCliff().sample(KEY, "out-of-range")
