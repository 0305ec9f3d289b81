"""Deeper networks to train on: what is the same at first, and what can be learned."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.generalist import deepening
from quickstudy.generalist.network import Generalist, Seen
from quickstudy.generalist.trained import shipped
from quickstudy.nn.transformer import Architecture
from quickstudy.persist import load_tree, read_arrays

NETWORK = Generalist(7, Architecture(8, layers=2, heads=2, gated=True), reach=6, channels=4, key=jr.key(0))
SEEN = Seen(jnp.arange(6), jnp.arange(6), jnp.zeros((6, 16, 16, 3), jnp.uint8), jnp.zeros((6, 2, 2), jnp.uint8), jnp.arange(6) == 0)


def read(network):
    return network.unroll(SEEN, patches=1)


def test_the_deeper_network_is_the_same_function_and_every_new_block_can_learn():
    deeper = deepening.deepen(NETWORK)
    np.testing.assert_array_equal(read(deeper), read(NETWORK))
    slopes = eqx.filter_grad(lambda network: jnp.sum(read(network) ** 3))(deeper).body.blocks
    assert np.all(np.abs(slopes.mixing).max(axis=(1, 2, 3)) > 0) and np.all(np.abs(slopes.contracting).max(axis=(1, 2)) > 0)


def test_the_file_begins_a_run_and_says_where_it_comes_from(tmp_path):
    path = tmp_path / "deep.safetensors"
    assert deepening.main([str(path)]) == 0
    network, (_, facts) = shipped().network, read_arrays(path)
    deeper, _ = load_tree(path, deepening.deepen(network))
    assert facts["config"]["layers"] == deeper.body.architecture.layers == 2 * network.body.architecture.layers
    assert jax.tree.leaves(deeper)[0].shape == network.embedding.shape and "copy" in facts["deepened"]


@pytest.mark.parametrize("arguments", [[], ["one", "two"], ["here"]])
def test_what_it_cannot_do_is_a_sentence_and_nothing_is_written_over(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("kept")
    assert deepening.main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1 and (tmp_path / "here").read_text() == "kept"
