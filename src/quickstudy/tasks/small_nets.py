"""Small networks learning real digits: objectives as an optimiser meets them in practice, noisy and not convex.

The parameters are the weights of a perceptron, the loss its cross-entropy on a fresh minibatch of 8x8 handwritten digits.
After Andrychowicz et al. 2016, section 3.2: one hidden layer of 20 sigmoid units, minibatches of 128 (there MNIST, here the 1,797
digits that come with scikit-learn). The splits own disjoint images; initial weights are drawn afresh for every life.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.objective import AbstractObjective

Activation = Literal["sigmoid", "relu", "tanh"]
_FUNCTIONS: dict[Activation, Callable[[Array], Array]] = {"sigmoid": jax.nn.sigmoid, "relu": jax.nn.relu, "tanh": jnp.tanh}


class Weights(NamedTuple):
    """The parameters of a perceptron, one entry per layer."""

    matrices: tuple[Float[Array, "inputs outputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]


class SmallNet(AbstractObjective):
    """A network of the given `widths` and the examples it learns; each loss is taken on `batch` of them, drawn with replacement."""

    images: Float[Array, "examples pixels"]
    labels: Int[Array, " examples"]
    initial_scale: Float[Array, ""]
    widths: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    batch: int = eqx.field(static=True)

    def initial(self, key: PRNGKeyArray) -> Weights:
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        drawn, matrices = self.initial_scale * jr.normal(key, (sum(i * o for i, o in pairs),)), []
        for inputs, outputs in pairs:
            # Standard deviation 1 / sqrt(inputs) (LeCun et al. 1998) for every activation, so that the activation is all that changes.
            matrices.append(drawn[: inputs * outputs].reshape(inputs, outputs) / inputs**0.5)
            drawn = drawn[inputs * outputs :]
        return Weights(tuple(matrices), tuple(jnp.zeros(o) for o in self.widths[1:]))

    def loss(self, parameters: Weights, key: PRNGKeyArray) -> Float[Array, ""]:
        chosen = jr.randint(key, (self.batch,), 0, self.labels.shape[0])
        logits = self.predict(parameters, self.images[chosen])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, self.labels[chosen]))

    def predict(self, parameters: Weights, images: Float[Array, "n pixels"]) -> Float[Array, "n classes"]:
        """The network's logits."""
        x, activate = images, _FUNCTIONS[self.activation]
        for matrix, bias in zip(parameters.matrices[:-1], parameters.biases[:-1], strict=True):
            x = activate(x @ matrix + bias[None])
        return x @ parameters.matrices[-1] + parameters.biases[-1][None]


class SmallNets(AbstractTaskDistribution):
    """Perceptrons on scikit-learn's handwritten digits, pixels in [0, 1]; "out-of-range" starts from larger weights.

    `hidden` are the widths of the hidden layers; every task learns its own `examples` images, drawn from its split's images.
    Raises `ImportError` without scikit-learn, and `ValueError` for an unknown activation or sizes that do not fit.

    >>> import jax
    >>> task = SmallNets(hidden=(5,)).sample(jax.random.key(0), "test")
    >>> [matrix.shape for matrix in task.initial(jax.random.key(0)).matrices]
    [(64, 5), (5, 10)]
    """

    images: Float[Array, "all pixels"]
    labels: Int[Array, " all"]
    hidden: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    examples: int = eqx.field(static=True)
    out_of_range_scale: float

    def __init__(
        self,
        *,
        hidden: tuple[int, ...] = (20,),  # Andrychowicz et al. 2016
        activation: Activation = "sigmoid",  # Andrychowicz et al. 2016
        batch: int = 128,  # Andrychowicz et al. 2016
        examples: int = 256,  # ours: a task of 64 kB, so that tasks stack
        out_of_range_scale: float = 3.0,  # ours: saturates a good part of the sigmoids
    ):
        if activation not in get_args(Activation):
            raise ValueError(f"activation must be one of {get_args(Activation)}, not {activation!r}")
        if not hidden or min(hidden) < 1 or batch < 1:
            raise ValueError(f"hidden widths and batch must be at least 1, not hidden={hidden} and batch={batch}")
        if not 1 <= examples <= _OWNED["test"].stop - _OWNED["test"].start:
            raise ValueError(f"examples must be between 1 and 360, the images of the test split, not {examples}")
        self.images, self.labels = _load_digits()
        self.hidden, self.activation, self.batch, self.examples = tuple(hidden), activation, batch, examples
        self.out_of_range_scale = out_of_range_scale

    def sample(self, key: PRNGKeyArray, split: Split) -> SmallNet:
        far = split == "out-of-range"
        owned = _OWNED["test" if far else split]
        chosen = owned.start + jr.permutation(key, owned.stop - owned.start)[: self.examples]
        scale = jnp.asarray(self.out_of_range_scale if far else 1.0, jnp.float32)
        widths = (self.images.shape[1], *self.hidden, 10)
        return SmallNet(self.images[chosen], self.labels[chosen], scale, widths, self.activation, self.batch)


# Three fifths of the shuffled images for training, a fifth for validation, a fifth for the test.
_OWNED: dict[Split, slice] = {"train": slice(0, 1077), "valid": slice(1077, 1437), "test": slice(1437, 1797)}


def _load_digits() -> tuple[Float[Array, "all pixels"], Int[Array, " all"]]:
    """The 1,797 digits in a fixed random order, so that no writer (the source is sorted by writer) belongs to one split only."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("SmallNets needs scikit-learn for its digits: pip install 'quickstudy[tasks]'") from error
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return jnp.asarray(images[order] / 16, jnp.float32), jnp.asarray(labels[order], jnp.int32)
