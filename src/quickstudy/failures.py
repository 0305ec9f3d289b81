"""What went wrong on the host while a compiled program ran, as one sentence instead of a runtime's traceback.

JAX turns an exception inside a callback into a `JaxRuntimeError` whose message is a long traceback. A callback of ours raises
`EnvironmentFailure` through `fail`; whoever runs compiled programs does so within `plain_failures`, which raises that very exception.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import NoReturn


class EnvironmentFailure(RuntimeError):  # noqa: N818  (an EnvironmentError is something else in Python)
    """An environment on the host raised an exception, or gave what is no number; the message names it."""


_LATEST: list[EnvironmentFailure] = []


def _not_ours(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], EnvironmentFailure)


# JAX logs the traceback of every exception in a callback before it passes it on; ours is told once, in a sentence.
logging.getLogger("jax._src.callback").addFilter(_not_ours)


def fail(sentence: str, cause: Exception | None = None) -> NoReturn:
    """Raise `EnvironmentFailure` from within a callback."""
    _LATEST[:] = [EnvironmentFailure(sentence)]
    raise _LATEST[0] from cause


@contextlib.contextmanager
def plain_failures() -> Iterator[None]:
    """Raise the `EnvironmentFailure` itself where JAX would raise a `JaxRuntimeError` about it.

    Results must be awaited inside, because compiled programs return before they are done.

    >>> def broken(x):
    ...     fail("the environment is broken")
    >>> import jax
    >>> with plain_failures():
    ...     jax.block_until_ready(jax.jit(lambda x: jax.pure_callback(broken, x, x))(jax.numpy.zeros(())))
    Traceback (most recent call last):
    quickstudy.failures.EnvironmentFailure: the environment is broken
    """
    import jax  # here, so that the command line can name the exception without it

    _LATEST.clear()
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError):  # the latter when a compiled program is called again
        if _LATEST:
            raise _LATEST.pop() from None
        raise
