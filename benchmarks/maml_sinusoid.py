"""What a first small experiment costs: MAML on sine waves, 5,000 exact outer steps, from nothing to the trained learner.

`cpu_seconds` is the whole life of a fresh process on one core without a compile cache: Python's start, import, compilation, training.
Its parts: `import_cpu_seconds`; `compile_cpu_seconds`, the first chunk of steps less what a later chunk takes (initialisation and
tracing included); `run_cpu_seconds`, all 5,000 steps.
"""

import time
from typing import Any

from _running import Target, main, spawn_here, spread, use_one_core

NAME = "maml-sinusoid"
TARGETS = (Target("cpu_seconds", "at most", 10),)
STEPS, CHUNK, SHOT, REPEATS = 5_000, 100, 10, 3


def measure() -> dict[str, Any]:
    runs = [spawn_here(__file__) for _ in range(REPEATS)]
    totals = [cost.cpu_seconds for _, cost in runs]
    best = runs[totals.index(min(totals))][0]
    setting = {"outer_steps": STEPS, "shot": SHOT, "inner_steps": 1, "tasks_per_step": 25, "repeats": REPEATS}
    return {"metrics": spread("cpu_seconds", totals) | best, "setting": setting, "cpu_seconds_of_each_repeat": totals}


def here() -> dict[str, float]:
    """Train in this process, which must not have imported JAX yet."""
    use_one_core()
    start = time.process_time()
    from quickstudy import run
    from quickstudy.algorithms.fewshot import maml
    from quickstudy.tasks import Sinusoid

    clock = [time.process_time()]
    for progress in run(maml.program(maml.Config(), Sinusoid(shot=SHOT)), steps=STEPS, seed=0, chunk=CHUNK):
        clock.append(time.process_time())
        loss = float(progress.metrics["loss"].mean())
    chunk = (clock[-1] - clock[1]) / (len(clock) - 2)
    return {
        "import_cpu_seconds": clock[0] - start,
        "compile_cpu_seconds": clock[1] - clock[0] - chunk,
        "run_cpu_seconds": chunk * STEPS / CHUNK,
        "last_chunk_loss": loss,
    }


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
