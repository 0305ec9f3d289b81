"""Methods that learn from replay climb the probe ladder, and what they call exact is exact."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms.probes import DISCOUNT, FIRST, LADDER, STOP, Probe, Probes, check_rung, climb

from quickstudy.algorithms.rl import dqn, off_policy, soft_q
from quickstudy.algorithms.rl.actor_critic import OBSERVATION
from quickstudy.algorithms.rl.off_policy import Transition
from quickstudy.tasks import Pendulum
from quickstudy.tasks.control import Discrete

KEY = jr.key(0)
SHARED = {"lives": 8, "batch": 64, "capacity": 512, "warmup": 64, "learning_rate": 0.003, "discount": DISCOUNT, "width": 16}


class Table(eqx.Module):
    """Values looked up by a one-hot place."""

    values: jax.Array

    def __call__(self, seen):
        return seen @ self.values


def read_values(state, learner, places):
    return jax.vmap(learner.network)(places.observation)


@pytest.mark.parametrize("prioritised", [False, True])
def test_dqn_finds_the_known_values_and_actions(prioritised):
    config = dqn.Config(**SHARED, target_every=10, explore=200, epsilon=0.2, prioritised=prioritised)
    values = climb(lambda tasks: dqn.program(config, tasks), read_values, 600, KEY)
    best = np.eye(2)[values.argmax(axis=-1)]
    for rung in LADDER:
        check_rung(rung, best, values.max(axis=-1))


# --- What follows an end -------------------------------------------------------------------------------------------------------------


def lived(probe, ticks):
    """What one life puts into its store."""
    tasks = Probes(probe)
    agent = dqn.learner(dqn.Config(), tasks, KEY)

    def go():
        now = off_policy.begin(agent, tasks, OBSERVATION, 1, ticks, KEY)
        return off_policy.experience(now, agent, agent.actions, OBSERVATION, ticks, KEY)[0].replay.items

    return jax.tree.map(np.asarray, eqx.filter_jit(go)())


def test_an_episode_that_is_cut_off_goes_on_where_it_was_and_not_where_the_next_one_begins():
    # From 0 to 1 to 2, and there the second tick cuts the episode off; the next one begins at 0.
    items = lived(Probe(jnp.array(FIRST), jnp.ones((3, 2)), jnp.array([[1, 1], [2, 2], [2, 2]]), 2), 4)
    assert items.seen.argmax(axis=1).tolist() == [0, 1, 0, 1]
    assert items.after.argmax(axis=1).tolist() == [1, 2, 1, 2]
    assert not items.terminated.any()


def test_nothing_follows_an_episode_that_ended():
    items = lived(Probe(jnp.array(FIRST), jnp.ones((3, 2)), jnp.array([[1, 1], [STOP, STOP], [2, 2]]), 9), 4)
    assert items.seen.argmax(axis=1).tolist() == [0, 1, 0, 1]
    assert items.terminated.tolist() == [False, True, False, True]


def one_transition(**changes):
    """From place 0, by action 1, with reward 2, to place 1."""
    first = Transition(jnp.eye(2)[:1], jnp.array([1], jnp.int32), jnp.array([2.0]), jnp.eye(2)[1:], jnp.array([False]))
    return first._replace(**changes)


@pytest.mark.parametrize(("double", "terminated", "error"), [(False, False, 6.0), (True, False, 4.5), (True, True, 1.0)])
def test_errors_by_hand(double, terminated, error):
    online = Table(jnp.array([[0.0, 1.0], [3.0, 2.0]]))
    target = Table(jnp.array([[0.0, 0.0], [7.0, 10.0]]))
    agent = dqn.GreedyAgent(network=online, epsilon=0.0, actions=Discrete(2), reads=OBSERVATION, double=double)
    batch = one_transition(terminated=jnp.array([terminated]))
    errors, values = dqn.errors_of(agent, target, batch, 0.5)
    assert (values.tolist(), errors.tolist()) == ([1.0], [error])


# --- Soft values ---------------------------------------------------------------------------------------------------------------------


def exact(temperature):
    """The soft values of all rungs, from their tables."""
    rewards = jnp.array([rung[1] for rung in LADDER.values()], jnp.float32)
    # One-hot of STOP is all zeros: nothing follows.
    moves = jax.nn.one_hot(jnp.array([rung[2] for rung in LADDER.values()]), 3)
    iterate = lambda r, m: soft_q.soft_value_iteration(r, m, DISCOUNT, temperature, steps=300)
    return rewards, moves, np.asarray(eqx.filter_jit(jax.vmap(iterate))(rewards, moves))


def test_soft_values_of_one_choice_are_known_in_closed_form():
    i = list(LADDER).index("a time limit that is no end")
    # Two equal actions for ever: every tick brings its reward, and from the next one on the freedom of a choice, temperature log 2.
    expected = (1 + DISCOUNT * 0.5 * np.log(2)) / (1 - DISCOUNT)
    np.testing.assert_allclose(exact(0.5)[2][i, 0], expected, rtol=1e-5)


def test_no_transition_surprises_who_has_the_exact_soft_values():
    rewards, moves, values = exact(0.3)

    def surprise(rewards, moves, values):
        agent = soft_q.SoftAgent(network=Table(values), temperature=0.3, actions=Discrete(2), reads=OBSERVATION)
        places, actions = (x.ravel() for x in jnp.meshgrid(jnp.arange(3), jnp.arange(2), indexing="ij"))
        after = moves[places, actions]
        batch = Transition(jnp.eye(3)[places], actions, rewards[places, actions], after, jnp.sum(after, axis=1) == 0)
        return dqn.errors_of(agent, agent.network, batch, DISCOUNT)[0]

    np.testing.assert_allclose(eqx.filter_jit(jax.vmap(surprise))(rewards, moves, values), 0, atol=1e-5)


def test_with_little_temperature_soft_values_are_the_known_hard_ones():
    values = exact(0.01)[2]
    for rung in LADDER:
        check_rung(rung, np.eye(2)[values.argmax(axis=-1)], values.max(axis=-1))


def test_soft_q_learning_finds_the_exact_soft_values():
    config = soft_q.Config(**SHARED, temperature=0.5, target_every=10)
    values = climb(lambda tasks: soft_q.program(config, tasks), read_values, 600, KEY)
    expected = exact(0.5)[2]
    for i, rung in enumerate(LADDER):
        for place in LADDER[rung][3]:
            np.testing.assert_allclose(values[i, place], expected[i, place], atol=0.05 * max(1.0, abs(expected[i, place]).max()))


def test_continuous_actions_and_impossible_stores_are_refused():
    with pytest.raises(TypeError, match="values are learned for discrete actions"):
        dqn.learner(dqn.Config(), Pendulum(), KEY)
    with pytest.raises(ValueError, match="capacity must hold the warmup"):
        dataclasses.replace(dqn.Config(), warmup=20_000)
