"""Neural processes: infer what function this is as a latent variable, and let every draw of it be one whole function.

Slow: encoder, decoder, and, for the amortised learner, a prior. Fast: a Gaussian belief over the latent variable z, from the average
of the encoded examples and their number. One outer step: descend minus a lower bound of the queries' log-likelihood, by one draw of z.

    neural process       E_q(z | support, queries) sum log p(y | x, z)  -  weight * KL( q(z | support, queries) || q(z | support) )
    amortised learner    E_q(z | support)          sum log p(y | x, z)  -  weight * KL( q(z | support) || p(z) ),   p learned

A deterministic learner answers every query with the average of all functions that fit. Here the average comes last: a draw of z is a
function that fits. Without the KL term nothing keeps the belief wide, and the amortised learner is deterministic again.

Sources: Garnelo, Schwarz, Rosenbaum, Viola, Rezende, Eslami and Teh 2018, "Neural Processes"; the amortised learner: Gordon,
Bronskill, Bauer, Nowozin and Turner 2019, "Meta-Learning Probabilistic Inference for Prediction".
Builds on: variational autoencoders, conditional neural processes. Led to: attentive neural processes.
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot import cnp
from quickstudy.algorithms.fewshot.cnp import average_of, flat
from quickstudy.algorithms.fewshot.measuring import errors
from quickstudy.algorithms.references.sine_or_line import SineOrLinePosterior
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, sample_tasks
from quickstudy.nn.mlp import MLP
from quickstudy.outer import Metrics, Preset, Program, descend, train
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, episode_shapes, is_classification, prediction_score
from quickstudy.tasks.sine_or_line import SineOrLine


class Belief(NamedTuple):
    """An independent Gaussian over every number of the latent variable."""

    mean: Float[Array, " latent"]
    deviation: Float[Array, " latent"]

    def draw(self, key: PRNGKeyArray, n: int) -> Float[Array, "n latent"]:
        """`n` values of the latent variable."""
        return self.mean[None] + self.deviation[None] * jr.normal(key, (n, self.mean.size))


def divergence(q: Belief, p: Belief) -> Float[Array, ""]:
    """KL(q || p) in nats.

    >>> narrow, wide = Belief(jnp.zeros(2), jnp.ones(2)), Belief(jnp.ones(2), jnp.ones(2))
    >>> float(divergence(narrow, wide))
    1.0
    """
    ratio = q.deviation / p.deviation
    return 0.5 * jnp.sum(ratio**2 + ((q.mean - p.mean) / p.deviation) ** 2 - 1 - 2 * jnp.log(ratio))


class NeuralProcess(AbstractLearner):
    """An encoder whose average decides a belief, and a decoder of what is drawn from it."""

    encoder: MLP
    believing: MLP
    decoder: MLP
    prior_mean: Float[Array, " latent"]
    prior_spread: Float[Array, " latent"]
    samples: int = eqx.field(static=True)

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> Belief:
        return self.believe(view.support_x, view.support_y, view.known())

    def respond(self, fast: Belief, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return jnp.mean(self.functions(fast, view.query_x, key, self.samples)[0], axis=0)

    def observe(self, fast: Belief, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> Belief:
        return fast

    def believe(self, x: Float[Array, "n ..."], y: Float[Array, "n outputs"], known: Bool[Array, " n"]) -> Belief:
        """The belief after examples of which some are known."""
        average, count = average_of(self.encoder, x, y, known)
        mean, spread = jnp.split(self.believing(jnp.concatenate([average, jnp.log1p(count)[None]])), 2)
        return Belief(mean, positive(spread))

    def prior(self) -> Belief:
        """What the amortised learner believes of a task that it has not seen."""
        return Belief(self.prior_mean, positive(self.prior_spread))

    def functions(
        self, belief: Belief, x: Float[Array, "points ..."], key: PRNGKeyArray, n: int
    ) -> tuple[Float[Array, "n points outputs"], Float[Array, "n points outputs"]]:
        """Mean and standard deviation of the targets at some points, by each of `n` functions drawn from a belief."""
        decode = lambda z: jax.vmap(lambda one: self.decoder(jnp.concatenate([one, z])))(flat(x))
        mean, spread = jnp.split(jax.vmap(decode)(belief.draw(key, n)), 2, axis=2)
        return mean, 0.1 + 0.9 * jax.nn.softplus(spread)  # as conditional neural processes have it


def positive(spread: Float[Array, " latent"]) -> Float[Array, " latent"]:
    """A standard deviation that cannot vanish altogether."""
    return 0.001 + jax.nn.softplus(spread)


@dataclasses.dataclass(frozen=True)
class Config:
    """One of both bounds, and a network for it."""

    belief: Literal["neural-process", "amortised"] = "neural-process"  # Garnelo et al. 2018
    weight: float = 1.0  # of the KL term; both papers: 1
    latent: int = 16  # ours, not tuned
    width: int = 64  # ours, not tuned
    samples: int = 32  # ours: functions that an answer averages
    learning_rate: float = 0.001  # ours, not tuned
    tasks_per_step: int = 64  # ours, not tuned

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise ValueError(f"weight must be at least 0, not {self.weight}")


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> NeuralProcess:
    """A neural process with fresh weights; raises `ValueError` for classification episodes."""
    episode = episode_shapes(tasks)
    if is_classification(episode.query_y):
        raise ValueError("neural-process predicts floating-point targets; these tasks have class labels")
    inputs = flat(jnp.zeros(episode.query_x.shape)).shape[1]
    width, latent, outputs = config.width, config.latent, episode.outputs
    keys = jr.split(key, 3)
    return NeuralProcess(
        encoder=MLP((inputs + outputs, width, width, width), key=keys[0]),
        believing=MLP((width + 1, width, 2 * latent), key=keys[1]),
        decoder=MLP((inputs + latent, width, width, 2 * outputs), key=keys[2]),
        prior_mean=jnp.zeros(latent),
        prior_spread=jnp.full(latent, 0.5413),  # a standard deviation of one
        samples=config.samples,
    )


def bound_of(config: Config):
    """The loss that a configuration descends: minus the bound, per query."""

    def loss(learner: NeuralProcess, task: EpisodeTask, key: PRNGKeyArray) -> tuple[Float[Array, ""], Metrics]:
        view = task.view()
        belief = learner.begin(view, key)
        if config.belief == "amortised":
            posterior, prior = belief, learner.prior()
        else:
            x, y = jnp.concatenate([view.support_x, view.query_x]), jnp.concatenate([view.support_y, task.query_y])
            known = jnp.concatenate([view.known(), jnp.ones(len(task.query_y), bool)])
            posterior, prior = learner.believe(x, y, known), belief
        mean, deviation = (part[0] for part in learner.functions(posterior, task.query_x, key, 1))
        surprise = -jnp.mean(jnp.sum(norm.logpdf(task.query_y, mean, deviation), axis=1))
        told = divergence(posterior, prior)
        value = surprise + config.weight * told / len(task.query_y)
        return value, {"score": prediction_score(mean, task.query_y), "divergence": told}

    return loss


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train all weights on the bound."""
    return descend(
        bound_of(config),
        tasks,
        optax.adam(config.learning_rate),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
    )


PRESETS = {
    "sine-or-line": Preset(Config(), SineOrLine, 10_000, 1, "draws that are waves or lines, 60 s"),
    "smoke": Preset(Config(width=16, latent=2, samples=2, tasks_per_step=4), lambda: SineOrLine(shot=3), 20, 1, "it runs"),
}


# --- Is a draw a function that fits? ------------------------------------------------------------------------------------------------


def distances(functions: Float[np.ndarray, "*batch points"], x: Float[np.ndarray, " points"]) -> np.ndarray:
    """The root mean squared distance of functions, given at points, from the nearest wave and the nearest line: `(*batch, 2)`."""
    found = []
    for basis in ((np.sin(x), np.cos(x)), (np.ones_like(x), x)):
        columns = np.stack(basis, axis=1)
        missed = functions - functions @ np.linalg.pinv(columns).T @ columns.T
        found.append(np.sqrt(np.mean(missed**2, axis=-1)))
    return np.stack(found, axis=-1)


def joint_likelihood(who: AbstractLearner, fast: Any, task: EpisodeTask, key: PRNGKeyArray, draws: int) -> Float[Array, ""]:
    """The log-likelihood, in nats, of all queries of a task at once, by a conditional or by a latent neural process."""
    if isinstance(who, NeuralProcess):
        logs = norm.logpdf(task.query_y[None], *who.functions(fast, task.query_x, key, draws))
        return jax.nn.logsumexp(jnp.sum(logs, axis=(1, 2))) - jnp.log(float(draws))
    assert isinstance(who, cnp.CNP)
    return jnp.sum(norm.logpdf(task.query_y, *who.predictive(fast, task.view())))


# At module level, so that learners of one kind are compiled once.
@eqx.filter_jit
def told(
    who: AbstractLearner, tasks: EpisodeTask, grid: Float[Array, "points 1"], key: PRNGKeyArray, draws: int
) -> tuple[Float[Array, "n draws points"], Float[Array, " n"]]:
    """The functions that a learner thinks possible in stacked tasks, and the log-likelihood of all queries of each at once."""

    def of(task: EpisodeTask) -> tuple[Array, Array]:
        fast = who.begin(task.view(), key)
        joint = joint_likelihood(who, fast, task, key, draws)
        if isinstance(who, NeuralProcess):
            return who.functions(fast, grid, key, draws)[0][..., 0], joint
        assert isinstance(who, cnp.CNP)
        return who.predictive(fast, EpisodeView(task.support_x, task.support_y, grid, 1))[0][None, :, 0], joint

    return jax.vmap(of)(tasks)


def measure_ambiguity(scale: Scale, seed: int) -> Measurements:
    """What four learners make of two points that may belong to a wave or to a line, by the exact posterior's account."""
    steps, n, draws = {"smoke": (10, 60, 4), "laptop": (10_000, 2_000, 64), "full": (100_000, 10_000, 64)}[scale]
    tasks, two = SineOrLine(), SineOrLine(shot=2, fewest=2)
    ours = {"neural process": Config(), "amortised": Config(belief="amortised"), "no KL": Config(belief="amortised", weight=0.0)}
    arms: dict[str, AbstractLearner] = {}
    for name, config in ours.items():
        # At smoke scale the first stands for all three, which saves the compiler's time.
        again = scale == "smoke" and bool(arms)
        arms[name] = arms["neural process"] if again else train(program(config, tasks), steps=steps, seed=seed)
    arms["deterministic"] = train(cnp.program(cnp.Config(width=64), tasks), steps=steps, seed=seed)
    exact = SineOrLinePosterior(tasks.noise)
    key = jr.fold_in(jr.key(seed), 1)
    grid = jnp.linspace(*tasks.inputs, 50)[:, None]

    @jax.jit
    def lines(task: EpisodeTask) -> Array:
        return jnp.sum(exact.begin(task.view(), key)[1])

    drawn = sample_tasks(two, key, "test", n)
    likely = np.asarray(jax.lax.map(lines, drawn))
    open_ = jax.tree.map(lambda leaf: leaf[(likely > 0.2) & (likely < 0.8)], drawn)
    measured = {"share of tasks that two points leave open": float(np.mean((likely > 0.2) & (likely < 0.8)))}
    for name, who in arms.items():
        functions, joint = told(who, open_, grid, key, draws)
        apart = distances(np.asarray(functions, np.float64), np.asarray(grid[:, 0], np.float64))
        share = np.mean(apart[..., 1] < apart[..., 0], axis=1)
        measured[f"{name}: distance from the nearer family"] = float(np.mean(apart.min(axis=-1)))
        measured[f"{name}: tasks with draws of both families"] = float(np.mean((share >= 0.1) & (share <= 0.9)))
        measured[f"{name}: joint log-likelihood per query"] = float(np.mean(joint)) / two.query
    for name, who in {**arms, "exact posterior": exact}.items():
        measured[f"{name}: squared error"] = float(errors(who, tasks, seed, steps=0, n_tasks=n)[0])
    return measured


CLAIMS = (
    Claim(
        id="neural-process-vi",
        statement=(
            "Where two points may belong to a wave or to a line, draws of a neural process are waves and lines, while a deterministic "
            "learner answers with something between; without its KL term an amortised learner is deterministic, and as accurate."
        ),
        source="Garnelo et al. 2018; Gordon et al. 2019",
        reported="figures only: draws of coherent functions, and their spread shrinking with every point",
        not_answered="images; how wide the belief should be, point by point.",
        measure=measure_ambiguity,
        expected=(
            Expectation(
                "neural process: distance from the nearer family", "<", "deterministic: distance from the nearer family", factor=0.7
            ),
            Expectation("neural process: tasks with draws of both families", ">", 0.75),
            Expectation("neural process: joint log-likelihood per query", ">", "deterministic: joint log-likelihood per query"),
            Expectation("no KL: tasks with draws of both families", "<", 0.1),
            Expectation("no KL: squared error", "<", "deterministic: squared error", factor=1.1),
        ),
    ),
)
