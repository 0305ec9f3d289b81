"""Language models read what was, not what will be; the exact predictor of hidden Markov documents is exact."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.incontext import demonstrations, few_shot_text, implicit_bayes, language_model
from quickstudy.algorithms.references.hidden_markov import ConceptPosterior, KnowsConcept
from quickstudy.core import lifetime, sample_tasks
from quickstudy.tasks import Sinusoid
from quickstudy.tasks.documents import document
from quickstudy.tasks.hidden_markov import HiddenMarkovDocuments, HiddenMarkovPrompts
from quickstudy.tasks.text_tasks import TextTasks

KEY = jr.key(0)
TINY = HiddenMarkovDocuments(concepts=2, entities=2, properties=3, words=3, fillers=1, length=6, order=0.7, filling=0.1)


def by_enumeration(moves, emission, text):
    """The chances of the next token after a text, from the sum over all concepts and all paths of states."""
    concepts, states, _ = moves.shape
    joint = np.zeros(emission.shape[1])
    for concept in range(concepts):
        for path in itertools.product(range(states), repeat=len(text) + 1):
            chance = emission[path[0], text[0]]
            for before, here, token in zip(path, path[1:], text[1:], strict=False):
                chance *= moves[concept, before, here] * emission[here, token]
            joint += chance * moves[concept, path[-2], path[-1]] * emission[path[-1]]
    return joint / joint.sum()


@pytest.mark.parametrize("text", [[1], [2, 0, 2], [3, 4, 1]])
def test_the_posterior_is_that_of_all_paths(text):
    exact = ConceptPosterior.of(TINY)
    answers = language_model.read(exact, document(jnp.array([*text, 0]), None))
    brute = by_enumeration(np.asarray(exact.moves, float), np.asarray(exact.emission, float), text)
    np.testing.assert_allclose(np.exp(answers[-1]), brute, atol=1e-5)


def test_who_is_told_the_concept_is_the_posterior_of_one_concept():
    task = TINY.sample(KEY, "test")
    told = KnowsConcept(TINY).informed(task)
    one = ConceptPosterior(TINY.moves(task.latent["concept"])[None], TINY.emission())
    np.testing.assert_allclose(language_model.read(told, task), language_model.read(one, task), atol=1e-5)
    assert told.moves.shape[0] == 1


def test_the_posterior_is_surprised_as_much_as_it_expects():
    """Only the distribution that wrote the documents is: the sampler and the forward algorithm agree."""
    exact, tasks = ConceptPosterior.of(TINY), eqx.filter_jit(sample_tasks)(TINY, KEY, "test", 2_000)
    logs = np.asarray(eqx.filter_jit(jax.vmap(lambda task: language_model.read(exact, task)))(tasks))
    np.testing.assert_allclose(np.exp(logs).sum(axis=-1), 1, atol=1e-4)
    surprise = -np.take_along_axis(logs, np.asarray(tasks.y)[..., None], axis=-1)[..., 0]
    excess = (surprise + np.sum(np.exp(logs) * logs, axis=-1)).mean(axis=1)
    assert abs(excess.mean()) < 4 * excess.std() / len(excess) ** 0.5
    # Who takes the concepts for others is surprised more.
    wrong = ConceptPosterior.of(TINY, "out-of-range")
    others = np.asarray(eqx.filter_jit(jax.vmap(lambda task: language_model.read(wrong, task)))(tasks))
    assert -np.take_along_axis(others, np.asarray(tasks.y)[..., None], axis=-1).mean() > surprise.mean() + 0.02


@pytest.mark.parametrize("body", ["transformer", "lstm"])
def test_a_text_read_at_once_is_the_text_read_token_by_token_and_knows_no_future(body):
    config = language_model.Config(body=body, width=8, layers=2, heads=2)
    ours, task = language_model.learner(config, TINY, KEY), TINY.sample(KEY, "train")
    together = ours.unroll(task.x)
    alone = lifetime(ours, task, KEY, steps=5, record=lambda tick: tick.response)[1]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    changed = ours.unroll(task.x.at[3].set((task.x[3] + 1) % TINY.tokens))
    np.testing.assert_allclose(changed[:3], together[:3], atol=1e-6)
    assert (np.abs(changed[3:] - together[3:]).max(axis=1) > 1e-3).all()


def test_tasks_without_tokens_are_refused():
    with pytest.raises(TypeError, match="language-model reads documents, not Sinusoid"):
        language_model.learner(language_model.Config(), Sinusoid(), KEY)


def test_every_corruption_spoils_what_it_says_of_the_same_prompt():
    words = jnp.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    others, labels, fillers = jnp.array([[21, 22, 23], [24, 25, 26]]), jnp.array([[31], [32]]), jnp.array([[41], [42]])
    found = {kind: text.tolist() for kind, text in demonstrations.spoiled(words, others, labels, fillers).items()}
    last = [9, 10, 11, 12]
    assert found == {
        "no examples": last,
        "right examples": [1, 2, 3, 4, 0, 5, 6, 7, 8, 0, *last],
        "random labels": [1, 2, 3, 31, 0, 5, 6, 7, 32, 0, *last],
        "fillers as labels": [1, 2, 3, 41, 0, 5, 6, 7, 42, 0, *last],
        "random inputs": [21, 22, 23, 4, 0, 24, 25, 26, 8, 0, *last],
        "inputs only": [1, 2, 3, 0, 5, 6, 7, 0, *last],
        "labels only": [4, 0, 8, 0, *last],
        "no delimiters": [1, 2, 3, 4, 5, 6, 7, 8, *last],
    }


def test_what_is_lost_is_counted_from_what_is_gained():
    exact, keys = ConceptPosterior.of(HiddenMarkovDocuments()), jr.split(KEY, 400)
    found = demonstrations.shares_lost(exact, HiddenMarkovDocuments(), keys, shots=4, length=5)
    assert found["gain"] == found["right examples"] - found["no examples"] > 0
    assert found["random labels: lost"] == pytest.approx((found["right examples"] - found["random labels"]) / found["gain"])
    # Labels alone follow on nothing, and tell the concept to nobody.
    assert found["labels only: lost"] > 0.5
    # The shortest text is answered where it ends, and not where the longest does.
    prompts = HiddenMarkovPrompts(HiddenMarkovDocuments(), shots=0, length=5)
    alone = implicit_bayes.accuracy(exact, prompts, eqx.filter_jit(sample_tasks)(prompts, KEY, "test", 400))
    assert found["no examples"] == pytest.approx(alone[0], abs=0.1)


class Perfect(language_model.LanguageModel):
    """Foresees the letters of one task: as they are, one place further in the alphabet."""

    tasks: TextTasks

    def unroll(self, text):
        back = jnp.roll(text, self.tasks.length)
        return 9.0 * jax.nn.one_hot((back + 1) % self.tasks.letters, self.tasks.tokens)


def test_an_answer_counts_if_all_its_letters_are_foreseen():
    tasks = TextTasks(letters=6, length=2, examples=3)
    words = jnp.array([[0, 1], [5, 5], [3, 2]])
    answers = tasks.rewrite(words, jnp.int32(0), jnp.int32(1)).at[1, 1].set(3)
    marks = jnp.full((3, 1), 6)
    text = document(jnp.concatenate([words, marks, answers, marks + 1], axis=1).reshape(-1), None)
    any_model = language_model.learner(language_model.Config(body="lstm", width=4), tasks, KEY)
    perfect = Perfect(any_model.embedding, any_model.body, any_model.head, tasks)
    hits = few_shot_text.exact(perfect, tasks, jax.tree.map(lambda leaf: leaf[None], text))
    assert hits.tolist() == [[True, False, True]]


def test_fine_tuning_at_no_rate_is_no_fine_tuning_and_at_some_rate_is():
    tasks = TextTasks(letters=4, length=1, examples=5)
    ours = language_model.learner(language_model.Config(body="lstm", width=8), tasks, KEY)
    texts = few_shot_text.drawn(tasks, "valid", 0, 20)
    # The last demonstration's word, alone, is the text of a prompt without demonstrations.
    last = jax.vmap(lambda text: jnp.argmax(ours.unroll(text.x[-3:])[1]) == text.y[-2])(texts)
    np.testing.assert_array_equal(few_shot_text.fine_tuned(ours, tasks, texts, jnp.array(0.0)), last)
    assert few_shot_text.fine_tuned(ours, tasks, texts, jnp.array(0.1)).mean() != last.mean()
