"""PPO on CartPole: how fast it learns beside PyTorch, what 500,000 steps cost from nothing, and what a balanced pole costs.

* `steps_per_cpu_second`: environment steps per CPU-second, all learning included, compiled beforehand. The peers, Stable-Baselines3
  and a plain PyTorch loop (`_torch_rl_peers.py`), run in the same process on one core, in turn, with our settings and fewer steps.
* `cpu_seconds`: the whole life of a fresh process that takes 500,000 steps: Python's start, import, compilation, training.
* `solved_seeds`: of ten seeds of the "cartpole" preset, those whose agent stands for 475 ticks or more on average over 1,000 episodes
  that it was not trained in. `solving_cpu_seconds`: the life of such a process until its agent is trained, the median of the ten;
  the test comes after it. The peers' agents are not tested, but the mean length of their last training episodes is stored.
"""

import importlib.metadata
import importlib.util
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from _running import Target, main, spawn_here, spread, take_turns, use_one_core

if TYPE_CHECKING:
    from quickstudy.core import AbstractLearner

NAME = "ppo-cartpole"
TARGETS = (
    Target("steps_per_cpu_second", "at least", 250_000),
    Target("cpu_seconds", "at most", 7.5),
    Target("solved_seeds", "at least", 10),
    Target("solving_cpu_seconds", "at most", 5),
)
STEPS, SEEDS, REPEATS, EPISODES, SOLVED = 500_000, 10, 3, 1_000, 475
CHUNK = 49  # outer steps: 245, which are just over 500,000 steps of the environment, are five chunks
_PEERS = ("torch", "stable_baselines3")


def measure() -> dict[str, Any]:
    rates, _ = spawn_here(__file__, "rates")
    cold = [spawn_here(__file__, "cold") for _ in range(REPEATS)]
    solving = [spawn_here(__file__, "solve", str(seed))[0] for seed in range(SEEDS)]
    totals = [cost.cpu_seconds for _, cost in cold]
    returns = [run["mean_return"] for run in solving]
    metrics = rates["metrics"] | spread("cpu_seconds", totals) | cold[totals.index(min(totals))][0]
    metrics |= {
        "solved_seeds": sum(value >= SOLVED for value in returns),
        "solving_cpu_seconds": float(np.median([run["trained_cpu_seconds"] for run in solving])),
        "solving_steps": solving[0]["steps"],
    }
    setting = {"steps": STEPS, "seeds": SEEDS, "test_episodes": EPISODES, "repeats": REPEATS, "cores": 1}
    return rates | {"metrics": metrics, "setting": setting, "cpu_seconds_of_each_repeat": totals, "each_seed": solving}


def here(what: str, seed: str = "0") -> dict[str, Any]:
    """Measure in this process, which must not have imported JAX or PyTorch yet."""
    use_one_core()
    return {"rates": _rates, "cold": _cold, "solve": lambda: _solve(int(seed))}[what]()


def _rates() -> dict[str, Any]:
    from quickstudy import run
    from quickstudy.algorithms.rl import ppo
    from quickstudy.tasks import CartPole

    config = ppo.Config(lives=16)
    ticks = config.lives * config.ticks
    ours = run(ppo.program(config, CartPole()), steps=10**9, seed=0, chunk=CHUNK)
    lengths: dict[str, float] = {}

    def step() -> None:
        lengths["ours"] = float(next(ours).metrics["episode return"][-5:].mean())

    peers, versions, notes = _peers(config, lengths)
    seconds = take_turns({"ours": step} | peers, repeats=2 * REPEATS)
    rates = {name: (CHUNK if name == "ours" else 5) * ticks / np.array(values) for name, values in seconds.items()}
    metrics = {}
    for suffix, of in (("", np.max), ("_median", np.median)):
        best = {name: float(of(values)) for name, values in rates.items()}
        metrics |= {f"{'' if name == 'ours' else name + '_'}steps_per_cpu_second{suffix}": value for name, value in best.items()}
        metrics |= {f"times_{name}{suffix}": best["ours"] / best[name] for name in peers}
    metrics |= {f"{name}_last_episode_length": value for name, value in lengths.items()}
    repeats = {name: values.tolist() for name, values in rates.items()}
    return {"metrics": metrics, "versions": versions, "notes": notes, "steps_per_cpu_second_of_each_repeat": repeats}


def _peers(config: Any, lengths: dict[str, float]) -> tuple[dict, dict, list[str]]:
    """Calls that make five outer steps of each peer, the peers' versions, and what is to be said."""
    if not all(importlib.util.find_spec(name) for name in _PEERS):
        return {}, {}, ["no peers measured: they need PyTorch and Stable-Baselines3, from the extra quickstudy[bench]"]
    import _torch_rl_peers as peers
    import torch

    torch.set_num_threads(1)

    def five(name: str, step: Any) -> Any:
        def call() -> None:
            lengths[name] = float(np.mean([step() for _ in range(5)]))

        return call

    both = {"plain_torch": peers.plain_cartpole(config), "stable_baselines3": peers.stable_baselines(config)}
    versions = {name: importlib.metadata.version(name) for name in (*_PEERS, "gymnasium")}
    return {name: five(name, step) for name, step in both.items()}, versions, []


def _cold() -> dict[str, float]:
    start = time.process_time()
    from quickstudy import run
    from quickstudy.algorithms.rl import ppo
    from quickstudy.tasks import CartPole

    config = ppo.Config(lives=16)
    chunks = -(-STEPS // (CHUNK * config.lives * config.ticks))
    clock = [time.process_time()]
    for progress in run(ppo.program(config, CartPole()), steps=chunks * CHUNK, seed=0, chunk=CHUNK):
        clock.append(time.process_time())
        length = float(progress.metrics["episode return"][-5:].mean())
    chunk = (clock[-1] - clock[1]) / (chunks - 1)
    return {
        "import_cpu_seconds": clock[0] - start,
        "compile_cpu_seconds": clock[1] - clock[0] - chunk,
        "run_cpu_seconds": chunk * chunks,
        "cold_last_episode_length": length,
    }


def _solve(seed: int) -> dict[str, Any]:
    from quickstudy import train
    from quickstudy.algorithms.rl import ppo

    preset = ppo.PRESETS["cartpole"]
    learner = train(ppo.program(preset.config, preset.tasks()), steps=preset.steps, seed=seed, chunk=preset.steps)
    trained = time.process_time()
    steps = preset.steps * preset.config.lives * preset.config.ticks
    return {"trained_cpu_seconds": trained, "steps": steps, "mean_return": _mean_return(learner, preset.tasks())}


def _mean_return(learner: "AbstractLearner", tasks: Any) -> float:
    """The mean length of the first episode of each of some lives: every tick of it pays 1."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import jax.random as jr

    from quickstudy import lifetime
    from quickstudy.core import End

    @eqx.filter_jit
    def lengths(learner: "AbstractLearner", keys: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            task = tasks.sample(key, "test")
            ends = lifetime(learner, task, key, steps=task.horizon, record=lambda tick: tick.end)[1]
            return 1 + jnp.argmax(ends != End.RUNNING)  # the last tick's at the latest: it is cut off there

        return jax.vmap(one)(keys)

    return float(lengths(learner, jr.split(jr.key(10**6), EPISODES)).mean())


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
