"""BabyAI's levels and bot: equal seeds give equal episodes, a bot that fails or hangs costs one seed, encodings lose nothing."""

import contextlib
import signal

import numpy as np
import pytest
from gymnasium import spaces
from minigrid.utils import baby_ai_bot
from minigrid.wrappers import RGBImgPartialObsWrapper

from quickstudy.generalist.data import babyai
from quickstudy.generalist.data.playing import disturbance, replaced
from quickstudy.generalist.data.store import SEEDS, Episode, Rejected

SMALL = "GoToObjS4"


@pytest.fixture(scope="module")
def episode() -> Episode:
    found = babyai.record("UnlockPickup", 4)
    assert isinstance(found, Episode)
    return found


def test_the_levels_are_there():
    assert len(babyai.LEVELS) == len(set(babyai.LEVELS)) == 39
    assert len(set(babyai.SINGLE_ROOM)) == 12
    assert set(babyai.LEVELS + babyai.SINGLE_ROOM) <= set(babyai.levels())
    for level in babyai.SINGLE_ROOM:
        world = babyai.environment(level, 0).world
        assert (world.num_rows, world.num_cols) == (1, 1), level


def test_missions_fit_their_space():
    space = babyai.ENCODINGS["compact"].space["mission"]
    for level in babyai.LEVELS:
        assert space.contains(babyai.environment(level, 7).reset()["mission"]), level


def test_unknown_levels_are_named():
    with pytest.raises(ValueError, match="did you mean 'GoToLocal'"):
        babyai.environment("GoToLokal", 0)
    with pytest.raises(ValueError, match="did you mean 'single-room'"):
        babyai.find(["singleroom"])


def test_a_recorded_episode_can_be_played_again(episode):
    world = babyai.environment("UnlockPickup", 4)
    observation, total, end, success = world.reset(), 0.0, False, False
    for t, action in enumerate(episode.actions):
        assert not end
        np.testing.assert_array_equal(episode.observations["image"][t], observation["image"])
        assert episode.observations["direction"][t] == observation["direction"]
        assert observation["mission"] == episode.facts["mission"]
        observation, reward, end, success = world.step(int(action))
        assert np.float32(reward) == episode.rewards[t]
        total += reward
    assert end
    assert success
    assert episode.facts["return"] == pytest.approx(total, abs=1e-6)
    np.testing.assert_array_equal(world.reset()["image"], episode.observations["image"][0])


def test_on_odd_seeds_for_training_the_bot_is_not_always_obeyed_and_what_it_said_is_stored():
    level, apart = "PutNextLocal", 0
    for seed in range(1, 40, 2):
        found, random, world = babyai.record(level, seed), disturbance(level, seed), babyai.environment(level, seed)
        observation = world.reset()
        bot, executed = baby_ai_bot.BabyAIBot(world.world), None
        for t, said in enumerate(found.actions.tolist()):
            np.testing.assert_array_equal(found.observations["image"][t], observation["image"])
            assert int(bot.replan(executed)) == said
            executed = babyai.Actions(replaced(said, 5, random))
            observation, *_, success = world.step(executed)
            apart += executed != said
        assert success
        assert found.facts["disturbed"]
    assert 10 < apart < 60  # of about 280 actions a tenth is drawn anew, of which a fifth are what the bot said
    held_out = SEEDS["test"][1]
    assert not babyai.record(level, held_out).facts["disturbed"]


def test_a_wrong_thing_that_was_picked_up_is_put_down():
    carried = [(babyai.record("PutNextLocal", seed).actions == babyai.Actions.pickup).sum() for seed in range(60)]
    assert set(carried[::2]) == {1}
    assert max(carried[1::2]) > 1


def test_equal_seeds_give_equal_episodes(episode):
    again = babyai.record("UnlockPickup", 4)
    np.testing.assert_array_equal(again.actions, episode.actions)
    np.testing.assert_array_equal(again.observations["image"], episode.observations["image"])


def test_a_hanging_bot_costs_one_seed(monkeypatch):
    def think_for_ever(bot, action):
        while True:
            pass

    before = signal.getsignal(signal.SIGALRM)
    with monkeypatch.context() as patch:
        patch.setattr(baby_ai_bot.BabyAIBot, "replan", think_for_ever)
        assert babyai.record(SMALL, 5, limit=0.05) == Rejected(5, "the bot did not come to an end in time")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert isinstance(babyai.record(SMALL, 5), Episode)


def test_an_alarm_that_is_lost_rings_again(monkeypatch):
    def think_for_ever(bot, action):
        with contextlib.suppress(BaseException):  # as Python does with what is raised in a callback of its garbage collector
            while True:
                pass
        while True:
            pass

    monkeypatch.setattr(babyai, "_AGAIN", 0.05)
    monkeypatch.setattr(baby_ai_bot.BabyAIBot, "replan", think_for_ever)
    assert babyai.record(SMALL, 5, limit=0.05) == Rejected(5, "the bot did not come to an end in time")


def test_a_failing_bot_and_an_idle_one_cost_one_seed(monkeypatch):
    def fail(bot, action):
        raise AssertionError("nothing left to explore")

    monkeypatch.setattr(baby_ai_bot.BabyAIBot, "replan", fail)
    assert babyai.record(SMALL, 5) == Rejected(5, "the bot failed: AssertionError")
    monkeypatch.setattr(baby_ai_bot.BabyAIBot, "replan", lambda bot, action: babyai.Actions.left)
    assert babyai.record(SMALL, 5) == Rejected(5, "no reward")


def test_nothing_is_printed(capsys):
    for seed in range(20):
        babyai.environment("PutNextLocal", seed).world.reset(seed=seed)
    assert "Sampling rejected" in capsys.readouterr().out
    for seed in range(20):
        babyai.environment("PutNextLocal", seed).reset()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", babyai.ENCODINGS)
def test_encoded_observations_lie_in_their_space(name, episode):
    encoding = babyai.ENCODINGS[name]
    together = encoding.observe(babyai.raw(episode))
    assert set(together) == set(encoding.space)
    for t in range(len(episode.actions)):
        assert encoding.space.contains({key: values[t] for key, values in together.items()})
    alone = encoding.observe(babyai.environment("UnlockPickup", 4).reset())
    assert encoding.space.contains(alone)
    for key, values in together.items():
        np.testing.assert_array_equal(values[0], alone[key])


def test_symbolic_loses_nothing(episode):
    found = babyai.ENCODINGS["symbolic"].observe(babyai.raw(episode))
    np.testing.assert_array_equal(found["image"].reshape(-1, 7, 7, 3), episode.observations["image"])
    np.testing.assert_array_equal(found["direction"], episode.observations["direction"])


def test_compact_loses_nothing(episode):
    random = np.random.default_rng(0)
    image = np.concatenate([episode.observations["image"], random.integers(0, [11, 6, 3], (50, 7, 7, 3), np.uint8)])
    direction = random.integers(0, 4, len(image), np.uint8)
    picture = babyai.ENCODINGS["compact"].observe({"image": image, "direction": direction, "mission": ["go"] * len(image)})["image"]
    assert set(np.unique(picture)) == {0, 255}
    for t, one in enumerate(picture // 255):
        for column, row in np.ndindex(7, 7):
            colours, things, states = np.split(one[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel(), [6, 10])
            read = int("".join(map(str, things)), 2), colours.argmax(), int("".join(map(str, states)), 2)
            assert read == tuple(image[t, column, row])
        assert one[14, :2].ravel().argmax() == direction[t]


@pytest.mark.parametrize(("level", "seed"), [("BossLevel", 2), ("UnlockPickup", 5)])
def test_the_picture_is_the_one_that_minigrid_paints(level, seed):
    world = babyai.environment(level, seed)
    observation = world.reset()
    painted = RGBImgPartialObsWrapper(world.world, tile_size=8)
    random, bot = np.random.default_rng(seed), baby_ai_bot.BabyAIBot(world.world)
    carried = 0
    for t in range(60):
        picture = babyai.render(observation["image"])
        np.testing.assert_array_equal(picture, painted.observation(world.world.gen_obs())["image"])
        shown = babyai.ENCODINGS["patches"].observe(observation)["image"]
        np.testing.assert_array_equal(shown[:56, :56], picture)
        assert not shown[56:].any()
        assert not shown[:, 56:].any()
        carried += world.world.carrying is not None
        action = bot.replan(world.world.actions(action) if t else None) if t < 40 else random.integers(6)
        observation, _, end, _ = world.step(int(action))
        if end:
            break
    assert carried  # so that a thing under the agent was painted too


def test_spaces_have_the_sizes_that_the_notes_promise():
    assert babyai.ENCODINGS["symbolic"].space["image"].shape == (147,)
    assert isinstance(babyai.ENCODINGS["symbolic"].space["image"], spaces.MultiDiscrete)
    assert babyai.ENCODINGS["patches"].space["image"].shape == (64, 64, 3)
    assert babyai.ENCODINGS["compact"].space["image"].shape == (16, 16, 3)
    assert babyai.ACTION_SPACE.n == 7
