"""Agents that judge what they see: a policy to draw the action from, and what the future is worth."""

import abc
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTaskDistribution, End, Switch
from quickstudy.factorisations import orthogonal
from quickstudy.nn.memory import AbstractMemory, NoMemory
from quickstudy.nn.policies import Categorical, Gaussian, Policy
from quickstudy.outer import switch
from quickstudy.tasks.control import Actions, ControlView, Discrete, control_shapes

Fast: TypeAlias = Any
# "credit" shows the reward at the place of the action that brought it: what a memory of rewards by action would else have to multiply.
Feature = Literal["observation", "action", "reward", "credit", "end"]
OBSERVATION: tuple[Feature, ...] = ("observation",)
EVERYTHING: tuple[Feature, ...] = ("observation", "action", "reward", "credit", "end")
Sees = Literal["observation", "everything"]
READS: dict[Sees, tuple[Feature, ...]] = {"observation": OBSERVATION, "everything": EVERYTHING}


class AbstractActorCritic(AbstractLearner):
    """A learner that acts by drawing from a policy, and whose fast state moves on with every view."""

    @abc.abstractmethod
    def judge(self, fast: Fast, view: ControlView) -> tuple[Fast, Policy, Float[Array, ""]]:
        """The fast state after this view, the policy, and the value of what follows."""

    @abc.abstractmethod
    def unroll(self, fast: Fast, views: ControlView) -> tuple[Policy, Float[Array, " ticks"]]:
        """What `judge` says at every tick of a sequence of views, in one pass."""

    # The compiler sees that `respond` and `observe` judge the same view, and does it once.
    def respond(self, fast: Fast, view: ControlView, key: PRNGKeyArray) -> Array:
        return self.judge(fast, view)[1].draw(key)

    def observe(self, fast: Fast, view: ControlView, response: Array, feedback: ControlView, key: PRNGKeyArray) -> Fast:
        return self.judge(fast, view)[0]


class ActorCritic(AbstractActorCritic):
    """A memory that reads what is seen, and two heads on its features: the policy's numbers and the value.

    `reads` says which parts of a view the memory gets; `log_deviation` is that of continuous actions, None for discrete ones.
    """

    memory: AbstractMemory
    actor: eqx.Module
    critic: eqx.Module
    log_deviation: Float[Array, " size"] | None
    actions: Actions = eqx.field(static=True)
    reads: tuple[Feature, ...] = eqx.field(static=True)

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Fast:
        return self.memory.start()

    def judge(self, fast: Fast, view: ControlView) -> tuple[Fast, Policy, Float[Array, ""]]:
        after, features = self.memory.step(fast, see(view, self.actions, self.reads))
        policy, value = self._heads(features)
        return after, policy, value

    def unroll(self, fast: Fast, views: ControlView) -> tuple[Policy, Float[Array, " ticks"]]:
        xs = jax.vmap(lambda view: see(view, self.actions, self.reads))(views)
        return jax.vmap(self._heads)(self.memory.unroll(fast, xs))

    def _heads(self, features: Float[Array, " features"]) -> tuple[Policy, Float[Array, ""]]:
        numbers, value = self.actor(features), self.critic(features)[0]  # type: ignore[operator]
        return Categorical(numbers) if self.log_deviation is None else Gaussian(numbers, self.log_deviation), value


def see(view: ControlView, actions: Actions, reads: tuple[Feature, ...]) -> Float[Array, " inputs"]:
    """The parts of a view as one vector: an action as one-hot (none at all before the first), the end as zero or one.

    >>> view = ControlView(jnp.array([0.5]), jnp.array(1), jnp.array(2.0), jnp.array(End.TERMINATED))
    >>> see(view, Discrete(3), EVERYTHING).tolist()
    [0.5, 0.0, 1.0, 0.0, 2.0, 0.0, 2.0, 0.0, 1.0]
    """
    action = jax.nn.one_hot(view.action, actions.n) if isinstance(actions, Discrete) else view.action
    parts = {
        "observation": jnp.ravel(view.observation),
        "action": action,
        "reward": view.reward[None],
        "credit": view.reward * action,
        "end": (view.end != End.RUNNING).astype(jnp.float32)[None],
    }
    return jnp.concatenate([parts[name] for name in reads])


def inputs(tasks: AbstractTaskDistribution, reads: tuple[Feature, ...]) -> tuple[int, Actions]:
    """How many numbers an agent reads in these tasks, and the actions it has. Raises `TypeError` if they are not control tasks."""
    shapes, actions = control_shapes(tasks), tasks.actions  # type: ignore[attr-defined]
    sizes = {
        "observation": math.prod(shapes.observation.shape),
        "action": actions.numbers,
        "reward": 1,
        "credit": actions.numbers,
        "end": 1,
    }
    return sum(sizes[name] for name in reads), actions


Weights = tuple[Float[Array, "_ _"], ...]


class TanhMLP(eqx.Module):
    """Layers of the given `widths` with tanh between them, for one example."""

    weights: Weights
    biases: tuple[Float[Array, " _"], ...]

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jnp.tanh(x @ weight + bias)
        return x @ self.weights[-1] + self.biases[-1]


def head(widths: tuple[int, ...], last: float, orthogonal: Switch, *, key: PRNGKeyArray) -> TanhMLP:
    """A head whose weights are orthogonal, with gain sqrt(2) inside and `last` at the end, or else Glorot-uniform throughout.

    Source of the gains: Engstrom et al. 2020, "Implementation Matters in Deep Policy Gradients", after OpenAI's baselines.

    >>> import jax
    >>> head((4, 64, 2), 0.01, True, key=jax.random.key(0))(jnp.ones(4)).shape
    (2,)
    """
    shapes = list(itertools.pairwise(widths))
    gains = [math.sqrt(2)] * (len(shapes) - 1) + [last]
    weights = switch(orthogonal, lambda: _orthogonal(key, shapes, gains), lambda: _glorot(key, shapes))
    return TanhMLP(weights, tuple(jnp.zeros(o) for o in widths[1:]))


def _orthogonal(key: PRNGKeyArray, shapes: Sequence[tuple[int, int]], gains: Sequence[float]) -> Weights:
    """Matrices whose columns are orthonormal, or their rows; drawn at once where their longer sides are equal: it compiles faster."""
    drawn = {}
    for long in {max(shape) for shape in shapes}:
        short = [min(shape) for shape in shapes if max(shape) == long]
        drawn[long] = iter(orthogonal(jr.fold_in(key, long), len(short), long, max(short)))
    columns = [next(drawn[max(shape)])[:, : min(shape)] for shape in shapes]
    return tuple(gain * (q if i >= o else q.T) for gain, q, (i, o) in zip(gains, columns, shapes, strict=True))


def _glorot(key: PRNGKeyArray, shapes: Sequence[tuple[int, int]]) -> Weights:
    initial = jax.nn.initializers.glorot_uniform()
    return tuple(initial(k, shape) for k, shape in zip(jr.split(key, len(shapes)), shapes, strict=True))


def actor_critic(
    tasks: AbstractTaskDistribution,
    memory: AbstractMemory,
    features: int,
    hidden: tuple[int, ...],
    *,
    reads: tuple[Feature, ...],
    orthogonal: Switch = True,
    key: PRNGKeyArray,
) -> ActorCritic:
    """An agent for these tasks: a memory with `features` outputs, and heads with `hidden` layers on it."""
    actor_key, critic_key = jr.split(key)
    actions = inputs(tasks, reads)[1]
    actor = head((features, *hidden, actions.numbers), 0.01, orthogonal, key=actor_key)
    critic = head((features, *hidden, 1), 1.0, orthogonal, key=critic_key)
    log_deviation = None if isinstance(actions, Discrete) else jnp.zeros(actions.numbers)
    return ActorCritic(memory, actor, critic, log_deviation, actions, reads)


def reacting(tasks: AbstractTaskDistribution, width: int, sees: Sees, orthogonal: Switch, key: PRNGKeyArray) -> ActorCritic:
    """An agent without memory: actor and critic are two networks with two hidden layers of `width` units.

    Raises `TypeError` unless these are control tasks, `ValueError` if there is nothing to see in them.
    """
    reads = READS[sees]
    size, _ = inputs(tasks, reads)
    if not size:
        raise ValueError("these tasks have no observation: an agent without memory needs sees='everything', or use rl2")
    return actor_critic(tasks, NoMemory(), size, (width, width), reads=reads, orthogonal=orthogonal, key=key)
