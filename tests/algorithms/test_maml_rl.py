"""Policy adaptation: the derivative of its inner step is the exact one, and a life takes the same step as training does."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from algorithms import tiny_mdp

from quickstudy.algorithms.metarl import maml_rl
from quickstudy.algorithms.metarl.meta_training import Schedule, Trial, collect, practise
from quickstudy.algorithms.metarl.policy_adaptation import (
    Episodes,
    Lesson,
    Player,
    actor,
    horizon,
    lesson,
    linear_baseline,
    surrogate,
)
from quickstudy.core import End, lifetime
from quickstudy.nn.policies import Categorical
from quickstudy.tasks import BernoulliBandit, HalfCircle, Sinusoid
from quickstudy.tasks.control import ControlView, Discrete

KEY = jr.key(0)
RATE = 0.8


# --- The estimator, against exact enumeration ---------------------------------------------------------------------------------------


def tiny_learner(credit):
    player = Player(tiny_mdp.quarters(), Discrete(2), ("observation",))
    return maml_rl.MAMLRL(player=player, inner_learning_rate=RATE, ticks=32, discount=1.0, credit=credit)


@eqx.filter_jit
def estimated_gradient(credit):
    """The expected gradient of the loss, for a batch that holds every trajectory as often as expected, before and after the step."""
    learner = tiny_learner(credit)
    before = tiny_mdp.lesson(learner.player.actor, tiny_mdp.EVERY_TRAJECTORY)
    phi = learner.improve(learner.player.actor, before)
    inner = jax.tree.map(lambda leaf: leaf[None], before)

    def total(learner):
        trials = [Trial(inner, tiny_mdp.lesson(phi, [trajectory]), jnp.zeros(())) for trajectory in tiny_mdp.TRAJECTORIES]
        weights = [jax.lax.stop_gradient(tiny_mdp.probability(phi, trajectory)) for trajectory in tiny_mdp.TRAJECTORIES]
        # The surrogate is a mean over two ticks, the return a sum.
        return sum(-2 * w * maml_rl.loss(learner, trial, clip=0.3) for w, trial in zip(weights, trials, strict=True))

    return eqx.filter_grad(total)(learner).player.actor.logits


@eqx.filter_jit
def exact_gradient():
    """The gradient of the return after a step up the mean return per tick, by differentiating the sums themselves."""

    def after(policy):
        slope = jax.grad(tiny_mdp.value)(policy)
        return tiny_mdp.value(jax.tree.map(lambda p, g: p + RATE * g / 2, policy, slope))

    return jax.grad(after)(tiny_mdp.quarters()).logits


def test_the_meta_gradient_is_exact_on_a_world_that_can_be_listed():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        exact = exact_gradient()
        np.testing.assert_allclose(estimated_gradient("full"), exact, atol=1e-12)
        # Less credit is not a smaller number but another direction: the test above can fail.
        for biased in ("none", "low-variance"):
            assert jnp.max(jnp.abs(estimated_gradient(biased) - exact)) > 0.05


def test_every_credit_takes_the_same_step():
    batch = tiny_mdp.lesson(tiny_mdp.quarters(), [(0, 1), (1, 1), (1, 0)])
    step = eqx.filter_jit(lambda credit: tiny_learner(credit).improve(tiny_mdp.quarters(), batch).logits)
    steps = [step(credit) for credit in ("full", "low-variance", "none")]
    np.testing.assert_allclose(steps[0], steps[2], atol=1e-6)
    np.testing.assert_allclose(steps[1], steps[2], atol=1e-6)


def test_the_credit_of_an_episode_does_not_reach_into_the_next():
    policy, trajectories = tiny_mdp.quarters(), [(0, 1), (1, 1), (1, 0)]
    curvature = jax.jit(lambda lesson: jax.hessian(lambda logits: surrogate(tiny_mdp.Table(logits), lesson, "full"))(policy.logits))
    alone = [curvature(tiny_mdp.lesson(policy, [trajectory])) for trajectory in trajectories]
    np.testing.assert_allclose(curvature(tiny_mdp.lesson(policy, trajectories)), sum(alone) / 3, atol=1e-5)


# --- Lessons ------------------------------------------------------------------------------------------------------------------------


judge = eqx.filter_jit(lesson)


def lived(rewards, ends, seen=None):
    n = len(rewards)
    seen = jnp.zeros((n, 1)) if seen is None else seen
    none, plans, policies = jnp.zeros(n), tiny_mdp.no_plans(n), Categorical(jnp.zeros((n, 2)))
    return Episodes(seen, plans, jnp.zeros(n, jnp.int32), jnp.array(rewards), jnp.array(ends, jnp.int32), policies, none)


def test_gains_are_returns_within_episodes_of_which_time_and_place_explain_nothing():
    # Two episodes of two ticks; where time and place tell nothing apart (here: they are all the same), only the mean is taken off.
    judged = judge(lived([1.0, 0.0, 5.0], [int(End.TERMINATED)] * 3), discount=0.5)
    expected = (np.array([1.0, 0.0, 5.0]) - 2) / np.std([1.0, 0.0, 5.0])
    np.testing.assert_allclose(judged.gains, expected, atol=1e-3)


def test_the_baseline_explains_what_place_and_time_do():
    ends = [0, 0, 0, 2, 0, 0, 0, 2]
    place = jr.normal(KEY, (8, 1))
    batch = lived([0.0] * 8, ends, place)
    time = jnp.array([1.0, 2, 3, 4] * 2)
    total = 3 * place[:, 0] + place[:, 0] ** 2 - 2 * time + 0.1 * time**3 + 7
    np.testing.assert_allclose(jax.jit(linear_baseline)(batch, total), total, atol=0.05)


def test_the_last_episode_counts_as_far_as_it_was_lived():
    judged = judge(lived([1.0, 2.0], [0, 0]), discount=1.0)
    assert judged.episodes.ends.tolist() == [End.RUNNING, End.TRUNCATED]


# --- Lives --------------------------------------------------------------------------------------------------------------------------

TASKS = HalfCircle(horizon=5)
CONFIG = maml_rl.Config(width=4, episodes=3)


def point_learner():
    return maml_rl.learner(CONFIG, TASKS, KEY)


def test_a_batch_is_episodes_times_the_time_limit():
    assert (horizon(TASKS), point_learner().ticks) == (5, 15)
    assert horizon(BernoulliBandit()) == 1
    assert horizon(HalfCircle(shaped=True, horizon=7)) == 7


def test_tasks_without_a_time_limit_are_refused():
    with pytest.raises(TypeError, match="tasks must have episodes with a time limit, not be EpisodeTask"):
        horizon(Sinusoid())


def test_a_life_takes_the_inner_step_that_training_takes_from_the_same_episodes():
    learner, task = point_learner(), HalfCircle(sparse=False, horizon=5).sample(KEY, "train")
    batch = eqx.filter_jit(collect)(learner.player, task, jr.key(1), 3, 5)[0]
    trained = eqx.filter_jit(lambda batch: learner.improve(learner.player.actor, lesson(batch, learner.discount)))(batch)

    def tick(fast, row):
        view = ControlView(row.seen, jnp.zeros(2), jnp.zeros(()), jnp.int32(0))
        feedback = ControlView(row.seen, row.responses, row.rewards, row.ends)
        return learner.observe(fast, view, row.responses, feedback, KEY), None

    born = learner.begin(task.reset(KEY)[1], KEY)
    fast = eqx.filter_jit(lambda: jax.lax.scan(tick, born, batch)[0])()
    np.testing.assert_array_equal(fast.batch.seen, batch.seen)
    moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))), trained, learner.player.actor)
    assert max(jax.tree.leaves(moved)) > 0.01
    for ours, theirs in zip(jax.tree.leaves(fast.player.actor), jax.tree.leaves(trained), strict=True):
        # The two programs solve the baseline's least squares in single precision, each in its own order.
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def changes(task, ticks):
    """Whether the actor changed with each tick of a life."""
    learner = point_learner()
    record = lambda tick: tick.fast.player.actor
    actors = eqx.filter_jit(lifetime)(learner, task, KEY, steps=ticks, record=record)[1]
    flat = np.concatenate([np.asarray(leaf).reshape(ticks, -1) for leaf in jax.tree.leaves(actors)], axis=1)
    return (np.diff(flat, axis=0) != 0).any(axis=1)


def test_the_policy_changes_when_a_batch_is_full_and_only_then():
    changed = changes(HalfCircle(sparse=False, horizon=5).sample(KEY, "train"), 33)
    # The fast state that gives the response of tick 15 is the first to have seen a whole batch.
    assert np.flatnonzero(changed).tolist() == [14, 29]


def test_without_any_reward_nothing_changes_at_all():
    unreachable = eqx.tree_at(lambda task: task.goal, TASKS.sample(KEY, "train"), jnp.array([100.0, 0.0]))
    assert not changes(unreachable, 33).any()


def test_tasks_with_nothing_to_see_are_refused():
    with pytest.raises(ValueError, match="no observation"):
        actor(BernoulliBandit(), "observation", 4, 1.0, key=KEY)


def test_the_lesson_of_a_trial_has_the_shapes_it_says():
    learner = point_learner()
    judged = judge(eqx.filter_jit(collect)(learner.player, TASKS.sample(KEY, "train"), KEY, 3, 5)[0], 0.99)
    assert isinstance(judged, Lesson)
    assert judged.gains.shape == (15,)
    assert (np.asarray(judged.episodes.ends).reshape(3, 5)[:, -1] == End.TRUNCATED).all()


def test_inner_steps_learn_from_what_is_seen_and_what_follows_is_judged_by_what_counts():
    shaped = HalfCircle(shaped=True, horizon=5)
    live = eqx.filter_jit(lambda task: practise(point_learner(), task, KEY, Schedule(1, 3, 1, 1), 5))
    trial = live(shaped.sample(KEY, "train"))
    assert (np.asarray(trial.inner.episodes.rewards) >= 0).all(), "sparse rewards are not negative"
    assert (np.asarray(trial.last.episodes.rewards) < 0).all(), "minus a distance is"
    assert float(trial.surplus) == pytest.approx(float(trial.last.episodes.rewards.mean()))
