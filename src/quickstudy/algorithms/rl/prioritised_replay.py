"""How much sooner replay by priority learns from a memory in which nearly everything is useless: the blind cliff walk.

A memory holds all 2^(n + 1) - 2 transitions of the 2^n ways to act in a walk of n places. One transition is drawn per update, and a
table of values is moved a quarter of the way to its target, until the mean squared error of the table is below 0.001.

The arms draw evenly; in proportion to priority (the last error to the power 0.6); or, as the oracle, take what brings the table
nearest to the truth.

Source: Schaul et al. 2016, "Prioritized Experience Replay", section 3.1 and appendix B.1.
"""

import itertools
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.rl import dqn
from quickstudy.algorithms.rl.actor_critic import OBSERVATION
from quickstudy.algorithms.rl.off_policy import Transition
from quickstudy.algorithms.rl.replay import Replay, draw_by_priority, draw_evenly, reprioritise
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.tasks.blind_cliff import BlindCliff, CliffWalk
from quickstudy.tasks.control import Discrete

Drawing = Literal["evenly", "by priority", "oracle"]
_RATE, _ACCURACY = 0.25, 1e-3  # Schaul et al. 2016, appendix B.1
_MOST = 10_000_000  # updates before a run is given up
_RUNS = 5  # of each arm and repeat; the median counts, as in Schaul et al. 2016


class Table(eqx.Module):
    """Values looked up by a one-hot place."""

    values: Float[Array, "places actions"]

    def __call__(self, seen: Float[Array, " places"]) -> Float[Array, " actions"]:
        return seen @ self.values


def exhaustive_memory(walk: CliffWalk, key: PRNGKeyArray) -> Replay:
    """A store of the transitions of all ways to act, each way lived once, in random order."""
    right, n = np.asarray(walk.right), len(walk.right)
    # A way goes right until its first wrong action: 2^(n - 1 - i) ways go wrong at place i, and one never does.
    wrong_at = [place for place in range(n) for _ in range(2 ** (n - 1 - place))] + [n]
    steps = [(i, right[i] if i < last else 1 - right[i]) for last in wrong_at for i in range(min(last + 1, n))]
    places, actions = np.array(steps, np.int32)[np.asarray(jr.permutation(key, len(steps)))].T
    on, last = actions == right[places], places == n - 1
    one_hot = np.eye(n, dtype=np.float32)
    rewards, after = (on & last).astype(np.float32), one_hot[np.minimum(places + 1, n - 1)]
    items = jax.tree.map(jnp.asarray, Transition(one_hot[places], actions, rewards, after, ~on | last))
    return Replay(items, jnp.ones(len(steps)), jnp.asarray(len(steps), jnp.int32))


def truth(walk: CliffWalk, discount: float) -> Float[Array, "places actions"]:
    """The value of every action at every place."""
    n = walk.right.shape[0]
    return jax.nn.one_hot(walk.right, 2) * (discount ** jnp.arange(n - 1.0, -1.0, -1.0))[:, None]


@eqx.filter_jit
def updates_to_solve(walk: CliffWalk, memory: Replay, drawing: Drawing, key: PRNGKeyArray) -> Int[Array, ""]:
    """How many updates of one transition it takes from a random table to an accurate one."""
    n = walk.right.shape[0]
    discount = 1 - 1 / n  # Schaul et al. 2016, appendix B.1
    exponent, least = dqn.Config.exponent, dqn.Config.least
    goal = truth(walk, discount)
    table_key, draw_key = jr.split(key)

    def surprise(table: Array, items: Transition) -> Float[Array, " n"]:
        agent = dqn.GreedyAgent(network=Table(table), epsilon=0.0, actions=Discrete(2), reads=OBSERVATION, double=False)
        return dqn.errors_of(agent, agent.network, items, discount)[0]

    def inaccuracy(table: Array) -> Float[Array, ""]:
        return jnp.mean((table - goal) ** 2)

    def moved(table: Array, item: Transition, error: Array) -> Array:
        return table + _RATE * error * item.seen[:, None] * jax.nn.one_hot(item.action, 2)[None]

    def nearest(table: Array) -> Array:
        # All transitions with one place and action are the same.
        places, actions = (jnp.array(x, jnp.int32) for x in zip(*itertools.product(range(n), range(2)), strict=True))
        on, last = actions == walk.right[places], places == n - 1
        after = jnp.eye(n)[jnp.minimum(places + 1, n - 1)]
        items = Transition(jnp.eye(n)[places], actions, (on & last).astype(jnp.float32), after, ~on | last)
        candidates = jax.vmap(moved, in_axes=(None, 0, 0))(table, items, surprise(table, items))
        return candidates[jnp.argmin(jax.vmap(inaccuracy)(candidates))]

    def update(state: tuple[Array, Replay, Array]) -> tuple[Array, Replay, Array]:
        table, memory, count = state
        if drawing == "oracle":
            return nearest(table), memory, count + 1
        drawn = (draw_evenly if drawing == "evenly" else draw_by_priority)(memory, 1, jr.fold_in(draw_key, count))
        error = surprise(table, drawn.items)
        if drawing == "by priority":
            memory = reprioritise(memory, drawn.places, (jnp.abs(error) + least) ** exponent)
        return moved(table, jax.tree.map(lambda leaf: leaf[0], drawn.items), error[0]), memory, count + 1

    unsolved = lambda state: (inaccuracy(state[0]) > _ACCURACY) & (state[2] < _MOST)
    first = (0.1 * jr.normal(table_key, (n, 2)), memory, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unsolved, update, first)[2]


def measure(scale: Scale, seed: int) -> Measurements:
    """The median number of updates of every arm, for walks of growing length, and how many times fewer priority needs."""
    lengths = {"smoke": (4, 6), "laptop": (6, 8, 10, 12), "full": (6, 8, 10, 12, 14, 16)}[scale]
    measured: dict[str, float] = {}
    for n in lengths:
        task_key, memory_key, *keys = jr.split(jr.fold_in(jr.key(seed), n), 2 + _RUNS)
        walk = BlindCliff(length=n).sample(task_key, "test")
        memory = exhaustive_memory(walk, memory_key)
        arms: tuple[Drawing, ...] = ("evenly", "by priority", "oracle")
        for arm in arms:
            measured[f"{n} places, {arm}"] = float(np.median([int(updates_to_solve(walk, memory, arm, key)) for key in keys]))
        measured[f"{n} places, times fewer"] = measured[f"{n} places, evenly"] / measured[f"{n} places, by priority"]
    measured["longest, times fewer"] = measured[f"{lengths[-1]} places, times fewer"]
    measured["shortest, times fewer"] = measured[f"{lengths[0]} places, times fewer"]
    return measured


CLAIMS = (
    Claim(
        id="dqn-per",
        statement=(
            "In the blind cliff walk replay by priority needs fewer updates than even replay, and the longer the walk, and so the "
            "rarer the reward, the more times fewer."
        ),
        source="Schaul et al. 2016, figures 1 and 2, appendix B.1",
        reported="figures, medians of ten runs: fewer updates at all sizes, by a factor that grows; the oracle far below",
        not_answered="a memory that is lived rather than complete, function approximation, noise, and priority by rank.",
        measure=measure,
        expected=(
            Expectation("shortest, times fewer", ">", 1.0),
            Expectation("longest, times fewer", ">", 1.0),
            Expectation("longest, times fewer", ">", "shortest, times fewer"),
        ),
    ),
)
