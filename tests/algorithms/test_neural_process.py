"""Neural processes and the exact posterior that they are held against."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.fewshot import neural_process
from quickstudy.algorithms.fewshot.neural_process import Belief, Config, distances, divergence
from quickstudy.algorithms.references import SineOrLinePosterior
from quickstudy.tasks import EpisodeTask, Glyphs, SineOrLine
from quickstudy.tasks.episode import EpisodeView

KEY = jr.key(0)
TASKS = SineOrLine(shot=4, fewest=3)


@pytest.fixture(scope="module")
def process():
    return neural_process.learner(Config(width=8, latent=3), TASKS, KEY)


def view(x, y):
    return EpisodeView(jnp.array(x)[:, None], jnp.array(y)[:, None], jnp.linspace(-5, 5, 7)[:, None], 1)


def test_the_divergence_is_that_of_gaussians():
    q, p = Belief(jnp.array([0.3, -1.0]), jnp.array([0.5, 2.0])), Belief(jnp.array([0.0, 1.0]), jnp.array([1.5, 1.0]))
    drawn = np.asarray(q.draw(KEY, 200_000))
    log = lambda belief: jax.scipy.stats.norm.logpdf(drawn, belief.mean[None], belief.deviation[None]).sum(axis=1)
    np.testing.assert_allclose(divergence(q, p), np.mean(log(q) - log(p)), rtol=0.01)
    assert float(divergence(q, q)) == pytest.approx(0, abs=1e-6)


def test_a_belief_reads_a_set_and_leaves_out_what_has_no_target(process):
    x, y = [0.5, -1.0, 2.0], [1.0, 0.0, -2.0]
    first = process.begin(view(x, y), KEY)
    order = process.begin(view(x[::-1], y[::-1]), KEY)
    padded = process.begin(view([*x, 4.0], [*y, jnp.nan]), KEY)
    for other in (order, padded):
        np.testing.assert_allclose(first.mean, other.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(first.deviation, other.deviation, rtol=1e-5, atol=1e-6)
    # Unlike an average alone, it also knows how many examples there were.
    twice = process.begin(view(x + x, y + y), KEY)
    assert float(jnp.abs(first.mean - twice.mean).max()) > 1e-4


def test_a_draw_is_one_function_for_all_points(process):
    seen = view([0.5], [1.0])
    belief = process.begin(seen, KEY)
    together, _ = process.functions(belief, seen.query_x, KEY, 3)
    alone, _ = process.functions(belief, seen.query_x[2:3], KEY, 3)
    np.testing.assert_allclose(together[:, 2:3], alone, rtol=1e-5, atol=1e-6)
    assert float(jnp.std(together, axis=0).min()) > 0, "draws must differ"


def test_the_bound_is_never_above_the_likelihood(process):
    """Averaged over many draws, the bound of a task is below its log-likelihood under the same prior belief."""
    task = TASKS.sample(jr.key(3), "train")
    fast = process.begin(task.view(), KEY)
    loss = eqx.filter_jit(lambda key: neural_process.bound_of(Config())(process, task, key)[0])
    bound = -np.mean([float(loss(key)) for key in jr.split(KEY, 200)]) * len(task.query_y)
    logs = jax.scipy.stats.norm.logpdf(task.query_y[None], *process.functions(fast, task.query_x, KEY, 20_000)).sum(axis=(1, 2))
    assert bound < float(jax.nn.logsumexp(logs)) - np.log(20_000)


def test_only_the_support_decides_what_the_amortised_learner_believes(process):
    """Its loss must not let the queries' targets into the belief: their effect on it is that of a fixed belief's likelihood."""
    task = TASKS.sample(jr.key(4), "train")
    moved = EpisodeTask(task.support_x, task.support_y, task.query_x, task.query_y + 1, task.latent, outputs=1)
    divergences = {}
    for belief in ("amortised", "neural-process"):
        loss = neural_process.bound_of(Config(belief=belief))
        divergences[belief] = [float(loss(process, one, KEY)[1]["divergence"]) for one in (task, moved)]
    assert divergences["amortised"][0] == divergences["amortised"][1]
    assert divergences["neural-process"][0] != divergences["neural-process"][1]


def test_waves_and_lines_are_told_apart():
    x = np.linspace(-5, 5, 30)
    wave, line = distances(np.stack([2 * np.sin(x + 1), 0.5 - x]), x)
    assert wave[0] < 1e-9 < 0.5 < wave[1]
    assert line[1] < 1e-9 < 0.5 < line[0]


def test_the_posterior_is_what_rejection_finds():
    """Of a million functions drawn from the prior, those that happen to fit: how many are lines, and what they say elsewhere."""
    seen = view([-1.0, 1.5], [1.0, 2.0])
    exact = SineOrLinePosterior(0.3)
    fast = exact.begin(seen, KEY)
    random = np.random.default_rng(0)
    a, b = random.uniform(0, 1, (2, 1_000_000))
    at = lambda x: np.stack([(0.1 + 4.9 * a) * np.sin(x + np.pi * b), -3 + 6 * a + (-3 + 6 * b) * x])
    weights = np.exp(-0.5 * sum(((at(x) - y) / 0.3) ** 2 for x, y in ((-1.0, 1.0), (1.5, 2.0))))
    weights /= weights.sum()
    np.testing.assert_allclose(fast.sum(axis=1), weights.sum(axis=1), atol=0.01)
    expected = [np.sum(weights * at(float(x))) for x in np.linspace(-5, 5, 7)]
    np.testing.assert_allclose(exact.respond(fast, seen, KEY)[:, 0], expected, atol=0.05)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SineOrLine(shot=2, fewest=3), "shot must be at least 3, not 2"),
        (lambda: SineOrLine(noise=0.0), "noise must be above 0, not 0.0"),
        (lambda: Config(weight=-1.0), "weight must be at least 0, not -1.0"),
        (lambda: neural_process.learner(Config(), Glyphs(), KEY), "these tasks have class labels"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(make, said):
    with pytest.raises(ValueError, match=said):
        make()
