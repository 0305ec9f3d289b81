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

from quickstudy.tasks.arrays import LabelledArrays, from_arrays, from_image_folder  # noqa: E402
from quickstudy.tasks.digits import Digits, load_digits  # noqa: E402
from quickstudy.tasks.glyphs import Glyphs  # noqa: E402

__all__ += ["Digits", "Glyphs", "LabelledArrays", "from_arrays", "from_image_folder", "load_digits"]
