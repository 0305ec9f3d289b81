"""Meta-World's tasks and policies: seeds decide everything, success ends an episode, encodings lose only what they say."""

import os
import subprocess
import sys

import numpy as np
import pytest

from quickstudy.generalist import embodiments
from quickstudy.generalist.data import build, metaworld
from quickstudy.generalist.data.store import SEEDS, Episode, Rejected
from quickstudy.generalist.scoreboard import Nearest, Random, play

TASK = "door-open"  # its policy writes into the state that it is given
CLEAN, NOISY = 100, 101
TEST = SEEDS["test"][100]


@pytest.fixture(scope="module")
def episodes() -> dict[int, Episode]:
    found = {seed: metaworld.record(TASK, seed) for seed in (CLEAN, NOISY, TEST)}
    assert all(isinstance(episode, Episode) for episode in found.values())
    return found


def replay(episode, added=0.0):
    """Execute an episode's actions in its environment, and check that observations and rewards are those recorded."""
    world = metaworld.environment(episode.facts["task"], episode.facts["seed"])
    observation, end, dense = world.reset(), False, 0.0
    for state, action, reward, more in zip(
        episode.observations["state"], episode.actions, episode.rewards, np.broadcast_to(added, (500, 4)), strict=False
    ):
        assert not end
        np.testing.assert_array_equal(observation["state"], state)
        observation, given, end, success = world.step(action + more)
        assert given == reward == success
        dense += world.dense
    assert end
    assert success
    assert dense == pytest.approx(episode.facts["dense_return"], abs=1e-3)
    return world


def test_the_tasks_are_there():
    assert len(set(metaworld.tasks())) == 50
    assert len(set(metaworld.find(["mt10"]))) == 10
    assert metaworld.find(["mt10", "all"])[:10] == metaworld.find(["mt10"])
    space = metaworld.ENCODINGS["named"].space["task"]
    assert all(space.contains(metaworld.words(task)) for task in metaworld.tasks())
    with pytest.raises(ValueError, match="did you mean 'door-open'"):
        metaworld.environment("dor-open", 0)
    with pytest.raises(ValueError, match="did you mean 'mt10'"):
        metaworld.find(["mt-10"])


@pytest.mark.parametrize("seed", [CLEAN, TEST])
def test_a_recorded_episode_can_be_played_again(episodes, seed):
    episode = episodes[seed]
    assert episode.facts["noise"] == 0.0
    world = replay(episode)
    np.testing.assert_array_equal(world.reset()["state"], episode.observations["state"][0])


def test_success_ends_an_episode_and_is_its_reward(episodes):
    for episode in episodes.values():
        assert len(episode.actions) < metaworld.HORIZON
        assert episode.rewards.tolist() == [0.0] * (len(episode.actions) - 1) + [1.0]


def test_noise_is_executed_and_not_stored(episodes):
    episode = episodes[NOISY]
    assert episode.facts["noise"] == metaworld.NOISE
    added = metaworld.noise(TASK, NOISY)
    assert np.std(added) == pytest.approx(metaworld.NOISE, rel=0.05)
    replay(episode, added)
    for some in episodes.values():
        act = metaworld.expert(TASK)
        for state, action in zip(some.observations["state"], some.actions, strict=True):
            np.testing.assert_array_equal(act(state), action)
    assert not any(metaworld.noise(TASK, seeds[k]).any() for split, seeds in SEEDS.items() for k in (0, 1, 2) if split != "train")
    assert [metaworld.noise(TASK, seed).any() for seed in range(4)] == [False, True, False, True]
    assert not np.array_equal(added, metaworld.noise("door-close", NOISY))


def test_actions_are_clipped(episodes):
    actions = np.concatenate([episode.actions for episode in episodes.values()])
    assert actions.dtype == np.float32
    assert metaworld.ACTION_SPACE.contains(actions[0])
    assert np.abs(actions).max() == 1.0
    large, most = metaworld.environment(TASK, CLEAN), metaworld.environment(TASK, CLEAN)
    large.reset()
    most.reset()
    for action in (np.array([7, -7, 2, 9]), np.array([-3, 5, 0.5, -4])):
        mine, theirs = large.step(action), most.step(np.clip(action, -1, 1))
        np.testing.assert_array_equal(mine.observation["state"], theirs.observation["state"])
    for wrong in (np.zeros(3), np.array([0, np.nan, 0, 0])):
        with pytest.raises(ValueError, match="must be four numbers"):
            large.step(wrong)


def test_seeds_decide_scene_and_goal_whatever_came_before():
    first = [metaworld.environment(task, seed).reset()["state"] for task in ("reach", "push") for seed in (7, 8, 9)]
    np.random.seed(3)  # what others draw from NumPy's global state does not matter
    again = [metaworld.environment(task, seed).reset()["state"] for task in ("push", "reach") for seed in (9, 8, 7)][::-1]
    np.testing.assert_array_equal(first, again)
    for one, other in ((0, 1), (1, 2), (3, 4), (4, 5)):
        assert np.abs(first[one][36:] - first[other][36:]).max() > 1e-3  # the goal
        assert np.abs(first[one][4:6] - first[other][4:6]).max() > 1e-3  # the puck


SCRIPT = """
import sys
import numpy as np
from quickstudy.generalist.data import metaworld
np.random.seed(5)
metaworld.record("reach", 8)
episode = metaworld.record(sys.argv[1], int(sys.argv[2]))
print(episode.observations["state"].tobytes().hex() + episode.actions.tobytes().hex())
assert "OpenGL" not in sys.modules
"""


def test_another_process_without_graphics_makes_the_same_episode(episodes):
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"} | {"MUJOCO_GL": "disable"}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, TASK, str(NOISY)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.stderr == ""
    episode = episodes[NOISY]
    assert run.stdout.strip() == episode.observations["state"].tobytes().hex() + episode.actions.tobytes().hex()


def test_an_expert_that_fails_costs_one_seed(monkeypatch):
    monkeypatch.setattr(metaworld, "expert", lambda task: lambda state: np.zeros(4, np.float32))
    assert metaworld.record("reach", 102) == Rejected(102, "no success within 500 steps")


@pytest.mark.parametrize("name", metaworld.ENCODINGS)
def test_encoded_observations_lie_in_their_space(name, episodes):
    encoding, episode = metaworld.ENCODINGS[name], episodes[CLEAN]
    together = encoding.observe(metaworld.raw(episode))
    alone = encoding.observe(metaworld.environment(TASK, CLEAN).reset())
    assert set(together) == set(alone) == set(encoding.space)
    for t in range(len(episode.actions)):
        assert encoding.space.contains({key: values[t] for key, values in together.items()})
    for key, values in together.items():
        np.testing.assert_array_equal(values[0], alone[key])
    far = encoding.observe({"state": np.full(39, -5.0, np.float32), "task": "door open"})
    assert encoding.space.contains(far)


@pytest.mark.parametrize("task", [TASK, "stick-push", "hammer"])  # the latter two have two objects
def test_lean_loses_what_the_step_before_told(task, episodes):
    episode = episodes[CLEAN] if task == TASK else metaworld.record(task, 102)
    full, lean = (metaworld.ENCODINGS[name].observe(metaworld.raw(episode))["state"] for name in ("full", "lean"))
    np.testing.assert_array_equal(full, episode.observations["state"])  # no bound cut it
    seen = np.concatenate([lean[:, :15], np.zeros((len(lean), 3), np.float32)], axis=1)
    before = np.concatenate([seen[:1], seen[:-1]])
    np.testing.assert_array_equal(np.concatenate([seen, before, lean[:, 15:]], axis=1), full)


@pytest.mark.parametrize("task", [TASK, "hammer"])
def test_relative_tells_what_lean_tells(task, episodes):
    raw = metaworld.raw(episodes[CLEAN] if task == TASK else metaworld.record(task, 102))
    lean, relative = metaworld.ENCODINGS["lean"].observe(raw)["state"], metaworld.ENCODINGS["relative"].observe(raw)
    hand = relative["hand"][:, :3]
    first, second, goal = (hand + relative["away"][:, at : at + 3] for at in (0, 3, 6))
    turned = relative["turned"]
    again = np.concatenate([relative["hand"], first, turned[:, :4], second, turned[:, 4:], goal], axis=1)
    np.testing.assert_allclose(again, lean, atol=1e-6)


def test_steps_that_stand_alone_are_learned_from_one_by_one_in_random_order(episodes):
    body = embodiments.parse(f"metaworld-relative/{TASK}")[0]
    episodes = list(episodes.values())
    whole, apart = body.encode(episodes), body.sequences(episodes)
    steps = [one.ids.reshape(-1, 23).tolist() for one in (whole, apart)]
    assert steps[0] != steps[1] and sorted(steps[0]) == sorted(steps[1])
    np.testing.assert_array_equal(apart.episodes, np.arange(len(steps[1])) * 23)
    np.testing.assert_array_equal(apart.sections, apart.episodes)
    np.testing.assert_array_equal(body.sequences(episodes).ids, apart.ids)
    other = embodiments.parse(f"metaworld-lean/{TASK}")[0]
    np.testing.assert_array_equal(other.sequences(episodes).ids, other.encode(episodes).ids)


def test_what_is_near_the_hand_is_told_to_a_millimetre(episodes):
    body = embodiments.parse(f"metaworld-relative/{TASK}")[0]
    encoded = body.encode([episodes[CLEAN]])
    assert len(encoded.ids) == 23 * len(episodes[CLEAN].actions)
    told = body.tokenizer.decode(encoded)[0]
    assert set(told["which_task"].tolist()) == {metaworld.tasks().index(TASK)}
    away = told["away"]
    shown = metaworld.ENCODINGS["relative"].observe(metaworld.raw(episodes[CLEAN]))["away"]
    assert np.abs(away - shown)[np.abs(shown) < 0.04].max() < 0.001 < 0.003 < np.abs(away - shown).max() < 0.02


def test_tokens_give_back_states_to_a_millimetre(episodes):
    episode = episodes[CLEAN]
    for name, tokens in (("full", 44), ("lean", 22)):
        body = embodiments.parse(f"metaworld-{name}/{TASK}")[0]
        encoded = body.encode([episode])
        assert len(encoded.ids) == tokens * len(episode.actions)
        states, actions = body.tokenizer.decode(encoded)
        shown = metaworld.ENCODINGS[name].observe(metaworld.raw(episode))["state"]
        assert np.abs(states["state"] - shown).max() < 0.001
        assert np.abs(actions - episode.actions).max() < 0.001
    named = embodiments.parse(f"metaworld-named/{TASK}")[0]
    assert '0: task "door open", state' in named.tokenizer.describe(named.encode([episode]))


def test_the_embodiments_are_those_of_the_domains():
    for name in embodiments.EMBODIMENTS:
        domain, _, encoding = name.partition("-")
        assert encoding in build.domain_module(domain).ENCODINGS
    assert {f"metaworld-{name}" for name in metaworld.ENCODINGS} <= set(embodiments.EMBODIMENTS)


def test_random_actions_and_the_nearest_neighbour_play(episodes, monkeypatch):
    body, _ = embodiments.parse(f"metaworld-lean/{TASK}")
    neighbour = play(Nearest(body, [episodes[CLEAN]]), body, TASK, [CLEAN])
    assert neighbour.success.all()  # it knows this very episode
    assert neighbour.returns.tolist() == [1.0]
    assert play(Random(body), body, TASK, [CLEAN]).returns.tolist() == [0.0]
