"""How far long work is: a bar with the current score and the time left on a terminal, plain lines in a pipe."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Report = Callable[[int, Mapping[str, float]], None]


class Pace:
    """How much is done in a second since the first time that it was asked: before that comes compiling, which says nothing."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int) -> float:
        """The pace now that so much is done; zero at first."""
        now = time.perf_counter()
        if self._first is None:
            self._first = done, now
        first, began = self._first
        return (done - first) / (now - began) if done > first else 0.0


@contextmanager
def show_progress(title: str, *, total: int, start: int = 0, ticks: int = 0) -> Iterator[Report]:
    """Give a function `report(done, numbers)` to call now and then; `done` counts from `start` to `total`.

    If each of what is counted is worth so many `ticks` of an environment, their number per second is shown too.
    """
    if sys.stdout.isatty():
        with _bar(title, total, start, ticks) as report:
            yield report
    else:
        yield _lines(title, total, start, ticks)


@contextmanager
def _bar(title: str, total: int, start: int, ticks: int) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"), TimeRemainingColumn())
    pace = Pace()
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, completed=start, numbers="compiling")
        yield lambda done, numbers: bar.update(task, completed=done, numbers=text_of(numbers) + _speed(pace(done) * ticks))


def _lines(title: str, total: int, start: int, ticks: int) -> Report:
    pace, last = Pace(), start

    def report(done: int, numbers: Mapping[str, float]) -> None:
        nonlocal last
        per_second = pace(done)
        # A line for every tenth of the work keeps logs short.
        if done < total and (done - last) * 10 < total - start:
            return
        last = done
        left = f"  {(total - done) / per_second:.0f} s left" if per_second and done < total else ""
        print(f"{title}  {done}/{total}  {text_of(numbers)}{_speed(per_second * ticks)}{left}", flush=True)

    return report


def _speed(ticks_per_second: float) -> str:
    return f"  {ticks_per_second:,.0f} environment steps/s" if ticks_per_second else ""


def text_of(numbers: Mapping[str, float]) -> str:
    """Numbers with their names, the score first.

    >>> text_of({"loss": 0.5, "score": 0.123456})
    'score 0.1235  loss 0.5'
    """
    ordered = sorted(numbers.items(), key=lambda item: item[0] != "score")
    return "  ".join(f"{name} {value:.4g}" for name, value in ordered)
