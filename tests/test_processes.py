"""Several processes train one run together: they learn what one learns, and the first alone writes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from quickstudy import processes
from quickstudy.cli import main
from quickstudy.persist import read_arrays

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


def started(command: list[str], count: int, devices: int = 1) -> list[subprocess.Popen]:
    """The same command in each of several processes, of so many simulated devices."""
    # More threads than cores, or devices wait for each other forever on two.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    shared = os.environ | {"XLA_FLAGS": flags, "NPROC": "16", "JAX_PLATFORMS": "cpu"}
    several = {"QUICKSTUDY_COORDINATOR": f"localhost:{free_port()}", "QUICKSTUDY_PROCESSES": str(count)}
    own = [shared | several | {"QUICKSTUDY_PROCESS": str(i)} for i in range(count)] if count > 1 else [shared]
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


def test_a_run_in_two_processes_is_stopped_by_one_and_resumed_by_both(tmp_path):
    alone, folder = tmp_path / "alone", tmp_path / "run"
    new = ["maml", "--preset", "smoke", "--steps", "40"]
    assert main(["train", *new, "--out", str(alone)]) == 0
    train = ["-m", "quickstudy.cli", "train"]
    running = started([*train, *new, "--out", str(folder), "--distributed"], 2)
    deadline = time.monotonic() + _PATIENCE
    while len(lines_of(folder)) < 3 and all(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(0.01)
    running[1].send_signal(signal.SIGTERM)
    ends = ended(running)
    assert [code for code, _, _ in ends] == [130, 130], ends
    assert 3 <= len(lines_of(folder)) < 40
    assert not (folder / "weights.safetensors").exists()
    ends = ended(started([*train, "--resume", str(folder), "--distributed"], 2))
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert [str(folder) in said for _, said, _ in ends] == [True, False], "the first speaks for both"
    assert {path.name for path in folder.iterdir()} == {path.name for path in alone.iterdir()}
    losses, expected = ([json.loads(line)["metrics"]["loss"] for line in lines_of(path)] for path in (folder, alone))
    np.testing.assert_allclose(losses, expected, rtol=1e-3, atol=1e-3)
    both, one = (read_arrays(path / "weights.safetensors")[0] for path in (folder, alone))
    for name, values in one.items():
        np.testing.assert_allclose(both[name], values, atol=1e-3, err_msg=name)


def lines_of(folder: Path) -> list[str]:
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("coordinator", "count", "number", "complaint"),
    [
        ("host:1234", "", "0", "QUICKSTUDY_PROCESSES must be a whole number from 1"),
        ("host:1234", "2", "2", "QUICKSTUDY_PROCESS must be a whole number from 0 to 1, not '2'"),
        ("host", "2", "0", "QUICKSTUDY_COORDINATOR must be host:port of the first process, not 'host'"),
    ],
)
def test_what_says_who_the_others_are_is_checked(monkeypatch, coordinator, count, number, complaint):
    monkeypatch.setenv("QUICKSTUDY_COORDINATOR", coordinator)
    monkeypatch.setenv("QUICKSTUDY_PROCESSES", count)
    monkeypatch.setenv("QUICKSTUDY_PROCESS", number)
    with pytest.raises(ValueError, match=complaint):
        processes.join()
