"""An agent on the host does what the same learner does in a compiled life, and refuses what it cannot read."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms.probes import LADDER, Probes, ladder

from quickstudy.acting import Agent
from quickstudy.algorithms.metarl import rl2
from quickstudy.core import End, lifetime
from quickstudy.tasks import BernoulliBandit, Sinusoid

KEY = jr.key(3)


def probes(name="a detour that pays"):
    return Probes(jax.tree.map(lambda leaf: leaf[list(LADDER).index(name)], ladder()))


def agent_for(tasks):
    learner = rl2.learner(rl2.Config(width=8), tasks, jr.key(1))
    return learner, Agent(learner, tasks)


TASKS = {"bandit": BernoulliBandit(arms=4), "detour": probes(), "cut": probes("a time limit that is no end")}


@pytest.mark.parametrize("tasks", TASKS.values(), ids=TASKS)
def test_an_agent_does_what_a_lifetime_does(tasks):
    learner, agent = agent_for(tasks)
    task, ticks = tasks.sample(KEY, "test"), 12
    wanted = lifetime(learner, task, KEY, steps=ticks, record=lambda tick: tick.response)[1]
    reset_key, _, live_key = jr.split(KEY, 3)
    world, view = task.reset(reset_key)
    agent.reset_from(KEY)
    feedback, actions, step = None, [], eqx.filter_jit(task.step)
    for tick in range(ticks):
        came = {}
        if feedback is not None:
            end = int(feedback.end)
            ended = {"terminated": end == End.TERMINATED, "truncated": end == End.TRUNCATED}
            came = {"reward": float(feedback.reward), **ended, "last_observation": feedback.observation}
        actions.append(agent.act(np.asarray(view.observation), **came))
        turn = step(world, jnp.int32(actions[-1]), jr.split(jr.fold_in(live_key, tick), 3)[1])
        world, view, feedback = turn.world, turn.view, turn.feedback
    assert actions == wanted.tolist()


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(2), r"observation must have shape \(3,\), not \(2,\)"),
        (np.array(["a", "b", "c"]), "observation must hold numbers, not <U1"),
        (np.array([0.0, np.nan, 0.0]), "observation must be finite"),
    ],
)
def test_an_observation_that_does_not_fit_is_refused_before_anything_is_computed(observation, message):
    _, agent = agent_for(probes())
    agent.reset()
    with pytest.raises(ValueError, match=message):
        agent.act(observation)


def test_a_reward_that_is_no_number_is_refused_and_the_life_goes_on():
    _, agent = agent_for(probes())
    agent.reset()
    agent.act(np.eye(3)[0])
    with pytest.raises(ValueError, match="reward must be a finite number, not nan"):
        agent.act(np.eye(3)[1], reward=float("nan"))
    assert agent.act(np.eye(3)[1], reward=1.0) in (0, 1)


def test_only_control_tasks_have_agents():
    learner, _ = agent_for(probes())
    with pytest.raises(TypeError, match="tasks must be of the control kind"):
        Agent(learner, Sinusoid())


def test_a_reset_forgets():
    _, agent = agent_for(BernoulliBandit(arms=4))
    first = [agent.act(np.zeros(0), reward=1.0) for _ in range(6)]
    agent.reset()
    assert [agent.act(np.zeros(0), reward=1.0) for _ in range(6)] == first
