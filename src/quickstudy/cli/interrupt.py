"""Ctrl-C and SIGTERM during training: the current chunk is finished if that takes moments, and abandoned otherwise."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 2.0  # seconds for the current chunk to end; ours


class Interrupt:
    """Whether someone asked to stop."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def watch(farewell: str) -> Iterator[Interrupt]:
    """Catch SIGINT and SIGTERM: set `asked`, and if the block has not ended moments later print `farewell` and exit with 130.

    Leaving at once is safe where every step kept on disk is whole, as in a run folder. Only the main thread may call this.
    """
    interrupt, done = Interrupt(), threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def guard() -> None:
        # Python runs signal handlers between bytecodes only, so not while XLA computes; the wake-up descriptor is written at once.
        if reader.recv(1)[:1] in (b"", b"\0") or done.wait(_PATIENCE):
            return
        print(f"\x1b[?25h\n{farewell}" if sys.stderr.isatty() else farewell, file=sys.stderr, flush=True)
        os._exit(130)

    def ask(number: int, frame: object) -> None:
        interrupt.asked = True

    thread = threading.Thread(target=guard, daemon=True)
    old_wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    thread.start()
    try:
        yield interrupt
    finally:
        done.set()
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        writer.send(b"\0")
        thread.join()
        reader.close()
        writer.close()
