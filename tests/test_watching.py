"""What is watched is the life that was lived, episode by episode, and the animation holds every tick."""

import jax
import jax.random as jr
import numpy as np
import pytest
from algorithms.probes import LADDER, Probes, ladder

from quickstudy.algorithms.metarl import rl2
from quickstudy.core import End, lifetime
from quickstudy.tasks import BernoulliBandit, Sinusoid
from quickstudy.watching import episodes, frames, write_animation

KEY, TICKS = jr.key(0), 12


def life_in(tasks):
    learner = rl2.learner(rl2.Config(width=4), tasks, KEY)
    task = tasks.sample(KEY, "test")
    return learner, task, list(frames(learner, task, KEY, TICKS))


def test_the_frames_are_those_of_the_lifetime():
    learner, task, seen = life_in(BernoulliBandit(arms=3))
    actions, scores = lifetime(learner, task, KEY, steps=TICKS, record=lambda tick: (tick.response, tick.score))[1]
    assert [frame.action for frame in seen] == actions.tolist()
    assert [frame.reward for frame in seen] == scores.tolist()
    assert [frame.episode for frame in seen] == list(range(1, TICKS + 1))


def test_episodes_end_where_the_frames_say():
    name = "a time limit that is no end"
    _, _, seen = life_in(Probes(jax.tree.map(lambda leaf: leaf[list(LADDER).index(name)], ladder(horizon=5))))
    parts = episodes(seen)
    assert [len(part) for part in parts] == [5, 5, 2]
    assert [part[-1].end for part in parts] == [End.TRUNCATED, End.TRUNCATED, End.RUNNING]
    assert str(parts[0][-1]).startswith("tick 4   episode 1   action ")


def test_only_control_tasks_can_be_watched():
    learner, _, _ = life_in(BernoulliBandit(arms=3))
    with pytest.raises(TypeError, match="only tasks of the control kind can be watched, not EpisodeTask"):
        next(frames(learner, Sinusoid().sample(KEY, "test"), KEY, TICKS))


def test_an_animation_holds_every_picture(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not here: pip install 'quickstudy[tasks]'")
    pictures = [np.full((4, 5, 3), shade, np.uint8) for shade in (0, 90, 200)]
    write_animation(pictures, tmp_path / "deep" / "life.gif")
    with image.open(tmp_path / "deep" / "life.gif") as found:
        assert (found.n_frames, found.size) == (3, (200, 160))
