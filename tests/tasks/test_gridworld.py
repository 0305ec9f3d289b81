"""The gridworld engine does what its table says: episodes traced by hand, and windows compared with plain loops."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End
from quickstudy.tasks.control import Episode
from quickstudy.tasks.gridworld import SYMBOLS, Kind, level_from_text

KEY = jr.key(0)
UP, RIGHT, DOWN, LEFT, STAY = range(5)
TURN_LEFT, TURN_RIGHT, FORWARD = range(3)


@eqx.filter_jit
def _play(world, actions):
    def tick(episode, action):
        turn = world.step(episode, action, KEY)
        return turn.world, (turn.world.state.place, turn.score, turn.end)

    return jax.lax.scan(tick, world.reset(KEY)[0], actions)


def play(world, actions):
    """The places, rewards and ends of a list of actions, and the world afterwards."""
    last, (places, rewards, ends) = _play(world, jnp.array(actions, jnp.int32))
    return [tuple(place) for place in places.tolist()], rewards.tolist(), ends.tolist(), last


def test_walls_and_the_edge_block():
    world = level_from_text("S.\n#.")
    places, rewards, ends, _ = play(world, [LEFT, UP, DOWN, RIGHT, DOWN, LEFT, DOWN])
    assert places == [(0, 0), (0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 1)]
    assert rewards == [0.0] * 7 and ends == [End.RUNNING] * 7


def test_a_goal_pays_and_the_next_episode_begins_at_the_start():
    world = level_from_text("S.G")
    places, rewards, ends, _ = play(world, [RIGHT, RIGHT, RIGHT, RIGHT])
    assert places == [(0, 1), (0, 0), (0, 1), (0, 0)]
    assert rewards == [0.0, 1.0, 0.0, 1.0]
    assert ends == [End.RUNNING, End.TERMINATED] * 2


def test_the_feedback_shows_the_goal_and_the_view_the_new_start():
    world = level_from_text("SG", view="position")
    turn = eqx.filter_jit(world.step)(world.reset(KEY)[0], jnp.int32(RIGHT), KEY)
    assert turn.feedback.observation.tolist() == [0.0, 1.0]
    assert turn.view.observation.tolist() == [1.0, 0.0]


def test_the_horizon_cuts_an_episode_off():
    _, _, ends, last = play(level_from_text("S..", horizon=2), [RIGHT, RIGHT, RIGHT])
    assert ends == [End.RUNNING, End.TRUNCATED, End.RUNNING]
    assert last.time == 1


def test_a_door_opens_only_with_a_key_and_stays_open():
    world = level_from_text("kSD.")
    places, _, _, _ = play(world, [RIGHT, LEFT, RIGHT, RIGHT, RIGHT, LEFT])
    assert places == [(0, 1), (0, 0), (0, 1), (0, 2), (0, 3), (0, 2)]
    *_, last = play(world, [LEFT, RIGHT, RIGHT, RIGHT])
    assert world.text(last) == ".S.@"


def test_a_new_episode_has_its_key_and_its_door_back_and_an_empty_hand():
    world = level_from_text("kSD.", horizon=3)
    places, _, _, last = play(world, [LEFT, RIGHT, RIGHT, RIGHT])
    assert places == [(0, 0), (0, 1), (0, 1), (0, 1)], "the third tick opens the door and ends the episode"
    assert world.text(last) == "k@D."


def test_a_prize_pays_once_and_a_spring_at_every_tick():
    _, rewards, _, _ = play(level_from_text("oS*"), [LEFT, RIGHT, LEFT, RIGHT])
    assert rewards == [1.0, 0.0, 0.0, 0.0]
    _, rewards, _, _ = play(level_from_text("oS*", steering="compass and stay"), [RIGHT, STAY, STAY, RIGHT, LEFT])
    assert rewards == [1.0, 1.0, 1.0, 1.0, 0.0]


def test_lava_costs_and_ends_and_rewards_are_a_field():
    _, rewards, ends, _ = play(level_from_text("~SH"), [LEFT])
    assert (rewards, ends) == ([-1.0], [End.TERMINATED])
    _, rewards, ends, _ = play(level_from_text("~SH", pays={Kind.SECOND_GOAL: 0.25, Kind.FLOOR: -0.5}), [UP, RIGHT])
    assert (rewards, ends) == ([-0.5, 0.25], [End.RUNNING, End.TERMINATED])


@pytest.mark.parametrize(
    ("delay", "rewards"),
    [(0, [1, 0, 1, 0, 0, 0]), (2, [0, 0, 1, 0, 1, 0]), (4, [0, 0, 0, 0, 1, 1]), (6, 5 * [0] + [2])],
)
def test_delayed_rewards_arrive_late_and_all_before_the_end(delay, rewards):
    world = level_from_text("oSo", horizon=6, delay=delay)
    _, paid, _, _ = play(world, [LEFT, RIGHT, RIGHT, LEFT, LEFT, LEFT] * 2)
    assert paid == rewards * 2, "nothing is owed across episodes"


def test_a_delayed_goal_pays_when_it_ends_the_episode():
    _, rewards, _, _ = play(level_from_text("oSG", delay=50), [LEFT, RIGHT, RIGHT])
    assert rewards == [0.0, 0.0, 2.0]


def test_turning_and_going_forward():
    world = level_from_text("...\n.^.", steering="turn")
    places, _, _, last = play(world, [FORWARD, TURN_LEFT, FORWARD, TURN_LEFT, FORWARD, TURN_RIGHT, TURN_RIGHT])
    assert places == [(0, 1), (0, 1), (0, 0), (0, 0), (1, 0), (1, 0), (1, 0)]
    assert last.state.direction == UP
    assert world.text(last) == "...\n^S."


def test_several_starts_are_all_drawn():
    world = level_from_text("S.S")
    places = eqx.filter_jit(jax.vmap(lambda key: world.begin(key).place))(jr.split(KEY, 50))
    assert {tuple(place) for place in places.tolist()} == {(0, 0), (0, 2)}


# --- Observations -------------------------------------------------------------------------------------------------------------------

LEVEL = """
.#k.
GD.o
~.S*
"""


def every_state(world):
    """One state for every place and direction, stacked, and the places and directions."""
    rows, columns = world.kinds.shape
    cases = list(itertools.product(range(rows), range(columns), range(4)))
    begun = world.begin(KEY)

    def state(case):
        return begun._replace(place=case[:2], direction=case[2])

    return jax.vmap(state)(jnp.array(cases, jnp.int32)), cases


@eqx.filter_jit
def _looks(world, states):
    return jax.vmap(world.look)(states)


def looks(world, states):
    return np.asarray(_looks(world, states))


def window_by_loops(kinds, row, column, direction, size, turns):
    """The kinds that an agent sees, cell by cell."""
    found = np.empty((size, size), int)
    for i in range(size):
        for j in range(size):
            down, right = (i - (size - 1), j - size // 2) if turns else (i - size // 2, j - size // 2)
            for _ in range(direction if turns else 0):  # turn the offset clockwise, once for each direction
                down, right = right, -down
            there = (row + down, column + right)
            on_grid = 0 <= there[0] < kinds.shape[0] and 0 <= there[1] < kinds.shape[1]
            found[i, j] = kinds[there] if on_grid else Kind.WALL
    return found


@pytest.mark.parametrize("steering", ["compass", "turn"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_window_is_what_plain_loops_see_from_every_place(steering, size):
    world = level_from_text(LEVEL, steering=steering, window=size)
    states, cases = every_state(world)
    views = looks(world, states)
    assert views.shape == (len(cases), size, size, len(Kind))
    assert (views.sum(axis=-1) == 1).all()
    for view, (row, column, direction) in zip(views, cases, strict=True):
        expected = window_by_loops(np.asarray(world.kinds), row, column, direction, size, steering == "turn")
        assert (view.argmax(axis=-1) == expected).all(), (row, column, direction)


@pytest.mark.parametrize("steering", ["compass", "turn"])
def test_the_full_view_shows_every_cell_and_the_agent(steering):
    world = level_from_text(LEVEL, steering=steering, view="full")
    states, cases = every_state(world)
    views = looks(world, states)
    assert (views[..., : len(Kind)].argmax(axis=-1) == np.asarray(world.kinds)).all()
    agents = views[..., len(Kind) :]
    seen = [(row, column, direction if steering == "turn" else 0) for row, column, direction in cases]
    assert [tuple(where[1:]) for where in np.argwhere(agents)] == seen


def test_the_position_is_one_hot_and_so_is_the_direction():
    world = level_from_text(LEVEL, steering="turn", view="position")
    states, cases = every_state(world)
    views = looks(world, states)
    assert [tuple(np.flatnonzero(view)) for view in views] == [(4 * row + column, 12 + direction) for row, column, direction in cases]


@pytest.mark.parametrize(("view", "place"), [("partial", (1, 1)), ("full", (0, 1))])
def test_a_key_in_the_hand_is_seen_in_ones_own_cell_and_gone_from_the_floor(view, place):
    world = level_from_text("kS.", view=view, window=3)
    *_, last = play(world, [LEFT, RIGHT])
    kinds = np.asarray(eqx.filter_jit(world.look)(last.state))[..., : len(Kind)].argmax(axis=-1)
    assert kinds[place] == Kind.KEY
    assert (kinds == Kind.KEY).sum() == 1


# --- Text and picture ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [SYMBOLS + "@", "#####\n#@.G#\n#D#k#", "S.@\n.S."])
def test_a_level_survives_being_written_and_read(text):
    world = level_from_text(text)
    state = world.begin(KEY)._replace(place=world.starts[-1]) if "S" not in text else world.begin(KEY)._replace(place=world.starts[1])
    again = world.text(Episode(state, jnp.int32(0)))
    assert again == text
    assert eqx.tree_equal(level_from_text(again), world)


def test_an_arrow_survives_too():
    world = level_from_text("..\n.<", steering="turn")
    assert world.text(world.reset(KEY)[0]) == "..\n.<"


def test_a_picture_has_a_square_for_every_cell_and_the_agent_in_its_own():
    world = level_from_text("S#\n.G\n..")
    picture = world.image(world.reset(KEY)[0])
    assert picture.shape == (48, 32, 3)
    assert len({tuple(picture[row, column]) for row, column in ((8, 8), (8, 24), (24, 8), (24, 24))}) == 4, "agent, wall, floor, goal"


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("S..\n.", {}, "equally long, not 3, 1"),
        ("S?", {}, r"a level may hold .*, not \?"),
        ("...", {}, "must have a start"),
        ("S", {"steering": "sideways"}, "steering must be one of compass, compass and stay, turn, not 'sideways'"),
        ("S", {"view": "all"}, "view must be one of position, full, partial, not 'all'"),
        ("S", {"window": 4}, "window must be odd and at least 1, not 4"),
        ("S", {"delay": -1}, "delay must be at least 0, not -1"),
        ("S", {"horizon": 0}, "horizon must be at least 1, not 0"),
    ],
)
def test_a_bad_level_is_refused_with_a_sentence(text, settings, message):
    with pytest.raises(ValueError, match=message):
        level_from_text(text, **settings)
