"""A life to look at: the worlds it went through, one by one, as text, as pictures and as an animation."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray, UInt8

from quickstudy.core import AbstractLearner, AbstractTask, End, World, birth, live
from quickstudy.tasks.control import AbstractControlTask, Discrete


class Frame(NamedTuple):
    """One tick of a life: the world before the action, the action, what it brought, and how it left the episode."""

    tick: int
    episode: int
    world: World
    action: int | np.ndarray
    reward: float
    end: End

    def __str__(self) -> str:
        action = str(self.action) if isinstance(self.action, int) else np.array2string(self.action, precision=2)
        end = "" if self.end == End.RUNNING else f"   {self.end.name.lower()}"
        return f"tick {self.tick}   episode {self.episode}   action {action}   reward {self.reward:g}{end}"


def frames(learner: AbstractLearner, task: AbstractTask, key: PRNGKeyArray, ticks: int) -> Iterator[Frame]:
    """The ticks of the same life that `lifetime` lives with this key. Raises `TypeError` unless the task is of the control kind."""
    if not isinstance(task, AbstractControlTask):
        raise TypeError(f"only tasks of the control kind can be watched, not {type(task).__name__}")
    record = lambda tick: (tick.response, tick.score, tick.end)
    born = eqx.filter_jit(birth)
    move = eqx.filter_jit(lambda learner, task, life, key: live(learner, task, life, key, steps=1, record=record))
    life, live_key, episode = born(learner, task, key), jr.split(key, 3)[2], 1
    for tick in range(ticks):
        after, (response, score, end) = move(learner, task, life, live_key)
        action = int(response[0]) if isinstance(task.actions, Discrete) else np.asarray(response[0])
        yield Frame(tick, episode, life.world, action, float(score[0]), End(int(end[0])))
        life, episode = after, episode + (int(end[0]) != End.RUNNING)


def episodes(life: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of each episode.

    >>> frame = lambda episode: Frame(0, episode, None, 0, 0.0, End.RUNNING)
    >>> [len(episode) for episode in episodes([frame(1), frame(1), frame(2)])]
    [2, 1]
    """
    found: dict[int, list[Frame]] = {}
    for frame in life:
        found.setdefault(frame.episode, []).append(frame)
    return list(found.values())


def write_animation(pictures: Sequence[UInt8[np.ndarray, "height width 3"]], out: Path, *, per_second: int = 8) -> None:
    """Write pictures of one size as a GIF that runs for ever, enlarged to at least 200 pixels in width.

    Raises `ImportError` with one sentence if Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("an animation needs Pillow: pip install 'quickstudy[tasks]'") from None
    scale = max(1, -(-200 // pictures[0].shape[1]))
    enlarged = [Image.fromarray(picture.repeat(scale, axis=0).repeat(scale, axis=1)) for picture in pictures]
    out.parent.mkdir(parents=True, exist_ok=True)
    enlarged[0].save(out, save_all=True, append_images=enlarged[1:], duration=round(1_000 / per_second), loop=0)
