"""Shortest path: who knows the level takes the fastest way to what pays, keys and doors included.

The number of ticks to the next reward, from every place, direction and hand, is the fixed point of one relaxation, and sweeps over all
states at once reach it, as many as the longest way is long:

    ticks(state) = 1 + min over actions (0 if the next cell pays, infinity if it ends the episode, else ticks(next state))

Source: Moore 1959, "The Shortest Path Through a Maze".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from quickstudy.core import AbstractLearner, AbstractTask, End
from quickstudy.evaluation import AbstractOracle
from quickstudy.tasks.control import ControlView
from quickstudy.tasks.gridworld import RULES, GridWorld, Standing

_ENDS = np.array([rule.ends for rule in RULES.values()])
_STAYS = np.array([not rule.taken for rule in RULES.values()])


class Route(AbstractLearner):
    """A learner that does what a table says: `best[key in hand, direction, row, column]` is an action.

    It lives through the level in its mind, since what it sees may not say where it is. The second axis has length 1 where a world does
    not turn.
    """

    world: GridWorld
    best: Int[Array, "hands directions rows columns"]

    def begin(self, view: ControlView, key: PRNGKeyArray) -> Standing:
        return self.world.begin(key)

    def respond(self, fast: Standing, view: ControlView, key: PRNGKeyArray) -> Int[Array, ""]:
        row, column = fast.place
        return self.best[fast.key.astype(jnp.int32), fast.direction % self.best.shape[1], row, column]

    def observe(
        self, fast: Standing, view: ControlView, response: Int[Array, ""], feedback: ControlView, key: PRNGKeyArray
    ) -> Standing:
        after, _, _ = self.world.act(fast, response, key)
        return jax.tree.map(lambda new, old: jnp.where(feedback.end == End.RUNNING, old, new), self.world.begin(key), after)


class ShortestPath(AbstractOracle):
    """The fastest way to the nearest cell that pays and is not taken away; nobody reaches it sooner.

    It does not collect prizes, so it is no bound in a world that has some.

    >>> from quickstudy import lifetime
    >>> from quickstudy.tasks import level_from_text
    >>> corridor = level_from_text("S..G")
    >>> lifetime(ShortestPath().informed(corridor), corridor, jr.key(0), steps=7)[1].tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]
    """

    def informed(self, task: AbstractTask) -> Route:
        """The learner that knows this level. Raises `TypeError` for other tasks, and `ValueError` for levels with several starts."""
        if not isinstance(task, GridWorld):
            raise TypeError(f"task must be a GridWorld, not {type(task).__name__}")
        if len(task.starts) != 1:
            raise ValueError(f"a level must have one start for a route to be known beforehand, not {len(task.starts)}")
        return Route(task, ticks_and_best(task)[1])


@eqx.filter_jit
def ticks_and_best(
    world: GridWorld,
) -> tuple[Float[Array, "hands directions rows columns"], Int[Array, "hands directions rows columns"]]:
    """The ticks to the next reward from every state, infinite where there is none, and the action that is nearest to it."""
    after, pays, ends = _outcomes(world)

    def costs(ticks: Float[Array, " states"]) -> Float[Array, "states actions"]:
        return 1 + jnp.where(pays, 0.0, jnp.where(ends, jnp.inf, ticks[after]))

    def sweep(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        ticks, _ = carry
        fewer = jnp.min(costs(ticks), axis=1)
        return fewer, jnp.any(fewer < ticks)

    ticks, _ = jax.lax.while_loop(lambda carry: carry[1], sweep, (jnp.full(len(after), jnp.inf), jnp.asarray(True)))
    best = jnp.argmin(costs(ticks), axis=1).astype(jnp.int32)
    return ticks.reshape(_shape(world)), best.reshape(_shape(world))


def _outcomes(
    world: GridWorld,
) -> tuple[Int[Array, "states actions"], Bool[Array, "states actions"], Bool[Array, "states actions"]]:
    """The number of the state after each state and action, whether the agent is paid there, and whether the episode ends."""
    shape = _shape(world)
    here = world.begin(jr.key(0))

    def outcome(state: Int[Array, "4"], action: Int[Array, ""]) -> tuple[Array, Array]:
        after, kind = world.move(here._replace(key=state[0] == 1, direction=state[1], place=state[2:]), action)
        where = (after.key.astype(jnp.int32), after.direction % shape[1], *after.place)
        return jnp.ravel_multi_index(where, shape, mode="clip"), kind

    states = jnp.asarray(np.indices(shape, np.int32).reshape(4, -1).T)
    actions = jnp.arange(world.actions.n, dtype=jnp.int32)
    after, kinds = jax.vmap(lambda state: jax.vmap(lambda action: outcome(state, action))(actions))(states)
    return after, (world.pays[kinds] > 0) & jnp.asarray(_STAYS)[kinds], jnp.asarray(_ENDS)[kinds]


def _shape(world: GridWorld) -> tuple[int, int, int, int]:
    rows, columns = world.kinds.shape
    return 2, 4 if world.steering == "turn" else 1, rows, columns
