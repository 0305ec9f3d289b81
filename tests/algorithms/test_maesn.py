"""MAESN's inner step is the closed form for a Gaussian latent, new tasks begin at the unit Gaussian, and plans are held."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.metarl import maesn
from quickstudy.algorithms.metarl.meta_training import collect
from quickstudy.algorithms.metarl.policy_adaptation import episode_tick, lesson, log_probabilities, with_actor
from quickstudy.core import lifetime
from quickstudy.nn.policies import Gaussian
from quickstudy.tasks import HalfCircle

KEY = jr.key(0)
TASKS = HalfCircle(sparse=False, horizon=5)
CONFIG = maesn.Config(width=4, episodes=6, training_tasks=7, tasks_per_step=3, epochs=1)


def learner(**changes):
    return maesn.learner(maesn.Config(width=4, episodes=6, **changes), TASKS, KEY)


def away(learner):
    """The learner with a latent that is not the unit Gaussian."""
    return eqx.tree_at(
        lambda m: m.player.actor, learner, maesn.with_latent(learner.player.actor, jnp.array([[0.5, -1.0], [0.2, -0.3]]))
    )


def batch(learner, task=None):
    task = TASKS.sample(KEY, "train") if task is None else task
    return eqx.filter_jit(lambda: lesson(collect(learner.player, task, jr.key(1), 6, 5)[0], 0.99))()


def test_the_inner_step_is_the_closed_form_and_leaves_the_policy_alone():
    ours = away(learner(inner_learning_rate=0.7))
    lived = batch(ours)
    after = eqx.filter_jit(ours.improve)(ours.player.actor, lived)
    (mean, log_spread), z = np.asarray(maesn.latent_of(ours.player.actor)), np.asarray(lived.episodes.plans.numbers)[::5]
    gains = np.asarray(lived.gains)[::5]
    gains = (gains - gains.mean()) / gains.std()
    noise = (z - mean) / np.exp(log_spread)
    np.testing.assert_allclose(after.mean, mean + 0.7 * (gains[:, None] * noise / np.exp(log_spread)).mean(0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(after.log_spread, log_spread + 0.7 * (gains[:, None] * (noise**2 - 1)).mean(0), rtol=1e-3, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, after.inner, ours.player.actor.inner)


def test_without_any_reward_the_latent_stays_where_it_is():
    ours = away(learner())
    unreachable = eqx.tree_at(lambda t: t.goal, HalfCircle(horizon=5).sample(KEY, "train"), jnp.array([100.0, 0.0]))
    after = eqx.filter_jit(ours.improve)(ours.player.actor, batch(ours, unreachable))
    jax.tree.map(np.testing.assert_array_equal, after, ours.player.actor)


@pytest.mark.parametrize(("redraw", "distinct"), [("episode", 2), ("tick", 10)])
def test_a_plan_is_held_for_an_episode_or_a_tick(redraw, distinct):
    player = learner(redraw=redraw).player
    plans, fresh = eqx.filter_jit(lifetime)(player, TASKS.sample(KEY, "train"), KEY, steps=10, record=lambda tick: tick.fast)[1]
    assert len({tuple(row) for row in np.asarray(plans).tolist()}) == distinct
    assert np.flatnonzero(fresh).tolist() == ([0, 5] if redraw == "episode" else list(range(10)))


def test_a_fresh_plan_counts_as_a_draw_and_a_held_one_does_not():
    ours = away(learner())
    lived = batch(ours).episodes
    actions = lived.policies.log_probability(lived.responses)
    plans = jax.vmap(Gaussian(*maesn.latent_of(ours.player.actor)).log_probability)(lived.plans.numbers)
    expected = np.where(np.arange(30) % 5 == 0, plans + actions, actions)
    np.testing.assert_allclose(lived.log_probabilities, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(eqx.filter_jit(log_probabilities)(ours.player.actor, lived), expected, rtol=1e-4, atol=1e-4)


def test_the_policy_sees_the_latent():
    player = learner().player
    view = TASKS.sample(KEY, "train").reset(KEY)[1]
    wide = eqx.tree_at(lambda a: a.inner.network.weights[-1], player.actor, jnp.ones((4, 2)))
    plan = player.begin(view, KEY)
    rows = [
        episode_tick(with_actor(player, wide), plan._replace(numbers=z), view, jnp.zeros(2), view) for z in (jnp.zeros(2), jnp.ones(2))
    ]
    assert jnp.max(jnp.abs(rows[0].policies.mean - rows[1].policies.mean)) > 0.01


def test_training_moves_the_latents_of_the_chosen_tasks_and_new_tasks_begin_at_the_unit_gaussian():
    program = maesn.program(CONFIG, TASKS)
    state = eqx.filter_jit(lambda: program.update(program.init(KEY), jr.key(1))[0])()
    trained = program.learner(state)
    moved = np.abs(np.asarray(trained.homes)).max(axis=(1, 2)) > 0
    assert moved.sum() == 3, "three of seven tasks were met"
    np.testing.assert_array_equal(maesn.latent_of(trained.player.actor), np.zeros((2, 2)))
    np.testing.assert_array_equal(maesn.latent_of(maesn.at_home(trained, jnp.int32(2)).player.actor), trained.homes[2])


def test_the_penalty_is_the_divergence_from_the_unit_gaussian():
    mean, spread = 0.3, 2.0
    x = np.linspace(-30, 30, 200_001)
    density = np.exp(-0.5 * ((x - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi))
    logs = -0.5 * ((x - mean) / spread) ** 2 - np.log(spread) + 0.5 * x**2
    by_integration = np.trapezoid(density * logs, x)
    assert float(maesn.from_unit_gaussian(jnp.array([[mean], [np.log(spread)]]))) == pytest.approx(by_integration, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"latent": 0}, "latent must be at least 1, not 0"),
        ({"training_tasks": 5}, "training_tasks must be at least tasks_per_step=20, not 5"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        maesn.Config(**settings)
