"""The generalist's loss and its optimiser: what counts, and what decays."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from quickstudy.algorithms.imitation import generalist

KEY = jr.key(0)
PRESET = generalist.PRESETS["smoke"]
TASKS = PRESET.tasks()
NETWORK = generalist.learner(PRESET.config, TASKS, KEY)


def test_only_what_counts_is_compared_with_the_vocabulary():
    window = TASKS.sample(KEY, "train")
    found, metrics = generalist.loss(NETWORK, window, None, patches=TASKS.patches, targets=TASKS.targets)
    logits = NETWORK.logits(NETWORK.unroll(window.seen, patches=TASKS.length))
    counts = np.asarray(window.counts)
    logs = np.asarray(jax.nn.log_softmax(logits))[counts, np.asarray(window.following)[counts]]
    np.testing.assert_allclose(found, -logs.mean(), rtol=1e-4)
    right = np.asarray(logits).argmax(axis=1)[counts] == np.asarray(window.following)[counts]
    np.testing.assert_allclose(metrics["score"], right.mean(), rtol=1e-5)


def test_matrices_decay_and_norms_and_biases_do_not():
    mask = generalist._matrices(eqx.filter(NETWORK, eqx.is_inexact_array))
    assert mask.embedding is True
    assert mask.body.blocks.expanding is True
    assert mask.patches.stem.weight is True
    assert mask.patches.stem.bias is False
    assert mask.body.blocks.before_attention.weight is False  # one row for each layer
    assert mask.body.last.bias is False
    assert jnp.ndim(NETWORK.body.blocks.before_attention.weight) == 2
