"""Several processes train one run together: they learn what one learns, and the first alone writes."""

import json
import os
import socket
import subprocess
import sys

import numpy as np

_PATIENCE = 120.0  # seconds, for a slow machine; all of it takes a fraction

# The generalist, a loss over tasks, and a program that leaves a part of its state with each process.
SCRIPT = """
import dataclasses, json, os
import jax

if "QUICKSTUDY_COORDINATOR" in os.environ:
    from quickstudy import processes
    processes.join()
import equinox as eqx, jax.numpy as jnp, jax.random as jr, numpy as np, optax
from quickstudy.algorithms.imitation import generalist
from quickstudy.outer import Program, descend, run
from quickstudy.outer.descent import over_devices
from quickstudy.tasks import Sinusoid


def error(learner, task, key):
    return jnp.mean((jax.vmap(learner)(task.support_x) - task.support_y) ** 2), {}


def end_of(program):
    for progress in run(program, steps=4, seed=0, chunk=2):
        assert all(leaf.is_fully_addressable for leaf in jax.tree.leaves(progress.state) if eqx.is_array(leaf))
    arrays = jax.tree.leaves(eqx.filter(progress.state, eqx.is_inexact_array)) + list(progress.metrics.values())
    return [float(np.abs(leaf).sum()) for leaf in arrays]


linear = lambda key: eqx.nn.Linear(1, 1, key=key)
tasks = Sinusoid(shot=4, query=1)
slopes = descend(error, tasks, optax.adam(0.1), learner=linear, tasks_per_step=8, task_axis="vmap")
cut = lambda state, key: (over_devices({"x": state["x"] + jr.normal(key, (8,)), "keys": jr.split(key, 8)}), {})
apart = Program(lambda key: {"x": jnp.zeros(8), "keys": jr.split(key, 8)}, cut, lambda state: state)
preset = generalist.PRESETS["smoke"]
generalist = generalist.program(dataclasses.replace(preset.config, windows_per_step=4), preset.tasks())
found = {"linear": end_of(slopes), "apart": end_of(apart), "generalist": end_of(generalist)}
print(json.dumps({"devices": jax.device_count(), "local": jax.local_device_count(), "found": found}))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def started(command: list[str], processes: int, devices: int = 1) -> list[subprocess.Popen]:
    """The same command in each of several processes, of so many simulated devices."""
    # More threads than cores, or devices wait for each other forever on two.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    shared = os.environ | {"XLA_FLAGS": flags, "NPROC": "16", "JAX_PLATFORMS": "cpu"}
    several = {"QUICKSTUDY_COORDINATOR": f"localhost:{free_port()}", "QUICKSTUDY_PROCESSES": str(processes)}
    own = [shared | several | {"QUICKSTUDY_PROCESS": str(i)} for i in range(processes)] if processes > 1 else [shared]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([sys.executable, *command], env=environment, **pipes) for environment in own]


def ended(running: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """How each process ended, and what it said; none outlives this."""
    try:
        said = [process.communicate(timeout=_PATIENCE) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [(process.returncode, *texts) for process, texts in zip(running, said, strict=True)]


def test_two_processes_learn_what_one_learns():
    ends = ended(started(["-c", SCRIPT], 1)) + ended(started(["-c", SCRIPT], 2, devices=2))
    assert [code for code, _, _ in ends] == [0, 0, 0], ends
    alone, first, second = (json.loads(said.splitlines()[-1]) for _, said, _ in ends)
    assert [(each["devices"], each["local"]) for each in (alone, first, second)] == [(1, 1), (4, 2), (4, 2)]
    assert first["found"] == second["found"]
    for name, leaves in alone["found"].items():
        np.testing.assert_allclose(first["found"][name], leaves, rtol=1e-4, atol=1e-5, err_msg=name)
