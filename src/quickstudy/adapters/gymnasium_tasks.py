"""Gymnasium's environments as our tasks: any registered id is a distribution, with attributes that vary from task to task."""

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8, UInt32

from quickstudy.adapters.gymnasium_host import Family, Host, Place, host_of
from quickstudy.adapters.gymnasium_spaces import actions_of, gymnasium, observation_shape
from quickstudy.core import End, Split, Turn
from quickstudy.tasks.control import AbstractControl, AbstractControlTask, Actions, ControlView, Discrete, check_response, first_view
from quickstudy.tasks.varying import draw_factors


class Replay(NamedTuple):
    """The world of an environment on the host: what an episode is made of. Of `actions`, the first `time` are taken."""

    seed: UInt32[Array, ""]
    actions: Array
    time: Int[Array, ""]


class GymnasiumTask(AbstractControlTask):
    """One environment of a family: `values` are its varied attributes, in the family's order.

    A failing environment ends the program that runs it: `quickstudy.failures` says how it is told.
    """

    values: Float[Array, " varied"]
    family: Family = eqx.field(static=True)

    @property
    def host(self) -> Host:
        return host_of(self.family)

    @property
    def actions(self) -> Actions:
        return actions_of(self.host.model.action_space, self.family.id)

    def reset(self, key: PRNGKeyArray) -> tuple[Replay, ControlView]:
        seed, actions = _draw_seed(key), self.actions
        seen = jax.pure_callback(self.host.first, self._observation(), self._fixed(), seed, vmap_method="broadcast_all")
        shape, kind = ((), jnp.int32) if isinstance(actions, Discrete) else ((actions.size,), jnp.float32)
        taken = jnp.zeros((self.family.horizon, *shape), kind)
        return Replay(seed, taken, jnp.zeros((), jnp.int32)), first_view(seen, actions)

    def step(self, world: Replay, response: Array, key: PRNGKeyArray) -> Turn:
        # No gradient passes through the host, and JAX would rather refuse than call it nothing.
        action = jax.lax.stop_gradient(check_response(response, self.actions))
        scalar = lambda kind: jax.ShapeDtypeStruct((), kind)
        shapes = (self._observation(), scalar(jnp.float32), scalar(jnp.int32), self._observation())
        inputs = (self._fixed(), *world, action, _draw_seed(key))
        after, reward, end, seen = jax.pure_callback(self.host.step, shapes, *inputs, vmap_method="broadcast_all")
        feedback = ControlView(after, response, reward, end)
        over = end != End.RUNNING
        following = Replay(
            jnp.where(over, inputs[-1], world.seed), world.actions.at[world.time].set(action), jnp.where(over, 0, world.time + 1)
        )
        return Turn(following, feedback._replace(observation=seen), feedback, reward, end)

    def text(self, world: Replay) -> str:
        """The environment's own text, or its step where it has none."""
        if "ansi" in self.host.model.metadata.get("render_modes", ()):
            return str(self.host.render(self._place(world), "ansi"))
        varied = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.family.names, np.asarray(self.values), strict=True))
        return f"{self.family.id}{f' ({varied})' if varied else ''}, step {int(world.time)}"

    def image(self, world: Replay) -> UInt8[np.ndarray, "height width 3"]:
        """The environment's own picture. Raises `EnvironmentFailure` if it cannot draw one."""
        return np.asarray(self.host.render(self._place(world), "rgb_array"), np.uint8)

    def _observation(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(observation_shape(self.host.model.observation_space, self.family.id), jnp.float32)

    def _fixed(self) -> Float[Array, " varied"]:
        return jax.lax.stop_gradient(self.values)

    def _place(self, world: Replay) -> Place:
        return Place(np.asarray(self.values), int(world.seed), np.asarray(world.actions)[: int(world.time)])


def _draw_seed(key: PRNGKeyArray) -> UInt32[Array, ""]:
    return jr.bits(key, (), jnp.uint32)


class GymnasiumTasks(AbstractControl):
    """Environments of one Gymnasium id whose attributes vary; made by `gymnasium_tasks`, which says how."""

    family: Family = eqx.field(static=True)
    defaults: tuple[float, ...] = eqx.field(static=True)

    @property
    def actions(self) -> Actions:
        return actions_of(host_of(self.family).model.action_space, self.family.id)

    def sample(self, key: PRNGKeyArray, split: Split) -> GymnasiumTask:
        defaults = jnp.asarray(self.defaults, jnp.float32)
        return GymnasiumTask(values=defaults * draw_factors(key, split, len(self.defaults)), family=self.family)


def gymnasium_tasks(
    name: str,
    *,
    vary: tuple[str, ...] = (),
    horizon: int | None = None,
    settle: Callable[[Any], None] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> GymnasiumTasks:
    """A distribution of the environments that Gymnasium makes for `name`, which run on the host.

    `vary` names attributes of `env.unwrapped`, each half to double its default (see `quickstudy.tasks.varying` for the splits); they
    are set before every reset. Where the environment keeps quantities that it derived from them, `settle(env.unwrapped)` must derive
    them anew (for CartPole it is there). `horizon` cuts episodes off, by default where Gymnasium does; `settings` are passed to
    `gymnasium.make`. Discrete observations become one-hot arrays; Box actions are scaled from -1 and 1 to their bounds.

    An environment must be determined by its reset's seed: then a life is reproducible from its key, and lives `vmap` and `scan` like
    any other.
    Raises `ValueError` for an unknown environment or attribute or where no horizon is known, `TypeError` for spaces that do not fit,
    `EnvironmentFailure` if the environment cannot be made.

    >>> import jax
    >>> tasks = gymnasium_tasks("CartPole-v1", vary=("length", "masspole"))
    >>> world, view = tasks.sample(jax.random.key(0), "test").reset(jax.random.key(1))
    >>> view.observation.shape
    (4,)
    """
    spec = _spec(name)
    limit = spec.max_episode_steps if horizon is None else horizon
    if limit is None:
        raise ValueError(f"horizon must be given for {name}, which has no time limit of its own")
    if limit < 1:
        raise ValueError(f"horizon must be at least 1, not {limit}")
    settle = _SETTLE.get(spec.name) if settle is None else settle
    family = Family(name, tuple(vary), tuple(sorted((settings or {}).items())), limit, settle)
    model = host_of(family).model
    actions_of(model.action_space, name)
    observation_shape(model.observation_space, name)
    return GymnasiumTasks(family=family, defaults=_defaults(model.unwrapped, family))


def _settle_cartpole(cart: Any) -> None:
    cart.total_mass = cart.masscart + cart.masspole
    cart.polemass_length = cart.masspole * cart.length


# What Gymnasium's own environments derive from the attributes that one would vary, by name without version.
_SETTLE: dict[str, Callable[[Any], None]] = {"CartPole": _settle_cartpole}


def _spec(name: str) -> Any:
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        near = difflib.get_close_matches(name, gymnasium.registry, n=3, cutoff=0.5)
        hint = f"the nearest are {', '.join(near)}" if near else "gymnasium.pprint_registry() shows all"
        raise ValueError(f"Gymnasium has no environment {name!r}; {hint}") from error


def _defaults(environment: Any, family: Family) -> tuple[float, ...]:
    """The varied attributes' own values."""
    numbers = {attribute: getattr(environment, attribute) for attribute in dir(environment) if _is_number(environment, attribute)}
    for attribute in family.names:
        if attribute not in numbers:
            raise ValueError(f"vary must be numbers that {family.id} has ({', '.join(numbers)}), not {attribute!r}")
        if numbers[attribute] == 0:
            raise ValueError(f"vary must be numbers that are not 0, which a factor would not change, not {attribute!r} of {family.id}")
    return tuple(float(numbers[attribute]) for attribute in family.names)


def _is_number(environment: Any, attribute: str) -> bool:
    if attribute.startswith("_"):
        return False
    value = getattr(environment, attribute, None)
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
