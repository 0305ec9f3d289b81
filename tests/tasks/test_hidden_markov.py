"""Documents follow their concept, and prompts are what they say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quickstudy.core import sample_tasks
from quickstudy.tasks.hidden_markov import DELIMITER, HiddenMarkovDocuments, HiddenMarkovPrompts

KEY = jax.random.key(0)
draw = eqx.filter_jit(sample_tasks)


def test_properties_follow_the_permutation_of_the_concept_as_often_as_they_should():
    # Every word is of one state only, so that the text shows the states.
    tasks = HiddenMarkovDocuments(entities=1, properties=5, words=4, order=0.7, length=60, filling=0.1)
    drawn = draw(tasks, KEY, "train", 60)
    property_of = np.full(tasks.tokens, -1)
    property_of[np.asarray(tasks.lexicon())[0]] = np.arange(5)
    here, there = property_of[np.asarray(drawn.x)], property_of[np.asarray(drawn.y)]
    assert np.mean(here < 0) == pytest.approx(0.1, abs=0.02)
    known = (here >= 0) & (there >= 0)
    wanted = np.asarray(drawn.latent["concept"]).argmax(axis=2)[np.arange(60)[:, None], here]
    # Followed by order, or hit by a jump to any of five.
    assert np.mean((wanted == there)[known]) == pytest.approx(0.7 + 0.3 / 5, abs=0.03)


def test_entities_stay_as_often_as_they_should():
    tasks = HiddenMarkovDocuments(entities=3, properties=3, words=6, staying=0.8, length=60, fillers=0)
    entity_of = np.full(tasks.tokens, -1)
    for entity, written in enumerate(np.asarray(tasks.lexicon())[:, 1:]):
        entity_of[written] = entity
    drawn = draw(tasks, KEY, "train", 60)
    here, there = entity_of[np.asarray(drawn.x)], entity_of[np.asarray(drawn.y)]
    assert np.mean((here == there)[(here >= 0) & (there >= 0)]) == pytest.approx(0.8 + 0.2 / 3, abs=0.03)


def test_few_concepts_are_some_of_many_and_those_out_of_range_are_others():
    many, one = HiddenMarkovDocuments(), HiddenMarkovDocuments(concepts=1)
    np.testing.assert_array_equal(many.all_concepts("train")[:1], one.all_concepts("test"))
    known = {concept.tobytes() for concept in np.asarray(many.all_concepts("train"))}
    assert len(known) == 5
    assert not known & {concept.tobytes() for concept in np.asarray(many.all_concepts("out-of-range"))}
    drawn = draw(many, KEY, "test", 50).latent["concept"]
    assert {concept.tobytes() for concept in np.asarray(drawn)} == known
    np.testing.assert_allclose(many.moves(drawn[0]).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(many.emission().sum(axis=1), 1, rtol=1e-5)


def test_without_concepts_every_document_has_its_own():
    drawn = draw(HiddenMarkovDocuments(concepts=0, properties=8, words=16), KEY, "train", 20).latent["concept"]
    assert len({concept.tobytes() for concept in np.asarray(drawn)}) == 20


def test_prompts_have_delimiters_between_examples_only_and_no_fillers():
    prompts = HiddenMarkovPrompts(HiddenMarkovDocuments(filling=0.5), shots=3, length=4)
    drawn = draw(prompts, KEY, "test", 30)
    text = np.concatenate([drawn.x, drawn.y[:, -1:]], axis=1)
    assert text.shape == (30, 19)
    ends = np.arange(19) % 5 == 4
    assert (text[:, ends] == DELIMITER).all()
    assert ((text[:, ~ends] > DELIMITER) & (text[:, ~ends] <= prompts.documents.words)).all()
    # The ticks of labels are those before a delimiter, and the last.
    following = np.concatenate([text[:, 2:] == DELIMITER, np.ones((30, 1), bool)], axis=1)
    np.testing.assert_array_equal(np.flatnonzero(following.all(axis=0)), prompts.answers())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"concepts": -1}, "concepts must be at least 0, not -1"),
        ({"order": 1.0}, "order must lie between 0 and 1, not 1.0"),
        ({"words": 21}, "words must be at most entities \\* \\(properties - 1\\), not 21"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(settings, said):
    with pytest.raises(ValueError, match=said):
        HiddenMarkovDocuments(**settings)
    with pytest.raises(ValueError, match="length must be at least 2, not 1"):
        HiddenMarkovPrompts(length=1)


def test_one_key_writes_other_documents_in_other_splits():
    texts = [HiddenMarkovDocuments().sample(KEY, split).x for split in ("train", "valid", "test")]
    assert not any(jnp.array_equal(a, b) for i, a in enumerate(texts) for b in texts[:i])
