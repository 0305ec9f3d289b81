"""The text model loses nothing, knows the words of its world, and can be learned anew."""

import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickstudy.generalist.text import TextModel
from quickstudy.generalist.train_text import captions, missions, train

TEXT = TextModel()


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.text())
def test_every_text_comes_back_unchanged(text):
    assert TEXT.decode(TEXT.encode(text)) == text


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.text(alphabet=" \n\t\u2581aA.\x00"))
def test_spaces_lines_case_and_the_sign_for_a_space_come_back_unchanged(text):
    assert TEXT.decode(TEXT.encode(text)) == text


@pytest.mark.parametrize("text", ["", " ", "  two  spaces  ", "<s></s><unk><0x41>", "\ufffd", "\U0001f916", "\ufb01 \u00c5 A\u030a"])
def test_texts_that_look_like_something_else_come_back_unchanged(text):
    assert TEXT.decode(TEXT.encode(text)) == text


@pytest.mark.parametrize("text", ["gehe zum roten Ball, Käse", "иди к красному мячу", "走到红球", "اذهب إلى الكرة", "लाल गेंद"])
def test_another_script_is_written_in_bytes_and_comes_back(text):
    ids = TEXT.encode(text)
    assert TEXT.decode(ids) == text
    assert any(piece.startswith("<0x") for piece in TEXT.pieces(ids))


def test_the_model_has_at_most_4096_pieces_and_is_small():
    assert 1000 <= TEXT.size <= 4096


def test_a_mission_takes_a_token_for_each_word():
    mission = "put the red ball next to the grey box on your left, then open a purple door"
    assert len(TEXT.encode(mission)) <= len(mission.split()) + 1  # the comma


def test_ids_are_in_range_and_the_end_is_never_written():
    ids = [piece for sentence in [*missions(), *captions()][:2000] for piece in TEXT.encode(sentence)]
    assert min(ids) > TEXT.end
    assert max(ids) < TEXT.size


def test_the_end_is_no_text():
    assert TEXT.decode([*TEXT.encode("a ball"), TEXT.end]) == "a ball"


def test_the_same_text_teaches_the_same_model():
    lines = [*captions()]
    first, second = train(lines, 400), train(lines, 400)
    assert first == second
    assert TextModel(first).size == 400
    assert TextModel(first).decode(TextModel(first).encode("a réd ball")) == "a réd ball"


def test_half_of_a_surrogate_pair_is_refused():
    with pytest.raises(ValueError, match="half of a surrogate pair at place 2"):
        TEXT.encode("a \ud83e")


@pytest.mark.parametrize("piece", [-1, TEXT.size])
def test_an_id_that_is_no_piece_is_refused(piece):
    with pytest.raises(ValueError, match=rf"ids of text must lie in \[0, {TEXT.size}\), not {piece}"):
        TEXT.decode(np.array([5, piece]).tolist())


def test_without_sentencepiece_the_command_that_installs_it_is_named(monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **options):
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match=r"pip install 'quickstudy\[generalist\]'"):
        TextModel()
