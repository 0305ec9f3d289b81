"""RL^2 on bandits of five arms and 100 pulls, from nothing to an agent that earns 0.99 of what the Gittins index earns.

`wall_seconds` is the life of a fresh process on two cores until its agent is trained: Python's start, import, compilation, and all
outer steps of the "bandit" preset. Then the clock stops, and the agent plays 20,000 test bandits, the Gittins strategy beside it in
the same ones; `share_of_gittins` is the ratio of their mean sums of rewards.
"""

import os
import time
from typing import Any

from _running import COLD, Target, main, spawn_here

NAME = "rl2-bandit"
TARGETS = (Target("share_of_gittins", "at least", 0.99), Target("wall_seconds", "at most", 60))
CORES, BANDITS = 2, 20_000


def measure() -> dict[str, Any]:
    return spawn_here(__file__, str(time.time()), environment=COLD)[0]


def here(born: str) -> dict[str, Any]:
    """Train and test in this process, which was `born` (by the clock) just now."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    from quickstudy import train
    from quickstudy.algorithms.metarl import rl2

    preset = rl2.PRESETS["bandit"]
    tasks = preset.tasks()
    learner = train(rl2.program(preset.config, tasks), steps=preset.steps, seed=0, chunk=preset.steps)
    wall, cpu = time.time() - float(born), time.process_time()

    import jax.random as jr

    from quickstudy import evaluate
    from quickstudy.algorithms.references import gittins

    best = gittins(tasks.arms, preset.ticks)
    report = evaluate(learner, tasks, n_tasks=BANDITS, steps=preset.ticks, key=jr.key(1), references={"gittins": best})
    ours, theirs = report.curve.total, report.references["gittins"].total
    metrics = {
        "share_of_gittins": ours[0] / theirs[0],
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "mean_return": ours[0],
        "gittins_mean_return": theirs[0],
    }
    setting = {"arms": tasks.arms, "pulls": preset.ticks, "outer_steps": preset.steps, "test_bandits": BANDITS, "cores": CORES}
    return {"metrics": metrics, "setting": setting, "intervals": {"mean_return": ours[1:], "gittins_mean_return": theirs[1:]}}


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
