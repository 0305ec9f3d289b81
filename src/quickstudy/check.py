"""The public conformance kit: what must hold for any task, distribution, learner and program, yours included.

Each check raises `AssertionError` with one sentence that says what is broken; call them in your own tests.

>>> import jax
>>> from quickstudy.tasks import Sinusoid
>>> check_distribution(Sinusoid(), jax.random.key(0))
"""

from collections.abc import Callable, Hashable, Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from quickstudy.core import (
    AbstractLearner,
    AbstractTask,
    AbstractTaskDistribution,
    End,
    Life,
    Split,
    Tick,
    lifetime,
    sample_tasks,
)
from quickstudy.outer import Program, run

# Compiled and eager code may round differently, and a life amplifies it: loose enough for float32, tight enough for any real error.
TOLERANCE = 2e-3


def check_task(task: AbstractTask, learner: AbstractLearner, key: PRNGKeyArray, *, steps: int = 3) -> None:
    """A task is pure, keeps its shapes, and answers with a scalar finite score and a known end.

    The learner only supplies responses. Living in a task leaves it unchanged, so it is the same problem for the whole lifetime.
    """
    before = jax.tree.map(np.asarray, eqx.filter(task, eqx.is_array))
    born, older = _one_tick(learner, task, key)
    _same_shapes("a later view", older.view, born.view, "the first")
    _same_shapes("a later world", older.world, born.world, "the first")
    # Traced anew for each life: what a task hides from its arguments shows then. (What comes out the same is not compiled again
    # where JAX has a cache for it, so both are to be one program.)
    living = lambda: lambda task: lifetime(learner, task, key, steps=steps, record=lambda tick: (tick.score, tick.end))[1]
    scores, ends = eqx.filter_jit(living())(task)
    _require(scores.shape == (steps,), f"score must be a scalar at each tick, not of shape {scores.shape[1:]}")
    _require(bool(jnp.isfinite(scores).all()), f"score must be finite, not {scores}")
    _require(ends.dtype == jnp.int32 and set(np.asarray(ends).tolist()) <= set(End), f"end must be an int32 End, not {ends}")
    _same("living in the same task twice", eqx.filter_jit(living())(task)[0], scores)
    _same("the task after a life", eqx.filter(task, eqx.is_array), before)


def fingerprint(task: AbstractTask) -> Iterable[Hashable]:
    """The default identity of a task: the bytes of all its arrays."""
    return [b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(eqx.filter(task, eqx.is_array)))]


def check_distribution(
    tasks: AbstractTaskDistribution,
    key: PRNGKeyArray,
    *,
    splits: tuple[Split, ...] = ("train", "valid", "test"),
    identity: Callable[[AbstractTask], Iterable[Hashable]] = fingerprint,
    n: int = 200,
) -> None:
    """Every key and split gives a task of the same shapes, the same key the same task, and no identity appears in two splits.

    `identity(task)` names what must not be shared, such as an episode's class ids; `n` tasks of each split are drawn.
    """
    shapes = {split: jax.eval_shape(lambda k, split=split: tasks.sample(k, split), key) for split in splits}
    owners: dict[Hashable, Split] = {}
    for split in splits:
        _same_shapes(f"a {split} task", shapes[split], shapes[splits[0]], f"a {splits[0]} task")
        # Traced anew each time: what a distribution hides from its arguments shows then.
        drawn, again = (eqx.filter_jit(lambda k, split=split: sample_tasks(tasks, k, split, n))(key) for _ in range(2))
        _same(f"{split} tasks drawn twice with one key", drawn, again)
        names = [name for i in range(n) for name in identity(jax.tree.map(lambda leaf, i=i: leaf[i], drawn))]
        _require(len(set(names)) > 1, f"every {split} task is the same")
        for name in names:
            owner = owners.setdefault(name, split)
            _require(owner == split, f"splits must be disjoint, but {name!r:.80} is in both {owner} and {split}")


def check_learner(learner: AbstractLearner, tasks: AbstractTaskDistribution, key: PRNGKeyArray, *, steps: int = 3) -> None:
    """A life is the same compiled and eager, batched and alone, scanned and ticked by hand; the fast state keeps its shape."""
    batch = eqx.filter_jit(sample_tasks)(tasks, key, "train", 2)
    keys = jr.split(key, 2)
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    born, older = _one_tick(learner, one, keys[0])
    _same_shapes("the fast state after a tick", older.fast, born.fast, "at birth")
    go = lambda task, k: lifetime(learner, task, k, steps=steps)[1]
    compiled = eqx.filter_jit(go)(one, keys[0])
    _close("a compiled life and an eager one, ticked by hand", compiled, _life_by_hand(learner, one, keys[0], steps))
    _close("the first of two batched lives and a single one", eqx.filter_jit(eqx.filter_vmap(go))(batch, keys)[0], compiled)


def _one_tick(learner: AbstractLearner, task: AbstractTask, key: PRNGKeyArray) -> tuple[Life, Life]:
    """A life at birth and one tick older, as shapes; a scan would refuse a change of shape in words of its own."""

    def tick(learner: AbstractLearner, task: AbstractTask) -> tuple[Life, Life]:
        world, view = task.reset(key)
        fast, none = learner.begin(view, key), jnp.zeros((), jnp.int32)
        response = learner.respond(fast, view, key)
        turn = task.step(world, response, key)
        older = learner.observe(fast, view, response, turn.feedback, key)
        return Life(world, view, fast, none), Life(turn.world, turn.view, older, none)

    return eqx.filter_eval_shape(tick, learner, task)


def _life_by_hand(learner: AbstractLearner, task: AbstractTask, key: PRNGKeyArray, steps: int) -> jax.Array:
    """The definition of a lifetime as a plain loop."""
    reset_key, begin_key, live_key = jr.split(key, 3)
    world, view = task.reset(reset_key)
    life = Life(world, view, learner.begin(view, begin_key), jnp.zeros((), jnp.int32))
    scores = []
    for _ in range(steps):
        respond_key, step_key, observe_key = jr.split(jr.fold_in(live_key, life.tick), 3)
        response = learner.respond(life.fast, life.view, respond_key)
        turn = task.step(life.world, response, step_key)
        fast = learner.observe(life.fast, life.view, response, turn.feedback, observe_key)
        scores.append(Tick(life.view, response, turn.feedback, turn.score, turn.end, life.fast).score)
        life = Life(turn.world, turn.view, fast, life.tick + 1)
    return jnp.stack(scores)


def check_program(program: Program, *, seed: int = 0, steps: int = 4) -> None:
    """A program resumes bit for bit: `steps` updates at once equal half of them, a stop, and the rest; metrics are finite scalars."""
    half = steps // 2
    *_, unbroken = run(program, steps=steps, seed=seed, chunk=half)
    first = next(iter(run(program, steps=half, seed=seed, chunk=half)))
    kept = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)) if eqx.is_array(leaf) else leaf, first.state)
    # Compiled anew: what an update hides from its arguments shows when it is traced again.
    again = program._replace(update=lambda state, key: program.update(state, key))
    *_, resumed = run(again, steps=steps, seed=seed, chunk=half, start=half, state=kept)
    _same(
        "a resumed run's state and the unbroken one's",
        eqx.filter(resumed.state, eqx.is_array),
        eqx.filter(unbroken.state, eqx.is_array),
    )
    _require(isinstance(program.learner(resumed.state), AbstractLearner), "program.learner must give a learner")
    for name, values in resumed.metrics.items():
        _require(values.shape == (half,), f"metric {name} must be one scalar per outer step, not of shape {values.shape[1:]}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _same_shapes(what: str, a: PyTree, b: PyTree, other: str) -> None:
    shapes = [
        jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype) if eqx.is_array_like(leaf) or _is_struct(leaf) else None, t) for t in (a, b)
    ]
    _require(eqx.tree_equal(*shapes) is True or shapes[0] == shapes[1], f"{what} must have the tree, shapes and dtypes of {other}")


def _is_struct(leaf: object) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _same(what: str, a: PyTree, b: PyTree) -> None:
    equal = jax.tree.map(lambda x, y: bool(np.array_equal(np.asarray(x), np.asarray(y), equal_nan=True)), a, b)
    _require(all(jax.tree.leaves(equal)), f"{what}: must be equal bit for bit")


def _close(what: str, a: jax.Array, b: jax.Array) -> None:
    worst = float(jnp.max(jnp.abs(a - b) / (1 + jnp.abs(b))))
    _require(worst <= TOLERANCE, f"{what} must agree, but differ by {worst:.2g}")
