"""RL^2 in houses of four rooms, 9 by 9, seen through a window of 5 by 5: 64 lives of 256 ticks, GRU-64, all learning included.

`steps_per_cpu_second` counts ticks of the environment, on one core; an outer step is all of `rl2.program`'s: new houses, lives, and
PPO's 4 epochs of 4 minibatches. The best repeat is quoted. Compiling includes tracing, and leaves out the initialisation, which is
`initialise_cpu_seconds`.
"""

from typing import Any

import numpy as np
from _running import Target, compile_program, main, spawn_here, take_turns, use_one_core

NAME = "rl2-rooms"
TARGETS = (Target("steps_per_cpu_second", "at least", 20_000), Target("compile_cpu_seconds", "at most", 8))
LIVES, TICKS, REPEATS, CALLS = 64, 256, 5, 4


def measure() -> dict[str, Any]:
    return spawn_here(__file__)[0]


def here() -> dict[str, Any]:
    """Measure in this process, which must not have imported JAX yet."""
    use_one_core()
    from quickstudy.algorithms.metarl import rl2
    from quickstudy.tasks import MultiRoom

    config = rl2.Config(width=64, lives=LIVES, ticks=TICKS, epochs=4, minibatches=4)
    ours = compile_program(rl2.program(config, MultiRoom(size=9)))
    seconds = take_turns({"ours": ours.step}, repeats=REPEATS, calls=CALLS)["ours"]
    metrics = {
        "steps_per_cpu_second": LIVES * TICKS / min(seconds),
        "steps_per_cpu_second_median": LIVES * TICKS / float(np.median(seconds)),
        "compile_cpu_seconds": ours.compile_cpu_seconds,
        "initialise_cpu_seconds": ours.initialise_cpu_seconds,
    }
    setting = {"lives": LIVES, "ticks": TICKS, "size": 9, "window": 5, "width": 64, "epochs": 4, "minibatches": 4}
    setting |= {"repeats": REPEATS, "outer_steps_per_repeat": CALLS, "cores": 1}
    return {"metrics": metrics, "setting": setting, "cpu_seconds_per_outer_step_of_each_repeat": seconds}


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
