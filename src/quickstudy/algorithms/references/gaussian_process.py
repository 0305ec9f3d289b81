"""The exact posterior mean of a Gaussian process: nobody who sees only the support predicts with less squared error.

It is told length scale, amplitude and noise; where these are known, as by default, that is no advantage.

Source: Rasmussen and Williams 2006, "Gaussian Processes for Machine Learning", equation 2.23.
"""

from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner
from quickstudy.evaluation import AbstractOracle
from quickstudy.tasks.episode import EpisodeTask, EpisodeView
from quickstudy.tasks.gaussian_processes import GaussianProcess


class Fixed(AbstractLearner):
    """A learner whose predictions are settled: (query, outputs)."""

    predictions: Float[Array, "query outputs"]

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> None:
        return None

    def respond(self, fast: None, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query outputs"]:
        return self.predictions

    def observe(self, fast: None, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> None:
        return None


class GaussianProcessPosterior(AbstractOracle):
    """Becomes, of a function drawn by `tasks`, the learner that answers with the posterior mean of every query."""

    tasks: GaussianProcess

    def informed(self, task: EpisodeTask) -> Fixed:  # type: ignore[override]
        return Fixed(self.tasks.predictive(task)[0][:, None])
