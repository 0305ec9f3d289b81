"""How fast persistent ES trains a learned optimiser: the MLP optimiser on 10-dimensional quadratics, 16 tasks, windows of 20 steps.

The measurement runs in a fresh process on one core.

* `inner_steps_per_cpu_second`: optimisation steps per CPU-second, an antithetic pair's two members counted as *one* (16 x 20 steps
  per outer step); `inner_steps_per_cpu_second_both_members` counts both (32 x 20). Everything an outer step does is in the time:
  drawing perturbations and tasks, both members' lives, the gradient estimate and Adam. The best of five repeats of 1,000 outer steps.
* `first_update_cpu_seconds`: from the program to the first outer step's result, initialisation, tracing and compilation included and
  the import of JAX and quickstudy left out (`import_cpu_seconds`). JAX's persistent compile cache is off.
"""

import time
from typing import Any

from _running import Target, main, spawn_here, use_one_core

NAME = "persistent-es"
TARGETS = (Target("inner_steps_per_cpu_second", "at least", 300_000), Target("first_update_cpu_seconds", "at most", 4))
TASKS, WINDOW, OUTER_STEPS, REPEATS = 16, 20, 1_000, 5


def measure() -> dict[str, Any]:
    return spawn_here(__file__)[0]


def here() -> dict[str, Any]:
    """Measure in this process, which must not have imported JAX yet."""
    use_one_core()
    start = time.process_time()
    import equinox as eqx
    import jax
    import jax.random as jr

    from quickstudy import measure as measuring
    from quickstudy.algorithms.optimizers import mlp_optimizer
    from quickstudy.tasks import Quadratics

    imported = time.process_time()
    config = mlp_optimizer.Config(pairs=TASKS, unroll=WINDOW)
    program = mlp_optimizer.program(config, Quadratics(dimensions=10))
    state = eqx.filter_jit(program.init)(jr.key(0))
    state, _metrics = jax.block_until_ready(eqx.filter_jit(program.update)(state, jr.key(1)))
    first = time.process_time()

    @eqx.filter_jit
    def train(state, key):
        arrays, rest = eqx.partition(state, eqx.is_array)

        def body(arrays, k):
            after, metrics = program.update(eqx.combine(arrays, rest), k)
            return eqx.filter(after, eqx.is_array), metrics["loss"]

        arrays, losses = jax.lax.scan(body, arrays, jr.split(key, OUTER_STEPS))
        return eqx.combine(arrays, rest), losses

    jax.block_until_ready(train(state, jr.key(2)))
    timings = [measuring.time_call(train, state, jr.key(3)) for _ in range(REPEATS)]
    best = min(timing.cpu_seconds for timing in timings) / OUTER_STEPS
    return {
        "metrics": {
            "inner_steps_per_cpu_second": TASKS * WINDOW / best,
            "inner_steps_per_cpu_second_both_members": 2 * TASKS * WINDOW / best,
            "outer_step_cpu_milliseconds": 1_000 * best,
            "first_update_cpu_seconds": first - imported,
            "import_cpu_seconds": imported - start,
        },
        "setting": {"tasks": TASKS, "window": WINDOW, "outer_steps": OUTER_STEPS, "repeats": REPEATS, "parameters": 10, "cores": 1},
        "cpu_seconds_of_each_repeat": [timing.cpu_seconds for timing in timings],
        "wall_seconds_of_each_repeat": [timing.wall_seconds for timing in timings],
    }


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
