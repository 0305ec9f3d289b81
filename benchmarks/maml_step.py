"""How fast a MAML meta-step is, beside PyTorch: 5-way 1-shot, 1 query a class, 32 tasks, 5 inner steps, conv4-32 on 28x28 images.

Ours is the whole `update` of `maml.program`: drawing the tasks, the gradient and Adam. The peers (`_torch_peers.py`) compute the same
loss, its exact second-order gradient and Adam, on tasks drawn beforehand; that loss and gradient agree, from the same weights and
tasks, is checked first. All run in one process on one core, in turn, so that whatever else the machine does meets them alike; each
repeat times some steps of each. A rate comes from the best repeat, a ratio to a peer from the best repeats of both; "_median" says the
same of medians. Compiling includes tracing.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from _running import Compiled, Target, compile_program, main, spawn_here, take_turns, use_one_core

if TYPE_CHECKING:
    from quickstudy.algorithms.fewshot.maml import Config
    from quickstudy.core import AbstractTaskDistribution

NAME = "maml-step"
TARGETS = (
    Target("exact_steps_per_cpu_second", "at least", 2.9),
    Target("exact_times_torch_func", "at least", 1.3),
    Target("exact_times_higher", "at least", 1.9),
    Target("first_order_steps_per_cpu_second", "at least", 9),
    Target("exact_compile_cpu_seconds", "at most", 15),
    Target("first_order_compile_cpu_seconds", "at most", 15),
)
TASKS, PARAMETERS, REPEATS, STEPS = 32, 28_965, 7, 3
_TOLERANCE = 1e-3  # of loss and gradient, relative: five large inner steps amplify the rounding of single precision

Step = Callable[[], Any]


def measure() -> dict[str, Any]:
    return spawn_here(__file__)[0]


def here() -> dict[str, Any]:
    """Measure in this process, which must not have imported JAX or PyTorch yet."""
    use_one_core()
    from quickstudy.algorithms.fewshot import maml
    from quickstudy.core import count_floats

    config, tasks = maml.Config("conv4-stride", 32, inner_learning_rate=0.4, inner_steps=5, tasks_per_step=TASKS), _random_images()
    exact = compile_program(maml.program(config, tasks))
    first_order = compile_program(maml.program(config, tasks, "first-order"))
    assert count_floats(exact.start.learner) == PARAMETERS
    peers, agreement, versions, notes = _peers(exact, config, tasks)
    seconds = take_turns({"exact": exact.step, "first_order": first_order.step} | peers, repeats=REPEATS, calls=STEPS)
    metrics = {
        "exact_compile_cpu_seconds": exact.compile_cpu_seconds,
        "first_order_compile_cpu_seconds": first_order.compile_cpu_seconds,
    }
    for suffix, of in (("", min), ("_median", np.median)):
        rate = {name: 1 / float(of(values)) for name, values in seconds.items()}
        metrics |= {f"{name}_steps_per_cpu_second{suffix}": value for name, value in rate.items()}
        metrics |= {f"exact_times_{name}{suffix}": rate["exact"] / rate[name] for name in peers}
    setting = {"way": 5, "shot": 1, "query": 1, "tasks": TASKS, "inner_steps": 5, "parameters": PARAMETERS, "cores": 1}
    setting |= {"repeats": REPEATS, "steps_per_repeat": STEPS}
    repeats = {"cpu_seconds_per_step_of_each_repeat": seconds}
    return {"metrics": metrics | agreement, "setting": setting, "versions": versions, "notes": notes} | repeats


def _random_images() -> "AbstractTaskDistribution":
    from quickstudy.tasks import from_arrays

    classes, drawings = 60, 20  # enough that drawing tasks from them is real work
    pixels = np.random.default_rng(0).random((classes * drawings, 28, 28), np.float32)
    return from_arrays(pixels, np.repeat(np.arange(classes), drawings), way=5, shot=1, query=1)


def _peers(ours: Compiled, config: "Config", tasks: "AbstractTaskDistribution") -> tuple[dict[str, Step], dict, dict, list[str]]:
    """The peers' steps, how far they are from ours, their versions, and what is to be said; nothing but that without the extra."""
    if not (importlib.util.find_spec("torch") and importlib.util.find_spec("higher")):
        return {}, {}, {}, ["no peers measured: they need PyTorch and higher, from the extra quickstudy[bench]"]
    import _torch_peers as torch_peers
    import jax
    import jax.random as jr
    import torch

    from quickstudy.curricula.uniform import Uniform

    torch.set_num_threads(1)
    # The first of the two keys that `descend` splits the step's key into draws the tasks.
    _, drawn, _ = Uniform(tasks).propose(None, jr.split(jr.key(1))[0], TASKS)
    after, metrics = ours.update(ours.start, jr.key(1))
    # Adam's first moment after its first step is a tenth of the gradient.
    gradient = jax.tree.map(lambda moment: 10 * moment, after.optimizer[0].mu.model)
    steps: dict[str, Step] = {}
    agreement: dict[str, float] = {}
    for name, loss in (("torch_func", torch_peers.func_loss), ("higher", torch_peers.higher_loss)):
        step, model = torch_peers.meta_step(loss, ours.start.learner.model, config, torch_peers.as_tensors(drawn))
        assert torch_peers.count_parameters(model) == PARAMETERS
        apart = torch_peers.differences(float(metrics["loss"]), gradient, step(), model)
        if max(apart) > _TOLERANCE:
            raise RuntimeError(
                f"{name} computes something else: loss and gradient differ from ours by {apart[0]:.1e} and {apart[1]:.1e}"
            )
        steps[name] = step
        agreement |= {f"loss_difference_to_{name}": apart[0], f"gradient_difference_to_{name}": apart[1]}
    return steps, agreement, {name: importlib.metadata.version(name) for name in ("torch", "higher")}, []


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
