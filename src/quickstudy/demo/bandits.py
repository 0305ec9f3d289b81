"""Second stop: meta-train an agent on slot machines with ten arms, then let it play machines it has never met.

Nobody tells the agent what a good strategy is. After a minute of meta-training its frozen weights explore new bandits nearly as well
as the Gittins index, which statisticians made for exactly this prior, and better than Thompson sampling.
"""

from collections.abc import Callable

import jax.random as jr
import numpy as np
from jaxtyping import Float

from quickstudy.algorithms.metarl import rl2
from quickstudy.algorithms.references import default_references
from quickstudy.core import AbstractLearner
from quickstudy.evaluation import Curve, evaluate
from quickstudy.outer import run
from quickstudy.report.charts import Series, line_chart
from quickstudy.report.html import Section, paragraph, stats, table
from quickstudy.report.images import image_grid
from quickstudy.tasks.drawing import GREEN, RED, WHITE, canvas, cells
from quickstudy.watching import Frame, frames

PRESET = "demo"
BANDITS = 4_000  # ours: the interval of a mean total reward is then about 0.4 to each side
SEED = 0
LEARNED, GITTINS = "meta-trained agent", "Gittins"


def show(say: Callable[[str], None]) -> list[Section]:
    """Meta-train, test beside the strategies of statistics, print the table; returns the report's sections."""
    preset = rl2.PRESETS[PRESET]
    tasks = preset.tasks()
    learner, history = meta_train(say)
    references = default_references(tasks, preset.ticks)
    report = evaluate(learner, tasks, n_tasks=BANDITS, steps=preset.ticks, key=jr.key(SEED), references=references)
    curves = {LEARNED: report.curve, **report.references}
    say(f"\nNow {BANDITS} new bandits, {preset.ticks} pulls each, weights frozen.\n")
    say(f"{'strategy':<20} {'total reward':>12}   95 % interval")
    for name, curve in sorted(curves.items(), key=lambda item: -item[1].total[0]):
        mean, low, high = curve.total
        say(f"{name:<20} {mean:>12.1f}   [{low:.1f}, {high:.1f}]")
    share = report.curve.total[0] / report.references[GITTINS].total[0]
    say(f"\nThe agent earns {100 * share:.1f} % of what the Gittins index earns on the same bandits.")
    task = tasks.sample(jr.key(SEED), "test")
    life = list(frames(learner, task, jr.key(SEED), preset.ticks))
    head = paragraph(
        f"Meta-trained with RL^2 on bandits whose arms pay with hidden probabilities; tested on {BANDITS} bandits never seen before, "
        f"{preset.ticks} pulls each, with frozen weights. Total reward:"
    )
    best = [(name, f"{curves[name].total[0]:.1f}") for name in (LEARNED, GITTINS)]
    return [
        Section("New bandits", head + stats(best) + _curves(curves) + _numbers(curves)),
        Section("One life", _picture(life, np.asarray(task.probabilities))),  # type: ignore[attr-defined]
        Section("Meta-training on bandits", _training(history)),
    ]


def meta_train(say: Callable[[str], None]) -> tuple[AbstractLearner, Float[np.ndarray, " steps"]]:
    """Meta-train the "demo" preset of rl2; returns the agent and the mean total reward of a life at every outer step."""
    preset = rl2.PRESETS[PRESET]
    program = rl2.program(preset.config, preset.tasks())
    say(f"Meta-training a recurrent agent (RL^2), {preset.steps} steps of {preset.config.lives} lives ...")
    learner, scores = None, []
    for progress in run(program, steps=preset.steps, seed=SEED, chunk=-(-preset.steps // 7)):
        scores.append(progress.metrics["score"] * preset.ticks)
        learner = program.learner(progress.state)
        say(f"  step {progress.step:>5}: {scores[-1][-50:].mean():.1f} reward in {preset.ticks} pulls of training bandits")
    assert learner is not None
    return learner, np.concatenate(scores)


def _curves(curves: dict[str, Curve]) -> str:
    pulls = np.arange(1, len(curves[LEARNED].mean) + 1)
    lines = [Series(LEARNED, pulls, curves[LEARNED].mean, curves[LEARNED].low, curves[LEARNED].high)]
    lines += [Series(name, pulls, curve.mean, dashed=True) for name, curve in curves.items() if name != LEARNED]
    return line_chart(lines, title="Reward per pull on new bandits", x_label="pull", y_label="mean reward")


def _numbers(curves: dict[str, Curve]) -> str:
    rows = [(name, f"{curve.total[0]:.2f}", f"{curve.total[1]:.2f} to {curve.total[2]:.2f}") for name, curve in curves.items()]
    return table(rows, ("strategy", "total reward", "95 % interval"), caption=f"Mean over the same {BANDITS} test bandits")


def _picture(life: list[Frame], probabilities: Float[np.ndarray, " arms"]) -> str:
    """Arms from the best to the worst, pulls from left to right: green where it paid, red where it did not."""
    order = np.argsort(-probabilities)
    colours = canvas(len(order), len(life), WHITE)
    for frame in life:
        row = int(np.flatnonzero(order == frame.action)[0])
        colours[row, frame.tick] = GREEN if frame.reward else RED
    text = "One test bandit: a row for each arm, the best on top; a column for each pull; green paid, red did not."
    return paragraph(text) + image_grid([cells(colours, size=8)], [f"{len(life)} pulls"], size=800)


def _training(history: Float[np.ndarray, " steps"]) -> str:
    smooth = np.convolve(history, np.ones(20) / 20, mode="valid")
    steps = np.arange(len(history) - len(smooth) + 1, len(history) + 1)
    series = [Series("total reward on training bandits, mean of 20 steps", steps, smooth)]
    return line_chart(series, title="Meta-training on bandits", x_label="outer step", y_label="reward in a life")


def facts() -> dict[str, object]:
    """What the report says of how this stop was made."""
    preset = rl2.PRESETS[PRESET]
    return {
        "bandits: method": f"rl2, preset {PRESET}, {preset.config}, {preset.steps} steps, seed {SEED}",
        "bandits: training data": f"{preset.tasks()}, train split",
        "bandits: test data": f"{preset.tasks()}, test split",
    }
