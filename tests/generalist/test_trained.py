"""A trained generalist is asked as its parts are; what it foresees is what reading one sequence alone foretells."""

import functools
import json

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest

import quickstudy
from quickstudy.algorithms.imitation import generalist as method
from quickstudy.cli import main
from quickstudy.generalist import answering, examination
from quickstudy.generalist.acting import Players, stacked
from quickstudy.generalist.data import characters, scenes
from quickstudy.generalist.embodiments import parse
from quickstudy.generalist.prompts import prompt
from quickstudy.generalist.trained import Trained, _require_seed
from quickstudy.generalist.writing import Writer
from quickstudy.shipped import provenance, weights_of

WRITER = Writer()
NAME = "bandits-plain/bernoulli-2"
PICTURE = scenes.record("caption-shapes", 0).observations["image"][0]


@pytest.fixture(scope="module")
def untrained():
    made = method.network(method.PRESETS["smoke"].config, WRITER.vocabulary.size, 64, jr.key(1))
    return Trained(eqx.tree_at(lambda network: network.embedding, made, 5 * made.embedding))


def test_questions_are_those_of_answering(untrained):
    network = untrained.network
    assert untrained.caption(PICTURE) == answering.caption(network, [PICTURE])[0]
    assert untrained.answer(PICTURE, "What?") == answering.answer(network, [PICTURE], ["What?"])[0]
    assert untrained.complete("a red", tokens=3) == answering.complete(network, ["a red"], tokens=3)[0]
    assert len({untrained.complete("a red", tokens=8, seed=seed) for seed in range(4)}) > 1
    episode = characters.record("characters-5-way-1-shot", 0)
    images, labels = np.asarray(episode.observations["image"]), episode.actions
    said = untrained.classify(images[:5], labels[:5], images[5:7])
    tokenizer = characters.tokenizer(WRITER.vocabulary)
    np.testing.assert_array_equal(said, answering.classify(network, tokenizer, images[:5], labels[:5], images[5:7]))


@pytest.mark.parametrize("kind", ["none", "end"])
def test_an_agent_is_one_player_with_its_prompt(untrained, kind):
    body, task = parse(NAME)
    begin = prompt(kind, NAME, room=32)
    agent, players = untrained.agent(NAME, prompt=kind), Players(untrained.network, body.tokenizer, 1, prompt=begin)
    agent.reset(seed=3)
    players.reset(seed=3)
    world = body.environment(task, 0)
    seen, done = world.reset(), []
    for _ in range(6):
        done.append(agent.act(seen))
        assert done[-1] == players.act([body.observe(seen)])[0]
        seen = world.step(done[-1]).observation
    agent.reset(seed=3)
    assert agent.act(world.reset()) == done[0]


def test_a_tokenizer_stands_for_any_environment_and_takes_tokens_as_its_prompt(untrained):
    body, task = parse(NAME)
    episode = body.encode(body.episodes(task, "train", 1))
    seen = body.observe(body.environment(task, 0).reset())
    assert untrained.agent(body.tokenizer, prompt=episode, greedy=True).act(seen) in (0, 1)
    with pytest.raises(ValueError, match="prompt must be tokens or 'none' where the task is a tokenizer, not 'end'"):
        untrained.agent(body.tokenizer, prompt="end")
    with pytest.raises(ValueError, match="there is no embodiment 'bandit-plain'; did you mean 'bandits-plain'"):
        untrained.agent("bandit-plain/bernoulli-2")


def test_what_is_foreseen_side_by_side_is_what_one_sequence_alone_foretells(untrained):
    episodes = [scenes.record("caption-shapes", seed) for seed in range(3)]
    tokens = [scenes.tokens("caption-shapes", episode, WRITER) for episode in episodes]
    likeliest, surprise = examination._foreseen(untrained.network, tokens)
    for number, one in enumerate(tokens):
        seen = jax.tree.map(lambda leaf: leaf[0], stacked([one], 64, [True]))
        logs, where = np.asarray(foretold(untrained.network, seen)), np.flatnonzero(one.targets)
        np.testing.assert_allclose(surprise[number][where], -logs[where - 1, one.ids[where]], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(likeliest[number][where], logs[where - 1].argmax(axis=1) == one.ids[where])


foretold = eqx.filter_jit(lambda network, seen: jax.nn.log_softmax(network.logits(network.unroll(seen, patches=16))))


def test_an_answer_counts_if_all_of_it_is_foreseen_and_of_characters_the_first_query(untrained, monkeypatch):
    sure = lambda network, sequences: ([one.targets.copy() for one in sequences], [np.zeros(len(one.ids)) for one in sequences])
    monkeypatch.setattr(examination, "_foreseen", sure)
    assert examination.examine(untrained.network, "scenes/question-shapes", 8)["right"] == 1.0

    def wrong_at_an_end(network, sequences, which):
        likeliest, surprise = sure(network, sequences)
        for one in likeliest:
            one[np.flatnonzero(one & ~np.append(one[1:], False))[which]] = False
        return likeliest, surprise

    # Of several questions about a picture the first one counts.
    for which, right in ((0, 0.0), (-1, 1.0)):
        monkeypatch.setattr(examination, "_foreseen", functools.partial(wrong_at_an_end, which=which))
        assert examination.examine(untrained.network, "scenes/question-shapes", 8)["right"] == right
    found = examination.examine(untrained.network, "characters/characters-5-way-1-shot", 20)
    assert found["right"] == 1.0  # the first query is the sixth of ten labels
    assert 0.2 <= found["commonest"] < 0.6
    assert found["sequences"] == 20


def test_what_comes_with_the_package_is_scored_without_anything_built(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path))
    name = "babyai-compact/GoToRedBallNoDists"
    asked = ["eval", "generalist", "--only", f"{name},scenes/caption-gridworld", "--n-tasks", "4", "--prompts", "none,end", "--json"]
    assert main(asked) == 0
    board = json.loads(capsys.readouterr().out)
    assert list(board["tasks"]) == [name]
    assert set(board["tasks"][name]) == {"expert", "random", "nearest neighbour", "generalist", "with prompt: end"}
    assert board["tasks"][name]["generalist"]["episodes"] == 4
    # A red ball alone in a room: 100 of 100 test seeds after the first part of the training.
    assert board["tasks"][name]["generalist"]["success"] >= 0.75
    assert board["examined"]["scenes/caption-gridworld"]["sequences"] == 4
    assert board["training"]["commit"]
    # More than the episodes of a simulator that are made without being asked for.
    assert main(["eval", "generalist", "--only", "scenes/caption-gridworld", "--n-tasks", "51", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["examined"]["scenes/caption-gridworld"]["sequences"] == 51
    assert main(["eval", "generalist", "--only", "atari"]) == 2
    assert "there is no task or embodiment 'atari'" in capsys.readouterr().err
    assert main(["eval", "generalist", "--best"]) == 2


def test_shipped_weights_say_where_they_come_from():
    facts = provenance("generalist")
    assert facts["command"].startswith("quickstudy train generalist --preset ")
    assert facts["changed files"] is False
    assert len(facts["commit"]) == 40
    assert weights_of("generalist").stat().st_size < 20e6


def test_what_cannot_be_shown_asked_or_told_is_one_sentence(untrained, tmp_path):
    trained, picture = untrained, np.zeros((16, 16, 1), np.uint8)
    body, level = parse("babyai-compact/GoToObj")
    seen = body.environment(level, 0).reset()
    agent = trained.agent("babyai-compact/GoToObj")
    wrong = [
        ({}, "must be what an environment of babyai shows: there is no 'image'"),
        (None, "must be what an environment of babyai shows: "),
        (seen | {"image": np.full((7, 7, 3), 99)}, r"the objects of image must lie in \[0, 11\), not 99"),
        (seen | {"image": np.zeros((7, 7, 4), int)}, r"image must be whole numbers of the shape \(7, 7, 3\)"),
        (seen | {"image": np.zeros((7, 7, 3))}, "not float64 of the shape"),
        (seen | {"direction": -1}, r"direction must lie in \[0, 4\), not -1"),
    ]
    for observation, said in wrong:
        with pytest.raises(ValueError, match=said):
            agent.act(observation)
    assert agent.act(seen) in range(7)
    with pytest.raises(ValueError, match="there is no level 'GoToObk'; did you mean 'GoToObj'"):
        trained.agent("babyai-compact/GoToObk")
    with pytest.raises(ValueError, match="question must have a character at least"):
        trained.answer(picture, "")
    # Whole functions are checked by their annotations in tests, as they are not elsewhere; so what checks for them is asked alone.
    with pytest.raises(TypeError, match=r"a picture must be an array of uint8, .*, not str"):
        answering._picture("cat.png")
    with pytest.raises(TypeError, match="text must be a text, not ndarray"):
        answering._text("text", picture)
    with pytest.raises(ValueError, match=r"seed must be a whole number from 0 to 2147483647, not 1\.5"):
        _require_seed(1.5)
    drawings = np.zeros((3, 16, 16, 1), np.uint8)
    for labels, said in (([0, 1], "one for each of the 3 pictures"), ([0, 1, 5], r"from 0 to 4, not \[0, 1, 5\]")):
        with pytest.raises(ValueError, match=said):
            answering.classify(trained.network, characters.tokenizer(WRITER.vocabulary), drawings, np.array(labels), drawings)
    many = np.zeros((300, 16, 16, 1), np.uint8)
    with pytest.raises(ValueError, match=r"support must be at most [0-9]+ pictures, which the network sees at once, not 300"):
        trained.classify(many, np.zeros(300, int), drawings)
    with pytest.raises(FileNotFoundError, match="did you mean 'generalist'"):
        quickstudy.load("generalst")
