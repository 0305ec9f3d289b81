"""Completing characters: what a few known pixels say about all others. A study of conditional and of latent neural processes.

Slow and fast are those of both processes. Trained on images, they know what characters look like; nothing else here does.

    CNP: every pixel by itself, p(y | x, support);      neural process: one drawn character at a time, p(y | x, z), z ~ q(z | support)

Source: Garnelo et al. 2018, "Conditional Neural Processes", section 4.2, and "Neural Processes" (there faces and digits).
Builds on: neural processes. Led to: attentive neural processes, functa.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.algorithms.fewshot import cnp, neural_process
from quickstudy.algorithms.fewshot.measuring import errors
from quickstudy.algorithms.fewshot.neural_process import joint_likelihood
from quickstudy.claims import Claim, Expectation, Measurements, Scale
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, sample_tasks
from quickstudy.outer import train
from quickstudy.tasks.arrays import from_arrays
from quickstudy.tasks.completion import Completion
from quickstudy.tasks.digits import load_digits
from quickstudy.tasks.episode import EpisodeView
from quickstudy.tasks.omniglot import Omniglot


class NearestPixel(AbstractLearner):
    """Answers with the nearest known pixel: what one can do without knowing characters."""

    def begin(self, view: EpisodeView, key: PRNGKeyArray) -> None:
        return None

    def respond(self, fast: None, view: EpisodeView, key: PRNGKeyArray) -> Float[Array, "query 1"]:
        apart = jnp.sum((view.query_x[:, None] - view.support_x[None]) ** 2, axis=2)
        return view.support_y[jnp.argmin(jnp.where(view.known()[None], apart, jnp.inf), axis=1)]

    def observe(self, fast: None, view: EpisodeView, response: Array, feedback: None, key: PRNGKeyArray) -> None:
        return None


# At module level, so that one learner is compiled once for any number of known pixels.
@eqx.filter_jit
def likelihood_of_images(who: AbstractLearner, tasks: Completion, key: PRNGKeyArray, n: int, draws: int) -> Float[Array, ""]:
    """The mean log-likelihood, in nats a pixel, of all pixels asked for of an image at once, over `n` images."""
    of = lambda task: joint_likelihood(who, who.begin(task.view(), key), task, key, draws)
    return jnp.mean(jax.lax.map(of, sample_tasks(tasks, key, "test", n), batch_size=20)) / (tasks.size**2 - tasks.shot)


def few_digits() -> AbstractTaskDistribution:
    """Real digits, whose program compiles quickly, with classes for every split."""
    return from_arrays(*load_digits(), way=2, shot=1, query=1, splits=(0.6, 0.2, 0.2))


def measure_completion(scale: Scale, seed: int) -> Measurements:
    """Squared error and joint likelihood of 96 pixels of new Omniglot characters, of whose 100 others 10, 30 or all are known."""
    steps, n, draws = {"smoke": (4, 20, 2), "laptop": (6_000, 1_000, 100), "full": (100_000, 10_000, 1_000)}[scale]
    images = few_digits() if scale == "smoke" else Omniglot(way=2, shot=1, query=1)
    tasks = Completion(images)
    width, batch = (16, 2) if scale == "smoke" else (128, 16)
    arms: dict[str, AbstractLearner] = {
        "CNP": train(cnp.program(cnp.Config(width=width, tasks_per_step=batch), tasks), steps=steps, seed=seed),
        "neural process": train(
            neural_process.program(neural_process.Config(width=width, latent=32, tasks_per_step=batch), tasks), steps=steps, seed=seed
        ),
    }
    measured = {}
    for shot in (10, 100) if scale == "smoke" else (10, 30, 100):
        asked = Completion(images, known=jnp.int32(shot))
        for name, who in {**arms, "nearest pixel": NearestPixel()}.items():
            measured[f"{name}, {shot} pixels: squared error"] = float(errors(who, asked, seed, steps=0, n_tasks=n)[0])
        for name, who in arms.items():
            found = likelihood_of_images(who, asked, jr.fold_in(jr.key(seed), 2), n, draws)
            measured[f"{name}, {shot} pixels: joint log-likelihood a pixel"] = float(found)
    assert all(np.isfinite(value) for value in measured.values())
    return measured


PRESETS: dict[str, None] = {}
CLAIMS = (
    Claim(
        id="completion-omniglot",
        statement=(
            "Neural processes complete new Omniglot characters from a few pixels better than their nearest known pixels do, with "
            "every pixel better; and drawing whole characters makes likelier images than answering for each pixel by itself."
        ),
        source="Garnelo et al. 2018, section 4.2; Garnelo et al. 2018, Neural Processes, section 4.2",
        reported="pictures of completed faces and digits; on faces a lower error than k nearest neighbours and Gaussian processes",
        not_answered="attention, whose completions are sharper; images at their full size; which pixels to ask for.",
        measure=measure_completion,
        expected=(
            Expectation("CNP, 10 pixels: squared error", "<", "nearest pixel, 10 pixels: squared error", factor=0.7),
            Expectation("CNP, 100 pixels: squared error", "<", "CNP, 10 pixels: squared error", factor=0.8),
            Expectation("CNP, 100 pixels: squared error", "<", "nearest pixel, 100 pixels: squared error"),
            Expectation(
                "neural process, 10 pixels: joint log-likelihood a pixel", ">", "CNP, 10 pixels: joint log-likelihood a pixel"
            ),
        ),
    ),
)
