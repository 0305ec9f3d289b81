"""In-context regression: a life read at once is the life lived; linear attention is a gradient step; a trained layer is attention."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.incontext import dual_form, icl_dual_gd, icl_regression
from quickstudy.algorithms.references import OneGradientStep
from quickstudy.core import lifetime
from quickstudy.tasks import LinearRegression, Sinusoid
from quickstudy.tasks.streams import StreamTask

KEY = jr.key(0)
TASKS = LinearRegression(dimensions=3, examples=6)


@eqx.filter_jit
def at_once(who, x, y):
    return who.unroll(x, y)


@eqx.filter_jit
def predictions(who, task):
    return lifetime(who, task, KEY, steps=task.x.shape[0], record=lambda tick: tick.response)[1]


@pytest.fixture(scope="module")
def transformer():
    return icl_regression.learner(icl_regression.Config(width=8, layers=2, heads=2), TASKS, KEY)


@pytest.fixture(scope="module")
def attention():
    return icl_dual_gd.learner(icl_dual_gd.Config(size=1.0, momentum=0.7), TASKS, KEY)


# --- Read at once, or lived ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformer", "attention"])
def test_a_life_read_at_once_is_the_life_lived(name, request):
    who, task = request.getfixturevalue(name), TASKS.sample(KEY, "train")
    np.testing.assert_allclose(at_once(who, task.x, task.y), predictions(who, task), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["transformer", "attention"])
def test_a_target_is_known_only_after_its_tick(name, request):
    who, task = request.getfixturevalue(name), TASKS.sample(KEY, "train")
    before, after = at_once(who, task.x, task.y), at_once(who, task.x, task.y.at[2].add(3.0))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert (np.abs(before[3:] - after[3:]) > 1e-6).all()


@pytest.mark.parametrize("module", [icl_regression, icl_dual_gd, dual_form])
def test_episodes_are_refused(module):
    with pytest.raises(TypeError, match=r"wrap episodes in tasks\.Stream"):
        module.learner(module.Config(), Sinusoid(), KEY)


# --- Linear attention is a gradient step --------------------------------------------------------------------------------------------


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def test_constructed_attention_is_one_gradient_step_exactly():
    with jax.enable_x64(True):
        x, y, start = numbers(0, 7, 4), numbers(1, 7, 1), numbers(2, 4)
        told = np.asarray(at_once(icl_dual_gd.one_gradient_step(start, 0.13), x, y))
        assert told.dtype == np.float64
        slope = jax.jit(jax.grad(lambda w, x, y: jnp.sum((x @ w - y[:, 0]) ** 2) / 2))
        for n in (0, 1, 6):
            np.testing.assert_allclose(told[n, 0], (start - 0.13 * slope(start, x[:n], y[:n])) @ x[n], rtol=1e-12)
    assert icl_dual_gd.deviation(seed=0) < 1e-12


def test_one_gradient_step_of_the_references_is_a_constructed_layer_at_each_length():
    task, step = TASKS.sample(KEY, "train"), OneGradientStep(3, 1 / 3, 0.5)
    told = predictions(step, task)
    for n in (1, 5):
        layer = icl_dual_gd.one_gradient_step(jnp.zeros(3), step.rate(jnp.float32(n)))
        np.testing.assert_allclose(at_once(layer, task.x, task.y)[n], told[n], rtol=1e-4)


def test_rescaled_layers_are_the_same_learner(attention):
    task = TASKS.sample(KEY, "train")
    scaled = eqx.tree_at(lambda layer: (layer.query, layer.key), attention, (2 * attention.query, attention.key / 2))
    np.testing.assert_allclose(at_once(scaled, task.x, task.y), at_once(attention, task.x, task.y), rtol=1e-4, atol=1e-5)


# --- A trained layer is attention ---------------------------------------------------------------------------------------------------


def test_the_dual_form_is_the_layer_through_all_its_training():
    with jax.enable_x64(True):
        x, y, start, rate = numbers(0, 30, 4), numbers(1, 30, 2), numbers(2, 2, 4), 0.1
        who = dual_form.DualLayer(start, jnp.log(rate), capacity=30)
        told = predictions(who, StreamTask(x, y, None))
        weights = np.asarray(start)
        for pattern, target, said in zip(np.asarray(x), np.asarray(y), np.asarray(told), strict=True):
            np.testing.assert_allclose(said, weights @ pattern, rtol=1e-10)
            weights = weights + rate * np.outer(target - weights @ pattern, pattern)


def test_beyond_its_capacity_the_dual_form_forgets_the_oldest():
    x, y = jnp.eye(3), jnp.ones((3, 1))
    who = dual_form.DualLayer(jnp.zeros((1, 3)), jnp.log(jnp.float32(0.5)), capacity=2)
    fast = who.begin(x[0], KEY)
    for i in range(3):
        fast = who.observe(fast, x[i], who.respond(fast, x[i], KEY), y[i], KEY)
    assert [float(who.respond(fast, x[i], KEY)[0]) for i in range(3)] == [0.0, 0.5, 0.5]


def test_both_layers_of_a_network_are_attention_to_their_training():
    with jax.enable_x64(True):
        x, y = numbers(0, 6, 4, 5), jnp.asarray(np.random.default_rng(1).integers(0, 10, (6, 4)), jnp.int32)
        start = (numbers(2, 5, 7), numbers(3, 7, 10))
        after, traces = dual_form.train_network(start, x, y, 0.1)
        new = numbers(4, 5)
        sums, hidden, logits = dual_form.layers(after, new[None])
        read = dual_form.attend_to_training
        np.testing.assert_allclose(new @ start[0] + read(new, traces.inputs[0], traces.errors[0]), sums[0], rtol=1e-10)
        np.testing.assert_allclose(hidden[0] @ start[1] + read(hidden[0], traces.inputs[1], traces.errors[1]), logits[0], rtol=1e-10)
        assert traces.labels.tolist() == y.ravel().tolist()
        assert float(jnp.abs(after[0] - start[0]).max()) > 1e-3


def test_training_in_sequence_shows_one_half_first():
    labels = np.arange(100) % 10
    order = dual_form.in_order(labels, True, 7, np.random.default_rng(0))
    assert order.shape == (7, 20)
    assert labels[order[:3]].max() < 5 <= labels[order[3:]].min()
    assert len(np.unique(labels[dual_form.in_order(labels, False, 7, np.random.default_rng(0))])) == 10
