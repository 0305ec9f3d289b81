"""Players of known kind show their patterns in the two-step task, and the ideal player of Harlow's task errs at most once."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.algorithms.references import ModelBased, ModelFree, TwoStepOptimal, WinStayLoseShift, default_references
from quickstudy.check import check_learner
from quickstudy.core import lifetime
from quickstudy.tasks import Harlow, TwoStep, TwoStepTask
from quickstudy.tasks.control import ControlView
from quickstudy.tasks.two_step import Trials, stay_probabilities, step_record, trials

KEY = jr.key(0)


@eqx.filter_jit
def play(learner, task, n, ticks):
    """The trials of n lives in one task."""
    records = jax.vmap(lambda key: lifetime(learner, task, key, steps=ticks, record=step_record)[1])(jr.split(KEY, n))
    return trials(*records)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(("learner", "based"), [(ModelFree(0.5, 5.0), False), (ModelBased(0.5, 5.0, 0.8), True)])
def test_after_one_trial_the_choice_has_the_closed_form_of_the_players_kind(learner, based):
    even = TwoStepTask(jnp.array(0.8), jnp.int32(0), jnp.array([0.5, 0.5]), jnp.array(0.0))
    n = 20_000
    found = np.asarray(stay_probabilities(play(learner, even, n, 4)))
    # One reward moves one value from 0.5 by half of 0.5. Model-free: the action's. Model-based: the state's, of which the actions get
    # 0.8 and 0.2, and a rare transition turns the sign.
    for rewarded, common in itertools.product((0, 1), (0, 1)):
        up = 1 if rewarded else -1
        edge = up * (1 if common else -1) * 0.25 * (0.8 - 0.2) if based else up * 0.25
        cell = n / 2 * (0.8 if common else 0.2)
        assert abs(found[rewarded, common] - sigmoid(5 * edge)) < 4 * 0.5 / np.sqrt(cell)


def test_over_a_life_reward_after_a_rare_transition_tells_the_kinds_apart():
    task = TwoStepTask(jnp.array(0.8), jnp.int32(0), jnp.array([0.9, 0.1]), jnp.array(0.025))
    (free_none, free_some), (based_none, based_some) = (
        np.asarray(stay_probabilities(play(learner, task, 300, 200))) for learner in (ModelFree(), ModelBased())
    )
    # 30,000 trials, 3,000 or more in a cell: the deviation of a share is below 0.01.
    assert (free_some - free_none > 0.1).all(), "stay after a reward, whichever way it came"
    rare, common = based_some - based_none
    assert rare < -0.3 < 0.3 < common, "stay after a common reward, leave after a rare one"
    assert abs(rare + common) < 0.06, "no effect of reward alone"


def belief_after(learner, states, rewards):
    belief = jnp.asarray(0.5)
    for state, reward in zip(states, rewards, strict=True):
        view = ControlView(jax.nn.one_hot(1 + state, 3), jnp.int32(0), jnp.zeros(()), jnp.int32(0))
        belief = learner.observe(belief, view, jnp.int32(0), view._replace(reward=jnp.asarray(reward)), KEY)
    return float(belief)


def test_the_optimal_players_belief_is_the_sum_over_all_histories():
    learner = TwoStepOptimal(rich=0.7, poor=0.2, volatility=0.1)
    states, rewards = [0, 1, 1, 0], [1.0, 0.0, 1.0, 0.0]
    mass = np.zeros(2)
    for history in itertools.product((0, 1), repeat=5):  # which state is rich in each of four trials, and in the next
        chance = 0.5
        for now, after, state, reward in zip(history[:-1], history[1:], states, rewards, strict=True):
            pays = 0.7 if state == now else 0.2
            chance *= (pays if reward else 1 - pays) * (0.1 if after != now else 0.9)
        mass[history[-1]] += chance
    assert belief_after(learner, states, rewards) == pytest.approx(mass[0] / mass.sum(), abs=1e-6)


def test_the_optimal_player_earns_most_and_nobody_more_than_knowing():
    task = TwoStepTask(jnp.array(0.8), jnp.int32(0), jnp.array([0.9, 0.1]), jnp.array(0.025))
    earned = {name: float(play(who, task, 300, 200).reward.mean()) for name, who in default_references(TwoStep(), 200).items()}
    assert earned["optimal"] > max(earned["model-based"], earned["model-free"]) > min(earned.values()) == earned["random"]
    # 30,000 trials: the deviation of a mean reward is at most 0.003, and a little more as the trials of a life are not independent.
    assert abs(earned["random"] - 0.5) < 0.02
    assert earned["optimal"] < 0.8 * 0.9 + 0.2 * 0.1


def test_references_of_the_two_step_task_conform():
    check_learner(ModelBased(), TwoStep(), KEY, steps=3)


@eqx.filter_jit
def harlow_scores(learner, n):
    life = lambda key: lifetime(learner, Harlow().sample(jr.fold_in(key, 0), "test"), key, steps=6)[1]
    return jax.vmap(life)(jr.split(KEY, n))


def test_the_ideal_player_of_harlows_task_guesses_once():
    references = default_references(Harlow(), 6)
    assert isinstance(references["win-stay, lose-shift"], WinStayLoseShift)
    ideal, chance = (np.asarray(harlow_scores(who, 2_000)).mean(axis=0) for who in references.values())
    assert abs(ideal[0] - 0.5) < 4 * 0.5 / np.sqrt(2_000)
    assert ideal[1:].tolist() == [1.0] * 5
    assert np.abs(chance - 0.5).max() < 4 * 0.5 / np.sqrt(2_000)


def test_trials_of_many_lives_keep_their_axes():
    found = play(ModelFree(), TwoStep().sample(KEY, "test"), 3, 10)
    assert isinstance(found, Trials)
    assert {leaf.shape for leaf in found} == {(3, 5)}
