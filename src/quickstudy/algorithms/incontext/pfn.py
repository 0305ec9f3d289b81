"""Prior-fitted networks: a transformer reads a data set and answers with the posterior predictive distribution of new points.

Slow: all weights. Fast: every block's keys and values of the support, computed once. One outer step: data sets are drawn from the
prior, and the negative log density of their queries is descended. Its minimum over all functions of a data set is the posterior
predictive distribution under that prior, however intractable: to fit the network is to fit the prior, and Bayesian inference is one
forward pass.

    loss = -E log q(y | x, support) = E KL(p(. | x, support) || q(. | x, support)) + constant

The predictive distribution q is a histogram, whose bars have equal mass under the prior; half-normals continue it at both ends.

    log q(y) = log softmax(logits)_bar(y) - log width_bar(y)

Source: Mueller, Hollmann, Pineda Arango, Grabocka and Hutter 2022, "Transformers Can Do Bayesian Inference".
Builds on: conditional neural processes, set transformers. Led to: TabPFN, in-context Bayesian optimisation.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.algorithms.fewshot.cnp import flat
from quickstudy.claims import Claim
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, sample_tasks
from quickstudy.nn.mlp import MLP
from quickstudy.nn.set_transformer import SetTransformer, Support
from quickstudy.nn.transformer import Architecture
from quickstudy.outer import Metrics, Preset, Program, descend, rise_and_fall
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, episode_shapes, is_classification, prediction_score
from quickstudy.tasks.gaussian_processes import GaussianProcess

# --- The predictive distribution ----------------------------------------------------------------------------------------------------


class Bars(eqx.Module):
    """A histogram's inner edges, and the scales of the half-normals that begin where they end: n + 1 edges part n + 2 bars.

    Every method takes the logits of the bars' masses, one row for each prediction.

    >>> bars = Bars(edges=jnp.array([-1.0, 0.0, 1.0]), tails=jnp.array([1.0, 1.0]))
    >>> low, high = bars.interval(jnp.array([[-9.0, 0.0, 0.0, -9.0]]), 0.9)
    >>> round(float(low[0]), 2), round(float(high[0]), 2)
    (-0.9, 0.9)
    """

    edges: Float[Array, " edges"]
    tails: Float[Array, "2"]

    @staticmethod
    def fit(y: Float[Array, " n"], bars: int) -> "Bars":
        """Bars of equal mass under draws `y` of the prior, and the half-normals that make those beyond the last edges likeliest.

        The source's half-normals have their median at the outermost draws instead. Raises `ValueError` for fewer than 3 bars.
        """
        if bars < 3:
            raise ValueError(f"bars must be at least 3, of which two are tails, not {bars}")
        edges = jnp.quantile(y, jnp.arange(1, bars) / bars)
        beyond = jnp.stack([edges[0] - y, y - edges[-1]])
        squares = jnp.sum(jnp.square(jnp.maximum(beyond, 0.0)), axis=1)
        return Bars(edges, jnp.sqrt(squares / jnp.sum(beyond >= 0, axis=1, dtype=y.dtype)))

    def log_density(self, logits: Float[Array, "n bars"], y: Float[Array, " n"]) -> Float[Array, " n"]:
        """The log density of one value under each prediction, in nats."""
        edges, tails = jax.lax.stop_gradient((self.edges, self.tails))  # the prior's, and no weights
        bar = self.bar(y)
        log_mass = jnp.take_along_axis(jax.nn.log_softmax(logits), bar[:, None], axis=1)[:, 0]
        inside = -jnp.log(jnp.diff(edges))[jnp.clip(bar - 1, 0, edges.shape[0] - 2)]
        below = _log_half_normal(edges[0] - y, tails[0])
        above = _log_half_normal(y - edges[-1], tails[1])
        return log_mass + jnp.where(bar == 0, below, jnp.where(bar == edges.shape[0], above, inside))

    def bar(self, y: Float[Array, " n"]) -> Int[Array, " n"]:
        """Which bar each value is in, from 0 to the number of edges."""
        return jnp.searchsorted(self.edges, y, side="right")

    def mean(self, logits: Float[Array, "n bars"]) -> Float[Array, " n"]:
        """The mean of each prediction."""
        reach = self.tails * (2 / jnp.pi) ** 0.5
        middles = (self.edges[1:] + self.edges[:-1]) / 2
        return jax.nn.softmax(logits) @ jnp.concatenate([self.edges[:1] - reach[:1], middles, self.edges[-1:] + reach[1:]])

    def quantile(self, logits: Float[Array, "n bars"], level: float) -> Float[Array, " n"]:
        """The value below which each prediction has mass `level`. Raises `ValueError` unless 0 < level < 1."""
        if not 0 < level < 1:
            raise ValueError(f"level must be above 0 and below 1, not {level}")
        masses = jax.nn.softmax(logits)
        until = jnp.cumsum(masses, axis=1)
        # Rounding may leave the sum of all a hair below the level.
        bar = jnp.minimum(jnp.sum(until < level, axis=1), masses.shape[1] - 1)
        at = lambda values: jnp.take_along_axis(values, bar[:, None], axis=1)[:, 0]
        share = jnp.clip(1 - (at(until) - level) / at(masses), 0.0, 1.0)
        left = jnp.clip(bar - 1, 0, self.edges.shape[0] - 2)
        inside = self.edges[left] + share * (self.edges[left + 1] - self.edges[left])
        below = self.edges[0] - self.tails[0] * _half_normal_quantile(1 - share)
        above = self.edges[-1] + self.tails[1] * _half_normal_quantile(share)
        return jnp.where(bar == 0, below, jnp.where(bar == self.edges.shape[0], above, inside))

    def interval(self, logits: Float[Array, "n bars"], mass: float = 0.95) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """The ends of each prediction's central interval of this mass. Raises `ValueError` unless 0 < mass < 1."""
        if not 0 < mass < 1:
            raise ValueError(f"mass must be above 0 and below 1, not {mass}")
        return self.quantile(logits, (1 - mass) / 2), self.quantile(logits, (1 + mass) / 2)


def _log_half_normal(distance: Float[Array, " n"], scale: Float[Array, ""]) -> Float[Array, " n"]:
    """The log density of a half-normal at a distance that need not be positive, where it is not used."""
    return jnp.log(2.0) + jax.scipy.stats.norm.logpdf(distance, 0.0, scale)


def _half_normal_quantile(share: Float[Array, " n"]) -> Float[Array, " n"]:
    # Short of one, where it is infinite.
    return 2**0.5 * jax.scipy.special.erfinv(jnp.minimum(share, 1 - 1e-6))


# --- The learner --------------------------------------------------------------------------------------------------------------------


class PFN(AbstractLearner):
    """A set transformer over examples, x and y added up, and queries, x only, whose last features are the logits of bars.

    >>> fresh = lambda key: learner(Config(width=8, layers=1, heads=2, bars=10), GaussianProcess(shot=5), key)
    >>> eqx.filter_eval_shape(fresh, jr.key(0)).head.shape
    (8, 10)
    """

    embed_x: MLP
    embed_y: Float[Array, "2 width"]
    transformer: SetTransformer
    head: Float[Array, "width bars"]
    bars: Bars

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Support:
        known = view.known()
        y = jnp.where(known[:, None], view.support_y, 0.0)
        tokens = jax.vmap(self.embed_x)(flat(view.support_x)) + y * self.embed_y[:1] + self.embed_y[1:]
        return self.transformer.remember(tokens, known)

    def respond(self, fast: Support, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query 1"]:
        return self.bars.mean(self.logits(fast, view))[:, None]

    def observe(self, fast: Support, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Support:
        return fast

    def logits(self, fast: Support, view: EpisodeView) -> Float[Array, "query bars"]:
        """The predictive distribution of every query's target, to be read by `bars`."""
        return self.transformer.answer(fast, jax.vmap(self.embed_x)(flat(view.query_x))) @ self.head


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours, for training on a CPU, where no source is named."""

    width: int = 64  # ours: 512 there
    layers: int = 3  # ours: 6 there
    heads: int = 4  # Mueller et al. 2022, appendix
    bars: int = 100  # ours: 1,000 there, for noise that is ten times smaller
    learning_rate: float = 0.003  # ours: better than 0.001 in one run each, on tasks that no claim draws
    steps: int = 4_000  # ours: after which the learning rate, which falls as a cosine does, is zero
    warmup: int = 100  # ours
    tasks_per_step: int = 16  # ours


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> PFN:
    """A network with fresh weights and bars that fit the tasks; raises `ValueError` unless targets are one floating-point number."""
    episode = episode_shapes(tasks)
    if is_classification(episode.query_y) or episode.outputs != 1:
        raise ValueError("pfn predicts one floating-point number a point; these tasks have other targets")
    inputs = flat(jnp.zeros(episode.query_x.shape)).shape[1]
    x_key, y_key, transformer_key, head_key, prior_key = jr.split(key, 5)
    width = config.width
    return PFN(
        embed_x=MLP((inputs, width, width), key=x_key),
        embed_y=jr.normal(y_key, (2, width)),
        transformer=SetTransformer(Architecture(width, config.layers, config.heads), key=transformer_key),
        head=0.01 * jr.normal(head_key, (width, config.bars)),  # at birth nearly the prior
        bars=bars_of(tasks, prior_key, config.bars),
    )


@eqx.filter_jit  # op by op it would be a hundred small programs
def bars_of(tasks: AbstractTaskDistribution, key: PRNGKeyArray, bars: int) -> Bars:
    """Bars that fit the targets of 4,000 tasks, 4 of each: ours, 160 in each of 100 bars."""
    drawn = sample_tasks(tasks, key, "train", 4_000)
    assert isinstance(drawn, EpisodeTask)
    return Bars.fit(jnp.ravel(drawn.query_y[:, :4]), bars)


def likelihood_loss(learner: PFN, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
    """Minus the mean log density of the queries' targets, in nats."""
    logits = learner.logits(learner.begin(task.view(), key), task.view())
    loss = -jnp.mean(learner.bars.log_density(logits, task.query_y[:, 0]))
    return loss, {"score": prediction_score(learner.bars.mean(logits)[:, None], task.query_y)}


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Fit the network to the prior that the tasks are drawn from."""
    rate = rise_and_fall(config.learning_rate, config.warmup, config.steps)
    return descend(
        likelihood_loss,
        tasks,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )


_TINY = Config(width=8, layers=1, heads=2, bars=10, steps=20, warmup=2, tasks_per_step=4)
PRESETS = {
    "gp": Preset(
        Config(), lambda: GaussianProcess(shot=20, fewest=1, query=20), 4_000, 1, "about 0.04 nats from the exact posterior, 60 s"
    ),
    "smoke": Preset(_TINY, lambda: GaussianProcess(shot=5, fewest=1, query=5), 20, 1, "a few seconds: it runs"),
}

CLAIMS: tuple[Claim, ...] = ()  # pfn_gp and pfn_bnn hold them
