"""What the benchmarks share: a fresh process on one core, targets, and the table and file that a measurement ends in.

A benchmark is a module with a `NAME`, `TARGETS` and `measure() -> dict`, whose "metrics" hold a number for every target's figure.
"""

import datetime
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from quickstudy import measure as measuring

RESULTS = Path(__file__).with_name("results")
COLD = {
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # it would hide what a first run costs
    "PYTHONDONTWRITEBYTECODE": "",  # an installed package has its bytecode; so must a checkout
}
ONE_THREAD = COLD | {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


class Target(NamedTuple):
    """What a figure should come to on a laptop."""

    figure: str
    relation: Literal["at most", "at least"]
    value: float

    def met_by(self, measured: float) -> bool:
        return measured <= self.value if self.relation == "at most" else measured >= self.value


class Cost(NamedTuple):
    """What a process took: seconds of all cores together, and of the clock on the wall."""

    cpu_seconds: float
    wall_seconds: float


def spawn(command: Sequence[str], environment: Mapping[str, str] = ONE_THREAD) -> tuple[str, Cost]:
    """Run a command in a fresh process, with one thread by default; returns its standard output and its cost, start and exit included.

    Raises `RuntimeError` with the process's last words if it fails.
    """
    before, began = _children_cpu_seconds(), time.perf_counter()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    cost = Cost(_children_cpu_seconds() - before, time.perf_counter() - began)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-2_000:]}")
    return done.stdout, cost


def spawn_here(file: str, *words: str, environment: Mapping[str, str] = ONE_THREAD) -> tuple[dict[str, Any], Cost]:
    """Run a benchmark's file in a fresh process, where `main` calls its `here(*words)`; returns what that measured, and the cost."""
    text, cost = spawn([sys.executable, file, "--here", *words], environment)
    return json.loads(text.splitlines()[-1]), cost


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def use_one_core() -> None:
    """Keep this process, and the threads it will start, on one core (where the system can)."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """The least and the median of repeats, under the name itself and the name with "_median": other work only ever adds time."""
    return {name: min(values), f"{name}_median": float(np.median(values))}


class Compiled(NamedTuple):
    """A program's update, compiled: `step` makes the next one, `update` is what it calls, from `start` at first.

    Compiling includes tracing; the initialisation's is counted apart.
    """

    step: Callable[[], dict[str, Any]]
    update: Callable
    start: Any
    compile_cpu_seconds: float
    initialise_cpu_seconds: float


def compile_program(program: Any) -> Compiled:
    """Compile a program's update as `quickstudy.run` does, and make its first state."""
    import jax
    import jax.random as jr

    from quickstudy.outer.program import compile_lightly

    began = time.process_time()
    start = jax.block_until_ready(compile_lightly(program.init, once=True)(jr.key(0)))
    begun = time.process_time()
    update = compile_lightly(program.update).lower(start, jr.key(1)).compile()
    compiled = time.process_time()
    state, key = start, jr.key(2)

    def step() -> dict[str, Any]:
        nonlocal state, key
        key, step_key = jr.split(key)
        state, metrics = jax.block_until_ready(update(state, step_key))
        return metrics

    return Compiled(step, update, start, compiled - begun, begun - began)


def time_turns(steps: Mapping[str, Callable[[], Any]], *, repeats: int, calls: int = 1) -> dict[str, list[measuring.Timing]]:
    """Seconds per call of each repeat: a repeat makes some calls of the first, then of the second, and so on.

    So whatever else the machine does meets them alike. Each is called once before the clock starts.
    """
    seconds: dict[str, list[measuring.Timing]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(repeats):
        for name, step in steps.items():
            seconds[name].append(measuring.time_call(step, repeats=calls))
    return seconds


def take_turns(steps: Mapping[str, Callable[[], Any]], *, repeats: int, calls: int = 1) -> dict[str, list[float]]:
    """As `time_turns`, CPU-seconds only."""
    seconds = time_turns(steps, repeats=repeats, calls=calls)
    return {name: [each.cpu_seconds for each in timings] for name, timings in seconds.items()}


def main(name: str, targets: Sequence[Target], measure: Callable[[], dict], here: Callable[..., dict] | None = None) -> None:
    """Measure, print the table and store the result as JSON; after `--here` on the command line, print what `here` measures."""
    if here is not None and sys.argv[1:2] == ["--here"]:
        print(json.dumps(here(*sys.argv[2:])))
        return
    date, load = datetime.datetime.now(datetime.UTC), os.getloadavg()
    before, began = _children_cpu_seconds(), time.perf_counter()
    try:
        measured = measure()
    except RuntimeError as error:
        sys.exit(f"{name}: {error}")
    # What measures and is measured runs in children; this process only waits.
    cost = Cost(_children_cpu_seconds() - before, time.perf_counter() - began)
    result = measured | {
        "name": name,
        "targets": [_judged(target, measured["metrics"][target.figure]) for target in targets if target.figure in measured["metrics"]],
        "cost": cost._asdict(),
        "machine": measuring.machine(),
        "versions": measuring.versions() | measured.get("versions", {}),
        "load_average_before": load,
        "date": date.isoformat(timespec="seconds"),
        "commit": measuring.commit(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    print(table(result))


def _judged(target: Target, value: float) -> dict[str, Any]:
    return target._asdict() | {"measured": value, "met": target.met_by(value)}


def table(result: dict[str, Any]) -> str:
    """The result as text: a line for every target, then the figures without one, and what is to be known about them."""
    cost = result["cost"]
    lines = [f"{result['name']}   ({cost['cpu_seconds']:.1f} CPU-s, {cost['wall_seconds']:.1f} s wall)"]
    for row in result["targets"]:
        aim = f"{row['relation']} {row['value']:,g}"
        lines.append(f"  {row['figure']:44}{row['measured']:>14,.4g}   {aim:18}{'met' if row['met'] else 'NOT met'}")
    judged = {row["figure"] for row in result["targets"]}
    lines += [f"  {figure:44}{value:>14,.4g}" for figure, value in result["metrics"].items() if figure not in judged]
    return "\n".join([*lines, *(f"  {note}" for note in result.get("notes", ())), ""])
