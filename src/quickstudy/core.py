"""The whole theory in one file: tasks, learners, and the lifetime in which they meet.

Draw a task; let a *fast* learner live in it; improve the *slow* weights; test on tasks never drawn in training.

* A **task** is one problem. Its fields are arrays, so tasks stack and `vmap`: a task *is* its parameters.
* A **learner** holds the slow weights (its floating-point array leaves) and says how its fast state begins, responds and learns.
* A **lifetime** is the learner living in the task for some ticks. Its record, score per tick, is the *adaptation curve*.

Five kinds of task share this interface; they are shapes of view, response and feedback, not subclasses:

| kind      | view                         | response                | feedback        |
|-----------|------------------------------|-------------------------|-----------------|
| episode   | support set, query inputs    | predictions for queries | none            |
| stream    | one input                    | a prediction            | the true output |
| control   | observation, reward, end     | an action               | reward and end  |
| objective | parameters, loss, gradient   | an update               | none            |
| game      | the other players' last moves| a move or a policy      | pay-offs        |
"""

import abc
import enum
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, Shaped

# Trees of arrays whose shapes belong to the kind of task; the names say what each is for.
World: TypeAlias = Any
View: TypeAlias = Any
Response: TypeAlias = Any
Feedback: TypeAlias = Any
Fast: TypeAlias = Any
Records: TypeAlias = Any

# Settings that a sweep may turn into arrays.
Number: TypeAlias = float | Float[Array, ""]
Switch: TypeAlias = bool | Bool[Array, ""]

Split = Literal["train", "valid", "test", "out-of-range"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test", "out-of-range")


class End(enum.IntEnum):
    """How a tick left the current episode: one value, so that a time limit is never mistaken for an end."""

    RUNNING = 0
    TERMINATED = 1
    TRUNCATED = 2


class Turn(NamedTuple):
    """What a task answers to one response.

    `score` is a scalar, higher is better, in the task's own unit (accuracy, minus squared error, reward, minus loss).
    `end` is an integer scalar, one of `End`.
    """

    world: World
    view: View
    feedback: Feedback
    score: Float[Array, ""]
    end: Int[Array, ""]


class AbstractTask(eqx.Module):
    """One problem; every field is an array, so that tasks stack."""

    @abc.abstractmethod
    def reset(self, key: PRNGKeyArray) -> tuple[World, View]:
        """Open the task: its hidden world and the learner's first view of it."""

    @abc.abstractmethod
    def step(self, world: World, response: Response, key: PRNGKeyArray) -> Turn:
        """Take one response and answer with a `Turn`."""


class AbstractTaskDistribution(eqx.Module):
    """p(T), with splits that are disjoint by construction."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray, split: Split) -> AbstractTask:
        """Draw one task: the same tree and the same shapes for every key."""


class AbstractLearner(eqx.Module):
    """A learner; its floating-point array leaves are the slow weights."""

    @abc.abstractmethod
    def begin(self, view: View, key: PRNGKeyArray) -> Fast:
        """The fast state at birth."""

    @abc.abstractmethod
    def respond(self, fast: Fast, view: View, key: PRNGKeyArray) -> Response:
        """Answer a view."""

    @abc.abstractmethod
    def observe(self, fast: Fast, view: View, response: Response, feedback: Feedback, key: PRNGKeyArray) -> Fast:
        """Learn from one tick: this is where adaptation happens."""


class AbstractCurriculum(eqx.Module):
    """Who chooses the next tasks: a distribution, a replay of levels, a generator, a population."""

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> PyTree:
        """The curriculum's state before any task was proposed."""

    @abc.abstractmethod
    def propose(self, state: PyTree, key: PRNGKeyArray, n: int) -> tuple[PyTree, AbstractTask, PyTree]:
        """The new state, `n` stacked tasks, and a ticket that `credit` gets back."""

    @abc.abstractmethod
    def credit(self, state: PyTree, ticket: PyTree, tasks: AbstractTask, records: Records) -> PyTree:
        """Learn from how the proposed tasks went."""


class Life(NamedTuple):
    """A life at rest between two ticks; `live` continues it."""

    world: World
    view: View
    fast: Fast
    tick: Int[Array, ""]


class Tick(NamedTuple):
    """One tick of a life, as `record` sees it (`fast` is the state that gave the response)."""

    view: View
    response: Response
    feedback: Feedback
    score: Float[Array, ""]
    end: Int[Array, ""]
    fast: Fast


def score(tick: Tick) -> Float[Array, ""]:
    """Record the score only: the adaptation curve."""
    return tick.score


def nothing(tick: Tick) -> None:
    """Record nothing, for callers that want the final life only."""
    return None


def live(
    learner: AbstractLearner,
    task: AbstractTask,
    life: Life,
    key: PRNGKeyArray,
    *,
    steps: int,
    record: Callable[[Tick], Records] = score,
) -> tuple[Life, Records]:
    """Continue a life for `steps` ticks: respond, let the task answer, observe.

    Returns the life after the last tick and what `record` kept of each tick, stacked along a first axis of length `steps`.
    With one key, living `a` and then `b` ticks equals living `a + b`: each tick's randomness is folded from the tick count.
    """
    arrays, rest = eqx.partition(life, eqx.is_array)
    # All ticks' keys at once, which costs less than one tick's in every tick.
    keys = jax.vmap(lambda tick: jr.split(jr.fold_in(key, tick), 3))(life.tick + jnp.arange(steps, dtype=jnp.int32))

    def tick(carry, keys):
        now: Life = eqx.combine(carry, rest)
        respond_key, step_key, observe_key = keys
        response = learner.respond(now.fast, now.view, respond_key)
        turn = task.step(now.world, response, step_key)
        fast = learner.observe(now.fast, now.view, response, turn.feedback, observe_key)
        kept = record(Tick(now.view, response, turn.feedback, turn.score, turn.end, now.fast))
        after = Life(turn.world, turn.view, fast, now.tick + 1)
        return eqx.filter(after, eqx.is_array), kept

    arrays, records = jax.lax.scan(tick, arrays, keys, length=steps)
    return eqx.combine(arrays, rest), records


def lifetime(
    learner: AbstractLearner,
    task: AbstractTask,
    key: PRNGKeyArray,
    *,
    steps: int,
    record: Callable[[Tick], Records] = score,
) -> tuple[Life, Records]:
    """Let a learner live in a task from birth for `steps` ticks; `vmap` it over tasks.

    Returns the final `Life` and the stacked records (by default the score of each tick, shape `(steps,)`).

    >>> import jax
    >>> from quickstudy import lifetime
    >>> from quickstudy.algorithms.fewshot import maml
    >>> from quickstudy.tasks import Sinusoid
    >>> tasks, key = Sinusoid(), jax.random.key(0)
    >>> learner = maml.learner(maml.Config(), tasks, key)
    >>> life, curve = lifetime(learner, tasks.sample(key, "test"), key, steps=4)
    >>> curve.shape
    (4,)
    """
    return live(learner, task, birth(learner, task, key), jr.split(key, 3)[2], steps=steps, record=record)


def birth(learner: AbstractLearner, task: AbstractTask, key: PRNGKeyArray) -> Life:
    """A life before its first tick: that from which `lifetime`, with the same key, lives on."""
    reset_key, begin_key, _ = jr.split(key, 3)
    world, view = task.reset(reset_key)
    return Life(world, view, learner.begin(view, begin_key), jnp.zeros((), jnp.int32))


def sample_tasks(tasks: AbstractTaskDistribution, key: PRNGKeyArray, split: Split, n: int) -> AbstractTask:
    """Draw `n` tasks, stacked along a first axis."""
    return jax.vmap(lambda k: tasks.sample(k, split))(jr.split(key, n))


def count_floats(tree: PyTree) -> int:
    """The number of floating-point values in a tree: a learner's slow weights."""
    leaves: list[Shaped[Array, "..."]] = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return sum(leaf.size for leaf in leaves)
