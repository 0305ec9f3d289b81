"""Points move as they are told, are rewarded for what the sources reward, and push blocks as geometry says."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import AbstractLearner, End, lifetime, sample_tasks
from quickstudy.tasks import HalfCircle, PointGoals, Pushing
from quickstudy.tasks.point_navigation import PointTask, ShapedPoint, at_angle
from quickstudy.tasks.pushing import BLOCK, PUSHER, PushingTask, push_apart

KEY = jr.key(0)


def draw(tasks, split, n=400):
    return eqx.filter_jit(sample_tasks)(tasks, KEY, split, n)


class Towards(AbstractLearner):
    """Walks straight to a place, from an observation that begins with its own position."""

    place: jax.Array

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return (self.place - view.observation[:2]) / 0.1

    def observe(self, fast, view, response, feedback, key):
        return None


@eqx.filter_jit
def walk(task, place, steps):
    record = lambda tick: (tick.score, tick.end, tick.feedback.observation)
    return lifetime(Towards(place), task, KEY, steps=steps, record=record)[1]


# --- Navigation ---------------------------------------------------------------------------------------------------------------------


def test_walking_to_a_dense_goal_earns_minus_the_distance_and_ends_there():
    task = PointTask(jnp.array([0.3, 0.0]), sparse=False, radius=0.2, arrival=0.01, horizon=100)
    rewards, ends, seen = map(np.asarray, walk(task, task.goal, 4))
    np.testing.assert_allclose(seen[:, 0], [0.1, 0.2, 0.3, 0.1], atol=1e-6)
    np.testing.assert_allclose(rewards, [-0.2, -0.1, 0.0, -0.2], atol=1e-6)
    assert ends.tolist() == [0, 0, End.TERMINATED, 0]


def test_a_sparse_goal_pays_only_within_its_radius_and_does_not_end_the_episode():
    task = PointTask(jnp.array([0.0, 1.0]), sparse=True, radius=0.2, arrival=0.0, horizon=20)
    rewards, ends, _ = map(np.asarray, walk(task, task.goal, 20))
    # After k ticks the point is at k / 10; from the ninth tick on it is nearer than 0.2, and from the tenth on it is there.
    np.testing.assert_allclose(rewards[[0, 5, 6]], 0.0)
    np.testing.assert_allclose(rewards[8:], [0.9] + [1.0] * 11, atol=1e-5)
    assert ends.tolist() == [0] * 19 + [End.TRUNCATED]


def test_a_sparse_goal_is_the_dense_one_where_it_pays():
    sparse, dense = (PointTask(jnp.array([0.1, 0.1]), sparse=s, radius=0.2, arrival=0.0, horizon=20) for s in (True, False))
    states = jr.uniform(KEY, (300, 2), minval=-0.5, maxval=0.5)
    paid, cost = (jax.vmap(lambda state, task=task: task.act(state, jnp.zeros(2), KEY)[1])(states) for task in (sparse, dense))
    near = np.asarray(cost) > -0.2
    assert 0 < near.sum() < 300
    np.testing.assert_allclose(paid, np.where(near, 1 + np.asarray(cost), 0.0), atol=1e-6)


def test_long_steps_are_cut():
    task = PointTask(jnp.ones(2), sparse=False, radius=0.2, arrival=0.0, horizon=20)
    np.testing.assert_allclose(task.act(jnp.zeros(2), jnp.array([3.0, -0.5]), KEY)[0], [0.1, -0.05], atol=1e-7)


def test_goals_lie_where_the_sources_put_them():
    square = np.asarray(draw(PointGoals(), "test").goal)
    assert np.abs(square).max() <= 0.5
    # The deviation of a uniform number is its range / sqrt(12); of the mean of 400, a twentieth of that.
    np.testing.assert_allclose(square.std(axis=0), 1 / math.sqrt(12), atol=0.03)
    ring = np.linalg.norm(draw(PointGoals(), "out-of-range").goal, axis=-1)
    assert ring.min() > math.sqrt(0.5), "outside the square's corners"
    half, other = (np.asarray(draw(HalfCircle(), split).goal) for split in ("train", "out-of-range"))
    np.testing.assert_allclose(np.linalg.norm(half, axis=-1), 1.0, atol=1e-6)
    assert (half[:, 1] > 0).all()
    assert (other[:, 1] < 0).all()
    assert abs(half[:, 0].mean()) < 5 * math.sqrt(0.5 / 400), "as often left as right"


# --- Pushing ------------------------------------------------------------------------------------------------------------------------

push = jax.jit(push_apart)
CONTACT = PUSHER + BLOCK


def overlaps(pusher, blocks):
    """The deepest overlap of any two discs."""
    from_pusher = CONTACT - np.linalg.norm(blocks - pusher, axis=-1)
    between = 2 * BLOCK - np.linalg.norm(blocks[:, None] - blocks[None], axis=-1) - 9 * np.eye(len(blocks))
    return max(from_pusher.max(), between.max())


def test_a_pushed_block_moves_along_the_line_between_the_centres_until_it_just_touches():
    normal = np.array([math.cos(0.3), math.sin(0.3)])
    pusher = np.array([0.2, -0.1])
    blocks = jnp.asarray(np.stack([pusher + 0.1 * normal, [1.0, 1.0]]), jnp.float32)
    after = np.asarray(push(jnp.asarray(pusher, jnp.float32), blocks))
    np.testing.assert_allclose(after[0], pusher + CONTACT * normal, atol=1e-6)
    np.testing.assert_array_equal(after[1], blocks[1], err_msg="a block that nothing touches stays")


def test_a_row_of_blocks_is_pushed_as_a_row():
    blocks = jnp.array([[0.1, 0.0], [0.3, 0.0], [0.5, 0.0], [0.8, 0.0]])
    after = push(jnp.zeros(2), blocks)
    # The first comes to 0.15, the next two 0.2 behind each other; the last is 0.1 away from the third's surface.
    np.testing.assert_allclose(after, [[0.15, 0.0], [0.35, 0.0], [0.55, 0.0], [0.8, 0.0]], atol=1e-6)


def test_two_blocks_side_by_side_part_in_mirror_images():
    after = np.asarray(push(jnp.zeros(2), jnp.array([[0.1, 0.09], [0.1, -0.09]])))
    np.testing.assert_allclose(after[0], after[1] * [1, -1], atol=1e-6)
    assert overlaps(np.zeros(2), after) < 1e-5


@pytest.fixture(scope="module")
def pushed():
    """Fifty tables, on each of which the pusher runs at one block for forty ticks: the pusher and the blocks after every tick."""
    tasks = draw(Pushing(blocks=6), "train", 50)

    def run(task, key):
        def tick(state, noise):
            aim = 5 * (state.blocks[0] - state.pusher) + noise
            after = task.act(state, aim, key)[0]
            return after, after

        return jax.lax.scan(tick, task.begin(key), jr.uniform(key, (40, 2), minval=-0.7, maxval=0.7))[1]

    return tasks, jax.tree.map(np.asarray, eqx.filter_jit(eqx.filter_vmap(run))(tasks, jr.split(KEY, 50)))


def test_no_overlap_remains_and_some_blocks_were_pushed_by_others(pushed):
    tasks, tables = pushed
    worst = max(overlaps(pusher, blocks) for life in zip(*tables, strict=True) for pusher, blocks in zip(*life, strict=True))
    assert worst < 1e-5
    moved = np.abs(tables.blocks[:, -1] - np.asarray(tasks.blocks)).max(axis=-1) > 0
    assert moved[:, 0].all(), "the block that was aimed at"
    assert moved[:, 1:].any(), "another one, by contact"
    assert not moved[:, 1:].all(), "most are never touched, and stay where they are, bit for bit"


def turned(angle, flip):
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return turn @ np.diag([1.0, flip])


@pytest.mark.parametrize("turn", [turned(0.7, 1.0), turned(0.0, -1.0), turned(2.0, -1.0)], ids=["turned", "mirrored", "both"])
def test_a_turned_or_mirrored_table_behaves_alike(turn):
    task = jax.tree.map(lambda leaf: leaf[0], draw(Pushing(blocks=5), "train", 2))
    other = PushingTask(
        *(jnp.asarray(x @ turn.T, jnp.float32) for x in (task.blocks,)), task.rewarded, jnp.asarray(turn @ task.goal), True, 50
    )
    block = np.asarray(task.blocks[task.rewarded])
    # At less than full speed, because the limit of each coordinate is a square, which does not turn.
    aims = np.linspace(0.6, 0.9, 12)[:, None] * (block / np.linalg.norm(block) + [0.05, -0.03]) / 1.1

    def run(task, aims):
        step = lambda state, aim: (lambda after, reward, _: (after, (after, reward)))(*task.act(state, aim, KEY))
        return jax.lax.scan(step, task.begin(KEY), aims)[1]

    (tables, rewards), (others, same) = (
        eqx.filter_jit(run)(t, jnp.asarray(a, jnp.float32)) for t, a in ((task, aims), (other, aims @ turn.T))
    )
    assert np.abs(np.asarray(rewards)).max() > 0.01, "the block was pushed"
    np.testing.assert_allclose(same, rewards, atol=1e-5)
    np.testing.assert_allclose(others.blocks, np.asarray(tables.blocks) @ turn.T, atol=1e-5)


def line_task(sparse, rewarded):
    blocks = jnp.array([[0.5, 0.0], [0.0, 0.5]])
    return PushingTask(blocks, jnp.int32(rewarded), jnp.array([1.0, 0.0]), sparse, 50)


def test_sparse_rewards_are_the_rewarded_blocks_progress_and_nothing_else():
    rewards, ends, seen = map(np.asarray, walk(line_task(sparse=True, rewarded=0), jnp.array([0.85, 0.0]), 10))
    # The pusher touches the block at 0.35: after three ticks it is at 0.3, and at the fourth it pushes by 0.05.
    np.testing.assert_allclose(rewards, [0, 0, 0, 0.05, 0.1, 0.1, 0.1, 0.1, 0.05, 0.0], atol=1e-5)
    assert set(ends.tolist()) == {End.RUNNING}
    np.testing.assert_allclose(rewards.sum(), 0.5 - (1.0 - seen[-1, 2]), atol=1e-5)
    wrong = np.asarray(walk(line_task(sparse=True, rewarded=1), jnp.array([0.85, 0.0]), 10)[0])
    np.testing.assert_array_equal(wrong, 0.0, err_msg="pushing the wrong block is worth nothing")


def test_dense_rewards_name_both_distances():
    rewards, _, seen = map(np.asarray, walk(line_task(sparse=False, rewarded=1), jnp.array([0.85, 0.0]), 10))
    to_goal, to_block = math.hypot(1.0, 0.5), np.hypot(seen[:, 0], 0.5)
    np.testing.assert_allclose(rewards, -to_goal - to_block, atol=1e-5)


def test_tables_begin_without_contact_and_every_block_may_be_the_right_one():
    drawn = jax.tree.map(np.asarray, draw(Pushing(blocks=10), "test"))
    assert max(overlaps(np.zeros(2), places) for places in drawn.blocks) < 0
    assert set(drawn.rewarded.tolist()) == set(range(10))
    assert np.ptp(np.linalg.norm(drawn.goal, axis=-1)) < 0.2 + 1e-6
    assert np.linalg.norm(draw(Pushing(), "out-of-range").goal, axis=-1).min() >= 1.2 - 1e-6


def test_worlds_can_be_looked_at():
    task = line_task(sparse=True, rewarded=1)
    world = task.reset(KEY)[0]
    rows = task.text(world).splitlines()
    # 17 rows and 35 columns of 3.4 by 3.4: the origin is in the middle, half a unit is 2.4 rows or 5 columns.
    assert rows[8] == " " * 17 + "@" + " " * 4 + "o" + " " * 4 + "!"
    assert rows[6] == " " * 17 + "*"
    assert len(np.unique(task.image(world).reshape(-1, 3), axis=0)) == 5, "table, goal, two kinds of block, pusher"
    point = PointTask(at_angle(jnp.zeros(())), sparse=True, radius=0.2, arrival=0.0, horizon=20)
    moved = point.reset(KEY)[0]._replace(state=jnp.array([0.5, 0.0]))
    assert point.text(moved).splitlines()[6] == " " * 13 + "+" + " " * 4 + "@" + " " * 4 + "!"
    assert len(np.unique(point.image(moved).reshape(-1, 3), axis=0)) == 4


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Pushing(blocks=1), "blocks must be 2 to 10, not 1"),
        (lambda: Pushing(blocks=11), "blocks must be 2 to 10, not 11"),
        (lambda: Pushing(horizon=0), "horizon must be at least 1, not 0"),
        (lambda: PointGoals(horizon=0), "horizon must be at least 1, not 0"),
    ],
)
def test_bad_settings_are_refused_with_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_a_shaped_goal_is_seen_sparse_and_scored_dense():
    task = ShapedPoint(PointTask(jnp.array([0.0, 1.0]), sparse=True, radius=0.2, arrival=0.0, horizon=20))
    record = lambda tick: (tick.score, tick.feedback.reward, tick.feedback.observation)
    scores, seen, places = lifetime(Towards(task.task.goal), task, KEY, steps=10, record=record)[1]
    np.testing.assert_allclose(scores, -np.arange(9, -1, -1) / 10, atol=1e-6)
    np.testing.assert_allclose(seen[jnp.array([0, 6, 8, 9])], [0.0, 0.0, 0.9, 1.0], atol=1e-6)
    np.testing.assert_allclose(places[:, 1], np.arange(1, 11) / 10, atol=1e-6)
