"""Factorisations: JAX's own numbers, and no two threads that wait for each other."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from quickstudy.factorisations import cholesky, orthogonal

# Two at once, each of many matrices, until the threads meet: with `jax.random.orthogonal` this hangs within seconds on two cores.
MANY = """
import jax, jax.random as jr
from quickstudy.factorisations import cholesky, orthogonal
draw = lambda key: [orthogonal(k, 2, 32, 32) for k in jr.split(key, 4)]
many = jax.jit(lambda key: jax.vmap(draw)(jr.split(key, 4)))
for seed in range(200):
    jax.block_until_ready(many(jr.key(seed)))
"""


def test_orthogonal_matrices_are_those_of_jax_alone_and_under_vmap():
    keys = jr.split(jr.key(0), 2)
    ours = jax.vmap(lambda key: jnp.stack(orthogonal(key, 3, 5, 4)))(keys)
    theirs = [jr.orthogonal(key, 5, (3,), m=4) for key in keys]
    np.testing.assert_array_equal(ours, jnp.stack(theirs))


def test_cholesky_is_that_of_jax_under_vmap():
    roots = jr.normal(jr.key(0), (3, 4, 4))
    positive = roots @ jnp.swapaxes(roots, 1, 2) + jnp.eye(4)[None]
    np.testing.assert_allclose(jax.vmap(cholesky)(positive), jnp.linalg.cholesky(positive), rtol=1e-6)


def test_many_at_once_end():
    subprocess.run([sys.executable, "-c", MANY], check=True, timeout=120)
