"""Prior-fitted networks on a Bayesian neural network's prior: the claim that they match a posterior that has no closed form.

The other side is importance sampling from the same prior, with so many draws that it is nearly exact for the few points shown: its
effective sample size says how nearly.

Source: Mueller et al. 2022, "Transformers Can Do Bayesian Inference", section 5, where the other sides are stochastic variational
inference and Markov chain Monte Carlo.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from quickstudy.algorithms.incontext import pfn
from quickstudy.algorithms.incontext.pfn_gp import answer, answers, fitted, held_out, summary
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.measure import time_call
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.random_networks import RandomNetworks

TASKS = RandomNetworks(shot=6, fewest=1, query=10)
_SAMPLING = 2  # the purpose folded into a repeat's seed for the draws of importance sampling


def sampled(tests: EpisodeTask, seed: int, batches: int) -> tuple[float, np.ndarray, float]:
    """Importance sampling's negative log density, its effective sample sizes, and its milliseconds a data set."""
    key = jr.fold_in(jr.key(seed), _SAMPLING)
    predict = eqx.filter_jit(lambda task: TASKS.predictive(task, key, batches=batches))
    # One data set after another: the draws of one fill a processor.
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], tests) for i in range(tests.query_x.shape[0])]
    density, sizes = (np.asarray(part) for part in zip(*map(predict, each), strict=True))
    return -float(np.mean(density)), sizes, 1_000 * time_call(predict, each[0], repeats=5).wall_seconds


def measure(scale: Scale, seed: int) -> Measurements:
    """The network beside importance sampling with many draws, and with 1/64 of them."""
    steps, n, batches = {"smoke": (10, 5, 2), "laptop": (5_000, 150, 64), "full": (50_000, 500, 1_024)}[scale]
    network = fitted(dataclasses.replace(pfn.Config(), steps=steps), TASKS, seed)[-1]
    tests = held_out(TASKS, seed, n)
    y, logits = jnp.ravel(tests.query_y), answers(network, tests)
    nats, coverage = summary(network, logits, y)
    prior, _ = summary(network, jnp.zeros_like(logits), y)
    one = jax.tree.map(lambda leaf: leaf[0], tests)
    answer(network, one)  # compiles
    ours = 1_000 * time_call(answer, network, one, repeats=200).wall_seconds
    many, sizes, slow = sampled(tests, seed, batches)
    few, _, quick = (many, sizes, slow) if scale == "smoke" else sampled(tests, seed, batches // 64)
    return {
        "PFN: negative log density": float(nats),
        "importance sampling: negative log density": many,
        "importance sampling, 1/64 of the draws: negative log density": few,
        "prior: negative log density": float(prior),
        "PFN: coverage of 95 % intervals": float(coverage),
        "importance sampling: effective sample size, median": float(np.median(sizes)),
        "importance sampling: effective sample size, least": float(np.min(sizes)),
        "PFN: milliseconds a data set": ours,
        "importance sampling: milliseconds a data set": slow,
        "importance sampling, 1/64 of the draws: milliseconds a data set": quick,
        "importance sampling: times as slow": slow / ours,
    }


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="pfn-bnn",
        statement=(
            "A transformer fitted to a Bayesian neural network's prior predicts as well as a nearly exact posterior of that network, "
            "a hundred times as fast."
        ),
        source="Mueller et al. 2022, abstract and section 5",
        reported="at least as good as variational inference and Markov chain Monte Carlo, and over 200 times as fast (on GPUs)",
        not_answered="networks of more than one input and layer, data sets of more than six points; Markov chain Monte Carlo itself.",
        measure=measure,
        # Chosen from the source, not from what was measured. 0.05 nats are what pfn-gp calls near; a hundredfold speed-up is half the
        # source's. How slow importance sampling is follows from its number of draws: that with fewer stands beside it.
        expected=(
            Expectation("PFN: negative log density", "<", "importance sampling: negative log density", slack=0.05),
            Expectation("PFN: negative log density", "<", "prior: negative log density"),
            Expectation("PFN: coverage of 95 % intervals", ">", 0.93),
            Expectation("PFN: coverage of 95 % intervals", "<", 0.97),
            Expectation("importance sampling: times as slow", ">", 100.0),
        ),
    ),
)
