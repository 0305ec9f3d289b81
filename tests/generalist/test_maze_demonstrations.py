"""Mazes as a domain: the rules are those of the task in JAX, and the expert goes by what it has seen."""

from collections import deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quickstudy.generalist import embodiments
from quickstudy.generalist.data import mazes
from quickstudy.generalist.data.store import SEEDS, Episode
from quickstudy.generalist.scoreboard import Nearest, Random, play
from quickstudy.tasks.gridworld import Kind, level_from
from quickstudy.tasks.mazes import carve, spanning_tree

TASKS = mazes.GROUPS["all"]
LIVES = range(20)


def recorded(task, seed) -> Episode:
    episode = mazes.record(task, seed)
    assert isinstance(episode, Episode)
    return episode


def distances(free, start):
    """Steps from a place to each free cell, by layers; written another way than the expert's."""
    steps, layer = {start: 0}, deque([start])
    while layer:
        row, column = layer.popleft()
        for after in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if after in free and after not in steps:
                steps[after] = steps[row, column] + 1
                layer.append(after)
    return steps


def cells(world):
    return set(map(tuple, np.argwhere(world.free).tolist()))


def test_equal_seeds_give_equal_episodes_that_can_be_played_again():
    for task in TASKS:
        episode, again = recorded(task, 3), recorded(task, 3)
        assert episode.facts == again.facts
        world = mazes.environment(task, 3)
        observation, end = world.reset(), False
        for tick, (action, reward) in enumerate(zip(episode.actions, episode.rewards, strict=True)):
            assert not end
            for name, value in observation.items():
                assert value == episode.observations[name][tick] == again.observations[name][tick]
            observation, given, end, success = world.step(action)
            assert given == reward
        assert end
        assert success == episode.facts["success"]
    assert len({mazes.environment("tree-9", seed).free.tobytes() for seed in range(20)}) == 20


@pytest.mark.parametrize("n", [2, 4, 5])
def test_the_halls_are_those_of_the_task(n):
    for weights in np.random.default_rng(n).random((3, 2 * n * (n - 1))):
        left_out = weights[::-1] < 1 / 3
        theirs = carve(spanning_tree(jnp.asarray(weights), n) | jnp.asarray(left_out), n)
        np.testing.assert_array_equal(mazes.halls(weights, left_out), np.asarray(theirs) == Kind.FLOOR)


@pytest.mark.parametrize("task", TASKS)
def test_all_free_cells_are_joined_in_trees_by_one_way_only(task):
    for seed in LIVES:
        world = mazes.environment(task, seed)
        free = cells(world)
        assert distances(free, world.start).keys() == free
        assert world.start != world.goal
        doors = sum((row + 1, column) in free for row, column in free) + sum((row, column + 1) in free for row, column in free)
        assert doors >= len(free) - 1
        assert task.startswith("loops") or doors == len(free) - 1


def test_moves_walls_and_rewards_are_those_of_the_gridworld():
    world = mazes.environment("loops-7", 10)
    kinds = np.where(world.free, Kind.FLOOR, Kind.WALL)
    kinds[world.goal] = Kind.GOAL
    theirs = level_from(jnp.asarray(kinds), jnp.array(world.start), window=3, horizon=1_000)
    act, look = eqx.filter_jit(theirs.act), eqx.filter_jit(theirs.look)
    random, key = np.random.default_rng(0), jax.random.key(0)
    observation, standing, end, paid = world.reset(), theirs.begin(key), False, 0.0
    while not end:
        row, column = np.asarray(standing.place).tolist()
        assert observation["place"] == 7 * row + column
        seen = np.asarray(look(standing))[..., Kind.WALL].reshape(9).astype(int)
        assert [observation["walls"] >> bit & 1 for bit in range(8)] == np.delete(seen, 4).tolist()
        action = int(random.integers(4))
        observation, reward, end, _ = world.step(action)
        standing, their_reward, ends = act(standing, jnp.int32(action), key)
        assert reward == float(their_reward) == observation["reward"]
        standing = theirs.begin(key) if ends else standing
        paid += reward
    assert paid == 2  # so a new beginning was compared, too


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_explores_once_and_then_goes_the_shortest_way_it_can_know(task):
    for seed in LIVES:
        episode, world = recorded(task, seed), mazes.environment(task, seed)
        size, (first, *others) = len(world.free), episode.facts["ways"]
        assert episode.facts["return"] == mazes.WAYS == 1 + len(others)
        known: set[tuple[int, int]] = set()  # free cells that were in sight on the first way, the goal among them
        for place in episode.observations["place"][:first].tolist():
            row, column = divmod(place, size)
            known |= {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & cells(world)
        shortest, knowable = (distances(free, world.start)[world.goal] for free in (cells(world), known | {world.goal}))
        assert shortest <= others[1] <= others[0] <= knowable <= first
        if task.startswith("tree"):
            assert knowable == shortest
        assert episode.facts["success"] == (others[-1] <= 1.5 * shortest)


def test_the_explorer_goes_to_the_nearest_cell_that_it_knows_of_and_has_not_entered():
    for seed in LIVES:
        episode = recorded("loops-9", seed)
        free, entered, size = set(), set(), 9
        places = [divmod(place, size) for place in episode.observations["place"][: episode.facts["ways"][0]].tolist()]
        truth = cells(mazes.environment("loops-9", seed))
        nearest = None
        for row, column in places:
            free |= {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & truth
            is_new = (row, column) not in entered
            entered.add((row, column))
            steps = distances(free, (row, column))
            following = min(steps[cell] for cell in free - entered if cell in steps)
            # While it is under way, every step brings it nearer to what it goes to.
            assert nearest is None or is_new or following < nearest
            nearest = following


@pytest.mark.parametrize("task", ["tree-9", "loops-7"])
def test_the_expert_beats_the_nearest_neighbour_and_chance(task):
    body, _ = embodiments.parse(f"mazes-plain/{task}")
    episodes = [recorded(task, seed) for seed in LIVES]
    random = play(Random(body), body, task, LIVES)
    neighbour = play(Nearest(body, episodes[10:]), body, task, LIVES[:10])
    assert np.mean([episode.facts["return"] for episode in episodes]) == 3
    assert np.mean([episode.facts["success"] for episode in episodes]) > 0.75
    assert max(random.returns.mean(), neighbour.returns.mean()) < 2
    assert max(random.success.mean(), neighbour.success.mean()) < 0.25


@pytest.mark.parametrize(("task", "limit"), [("tree-7", 100), ("loops-9", 150)])
def test_a_life_ends_after_its_last_step(task, limit):
    world = mazes.environment(task, 1)
    world.reset()
    wall = next(move for move in range(4) if not world._is_free(mazes._plus(world.start, mazes.MOVES[move])))
    steps = [world.step(wall) for _ in range(limit)]
    assert [step.end for step in steps] == [False] * (limit - 1) + [True]
    assert not steps[-1].success


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_comes_back_from_its_tokens(task):
    body, _ = embodiments.parse(f"mazes-plain/{task}")
    episodes = [recorded(task, SEEDS["test"][seed]) for seed in (0, 1)]
    tokens = body.encode(episodes)
    assert len(tokens.ids) == 4 * sum(len(episode.actions) for episode in episodes)
    observations, actions = body.tokenizer.decode(tokens)
    for name, values in body.raw(episodes).items():
        np.testing.assert_array_equal(observations[name], values)
    np.testing.assert_array_equal(actions, np.concatenate([episode.actions for episode in episodes]))


def test_what_is_seen_in_play_has_the_tokens_of_what_was_recorded():
    body, task = embodiments.parse("mazes-plain/loops-9")
    episode = recorded(task, SEEDS["test"][2])
    tokens, world = body.encode([episode]), body.environment(task, SEEDS["test"][2])
    observation, played = body.observe(world.reset()), []
    for action in episode.actions:
        assert body.tokenizer.observation_space.contains(observation)
        played += body.tokenizer.step(observation, first=True).ids.tolist()
        observation = body.observe(world.step(action).observation)
    assert played == tokens.ids[~tokens.is_action].tolist()


def test_what_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="did you mean 'tree-7'"):
        mazes.environment("trees-7", 0)
    with pytest.raises(ValueError, match="from 0 to 3, not 4"):
        mazes.environment("tree-7", 0).step(4)
