"""A generalist with twice the blocks, to train on: `python -m quickstudy.generalist.deepening OUT` writes such shipped weights.

Each block is followed by a copy of itself that adds nothing yet, since its two ways into the residual stream are zero. So the network
answers as before, and what it learned is not learned again.

Source: Chen, Goodfellow and Shlens 2016, "Net2Net", https://arxiv.org/abs/1511.05641 (a deeper network that is the same function);
copies of trained blocks: Gong et al. 2019, "Efficient Training of BERT by Progressively Stacking".
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from quickstudy.generalist.network import Generalist
from quickstudy.generalist.trained import shipped
from quickstudy.persist import save_tree
from quickstudy.shipped import provenance


def deepen(network: Generalist) -> Generalist:
    """The same function with twice as many blocks, every second of which adds nothing yet.

    >>> from quickstudy.nn.transformer import Architecture
    >>> network = Generalist(10, Architecture(8, layers=2, heads=2), reach=4, channels=4, key=jr.key(0))
    >>> deepen(network).body.architecture.layers
    4
    """
    body, channels = network.body, network.patches.stem.weight.shape[0]
    architecture = dataclasses.replace(body.architecture, layers=2 * body.architecture.layers)
    twice = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), body.blocks)
    silent = [leaf.at[1::2].set(0.0) for leaf in (twice.mixing, twice.contracting)]
    trained = eqx.tree_at(
        lambda n: n.body.blocks, network, eqx.tree_at(lambda block: (block.mixing, block.contracting), twice, silent)
    )
    # Sizes are no leaves: they come with a network that has them, of which nothing else is taken.
    make = lambda key: Generalist(network.embedding.shape[0], architecture, reach=body.reach, channels=channels, key=key)
    deeper: Generalist = jax.tree.unflatten(jax.tree.structure(eqx.filter_eval_shape(make, jr.key(0))), jax.tree.leaves(trained))
    return deeper


def main(arguments: Sequence[str]) -> int:
    """Write the shipped weights with twice the blocks to a new file, which `quickstudy train generalist --start-from` takes."""
    if len(arguments) != 1:
        print("usage: python -m quickstudy.generalist.deepening OUT.safetensors", file=sys.stderr)
        return 2
    path = Path(arguments[0])
    if path.exists():
        print(f"{path} is there already: name a new file", file=sys.stderr)
        return 2
    deeper, facts = deepen(shipped().network), provenance("generalist")
    facts["config"] |= {"layers": deeper.body.architecture.layers}
    save_tree(path, deeper, facts | {"deepened": "each block is followed by a copy of itself that adds nothing"})
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
