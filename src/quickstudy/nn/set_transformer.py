"""A transformer over a set of examples, and queries that read it: the order of the support says nothing, and queries never meet.

    support:  x_i <- block(x_i, attending to all known x_j),      queries:  z_m <- block(z_m, attending to all known x_j)

Both pass through the same blocks. A query's features depend on itself and the support alone, so that the support's keys and values
are computed once and serve every query that comes later.

Source: Müller et al. 2022, "Transformers Can Do Bayesian Inference" (there a query attends to itself too).
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from quickstudy.nn.attention import attend
from quickstudy.nn.transformer import Architecture, Block, blocks


class Support(NamedTuple):
    """What every block keeps of a support: keys, values, and which of them are no padding; and the support's own features."""

    keys: Float[Array, "layers support groups size"]
    values: Float[Array, "layers support groups size"]
    known: Bool[Array, " support"]
    features: Float[Array, "support width"]


class SetTransformer(eqx.Module):
    """A transformer without positions, from `width` features to `width` features of each query.

    >>> model = SetTransformer(Architecture(width=8, layers=2, heads=2), key=jax.random.key(0))
    >>> model(jnp.ones((5, 8)), jnp.ones((3, 8))).shape
    (3, 8)
    >>> support = model.remember(jnp.ones((5, 8)))
    >>> model.answer(support, jnp.ones((4, 8))).shape
    (4, 8)
    """

    blocks: Block
    last: eqx.nn.LayerNorm
    architecture: Architecture = eqx.field(static=True)

    def __init__(self, architecture: Architecture, *, key: PRNGKeyArray):
        self.blocks, self.last, self.architecture = blocks(architecture, key), eqx.nn.LayerNorm(architecture.width), architecture

    def __call__(
        self,
        support: Float[Array, "support width"],
        queries: Float[Array, "queries width"],
        known: Bool[Array, " support"] | None = None,
    ) -> Float[Array, "queries width"]:
        """Features of the queries (queries, width), given a support of which `known` is no padding (None: all of it)."""
        return self.answer(self.remember(support, known), queries)

    def remember(self, support: Float[Array, "support width"], known: Bool[Array, " support"] | None = None) -> Support:
        """The keys and values of a support (support, width) in every block, and what becomes of it."""
        known = jnp.ones(support.shape[0], bool) if known is None else known

        def layer(xs, block):
            query, keys, values = self._project(block, xs)
            return block.finish(xs, attend(query, keys, values, jnp.broadcast_to(known[None], 2 * known.shape))), (keys, values)

        xs, (keys, values) = jax.lax.scan(layer, support, self.blocks)
        return Support(keys, values, known, jax.vmap(self.last)(xs))

    def answer(self, support: Support, queries: Float[Array, "queries width"]) -> Float[Array, "queries width"]:
        """Features of the queries (queries, width), given what was kept of a support."""
        allowed = jnp.broadcast_to(support.known[None], (queries.shape[0], support.known.shape[0]))

        def layer(xs, parts):
            block, keys, values = parts
            return block.finish(xs, attend(self._project(block, xs)[0], keys, values, allowed)), None

        xs, _ = jax.lax.scan(layer, queries, (self.blocks, support.keys, support.values))
        return jax.vmap(self.last)(xs)

    def _project(self, block: Block, xs: Float[Array, "ticks width"]) -> tuple[Array, ...]:
        return tuple(part.astype(self.architecture.dtype) for part in block.project(xs))
