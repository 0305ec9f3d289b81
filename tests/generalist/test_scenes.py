"""Scenes: pictures show what the facts say, words are true of them, and no scene is in two splits."""

import re

import numpy as np
import pytest

from quickstudy.cli import main
from quickstudy.generalist.data import babyai, build, domain, scenes
from quickstudy.generalist.data.scenes import Object
from quickstudy.generalist.data.store import SEEDS, Store
from quickstudy.generalist.train_text import COLOURS
from quickstudy.generalist.vocabulary import to_patches
from quickstudy.generalist.writing import Writer

WRITER = Writer()


def recorded(task, count=150, split="train"):
    return [scenes.record(task, seed) for seed in SEEDS[split][:count]]


def place(one):
    return divmod(one.cell, 4)


HOLDS = {
    "above": lambda a, b: place(a)[0] < place(b)[0],
    "below": lambda a, b: place(a)[0] > place(b)[0],
    "left of": lambda a, b: place(a)[1] < place(b)[1],
    "right of": lambda a, b: place(a)[1] > place(b)[1],
}


def test_tiles_of_the_gridworld_read_back_are_the_objects():
    tiles = {babyai.tile(kind, colour, 16).tobytes(): (colour, kind) for kind in scenes.KINDS["gridworld"] for colour in COLOURS}
    assert len(tiles) == 24  # each looks different
    for task in ("caption-gridworld", "question-gridworld"):
        for episode in recorded(task, 50):
            cells = [tiles.get(patch.tobytes()) for patch in to_patches(episode.observations["image"])[0]]
            assert [Object(cell, *one) for cell, one in enumerate(cells) if one] == episode.facts["objects"]


def test_shapes_read_back_are_the_objects():
    """A cell's colour and shape are found among all that could have been drawn."""
    sizes = [(radius, (down, across)) for radius in (4.5, 5.5, 6.5) for down in (-1, 0, 1) for across in (-1, 0, 1)]
    masks = {scenes.shape(kind, *size).tobytes(): kind for kind in scenes.KINDS["shapes"] for size in sizes}
    assert len(masks) == len(sizes) * 6
    inks = {ink: colour for colour, ink in scenes._INKS.items()}
    for episode in recorded("caption-shapes", 50):
        patches = to_patches(episode.observations["image"])[0]
        pixels, counts = np.unique(patches.reshape(-1, 3), axis=0, return_counts=True)
        background, found = pixels[counts.argmax()], []
        for cell, patch in enumerate(patches):
            covered = np.any(patch != background[None, None], axis=2)
            if covered.any():
                (ink,) = {tuple(pixel) for pixel in patch[covered].tolist()}
                found.append(Object(cell, inks[ink], masks[covered.tobytes()]))
        assert found == episode.facts["objects"]


@pytest.mark.parametrize("task", ["caption-gridworld", "caption-shapes"])
def test_captions_name_all_objects_in_reading_order_and_say_how_they_lie(task):
    for episode in recorded(task):
        objects = episode.facts["objects"]
        words = episode.facts["caption"].replace(", which is ", " ")
        names = re.findall(r"\ba (\w+ \w+)", words)
        assert names == [f"{one.colour} {one.kind}" for one in objects]
        assert [one.cell for one in objects] == sorted({one.cell for one in objects})
        between = [part.strip() for part in re.split(r"\ba \w+ \w+", words)[1:-1]]
        for one, other, said in zip(objects[:-1], objects[1:], between, strict=True):
            assert set(said.split(" and ")) == {relation for relation, holds in HOLDS.items() if holds(one, other)}


def answer(question, objects):
    """What is to be answered, found in another way: by reading the question."""
    named = lambda words: [one for one in objects if words in (one.kind, f"{one.colour} {one.kind}")]
    if match := re.fullmatch(r"What colour is the (\w+)\?", question):
        (one,) = named(match[1])
        return one.colour
    if match := re.fullmatch(r"How many (\w+ )?(\w+) are there\?", question):
        kind = match[2].removesuffix("es") if match[2] in ("boxes", "crosses") else match[2].removesuffix("s")
        fits = lambda one: match[1] in (None, f"{one.colour} ") and kind in ("thing", one.kind)
        return ["zero", "one", "two", "three"][sum(map(fits, objects))]
    if match := re.fullmatch(r"Is there a (\w+ \w+)\?", question):
        return "yes" if named(match[1]) else "no"
    if match := re.fullmatch(r"What is (above|below|left of|right of) the (\w+ \w+)\?", question):
        (one,) = named(match[2])
        there = [other for other in objects if HOLDS[match[1]](other, one)]
        assert len(there) < 2
        return f"a {there[0].colour} {there[0].kind}" if there else "nothing"
    match = re.fullmatch(r"Is the (\w+ \w+) (above|below|left of|right of) the (\w+ \w+)\?", question)
    (one,), (other,) = named(match[1]), named(match[3])
    return "yes" if HOLDS[match[2]](one, other) else "no"


@pytest.mark.parametrize("task", ["question-gridworld", "question-shapes"])
def test_questions_have_the_one_answer_that_the_objects_give(task):
    episodes = recorded(task, 600)
    for episode in episodes:
        assert answer(episode.facts["question"], episode.facts["objects"]) == episode.facts["answer"]
    answers = [episode.facts["answer"] for episode in episodes]
    patterns = [" ".join(episode.facts["question"].split()[:2]) for episode in episodes]
    assert min(patterns.count(pattern) for pattern in ("What colour", "What is", "How many", "Is there", "Is the")) > 50
    assert {"nothing", "zero", "one", "two", "three", "red", "yes", "no"} <= set(answers)
    for pattern in ("Is there", "Is the"):
        yes = [said == "yes" for said, asked in zip(answers, patterns, strict=True) if asked == pattern]
        assert 0.35 < np.mean(yes) < 0.65
    assert max(answers.count(said) for said in set(answers) - {"yes", "no"}) < 0.25 * len(answers)


def test_no_scene_is_in_two_splits():
    contents = {
        split: {str(episode.facts["objects"]) for task in scenes.TASKS for episode in recorded(task, 100, split)} for split in SEEDS
    }
    one = {split: {content for content in found if content.count("Object") == 1} for split, found in contents.items()}
    assert all(len(found) > 10 for found in one.values())  # so few are possible that some would be shared
    for split in ("valid", "test"):
        assert not contents["train"] & contents[split]
    assert not contents["valid"] & contents["test"]


def test_a_tenth_of_all_contents_is_for_each_held_out_split():
    found = [domain.split_of_content(str(number)) for number in range(4000)]
    assert all(300 < found.count(split) < 500 for split in ("valid", "test"))


def test_equal_seeds_give_equal_scenes_and_tasks_differ():
    for task in scenes.TASKS:
        first, again = scenes.record(task, 7), scenes.record(task, 7)
        np.testing.assert_array_equal(first.observations["image"], again.observations["image"])
        assert first.facts == again.facts
    objects = [str(scenes.record(task, 7).facts["objects"]) for task in scenes.TASKS]
    assert len(set(objects)) == len(objects)


def test_a_caption_is_written_after_its_picture():
    episode = scenes.record("caption-shapes", 3)
    tokens = scenes.tokens("caption-shapes", episode, WRITER)
    words = WRITER.text.encode(episode.facts["caption"])
    assert tokens.is_patch.tolist() == [True] * 16 + [False] * (len(words) + 1)
    assert tokens.ids[16:].tolist() == [*words, WRITER.text.end]
    assert tokens.targets.tolist() == (~tokens.is_patch).tolist()
    assert tokens.places.tolist() == list(range(len(tokens.ids)))
    assert tokens.sections.tolist() == [0]
    patches = to_patches(episode.observations["image"])[0]
    np.testing.assert_array_equal(tokens.patches[tokens.ids[:16] - tokens.size], patches)
    assert len(np.unique(tokens.intervals[:16].reshape(16, 4), axis=0)) == 16
    assert not tokens.intervals[16:].any()
    assert WRITER.read(tokens) == episode.facts["caption"]


def test_questions_are_written_after_their_picture_and_only_answers_are_to_be_foreseen():
    episode = scenes.record("question-gridworld", 4)
    tokens = scenes.tokens("question-gridworld", episode, WRITER)
    asked = [(episode.facts["question"], episode.facts["answer"]), *episode.facts["more"]]
    assert len(set(asked)) == len(asked) > 1
    words, said = [], []
    for question, reply in asked:
        given, answered = WRITER.text.encode(question), [*WRITER.text.encode(reply), WRITER.text.end]
        words += given + answered
        said += [False] * len(given) + [True] * len(answered)
    assert tokens.is_patch.tolist() == [True] * 16 + [False] * len(words)
    assert tokens.ids[16:].tolist() == words
    assert tokens.targets[16:].tolist() == said
    assert not tokens.targets[:16].any()
    assert tokens.places.tolist() == list(range(len(tokens.ids)))


def test_scenes_with_one_question_are_told_to_be_old():
    episode = scenes.record("question-shapes", 4)
    del episode.facts["more"]
    with pytest.raises(ValueError, match="remove their folder and build them anew"):
        scenes.tokens("question-shapes", episode, WRITER)


@pytest.mark.parametrize("task", ["question-shapes", "relation-gridworld", "relation-shapes"])
def test_all_questions_about_a_picture_have_their_answers(task):
    for episode in recorded(task, 100):
        facts = episode.facts
        for question, said in [(facts["question"], facts["answer"]), *facts["more"]]:
            assert answer(question, facts["objects"]) == said


@pytest.mark.parametrize("task", ["relation-gridworld", "relation-shapes"])
def test_relations_are_asked_about_alone_and_guessing_does_not_answer_them(task):
    asked = [
        question
        for episode in recorded(task, 300)
        for question in ([episode.facts[name] for name in ("question", "answer")], *episode.facts["more"])
    ]
    beside = [said for question, said in asked if question.startswith("What is ")]
    true = [said for question, said in asked if question.startswith("Is the ")]
    assert len(beside) + len(true) == len(asked) > 4 * 300
    assert 0.4 < np.mean([said == "nothing" for said in beside]) < 0.6
    assert 0.4 < np.mean([said == "yes" for said in true]) < 0.6


@pytest.mark.parametrize(
    ("parts", "error", "said"),
    [
        ((np.zeros((60, 64, 3), np.uint8),), ValueError, "multiples of 16 and 1 or 3 channels, not 60 x 64 x 3"),
        ((np.zeros((64, 64, 4), np.uint8),), ValueError, "not 64 x 64 x 4"),
        ((np.zeros((64, 64, 3)),), TypeError, "an array of uint8 with three axes, not of float64 with 3"),
        ((np.zeros((64, 64), np.uint8),), TypeError, "not of uint8 with 2"),
        (("",), ValueError, "from 1 to 512 tokens together, not 0"),
        (("?" * 600,), ValueError, "from 1 to 512 tokens together"),
    ],
)
def test_what_cannot_be_written_is_told(parts, error, said):
    with pytest.raises(error, match=re.escape(said)):
        WRITER.write(*parts, end=False)


def test_unknown_tasks_and_seeds_of_no_split_are_told():
    with pytest.raises(ValueError, match="did you mean 'captions'"):
        scenes.find(["caption"])
    with pytest.raises(ValueError, match="did you mean 'caption-shapes'"):
        scenes.record("caption-shape", 0)
    with pytest.raises(ValueError, match="from 0 to 2999999, not 3000000"):
        scenes.record("caption-shapes", 3_000_000)


def test_scenes_are_built_and_described(tmp_path, capsys):
    assert main(["data", "build", "scenes", "--tasks", "captions", "--episodes", "100", "--out", str(tmp_path)]) == 0
    assert "scenes train  200/200" in capsys.readouterr().out
    store = Store.open(tmp_path, tasks=["caption-shapes"])
    built, made = store.episode(5), scenes.record("caption-shapes", 5)
    np.testing.assert_array_equal(built.observations["image"], made.observations["image"])
    assert built.facts["caption"] == made.facts["caption"]
    assert [Object(*one) for one in built.facts["objects"]] == made.facts["objects"]
    assert scenes.tokens("caption-shapes", built, WRITER).ids.tolist() == scenes.tokens("caption-shapes", made, WRITER).ids.tolist()
    card = (tmp_path / "card.md").read_text()
    assert "| caption-shapes | train | 100 | 100 | 100 | - | 1.0 |" in card
    assert "expert" not in card
    assert build.folder_of("scenes").name == "scenes"
