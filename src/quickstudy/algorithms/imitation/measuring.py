"""What the claims of this folder share: a generalist at points of its training, and how well it plays episodes of its own."""

from collections.abc import Collection, Iterator

import numpy as np

from quickstudy.algorithms.imitation import generalist
from quickstudy.core import Split
from quickstudy.generalist import references
from quickstudy.generalist.acting import Players
from quickstudy.generalist.data.store import SEEDS
from quickstudy.generalist.demonstrations import Demonstrations
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.scoreboard import Played, play
from quickstudy.outer import run


def stages(config: generalist.Config, tasks: Demonstrations, seed: int, parts: int) -> Iterator[Generalist]:
    """The network after each of so many equal parts of its training. Arms of equal seeds and steps meet the same tasks in one order.

    Raises `ValueError` unless the steps are divisible by the parts.
    """
    if config.steps % parts:
        raise ValueError(f"steps must be divisible by {parts} parts, not {config.steps}")
    program = generalist.program(config, tasks)
    for progress in run(program, steps=config.steps, seed=seed, chunk=config.steps // parts):
        network = program.learner(progress.state)
        assert isinstance(network, Generalist)
        yield network


def played(network: Generalist, name: str, seed: int, episodes: int, split: Split = "test") -> Played:
    """What comes of so many episodes of a task, named as in `babyai-compact/GoToObj`, whose seeds are this repeat's own."""
    body, task = parse(name)
    players = Players(network, body.tokenizer, episodes)
    players.reset(seed=seed)
    return play(players, body, task, SEEDS[split][seed * episodes : (seed + 1) * episodes], together=episodes)


def success(network: Generalist, names: Collection[str], seed: int, episodes: int, split: Split = "test") -> float:
    """The share of episodes that are a success, the mean over tasks."""
    return float(np.mean([played(network, name, seed, episodes, split).success.mean() for name in names]))


def normalised(network: Generalist, name: str, seed: int, episodes: int, split: Split = "test") -> float:
    """The mean return on the scoreboard's constants: 0 is what random actions get, 1 the expert; it is not clipped.

    Raises `ValueError` for a task that has no constants.
    """
    constants = references.find(name)
    if constants is None:
        raise ValueError(f"{name} has no constants in references.json: python -m quickstudy.generalist.references measures them")
    low, high = constants["random"]["return"], constants["expert"]["return"]
    return float((played(network, name, seed, episodes, split).returns.mean() - low) / (high - low))
