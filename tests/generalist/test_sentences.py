"""Plain text: documents are the package's own, what the grammar tells is consistent, no text is in two splits."""

import re

import pytest

from quickstudy.generalist.data import sentences, store
from quickstudy.generalist.data.store import SEEDS
from quickstudy.generalist.tokens import ACTION_PLACE
from quickstudy.generalist.writing import Writer

WRITER = Writer()
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def text_of(seed):
    return sentences.record("sentences", seed).observations["text"][0]


def test_documents_are_whole_paragraphs_of_the_package_and_fit_a_sequence():
    documents = sentences.documents()
    assert len(documents) > 1000 and len(set(documents)) == len(documents)
    assert any("as one flat sequence of tokens" in one for one in documents)
    assert any("Draw until what is drawn belongs to a split" in one for one in documents)
    assert max(map(len, documents)) <= sentences.LONGEST
    assert max(len(WRITER.text.encode(one)) for one in documents) < ACTION_PLACE


@pytest.mark.parametrize(
    ("paragraph", "parts"),
    [
        ("", []),
        ("\n \n", []),
        ("ab", ["ab"]),
        ("abcdefghij", ["abcde", "fghij"]),
        ("ab\ncd\nef", ["ab\ncd", "ef"]),
        ("abcdef\ng", ["abcde", "f\ng"]),
    ],
)
def test_paragraphs_are_cut_at_lines(paragraph, parts):
    assert list(sentences.cut(paragraph, 5)) == parts


def check(text):
    """Whether the last sentence follows from the others; read anew, not as it was made."""
    told = [(a, rel, b) for a, rel, b in re.findall(r"The (\w+ \w+) is ([a-z ]+?) the (\w+ \w+)\.", text)]
    known = set(told) | {(b, OPPOSITE[rel], a) for a, rel, b in told}
    known |= {(a, rel, d) for a, rel, b in known for c, other, d in known if b == c and rel == other and a != d}
    there = dict(reversed(pair.split()) for pair in re.findall(r"\ba (\w+ \w+)", text.split(".")[0])) if "There is" in text else {}
    if match := re.search(r"So the (\w+ \w+) is ([a-z ]+) the (\w+ \w+)\.$", text):
        return match.groups() in known
    if match := re.search(r"What is (\w+ ?o?f?) the (\w+ \w+)\? the (\w+ \w+)$", text):
        return (match[3], match[1].strip(), match[2]) in known
    if match := re.search(r"What colour is the (\w+)\? (\w+)$", text):
        return there[match[1]] == match[2]
    if match := re.search(r"What is (\w+)\? the (\w+)$", text):
        return there[match[2]] == match[1]
    if match := re.search(r"Is the (\w+) (\w+)\? (yes|no)$", text):
        return (there[match[1]] == match[2]) == (match[3] == "yes")
    match = re.fullmatch(r"Go to the (\w+ \w+), then pick up the (\w+ \w+)\. What comes first\? the (\w+ \w+)", text)
    return match[1] == match[3]


def test_what_the_grammar_tells_is_consistent():
    episodes = [sentences.record("sentences", seed) for seed in range(600)]
    made = [episode.observations["text"][0] for episode in episodes if episode.facts["source"] == "grammar"]
    assert 240 < len(made) < 360
    assert all(check(text) for text in made)
    assert {True, False} == {text.endswith("yes") for text in made if text.endswith(("yes", "no"))}


def test_no_text_is_in_two_splits():
    texts = {split: {text_of(seed) for seed in seeds[:500]} for split, seeds in SEEDS.items()}
    assert not (texts["train"] & texts["valid"] or texts["train"] & texts["test"] or texts["valid"] & texts["test"])
    assert all(len(found) > 150 for found in texts.values())


def test_a_text_is_written_with_its_end_and_kept_unchanged(tmp_path):
    episodes = [sentences.record("sentences", seed) for seed in range(20)]
    for episode in episodes:
        (text,) = episode.observations["text"]
        tokens = sentences.tokens("sentences", episode, WRITER)
        assert tokens.ids.tolist() == [*WRITER.text.encode(text), WRITER.text.end]
        assert tokens.targets.all()
        assert tokens.places.tolist() == list(range(len(tokens.ids)))
        assert tokens.sections.tolist() == [0]
        assert WRITER.read(tokens) == text
    store.write_shard(tmp_path / "a.shard", episodes, sentences.provenance())
    back = store.Shard.open(tmp_path / "a.shard").read()
    assert [one.observations["text"] for one in back] == [one.observations["text"] for one in episodes]


def test_an_unknown_task_is_told():
    with pytest.raises(ValueError, match="did you mean 'sentences'"):
        sentences.find(["sentence"])
