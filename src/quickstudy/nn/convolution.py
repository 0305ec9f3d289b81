"""Convolutions that stay fast inside scans and under a `vmap` over weights.

XLA's CPU convolutions are fast only at the top level of a program: inside `lax.scan`, or with one weight per task, they are an order
of magnitude slower. As patches and one matrix product they are fast everywhere, so that is what a CPU gets.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


def patches(image: Float[Array, "height width channels"], stride: int) -> Float[Array, "rows columns features"]:
    """All 3x3 neighbourhoods of an image padded by one pixel, each flattened to `9 * channels` numbers."""
    height, width, _ = image.shape
    padded = jnp.pad(image, ((1, 1), (1, 1), (0, 0)))
    # One direction after the other: six slices compile faster than nine, and their derivatives run faster.
    across = jnp.concatenate([padded[:, j : j + width : stride] for j in range(3)], axis=-1)
    return jnp.concatenate([across[i : i + height : stride] for i in range(3)], axis=-1)


class Convolution(eqx.Module):
    """A 3x3 convolution with padding one of a `(height, width, inputs)` image, to `(ceil(height / stride), ..., outputs)`."""

    weight: Float[Array, "features outputs"]
    bias: Float[Array, " outputs"]
    stride: int = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, key: PRNGKeyArray):
        # He initialisation (He et al. 2015), the convention for rectified layers.
        self.weight = jr.normal(key, (9 * inputs, outputs)) * (2.0 / (9 * inputs)) ** 0.5
        self.bias = jnp.zeros(outputs)
        self.stride = stride

    def __call__(self, image: Float[Array, "height width inputs"]) -> Float[Array, "rows columns outputs"]:
        if jax.default_backend() == "cpu":
            return patches(image, self.stride) @ self.weight + self.bias[None, None]
        return self.convolve(image)

    def convolve(self, image: Float[Array, "height width inputs"]) -> Float[Array, "rows columns outputs"]:
        """The same by the backend's own convolution, which accelerators do well."""
        kernel = self.weight.reshape(3, 3, image.shape[-1], -1)
        out = jax.lax.conv_general_dilated(
            image[None], kernel, (self.stride, self.stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return out[0] + self.bias[None, None]


def max_pool(image: Float[Array, "height width channels"]) -> Float[Array, "rows columns channels"]:
    """2x2 max pooling by reshape, dropping an odd last row or column."""
    height, width, channels = image.shape
    even = image[: height // 2 * 2, : width // 2 * 2]
    return even.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3))
