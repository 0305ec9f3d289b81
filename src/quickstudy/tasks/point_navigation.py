"""Point navigation: a point in the plane must find a goal that it cannot see, from its rewards alone.

Observation: the position. Action: the velocity, two numbers, of which 1 means 0.1 a tick. Every episode begins at the origin.

Sources: goals in a square with dense rewards: Finn et al. 2017, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
section 5.3. Goals on a half circle with sparse rewards: Rakelly et al. 2019, "Efficient Off-Policy Meta-Reinforcement Learning via
Probabilistic Context Variables", its experiments on exploration.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt8

from quickstudy.core import Split, Turn
from quickstudy.tasks.control import AbstractControl, AbstractControlTask, AbstractEnvironment, Continuous, ControlView, Episode
from quickstudy.tasks.drawing import BLUE, GREEN, GREY, canvas, disc
from quickstudy.tasks.sketching import Page
from quickstudy.tasks.splits import draw_in_split

STEP = 0.1  # how far a coordinate moves in a tick at most; both sources


class PointTask(AbstractEnvironment):
    """One goal. Reward: minus the distance to it, or if `sparse` 1 minus the distance within `radius` of it, and 0 elsewhere.

    The episode ends when both coordinates are within `arrival` of the goal's (never if it is 0), and is cut off after `horizon` ticks.
    """

    goal: Float[Array, "2"]
    sparse: bool = eqx.field(static=True)
    radius: float = eqx.field(static=True)
    arrival: float = eqx.field(static=True)
    horizon: int = eqx.field(static=True)

    @property
    def actions(self) -> Continuous:
        return Continuous(2)

    def begin(self, key: PRNGKeyArray) -> Float[Array, "2"]:
        return jnp.zeros(2)

    def look(self, state: Float[Array, "2"]) -> Float[Array, "2"]:
        return state

    def act(
        self, state: Float[Array, "2"], action: Float[Array, "2"], key: PRNGKeyArray
    ) -> tuple[Float[Array, "2"], Float[Array, ""], Bool[Array, ""]]:
        after = state + STEP * jnp.clip(action, -1.0, 1.0)
        distance = jnp.linalg.norm(after - self.goal)
        near = jnp.where(distance < self.radius, 1 - distance, 0.0)
        return after, near if self.sparse else -distance, jnp.max(jnp.abs(after - self.goal)) < self.arrival

    def text(self, world: Episode) -> str:
        """The origin `+`, the goal `!` and the point `@`."""
        page = Page(13, 27, x=(-1.3, 1.3), y=(-1.3, 1.3))
        for place, sign in ((np.zeros(2), "+"), (np.asarray(self.goal), "!"), (np.asarray(world.state), "@")):
            page.mark(place, sign)
        return page.text()

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        """The origin, the goal (and how far its reward reaches) and the point."""
        picture, view = canvas(160, 160), {"low": -1.3, "high": 1.3}
        goal, (x, y) = tuple(np.asarray(self.goal).tolist()), np.asarray(world.state).tolist()
        disc(picture, (0.0, 0.0), 0.03, GREY, **view)
        disc(picture, goal, self.radius if self.sparse else 0.05, GREEN, **view)
        disc(picture, (x, y), 0.07, BLUE, **view)
        return picture


class ShapedPoint(AbstractControlTask):
    """A sparse task whose score is minus the distance to the goal: what is seen stays sparse, what is learned from is not.

    For meta-training only, where finding sparse rewards from scratch is a problem of its own. Source: Rakelly et al. 2019, its
    experiments on exploration, after Gupta et al. 2018, "Meta-Reinforcement Learning of Structured Exploration Strategies".
    """

    task: PointTask

    @property
    def actions(self) -> Continuous:
        return self.task.actions

    def reset(self, key: PRNGKeyArray) -> tuple[Episode, ControlView]:
        return self.task.reset(key)

    def step(self, world: Episode, response: Float[Array, "2"], key: PRNGKeyArray) -> Turn:
        turn = self.task.step(world, response, key)
        return turn._replace(score=-jnp.linalg.norm(turn.feedback.observation - self.task.goal))

    def text(self, world: Episode) -> str:
        return self.task.text(world)

    def image(self, world: Episode) -> UInt8[np.ndarray, "height width 3"]:
        return self.task.image(world)


class AbstractPoints(AbstractControl):
    """A distribution of goals."""

    horizon: eqx.AbstractVar[int]

    @property
    def actions(self) -> Continuous:
        return Continuous(2)

    def __check_init__(self) -> None:
        if self.horizon < 1:
            raise ValueError(f"horizon must be at least 1, not {self.horizon}")


class PointGoals(AbstractPoints):
    """Goals uniform in the square from -0.5 to 0.5, with dense rewards; an episode ends within 0.01 of the goal.

    Rewards are minus the distance, where the paper's text squares it.

    The splits own disjoint slices of the goal's x; "out-of-range" goals lie in a ring around the square, 0.75 to 1 from the origin.
    Since rewards are negative and a new episode begins far away, a life is worth most if it stops just short of the goal.

    >>> import jax
    >>> bool(abs(PointGoals().sample(jax.random.key(0), "test").goal).max() <= 0.5)
    True
    """

    horizon: int = eqx.field(static=True, default=100)  # Finn et al. 2017, section 5.3

    def sample(self, key: PRNGKeyArray, split: Split) -> PointTask:
        x_key, y_key = jr.split(key)
        if split == "out-of-range":
            goal = jr.uniform(x_key, minval=0.75, maxval=1.0) * at_angle(jr.uniform(y_key, maxval=2 * math.pi))
        else:
            goal = jnp.stack([draw_in_split(x_key, split, -0.5, 0.5, blocks=100), jr.uniform(y_key, minval=-0.5, maxval=0.5)])
        # Arrival: Finn et al. 2017; the reward's radius means nothing in a dense task.
        return PointTask(goal=goal, sparse=False, radius=0.2, arrival=0.01, horizon=self.horizon)


class HalfCircle(AbstractPoints):
    """Goals uniform on the upper half of the unit circle; if `sparse`, only the last 0.2 of the way to the goal is rewarded.

    The splits own disjoint slices of the goal's angle; "out-of-range" goals lie on the lower half. If `shaped`, the score is minus the
    distance all the same (see `ShapedPoint`).

    >>> import jax
    >>> bool(HalfCircle().sample(jax.random.key(0), "out-of-range").goal[1] < 0)
    True
    """

    sparse: bool = eqx.field(static=True, default=True)  # Rakelly et al. 2019
    horizon: int = eqx.field(static=True, default=20)  # Rakelly et al. 2019
    shaped: bool = eqx.field(static=True, default=False)  # ours: a test is scored by what is seen

    def sample(self, key: PRNGKeyArray, split: Split) -> PointTask | ShapedPoint:
        beyond = split == "out-of-range"
        low, high = (math.pi, 2 * math.pi) if beyond else (0.0, math.pi)
        angle = draw_in_split(key, "test" if beyond else split, low, high, blocks=100)
        # Radius: Rakelly et al. 2019. Reaching the goal ends nothing: staying there is rewarded.
        task = PointTask(goal=at_angle(angle), sparse=self.sparse, radius=0.2, arrival=0.0, horizon=self.horizon)
        return ShapedPoint(task) if self.shaped else task


def at_angle(angle: Float[Array, "..."]) -> Float[Array, "... 2"]:
    """The point of the unit circle at an angle (radians).

    >>> at_angle(jnp.zeros(())).tolist()
    [1.0, 0.0]
    """
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
