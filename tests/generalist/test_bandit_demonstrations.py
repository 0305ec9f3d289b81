"""Bandits as a domain: machines by their seeds, and an expert that learns as well as its indices let it."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from quickstudy.algorithms.references import Gittins
from quickstudy.algorithms.references.counting import Counts
from quickstudy.generalist import embodiments
from quickstudy.generalist.data import bandits
from quickstudy.generalist.data.store import SEEDS, Episode
from quickstudy.generalist.scoreboard import Random, play
from quickstudy.gittins_indices import discounted_indices
from quickstudy.tasks import BernoulliBandit

TASKS = bandits.GROUPS["all"]
LIVES = range(50)


def recorded(task, seed) -> Episode:
    episode = bandits.record(task, seed)
    assert isinstance(episode, Episode)
    return episode


class Thompson:
    """Pulls the arm whose draw from its posterior is the largest."""

    def __init__(self, arms):
        self._draw, self._counts = np.random.default_rng(0), {}
        self._arms = arms

    def reset(self, players):
        self._counts |= {player: np.ones((2, self._arms)) for player in players}

    def act(self, observations, players):
        for observation, player in zip(observations, players, strict=True):
            if observation["reward"] < 2:
                self._counts[player][1 - observation["reward"], observation["action"]] += 1
        return [int(np.argmax(self._draw.beta(*self._counts[player]))) for player in players]


def test_equal_seeds_give_equal_episodes_that_can_be_played_again():
    for task in TASKS:
        episode, again = recorded(task, 3), recorded(task, 3)
        for name in ("action", "reward"):
            np.testing.assert_array_equal(episode.observations[name], again.observations[name])
        assert episode.facts == again.facts
        world = bandits.environment(task, 3)
        seen = [world.reset()]
        for action, reward in zip(episode.actions, episode.rewards, strict=True):
            step = world.step(action)
            assert step.reward == reward
            assert step.end == (len(seen) == bandits.PULLS)
            seen.append(step.observation)
        assert step.success == episode.facts["success"]
        assert [one["action"] for one in seen[:-1]] == episode.observations["action"].tolist()
        assert [one["reward"] for one in seen[:-1]] == episode.observations["reward"].tolist()


def test_machines_differ_between_seeds_and_are_drawn_as_the_task_draws_them():
    machines = np.array([bandits.environment("bernoulli-5", seed).probabilities for seed in range(2_000)])
    sample = lambda key: BernoulliBandit(arms=5).sample(key, "train").probabilities
    theirs = jax.vmap(sample)(jax.random.split(jax.random.key(0), 2_000))
    # Means and variances of uniform numbers, a half and a twelfth, for each arm: within five standard errors.
    for drawn in (machines, np.asarray(theirs)):
        np.testing.assert_allclose(drawn.mean(axis=0), 0.5, atol=0.033, rtol=0)
        np.testing.assert_allclose(drawn.var(axis=0), 1 / 12, atol=0.0084, rtol=0)
    pays = [bandits.environment("bernoulli-5", seed)._pays.mean(axis=0) for seed in range(200)]
    assert np.abs(np.mean(pays - machines[:200])) < 0.01


@pytest.mark.parametrize("task", ["bernoulli-2", "bernoulli-5"])
def test_the_expert_pulls_the_arm_with_the_largest_index_for_the_pulls_that_are_left(task):
    arms = len(bandits.environment(task, 11).probabilities)
    reference = Gittins.finite_horizon(arms, bandits.PULLS)
    episode = recorded(task, 11)
    pulls, payoffs = np.zeros((2, bandits.PULLS + 1, arms))
    for tick, (action, reward) in enumerate(zip(episode.actions, episode.rewards, strict=True)):
        pulls[tick + 1], payoffs[tick + 1] = pulls[tick], payoffs[tick]
        pulls[tick + 1, action] += 1
        payoffs[tick + 1, action] += reward
    index = jax.vmap(lambda pulls, payoffs: reference.index(Counts(pulls, payoffs), jax.random.key(0)))
    indices = np.asarray(index(pulls[:-1], payoffs[:-1]))
    chosen = indices[np.arange(bandits.PULLS), episode.actions]
    np.testing.assert_allclose(chosen, indices.max(axis=1), atol=1e-6, rtol=0)
    assert not np.allclose(chosen, indices.min(axis=1), atol=1e-3, rtol=0)


def test_the_indices_are_the_published_ones():
    # Gittins, Glazebrook and Weber 2011, table 8.4 (recalled): a new arm, and one after a success, at discount 0.9.
    indices = discounted_indices(2, 0.9)
    np.testing.assert_allclose([indices[0, 0], indices[1, 0], indices[0, 1]], [0.7029, 0.8001, 0.5001], atol=1e-3, rtol=0)


@pytest.mark.parametrize(("task", "arms"), [("bernoulli-5", 5), ("bernoulli-10", 10)])
def test_who_knows_how_machines_are_drawn_beats_thompson_and_chance(task, arms):
    body, _ = embodiments.parse(f"bandits-plain/{task}")
    episodes = [recorded(task, seed) for seed in LIVES]
    expert = np.array([episode.facts["return"] for episode in episodes])
    thompson, random = play(Thompson(arms), body, task, LIVES), play(Random(body), body, task, LIVES)
    for lower, higher in ((random.returns, thompson.returns), (thompson.returns, expert)):
        difference = higher - lower
        assert difference.mean() > 3 * difference.std() / np.sqrt(len(LIVES))
    assert np.mean([episode.facts["success"] for episode in episodes]) > 0.8
    assert random.success.mean() < 0.05


def test_success_is_at_most_half_of_the_regret_of_chance():
    world = bandits.environment("bernoulli-2", 0)
    best = int(np.argmax(world.probabilities))
    for wrong in (25, 26):  # chance errs 50 times in 100
        world.reset()
        steps = [world.step(1 - best if pull < wrong else best) for pull in range(bandits.PULLS)]
        assert world.regret() == pytest.approx(wrong * np.ptp(world.probabilities), rel=1e-6, abs=1e-9)
        assert [step.success for step in steps[:-1]] == [False] * 99
        assert steps[-1].success == (wrong == 25)


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_comes_back_from_its_tokens(task):
    body, _ = embodiments.parse(f"bandits-plain/{task}")
    episodes = [recorded(task, SEEDS["test"][seed]) for seed in (0, 1)]
    tokens = body.encode(episodes)
    assert len(tokens.ids) == 2 * 3 * bandits.PULLS
    observations, actions = body.tokenizer.decode(tokens)
    for name, values in body.raw(episodes).items():
        np.testing.assert_array_equal(observations[name], values)
    np.testing.assert_array_equal(actions, np.concatenate([episode.actions for episode in episodes]))
    arms = task.partition("-")[2]
    assert body.tokenizer.describe(body.encode(episodes[:1])).startswith(f"0: action {arms}, reward 2, action 0\n1: action 0, ")


def test_what_is_seen_in_play_has_the_tokens_of_what_was_recorded():
    body, task = embodiments.parse("bandits-plain/bernoulli-5")
    episode = recorded(task, SEEDS["test"][2])
    tokens, world = body.encode([episode]), body.environment(task, SEEDS["test"][2])
    observation, played = body.observe(world.reset()), []
    for action in episode.actions:
        assert body.tokenizer.observation_space.contains(observation)
        played += body.tokenizer.step(observation, first=True).ids.tolist()
        observation = body.observe(world.step(action).observation)
    assert played == tokens.ids[~tokens.is_action].tolist()


def test_what_is_not_there_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="did you mean 'bernoulli-5'"):
        bandits.environment("bernouli-5", 0)
    with pytest.raises(ValueError, match="plain"):
        bandits.encoding("plane", "bernoulli-5")
    for arm in (-1, 5):
        with pytest.raises(ValueError, match=f"an arm from 0 to 4, not {arm}"):
            bandits.environment("bernoulli-5", 0).step(arm)


def test_who_makes_episodes_does_not_load_jax():
    script = (
        "import sys; from quickstudy.generalist.data import bandits, mazes; "
        "bandits.record('bernoulli-5', 0), mazes.record('tree-7', 0); print('jax' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "False"
