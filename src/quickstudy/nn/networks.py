"""The network that a few-shot method adapts or embeds with, chosen by name and built to fit an episode."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.nn.conv4 import Conv4
from quickstudy.nn.mlp import MLP

Kind = Literal["mlp", "conv4", "conv4-stride"]


def network(kind: Kind, example_shape: tuple[int, ...], width: int, outputs: int | None, *, key: PRNGKeyArray) -> eqx.Module:
    """A network from one example to `outputs` numbers (to `width` or more features if `outputs` is None).

    "mlp" has two hidden layers of `width` units (the second is the features); "conv4" four pooled blocks of `width` channels and
    "conv4-stride" four strided ones, both for square images. Raises `ValueError` if the kind is unknown or does not fit the examples.
    """
    if kind == "mlp":
        inputs = 1
        for size in example_shape:
            inputs *= size
        return MLP((inputs, width, width) if outputs is None else (inputs, width, width, outputs), key=key)
    if kind not in ("conv4", "conv4-stride"):
        raise ValueError(f'network must be "mlp", "conv4" or "conv4-stride", not {kind!r}')
    if len(example_shape) != 2 or example_shape[0] != example_shape[1] or example_shape[0] < 16:
        raise ValueError(f"network {kind!r} needs square images of at least 16 pixels, not examples of shape {example_shape}")
    return Conv4(example_shape[0], channels=width, pool=kind == "conv4", outputs=outputs, key=key)


class Glance(eqx.Module):
    """What is seen of an image at a fraction of its resolution: means of squares of pixels, of zero mean and unit variance."""

    square: int = eqx.field(static=True)

    def __call__(self, image: Float[Array, "height width"]) -> Float[Array, " seen"]:
        rows, columns = (side // self.square for side in image.shape)
        seen = jnp.mean(image.reshape(rows, self.square, columns, self.square), axis=(1, 3)).ravel()
        centred = seen - jnp.mean(seen)
        return centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred)) + 1e-5)


class WithHead(eqx.Module):
    """A body and a linear head as one network, for methods that treat the two differently."""

    body: eqx.Module
    weight: Float[Array, "features outputs"]
    bias: Float[Array, " outputs"]

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, " outputs"]:
        return jax.nn.relu(self.body(x)) @ self.weight + self.bias  # type: ignore[operator]


def with_head(kind: Kind, example_shape: tuple[int, ...], width: int, outputs: int, *, key: PRNGKeyArray) -> WithHead:
    """A `network` of features and a linear head of `outputs` numbers on their rectified values."""
    body_key, head_key = jr.split(key)
    body = network(kind, example_shape, width, None, key=body_key)
    features = jax.eval_shape(body, jax.ShapeDtypeStruct(example_shape, jnp.float32)).shape[0]  # type: ignore[arg-type]
    # Unit variance at the outputs (LeCun initialisation): nothing rectifies them.
    weight = jr.normal(head_key, (features, outputs)) / features**0.5
    return WithHead(body, weight, jnp.zeros(outputs))
