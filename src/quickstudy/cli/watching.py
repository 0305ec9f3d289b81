"""`quickstudy watch`: a life in the terminal, and as an animation."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from quickstudy.cli.compile_cache import use_compile_cache
from quickstudy.cli.flags import Parser, add_data_flags, count, whole_number

_CLEAR = "\x1b[H\x1b[2J"


def watch_command(arguments: Sequence[str]) -> int:
    """Play one life of a run's learner in a held-out task."""
    parser = Parser("watch", "One life in a task never drawn in training: in the terminal, and as a GIF.")
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run in tasks of the control kind")
    parser.add_argument("--split", choices=("train", "valid", "test", "out-of-range"), default="test", help="test by default")
    parser.add_argument("--ticks", type=count, help="how long (the preset's lifetime by default)")
    parser.add_argument("--seed", type=whole_number, default=0, help="draws the task and the life; 0 by default")
    parser.add_argument("--per-second", type=count, default=8, help="ticks a second, on a terminal and in the GIF; 8 by default")
    parser.add_argument("--gif", type=Path, help="where the animation goes; life.gif in the run folder by default")
    add_data_flags(parser)
    found = parser.read(arguments)
    use_compile_cache()
    import jax.random as jr

    from quickstudy import store, watching

    run = store.load(found.run)
    task_key, life_key = jr.split(jr.key(found.seed))
    task = run.tasks.sample(task_key, found.split)
    pictures, rewards = [], []
    for frame in watching.frames(run.learner, task, life_key, found.ticks or run.ticks):
        text = f"{task.text(frame.world)}\n{frame}\n"  # type: ignore[attr-defined]
        print(_CLEAR + text if sys.stdout.isatty() else text, flush=True)
        pictures.append(task.image(frame.world))  # type: ignore[attr-defined]
        rewards.append(frame.reward)
        if sys.stdout.isatty():
            time.sleep(1 / found.per_second)
    gif = found.gif or found.run / "life.gif"
    watching.write_animation(pictures, gif, per_second=found.per_second)
    print(f"reward {sum(rewards):g} in {len(rewards)} ticks, {frame.episode} episodes, a task of the {found.split} split")
    print(gif)
    return 0
