"""Where tasks come from: one distribution a file."""

from quickstudy.tasks.acrobot import Acrobot
from quickstudy.tasks.arrays import LabelledArrays, from_arrays, from_image_folder
from quickstudy.tasks.bandits import BernoulliBandit, CorrelatedBandit, GaussianBandit, RestlessBandit
from quickstudy.tasks.best_arm import BestArm
from quickstudy.tasks.blind_cliff import BlindCliff
from quickstudy.tasks.bursty_sequences import BurstySequences
from quickstudy.tasks.cartpole import CartPole
from quickstudy.tasks.completion import Completion
from quickstudy.tasks.dark_rooms import DarkRoom, HiddenGoal
from quickstudy.tasks.digits import Digits, load_digits
from quickstudy.tasks.episode import EpisodeTask, EpisodeView, prediction_loss, prediction_score
from quickstudy.tasks.gaussian_processes import GaussianProcess
from quickstudy.tasks.glyphs import Glyphs
from quickstudy.tasks.gridworld import GridWorld, level_from_text
from quickstudy.tasks.harlow import Harlow, HarlowPair
from quickstudy.tasks.hidden_markov import HiddenMarkovDocuments, HiddenMarkovPrompts
from quickstudy.tasks.krazy_world import KrazyWorld, board_from_text
from quickstudy.tasks.linear_regression import LinearRegression
from quickstudy.tasks.loaded_dice import LoadedDice
from quickstudy.tasks.mazes import Maze, MultiRoom
from quickstudy.tasks.mountain_car import MountainCar
from quickstudy.tasks.objective import AbstractObjective, ObjectiveView
from quickstudy.tasks.omniglot import Omniglot
from quickstudy.tasks.pendulum import Pendulum
from quickstudy.tasks.point_navigation import HalfCircle, PointGoals
from quickstudy.tasks.pushing import Pushing
from quickstudy.tasks.pushing_outward import PushingOutward
from quickstudy.tasks.quadratics import Quadratic, Quadratics
from quickstudy.tasks.random_mdps import RandomMDP, RandomMDPs
from quickstudy.tasks.random_networks import RandomNetworks
from quickstudy.tasks.sine_or_line import SineOrLine
from quickstudy.tasks.sinusoid import Sinusoid
from quickstudy.tasks.small_nets import SmallNet, SmallNets
from quickstudy.tasks.streams import Stream, StreamTask
from quickstudy.tasks.tabular_worlds import TabularWorlds
from quickstudy.tasks.text_tasks import TextTasks
from quickstudy.tasks.two_directions import TwoDirections
from quickstudy.tasks.two_step import TwoStep, TwoStepTask
from quickstudy.tasks.unknown_arm import UnknownArm

__all__ = [
    "AbstractObjective",
    "Acrobot",
    "BernoulliBandit",
    "BestArm",
    "BlindCliff",
    "BurstySequences",
    "CartPole",
    "Completion",
    "CorrelatedBandit",
    "DarkRoom",
    "Digits",
    "EpisodeTask",
    "EpisodeView",
    "GaussianBandit",
    "GaussianProcess",
    "Glyphs",
    "GridWorld",
    "HalfCircle",
    "Harlow",
    "HarlowPair",
    "HiddenGoal",
    "HiddenMarkovDocuments",
    "HiddenMarkovPrompts",
    "KrazyWorld",
    "LabelledArrays",
    "LinearRegression",
    "LoadedDice",
    "Maze",
    "MountainCar",
    "MultiRoom",
    "ObjectiveView",
    "Omniglot",
    "Pendulum",
    "PointGoals",
    "Pushing",
    "PushingOutward",
    "Quadratic",
    "Quadratics",
    "RandomMDP",
    "RandomMDPs",
    "RandomNetworks",
    "RestlessBandit",
    "SineOrLine",
    "Sinusoid",
    "SmallNet",
    "SmallNets",
    "Stream",
    "StreamTask",
    "TabularWorlds",
    "TextTasks",
    "TwoDirections",
    "TwoStep",
    "TwoStepTask",
    "UnknownArm",
    "board_from_text",
    "from_arrays",
    "from_image_folder",
    "level_from_text",
    "load_digits",
    "prediction_loss",
    "prediction_score",
]
