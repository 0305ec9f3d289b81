"""Meta-learned prediction: a recurrent network that pays for every surprise becomes the Bayes-optimal predictor of its tasks.

Slow: the recurrent weights. Fast: the hidden state. One outer step: predict every throw of a batch of dice before it is shown, and
descend the mean surprise, minus the logarithm of the probability that was given to it, back through time.

    min over weights of E_task E_throws sum_t -log p(x_t | x_1 .. x_(t-1)),      whose optimum is the posterior predictive distribution

Source: Mikulik et al. 2020, "Meta-trained agents implement Bayes-optimal agents"; why: Ortega et al. 2019, "Meta-learning of
Sequential Strategies".
Builds on: in-context learning with recurrent networks. Led to: in-context learning as amortised inference, prior-fitted networks.
"""

import dataclasses

import jax
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.references.laplace import Laplace
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution
from quickstudy.evaluation import recorded_lives
from quickstudy.nn.memory import GRU
from quickstudy.outer import Preset, Program, train, truncate
from quickstudy.tasks.best_arm import BestArmTask
from quickstudy.tasks.loaded_dice import Die, LoadedDice

Hidden = Float[Array, " width"]


class Predictor(AbstractLearner):
    """Reads throws (or pulls) one by one, and answers with logits of the next (or of which arm is best)."""

    memory: GRU
    head: Float[Array, "answers width"]

    def begin(self, view: Float[Array, " seen"], key: PRNGKeyArray) -> Hidden:
        return self.memory.start()

    def respond(self, fast: Hidden, view: Float[Array, " seen"], key: PRNGKeyArray) -> Float[Array, " answers"]:
        return self.head @ fast

    def observe(self, fast: Hidden, view: Array, response: Array, feedback: Float[Array, " seen"], key: PRNGKeyArray) -> Hidden:
        return self.memory.step(fast, feedback)[0]


@dataclasses.dataclass(frozen=True)
class Config:
    """Ours throughout, not tuned."""

    width: int = 32  # ours
    learning_rate: float = 0.003  # ours
    tasks_per_step: int = 64  # ours
    throws: int = 20  # ours


def learner(config: Config, tasks: AbstractTaskDistribution, key: PRNGKeyArray) -> Predictor:
    """A predictor with fresh weights; raises `TypeError` unless the tasks are loaded dice or ask for the best arm."""
    task = jax.eval_shape(lambda k: tasks.sample(k, "train"), key)
    if not isinstance(task, Die | BestArmTask):
        raise TypeError(f"meta-bayes predicts throws of loaded dice and best arms, not a {type(task).__name__}")
    memory_key, head_key = jr.split(key)
    seen = jax.eval_shape(lambda task: task.reset(key)[1], task)
    memory = GRU(seen.size, config.width, key=memory_key)
    return Predictor(memory, jr.normal(head_key, (task.outputs, config.width)) / config.width**0.5)


def program(config: Config, tasks: AbstractTaskDistribution) -> Program:
    """Meta-train by back-propagation through whole lives."""
    return truncate(
        tasks,
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate)),
        learner=lambda key: learner(config, tasks, key),
        tasks_per_step=config.tasks_per_step,
        unroll=config.throws,
        horizon=config.throws,
    )


PRESETS = {
    "coin": Preset(Config(), LoadedDice, 3_000, 20, "0.0004 nats from Laplace's rule, 10 s"),
    "die": Preset(Config(), lambda: LoadedDice(sides=4), 6_000, 20, "0.0006 nats from Laplace's rule, 20 s"),
    "smoke": Preset(Config(width=8, tasks_per_step=4, throws=4), LoadedDice, 4, 4, "it runs"),
}


# --- Is it the same inside? ---------------------------------------------------------------------------------------------------------


def lives(who: AbstractLearner, tasks: LoadedDice, key: PRNGKeyArray, *, n: int, throws: int) -> tuple[np.ndarray, np.ndarray]:
    """States `(n, throws, numbers)` and log-probabilities `(n, throws, sides)` of a predictor in test dice, the same for every one."""
    record = lambda task, tick: (tick.fast, jax.nn.log_softmax(tick.response))
    states, logs = recorded_lives(who, tasks, key, n=n, ticks=throws, record=record)
    return np.asarray(states, np.float64), np.asarray(logs, np.float64)


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    """The mean of KL(p || q) in nats over all predictions, given as logarithms."""
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1)))


def share_lost(features: np.ndarray, targets: np.ndarray, logs: np.ndarray, head: np.ndarray | None) -> float:
    """How much of a predictor's knowledge a linear map from another's features to its state loses, on lives not fitted to.

    The mapped state predicts by `head`, or, without one, as counts do; what is lost is the divergence from the true predictions, in
    units of the divergence of their mean.
    """
    half = len(features) // 2
    flat = lambda x: x.reshape(-1, x.shape[-1])
    columns = np.concatenate([features, np.ones((*features.shape[:2], 1))], axis=2)
    weights, *_ = np.linalg.lstsq(flat(columns[:half]), flat(targets[:half]), rcond=1e-6)
    mapped = columns[half:] @ weights
    logits = np.log(np.maximum(mapped, 0) + 1) if head is None else mapped @ head.T
    guess = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    constant = np.log(np.mean(np.exp(logs[half:]), axis=(0, 1)))
    return divergence(logs[half:], guess) / divergence(logs[half:], np.broadcast_to(constant, guess.shape))


def as_features(counts: np.ndarray) -> np.ndarray:
    """What Laplace's rule could be said to think: counts, predicted probabilities, their logarithms, and one over all counts."""
    total = counts.sum(axis=-1, keepdims=True) + counts.shape[-1]
    shares = (counts + 1) / total
    return np.concatenate([counts, shares, np.log(shares), 1 / total], axis=-1)


def measure_dice(scale: Scale, seed: int) -> Measurements:
    """A coin and a die of four sides: the divergence from Laplace's rule, and how well each one's state tells the other's."""
    n = 40 if scale == "smoke" else 2_000
    measured: dict[str, float] = {}
    for name in ("coin",) if scale == "smoke" else ("coin", "die"):
        preset = PRESETS["smoke" if scale == "smoke" else name]
        tasks = preset.tasks()
        assert isinstance(tasks, LoadedDice)
        ours = train(program(preset.config, tasks), steps=preset.steps * (3 if scale == "full" else 1), seed=seed)
        assert isinstance(ours, Predictor)
        key = jr.fold_in(jr.key(seed), 1)
        counts, best = lives(Laplace(tasks.sides), tasks, key, n=n, throws=preset.ticks)
        for who, agent in {"GRU": ours, "untrained": learner(preset.config, tasks, jr.key(seed))}.items():
            states, logs = lives(agent, tasks, key, n=n, throws=preset.ticks)
            measured[f"{name}, {who}: nats from Laplace's rule"] = divergence(best, logs)
            measured[f"{name}, {who}: lost from its state to the rule's"] = share_lost(states, counts, best, None)
            inside = share_lost(as_features(counts), states, logs, np.asarray(agent.head, np.float64))
            measured[f"{name}, {who}: lost from the rule's state to its own"] = inside
    return measured | {key.replace("coin", "die"): value for key, value in measured.items() if scale == "smoke"}


CLAIMS = (
    Claim(
        id="meta-bayes-optimal",
        statement=(
            "Meta-trained to predict throws of coins and dice, a recurrent network predicts as the Bayes-optimal rule does, and "
            "linear maps turn the state of each into that of the other with hardly any loss."
        ),
        source="Mikulik et al. 2020, sections 3 and 4",
        reported="figures only: outputs of agents and Bayes-optimal ones indistinguishable; each simulates the other, by learned maps",
        not_answered=(
            "exponential and Gaussian prediction; bandits (their regret is in `rl2-bandits`); whether states are alike before "
            "training ends."
        ),
        measure=measure_dice,
        expected=tuple(
            expectation
            for name in ("coin", "die")
            for expectation in (
                Expectation(f"{name}, GRU: nats from Laplace's rule", "<", 0.005),
                Expectation(f"{name}, GRU: lost from its state to the rule's", "<", 0.05),
                Expectation(f"{name}, GRU: lost from the rule's state to its own", "<", 0.05),
                Expectation(
                    f"{name}, GRU: lost from its state to the rule's", "<", f"{name}, untrained: lost from its state to the rule's"
                ),
            )
        ),
    ),
)
