"""Layers compute what their names say, by whatever path is fast."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from quickstudy.core import count_floats
from quickstudy.nn.conv4 import Conv4, ExampleNorm
from quickstudy.nn.convolution import Convolution, max_pool, patches
from quickstudy.nn.mlp import MLP
from quickstudy.nn.networks import network, with_head

KEY = jr.key(0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(6, 6), (7, 5)], ids=["even", "odd"])
def test_patches_equal_the_backends_convolution(stride, shape):
    layer = Convolution(3, 4, stride=stride, key=KEY)
    layer = eqx.tree_at(lambda c: c.bias, layer, jnp.arange(4.0))
    image = jr.normal(KEY, (*shape, 3))
    by_patches = patches(image, stride) @ layer.weight + layer.bias[None, None]
    assert by_patches.shape == (-(-shape[0] // stride), -(-shape[1] // stride), 4)
    np.testing.assert_allclose(by_patches, layer.convolve(image), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(image), by_patches, rtol=1e-4, atol=1e-5)


def test_a_convolution_that_only_looks_at_the_centre_is_the_identity():
    layer = Convolution(2, 2, key=KEY)
    centre = jnp.zeros((3, 3, 2, 2)).at[1, 1].set(jnp.eye(2)).reshape(18, 2)
    image = jr.normal(KEY, (4, 5, 2))
    np.testing.assert_array_equal(eqx.tree_at(lambda c: c.weight, layer, centre)(image), image)


@pytest.mark.parametrize("shape", [(4, 6), (5, 3)])
def test_pooling_takes_the_maximum_of_every_whole_square(shape):
    image = np.asarray(jr.normal(KEY, (*shape, 2)))
    rows, columns = shape[0] // 2, shape[1] // 2
    squares = [[image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max(axis=(0, 1)) for j in range(columns)] for i in range(rows)]
    np.testing.assert_array_equal(max_pool(jnp.asarray(image)), np.array(squares))


def test_example_norm_has_zero_mean_and_unit_variance_then_scales_and_shifts_each_channel():
    x = 7 + 3 * jr.normal(KEY, (5, 4, 3))
    plain = ExampleNorm(3)
    np.testing.assert_allclose([plain(x).mean(), plain(x).var()], [0, 1], atol=1e-4)
    scale, shift = jnp.array([1.0, 2.0, -1.0]), jnp.array([0.0, 5.0, 1.0])
    changed = eqx.tree_at(lambda n: (n.scale, n.shift), plain, (scale, shift))
    np.testing.assert_allclose(changed(x), plain(x) * scale[None, None] + shift[None, None], atol=1e-5)


def test_one_image_of_a_batch_does_not_see_the_others():
    net = Conv4(16, channels=2, outputs=3, key=KEY)
    batch = jr.normal(KEY, (3, 16, 16))
    apply = jax.jit(jax.vmap(net))
    np.testing.assert_array_equal(apply(batch)[0], apply(batch.at[1:].multiply(100.0))[0])


def test_constant_images_give_finite_values_and_gradients():
    net = Conv4(16, channels=2, outputs=1, key=KEY)
    values, gradient = jax.jit(jax.value_and_grad(lambda image: net(image)[0]))(jnp.zeros((16, 16)))
    assert bool(jnp.isfinite(values))
    assert bool(jnp.isfinite(gradient).all())


@pytest.mark.parametrize(("size", "pool", "side"), [(28, True, 1), (28, False, 2), (17, True, 1), (33, False, 3)])
def test_conv4_fits_even_and_odd_images(size, pool, side):
    """Pooling halves and drops the odd row, striding halves and keeps it."""
    shape = jax.ShapeDtypeStruct((size, size), jnp.float32)
    assert jax.eval_shape(Conv4(size, channels=3, pool=pool, key=KEY), shape).shape == (side * side * 3,)
    assert jax.eval_shape(Conv4(size, channels=3, pool=pool, outputs=4, key=KEY), shape).shape == (4,)


def test_mlp_computes_what_its_weights_say():
    net = MLP((2, 3, 1), key=KEY)
    x = jnp.array([0.5, -1.0])
    hidden = np.maximum(np.asarray(x) @ np.asarray(net.weights[0]) + np.asarray(net.biases[0]), 0)
    np.testing.assert_allclose(net(x), hidden @ np.asarray(net.weights[1]) + np.asarray(net.biases[1]), rtol=1e-5)
    assert count_floats(net) == 2 * 3 + 3 + 3 + 1
    bounds = [2**-0.5, 3**-0.5]
    assert all(float(jnp.abs(weight).max()) <= bound for weight, bound in zip(net.weights, bounds, strict=True))


def test_mlp_flattens_images():
    net = network("mlp", (4, 3), 5, 2, key=KEY)
    image = jr.normal(KEY, (4, 3))
    np.testing.assert_array_equal(net(image), net(image.ravel()))
    assert network("mlp", (4, 3), 5, None, key=KEY)(image).shape == (5,)


def test_a_head_reads_rectified_features():
    net = with_head("mlp", (3,), 4, 2, key=KEY)
    x = jr.normal(KEY, (3,))
    np.testing.assert_allclose(net(x), jnp.maximum(net.body(x), 0) @ net.weight + net.bias, rtol=1e-6)
    assert net.weight.shape == (4, 2)


@pytest.mark.parametrize("shape", [(28,), (28, 27), (8, 8), (28, 28, 3)])
def test_images_that_a_convolution_cannot_take_are_refused(shape):
    with pytest.raises(ValueError, match="needs square images of at least 16 pixels, not examples of shape"):
        network("conv4", shape, 4, 2, key=KEY)


def test_an_unknown_network_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match='network must be "mlp", "conv4" or "conv4-stride", not \'resnet\''):
        network("resnet", (28, 28), 4, 2, key=KEY)
