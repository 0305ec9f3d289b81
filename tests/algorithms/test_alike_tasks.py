"""The claim on prompts: what tells tasks apart, whose actions are foreseen, and windows that begin where episodes do."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.imitation import gato_prompts, generalist
from quickstudy.core import sample_tasks
from quickstudy.generalist.acting import stacked
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.prompts import part
from quickstudy.generalist.tokens import join
from quickstudy.generalist.writing import Writer

NAME = "bandits-plain/bernoulli-2"
BODY, TASK = parse(NAME)
EPISODES = [BODY.encode([episode]) for episode in BODY.episodes(TASK, "train", 6)]
NETWORK = generalist.network(generalist.PRESETS["smoke"].config, Writer().vocabulary.size, 128, jr.key(1))


def beginning_with(numbers):
    """An episode for each row of what is first seen."""
    (one,) = EPISODES[:1]
    first = int(np.argmax(one.targets))
    made = lambda row: one._replace(ids=np.concatenate([row, one.ids[first:]]).astype(np.int32), targets=after(len(row)))
    after = lambda n: np.concatenate([np.zeros(n, bool), one.targets[first:]])
    return [made(row) for row in numbers]


@pytest.mark.parametrize(("shift", "told"), [(0.0, 0.5), (40.0, 1.0)])
def test_what_is_first_seen_tells_apart_what_differs_and_nothing_else(shift, told):
    random = np.random.default_rng(0)
    draw = lambda n, by=0.0: random.normal([500 + by, 500, 500], 10, (n, 3))
    parts = [draw(200), draw(200, shift), draw(100), draw(100, shift)]
    found = gato_prompts.told_apart(*map(beginning_with, parts))
    # Of 200 answers by chance, the better of two rules.
    assert abs(found - told) < 0.12


def test_a_difference_of_two_numbers_is_told_where_each_alone_says_nothing():
    random = np.random.default_rng(0)
    base = random.normal(500, 50, (600, 1))
    rows = np.concatenate([base, base + np.where(np.arange(600) < 300, 4, -4)[:, None]], axis=1)
    parts = [rows[:200], rows[300:500], rows[200:300], rows[500:]]
    assert gato_prompts.told_apart(*map(beginning_with, parts)) > 0.95


def test_a_surprise_is_that_of_reading_prompt_and_first_action_alone():
    begin = part("end", EPISODES[3], 12, np.random.default_rng(0))
    first = gato_prompts.begun(EPISODES[0])
    sequences = [first, join([begin, first])]
    found = gato_prompts.surprises(NETWORK, sequences, [len(first.ids)] * 2)
    for whole, nats in zip(sequences, found, strict=True):
        seen = stacked([whole], len(whole.ids), [True])
        logits = NETWORK.logits(NETWORK.unroll(jax.tree.map(lambda leaf: leaf[0], seen), patches=1))
        np.testing.assert_allclose(nats, -jax.nn.log_softmax(logits[-2])[whole.ids[-1]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("likely", "share"), [(7, 1.0), (8, 0.0)])
def test_what_is_chosen_is_the_likelier_of_two_actions(monkeypatch, likely, share):
    own, other = (gato_prompts.begun(EPISODES[0])._replace(ids=np.array([5, 6, number], np.int32)) for number in (7, 8))
    surprises = lambda network, sequences, lasts: np.array([float(one.ids[-1] != likely) for one in sequences])
    monkeypatch.setattr(gato_prompts, "_tokens", lambda name, split, n: dict.fromkeys(range(n), own if name == "own" else other))
    monkeypatch.setattr(gato_prompts, "surprises", surprises)
    nats, chosen = gato_prompts._foreseen(NETWORK, ("own", "other"), {"none": [None] * 3}, 3, 0, "test")
    assert (nats.tolist(), chosen.tolist()) == ([1 - share], [share])


def test_most_windows_begin_with_an_episode_and_none_elsewhere_than_at_a_step():
    tasks = gato_prompts.trained_on({"train": {NAME: EPISODES}})
    stream = tasks.streams["train"]
    drawn = eqx.filter_jit(lambda: sample_tasks(tasks, jr.key(0), "train", 200))()
    firsts = np.asarray(drawn.seen.place)[:, 0]
    assert (firsts == 0).all()
    share = gato_prompts._AGAIN * len(EPISODES) / len(stream.sections)
    begins = np.mean([[any(tuple(row[:9]) == tuple(one.ids[:9]) for one in EPISODES)] for row in np.asarray(drawn.seen.id)])
    assert begins > 0.75 * share * 0.7  # a quarter has a prompt, of which half is the end


def test_wrong_prompts_are_of_the_other_task_and_text_stands_in_what_is_seen():
    body, task = parse("bandits-plain/bernoulli-5")
    other = [body.encode([episode]) for episode in body.episodes(task, "train", 4)]
    draw = np.random.default_rng(0)
    wrong = gato_prompts._prompts("wrong-task", EPISODES, other, 5, draw)
    starts = [one.ids[: gato_prompts._ROOM].tolist() for one in other]
    assert all(one.ids.tolist() in starts for one in wrong)
    assert gato_prompts._prompts("text", EPISODES, other, 2, draw) == [None, None]
