"""Completion: an image as a function from place to ink, of which some pixels are known and the others are asked for.

Source: Garnelo et al. 2018, "Conditional Neural Processes", section 4.2 (faces and digits).
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from quickstudy.core import AbstractTaskDistribution, Split
from quickstudy.tasks.episode import EpisodeTask


class Completion(AbstractTaskDistribution):
    """Regression episodes over the pixels of one image each, the first query of an episode of `images`, such as glyphs or Omniglot.

    Images are averaged down to `size` times `size` pixels. Support inputs `(shot, 2)` are places in [-1, 1] (down, right), targets
    `(shot, 1)` ink in [0, 1], of which `fewest` to `shot`, few as often as many, are known and the others NaN; queries are all
    `size * size - shot` other pixels; `known`, a number that may be an array, makes just so many known. Latent: the image.

    Raises `ValueError` for sizes that do not fit the images.

    >>> import jax
    >>> from quickstudy.tasks import Glyphs
    >>> tasks = Completion(Glyphs(way=2, shot=1, query=1))
    >>> jax.eval_shape(lambda key: tasks.sample(key, "test"), jax.random.key(0)).query_x.shape
    (96, 2)
    """

    images: AbstractTaskDistribution
    shot: int = eqx.field(static=True, default=100)  # Garnelo et al. 2018: 10 to 1,000 of 28 * 28 and 32 * 32
    fewest: int = eqx.field(static=True, default=5)  # ours
    size: int = eqx.field(static=True, default=14)  # ours: a quarter of the pixels, for a CPU
    known: Int[Array, ""] | None = None  # as in training

    def __check_init__(self) -> None:
        for name, value, least, most in (
            ("fewest", self.fewest, 1, self.shot),
            ("shot", self.shot, 1, self.size**2 - 1),
        ):
            if not least <= value <= most:
                raise ValueError(f"{name} must be {least} to {most} here, not {value}")

    def sample(self, key: PRNGKeyArray, split: Split) -> EpisodeTask:
        image_key, place_key, count_key = jr.split(key, 3)
        episode = self.images.sample(image_key, split)
        if not isinstance(episode, EpisodeTask) or episode.query_x.ndim != 3 or episode.query_x.shape[1] % self.size:
            raise ValueError(f"images must be episodes of images whose sides are a multiple of size, {self.size}")
        block = episode.query_x.shape[1] // self.size
        image = jnp.mean(episode.query_x[0].reshape(self.size, block, self.size, block), axis=(1, 3))
        order = jr.permutation(place_key, self.size**2)
        places = jnp.stack(jnp.divmod(order, self.size), axis=1) / (self.size - 1) * 2 - 1
        ink = image.ravel()[order][:, None]
        # As many support sets have few pixels as have many: the fifth pixel says more than the hundredth.
        drawn = self.fewest * ((self.shot + 1) / self.fewest) ** jr.uniform(count_key)
        known = jnp.arange(self.shot) < (drawn.astype(jnp.int32) if self.known is None else self.known)
        support_y = jnp.where(known[:, None], ink[: self.shot], jnp.nan)
        return EpisodeTask(places[: self.shot], support_y, places[self.shot :], ink[self.shot :], {"image": image}, outputs=1)
