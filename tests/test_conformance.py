"""The conformance grid: every method, every task distribution and every claim of the catalogue goes through the public kit."""

import importlib
import math
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from answers import Answer

from quickstudy import catalog, evidence
from quickstudy.check import check_distribution, check_learner, check_program, check_task, fingerprint
from quickstudy.core import sample_tasks
from quickstudy.tasks import (
    Acrobot,
    BernoulliBandit,
    BestArm,
    BlindCliff,
    BurstySequences,
    CartPole,
    Completion,
    CorrelatedBandit,
    DarkRoom,
    Digits,
    GaussianBandit,
    GaussianProcess,
    Glyphs,
    HalfCircle,
    Harlow,
    HiddenGoal,
    HiddenMarkovDocuments,
    HiddenMarkovPrompts,
    KrazyWorld,
    LinearRegression,
    LoadedDice,
    Maze,
    MountainCar,
    MultiRoom,
    Omniglot,
    Pendulum,
    PointGoals,
    Pushing,
    PushingOutward,
    Quadratics,
    RandomMDPs,
    RandomNetworks,
    RestlessBandit,
    SineOrLine,
    Sinusoid,
    SmallNets,
    Stream,
    TabularWorlds,
    TextTasks,
    TwoDirections,
    TwoStep,
    UnknownArm,
    from_arrays,
)
from quickstudy.tasks.bursty_sequences import glyph_images
from quickstudy.tasks.control import Continuous

METHODS = sorted(catalog.METHODS)
KEY = jax.random.key(0)


@pytest.mark.parametrize("method", METHODS)
def test_learner_conforms(method):
    module = importlib.import_module(catalog.METHODS[method])
    preset = module.PRESETS["smoke"]
    tasks = preset.tasks()
    learner = module.learner(preset.config, tasks, KEY)
    ticks = min(preset.ticks, 4)
    check_learner(learner, tasks, KEY, steps=ticks)
    task = jax.tree.map(lambda leaf: leaf[0], eqx.filter_jit(sample_tasks)(tasks, KEY, "train", 2))
    check_task(task, learner, KEY, steps=ticks)


@pytest.mark.parametrize("method", METHODS)
def test_program_resumes_bit_for_bit(method):
    module = importlib.import_module(catalog.METHODS[method])
    preset = module.PRESETS["smoke"]
    check_program(module.program(preset.config, preset.tasks()))


# --- Tasks --------------------------------------------------------------------------------------------------------------------------


needs_omniglot = pytest.mark.skipif(
    "QUICKSTUDY_OMNIGLOT" not in os.environ, reason="Omniglot is not here: set QUICKSTUDY_OMNIGLOT to a folder that holds it"
)


def answering(*shape):
    return lambda task: Answer(jnp.zeros(shape))


def staying(task):
    """The update of an optimiser that never moves."""
    return Answer(jax.tree.map(jnp.zeros_like, task.initial(KEY)))


def class_ids(task):
    return task.latent["classes"].tolist()


def hundredth(value):
    """Which of an interval's hundred slices a value lies in: the splits of continuous tasks own slices."""
    return [int(100 * float(value))]


def ten_thousandth(value):
    return [int(10_000 * float(value))]


def first_input(task):
    return hundredth((task.support_x[0, 0] + 2) / 4)


def first_weight(task):
    weights = task.latent["weights"]
    return ten_thousandth(jax.scipy.stats.norm.cdf(weights[0] * weights.size**0.5))


def first_pull(task):
    return Answer(jnp.int32(0))


def push(task):
    return Answer(jnp.zeros(task.actions.size) if isinstance(task.actions, Continuous) else jnp.int32(1))


def factor(name):
    """Which thousandth of the range of factors a varied parameter's factor lies in."""
    return lambda task: [int(1000 * (float(getattr(task, name)) / float(getattr(type(task)(), name)) - 0.5) / 1.5)]


def direction(place):
    return math.atan2(float(place[1]), float(place[0]))


def goal_cell(task):
    return np.flatnonzero(task.kinds).tolist()


def level(task):
    """A level's class (the sum over its cells, and which of its floor cells is the start, modulo five), and its cells."""
    return level_of(task.kinds, task.starts[0])


def board(task):
    return level_of(task.kinds, task.start)


def level_of(kinds, start):
    cells, first = np.asarray(kinds).ravel().tolist(), int(start[0]) * kinds.shape[1] + int(start[1])
    total = sum(kind * number for number, kind in enumerate(cells, start=1))
    return [(total + cells[: first + 1].count(0)) % 5, tuple(cells)]


def images(task):
    return [image.tobytes() for image in np.asarray(task.images)]


def labelled_arrays():
    return from_arrays(np.arange(90.0).reshape(45, 2), np.repeat(np.arange(15), 3), way=2, shot=1, query=2, splits=(0.6, 0.2, 0.2))


def labelled_images():
    return from_arrays(
        np.random.default_rng(0).random((45, 4, 4)), np.repeat(np.arange(15), 3), way=2, shot=1, query=2, splits=(0.6, 0.2, 0.2)
    )


def picture(task):
    return [np.asarray(task.latent["image"]).tobytes()]


def bursty_sequences():
    return BurstySequences(glyph_images(24, 10), classes=16, context=4, repeats=1)


ALL = ("train", "valid", "test")
# task -> how to make it, what two splits must not share, the splits it has, someone who answers it
TASKS = {
    "sinusoid": (Sinusoid, lambda task: hundredth(task.latent["phase"] / math.pi), ALL, answering(10, 1)),
    "sine-or-line": (SineOrLine, lambda task: hundredth(task.latent["second"]), ALL, answering(10, 1)),
    "gaussian-process": (GaussianProcess, first_input, ALL, answering(10, 1)),
    "random-networks": (RandomNetworks, first_input, ALL, answering(10, 1)),
    "glyphs": (lambda: Glyphs(way=3, shot=1, query=1), class_ids, ALL, answering(3, 3)),
    "digits": (lambda: Digits(way=3, query=1), class_ids, ("test",), answering(3, 3)),
    "omniglot": (lambda: Omniglot(way=3, shot=1, query=1), class_ids, ALL, answering(3, 3)),
    "from-arrays": (labelled_arrays, class_ids, ALL, answering(4, 2)),
    "completion": (lambda: Completion(labelled_images(), shot=2, fewest=1, size=2), picture, ALL, answering(2, 1)),
    "stream": (lambda: Stream(Sinusoid()), lambda task: hundredth(task.latent["phase"] / math.pi), ALL, answering(1)),
    "tabular-worlds": (
        lambda: TabularWorlds(support=16, query=4, columns=2, classes=3),
        lambda task: hundredth(math.log(float(task.latent["signal"]) / 2) / math.log(30)),
        ALL,
        answering(4, 3),
    ),
    "linear-regression": (LinearRegression, first_weight, ALL, answering(1)),
    "bursty-sequences": (bursty_sequences, class_ids, ALL, answering(16)),
    "best-arm": (BestArm, lambda task: [int(1000 * float(task.chances[0]))], ALL, answering(3)),
    "loaded-dice": (LoadedDice, lambda task: [int(1000 * float(task.chances[0]))], ALL, answering(2)),
    "hidden-markov-documents": (HiddenMarkovDocuments, fingerprint, ALL, answering(19)),
    "hidden-markov-prompts": (HiddenMarkovPrompts, fingerprint, ALL, answering(19)),
    "text-tasks": (TextTasks, lambda task: [(int(task.latent["order"]), int(task.latent["shift"]))], ALL, answering(8)),
    "bernoulli-bandit": (BernoulliBandit, lambda task: ten_thousandth(task.probabilities[0]), ALL, first_pull),
    "gaussian-bandit": (GaussianBandit, lambda task: ten_thousandth(jax.scipy.stats.norm.cdf(task.means[0])), ALL, first_pull),
    "correlated-bandit": (CorrelatedBandit, lambda task: ten_thousandth(task.probabilities[0]), ALL, first_pull),
    "restless-bandit": (RestlessBandit, lambda task: ten_thousandth(task.probabilities[0]), ALL, first_pull),
    "unknown-arm": (UnknownArm, lambda task: ten_thousandth(jax.scipy.stats.norm.cdf(task.mean + 1)), ALL, first_pull),
    "cartpole": (lambda: CartPole(vary=("half_length", "pole_mass")), factor("half_length"), ALL, push),
    "pendulum": (lambda: Pendulum(vary=("gravity", "mass")), factor("gravity"), ALL, push),
    "acrobot": (lambda: Acrobot(vary=("second_mass", "torque")), factor("second_mass"), ALL, push),
    "mountain-car": (lambda: MountainCar(vary=("force",)), factor("force"), ALL, push),
    "point-goals": (PointGoals, lambda task: [int(1000 * (float(task.goal[0]) + 0.5))], ALL, push),
    "half-circle": (HalfCircle, lambda task: [int(1000 * direction(task.goal) / math.pi)], ALL, push),
    "pushing": (Pushing, lambda task: [int(1000 * (direction(task.goal) + math.pi) / (2 * math.pi))], ALL, push),
    "pushing-outward": (PushingOutward, lambda task: [int(1000 * (direction(task.goal) + math.pi) / (2 * math.pi))], ALL, push),
    "two-directions": (TwoDirections, lambda task: [int(1000 * (float(task.mass) - 0.5) / 1.5)], ALL, push),
    "hidden-goal": (HiddenGoal, goal_cell, ALL, first_pull),
    "dark-room": (DarkRoom, goal_cell, ALL, first_pull),
    "maze": (Maze, level, ALL, first_pull),
    "multi-room": (MultiRoom, level, ALL, first_pull),
    "random-mdps": (RandomMDPs, lambda task: ten_thousandth(jax.scipy.stats.norm.cdf(task.rewards[0, 0] - 1)), ALL, first_pull),
    "krazy-world": (KrazyWorld, board, ALL, first_pull),
    "two-step": (TwoStep, lambda task: [int((float(task.common) - 0.75) * 10_000)], ALL, first_pull),
    "harlow": (Harlow, lambda task: [ten_thousandth(jax.scipy.stats.norm.cdf(x))[0] for x in task.objects[:, 0]], ALL, first_pull),
    "blind-cliff": (BlindCliff, lambda task: ["".join(map(str, task.right.tolist()))], ALL, first_pull),
    "quadratics": (Quadratics, lambda task: hundredth(jax.scipy.stats.norm.cdf(task.target[0])), ALL, staying),
    "small-nets": (lambda: SmallNets(hidden=(3,), examples=8, batch=4), images, ALL, staying),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_omniglot if name == "omniglot" else ()) for name in catalog.TASKS])
def test_tasks_conform(name):
    make, identity, splits, answer = TASKS[name]
    tasks = make()
    check_distribution(tasks, KEY, splits=splits, identity=identity, n=40)
    sample = eqx.filter_jit(lambda key: tasks.sample(key, splits[-1]))
    task = sample(KEY)
    check_task(task, answer(task), KEY)
    assert fingerprint(task) != fingerprint(sample(jax.random.key(1)))


# --- Claims -------------------------------------------------------------------------------------------------------------------------

# What already shows after a few seconds of training; the other expectations of these claims need the laptop scale.
SHOWS = {
    "cnp-regression": {"CNP, 5-shot < CNP, 3-shot", "CNP, 10-shot < CNP, 5-shot"},
    "incontext-gru": {"test: point 10 < test: point 5"},
    "meta-sgd": {"Meta-SGD < MAML, tuned rate", "mean learned rate of biases > mean learned rate of weights"},
    "reptile-sine": {"Reptile < 0.5 x joint training"},
}
ON_OMNIGLOT = {
    "fomaml",
    "icl-burstiness-omniglot",
    "mann-omniglot",
    "maml-omniglot",
    "matching-nets",
    "protonet-omniglot",
    "snail-omniglot",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_omniglot if name in ON_OMNIGLOT else ()) for name in sorted(catalog.CLAIMS)]
)
def test_a_claim_runs_at_smoke_scale_and_shows_what_it_can(name):
    claim = evidence.claim_of(name)
    measured = claim.measure("smoke", 0)
    margins = {str(expectation): float(expectation.margins([measured])[0]) for expectation in claim.expected}
    assert all(math.isfinite(margin) for margin in margins.values()), measured
    assert SHOWS.get(name, set()) <= {said for said, margin in margins.items() if margin >= 0}, margins
