"""Sequential strategies: who is asked which arm is best, and acts as it answers, learns to play Thompson sampling.

The network is that of `meta-bayes`, whose log-loss makes its answers posterior probabilities. Actions are drawn from the answers: they
are its own interventions, and tell it nothing about the bandit but what they paid.

Source: Ortega et al. 2019, "Meta-learning of Sequential Strategies"; Thompson 1933.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from quickstudy.algorithms.incontext import meta_bayes
from quickstudy.algorithms.references.best_arm import PosteriorBest
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner
from quickstudy.evaluation import recorded_lives
from quickstudy.outer import train
from quickstudy.tasks.best_arm import BestArm


def judge(who: AbstractLearner, tasks: BestArm, key: Array, *, n: int, pulls: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `n` lives in test bandits: the regret of each (n,), and the divergence of every answer from the posterior (n, pulls)."""
    exact = PosteriorBest(tasks.arms)

    def record(task, tick):
        missed = jnp.max(task.chances) - arms_of(tick.feedback) @ task.chances
        return tick.feedback, jax.nn.log_softmax(tick.response), missed

    pulled, logs, missed = recorded_lives(who, tasks, key, n=n, ticks=pulls, record=record)
    counts = jnp.cumsum(pulled, axis=1) - pulled  # before each pull
    posterior = jax.lax.map(jax.vmap(lambda seen: exact.respond(seen, seen, key)), counts)
    return np.asarray(missed).sum(axis=1), np.asarray(jnp.sum(jnp.exp(posterior) * (posterior - logs), axis=2))


def arms_of(pulls: Float[Array, "*shape seen"]) -> Float[Array, "*shape arms"]:
    """Which arm was pulled, one-hot, whether it paid or not."""
    paid, unpaid = jnp.split(pulls, 2, axis=-1)
    return paid + unpaid


def measure_strategies(scale: Scale, seed: int) -> Measurements:
    """Regret of acting by what the network answers, by the exact posterior (Thompson sampling) and at random; and how they differ."""
    steps, n, pulls = {"smoke": (4, 20, 5), "laptop": (10_000, 10_000, 30), "full": (30_000, 100_000, 30)}[scale]
    tasks = BestArm()
    config = meta_bayes.Config(width=8 if scale == "smoke" else 64, throws=pulls)
    ours = train(meta_bayes.program(config, tasks), steps=steps, seed=seed)
    who = {"network": ours, "Thompson": PosteriorBest(tasks.arms), "untrained": meta_bayes.learner(config, tasks, jr.key(seed))}
    measured = {}
    for name, agent in who.items():
        regret, divergence = judge(agent, tasks, jr.fold_in(jr.key(seed), 1), n=n, pulls=pulls)
        measured[f"{name}: regret"], measured[f"{name}: nats from the posterior"] = float(regret.mean()), float(divergence.mean())
    return measured


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="sequential-strategies",
        statement=(
            "Meta-trained to say which of three arms is best, and acting as it answers, a recurrent network has the posterior's "
            "answers and, within a twentieth, Thompson sampling's regret."
        ),
        source="Ortega et al. 2019, section 3",
        reported="a derivation, and figures: trained networks predict and act as the exact Bayesian strategies do",
        not_answered="dice, for which see `meta-bayes-optimal`; strategies that plan; more arms.",
        measure=measure_strategies,
        expected=(
            Expectation("network: nats from the posterior", "<", 0.01),
            Expectation("network: regret", "<", "Thompson: regret", factor=1.05),
            Expectation("network: regret", ">", "Thompson: regret", factor=0.95),
            Expectation("network: regret", "<", "untrained: regret", factor=0.7),
        ),
    ),
)
