"""Documents: streams of tokens, of which each is to be answered with the token that follows it."""

import abc

from jaxtyping import Array, Int, PyTree

from quickstudy.core import AbstractTaskDistribution
from quickstudy.tasks.streams import StreamTask


class AbstractDocuments(AbstractTaskDistribution):
    """Documents: streams whose view is a token, an integer from 0 to `tokens` - 1, and whose target is the next one."""

    @property
    @abc.abstractmethod
    def tokens(self) -> int:
        """How many different tokens there are."""


def document(text: Int[Array, " length"], latent: PyTree) -> StreamTask:
    """A text of `length` tokens as a stream of `length` - 1 ticks: every token but the last, each with its successor as target.

    >>> import jax.numpy as jnp
    >>> document(jnp.array([3, 1, 2]), None).y.tolist()
    [1, 2]
    """
    return StreamTask(text[:-1], text[1:], latent)
