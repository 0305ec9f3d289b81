"""Asking for words: as reading everything anew for every piece would answer, each question on its own, to the end of text."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

from quickstudy.generalist import answering
from quickstudy.generalist.acting import stacked
from quickstudy.generalist.data import characters, scenes
from quickstudy.generalist.network import Generalist
from quickstudy.generalist.tokens import join
from quickstudy.generalist.vocabulary import Vocabulary
from quickstudy.generalist.writing import Given, Writer
from quickstudy.nn.transformer import Architecture

TICKS, PIECES = 64, 6
WRITER = Writer()
PICTURES = [scenes.record("caption-gridworld", seed).observations["image"][0] for seed in range(2)]
QUESTIONS = ["Is there a red ball?", "What colour is it, and what else do you see?"]


@pytest.fixture(scope="module")
def network() -> Generalist:
    """With weights that make it say various things."""
    sizes = Architecture(8, layers=1, heads=2)
    made = eqx.filter_jit(lambda key: Generalist(WRITER.vocabulary.size, sizes, reach=TICKS, channels=4, key=key))(jr.key(100))
    return jax.tree.map(lambda leaf: 3 * leaf if eqx.is_array(leaf) and leaf.ndim > 1 else leaf, made)


read_all = eqx.filter_jit(lambda network, seen: network.logits(network.unroll(seen, patches=TICKS)))


def said_without_cache(network, prompt, writer=WRITER, pieces=PIECES):
    """The whole sequence is read anew for every piece."""
    tokens, said = prompt, []
    while len(said) < pieces:
        seen = jax.tree.map(lambda leaf: leaf[0], stacked([tokens], TICKS, [True]))
        logits = np.asarray(read_all(network, seen))[len(tokens.ids) - 1, : writer.text.size]
        piece = 1 + int(np.argmax(logits[1:]))
        if piece == writer.text.end:
            break
        tokens = join([tokens, writer.following(piece, int(tokens.places[-1]) + 1)])
        said.append(piece)
    return said


def test_answers_are_those_without_a_cache_and_each_question_is_on_its_own(network):
    prompts = [WRITER.write(picture, Given(question)) for question, picture in zip(QUESTIONS, PICTURES, strict=True)]
    expected = [said_without_cache(network, prompt) for prompt in prompts]
    assert answering.answer(network, PICTURES, QUESTIONS, tokens=PIECES) == [WRITER.text.decode(pieces) for pieces in expected]
    assert expected[0] != expected[1]
    assert len(set(expected[0] + expected[1])) > 3


def test_captions_and_completions_are_those_without_a_cache(network):
    expected = [WRITER.text.decode(said_without_cache(network, WRITER.write(picture, end=False))) for picture in PICTURES]
    assert answering.caption(network, PICTURES, tokens=PIECES) == expected
    texts = ["The red ball is left of", "Go"]
    expected = [WRITER.text.decode(said_without_cache(network, WRITER.write(text, end=False))) for text in texts]
    assert answering.complete(network, texts, tokens=PIECES) == expected


def test_examples_may_stand_before_what_is_asked(network):
    example = WRITER.write(PICTURES[1], "a red ball")
    prompts = [join([example, WRITER.write(picture, end=False)]) for picture in PICTURES]
    expected = [WRITER.text.decode(said_without_cache(network, prompt)) for prompt in prompts]
    assert answering.go_on(network, prompts, WRITER, tokens=PIECES) == expected
    assert expected != answering.caption(network, PICTURES, tokens=PIECES)


def test_an_answer_stops_at_the_end_of_text_and_others_go_on(network):
    prompts = [WRITER.write(text, end=False) for text in ("The red ball", "Go to the green door")]
    whole = [said_without_cache(network, prompt) for prompt in prompts]
    writer = Writer()
    # A piece that only the first text has is now the end of text.
    writer.text.end = next(piece for number, piece in enumerate(whole[0]) if number and piece not in (*whole[1], *whole[0][:number]))
    expected = [said_without_cache(network, prompt, writer) for prompt in prompts]
    assert 0 < len(expected[0]) < PIECES == len(expected[1])
    told = answering.go_on(network, prompts, writer, tokens=PIECES)
    assert told == [writer.text.decode(pieces) for pieces in expected]


def test_only_text_is_said_however_likely_other_tokens_are(network):
    likely = eqx.tree_at(lambda made: made.embedding, network, network.embedding.at[WRITER.text.size :].multiply(50.0))
    prompts = [WRITER.write(text, end=False) for text in ("Go", "The")]
    drawn = [answering.go_on(likely, prompts, WRITER, tokens=4, key=jr.key(seed)) for seed in range(3)]
    assert len({text for texts in drawn for text in texts}) > 3
    assert drawn[0] == answering.go_on(likely, prompts, WRITER, tokens=4, key=jr.key(0))


def test_places_end_where_those_of_training_end(network):
    prompt = WRITER.write("?" * 509, end=False)
    assert len(prompt.ids) == 509
    writer = Writer()
    # Nothing else is the end, and a letter is told for each piece.
    writer.text.end, writer.text.decode = -1, lambda pieces: "x" * len(pieces)
    told = answering.go_on(network, [prompt, WRITER.write("Go", end=False)], writer, tokens=9)
    # Three places are left to the first.
    assert [len(letters) for letters in told] == [3, 9]


def test_labels_are_the_likeliest_after_the_support_and_queries_are_on_their_own(network):
    episode, tokenizer = characters.record("characters-5-way-1-shot", 100), characters.tokenizer(WRITER.vocabulary)
    images, labels = episode.observations["image"], episode.actions
    found = answering.classify(network, tokenizer, images[:5], labels[:5], images[5:])
    shown = tokenizer.encode({"image": images[:5]}, labels[:5])
    first = WRITER.vocabulary.discrete_start
    for query, label in zip(images[5:], found, strict=True):
        tokens = join([shown, tokenizer.step({"image": query}, first=False)])
        seen = jax.tree.map(lambda leaf: leaf[0], stacked([tokens], TICKS, [True]))
        assert label == np.argmax(read_all(network, seen)[len(tokens.ids) - 1, first : first + 5])
    assert answering.classify(network, tokenizer, images[:5], labels[:5], images[:0]).shape == (0,)


def test_wrong_use_is_told(network):
    with pytest.raises(ValueError, match="not 60 x 64 x 3"):
        answering.caption(network, [np.zeros((60, 64, 3), np.uint8)])
    with pytest.raises(ValueError, match="one for each of the 2 pictures, not 1"):
        answering.answer(network, PICTURES, QUESTIONS[:1])
    with pytest.raises(ValueError, match="one for each of the 2 pictures, not one text"):
        answering.answer(network, PICTURES, QUESTIONS[0])
    with pytest.raises(TypeError, match="a list of texts, not one text"):
        answering.complete(network, "Go")
    with pytest.raises(ValueError, match="text must have a character at least, not none"):
        answering.complete(network, [""])
    with pytest.raises(ValueError, match="at least 1, not 0"):
        answering.complete(network, ["Go"], tokens=0)
    with pytest.raises(ValueError, match=r"the network has 4097 tokens, the writer's vocabulary 5097"):
        answering.complete(network, ["Go"], writer=Writer(WRITER.text, Vocabulary(3048)))
    assert answering.complete(network, []) == []
