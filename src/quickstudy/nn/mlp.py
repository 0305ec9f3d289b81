"""A plain perceptron with rectified units and a choice of the initial weights' spread."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


class MLP(eqx.Module):
    """Rectified layers of the given `widths`, from `widths[0]` inputs to `widths[-1]` outputs, for one example at a time.

    >>> import jax
    >>> MLP((1, 40, 40, 1), key=jax.random.key(0))(jax.numpy.ones(1)).shape
    (1,)
    """

    weights: tuple[Float[Array, "inputs outputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]

    def __init__(self, widths: tuple[int, ...], *, key: PRNGKeyArray):
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        keys = jr.split(key, len(pairs))
        # He initialisation (He et al. 2015), the convention for rectified layers.
        self.weights = tuple(jr.normal(k, (i, o)) * (2.0 / i) ** 0.5 for k, (i, o) in zip(keys, pairs, strict=True))
        self.biases = tuple(jnp.zeros(o) for o in widths[1:])

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        x = jnp.ravel(x)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jax.nn.relu(x @ weight + bias)
        return x @ self.weights[-1] + self.biases[-1]
