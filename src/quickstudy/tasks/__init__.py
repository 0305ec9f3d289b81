"""Where tasks come from: one distribution a file."""

from quickstudy.tasks.episode import EpisodeTask, EpisodeView, prediction_loss, prediction_score
from quickstudy.tasks.sinusoid import Sinusoid

__all__ = ["EpisodeTask", "EpisodeView", "Sinusoid", "prediction_loss", "prediction_score"]

from quickstudy.tasks.objective import AbstractObjective, ObjectiveView  # noqa: E402
from quickstudy.tasks.quadratics import Quadratic, Quadratics  # noqa: E402
from quickstudy.tasks.small_nets import SmallNet, SmallNets  # noqa: E402

__all__ += ["AbstractObjective", "ObjectiveView", "Quadratic", "Quadratics", "SmallNet", "SmallNets"]

from quickstudy.tasks.omniglot import Omniglot  # noqa: E402

__all__ += ["Omniglot"]
