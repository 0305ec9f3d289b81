"""Prior-fitted networks on Gaussian processes: the claim that a transformer mimics a posterior that is known exactly.

Where the kernel is known, the exact posterior predictive distribution is a Gaussian, and the divergence of a network's bars from that
Gaussian's mass in each bar is the network's error. What the bars themselves, too wide or of the wrong shape, add to that is in the
difference of log densities. Where length scale, amplitude and noise are unknown, it stands against scikit-learn's
Gaussian process, which fits them to every data set anew by the marginal likelihood (type-II maximum likelihood), within the prior's
ranges.

Source: Mueller et al. 2022, "Transformers Can Do Bayesian Inference", section 5.
"""

import dataclasses
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float
from scipy import stats

from quickstudy.algorithms.fewshot import cnp
from quickstudy.algorithms.incontext import pfn
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractTaskDistribution, sample_tasks
from quickstudy.measure import time_call
from quickstudy.outer import run, train
from quickstudy.tasks.curves import AbstractCurves
from quickstudy.tasks.episode import EpisodeTask
from quickstudy.tasks.gaussian_processes import GaussianProcess

_TEST = 1  # the purpose folded into a repeat's seed for its test tasks
_TINY = 1e-16  # what a mass counts as at least: double precision's rounding of differences of a distribution function

Array = np.ndarray


def fitted(config: pfn.Config, tasks: AbstractTaskDistribution, seed: int) -> list[pfn.PFN]:
    """The network after each fifth of its training."""
    method = pfn.program(config, tasks)
    stages = run(method, steps=config.steps, seed=seed, chunk=config.steps // 5)
    return [method.learner(stage.state) for stage in stages]  # type: ignore[misc]


def held_out(tasks: AbstractCurves, seed: int, n: int) -> EpisodeTask:
    """Test tasks that depend on the repeat's seed only, so that every arm meets the same ones."""
    drawn = eqx.filter_jit(sample_tasks)(tasks, jr.fold_in(jr.key(seed), _TEST), "test", n)
    assert isinstance(drawn, EpisodeTask)
    return drawn


@eqx.filter_jit
def answer(network: pfn.PFN, task: EpisodeTask) -> jax.Array:
    """The logits (query, bars) of one data set, in one forward pass."""
    key = jr.key(0)  # draws nothing
    return network.logits(network.begin(task.view(), key), task.view())


@eqx.filter_jit
def answers(network: pfn.PFN, tasks: EpisodeTask) -> jax.Array:
    """The logits of all queries of all data sets (tasks x query, bars)."""
    return jnp.concatenate(jax.vmap(lambda task: answer(network, task))(tasks))


@eqx.filter_jit
def summary(network: pfn.PFN, logits: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The negative log density of targets, and the share of them in 95 % intervals."""
    low, high = network.bars.interval(logits)
    return -jnp.mean(network.bars.log_density(logits, y)), jnp.mean((low <= y) & (y <= high), dtype=y.dtype)


def masses(edges: Array, mean: Array, deviation: Array) -> Float[Array, "n bars"]:
    """A Gaussian's mass in each bar."""
    ends = np.concatenate([[-np.inf], edges, [np.inf]])
    return np.maximum(np.diff(stats.norm.cdf(ends[None], mean[:, None], deviation[:, None])), _TINY)


def divergence(exact: Float[Array, "n bars"], other: Float[Array, "n bars"]) -> float:
    """The mean Kullback-Leibler divergence of other masses from the exact ones, in nats."""
    return float(np.mean(np.sum(exact * np.log(exact / np.maximum(other, _TINY)), axis=1)))


def surprise(y: Array, mean: Array, deviation: Array) -> float:
    """The mean negative log density of targets under Gaussians."""
    return -float(np.mean(stats.norm.logpdf(y, mean, deviation)))


def flat(array: jax.Array) -> Array:
    """All numbers of an array, in double precision."""
    return np.asarray(array, float).ravel()


# --- A kernel that is known ---------------------------------------------------------------------------------------------------------

KNOWN = GaussianProcess(shot=20, fewest=1, query=20)


def measure_known(config: pfn.Config, seed: int, n: int, scale: Scale) -> tuple[dict[str, float], pfn.PFN]:
    """Divergences from the exact posterior, the coverage of intervals, and the network."""
    stages = fitted(config, KNOWN, seed)
    tests, network = held_out(KNOWN, seed, n), stages[-1]
    y = flat(tests.query_y)
    mean, deviation = (flat(part) for part in jax.jit(lambda many: jax.lax.map(KNOWN.predictive, many))(tests))
    mass = lambda mean, deviation: masses(flat(network.bars.edges), mean, deviation)
    exact, prior = mass(mean, deviation), mass(np.zeros_like(mean), np.full_like(mean, 1.01**0.5))
    of = lambda stage: divergence(exact, np.asarray(jax.nn.softmax(answers(stage, tests)), float))
    nats, coverage = summary(network, answers(network, tests), jnp.ravel(tests.query_y))
    measured = {
        "PFN: divergence from the exact posterior": of(network),
        "PFN: divergence after a fifth of training": of(stages[0]),
        "CNP: divergence": divergence(exact, prior if scale == "smoke" else mass(*rival(config, seed, tests))),
        "prior: divergence": divergence(exact, prior),
        "PFN: coverage of 95 % intervals": float(coverage),
        "PFN: negative log density": float(nats),
        "exact: negative log density": surprise(y, mean, deviation),
    }
    return measured, network


def rival(config: pfn.Config, seed: int, tests: EpisodeTask) -> tuple[Array, Array]:
    """The means and deviations of a conditional neural process that was trained on as many data sets."""
    settings = cnp.Config(tasks_per_step=config.tasks_per_step)
    other = train(cnp.program(settings, KNOWN), steps=config.steps, seed=seed)
    assert isinstance(other, cnp.CNP)
    predict = lambda task: other.predictive(other.begin(task.view(), jr.key(0)), task.view())
    mean, deviation = eqx.filter_jit(jax.vmap(predict))(tests)
    return flat(mean), flat(deviation)


# --- A kernel that is not -----------------------------------------------------------------------------------------------------------

UNKNOWN = GaussianProcess(shot=20, fewest=1, query=20, length_scale=(0.3, 1.0), amplitude=(0.5, 1.5), noise=(0.05, 0.2))


def measure_unknown(network: pfn.PFN, seed: int, n: int) -> dict[str, float]:
    """Log densities and times beside type-II maximum likelihood, one data set at a time."""
    tests = held_out(UNKNOWN, seed, n)
    nats, coverage = summary(network, answers(network, tests), jnp.ravel(tests.query_y))
    one = jax.tree.map(lambda leaf: leaf[0], tests)
    answer(network, one)  # compiles
    together = time_call(answers, network, tests, repeats=5).wall_seconds / n
    ours = time_call(answer, network, one, repeats=200).wall_seconds
    mean, deviation, theirs = maximum_likelihood(tests)
    return {
        "unknown kernel, PFN: negative log density": float(nats),
        "unknown kernel, PFN: coverage of 95 % intervals": float(coverage),
        "unknown kernel, maximum likelihood: negative log density": surprise(flat(tests.query_y), mean, deviation),
        "PFN: milliseconds a data set": 1_000 * ours,
        "PFN, all data sets at once: milliseconds a data set": 1_000 * together,
        "maximum likelihood: milliseconds a data set": 1_000 * theirs,
        "maximum likelihood: times as slow": theirs / ours,
    }


def maximum_likelihood(tests: EpisodeTask) -> tuple[Array, Array, float]:
    """The means and deviations of scikit-learn's Gaussian process for every query, and its seconds a data set."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    middle = lambda bounds: (bounds[0] * bounds[1]) ** 0.5
    squares = lambda bounds: (bounds[0] ** 2, bounds[1] ** 2)
    amplitude, noise = squares(UNKNOWN.amplitude), squares(UNKNOWN.noise)
    kernel = ConstantKernel(middle(amplitude), amplitude) * RBF(middle(UNKNOWN.length_scale), UNKNOWN.length_scale)
    kernel = kernel + WhiteKernel(middle(noise), noise)
    found, data = [], [np.asarray(part, float) for part in (tests.support_x, tests.support_y[..., 0], tests.query_x)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the ranges are the prior's: an optimum at their end is one
        began = time.perf_counter()
        for x, y, queries in zip(*data, strict=True):
            known = ~np.isnan(y)
            process = GaussianProcessRegressor(kernel, n_restarts_optimizer=0).fit(x[known], y[known])
            found.append(process.predict(queries, return_std=True))
        seconds = (time.perf_counter() - began) / len(found)
    mean, deviation = (np.concatenate(part) for part in zip(*found, strict=True))
    return mean, deviation, seconds


# --- Claim --------------------------------------------------------------------------------------------------------------------------


def measure(scale: Scale, seed: int) -> Measurements:
    """Both priors, one network each. A smoke test, which only looks whether it runs, has one network for both and no rival."""
    steps, n = {"smoke": (10, 10), "laptop": (5_000, 500), "full": (50_000, 2_000)}[scale]
    config = dataclasses.replace(pfn.Config(), steps=steps)
    known, network = measure_known(config, seed, n, scale)
    other = network if scale == "smoke" else fitted(config, UNKNOWN, seed)[-1]
    return known | measure_unknown(other, seed, n // 2)


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="pfn-gp",
        statement=(
            "A transformer fitted to a Gaussian process's data sets answers with nearly the exact posterior in one forward pass. With "
            "the kernel unknown it is better than fitting that by maximum likelihood, and many times as fast."
        ),
        source="Mueller et al. 2022, abstract and section 5",
        reported='"near-perfectly mimic Gaussian processes", "over 200-fold speedups in multiple setups" (larger, on GPUs)',
        not_answered="more than one input, more than 20 points, noise below a tenth of the amplitude; Markov chain Monte Carlo.",
        measure=measure,
        # Chosen from the source, not from what was measured: "near-perfectly" is 0.05 nats, and a tenth of what a mean of examples
        # reaches; a speed-up of ten, on one core and small data, is far from the source's but beyond any doubt of timing.
        expected=(
            Expectation("PFN: divergence from the exact posterior", "<", 0.05),
            Expectation("PFN: divergence from the exact posterior", "<", "PFN: divergence after a fifth of training"),
            Expectation("PFN: divergence from the exact posterior", "<", "CNP: divergence", factor=0.1),
            Expectation("PFN: divergence from the exact posterior", "<", "prior: divergence", factor=0.1),
            Expectation("PFN: coverage of 95 % intervals", ">", 0.93),
            Expectation("PFN: coverage of 95 % intervals", "<", 0.97),
            Expectation("unknown kernel, PFN: negative log density", "<", "unknown kernel, maximum likelihood: negative log density"),
            Expectation("maximum likelihood: times as slow", ">", 10.0),
        ),
    ),
)
