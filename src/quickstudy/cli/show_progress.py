"""How far long work is: a bar with the current score and the time left on a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Report = Callable[[int, Mapping[str, float]], None]


@contextmanager
def show_progress(title: str, *, total: int, start: int = 0) -> Iterator[Report]:
    """Give a function `report(done, numbers)` to call now and then; `done` counts from `start` to `total`."""
    if sys.stdout.isatty():
        with _bar(title, total, start) as report:
            yield report
    else:
        yield _lines(title, total, start)


@contextmanager
def _bar(title: str, total: int, start: int) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=start, numbers="compiling")
        yield lambda done, numbers: bar.update(task, completed=done, numbers=text_of(numbers))


def _lines(title: str, total: int, start: int) -> Report:
    began, first, last = 0.0, start, start

    def report(done: int, numbers: Mapping[str, float]) -> None:
        nonlocal began, first, last
        # The first report comes after compiling, which says nothing about the pace.
        if not began:
            began, first = time.perf_counter(), done
        # A line for every tenth of the work keeps logs short.
        if done < total and (done - last) * 10 < total - start:
            return
        last = done
        pace = (time.perf_counter() - began) / (done - first) if done > first else 0.0
        left = f"  {pace * (total - done):.0f} s left" if pace and done < total else ""
        print(f"{title}  {done}/{total}  {text_of(numbers)}{left}", flush=True)

    return report


def text_of(numbers: Mapping[str, float]) -> str:
    """Numbers with their names, the score first.

    >>> text_of({"loss": 0.5, "score": 0.123456})
    'score 0.1235  loss 0.5'
    """
    ordered = sorted(numbers.items(), key=lambda item: item[0] != "score")
    return "  ".join(f"{name} {value:.4g}" for name, value in ordered)
