"""The conformance kit catches what is broken, and says what."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from quickstudy.check import check_distribution, check_learner, check_program, check_task
from quickstudy.core import AbstractLearner, AbstractTask, AbstractTaskDistribution, End, Turn
from quickstudy.outer import NonFiniteError, Program

KEY = jr.key(0)


class Number(AbstractTask):
    """A task that shows its number and scores minus the distance to it."""

    number: jax.Array

    def reset(self, key):
        return None, self.number

    def step(self, world, response, key):
        return Turn(None, self.number, None, -jnp.abs(response - self.number), jnp.asarray(End.RUNNING, jnp.int32))


class Numbers(AbstractTaskDistribution):
    """Numbers of which every split owns ten."""

    def sample(self, key, split):
        first = ("train", "valid", "test").index(split) * 10
        return Number(jr.randint(key, (), first, first + 10).astype(jnp.float32))


class Parrot(AbstractLearner):
    """Answers what it sees, plus how many ticks it has lived."""

    def begin(self, view, key):
        return jnp.zeros(())

    def respond(self, fast, view, key):
        return view + fast

    def observe(self, fast, view, response, feedback, key):
        return fast + 1


def test_sound_parts_pass():
    check_distribution(Numbers(), KEY, identity=lambda task: [float(task.number)], n=30)
    check_task(Numbers().sample(KEY, "train"), Parrot(), KEY)
    check_learner(Parrot(), Numbers(), KEY)
    check_program(counting_program(lambda state, key: state + jr.normal(key)))


# --- Distributions ------------------------------------------------------------------------------------------------------------------


class Overlapping(Numbers):
    """One number is in two splits."""

    def sample(self, key, split):
        first = ("train", "valid", "test").index(split) * 9
        return Number(jr.randint(key, (), first, first + 10).astype(jnp.float32))


class Wider(Numbers):
    """Validation tasks have another shape."""

    def sample(self, key, split):
        return Number(jr.normal(key, (3,) if split == "valid" else (2,)))


class Growing(Numbers):
    """Every draw has one number more than the draw before, whatever the key."""

    drawn: itertools.count

    def sample(self, key, split):
        return Number(jr.normal(key, (next(self.drawn) + 1,)))


class Keyless(Numbers):
    """Draws without its key."""

    def sample(self, key, split):
        return Number(jnp.asarray(np.random.default_rng().random(), jnp.float32))


class Monotone(Numbers):
    """Draws one task only."""

    def sample(self, key, split):
        return Number(jnp.asarray(float(("train", "valid", "test").index(split))))


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (Overlapping(), "splits must be disjoint, but 9.0 is in both train and valid"),
        (Wider(), "a valid task must have the tree, shapes and dtypes of a train task"),
        (Growing(itertools.count()), "train tasks drawn twice with one key: must be equal bit for bit"),
        (Keyless(), "train tasks drawn twice with one key: must be equal bit for bit"),
        (Monotone(), "every train task is the same"),
    ],
    ids=["Overlapping", "Wider", "Growing", "Keyless", "Monotone"],
)
def test_broken_distributions_are_caught(tasks, words):
    with pytest.raises(AssertionError, match=words):
        check_distribution(tasks, KEY, identity=lambda task: np.ravel(task.number).tolist(), n=30)


def test_shapes_that_depend_on_the_key_cannot_even_be_traced():
    class Sized(Numbers):
        def sample(self, key, split):
            return Number(jnp.zeros(int(jr.randint(key, (), 1, 9))))

    with pytest.raises(jax.errors.ConcretizationTypeError):
        check_distribution(Sized(), KEY)


def test_by_default_equal_arrays_are_the_same_task():
    with pytest.raises(AssertionError, match="splits must be disjoint"):
        check_distribution(Overlapping(), KEY, n=100)


# --- Tasks --------------------------------------------------------------------------------------------------------------------------


class Vector(Number):
    def step(self, world, response, key):
        return super().step(world, response, key)._replace(score=jnp.zeros(2))


class Infinite(Number):
    def step(self, world, response, key):
        return super().step(world, response, key)._replace(score=1 / (response - response))


class Endless(Number):
    def step(self, world, response, key):
        return super().step(world, response, key)._replace(end=jnp.asarray(7, jnp.int32))


class Bare(Number):
    def step(self, world, response, key):
        return super().step(world, response, key)._replace(end=jnp.asarray(False))


class Reshaping(Number):
    def step(self, world, response, key):
        return super().step(world, response, key)._replace(view=jnp.zeros(2))


class Moody(Number):
    """Scores by how often it was asked, which is written nowhere in its world."""

    asked: itertools.count

    def step(self, world, response, key):
        return super().step(world, response, key)._replace(score=jnp.asarray(float(next(self.asked))))


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (Vector, r"score must be a scalar at each tick, not of shape \(2,\)"),
        (Infinite, "score must be finite"),
        (Endless, "end must be an int32 End"),
        (Bare, "end must be an int32 End"),
        (Reshaping, "a later view must have the tree, shapes and dtypes of the first"),
        (lambda number: Moody(number, itertools.count()), "living in the same task twice: must be equal bit for bit"),
    ],
    ids=["Vector", "Infinite", "Endless", "Bare", "Reshaping", "Moody"],
)
def test_broken_tasks_are_caught(task, words):
    with pytest.raises(AssertionError, match=words):
        check_task(task(jnp.asarray(1.0)), Parrot(), KEY)


# --- Learners -----------------------------------------------------------------------------------------------------------------------


class Hoarder(Parrot):
    """Keeps all that it has seen."""

    def begin(self, view, key):
        return jnp.zeros(1)

    def respond(self, fast, view, key):
        return view + fast.sum()

    def observe(self, fast, view, response, feedback, key):
        return jnp.concatenate([fast, view[None]])


class Drifting(Parrot):
    """Counts in integers from the second tick on."""

    def observe(self, fast, view, response, feedback, key):
        return jnp.asarray(1, jnp.int32)


class Forgetful(Parrot):
    """Keeps its state in a Python list instead of its fast state."""

    calls: itertools.count

    def respond(self, fast, view, key):
        return view + next(self.calls)


@pytest.mark.parametrize(
    ("learner", "words"),
    [
        (Hoarder(), "the fast state after a tick must have the tree, shapes and dtypes of at birth"),
        (Drifting(), "the fast state after a tick must have"),
        (Forgetful(itertools.count()), "must agree, but differ by"),
    ],
    ids=["Hoarder", "Drifting", "Forgetful"],
)
def test_broken_learners_are_caught(learner, words):
    with pytest.raises(AssertionError, match=words):
        check_learner(learner, Numbers(), KEY)


# --- Programs -----------------------------------------------------------------------------------------------------------------------


def counting_program(update, metric=lambda state: state, learner=lambda state: Parrot()):
    return Program(lambda key: jnp.zeros(()), lambda state, key: (update(state, key), {"state": metric(state)}), learner)


hidden = itertools.count()


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (counting_program(lambda state, key: state + next(hidden)), "a resumed run's state and the unbroken one's"),
        (
            counting_program(lambda state, key: state + 1, metric=lambda state: jnp.zeros(3)),
            "metric state must be one scalar per outer step",
        ),
        (counting_program(lambda state, key: state + 1, learner=lambda state: state), "program.learner must give a learner"),
    ],
    ids=["hidden state", "vector metric", "no learner"],
)
def test_broken_programs_are_caught(program, words):
    with pytest.raises(AssertionError, match=words):
        check_program(program)


def test_a_program_that_diverges_is_caught():
    with pytest.raises(NonFiniteError, match="state became inf"):
        check_program(counting_program(lambda state, key: jnp.where(state > 0, jnp.inf, state + 1)))
