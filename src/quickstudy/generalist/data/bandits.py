"""Bandits: machines whose arms pay with unknown probabilities, played for a whole life by one who must find out which arm is best.

The rules are those of `quickstudy.tasks.BernoulliBandit`: an arm pays 1 with its own probability, else nothing; the probabilities are
uniform on [0, 1]. What is stored of a step is what the pull before it was: its arm and its reward; both have one more value for none.

The expert knows how machines are drawn, not which one it plays: it pulls the arm with the largest finite-horizon Gittins index for
the pulls that are left, of equal ones the first. That is nearly Bayes-optimal, within a fraction of a percent, not exactly. It acts on
nothing but what the episode shows, so who imitates it in context is not led to take its own actions for evidence: Ortega et al. 2021,
"Shaking the foundations: delusions in sequence models for interaction and control" (see the claim `delusions`).

Success: arms were chosen so well that at most half of what random choice loses against the best arm was lost. Both are counted in
probabilities, not in rewards, so that luck with payoffs does not matter.
"""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, SupportsInt

import numpy as np
from jaxtyping import Float64

from quickstudy import catalog
from quickstudy.generalist.data import naming
from quickstudy.generalist.data.playing import Encoding, Step, live
from quickstudy.generalist.data.store import Episode, Facts, Rejected
from quickstudy.gittins_indices import finite_horizon_indices

try:
    from gymnasium import spaces
except ImportError as error:
    raise ImportError("the generalist's bandits need Gymnasium: pip install 'quickstudy[generalist]'") from error

TITLE = "Bandits: arms that pay with unknown probabilities, pulled by Gittins indices"
LICENCE = "made here (Apache-2.0)"
CAVEATS = (
    "The expert learns within each episode: its first pulls explore, and all that it has seen decides what it does.",
    "It is nearly Bayes-optimal for lives of 100 pulls: its finite-horizon index is not exactly optimal.",
    "No seed is missing: to keep only lucky episodes would teach to trust luck. Where arms are much alike, some are no success.",
)

# Duan et al. 2016, "RL^2", have 5, 10 and 50 arms; two are ours, the smallest.
_ARMS = {"bernoulli-2": 2, "bernoulli-5": 5, "bernoulli-10": 10}
GROUPS = {"all": tuple(_ARMS)}
PULLS = 100  # in a life; Duan et al. 2016 have 10, 100 and 500
_SHARE = 0.5  # of the regret of random choice that a success may have at most; ours
_NO_REWARD = 2  # in the place of a reward at the first step


def find(names: Sequence[str]) -> list[str]:
    """Tasks by their own names or by `all`, each once. Raises `ValueError` with the nearest name for an unknown one.

    >>> find(["bernoulli-5", "all"])
    ['bernoulli-5', 'bernoulli-2', 'bernoulli-10']
    """
    return naming.find(names, GROUPS, GROUPS["all"])


def provenance() -> Facts:
    """Who makes the episodes, with the versions on which they depend."""
    return {"generator": naming.with_versions("quickstudy", "numpy"), "expert": f"finite-horizon Gittins indices for {PULLS} pulls"}


@dataclass
class Environment:
    """One machine as one seed makes it: between equal actions, always the same. `probabilities` are hidden from who plays."""

    task: str
    seed: int
    probabilities: Float64[np.ndarray, " arms"] = field(init=False)
    pulled: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        random = np.random.default_rng([self.seed, zlib.crc32(self.task.encode())])
        self.probabilities = random.random(_ARMS[self.task])
        # Drawn for all arms, so that whoever plays meets the same luck.
        self._pays = random.random((PULLS, len(self.probabilities))) < self.probabilities

    def reset(self) -> Mapping[str, Any]:
        """Begin, always the same life. The raw observation: `action` and `reward` of the pull before, as uint8."""
        self.pulled = []
        return {"action": np.uint8(len(self.probabilities)), "reward": np.uint8(_NO_REWARD)}

    def step(self, action: SupportsInt) -> Step:
        """Pull an arm; the reward is 1 or 0, and the 100th pull is the last. Raises `ValueError` for an arm that is not there."""
        arm, arms = int(action), len(self.probabilities)
        if not 0 <= arm < arms:
            raise ValueError(f"an action must be an arm from 0 to {arms - 1}, not {action}")
        paid = self._pays[len(self.pulled), arm]
        self.pulled.append(arm)
        end = len(self.pulled) == PULLS
        success = end and self.regret() <= _SHARE * PULLS * float(np.mean(self.probabilities.max() - self.probabilities))
        return Step({"action": np.uint8(arm), "reward": np.uint8(paid)}, float(paid), end, success)

    def regret(self) -> float:
        """What the pulls so far were expected to pay less than as many of the best arm."""
        return float(np.sum(self.probabilities.max() - self.probabilities[self.pulled]))


def environment(task: str, seed: int) -> Environment:
    """A machine to be played. Raises `ValueError` with the nearest name for an unknown task.

    >>> environment("bernoulli-5", seed=0).step(4).reward in (0.0, 1.0)
    True
    """
    return Environment(catalog.require(task, _ARMS, "task"), seed)


@functools.cache
def _indices() -> Float64[np.ndarray, "left successes failures"]:
    return finite_horizon_indices(PULLS)


def expert(task: str) -> Callable[[Mapping[str, Any]], int]:
    """One life's player, from each step's observation to an arm: it counts what it is shown, and is told nothing else.

    >>> expert("bernoulli-5")(environment("bernoulli-5", seed=0).reset())
    0
    """
    successes, failures = np.zeros((2, _ARMS[task]), int)

    def act(observation: Mapping[str, Any]) -> int:
        if observation["reward"] != _NO_REWARD:
            (successes if observation["reward"] else failures)[observation["action"]] += 1
        left = PULLS - successes.sum() - failures.sum()
        return int(np.argmax(_indices()[left - 1, successes, failures]))

    return act


def record(task: str, seed: int) -> Episode | Rejected:
    """Let the expert play the machine that a seed makes; equal arguments give equal episodes, and no seed is rejected.

    Raises `ValueError` with the nearest name for an unknown task.
    """
    world = environment(task, seed)
    episode = live(world, expert(task), seed)
    return episode._replace(facts=episode.facts | {"regret": round(world.regret(), 6)})


def raw(episode: Episode) -> dict[str, Any]:
    """An episode's raw observations: what is stored."""
    return dict(episode.observations)


ENCODINGS = ("plain",)


def encoding(name: str, task: str) -> Encoding:
    """The only one of `ENCODINGS`, `plain`: action and reward of the pull before, no separator, three tokens a step.

    Raises `ValueError` with the nearest name for another encoding or an unknown task.
    """
    arms = _ARMS[catalog.require(task, _ARMS, "task")]
    space = spaces.Dict({"action": spaces.Discrete(arms + 1), "reward": spaces.Discrete(_NO_REWARD + 1)})
    return Encoding(catalog.require(name, ENCODINGS, "encoding"), space, spaces.Discrete(arms), 1, False, dict)
