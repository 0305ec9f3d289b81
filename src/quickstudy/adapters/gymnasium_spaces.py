"""Which of Gymnasium's spaces fit our actions and observations, and how values pass from one side to the other."""

from typing import Any

import numpy as np
from jaxtyping import Float

from quickstudy.tasks.control import Actions, Continuous, Discrete

try:
    import gymnasium
except ImportError as error:
    raise ImportError("Gymnasium is not installed: pip install 'quickstudy[gymnasium]'") from error


def space_of(actions: Actions) -> gymnasium.Space[Any]:
    """Gymnasium's space of our actions.

    >>> space_of(Discrete(3))
    Discrete(3)
    """
    if isinstance(actions, Discrete):
        return gymnasium.spaces.Discrete(actions.n)
    return gymnasium.spaces.Box(-1.0, 1.0, (actions.size,), np.float32)


def actions_of(space: gymnasium.Space[Any], name: str) -> Actions:
    """Our actions of Gymnasium's space; `name` is the environment's. Raises `TypeError` for a space that does not fit.

    >>> actions_of(gymnasium.spaces.Box(-2.0, 2.0, (1,)), "Pendulum-v1")
    Continuous(size=1)
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return Discrete(int(space.n))
    if isinstance(space, gymnasium.spaces.Box) and space.is_bounded() and np.issubdtype(space.dtype, np.floating):
        return Continuous(int(np.prod(space.shape)))
    raise TypeError(f"actions of {name} are {space}; supported are Discrete and Box of real numbers with finite bounds")


def observation_shape(space: gymnasium.Space[Any], name: str) -> tuple[int, ...]:
    """The shape of the float array that an observation becomes. Raises `TypeError` for a space that does not fit.

    >>> observation_shape(gymnasium.spaces.Discrete(16), "FrozenLake-v1")
    (16,)
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, gymnasium.spaces.Box):
        return space.shape
    raise TypeError(f"observations of {name} are {space}; supported are Box and Discrete")


def to_action(space: gymnasium.Space[Any], action: Any) -> Any:
    """An action of Gymnasium's from one of ours: a Box's bounds are our -1 and 1, and what is beyond is clipped.

    >>> to_action(gymnasium.spaces.Box(0.0, 10.0, (1,)), np.array([-0.5]))
    array([2.5], dtype=float32)
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return space.start + space.dtype.type(action)
    assert isinstance(space, gymnasium.spaces.Box)
    share = (np.clip(np.asarray(action, np.float64).reshape(space.shape), -1.0, 1.0) + 1) / 2
    return (space.low + share * (space.high.astype(np.float64) - space.low)).astype(space.dtype)


def from_observation(space: gymnasium.Space[Any], observation: Any) -> Float[np.ndarray, "..."]:
    """An observation as a float32 array; of a Discrete space a one at its place among zeros.

    >>> from_observation(gymnasium.spaces.Discrete(3), 1).tolist()
    [0.0, 1.0, 0.0]
    """
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[int(observation) - int(space.start)]
    return np.asarray(observation, np.float32)
