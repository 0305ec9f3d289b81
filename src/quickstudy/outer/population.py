"""Many trainings side by side that differ in nothing but their randomness: one program, compiled once, for all seeds."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import PRNGKeyArray

from quickstudy.outer.program import Metrics, Program, State

Tree = TypeVar("Tree")


def population(program: Program, members: int) -> Program:
    """`members` copies of a program, each with randomness of its own; the learner is a stack, and `member` takes one out of it.

    Metrics are the members' means, so that one which stops being finite stops the run. Raises `ValueError` for no members.

    >>> from quickstudy.algorithms.metarl import rl2
    >>> from quickstudy.outer import train
    >>> preset = rl2.PRESETS["smoke"]
    >>> agents = train(population(rl2.program(preset.config, preset.tasks()), 3), steps=2, seed=0)
    >>> member(agents, 2).actions
    Discrete(n=3)
    """
    if members < 1:
        raise ValueError(f"members must be at least 1, not {members}")

    def init(key: PRNGKeyArray) -> State:
        return eqx.filter_vmap(program.init)(jr.split(key, members))

    def update(state: State, key: PRNGKeyArray) -> tuple[State, Metrics]:
        state, metrics = eqx.filter_vmap(program.update)(state, jr.split(key, members))
        return state, jax.tree.map(jnp.mean, metrics)

    return Program(init, update, program.learner)


def member(stack: Tree, place: int) -> Tree:
    """One of a population's states or learners.

    >>> member({"weights": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, 1)["weights"].tolist()
    [3.0, 4.0]
    """
    return jax.tree.map(lambda leaf: leaf[place] if eqx.is_array(leaf) else leaf, stack)
