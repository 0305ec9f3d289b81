"""Fine-tuning: a trained generalist learns one more task from few recorded episodes.

All weights go on to be descended, at a constant rate, on windows of these episodes alone. Now and then the network plays the task from
seeds of the valid split; the curve of its mean returns is smoothed over five points, and the network at the best of these is taken.

Source: Reed et al. 2022, "A Generalist Agent", section 5.2 and appendix E (recalled): Adam at 1e-5, 64 windows a step, 10,000 steps,
10 runs after every 100, a moving average of five. Our networks are smaller, and learn faster.
"""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Float, PRNGKeyArray, PyTree

from quickstudy.algorithms.imitation import generalist
from quickstudy.core import Split, sample_tasks
from quickstudy.generalist.acting import Players
from quickstudy.generalist.data.store import SEEDS, Episode
from quickstudy.generalist.demonstrations import Demonstrations, demonstrations
from quickstudy.generalist.embodiments import Embodiment
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.scoreboard import play
from quickstudy.generalist.tokens import Tokens
from quickstudy.outer import apply_gradient, mean_over_tasks
from quickstudy.outer.program import compile_lightly

SMOOTHED = 5  # Reed et al. 2022 (recalled)


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a network is fine-tuned."""

    # Ours: 0.0005 did as well after ten episodes of OpenDoor (0.6 of 50 valid seeds); Reed et al. 2022: 0.00001 (recalled).
    learning_rate: float = 0.0002
    steps: int = 100  # ours: after ten episodes the best points came before 60; Reed et al. 2022: 10,000 (recalled)
    windows_per_step: int = 16  # ours; Reed et al. 2022: 64 (recalled)
    length: int | None = None  # tokens of a window; None: as many as the network sees
    drop: float = 0.1  # ours: stochastic depth, where Reed et al. 2022 have dropout of 0.1; our network has no dropout
    every: int = 10  # steps between two points of the curve; ours; Reed et al. 2022: 100 (recalled)
    runs: int = 10  # episodes of a point, Reed et al. 2022 (recalled)

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("windows_per_step", 1), ("every", 1), ("runs", 1), ("length", 2)):
            value = getattr(self, name)
            if not (isinstance(value, int) and value >= least) and (name, value) != ("length", None):
                raise ValueError(f"{name} must be a whole number, at least {least}, not {value!r}")
        if not isinstance(self.learning_rate, int | float) or not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be a positive number, not {self.learning_rate!r}")
        if not isinstance(self.drop, int | float) or not 0 <= self.drop < 1:
            raise ValueError(f"drop must be a number from 0 to below 1, not {self.drop!r}")


class FineTuned(NamedTuple):
    """The network at the best point, how many steps it had had, and the mean return of every point, the first before any step."""

    network: Generalist
    steps: int
    curve: Float[np.ndarray, " points"]


def fine_tune(
    network: Generalist,
    body: Embodiment,
    task: str,
    episodes: Sequence[Episode],
    how: Settings | None = None,
    *,
    seed: int = 0,
    report: Callable[[int, float], None] = lambda step, score: None,
) -> FineTuned:
    """Fine-tune a network on recorded episodes of a task, as `recorded` gives them. The network that is given stays as it is.

    `report` is told the steps and the mean return of each point. Raises `ValueError` for no episodes, for settings with fewer than
    five points, and for windows longer than what the network sees.
    """
    how = how or Settings()
    if how.steps // how.every + 1 < SMOOTHED:
        raise ValueError(f"steps must be at least {SMOOTHED - 1} times every, {how.every}, for a smoothed curve, not {how.steps}")
    if (how.length or 0) > network.body.reach:
        raise ValueError(f"length must be at most the {network.body.reach} tokens that the network sees, not {how.length}")
    tasks = windows(body, task, episodes, how.length or network.body.reach)
    arrays = eqx.filter(network, eqx.is_inexact_array)
    state, key = _optimizer(how).init(arrays), jr.key(seed)
    curve: list[float] = []
    best, chosen, recent = -np.inf, (network, 0), collections.deque[tuple[Generalist, int]](maxlen=SMOOTHED // 2 + 1)
    for step in range(how.steps + 1):
        if step % how.every == 0:
            curve.append(_mean_return(network, body, task, how.runs))
            recent.append((network, step))
            report(step, curve[-1])
            # The oldest of the recent networks is in the middle of the points that are averaged.
            if len(curve) >= SMOOTHED and (average := smoothed(np.array(curve))[-1]) > best:
                best, chosen = average, recent[0]
        window_key, step_key = jr.split(jr.fold_in(key, step))
        drawn = _drawn(tasks, window_key, how.windows_per_step)
        network, state = _descended(network, state, drawn, step_key, how, _rounded(tasks.patches), _rounded(tasks.targets))
    return FineTuned(*chosen, np.array(curve))


def smoothed(curve: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points_4"]:
    """The means of five neighbouring points each.

    >>> smoothed(np.array([0.0, 0.0, 5.0, 0.0, 0.0, 10.0])).tolist()
    [1.0, 3.0]
    """
    return np.convolve(curve, np.ones(SMOOTHED) / SMOOTHED, "valid")


def windows(body: Embodiment, task: str, episodes: Sequence[Episode], length: int) -> Demonstrations:
    """Windows of recorded episodes of one task, a quarter of them prompted if there is another episode for that.

    Raises `ValueError` for no episodes.
    """
    if not episodes:
        raise ValueError("episodes must be one at least, not none")
    known: dict[Split, dict[str, Tokens]] = {"train": {task: body.sequences(episodes)}}
    return demonstrations(known, body.tokenizer.vocabulary, length=length, unprompted=[task] if len(episodes) == 1 else [])


def recorded(body: Embodiment, task: str, n: int) -> list[Episode]:
    """The first `n` episodes for training: of more seeds than `n`, where the expert failed on some.

    Raises `ValueError` for no episodes, and what `reading.episodes` raises where episodes are missing.
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"episodes must be at least 1, not {n!r}")
    seeds, found = n, body.episodes(task, "train", n)
    while len(found) < n:
        seeds += n - len(found)
        found = body.episodes(task, "train", seeds)
    return found


def _rounded(bound: int) -> int:
    """A bound that other numbers of episodes share, so that one program fits all."""
    return -(-bound // 32) * 32


@eqx.filter_jit
def _drawn(tasks: Demonstrations, key: PRNGKeyArray, n: int) -> PyTree:
    return sample_tasks(tasks, key, "train", n)


@compile_lightly
def _descended(
    network: Generalist, state: PyTree, drawn: PyTree, key: PRNGKeyArray, how: Settings, patches: int, targets: int
) -> tuple[Generalist, PyTree]:
    """One step of Adam on the windows that were drawn."""
    bounds = {name: min(bound, drawn.following.shape[1]) for name, bound in (("patches", patches), ("targets", targets))}
    loss = lambda network, window, key: generalist.loss(network, window, key, drop=how.drop, **bounds)
    gradient, _ = mean_over_tasks(loss, network, drawn, key, "vmap")
    return apply_gradient(_optimizer(how), gradient, state, network)


def _optimizer(how: Settings) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(how.learning_rate))  # clipping: ours, as in training


def _mean_return(network: Generalist, body: Embodiment, task: str, runs: int) -> float:
    return float(play(Players(network, body.tokenizer, runs), body, task, SEEDS["valid"][:runs]).returns.mean())


def success(network: Generalist, body: Embodiment, task: str, seeds: range) -> float:
    """The share of episodes that are a success, one from each seed."""
    return float(play(Players(network, body.tokenizer, min(50, len(seeds))), body, task, seeds).success.mean())
