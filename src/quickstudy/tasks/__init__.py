"""Where tasks come from: one distribution a file."""

from quickstudy.tasks.arrays import LabelledArrays, from_arrays, from_image_folder
from quickstudy.tasks.bandits import BernoulliBandit, CorrelatedBandit, GaussianBandit, RestlessBandit
from quickstudy.tasks.digits import Digits, load_digits
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, prediction_loss, prediction_score
from quickstudy.tasks.glyphs import Glyphs
from quickstudy.tasks.harlow import Harlow, HarlowPair
from quickstudy.tasks.objective import AbstractObjective, ObjectiveView
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.tasks.quadratics import Quadratic, Quadratics
from quickstudy.tasks.random_mdps import RandomMDP, RandomMDPs
from quickstudy.tasks.sinusoid import Sinusoid
from quickstudy.tasks.small_nets import SmallNet, SmallNets
from quickstudy.tasks.streams import Stream, StreamTask
from quickstudy.tasks.two_step import TwoStep, TwoStepTask

__all__ = [
    "AbstractObjective",
    "BernoulliBandit",
    "CorrelatedBandit",
    "Digits",
    "EpisodeTask",
    "EpisodeView",
    "GaussianBandit",
    "Glyphs",
    "Harlow",
    "HarlowPair",
    "LabelledArrays",
    "ObjectiveView",
    "Omniglot",
    "Quadratic",
    "Quadratics",
    "RandomMDP",
    "RandomMDPs",
    "RestlessBandit",
    "Sinusoid",
    "SmallNet",
    "SmallNets",
    "Stream",
    "StreamTask",
    "TwoStep",
    "TwoStepTask",
    "from_arrays",
    "from_image_folder",
    "load_digits",
    "prediction_loss",
    "prediction_score",
]
