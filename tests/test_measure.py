"""Clocks that wait for the work, and step counters that agree with them."""

import json
import time

import jax
import jax.numpy as jnp
import numpy as np

from quickstudy import measure
from quickstudy.outer import Program, run

_NAP = 0.02  # seconds


def nap(x):
    """Work that takes at least `_NAP` seconds inside a compiled function, and no processor time."""
    return jax.pure_callback(lambda value: (time.sleep(_NAP), value)[1], jax.ShapeDtypeStruct(x.shape, x.dtype), x)


def test_timing_waits_for_the_result():
    # JAX hands out the result before it exists: an unblocked clock would read microseconds.
    timing = measure.time_call(jax.jit(nap), jnp.zeros(()), repeats=3)
    assert timing.wall_seconds >= _NAP


def test_the_step_counter_agrees_with_the_clock():
    # Every step takes at least a nap, so fewer naps than steps would mean that steps are counted that were not made.
    program = Program(lambda key: jnp.zeros(()), lambda state, key: (nap(state) + 1.0, {"count": state}), lambda state: state)
    began = time.perf_counter()
    last = list(run(program, steps=20, seed=0, chunk=5))[-1]
    wall = time.perf_counter() - began
    assert last.step == 20
    assert float(last.state) == 20
    assert wall >= last.step * _NAP


def test_descriptions_are_plain_json():
    described = measure.versions() | measure.machine()
    assert json.loads(json.dumps(described)) == described
    assert described["jax"] == jax.__version__
    assert described["numpy"] == np.__version__
    assert described["cores"] >= 1
