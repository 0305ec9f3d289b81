"""RL^2 in a room of 5 by 5 with a hidden goal: 64 lives of 4 episodes of 20 ticks, GRU-64, 4 epochs of 4 minibatches.

`steps_per_cpu_second` counts ticks of the environment, all learning included: an outer step draws tasks, lives in them and makes PPO's
16 gradient steps. The peer is the same in PyTorch over Gymnasium's `SyncVectorEnv` (`_torch_rl_peers.py`), in the same process on one
core, in turn with ours. Rates are of the best repeat, "_median" says the same of medians. Compiling includes tracing, and leaves out
the initialisation, which is `initialise_cpu_seconds`. Both learn meanwhile: the mean reward of the last outer step is stored.
"""

import importlib.metadata
import importlib.util
from typing import Any

import numpy as np
from _running import Target, compile_program, main, spawn_here, take_turns, use_one_core

NAME = "rl2-grid"
TARGETS = (
    Target("steps_per_cpu_second", "at least", 130_000),
    Target("times_gymnasium_and_torch", "at least", 5),
    Target("compile_cpu_seconds", "at most", 3),
)
LIVES, EPISODES, HORIZON, REPEATS, CALLS = 64, 4, 20, 7, 10


def measure() -> dict[str, Any]:
    return spawn_here(__file__)[0]


def here() -> dict[str, Any]:
    """Measure in this process, which must not have imported JAX or PyTorch yet."""
    use_one_core()
    from quickstudy.algorithms.metarl import rl2
    from quickstudy.tasks import HiddenGoal

    config = rl2.Config(width=64, lives=LIVES, ticks=EPISODES * HORIZON, epochs=4, minibatches=4)
    ours = compile_program(rl2.program(config, HiddenGoal(size=5, horizon=HORIZON)))
    rewards: dict[str, float] = {}
    steps, versions, notes = _peer(rl2.over_lives(config), rewards)

    def step() -> None:
        rewards["ours"] = float(ours.step()["score"])

    seconds = take_turns({"ours": step} | steps, repeats=REPEATS, calls=CALLS)
    metrics = {"compile_cpu_seconds": ours.compile_cpu_seconds, "initialise_cpu_seconds": ours.initialise_cpu_seconds}
    for suffix, of in (("", np.min), ("_median", np.median)):
        rates = {name: LIVES * config.ticks / float(of(values)) for name, values in seconds.items()}
        metrics |= {f"{'' if name == 'ours' else name + '_'}steps_per_cpu_second{suffix}": value for name, value in rates.items()}
        metrics |= {f"times_{name}{suffix}": rates["ours"] / rates[name] for name in steps}
    metrics |= {f"{name}_last_mean_reward": value for name, value in rewards.items()}
    setting = {"lives": LIVES, "episodes": EPISODES, "ticks_per_episode": HORIZON, "width": 64, "epochs": 4, "minibatches": 4}
    setting |= {"repeats": REPEATS, "outer_steps_per_repeat": CALLS, "cores": 1}
    result = {"metrics": metrics, "setting": setting, "versions": versions, "notes": notes}
    return result | {"cpu_seconds_per_outer_step_of_each_repeat": seconds}


def _peer(config: Any, rewards: dict[str, float]) -> tuple[dict, dict, list[str]]:
    """The peer's outer step, its versions, and what is to be said."""
    if not importlib.util.find_spec("torch"):
        return {}, {}, ["no peer measured: it needs PyTorch, from the extra quickstudy[bench]"]
    import _torch_rl_peers as peers
    import torch

    torch.set_num_threads(1)
    theirs = peers.plain_rl2(config)

    def step() -> None:
        rewards["gymnasium_and_torch"] = theirs()

    return {"gymnasium_and_torch": step}, {name: importlib.metadata.version(name) for name in ("torch", "gymnasium")}, []


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
