"""Krazy World: every tile does what it says, traced by hand on boards of one line or two."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.core import End, sample_tasks
from quickstudy.tasks import KrazyWorld, board_from_text
from quickstudy.tasks.grids import STEPS
from quickstudy.tasks.krazy_world import SYMBOLS, Tile

KEY = jr.key(0)
UP, RIGHT, DOWN, LEFT = range(4)


@eqx.filter_jit
def _play(board, actions):
    def tick(episode, action):
        turn = board.step(episode, action, KEY)
        # The feedback shows where an action led, also where an episode ended there.
        cell = jnp.argmax(turn.feedback.observation[90:])
        return turn.world, (cell, turn.score, turn.end)

    return jax.lax.scan(tick, board.reset(KEY)[0], actions)


def play(board, actions):
    """Where each action led (the number of the cell), the rewards, the ends, and the world afterwards."""
    last, (cells, rewards, ends) = _play(board, jnp.array(actions + [UP] * (8 - len(actions)), jnp.int32))
    n = len(actions)
    return cells[:n].tolist(), rewards[:n].tolist(), ends[:n].tolist(), last


def test_ice_slides_to_the_first_other_tile_and_to_what_blocks():
    assert play(board_from_text("@ii.ii#"), [RIGHT, RIGHT, LEFT, LEFT])[0] == [3, 5, 3, 0]
    assert play(board_from_text("ii@i..."), [LEFT, RIGHT, RIGHT])[0] == [0, 2, 4], "the edge blocks, and the way back goes on sliding"


def test_ice_may_lead_into_death_and_to_a_goal():
    cells, rewards, ends, _ = play(board_from_text("~i@iG.."), [RIGHT, LEFT, LEFT])
    assert (cells, rewards) == ([4, 2, 0], [1.0, 0.0, 0.0])
    assert ends == [End.RUNNING, End.RUNNING, End.TERMINATED]


def test_a_goal_pays_once_in_every_episode():
    cells, rewards, ends, _ = play(board_from_text("~@G...."), [RIGHT, LEFT, RIGHT, LEFT, LEFT, RIGHT])
    assert cells == [2, 1, 2, 1, 0, 2]
    assert rewards == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert ends == [End.RUNNING] * 4 + [End.TERMINATED, End.RUNNING]


def test_a_lock_needs_a_key_also_at_the_end_of_ice():
    board = board_from_text("k@iD..#")
    # Stuck on the ice; back to the key; and through.
    assert play(board, [RIGHT, LEFT, LEFT, RIGHT, RIGHT, RIGHT, LEFT])[0] == [2, 1, 0, 1, 3, 4, 3]


def test_a_gate_leads_to_the_other_and_acts_only_on_who_enters():
    board = board_from_text("@T.#.T.")
    assert play(board, [RIGHT, UP, LEFT, RIGHT, LEFT])[0] == [5, 5, 4, 1, 0]


def test_energy_runs_out_and_is_refilled():
    board = board_from_text("@.e....", energy=jnp.int32(3), refill=jnp.int32(2))
    _, _, ends, _ = play(board, [LEFT, LEFT, LEFT, LEFT])
    assert ends == [End.RUNNING, End.RUNNING, End.TERMINATED, End.RUNNING]
    # Two ticks to the tile cost 2 and bring 2, which leaves 3: the third tick from there ends it.
    _, _, ends, _ = play(board, [RIGHT, RIGHT, LEFT, RIGHT, LEFT])
    assert ends == [End.RUNNING] * 4 + [End.TERMINATED]


def test_actions_are_what_the_board_says_and_may_jump():
    board = board_from_text("@.#....", moves=jnp.array([[0, 0], [0, -1], [0, 3], [0, 1]], jnp.int32))
    assert play(board, [0, 2, 1, 3, 3])[0] == [0, 3, 3, 4, 5], "no move; over the wall; against the wall; two steps right"


def test_no_move_on_ice_stays_there():
    board = board_from_text("@i#....", moves=jnp.array([[0, 0], [0, 1], [0, 0], [0, 0]], jnp.int32))
    assert play(board, [1, 0, 2])[0] == [1, 1, 1]


def test_what_is_seen_are_the_colours_of_the_nine_cells_and_ones_own_place():
    colours = np.array([3, 1, 4, 0, 5, 8, 2, 6, 7])
    board = board_from_text(".#G\ni@~\nDke\n...", colours=jnp.asarray(colours, jnp.int32))
    tiles, states = np.asarray(board.kinds), board.begin(KEY)
    look = eqx.filter_jit(lambda place: board.look(states._replace(place=place)))
    for row, column in np.ndindex(4, 3):
        view = np.asarray(look(jnp.array([row, column], jnp.int32)))
        seen = [
            colours[tiles[i, j]] if 0 <= i < 4 and 0 <= j < 3 else 9
            for i in (row - 1, row, row + 1)
            for j in (column - 1, column, column + 1)
        ]
        assert view[:90].reshape(9, 10).argmax(axis=1).tolist() == seen
        assert np.flatnonzero(view[90:]).tolist() == [3 * row + column]
        assert view.sum() == 10


# --- Boards that are drawn ----------------------------------------------------------------------------------------------------------


@functools.cache
def draw(split):
    return eqx.filter_jit(sample_tasks)(KrazyWorld(), KEY, split, 200)


def spread(kinds, start, blocking):
    """The cells that steps reach from a start, if only some tiles block."""
    cells = {(row, column): kind for row, line in enumerate(kinds.tolist()) for column, kind in enumerate(line)}
    seen, waiting = {start}, [start]
    while waiting:
        row, column = waiting.pop()
        beside = {(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)}
        new = {there for there in beside - seen if cells.get(there, Tile.WALL) not in blocking}
        seen |= new
        waiting += new
    return seen


@pytest.mark.parametrize("split", ["train", "out-of-range"])
def test_boards_hold_what_they_should_and_a_lock_is_all_that_keeps_one_goal_away(split):
    drawn = draw(split)
    corners = set()
    for kinds, start, gates in zip(np.asarray(drawn.kinds), drawn.start.tolist(), np.asarray(drawn.gates), strict=True):
        counts = [int((kinds == tile).sum()) for tile in (Tile.GOAL, Tile.LOCK, Tile.KEY, Tile.DEATH, Tile.ICE, Tile.ENERGY)]
        assert counts == [3, 1, 1, 8, 5, 5]
        assert {tuple(gate) for gate in gates.tolist()} == {tuple(place) for place in np.argwhere(kinds == Tile.GATE).tolist()}
        assert kinds[tuple(start)] == Tile.NORMAL
        outside, everywhere = (spread(kinds, tuple(start), blocking) for blocking in ({Tile.WALL, Tile.LOCK}, {Tile.WALL}))
        goals = {tuple(place) for place in np.argwhere(kinds == Tile.GOAL).tolist()}
        assert len(goals & outside) == 2
        assert goals <= everywhere
        assert len(everywhere) == (kinds != Tile.WALL).sum()
        (locked,) = goals - outside
        corners.add((locked[0] > 4, locked[1] > 4))
    assert len(corners) == 4


def test_actions_are_steps_in_any_order_and_sums_of_two_out_of_range():
    orders = {tuple(map(tuple, moves)) for moves in draw("train").moves.tolist()}
    assert all(sorted(order) == sorted(map(tuple, STEPS.tolist())) for order in orders)
    assert len(orders) == 24, "200 draws miss one of 24 orders with a chance below 0.005"
    wide = np.asarray(draw("out-of-range").moves)
    assert (wide.sum(axis=1) == 0).all(), "each direction is used once in either step"
    assert set(np.abs(wide).sum(axis=2).ravel().tolist()) == {0, 2}


def test_every_tile_takes_every_colour():
    colours = np.asarray(draw("train").colours)
    assert (np.sort(colours, axis=1) == np.arange(9)).all()
    assert all(set(column.tolist()) == set(range(9)) for column in colours.T)


# --- Text, picture, refusals --------------------------------------------------------------------------------------------------------


def test_a_board_survives_being_written_and_read():
    text = SYMBOLS + "@\n.#Gi~DkTe."
    board = board_from_text(text)
    world = board.reset(KEY)[0]
    assert board.text(world) == text
    assert board.image(world).shape == (32, 160, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("...", "one start, not 0"), ("@.@", "one start, not 2"), ("@T.", "two gates or none, not 1"), ("@H", "not H")],
)
def test_a_bad_board_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        board_from_text(text)


@pytest.mark.parametrize(("name", "given", "least"), [("size", 7, 8), ("energy", 0, 1), ("refill", -1, 0), ("horizon", 0, 1)])
def test_a_bad_setting_is_refused(name, given, least):
    with pytest.raises(ValueError, match=f"{name} must be at least {least}, not {given}"):
        KrazyWorld(**{name: given})
