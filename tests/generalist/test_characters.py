"""Characters as sequences: each class is shown before it is asked for, labels hold for one sequence only, splits share no class."""

import jax
import numpy as np
import pytest

from quickstudy.generalist.data import characters, store
from quickstudy.generalist.data.store import SEEDS
from quickstudy.generalist.tokens import ACTION_PLACE
from quickstudy.generalist.writing import Writer
from quickstudy.tasks.glyphs import Glyphs

ONE, TWO = "characters-5-way-1-shot", "characters-5-way-2-shot"


@pytest.mark.parametrize(("task", "shot"), [(ONE, 1), (TWO, 2)])
def test_each_class_is_shown_before_it_is_asked_for(task, shot):
    episodes = [characters.record(task, seed) for seed in range(12)]
    for episode in episodes:
        labels, support = episode.actions.tolist(), episode.facts["support"]
        assert support == 5 * shot
        assert sorted(labels[:support]) == sorted([*range(5)] * shot)
        assert sorted(labels[support:]) == [*range(5)]
        image = episode.observations["image"]
        assert image.shape == (5 * shot + 5, 16, 16, 1)
        assert image.dtype == np.uint8
        assert len({one.tobytes() for one in image}) == len(image)  # no drawing twice
        assert image.max() > 150
        assert not image[:, [0, -1]].any() and not image[:, :, [0, -1]].any()
    assert len({tuple(episode.actions) for episode in episodes}) > 8  # the order is random


def test_drawings_of_a_label_are_of_its_class():
    """Drawn by the distribution itself, a class looks more like its own drawing than another class does, mostly."""
    glyphs = Glyphs()
    draw = jax.jit(lambda ids: jax.vmap(lambda c: glyphs.draw(c, jax.random.split(jax.random.key(5), 8)))(ids))
    right = []
    for seed in range(8):
        episode = characters.record(ONE, seed)
        models = characters.picture(np.asarray(draw(np.array(episode.facts["classes"])))).astype(float)  # (5, 8, 16, 16, 1)
        for drawing, label in zip(episode.observations["image"].astype(float), episode.actions, strict=True):
            right.append(int(np.square(models - drawing).sum(axis=(2, 3, 4)).min(axis=1).argmin()) == label)
    assert np.mean(right) > 0.6  # by chance 0.2


def test_classes_belong_to_one_split_and_their_labels_to_one_sequence():
    counts = Glyphs().counts
    for split, (start, seeds) in zip(SEEDS, [(sum(counts[:i]), SEEDS[split]) for i, split in enumerate(SEEDS)], strict=True):
        classes = np.array([characters.record(ONE, seed).facts["classes"] for seed in seeds[:40]])
        assert classes.min() >= start and classes.max() < start + counts[list(SEEDS).index(split)]
        assert len(np.unique(classes)) > 100
        assert not np.all(np.diff(classes, axis=1) > 0)


def test_equal_seeds_give_equal_sequences():
    one, again, other = (characters.record(ONE, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.observations["image"], again.observations["image"])
    assert one.facts == again.facts
    assert one.facts["classes"] != other.facts["classes"]


def test_a_sequence_is_two_tokens_a_drawing_and_comes_back(tmp_path):
    episode, writer = characters.record(TWO, 1), Writer()
    tokens = characters.tokens(TWO, episode, writer)
    assert tokens.is_patch.tolist() == [True, False] * 15
    assert tokens.targets.tolist() == tokens.is_action.tolist() == [False, True] * 15
    assert tokens.places.tolist() == [0, ACTION_PLACE] * 15
    assert tokens.sections.tolist() == [0]
    observations, actions = characters.tokenizer(writer.vocabulary).decode(tokens)
    np.testing.assert_array_equal(observations["image"], episode.observations["image"])
    np.testing.assert_array_equal(actions, episode.actions)
    store.write_shard(tmp_path / "one.shard", [episode])
    (back,) = store.Shard.open(tmp_path / "one.shard").read()
    np.testing.assert_array_equal(back.observations["image"], episode.observations["image"])


def test_pixels_are_averaged():
    drawing = np.zeros((28, 28), np.float32)
    drawing[2, 4:6] = 1
    picture = characters.picture(drawing)
    assert picture.shape == (16, 16, 1)
    assert picture[2, 3, 0] == 128
    assert picture.sum() == 128


def test_without_omniglot_there_are_glyphs_only(monkeypatch, tmp_path):
    monkeypatch.delenv("QUICKSTUDY_OMNIGLOT", raising=False)
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    assert characters.find(["all"]) == [ONE, TWO]
    with pytest.raises(FileNotFoundError, match="data fetch omniglot"):
        characters.find(["omniglot"])
    with pytest.raises(ValueError, match="did you mean 'omniglot-5-way-1-shot'"):
        characters.find(["omniglot-5-way-1shot"])


def test_omniglot_where_it_is():
    try:
        (task, _) = characters.find(["omniglot"])
    except FileNotFoundError:
        pytest.skip("Omniglot is not here")
    assert len(characters.find(["all"])) == 4
    episode = characters.record(task, 2)
    assert episode.observations["image"].shape == (10, 16, 16, 1)
    assert set(np.unique(episode.observations["image"])) <= {0, 64, 128, 191, 255}
    assert 0.02 < (episode.observations["image"] > 0).mean() < 0.5  # ink is white, on black
