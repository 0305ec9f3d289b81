"""The evaluator: held-out tasks, one key one answer, references on the same tasks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest

from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, End, Turn
from quickstudy.evaluation import AbstractOracle, evaluate, summarise

KEY = jr.key(0)


class Height(AbstractTask):
    """Tells its height after the first answer; scores minus the distance of an answer to it."""

    height: jax.Array

    def reset(self, key):
        return None, jnp.zeros(())

    def step(self, world, response, key):
        return Turn(None, self.height, self.height, -jnp.abs(response - self.height), jnp.asarray(End.RUNNING, jnp.int32))


class Heights(AbstractTaskDistribution):
    """Heights in [1, 2] for training, [2, 3], [3, 4] and so on for the other splits."""

    def sample(self, key, split):
        return Height(1.0 + ("train", "valid", "test", "out-of-range").index(split) + jr.uniform(key))


class Listener(AbstractLearner):
    """Answers a share of the last height that it was told; at first zero."""

    share: jax.Array

    def begin(self, view, key):
        return jnp.zeros(())

    def respond(self, fast, view, key):
        return self.share * fast

    def observe(self, fast, view, response, feedback, key):
        return feedback


WISE, DEAF = Listener(jnp.asarray(1.0)), Listener(jnp.asarray(0.0))


def report(learner=WISE, **rest):
    return evaluate(learner, Heights(), **({"n_tasks": 7, "steps": 3, "key": KEY} | rest))


def test_the_first_tick_is_before_adaptation_and_the_scores_are_of_the_last():
    found = report(references={"deaf": DEAF})
    np.testing.assert_array_equal(found.scores, np.zeros(7))
    np.testing.assert_array_equal(found.curve.mean[1:], np.zeros(2))
    # On the same tasks, who never listens scores all along what everybody scores at first.
    np.testing.assert_array_equal(found.references["deaf"].mean, np.full(3, found.curve.mean[0]))


class Told(AbstractOracle):
    """Knows the height of its task."""

    def informed(self, task):
        return Knowing(task.height)


class Knowing(AbstractLearner):
    """Answers with a height that it was born with."""

    height: jax.Array

    def begin(self, view, key):
        return None

    def respond(self, fast, view, key):
        return self.height

    def observe(self, fast, view, response, feedback, key):
        return None


def test_an_oracle_is_told_each_task_and_needs_no_tick_to_learn_it():
    np.testing.assert_array_equal(report(DEAF, references={"told": Told()}).references["told"].mean, np.zeros(3))


@pytest.mark.parametrize(("split", "low"), [("train", 1), ("valid", 2), ("test", 3), ("out-of-range", 4)])
def test_tasks_come_from_the_split_asked_for(split, low):
    found = report(DEAF, split=split)
    assert found.split == split
    assert ((low <= -found.scores) & (-found.scores <= low + 1)).all()
    assert len(set(found.scores.tolist())) == 7


def test_the_default_split_is_the_test():
    assert report().split == "test"
    np.testing.assert_array_equal(report(DEAF).scores, report(DEAF, split="test").scores)


def test_a_key_decides_everything():
    np.testing.assert_array_equal(report(DEAF).scores, report(DEAF).scores)
    assert not set(report(DEAF).scores.tolist()) & set(report(DEAF, key=jr.key(1)).scores.tolist())


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_batch_size_changes_nothing(batch_size):
    np.testing.assert_array_equal(report(DEAF, batch_size=batch_size).scores, report(DEAF).scores)


def test_the_mean_lies_in_its_interval_and_is_what_is_printed():
    found = report(DEAF, n_tasks=50, references={"wise": WISE})
    assert (found.curve.low < found.curve.mean).all()
    assert (found.curve.mean < found.curve.high).all()
    np.testing.assert_allclose(found.curve.mean[-1], found.scores.mean(), rtol=1e-5)
    assert str(found).startswith(f"test: {found.scores.mean():.4g} [")
    assert "(wise " in str(found)


def test_a_diverged_task_makes_the_mean_nan_and_nothing_else():
    curve = summarise(np.array([[1.0, np.nan], [1.0, 2.0]]))
    assert curve.mean[0] == curve.low[0] == curve.high[0] == 1
    assert np.isnan([curve.mean[1], curve.low[1], curve.high[1]]).all()


@pytest.mark.parametrize("name", ["n_tasks", "steps", "batch_size"])
def test_counts_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        report(**{name: 0})


def test_an_unknown_split_is_refused(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="split must be one of train, valid, test, out-of-range, not 'dev'"):
        report(split="dev")


def test_learners_of_one_shape_are_compiled_once():
    counted = []

    class Counting(Listener):
        def begin(self, view, key):
            counted.append(1)
            return jnp.zeros(())

    for share in (0.1, 0.2, 0.3):
        report(eqx.tree_at(lambda tree: tree.share, Counting(jnp.asarray(0.0)), jnp.asarray(share)))
    assert len(counted) == 1
