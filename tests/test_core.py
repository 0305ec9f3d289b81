"""A lifetime is what its definition says, however it is cut."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy import AbstractLearner, lifetime, live, sample_tasks
from quickstudy.algorithms.fewshot import maml
from quickstudy.core import count_floats, nothing
from quickstudy.tasks import BernoulliBandit, Sinusoid

KEY = jr.key(3)


class Gambler(AbstractLearner):
    """Pulls at random, and remembers in its fast state a function, which is no array."""

    arms: int

    def begin(self, view, key):
        return jnp.zeros(self.arms), jnp.tanh

    def respond(self, fast, view, key):
        values, squash = fast
        return jnp.argmax(squash(values) + jr.gumbel(key, (self.arms,))).astype(jnp.int32)

    def observe(self, fast, view, response, feedback, key):
        values, squash = fast
        return values.at[response].add(feedback.reward), squash


class FirstArm(AbstractLearner):
    """Always pulls the first arm."""

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return jnp.zeros((), jnp.int32)

    def observe(self, fast, view, response, feedback, key):
        return None


def test_a_life_cut_in_two_is_the_same_life():
    task, learner = BernoulliBandit(arms=3).sample(KEY, "train"), Gambler(3)
    whole, scores = lifetime(learner, task, KEY, steps=12)
    begin, _ = lifetime(learner, task, KEY, steps=0)
    live_key = jr.split(KEY, 3)[2]
    middle, first = live(learner, task, begin, live_key, steps=5)
    end, second = live(learner, task, middle, live_key, steps=7)
    np.testing.assert_array_equal(scores, jnp.concatenate([first, second]))
    np.testing.assert_array_equal(whole.fast[0], end.fast[0])
    assert int(end.tick) == 12
    assert end.fast[1] is jnp.tanh


def test_first_tick_is_before_any_adaptation():
    tasks = Sinusoid(shot=5)
    learner, task = maml.learner(maml.Config(), tasks, KEY), tasks.sample(KEY, "test")
    curve = lifetime(learner, task, KEY, steps=2)[1]
    unadapted = jax.vmap(learner.model)(task.query_x)
    np.testing.assert_allclose(curve[0], -jnp.mean((unadapted - task.query_y) ** 2), rtol=1e-5)


def test_record_decides_what_is_kept():
    task, learner = BernoulliBandit(arms=2).sample(KEY, "train"), Gambler(2)
    actions = lifetime(learner, task, KEY, steps=6, record=lambda tick: tick.response)[1]
    assert actions.shape == (6,)
    assert set(np.asarray(actions).tolist()) <= {0, 1}
    assert lifetime(learner, task, KEY, steps=6, record=nothing)[1] is None


def test_a_bandit_pays_what_its_probabilities_say():
    bandits = sample_tasks(BernoulliBandit(arms=2), KEY, "test", 2_000)
    scores = jax.vmap(lambda task, key: lifetime(FirstArm(), task, key, steps=20)[1])(bandits, jr.split(KEY, 2_000))
    error = jnp.mean(scores, axis=1) - bandits.probabilities[:, 0]
    # 40,000 pulls: the deviation of the mean error is at most 0.0025.
    assert abs(float(jnp.mean(error))) < 0.01


def test_count_floats_ignores_everything_else():
    assert count_floats((jnp.ones((2, 3)), jnp.ones(4, jnp.int32), 1.5, None)) == 6


def test_bandit_needs_two_arms():
    with pytest.raises(ValueError, match="arms must be at least 2, not 1"):
        BernoulliBandit(arms=1)


def test_lives_batch_over_tasks():
    tasks = sample_tasks(Sinusoid(shot=5), KEY, "train", 3)
    learner = maml.learner(maml.Config(), Sinusoid(shot=5), KEY)
    keys = jr.split(KEY, 3)
    batched = eqx.filter_vmap(lambda task, key: lifetime(learner, task, key, steps=2)[1])(tasks, keys)
    single = [lifetime(learner, jax.tree.map(lambda x, i=i: x[i], tasks), keys[i], steps=2)[1] for i in range(3)]
    np.testing.assert_allclose(batched, jnp.stack(single), rtol=1e-4)
