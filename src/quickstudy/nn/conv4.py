"""The field's standard small image encoder: four blocks of 3x3 convolution, normalisation and rectifier.

The original (Vinyals et al. 2016) normalises with the statistics of whatever batch is at hand, at test time often of the query set,
so that a prediction depends on which other queries were asked. Ours normalises each example by itself: no query can see another.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.nn.convolution import Convolution, max_pool


class ExampleNorm(eqx.Module):
    """Zero mean and unit variance over all of one example's numbers, then a scale and a shift per channel."""

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]

    def __init__(self, channels: int):
        self.scale, self.shift = jnp.ones(channels), jnp.zeros(channels)

    def __call__(self, x: Float[Array, "height width channels"]) -> Float[Array, "height width channels"]:
        centred = x - jnp.mean(x)
        return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred)) + 1e-5) * self.scale[None, None] + self.shift[None, None]


class Conv4(eqx.Module):
    """`blocks` convolutional blocks over one `(height, width)` image, flattened, then a linear head if `outputs` is given.

    `pool` ends a block by 2x2 max pooling (Snell et al. 2017); without it the convolution strides by two (Finn et al. 2017).
    """

    convolutions: tuple[Convolution, ...]
    norms: tuple[ExampleNorm, ...]
    head: eqx.nn.Linear | None
    pool: bool = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        *,
        channels: int = 64,
        blocks: int = 4,
        pool: bool = False,
        outputs: int | None = None,
        key: PRNGKeyArray,
    ):
        *keys, head_key = jr.split(key, blocks + 1)
        inputs = [1] + [channels] * (blocks - 1)
        stride = 1 if pool else 2
        self.convolutions = tuple(Convolution(i, channels, stride=stride, key=k) for i, k in zip(inputs, keys, strict=True))
        self.norms = tuple(ExampleNorm(channels) for _ in keys)
        self.pool = pool
        for _ in range(blocks):
            size = size // 2 if pool else (size + 1) // 2
        self.head = None if outputs is None else eqx.nn.Linear(size * size * channels, outputs, key=head_key)

    def __call__(self, image: Float[Array, "height width"]) -> Float[Array, " features"]:
        x = image[..., None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = jax.nn.relu(norm(convolution(x)))
            x = max_pool(x) if self.pool else x
        features = jnp.ravel(x)
        return features if self.head is None else self.head(features)
