"""Where tasks come from: one distribution a file."""

from quickstudy.tasks.episode import EpisodeTask, EpisodeView, prediction_loss, prediction_score
from quickstudy.tasks.sinusoid import Sinusoid

__all__ = ["EpisodeTask", "EpisodeView", "Sinusoid", "prediction_loss", "prediction_score"]
