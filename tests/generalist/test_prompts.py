"""Prompts are what they say: the beginning or the end of a training episode, of this task or another, or words."""

import numpy as np
import pytest

from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.prompts import prompt
from quickstudy.generalist.writing import Writer

NAMES = ("bandits-plain/bernoulli-2", "bandits-plain/bernoulli-5", "toytext-plain/Blackjack")
NAME = NAMES[0]


@pytest.fixture(scope="module", autouse=True)
def empty_store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUICKSTUDY_DATA", str(tmp_path_factory.mktemp("data")))
        yield


def test_start_end_and_uniform_are_parts_of_one_training_episode():
    body, task = parse(NAME)
    episodes = [body.encode([episode]).ids.tolist() for episode in body.episodes(task, "train", 50)]
    at = lambda part, whole: [i for i in range(len(whole)) if whole[i : i + len(part)] == part]
    first, last, anywhere = (prompt(kind, NAME, room=32, seed=3) for kind in ("start", "end", "uniform"))
    (episode,) = [whole for whole in episodes if whole[:32] == first.ids.tolist()]
    # Whole time steps of three tokens: ten of them have room at the end.
    assert last.ids.tolist() == episode[-30:]
    assert all(start % 3 == 0 for start in at(anywhere.ids.tolist(), episode))
    assert at(anywhere.ids.tolist(), episode)
    for part in (first, last, anywhere):
        assert part.places[0] == 0
        assert len(part.ids) == len(part.places) == len(part.targets) == len(part.intervals)
    assert prompt("none", NAME, room=32) is None


def test_a_wrong_task_is_of_the_same_embodiment_if_there_is_one():
    wrong = prompt("wrong-task", NAME, NAMES, room=32)
    other, task = parse(NAMES[1])
    known = [other.encode([episode]).ids[:32].tolist() for episode in other.episodes(task, "train", 50)]
    assert wrong.ids.tolist() in known
    only = prompt("wrong-task", NAME, [NAME, NAMES[2]], room=32)
    cards, task = parse(NAMES[2])
    assert only.ids.tolist() in [cards.encode([episode]).ids[:32].tolist() for episode in cards.episodes(task, "train", 50)]
    with pytest.raises(ValueError, match="a prompt of a wrong task needs more than one task"):
        prompt("wrong-task", NAME, [NAME], room=32)


def test_where_time_steps_stand_alone_one_of_them_is_the_prompt():
    name = "control-plain/MountainCarContinuous"
    body, task = parse(name)
    known = [body.encode([episode]).ids.reshape(-1, 3).tolist() for episode in body.episodes(task, "train", 50)]
    first, last, anywhere = (prompt(kind, name, room=32, seed=3).ids.tolist() for kind in ("start", "end", "uniform"))
    assert any((steps[0], steps[-1]) == (first, last) and anywhere in steps for steps in known)


def test_a_text_names_the_task():
    assert Writer().read(prompt("text", NAME, room=32)) == "bernoulli 2"
    assert len(prompt("text", NAME, room=2).ids) == 2


def test_another_kind_is_one_sentence_with_the_nearest():
    with pytest.raises(ValueError, match=r"there is no prompt 'ends'; did you mean 'end'"):
        prompt("ends", NAME, room=32)


def test_equal_seeds_give_equal_prompts_and_others_mostly_other_ones():
    drawn = [prompt("uniform", NAME, room=32, seed=seed).ids.tolist() for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({tuple(ids) for ids in drawn}) > 1
    assert np.max(drawn[0]) < Writer().vocabulary.size
