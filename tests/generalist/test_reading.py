"""Which episodes are read, and which are good enough to be imitated."""

import numpy as np
import pytest

from quickstudy.generalist.data import build, reading
from quickstudy.generalist.data.store import SEEDS
from quickstudy.generalist.embodiments import recorded


def test_the_expert_s_return_is_the_best_tenth_in_a_row():
    returns = np.concatenate([np.full(50, 0.5), np.full(10, 1.0), np.full(40, 0.75)])
    # Ten in a row reach 1.0; a single episode of 2.0 among them raises the mean to 1.1.
    assert reading.good_enough(returns).sum() == 10
    returns[55] = 2.0
    assert reading.good_enough(returns).sum() == 10
    assert reading.good_enough(returns, share=0.6).sum() == 50


def test_windows_are_no_longer_than_a_thousand():
    returns = np.zeros(20_000)
    returns[:1_000] = 1.0
    assert reading.good_enough(returns).sum() == 1_000


def test_negative_returns_may_be_a_fifth_worse():
    assert reading.good_enough(np.array([-100.0, -110.0, -121.0])).tolist() == [True, True, False]


def test_no_episodes_are_one_sentence():
    with pytest.raises(ValueError, match="returns must be those of at least one episode"):
        reading.good_enough(np.zeros(0))


def test_what_was_built_is_read_what_is_few_is_made_and_what_is_missing_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    made = reading.episodes("babyai", "GoToObjS4", "valid", 3)
    assert [episode.facts["seed"] for episode in made] == list(SEEDS["valid"][:3])
    with pytest.raises(FileNotFoundError, match="quickstudy data build babyai --tasks GoToObjS4 --split valid --episodes 90"):
        reading.episodes("babyai", "GoToObjS4", "valid", 90)
    build.build("babyai", ["GoToObjS4"], episodes=90, split="valid")
    read = reading.episodes("babyai", "GoToObjS4", "valid", 90)
    assert len(read) == 90
    for one, other in zip(made, read, strict=False):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_bad_episodes_for_training_are_left_out_where_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    name = "bandits-plain/bernoulli-2"
    returns = np.array([episode.facts["return"] for episode in reading.episodes("bandits", "bernoulli-2", "train", 40)])
    all_of_them, good = (recorded([name], episodes=40, held_out=3, length=32, filtered=some) for some in ([], [name]))
    count = lambda tasks, split: len(tasks.streams[split].episodes) - 1
    assert (count(all_of_them, "train"), count(good, "train")) == (40, reading.good_enough(returns).sum())
    assert 0 < count(good, "train") < 40
    assert count(good, "test") == 3
