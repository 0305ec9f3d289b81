"""On several devices each takes a part of the tasks, and what is learned is what one device learns."""

import json
import os
import subprocess
import sys

import numpy as np

SCRIPT = """
import json, sys
import equinox as eqx, jax, jax.numpy as jnp, optax
from quickstudy.outer import descend, run
from quickstudy.outer.program import _compiled
from quickstudy.tasks import Sinusoid


def loss(learner, task, key):
    error = jnp.mean((jax.vmap(learner)(task.support_x) - task.support_y) ** 2)
    return error, {"error": error}


tasks, optimizer = Sinusoid(shot=4, query=1), optax.adam(0.1)
program = descend(loss, tasks, optimizer, learner=lambda key: eqx.nn.Linear(1, 1, key=key), tasks_per_step=16, task_axis="vmap")
for progress in run(program, steps=6, seed=0, chunk=3):
    jax.block_until_ready(progress.state)
begin, advance = _compiled(program)
arguments = (progress.state, jnp.uint32(0), jax.random.key(0), 3)
reduced = "all-reduce" in advance.lower(*arguments).compile().compiled.as_text()
state = jax.tree.leaves(eqx.filter(progress.state, eqx.is_array))
weights = program.learner(progress.state).weight
print(json.dumps({"devices": jax.device_count(), "reduced": reduced, "leaves": [float(jnp.sum(leaf)) for leaf in state]}))
"""


def learned(devices):
    # More threads than cores, or eight devices wait for each other forever on two.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "NPROC": "16"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


def test_eight_devices_learn_what_one_learns():
    one, eight = learned(1), learned(8)
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert (one["reduced"], eight["reduced"]) == (False, True)
    np.testing.assert_allclose(one["leaves"], eight["leaves"], rtol=1e-4, atol=1e-6)
