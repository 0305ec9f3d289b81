"""The generalist's loss and its optimiser: what counts, and what decays."""

import dataclasses

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


def test_validation_is_the_mean_loss_on_the_same_windows_of_the_valid_split():
    validate = generalist.validation(PRESET.config, TASKS)
    one = jax.jit(
        lambda key: generalist.loss(NETWORK, TASKS.sample(key, "valid"), None, patches=TASKS.patches, targets=TASKS.targets)[0]
    )
    found = [one(key) for key in jr.split(jr.key(0), generalist._VALIDATED)]
    assert validate(NETWORK) == validate(NETWORK)
    np.testing.assert_allclose(validate(NETWORK), np.mean(found), rtol=1e-4)
    without = dataclasses.replace(TASKS, streams={"train": TASKS.streams["train"]})
    assert generalist.validation(PRESET.config, without) is None
