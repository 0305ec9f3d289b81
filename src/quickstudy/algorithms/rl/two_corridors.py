"""Two corridors to one goal: the claim that who is paid for freedom keeps both, and what that is good for when one is closed.

Source: Haarnoja, Tang, Abbeel and Levine 2017, "Reinforcement Learning with Deep Energy-Based Policies", sections 5.1 and 5.3.
"""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.rl import dqn, soft_q
from quickstudy.algorithms.rl.measuring import OneTask, Pushed, in_first_episode, train
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTaskDistribution, lifetime
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
# What is closed in each of the levels of the test.
_LEVELS = {"open": (), "upper entrance": ((2, 1),), "lower entrance": ((4, 1),), "upper middle": ((1, 4),), "lower middle": ((5, 4),)}
_MIDDLE_ROWS, _MIDDLE_COLUMN = np.array([1, 5]), 4
_CHANCES = (0.0, 0.1, 0.2)  # of a random action
_PUSHED = 0.2
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


def judge(learner: Any, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> dict[str, Array]:
    """The values of all cells, and of 200 first episodes in every level, for every chance of a push, `(levels, chances)`: the mean
    return, and the shares that come through the upper and the lower corridor."""
    levels = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(corridors(*closed) for closed in _LEVELS.values()))

    def episode(level: GridWorld, chance: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        record = lambda tick: (tick.score, tick.end, tick.view.observation.reshape(level.kinds.shape)[_MIDDLE_ROWS, _MIDDLE_COLUMN])
        scores, ends, there = lifetime(Pushed(learner, chance, level.actions), level, key, steps=_TICKS, record=record)[1]
        first = in_first_episode(ends)
        return jnp.sum(jnp.where(first, scores, 0.0)), jnp.any((there > 0) & first[:, None], axis=0)

    over = lambda f, *axes: jax.vmap(f, in_axes=axes)
    run = over(over(over(episode, None, None, 0), None, 0, None), 0, None, None)
    returns, through = run(levels, jnp.array(_CHANCES), jr.split(key, 200))
    values = jax.vmap(learner.network)(jnp.eye(levels.kinds[0].size))
    return {"values": values, "returns": jnp.mean(returns, axis=2), "through": jnp.mean(through, axis=2, dtype=jnp.float32)}


def summary(found: dict[str, Array], chance: float) -> dict[str, float]:
    """What an agent earns in each kind of level, and how often it takes the corridor that it takes less often."""
    returns, chances = dict(zip(_LEVELS, np.asarray(found["returns"]), strict=True)), list(_CHANCES)
    own, pushed = chances.index(chance), chances.index(_PUSHED)
    one_of = lambda place: float(np.mean([returns[f"upper {place}"][own], returns[f"lower {place}"][own]]))
    return {
        "rarer corridor": float(found["through"][0, own].min()),
        "return": float(returns["open"][own]),
        "return, one entrance closed": one_of("entrance"),
        "return, one middle closed": one_of("middle"),
        "return, pushed in a fifth of ticks": float(returns["open"][pushed]),
    }


def measure(scale: Scale, seed: int) -> Measurements:
    """Soft Q-learning and DQN, with the same experience and steps, in the open level; tested there and in changed ones."""
    steps, key, world = {"smoke": 50, "laptop": 5_000, "full": 20_000}[scale], jr.key(seed), corridors()
    learn = lambda method, config: train(method.program, config, OneTask(world), key, steps=steps, judge=judge)[1]
    config = soft_q.Config(temperature=_TEMPERATURE)
    soft, greedy = learn(soft_q, config), learn(dqn, dqn.Config())
    exact = eqx.filter_jit(functools.partial(soft_q.soft_value_iteration, discount=config.discount, temperature=_TEMPERATURE))
    errors = np.abs(np.asarray(soft["values"]) - np.asarray(exact(*eqx.filter_jit(tables)(world))))
    errors = errors[np.asarray(world.kinds).ravel() == Kind.FLOOR]
    measured = {"error of soft values": float(errors.mean()), "largest error of soft values": float(errors.max())}
    for arm, found, chance in (("soft", soft, 0.0), ("DQN", greedy, 0.0), ("DQN, a tenth random", greedy, 0.1)):
        measured |= {f"{arm}: {name}": value for name, value in summary(found, chance).items()}
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
