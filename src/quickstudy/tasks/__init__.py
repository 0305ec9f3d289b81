"""Where tasks come from: one distribution a file."""

from quickstudy.tasks.arrays import LabelledArrays, from_arrays, from_image_folder
from quickstudy.tasks.bandits import BernoulliBandit, CorrelatedBandit, GaussianBandit, RestlessBandit
from quickstudy.tasks.dark_rooms import DarkRoom, HiddenGoal
from quickstudy.tasks.digits import Digits, load_digits
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, prediction_loss, prediction_score
from quickstudy.tasks.glyphs import Glyphs
from quickstudy.tasks.gridworld import GridWorld, level_from_text
from quickstudy.tasks.krazy_world import KrazyWorld, board_from_text
from quickstudy.tasks.mazes import Maze, MultiRoom
from quickstudy.tasks.objective import AbstractObjective, ObjectiveView
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.tasks.quadratics import Quadratic, Quadratics
from quickstudy.tasks.sinusoid import Sinusoid
from quickstudy.tasks.small_nets import SmallNet, SmallNets
from quickstudy.tasks.streams import Stream, StreamTask

__all__ = [
    "AbstractObjective",
    "BernoulliBandit",
    "CorrelatedBandit",
    "DarkRoom",
    "Digits",
    "EpisodeTask",
    "EpisodeView",
    "GaussianBandit",
    "Glyphs",
    "GridWorld",
    "HiddenGoal",
    "KrazyWorld",
    "LabelledArrays",
    "Maze",
    "MultiRoom",
    "ObjectiveView",
    "Omniglot",
    "Quadratic",
    "Quadratics",
    "RestlessBandit",
    "Sinusoid",
    "SmallNet",
    "SmallNets",
    "Stream",
    "StreamTask",
    "board_from_text",
    "from_arrays",
    "from_image_folder",
    "level_from_text",
    "load_digits",
    "prediction_loss",
    "prediction_score",
]
