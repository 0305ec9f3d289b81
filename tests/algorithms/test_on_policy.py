"""The on-policy methods climb the probe ladder to known values and actions, and their parts obey their identities."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms.probes import DISCOUNT, LADDER, Probes, actor_and_critic, check_rung, climb, ladder

from quickstudy.algorithms.rl import a2c, ppo, rollouts, trpo
from quickstudy.algorithms.rl.actor_critic import EVERYTHING, actor_critic, inputs
from quickstudy.nn.memory import GRU
from quickstudy.outer import flatten
from quickstudy.tasks import BernoulliBandit

KEY = jr.key(0)
SHARED = {"lives": 8, "ticks": 16, "discount": DISCOUNT, "decay": 0.9, "width": 16}
# method -> its settings and outer steps on the ladder
CLIMBERS = {
    ppo: (ppo.Config(**SHARED, epochs=4, minibatches=2, learning_rate=0.01, entropy=0.0, anneal=150), 150),
    a2c: (a2c.Config(**SHARED, learning_rate=0.01, entropy=0.0, anneal=300), 300),
    trpo: (trpo.Config(**SHARED, epochs=4, minibatches=2, learning_rate=0.01, delta=0.03, anneal=100), 100),
}
NAMES = [method.__name__.rpartition(".")[2] for method in CLIMBERS]


@pytest.fixture(scope="module", params=CLIMBERS, ids=NAMES)
def climbed(request):
    config, steps = CLIMBERS[request.param]
    return climb(lambda tasks: request.param.program(config, tasks), actor_and_critic, steps, KEY)


@pytest.mark.parametrize("rung", LADDER)
def test_on_policy_methods_find_the_known_values_and_actions(climbed, rung):
    check_rung(rung, *climbed)


def gathered(config, tasks, learner):
    """The first window of a new agent."""
    settings = rollouts.settings(config)

    def first():
        state = rollouts.begin(settings, tasks, learner, None, KEY)
        return rollouts.gather(settings, tasks, state, KEY)[:2]

    return eqx.filter_jit(first)()


WINDOW = a2c.Config(lives=4, ticks=5, width=3, sees="everything", horizon=10, across_episodes=True)


@pytest.fixture(scope="module", params=["without memory", "with memory"])
def window(request):
    """An agent in bandits, its first window and what the critic counts in."""
    tasks = BernoulliBandit(arms=3)
    if request.param == "with memory":
        size, _ = inputs(tasks, EVERYTHING)
        learner = actor_critic(tasks, GRU(size, 3, key=KEY), 3, (), reads=EVERYTHING, key=KEY)
    else:
        learner = a2c.learner(WINDOW, tasks, KEY)
    state, batch = gathered(WINDOW, tasks, learner)
    return learner, state, batch


def test_the_first_gradient_of_ppo_is_that_of_a2c(window):
    learner, state, batch = window

    def gradients(learner):
        of = lambda loss, config: eqx.filter_grad(lambda agent: loss(agent, batch, config, state.values)[0])(learner)
        return of(a2c.policy_loss, WINDOW), of(ppo.surrogate, ppo.Config(normalise_advantages=False))

    ours, theirs = (jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in eqx.filter_jit(gradients)(learner))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_a_second_window_of_a_life_starts_with_the_memory_of_the_first(window):
    learner, state, first = window

    def again(learner):
        _, second, _ = rollouts.gather(rollouts.settings(WINDOW), BernoulliBandit(arms=3), state, jr.key(1))
        return second, jax.vmap(learner.unroll)(second.memories, second.views)[1]

    second, values = eqx.filter_jit(again)(learner)
    for before, after in zip(jax.tree.leaves(first.memories), jax.tree.leaves(second.memories), strict=True):
        assert not np.asarray(before).any()
        assert np.asarray(after).all()
    # Read again, the window is judged as it was while it was lived.
    np.testing.assert_allclose(values * state.values.deviation + state.values.mean, second.values, rtol=1e-4, atol=1e-6)


def test_a_sweep_over_settings_and_switches_is_a_vmap():
    tasks = Probes(jax.tree.map(lambda leaf: leaf[4], ladder()))
    base = dataclasses.replace(CLIMBERS[ppo][0], epochs=1)
    first = {"clip": 0.2, "divergence": 0.0, "anneal": 0, "orthogonal": True, "clip_values": False, "scale_rewards": False}
    other = {"clip": 1e9, "divergence": 1.0, "anneal": 3, "orthogonal": False, "clip_values": True, "scale_rewards": True}

    def weights(settings):
        program = ppo.program(dataclasses.replace(base, **settings), tasks)
        state = program.update(program.init(KEY), KEY)[0]
        return program.learner(program.update(state, KEY)[0]).actor.weights[0]

    swept = {name: jnp.array([first[name], other[name]], bool if isinstance(first[name], bool) else float) for name in first}
    together = eqx.filter_jit(jax.vmap(weights))(swept)
    np.testing.assert_allclose(together[1], eqx.filter_jit(weights)(other), rtol=1e-3, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


# --- TRPO's parts --------------------------------------------------------------------------------------------------------------------


def test_fisher_products_are_those_of_the_divergence_s_second_derivative(window):
    learner, _, batch = window
    weights, shaped = flatten(learner)
    policies_of = lambda w: jax.vmap(shaped(w).unroll)(batch.memories, batch.views)[0]
    vector = jr.normal(KEY, weights.shape)

    def both(weights):
        divergence = lambda w: jnp.mean(policies_of(weights).divergence(policies_of(w)))
        # The second derivative's product with a vector: the derivative of the slope along it.
        return trpo.fisher_information(policies_of, weights)(vector), jax.jvp(jax.grad(divergence), (weights,), (vector,))[1]

    ours, exact = eqx.filter_jit(both)(weights)
    assert np.abs(exact).max() > 1e-3
    np.testing.assert_allclose(ours, exact, rtol=1e-3, atol=1e-5)


def test_conjugate_gradient_solves_a_dense_system():
    root = jr.normal(KEY, (6, 6))
    matrix, target = root @ root.T + jnp.eye(6), jr.normal(jr.key(1), (6,))
    found = eqx.filter_jit(trpo.conjugate_gradient)(lambda x: matrix @ x, target, 8)
    np.testing.assert_allclose(found, jnp.linalg.solve(matrix, target), rtol=1e-3, atol=1e-4)


def test_a_step_of_trpo_raises_the_surrogate_and_stays_within_its_bound():
    config = CLIMBERS[trpo][0]
    tasks = Probes(jax.tree.map(lambda leaf: leaf[4], ladder()))
    learner = trpo.learner(config, tasks, KEY)
    _, batch = gathered(config, tasks, learner)

    def step(delta):
        stepped, metrics = trpo.step_policy(dataclasses.replace(config, delta=delta), learner, batch)
        policies = jax.vmap(stepped.unroll)(batch.memories, batch.views)[0]
        return jnp.mean(batch.policies.divergence(policies)), metrics, stepped.critic

    deltas = np.array([1e-3, 1e-2], np.float32)
    realised, metrics, critics = eqx.filter_jit(jax.vmap(step))(jnp.asarray(deltas))
    # The bound is nearly used up: the step is a quadratic approximation, damped.
    assert (realised > 0.3 * deltas).all()
    assert (realised <= deltas).all()
    np.testing.assert_allclose(realised, metrics["divergence"], rtol=1e-3)
    assert (metrics["loss"] < 0).all()
    for before, after in zip(learner.critic.weights, critics.weights, strict=True):
        np.testing.assert_array_equal(jnp.stack([before] * 2), after)


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        (ppo, {"horizon": 100}, "horizon must be a multiple of ticks"),
        (a2c, {"across_episodes": True}, "across_episodes needs a horizon"),
    ],
)
def test_lives_that_cannot_be_lived_are_refused(method, settings, said):
    with pytest.raises(ValueError, match=said):
        method.Config(**settings)


def test_minibatches_that_leave_some_out_are_refused():
    with pytest.raises(ValueError, match="minibatches must divide the 10 sequences of a window, not 3"):
        rollouts.minibatches(10, 1, 3, KEY)
