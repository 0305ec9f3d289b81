"""Few-shot learners are what their equations say: closed forms, identities between methods, and invariances."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from quickstudy.algorithms.fewshot import anil, cnp, finetune, fomaml, imaml, maml, matching_nets, meta_sgd, protonet, reptile
from quickstudy.algorithms.fewshot.adaptation import query_loss, support_loss
from quickstudy.core import AbstractTaskDistribution, lifetime, nothing
from quickstudy.outer import descend
from quickstudy.tasks import EpisodeTask, Sinusoid
from quickstudy.tasks.class_episodes import ClassCounts, class_episode, draw_classes

KEY = jr.key(0)
WAVES = Sinusoid(shot=4, query=6)


class Clusters(AbstractTaskDistribution):
    """Classes of points in four dimensions, each about a place of its own."""

    way: int = eqx.field(static=True, default=3)
    shot: int = eqx.field(static=True, default=2)

    def sample(self, key, split):
        class_key, noise_key = jr.split(key)
        classes = draw_classes(class_key, ClassCounts(20, 10, 10).ids(split, self.way), self.way, shuffle_labels=True)
        centres = jax.vmap(lambda c: jr.normal(jr.fold_in(jr.key(7), c), (4,)))(classes)
        points = centres[:, None] + 0.3 * jr.normal(noise_key, (self.way, self.shot + 2, 4))
        return class_episode(points, classes, self.shot)


def flat(tree):
    return ravel_pytree(eqx.filter(tree, eqx.is_inexact_array))[0]


def adapted(learner, task, steps=1):
    return eqx.filter_jit(lifetime)(learner, task, KEY, steps=steps, record=nothing)[0].fast


def answers(learner, task):
    return learner.respond(learner.begin(task.view(), KEY), task.view(), KEY)


def reordered(task, order):
    return eqx.tree_at(lambda t: (t.support_x, t.support_y), task, (task.support_x[order], task.support_y[order]))


def one_update(program):
    """The states before and after one outer step."""
    before = program.init(KEY)
    return before, eqx.filter_jit(program.update)(before, jr.key(1))[0]


# --- By optimisation ----------------------------------------------------------------------------------------------------------------


def regression(features=2):
    """A linear network and an episode of five points with one target each."""
    x, y, net_key = jr.normal(KEY, (5, features)), jr.normal(jr.key(1), (5, 1)), jr.key(2)
    return eqx.nn.Linear(features, 1, key=net_key), EpisodeTask(x, y, x, y, None, outputs=1)


def design(task):
    """The support inputs with a column of ones, for the bias."""
    return np.concatenate([np.asarray(task.support_x, float), np.ones((5, 1))], axis=1)


def weights(model):
    return np.asarray(jnp.concatenate([model.weight, model.bias[None]], axis=1)[0], float)


def test_one_step_on_a_linear_network_is_the_closed_form():
    net, task = regression()
    x, theta = design(task), weights(net)
    step = 0.1 * 2 / 5 * x.T @ (x @ theta - np.asarray(task.support_y[:, 0]))
    np.testing.assert_allclose(weights(adapted(maml.MAML(net, 0.1), task)), theta - step, rtol=1e-4, atol=1e-6)


def test_a_zero_rate_never_adapts():
    learner = maml.learner(maml.Config(width=4, inner_learning_rate=0.0), WAVES, KEY)
    curve = np.asarray(lifetime(learner, WAVES.sample(KEY, "test"), KEY, steps=4)[1])
    np.testing.assert_array_equal(curve, np.full(4, curve[0]))


def test_a_sweep_of_rates_equals_each_rate_alone():
    learner, task = maml.learner(maml.Config(width=4), WAVES, KEY), WAVES.sample(KEY, "test")
    with_rate = lambda rate: eqx.tree_at(lambda tree: tree.inner_learning_rate, learner, rate)
    curve = lambda rate: lifetime(with_rate(rate), task, KEY, steps=3)[1]
    rates = [0.001, 0.1]
    np.testing.assert_allclose(jax.vmap(curve)(jnp.array(rates)), jnp.stack([curve(rate) for rate in rates]), rtol=1e-4)


def test_a_rate_that_is_an_array_is_not_a_slow_weight():
    learner, task = maml.learner(maml.Config(width=4), WAVES, KEY), WAVES.sample(KEY, "train")
    learner = eqx.tree_at(lambda tree: tree.inner_learning_rate, learner, jnp.asarray(0.1))
    loss = lambda tree: query_loss(eqx.tree_at(lambda t: t.model, tree, lifetime(tree, task, KEY, steps=2)[0].fast), task, KEY)[0]
    gradient = eqx.filter_grad(loss)(learner)
    assert float(gradient.inner_learning_rate) == 0
    assert float(jnp.abs(flat(gradient.model)).sum()) > 0


@pytest.mark.parametrize("steps", [0, 2])
def test_first_order_maml_parts_from_maml_as_soon_as_there_is_an_inner_step(steps):
    config = maml.Config(width=4, inner_learning_rate=0.1, inner_steps=steps, tasks_per_step=2)
    exact, first = (flat(one_update(method.program(config, WAVES))[1].optimizer) for method in (maml, fomaml))
    apart = float(jnp.linalg.norm(exact - first) / jnp.linalg.norm(exact))
    assert apart < 1e-5 if steps == 0 else apart > 1e-2


def test_one_step_of_reptile_on_all_examples_is_joint_training():
    """phi - theta = -alpha grad L: Reptile with one full-batch step is descent with rate epsilon alpha."""
    config = reptile.Config(width=4, inner_steps=1, batch=1_000, inner_learning_rate=0.02, outer_learning_rate=0.5, tasks_per_step=3)

    def joint_loss(learner, task, key):
        x, y = (jnp.concatenate(pair) for pair in ((task.support_x, task.query_x), (task.support_y, task.query_y)))
        return jnp.mean((jax.vmap(learner.model)(x) - y) ** 2), {}

    joint = descend(
        joint_loss, WAVES, optax.sgd(0.5 * 0.02), learner=lambda key: reptile.learner(config, WAVES, key), tasks_per_step=3
    )
    (start, by_reptile), (same_start, by_joint) = one_update(reptile.program(config, WAVES)), one_update(joint)
    np.testing.assert_array_equal(flat(start.learner), flat(same_start.learner))
    moves = [flat(after.learner.model) - flat(start.learner.model) for after in (by_reptile, by_joint)]
    assert float(jnp.linalg.norm(moves[1])) > 1e-4
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-3, atol=1e-6)
    # From the second step on, it is something else.
    longer = one_update(reptile.program(dataclasses.replace(config, inner_steps=2), WAVES))[1]
    assert float(jnp.linalg.norm(flat(longer.learner.model) - flat(start.learner.model) - 2 * moves[1])) > 1e-4


def anil_step(part):
    learner = anil.learner(anil.Config(width=4, part=part, inner_learning_rate=0.1), WAVES, KEY)
    task = WAVES.sample(KEY, "train")
    return learner, task, adapted(learner, task)


def test_anil_leaves_the_body_alone():
    learner, _, after = anil_step("head")
    np.testing.assert_array_equal(flat(after.body), flat(learner.model.body))
    assert not np.array_equal(after.weight, learner.model.weight)
    assert not np.array_equal(after.bias, learner.model.bias)


def test_adapting_biases_changes_vectors_and_nothing_else():
    learner, _, after = anil_step("biases")
    for old, new in zip(jax.tree.leaves(learner.model), jax.tree.leaves(after), strict=True):
        assert np.array_equal(old, new) == (old.ndim > 1)


def test_adapting_everything_is_maml():
    learner, task, after = anil_step("all")
    by_maml = adapted(maml.MAML(learner.model, 0.1), task)
    np.testing.assert_allclose(flat(after), flat(by_maml), rtol=1e-5)


def test_an_unknown_part_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="part must be one of head, biases, all, not 'tail'"):
        anil.learner(anil.Config(part="tail"), WAVES, KEY)


def test_meta_sgd_with_equal_rates_is_maml_and_with_zero_rates_stays():
    learner, task = meta_sgd.learner(meta_sgd.Config(width=4, initial_rate=0.05), WAVES, KEY), WAVES.sample(KEY, "train")
    by_maml = adapted(maml.MAML(learner.model, 0.05), task, steps=2)
    np.testing.assert_allclose(flat(adapted(learner, task, steps=2)), flat(by_maml), rtol=1e-5)
    # A weight whose rate is zero does not move; the others do.
    still = eqx.tree_at(lambda tree: tree.rates.weights[0], learner, jnp.zeros_like(learner.model.weights[0]))
    after = adapted(still, task)
    np.testing.assert_array_equal(after.weights[0], learner.model.weights[0])
    assert not np.array_equal(after.weights[1], learner.model.weights[1])


def test_the_gradient_of_the_proximal_problem_is_its_derivative():
    model, anchor = (maml.learner(maml.Config(width=4), WAVES, jr.key(seed)).model for seed in (0, 1))
    view = WAVES.sample(KEY, "train").view()
    objective = lambda m: support_loss(m, view) + 3.0 / 2 * jnp.sum((flat(m) - flat(anchor)) ** 2)
    expected = flat(eqx.filter_grad(objective)(model))
    np.testing.assert_allclose(flat(imaml.proximal_gradient(model, anchor, view, 3.0)), expected, rtol=1e-4, atol=1e-5)


def proximal(net, rate, strength):
    learner = imaml.learner(imaml.Config(width=4), WAVES, KEY)
    return eqx.tree_at(lambda tree: (tree.model, tree.inner_learning_rate, tree.strength), learner, (net, rate, strength))


def test_implicit_maml_reaches_ridge_regression_about_its_slow_weights():
    net, task = regression()
    x, theta, strength = design(task), weights(net), 0.5
    moved = np.linalg.solve(2 / 5 * x.T @ x + strength * np.eye(3), 2 / 5 * x.T @ (np.asarray(task.support_y[:, 0]) - x @ theta))
    phi = weights(adapted(proximal(net, 0.2, strength), task, steps=300))
    np.testing.assert_allclose(phi, theta + moved, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strength", [1e2, 1e4])
def test_a_strong_proximal_term_holds_the_weights_where_they_are(strength):
    net, task = regression()
    phi = adapted(proximal(net, 0.5 / strength, strength), task, steps=60)
    slope = jnp.linalg.norm(flat(eqx.filter_grad(support_loss)(net, task.view())))
    distance = float(jnp.linalg.norm(flat(phi) - flat(net)))
    # At the optimum strength (phi - theta) = -grad L(phi), and the gradient only shrinks on the way there.
    assert 0.5 * float(slope) / strength < distance <= 1.01 * float(slope) / strength


# --- Fine-tuning --------------------------------------------------------------------------------------------------------------------


def test_classification_starts_from_uniform_predictions():
    learner = finetune.learner(finetune.Config(width=4, classes=20), Clusters(), KEY)
    np.testing.assert_array_equal(answers(learner, Clusters().sample(KEY, "test")), jnp.zeros((6, 3)))
    np.testing.assert_array_equal(answers(learner, Clusters(way=5).sample(KEY, "test")), jnp.zeros((10, 5)))


def test_joint_training_sees_class_ids_and_not_an_episodes_labels():
    task, learner = Clusters().sample(KEY, "train"), finetune.learner(finetune.Config(width=4, classes=20), Clusters(), KEY)
    new = jnp.array([2, 0, 1], jnp.int32)
    renamed = EpisodeTask(
        task.support_x, new[task.support_y], task.query_x, new[task.query_y], {"classes": task.latent["classes"][jnp.argsort(new)]}, 3
    )
    np.testing.assert_array_equal(finetune.joint_loss(learner, task, KEY)[0], finetune.joint_loss(learner, renamed, KEY)[0])
    swapped = eqx.tree_at(lambda t: t.latent["classes"], task, task.latent["classes"][new])
    assert float(finetune.joint_loss(learner, swapped, KEY)[0]) != float(finetune.joint_loss(learner, task, KEY)[0])


@pytest.mark.parametrize(("tasks", "classes"), [(Clusters(), 0), (WAVES, 5)], ids=["classification", "regression"])
def test_a_number_of_classes_that_does_not_suit_the_tasks_is_refused(tasks, classes):
    with pytest.raises(ValueError, match=f"classes must be positive for classification and 0 for regression, not {classes}"):
        finetune.learner(finetune.Config(classes=classes), tasks, KEY)


# --- By metric ----------------------------------------------------------------------------------------------------------------------


def embedding(outputs=3):
    return eqx.nn.MLP(4, outputs, 5, 1, activation=jnp.tanh, key=KEY)


def prototypes():
    return protonet.ProtoNet(embedding())


def matching(sharpness=10.0, full_context=False):
    cells = tuple(eqx.nn.LSTMCell(3, 3, key=key) for key in jr.split(KEY))
    return matching_nets.MatchingNet(embedding(), cells if full_context else None, jnp.log(jnp.asarray(sharpness)))


SHUFFLED = jnp.array([3, 0, 5, 1, 4, 2])


@pytest.mark.parametrize("make", [prototypes, matching])
def test_the_order_of_the_support_set_does_not_matter(make):
    task = Clusters().sample(KEY, "test")
    np.testing.assert_allclose(answers(make(), reordered(task, SHUFFLED)), answers(make(), task), rtol=1e-4, atol=1e-5)


def test_full_context_reads_the_support_set_in_order():
    task = Clusters().sample(KEY, "test")
    learner = matching(full_context=True)
    assert float(jnp.abs(answers(learner, reordered(task, SHUFFLED)) - answers(learner, task)).max()) > 1e-3


@pytest.mark.parametrize("make", [prototypes, matching])
def test_renaming_the_classes_renames_the_answers(make):
    task, new = Clusters().sample(KEY, "test"), jnp.array([2, 0, 1], jnp.int32)
    renamed = eqx.tree_at(lambda t: t.support_y, task, new[task.support_y])
    np.testing.assert_allclose(answers(make(), renamed)[:, new], answers(make(), task), rtol=1e-4, atol=1e-5)


def test_a_prototypical_network_is_a_linear_classifier_of_its_embedding():
    """-|f - c|^2 = 2 c.f - |c|^2 - |f|^2, and the last term is the same for every class (Snell et al. 2017, section 2.4)."""
    task, learner = Clusters().sample(KEY, "test"), prototypes()
    c, f = learner.begin(task.view(), KEY), jax.vmap(learner.embedding)(task.query_x)
    linear = f @ (2 * c).T - jnp.sum(c**2, axis=1)[None]
    difference = np.asarray(answers(learner, task) - linear)
    np.testing.assert_allclose(difference, np.broadcast_to(-np.sum(np.asarray(f) ** 2, axis=1, keepdims=True), (6, 3)), atol=1e-5)


def test_prototypes_are_class_means_and_with_one_shot_the_embeddings_themselves():
    learner = prototypes()
    one, two = Clusters(shot=1).sample(KEY, "test"), Clusters(shot=2).sample(KEY, "test")
    np.testing.assert_allclose(learner.begin(one.view(), KEY), jax.vmap(learner.embedding)(one.support_x), rtol=1e-5)
    means = jax.vmap(learner.embedding)(two.support_x).reshape(3, 2, 3).mean(axis=1)
    np.testing.assert_allclose(learner.begin(two.view(), KEY), means, rtol=1e-5)


def test_a_class_is_judged_alike_among_few_and_among_many():
    """Another way than the one trained on: the logits of two classes do not depend on the other three."""
    many = Clusters(way=5).sample(KEY, "test")
    few = EpisodeTask(many.support_x[:4], many.support_y[:4], many.query_x, many.query_y, None, outputs=2)
    np.testing.assert_allclose(answers(prototypes(), many)[:, :2], answers(prototypes(), few), rtol=1e-4, atol=1e-5)


def test_squared_distances_are_what_they_say():
    a, b = jr.normal(KEY, (3, 4)), jr.normal(jr.key(1), (2, 4))
    by_hand = [[float(jnp.sum((x - y) ** 2)) for y in b] for x in a]
    np.testing.assert_allclose(protonet.squared_distances(a, b), by_hand, rtol=1e-4)


@pytest.mark.parametrize("full_context", [False, True])
def test_matching_probabilities_sum_to_one(full_context):
    logits = answers(matching(full_context=full_context), Clusters().sample(KEY, "test"))
    np.testing.assert_allclose(jnp.exp(logits).sum(axis=1), jnp.ones(6), rtol=1e-5)


def test_a_query_that_is_a_support_example_gets_its_class():
    task = Clusters().sample(KEY, "test")
    same = eqx.tree_at(lambda t: t.query_x, task, task.support_x)
    chosen = jnp.exp(answers(matching(sharpness=1e4), same))[jnp.arange(6), task.support_y]
    assert float(chosen.min()) > 0.99


def test_without_sharpness_every_class_is_as_likely_as_it_is_frequent():
    task = Clusters().sample(KEY, "test")
    lopsided = eqx.tree_at(lambda t: t.support_y, task, jnp.array([0, 0, 0, 1, 1, 2], jnp.int32))
    expected = np.broadcast_to([1 / 2, 1 / 3, 1 / 6], (6, 3))
    np.testing.assert_allclose(jnp.exp(answers(matching(sharpness=1e-6), lopsided)), expected, rtol=1e-4)


# --- By black box -------------------------------------------------------------------------------------------------------------------


def test_a_neural_process_reads_a_set():
    task, learner = WAVES.sample(KEY, "test"), cnp.learner(cnp.Config(width=8), WAVES, KEY)
    np.testing.assert_allclose(
        answers(learner, reordered(task, jnp.array([2, 0, 3, 1]))), answers(learner, task), rtol=1e-4, atol=1e-6
    )
    # An average: every example twice is the same set.
    twice = reordered(task, jnp.array([0, 1, 2, 3, 0, 1, 2, 3]))
    np.testing.assert_allclose(answers(learner, twice), answers(learner, task), rtol=1e-4, atol=1e-6)


def test_the_likelihood_is_a_gaussians_and_its_deviation_has_a_floor():
    task, learner = WAVES.sample(KEY, "test"), cnp.learner(cnp.Config(width=8), WAVES, KEY)
    mean, deviation = (np.asarray(x, float) for x in learner.predictive(learner.begin(task.view(), KEY), task.view()))
    density = -((np.asarray(task.query_y) - mean) ** 2) / (2 * deviation**2) - np.log(deviation) - np.log(2 * np.pi) / 2
    np.testing.assert_allclose(cnp.likelihood_loss(learner, task, KEY)[0], -density.mean(), rtol=1e-4)
    sure = eqx.tree_at(lambda tree: tree.decoder.biases[-1], learner, jnp.array([0.0, -50.0]))
    _, floor = sure.predictive(sure.begin(task.view(), KEY), task.view())
    np.testing.assert_allclose(floor, np.full((6, 1), 0.1), rtol=1e-5)
    assert (deviation > 0.1).all()


def test_a_neural_process_refuses_labels():
    with pytest.raises(ValueError, match="cnp predicts floating-point targets; these tasks have class labels"):
        cnp.learner(cnp.Config(), Clusters(), KEY)
