"""A plain perceptron with rectified units and a choice of the initial weights' spread."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


class MLP(eqx.Module):
    """Rectified layers of the given `widths`, from `widths[0]` inputs to `widths[-1]` outputs, for one example at a time, flattened.

    >>> import jax
    >>> MLP((1, 40, 40, 1), key=jax.random.key(0))(jax.numpy.ones(1)).shape
    (1,)
    """

    weights: tuple[Float[Array, "inputs outputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]

    def __init__(self, widths: tuple[int, ...], *, key: PRNGKeyArray):
        # Uniform within 1 / sqrt(inputs), as Equinox and PyTorch do; random biases spread the rectifiers' kinks over the input range.
        keys = jr.split(key, 2 * (len(widths) - 1))
        layers = list(pairwise(widths))
        self.weights = tuple(uniform(k, (i, o), i) for k, (i, o) in zip(keys[::2], layers, strict=True))
        self.biases = tuple(uniform(k, (o,), i) for k, (i, o) in zip(keys[1::2], layers, strict=True))

    def __call__(self, x: Float[Array, "*example"]) -> Float[Array, " outputs"]:
        x = jnp.ravel(x)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jax.nn.relu(x @ weight + bias)
        return x @ self.weights[-1] + self.biases[-1]


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], inputs: int) -> Float[Array, "..."]:
    """Numbers uniform within 1 / sqrt(inputs) of zero."""
    bound = inputs**-0.5
    return jr.uniform(key, shape, minval=-bound, maxval=bound)
