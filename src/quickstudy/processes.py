"""One run in several processes, on one machine or many: all compute their parts of every step, and only the first writes.

Every process runs the same command line. State and metrics are whole in each of them; tasks that run side by side are cut over all
devices of all processes (`outer.descent.over_devices`). One that is asked to stop stops all after a chunk; one that dies ends the
others within two minutes, when JAX misses it, and the run is resumed by all from its last chunk.
"""

import os

import jax
from jax.experimental import multihost_utils

# How long a process that ends waits for the others, in seconds; ours: a large checkpoint may be on its way to a slow disk. JAX's 300
# would be how long one waits that was refused, because what it was told was wrong.
_PARTING = 60


def join() -> None:
    """Meet the other processes of a run; nothing may have been computed before.

    Where JAX does not know them (as under SLURM, Open MPI, Kubernetes and on TPUs) the environment variables `QUICKSTUDY_COORDINATOR`,
    the first process's host:port, `QUICKSTUDY_PROCESSES`, how many there are, and `QUICKSTUDY_PROCESS`, which one this is, say.
    Raises `ValueError` if they do not.
    """
    coordinator = os.environ.get("QUICKSTUDY_COORDINATOR")
    if not coordinator:
        try:
            jax.distributed.initialize(shutdown_timeout_seconds=_PARTING)
        except ValueError:
            raise ValueError(
                "--distributed needs the other processes: JAX finds none here, and QUICKSTUDY_COORDINATOR (host:port) is not set"
            ) from None
        return
    processes = _number("QUICKSTUDY_PROCESSES", 1, 2**31)
    process = _number("QUICKSTUDY_PROCESS", 0, processes)
    if not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"QUICKSTUDY_COORDINATOR must be host:port of the first process, not {coordinator!r}")
    jax.distributed.initialize(coordinator, processes, process, shutdown_timeout_seconds=_PARTING)


def _number(name: str, least: int, end: int) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal() or not least <= int(text) < end:
        raise ValueError(f"{name} must be a whole number from {least} to {end - 1}, not {text!r}")
    return int(text)


def are_several() -> bool:
    """Whether there are others beside this process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes; a process alone is."""
    return jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Go on when all processes have come to this place."""
    multihost_utils.sync_global_devices(place)


def any_of_all(true: bool) -> bool:
    """Whether something is true in any process; all must ask."""
    return bool(multihost_utils.process_allgather(jax.numpy.asarray(true)).any()) if are_several() else true
