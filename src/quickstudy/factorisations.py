"""Matrix factorisations that are safe inside any compiled program: LAPACK is given one matrix at a time.

Given many, JAX's wrapper of LAPACK splits them among the CPU's threads and waits for those. When all threads are such wrappers, as two
factorisations in one program are on a machine with two cores, they wait for each other forever (seen with jaxlib 0.10.2).
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


@jax.custom_batching.sequential_vmap
def _qr(x: Float[Array, "rows columns"]) -> tuple[Float[Array, "rows columns"], Float[Array, "columns columns"]]:
    return jnp.linalg.qr(x)


def orthogonal(key: PRNGKeyArray, count: int, rows: int, columns: int) -> list[Float[Array, "rows columns"]]:
    """`count` matrices with orthonormal columns, of which there are at most as many as rows, uniformly distributed.

    They are what `jax.random.orthogonal` draws with this key.

    Source: Mezzadri 2007, "How to Generate Random Matrices from the Classical Compact Groups", section 5.

    >>> (matrix,) = orthogonal(jax.random.key(0), 1, 4, 2)
    >>> bool(jnp.allclose(matrix.T @ matrix, jnp.eye(2), atol=1e-6))
    True
    """
    factors = [_qr(normal) for normal in jr.normal(key, (count, rows, columns))]
    return [q * jnp.sign(jnp.diagonal(r))[None] for q, r in factors]


@jax.custom_batching.sequential_vmap
def cholesky(x: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The lower triangle L with L L^T = x, for a positive definite x.

    >>> cholesky(jnp.array([[4.0, 2.0], [2.0, 2.0]])).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """
    return jnp.linalg.cholesky(x)
