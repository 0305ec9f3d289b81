"""What a slow loop is, and the one loop that runs any of them."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from quickstudy.core import AbstractLearner, AbstractTaskDistribution, Switch
from quickstudy.failures import plain_failures

State = Any
Weights = TypeVar("Weights")
Config = TypeVar("Config")
Metrics = dict[str, Array]


class Program(NamedTuple):
    """A slow loop: `init(key) -> state`, `update(state, key) -> (state, metrics)`, `learner(state) -> learner`."""

    init: Callable[[PRNGKeyArray], State]
    update: Callable[[State, PRNGKeyArray], tuple[State, Metrics]]
    learner: Callable[[State], AbstractLearner]


class Preset(NamedTuple):
    """A configuration that is known to work: its tasks, outer steps, ticks of a test lifetime, expected score and run time."""

    config: Any
    tasks: Callable[[], AbstractTaskDistribution]
    steps: int
    ticks: int
    expected: str


class Progress(NamedTuple):
    """Where a run stands after a chunk: outer steps done, the state, and each metric for each outer step of the chunk."""

    step: int
    state: State
    metrics: dict[str, np.ndarray]


class NonFiniteError(RuntimeError):
    """A metric stopped being finite; the states yielded before it are good."""

    def __init__(self, metric: str, step: int, value: float):
        super().__init__(f"{metric} became {value} at outer step {step}; the last state before it is kept")
        self.metric, self.step, self.value = metric, step, value


def run(
    program: Program, *, steps: int, seed: int, chunk: int = 100, start: int = 0, state: State | None = None
) -> Iterator[Progress]:
    """Run a program for `steps` outer steps and yield after each compiled chunk.

    Every outer step's key is folded from the seed and the step's own number, and chunks end at multiples of `chunk`, so a run
    resumed from a yielded `(step, state)` as `start` and `state` equals the unbroken one bit for bit.
    Raises `NonFiniteError` at the first metric that is not finite, and `EnvironmentFailure` if an environment on the host fails.
    Several processes (`jax.distributed`) must all call it alike; each is yielded the same.

    >>> from quickstudy.algorithms.fewshot import maml
    >>> from quickstudy.tasks import Sinusoid
    >>> program = maml.program(maml.Config(tasks_per_step=4), Sinusoid())
    >>> [progress.step for progress in run(program, steps=20, seed=0, chunk=10)]
    [10, 20]
    """
    init_key, update_key = jr.split(jr.key(seed))
    begin, advance = _compiled(program)
    if state is None:
        state = begin(init_key)
    while start < steps:
        length = min(chunk - start % chunk, steps - start)
        with plain_failures():
            state, metrics = _own(advance(state, jnp.asarray(start, jnp.uint32), update_key, length))
            host = {name: np.asarray(values) for name, values in metrics.items()}
        _require_finite(host, start)
        start += length
        yield Progress(start, state, host)


def compile_lightly(function: Callable[..., Any], *, once: bool = False) -> Callable[..., Any]:
    """Compile with less optimisation on a CPU, where small programs wait longer for the compiler than for the work.

    It saves a fifth to a third of that wait, and did not slow down what we measured. What runs only `once` goes without XLA's emitters
    of fused loops too: that halves the wait, but would make PPO's steps take twice as long. Not level 0: with those emitters, XLA's
    exponential of very negative numbers is NaN there in the gradient of a softmax (jaxlib 0.10.2). A level in `XLA_FLAGS` wins.
    """
    level = "xla_backend_optimization_level"
    options: dict[str, Any] = {} if level in os.environ.get("XLA_FLAGS", "") else {level: 1}
    if once:
        options |= {"xla_cpu_use_fusion_emitters": False, "xla_llvm_disable_expensive_passes": True}
    return eqx.filter_jit(function, compiler_options=options if jax.default_backend() == "cpu" else None)  # type: ignore[call-overload]


# A few are kept, so that running one program again, resumed or with another seed, compiles nothing.
@functools.lru_cache(maxsize=4)
def _compiled(program: Program) -> tuple[Callable[..., State], Callable[..., tuple[State, Metrics]]]:
    """The program's `init`, and a chunk of its updates, as compiled functions."""

    @compile_lightly
    def advance(state: State, first: Array, update_key: PRNGKeyArray, length: int) -> tuple[State, Metrics]:
        arrays, rest = eqx.partition(state, eqx.is_array)

        def body(arrays, step):
            after, metrics = program.update(eqx.combine(arrays, rest), jr.fold_in(update_key, step))
            return eqx.filter(after, eqx.is_array), metrics

        arrays, metrics = jax.lax.scan(body, arrays, first + jnp.arange(length, dtype=jnp.uint32))
        return eqx.combine(arrays, rest), metrics

    def init(key: PRNGKeyArray) -> State:
        # A number's weak type would be gone after the first chunk, and the second compiled anew.
        return jax.tree.map(lambda leaf: leaf.astype(leaf.dtype) if eqx.is_array(leaf) else leaf, program.init(key))

    return compile_lightly(init, once=True), advance


def _own(tree: PyTree) -> PyTree:
    """What several processes hold together as whole arrays of this one, which may then save them, or compute with them alone."""

    def own(leaf: Any) -> Any:
        if not eqx.is_array(leaf) or leaf.is_fully_addressable:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jr.wrap_key_data(own(jr.key_data(leaf)))
        whole = leaf if leaf.is_fully_replicated else multihost_utils.process_allgather(leaf, tiled=True)
        # By way of the host, or JAX would bind it to this device and not cut it over all devices again.
        return jnp.asarray(np.asarray(whole))

    return jax.tree.map(own, tree)


def _require_finite(metrics: dict[str, np.ndarray], start: int) -> None:
    bad = [(int(np.argmin(np.isfinite(v))), name) for name, v in metrics.items() if not np.isfinite(v).all()]
    if bad:
        offset, name = min(bad)
        raise NonFiniteError(name, start + offset + 1, float(metrics[name][offset]))


def train(program: Program, *, steps: int, seed: int, chunk: int = 100) -> AbstractLearner:
    """Run a program to its end and return the learner.

    >>> from quickstudy.algorithms.fewshot import maml
    >>> from quickstudy.tasks import Sinusoid
    >>> learner = train(maml.program(maml.Config(tasks_per_step=4), Sinusoid()), steps=10, seed=0)
    """
    state = None
    for progress in run(program, steps=steps, seed=seed, chunk=chunk):
        state = progress.state
    if state is None:
        raise ValueError(f"steps must be at least 1, not {steps}")
    return program.learner(state)


def apply_gradient(
    optimizer: optax.GradientTransformation, gradient: PyTree, state: optax.OptState, weights: Weights
) -> tuple[Weights, optax.OptState]:
    """One optimiser step on the floating-point leaves of a learner, or of any tree."""
    # Optax mixes integer counts with floats, which strict promotion, where a caller has it on, would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimizer.update(gradient, state, eqx.filter(weights, eqx.is_inexact_array))
    return eqx.apply_updates(weights, updates), state


def flatten(model: Weights) -> tuple[Float[Array, " weights"], Callable[[Array], Weights]]:
    """All floating-point leaves of a model as one vector, and the way back to a model.

    An optimiser's arithmetic is then a handful of loops, not a handful for every layer.

    >>> weights, model = flatten((jnp.ones(2), "name", jnp.zeros(1)))
    >>> weights.tolist(), model(2 * weights)[1]
    ([1.0, 1.0, 0.0], 'name')
    """
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    weights, shaped = ravel_pytree(arrays)
    return weights, lambda changed: eqx.combine(shaped(changed), rest)


def switch(on: Switch, yes: Callable[[], Weights], no: Callable[[], Weights]) -> Weights:
    """What a switch among the settings chooses. Only one side is computed, unless a sweep has turned the switch into an array.

    >>> switch(True, lambda: 1.0, lambda: 2.0), float(switch(jnp.array(False), lambda: 1.0, lambda: 2.0))
    (1.0, 2.0)
    """
    if not eqx.is_array(on):
        return yes() if on else no()
    return jax.tree.map(lambda a, b: jnp.where(on, a, b), yes(), no())


def shared_settings(kind: type[Config], config: Any, **others: Any) -> Config:
    """A configuration of one `kind` with those settings that another, `config`, names too, and `others`; the rest stay as they are.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Small:
    ...     width: int = 8
    ...     lives: int = 4
    >>> @dataclasses.dataclass(frozen=True)
    ... class Large:
    ...     width: int = 64
    ...     skills: int = 3
    >>> shared_settings(Small, Large()).width, shared_settings(Small, Large(), lives=2).lives
    (64, 2)
    """
    named = {field.name for field in dataclasses.fields(config)}
    shared = {field.name: getattr(config, field.name) for field in dataclasses.fields(kind) if field.name in named}  # type: ignore
    return kind(**shared, **others)
