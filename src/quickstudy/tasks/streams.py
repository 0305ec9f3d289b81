"""Streams: one input at a time, a prediction, then the truth. The tick counts the examples seen."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray, PyTree

from quickstudy.core import AbstractTask, AbstractTaskDistribution, End, Split, Turn
from quickstudy.tasks.episode import EpisodeTask, episode_shapes, is_classification, prediction_score


class StreamTask(AbstractTask):
    """A sequence of examples of one problem.

    View: one input; response: a prediction of shape `(outputs,)`; feedback: the true target; score: as for episodes, of one example.
    `x` is `(ticks, ...)`, `y` is `(ticks, outputs)` floats or `(ticks,)` labels. The stream repeats after its last example.
    """

    x: Num[Array, "ticks ..."]
    y: Num[Array, "ticks ..."]
    latent: PyTree

    def reset(self, key: PRNGKeyArray) -> tuple[Int[Array, ""], Num[Array, "..."]]:
        return jnp.zeros((), jnp.int32), self.x[0]

    def step(self, world: Int[Array, ""], response: Float[Array, " outputs"], key: PRNGKeyArray) -> Turn:
        truth, following = self.y[world], (world + 1) % self.x.shape[0]
        score = prediction_score(response[None], truth[None])
        return Turn(following, self.x[following], truth, score, jnp.asarray(End.RUNNING, jnp.int32))


def stream_shapes(tasks: AbstractTaskDistribution, method: str) -> StreamTask:
    """The shapes of a distribution's streams (`jax.ShapeDtypeStruct` leaves), for a method that reads vectors with float targets.

    Raises `TypeError`, naming the method, for other tasks.

    >>> from quickstudy.tasks import Sinusoid
    >>> stream_shapes(Stream(Sinusoid(shot=5, query=10)), "a method").x.shape
    (15, 1)
    """
    task = jax.eval_shape(lambda key: tasks.sample(key, "train"), jax.random.key(0))
    if not isinstance(task, StreamTask) or task.x.ndim != 2 or task.y.ndim != 2:
        raise TypeError(f"{method} reads streams of vectors with floating-point targets; wrap episodes in tasks.Stream")
    return task


class Stream(AbstractTaskDistribution):
    """A distribution of episodes, each read one example at a time: first its support set, then its queries; or `shuffled`.

    Classification episodes name one class after the other: unshuffled, the place of an example tells its label.

    >>> import jax
    >>> from quickstudy.tasks import Sinusoid
    >>> Stream(Sinusoid(shot=5, query=10)).sample(jax.random.key(0), "test").x.shape
    (15, 1)
    """

    episodes: AbstractTaskDistribution
    shuffled: bool = eqx.field(static=True, default=False)

    def sample(self, key: PRNGKeyArray, split: Split) -> StreamTask:
        task = self.episodes.sample(key, split)
        if not isinstance(task, EpisodeTask):
            raise TypeError(f"episodes must draw EpisodeTasks, not {type(task).__name__}")
        x, y = jnp.concatenate([task.support_x, task.query_x]), jnp.concatenate([task.support_y, task.query_y])
        if self.shuffled:
            order = jr.permutation(jr.fold_in(key, 1), x.shape[0])
            x, y = x[order], y[order]
        return StreamTask(x, y, task.latent)


def labelled_stream_shapes(tasks: AbstractTaskDistribution, method: str) -> EpisodeTask:
    """The shapes of the classification episodes that streams are made of, for a method that reads labels.

    Raises `TypeError`, naming the method, for other tasks.

    >>> from quickstudy.tasks import Glyphs
    >>> labelled_stream_shapes(Stream(Glyphs(way=3), shuffled=True), "a method").outputs
    3
    """
    if isinstance(tasks, Stream) and is_classification((episode := episode_shapes(tasks.episodes)).support_y):
        return episode
    raise TypeError(f"{method} reads streams of labelled examples; wrap classification episodes in tasks.Stream")
