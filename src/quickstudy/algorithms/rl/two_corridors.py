"""Two corridors to one goal: the claim that who is paid for freedom keeps both, and what that is good for when one is closed.

Source: Haarnoja, Tang, Abbeel and Levine 2017, "Reinforcement Learning with Deep Energy-Based Policies", sections 5.1 and 5.3.
"""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.rl import dqn, soft_q
from quickstudy.algorithms.rl.measuring import OneTask, Pushed, first_returns, in_first_episode, train
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, lifetime
from quickstudy.tasks.gridworld import GridWorld, Kind, level_from_text

# Both ways take ten ticks, of which all but the last cost one.
_LEVEL = """
#########
#.......#
#.#####.#
#S#####G#
#.#####.#
#.......#
#########"""
_TICKS = 50
_ENTRANCES, _MIDDLES = ((2, 1), (4, 1)), ((1, 4), (5, 4))
_TEMPERATURE = 0.3  # ours: random actions are then worth 0.42 a tick, less than a tick costs


def corridors(*closed: tuple[int, int]) -> GridWorld:
    """The level, with walls in these cells. Every tick off the goal costs one."""
    lines = [list(line) for line in _LEVEL.strip().splitlines()]
    for row, column in closed:
        lines[row][column] = "#"
    pays = {Kind.FLOOR: -1.0, Kind.GOAL: 0.0}
    return level_from_text("\n".join("".join(line) for line in lines), view="position", pays=pays, horizon=_TICKS)


def tables(world: GridWorld) -> tuple[Float[Array, "cells actions"], Float[Array, "cells actions cells"]]:
    """What every action pays in every cell, and where it leads; it leads nowhere where the episode ends."""
    rows, columns = world.kinds.shape
    begun = world.begin(jr.key(0))

    def act(cell: Array, action: Array) -> tuple[Array, Array]:
        state = begun._replace(place=jnp.stack([cell // columns, cell % columns]))
        after, reward, ends = world.act(state, action, jr.key(0))
        return reward, jax.nn.one_hot(after.place[0] * columns + after.place[1], rows * columns) * (1 - ends.astype(jnp.float32))

    cells, actions = jnp.arange(rows * columns), jnp.arange(world.actions.n)
    return jax.vmap(lambda cell: jax.vmap(lambda action: act(cell, action))(actions))(cells)


def share_through(
    learner: AbstractLearner, world: GridWorld, cell: tuple[int, int], key: PRNGKeyArray, n: int = 500
) -> Float[Array, ""]:
    """The share of `n` first episodes that come through a cell."""

    def one(key: PRNGKeyArray) -> Array:
        record = lambda tick: (tick.view.observation.reshape(world.kinds.shape)[cell] > 0, tick.end)
        there, ends = lifetime(learner, world, key, steps=_TICKS, record=record)[1]
        return jnp.any(there & in_first_episode(ends))

    return jnp.mean(jax.vmap(one)(jr.split(key, n)), dtype=jnp.float32)


def judge(learner: Any, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> dict[str, Array]:
    """The values of all cells, the share of the rarer corridor, and returns where the level is as it was, and where it is not."""
    open_world = corridors()
    returns = lambda who, world: jnp.mean(first_returns(who, OneTask(world), key, ticks=_TICKS, n=200))
    either = lambda cells: (returns(learner, corridors(cells[0])) + returns(learner, corridors(cells[1]))) / 2
    upper = share_through(learner, open_world, _MIDDLES[0], key)
    return {
        "values": jax.vmap(learner.network)(jnp.eye(open_world.kinds.size)),
        "rarer corridor": jnp.minimum(upper, share_through(learner, open_world, _MIDDLES[1], key)),
        "return": returns(learner, open_world),
        "return, one entrance closed": either(_ENTRANCES),
        "return, one middle closed": either(_MIDDLES),
        "return, pushed in a fifth of ticks": returns(Pushed(learner, 0.2, open_world.actions), open_world),
    }


def judge_greedy(learner: Any, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> tuple[Any, Any]:
    """The greedy agent, and the same with a tenth of its actions random."""
    return judge(learner, tasks, key), judge(dataclasses.replace(learner, epsilon=0.1), tasks, key)


def measure(scale: Scale, seed: int) -> Measurements:
    """Soft Q-learning and DQN, with the same experience and steps, in the open level; tested there and in changed ones."""
    steps, key = {"smoke": 50, "laptop": 5_000, "full": 20_000}[scale], jr.key(seed)
    world = corridors()
    tasks = OneTask(world)
    soft = soft_q.Config(temperature=_TEMPERATURE)
    found = {"soft": train(soft_q.program, soft, tasks, key, steps=steps, judge=judge)[1]}
    found["DQN"], found["DQN, a tenth random"] = train(dqn.program, dqn.Config(), tasks, key, steps=steps, judge=judge_greedy)[1]
    exact = eqx.filter_jit(functools.partial(soft_q.soft_value_iteration, discount=soft.discount, temperature=_TEMPERATURE))
    inside = np.asarray(world.kinds).ravel() == Kind.FLOOR
    errors = np.abs(np.asarray(found["soft"]["values"]) - np.asarray(exact(*tables(world))))[inside]
    measured = {"error of soft values": float(errors.mean()), "largest error of soft values": float(errors.max())}
    for arm, values in found.items():
        measured |= {f"{arm}: {name}": float(value) for name, value in values.items() if name != "values"}
    return measured


CLAIMS = (
    Claim(
        id="soft-q-sac",
        statement=(
            "Soft Q-learning with few actions finds the exact soft values (to a tenth of what a tick costs, in the mean), keeps both "
            "of two equal ways to a goal, and gets through when the entrance of one is closed, where DQN is stuck."
        ),
        source="Haarnoja et al. 2017, sections 5.1 and 5.3",
        reported="figures: both modes of a multi-goal task are kept, and a maze learned with several ways is relearned faster",
        not_answered=(
            "continuous actions (SAC), and freedom against what nobody could foresee: where the block lies deep in a corridor, or "
            "pushes are random, soft and greedy agents are measured but nothing is claimed."
        ),
        measure=measure,
        expected=(
            Expectation("error of soft values", "<", 0.1),
            Expectation("soft: rarer corridor", ">", 0.3),
            Expectation("soft: rarer corridor", ">", "DQN: rarer corridor"),
            Expectation("soft: return, one entrance closed", ">", "DQN: return, one entrance closed"),
            Expectation("soft: return, one entrance closed", ">", "DQN, a tenth random: return, one entrance closed"),
        ),
    ),
)
