"""References: strategies that need no training, to draw beside any learner of the same tasks.

They are learners of the same interface and know what a trained learner must find out: the prior that tasks are drawn from. An *oracle*
is even told the task.
"""

from collections.abc import Callable

from quickstudy.algorithms.references.beliefs import BayesOptimal, CorrelatedGreedy
from quickstudy.algorithms.references.best_arm import PosteriorBest
from quickstudy.algorithms.references.counting import UCB1, EpsilonGreedy, Greedy, RandomAction, Thompson
from quickstudy.algorithms.references.gaussian import GaussianThompson, GaussianUCB
from quickstudy.algorithms.references.gaussian_process import GaussianProcessPosterior
from quickstudy.algorithms.references.gittins import Gittins, gittins
from quickstudy.algorithms.references.harlow import WinStayLoseShift
from quickstudy.algorithms.references.hidden_markov import ConceptPosterior, KnowsConcept
from quickstudy.algorithms.references.laplace import Laplace
from quickstudy.algorithms.references.linear_regression import LeastSquares, NearestNeighbours, OneGradientStep, Ridge
from quickstudy.algorithms.references.mdps import PSRL, BayesGreedy, Optimum
from quickstudy.algorithms.references.search_then_go import SearchThenGo
from quickstudy.algorithms.references.shortest_path import ShortestPath
from quickstudy.algorithms.references.sine_or_line import SineOrLinePosterior
from quickstudy.algorithms.references.two_step import ModelBased, ModelFree, TwoStepOptimal
from quickstudy.algorithms.references.unknown_arm import UnknownArmOptimal
from quickstudy.core import AbstractTaskDistribution
from quickstudy.evaluation import Reference
from quickstudy.tasks.bandits import BernoulliBandit, CorrelatedBandit, GaussianBandit, RestlessBandit
from quickstudy.tasks.best_arm import BestArm
from quickstudy.tasks.dark_rooms import DarkRoom, HiddenGoal
from quickstudy.tasks.gaussian_processes import GaussianProcess
from quickstudy.tasks.harlow import Harlow
from quickstudy.tasks.hidden_markov import HiddenMarkovDocuments, HiddenMarkovPrompts
from quickstudy.tasks.linear_regression import LinearRegression
from quickstudy.tasks.loaded_dice import LoadedDice
from quickstudy.tasks.mazes import Maze, MultiRoom
from quickstudy.tasks.random_mdps import RandomMDPs
from quickstudy.tasks.sine_or_line import SineOrLine
from quickstudy.tasks.two_step import TwoStep
from quickstudy.tasks.unknown_arm import UnknownArm


def default_references(tasks: AbstractTaskDistribution, ticks: int) -> dict[str, Reference]:
    """The references that tell most beside a learner's curve in lives of `ticks` ticks, by name; none where no rule is known.

    >>> list(default_references(BernoulliBandit(arms=2), ticks=10))
    ['Gittins', 'UCB1', 'Thompson', 'epsilon-greedy', 'random']
    """
    rule = _RULES.get(type(tasks))
    return {} if rule is None else rule(tasks, ticks)


def _bernoulli(tasks: BernoulliBandit, ticks: int) -> dict[str, Reference]:
    # The better of the two chances that EpsilonGreedy names.
    epsilon = 0.01 if ticks <= 100 else 0.05
    return {
        "Gittins": gittins(tasks.arms, ticks),
        "UCB1": UCB1(tasks.arms),
        "Thompson": Thompson(tasks.arms),
        "epsilon-greedy": EpsilonGreedy(tasks.arms, epsilon),
        "random": RandomAction(tasks.arms),
    }


def _gaussian(tasks: GaussianBandit, ticks: int) -> dict[str, Reference]:
    return {
        "UCB": GaussianUCB(tasks.arms, tasks.deviation),
        "Thompson": GaussianThompson(tasks.arms, tasks.deviation),
        "random": RandomAction(tasks.arms),
    }


def _correlated(tasks: CorrelatedBandit, ticks: int) -> dict[str, Reference]:
    # The others believe that the arms are independent, and lose by it.
    return {"Bayes-optimal": CorrelatedGreedy()} | _bernoulli(BernoulliBandit(tasks.arms), ticks)


def _restless(tasks: RestlessBandit, ticks: int) -> dict[str, Reference]:
    # Both but the last believe that the arms stay as they are.
    return {"UCB1": UCB1(tasks.arms), "Thompson": Thompson(tasks.arms), "random": RandomAction(tasks.arms)}


def _unknown(tasks: UnknownArm, ticks: int) -> dict[str, Reference]:
    optimal = UnknownArmOptimal.solve(float(tasks.spread), float(tasks.deviation), ticks)
    return {"Bayes-optimal": optimal, "random": RandomAction(2)}


def _mdps(tasks: RandomMDPs, ticks: int) -> dict[str, Reference]:
    sizes = (ticks, tasks.n_states, tasks.n_actions, tasks.horizon)
    return {
        "optimum": Optimum(),
        "PSRL": PSRL(*sizes),
        "Bayes-greedy": BayesGreedy(*sizes),
        "random": RandomAction(tasks.n_actions),
    }


def _rooms(tasks: HiddenGoal | DarkRoom, ticks: int) -> dict[str, Reference]:
    n = tasks.actions.n
    return {"shortest path": ShortestPath(), "search, then go": SearchThenGo(), "random": RandomAction(n)}


def _mazes(tasks: Maze | MultiRoom, ticks: int) -> dict[str, Reference]:
    return {"shortest path": ShortestPath(), "random": RandomAction(tasks.actions.n)}


def _two_step(tasks: TwoStep, ticks: int) -> dict[str, Reference]:
    return {
        "optimal": TwoStepOptimal(tasks.rich, tasks.poor, tasks.volatility),
        "model-based": ModelBased(common=sum(tasks.common) / 2),
        "model-free": ModelFree(),
        "random": RandomAction(2),
    }


def _harlow(tasks: Harlow, ticks: int) -> dict[str, Reference]:
    return {"win-stay, lose-shift": WinStayLoseShift(), "random": RandomAction(2)}


def _dice(tasks: LoadedDice, ticks: int) -> dict[str, Reference]:
    return {"Laplace's rule (Bayes-optimal)": Laplace(tasks.sides)}


def _best_arm(tasks: BestArm, ticks: int) -> dict[str, Reference]:
    return {"exact posterior": PosteriorBest(tasks.arms)}


def _hidden_markov(tasks: HiddenMarkovDocuments | HiddenMarkovPrompts, ticks: int) -> dict[str, Reference]:
    documents = tasks.documents if isinstance(tasks, HiddenMarkovPrompts) else tasks
    told: dict[str, Reference] = {"told the concept": KnowsConcept(documents)}
    return {"exact posterior": ConceptPosterior.of(documents)} | told if documents.concepts else told


def _linear(tasks: LinearRegression, ticks: int) -> dict[str, Reference]:
    size, variance = tasks.dimensions, 1 / tasks.dimensions
    fitted = LeastSquares(size)
    return {
        # Without noise the posterior mean is the shortest fit.
        "ridge (Bayes-optimal)": Ridge(size, variance, tasks.noise) if tasks.noise else fitted,
        "least squares": fitted,
        "one gradient step": OneGradientStep(size, variance, tasks.noise),
        "3 nearest neighbours": NearestNeighbours(size, capacity=max(ticks, 3)),
    }


def _sine_or_line(tasks: SineOrLine, ticks: int) -> dict[str, Reference]:
    return {"exact posterior": SineOrLinePosterior(tasks.noise)}


def _gaussian_process(tasks: GaussianProcess, ticks: int) -> dict[str, Reference]:
    return {"exact posterior": GaussianProcessPosterior(tasks)}


_RULES: dict[type[AbstractTaskDistribution], Callable[..., dict[str, Reference]]] = {
    BernoulliBandit: _bernoulli,
    GaussianBandit: _gaussian,
    CorrelatedBandit: _correlated,
    RestlessBandit: _restless,
    UnknownArm: _unknown,
    RandomMDPs: _mdps,
    HiddenGoal: _rooms,
    DarkRoom: _rooms,
    Maze: _mazes,
    MultiRoom: _mazes,
    TwoStep: _two_step,
    Harlow: _harlow,
    LinearRegression: _linear,
    LoadedDice: _dice,
    BestArm: _best_arm,
    GaussianProcess: _gaussian_process,
    SineOrLine: _sine_or_line,
    HiddenMarkovDocuments: _hidden_markov,
    HiddenMarkovPrompts: _hidden_markov,
}

__all__ = [
    "PSRL",
    "UCB1",
    "BayesGreedy",
    "BayesOptimal",
    "ConceptPosterior",
    "CorrelatedGreedy",
    "EpsilonGreedy",
    "GaussianProcessPosterior",
    "GaussianThompson",
    "GaussianUCB",
    "Gittins",
    "Greedy",
    "KnowsConcept",
    "Laplace",
    "LeastSquares",
    "ModelBased",
    "ModelFree",
    "NearestNeighbours",
    "OneGradientStep",
    "Optimum",
    "PosteriorBest",
    "RandomAction",
    "Ridge",
    "SearchThenGo",
    "ShortestPath",
    "SineOrLinePosterior",
    "Thompson",
    "TwoStepOptimal",
    "UnknownArmOptimal",
    "WinStayLoseShift",
    "default_references",
    "gittins",
]
