"""RL^2 on bandits: the claim that what it learns is as good as the strategies that statisticians have found.

Every cell of the table, so many arms and so many pulls, is a meta-training of its own; all strategies then play the same held-out
bandits.

Source: Duan et al. 2016, "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", section 3.1.
"""

import dataclasses

import jax.random as jr
from jaxtyping import Array, Float

from quickstudy.algorithms.metarl import rl2
from quickstudy.algorithms.metarl.measuring import expected_reward
from quickstudy.algorithms.references import UCB1, Thompson, gittins
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, Tick
from quickstudy.outer import train
from quickstudy.tasks.bandits import AbstractBandit, BernoulliBandit

_ARMS, _PULLS = (5, 10, 50), (10, 100, 500)  # Duan et al. 2016, table 1
# By the number of pulls: lives side by side, minibatches, outer steps, and the bandits of the test. All ours, chosen with other seeds.
_SIZES = {10: (512, 8, 300, 20_000), 100: (64, 4, 400, 20_000), 500: (32, 4, 400, 2_000)}
_CELL = "{} arms, {} pulls, {}".format


def pays(bandit: AbstractBandit, tick: Tick) -> Float[Array, ""]:
    """The pulled arm's mean reward."""
    return bandit.worth()[tick.response]


def measure(scale: Scale, seed: int) -> Measurements:
    """The table: RL^2, the strategies, and RL^2's share of what the Gittins index earns. A smoke test fills one cell, with RL^2 in all
    parts, and copies it."""
    arms, pulls = ((3,), (10,)) if scale == "smoke" else (_ARMS, _PULLS)
    found = {(k, n): _cell(k, n, scale, seed) for n in pulls for k in arms}
    at = lambda k, n: found.get((k, n)) or found[arms[0], pulls[0]]
    return {_CELL(k, n, name): value for n in _PULLS for k in _ARMS for name, value in at(k, n).items()}


def _cell(arms: int, pulls: int, scale: Scale, seed: int) -> dict[str, float]:
    bandits = BernoulliBandit(arms)
    lives, minibatches, steps, n = _SIZES[pulls]
    if scale != "laptop":
        steps, n = (4, 100) if scale == "smoke" else (5 * steps, 5 * n)
    base = rl2.PRESETS["demo"].config
    config = dataclasses.replace(base, ticks=pulls, lives=lives, minibatches=minibatches, anneal=steps)
    agent = train(rl2.program(config, bandits), steps=steps, seed=seed)
    players: dict[str, AbstractLearner] = {
        "RL^2": agent,
        "Gittins": gittins(arms, pulls),
        "UCB1": UCB1(arms),
        "Thompson": Thompson(arms),
    }
    if scale == "smoke":
        players = dict.fromkeys(players, agent)
    key = jr.fold_in(jr.key(seed), 1)
    earned = {name: float(expected_reward(who, bandits, pays, key, pulls, n)) for name, who in players.items()}
    return earned | {"share of Gittins": earned["RL^2"] / earned["Gittins"]}


CLAIMS = (
    Claim(
        id="rl2-bandits",
        statement=(
            "On new Bernoulli bandits RL^2, with its memory split by arms, earns over 0.99 of what the Gittins index earns with up to "
            "10 arms and 100 pulls, and over 0.96 of it with 50 arms and 500 pulls."
        ),
        source='Duan et al. 2016, table 1; Mishra et al. 2018, "A Simple Neural Attentive Meta-Learner"',
        reported="level with Gittins up to 100 pulls; with 50 arms and 500 pulls 0.947 of it (RL^2) and 0.955 (SNAIL)",
        not_answered="what a plain GRU reaches, whose one memory holds all arms and does not know that they are interchangeable.",
        measure=measure,
        expected=(
            *(
                Expectation(_CELL(k, n, "RL^2"), ">", _CELL(k, n, "Gittins"), factor=0.99)
                for n in _PULLS
                for k in _ARMS
                if k <= 10 and n <= 100
            ),
            Expectation(_CELL(50, 500, "RL^2"), ">", _CELL(50, 500, "Gittins"), factor=0.96),
        ),
    ),
)
