"""The page of one or more run folders: adaptation on held-out tasks, training, configuration with sources, provenance."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np

from quickstudy import catalog, persist, store, watching
from quickstudy.generalist.summaries import shown
from quickstudy.report.charts import Series, line_chart
from quickstudy.report.html import Section, page, paragraph, side_by_side, stats, table
from quickstudy.report.images import image_grid
from quickstudy.tasks.control import AbstractControlTask

_GENERALIST = "generalist"
_N_TASKS = 1_000  # ours: the interval of an accuracy is then about three points wide at most


class _Told(NamedTuple):
    """What one run folder says."""

    name: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluation: dict[str, Any]
    life: str = ""
    play: str = ""


def write_report(folders: Sequence[Path], out: Path) -> Path:
    """Write `index.html` for some run folders into `out` and return its path.

    Runs without an evaluation of their present weights on the test split are evaluated first, on 1,000 tasks.
    Raises `OSError` for a damaged run folder or an `out` that cannot be written.
    """
    names = _short_names(folders)
    told = [_tell(folder, name) for folder, name in zip(folders, names, strict=True)]
    out.mkdir(parents=True, exist_ok=True)
    persist.write_atomically(out / "index.html", run_page(told).encode())
    return out / "index.html"


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The folders' own names; longer paths where these are not unique."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def _tell(folder: Path, name: str) -> _Told:
    store.read_settings(folder)
    path, done = folder / "evaluation.test.json", store.steps_done(folder)
    evaluation = persist.read_json(path) if path.exists() else None
    if evaluation is None or evaluation["step"] < done:
        evaluation = store.evaluate_run(folder, n_tasks=_N_TASKS)
    return _Told(name, persist.read_json(folder / store.CONFIG), store.read_metrics(folder), evaluation, _life(folder), _play(folder))


def _play(folder: Path) -> str:
    """Of a generalist what its boards say of test seeds, or how to make one; nothing for other methods."""
    if store.read_settings(folder).method != _GENERALIST:
        return ""
    rows: dict[str, list[str]] = {}  # a later board's tasks stand for an earlier one's
    boards = [folder / "scoreboard.json", *folder.glob("scoreboard-*.json")]
    for path in sorted((path for path in boards if path.exists()), key=lambda path: path.stat().st_mtime):
        board = persist.read_json(path)
        if board["step"] != store.steps_done(folder):
            continue
        for name, players in board["tasks"].items():
            others = [f"{players[who]['success']:.2f}" for who in ("expert", "nearest neighbour", "random")]
            for who, row in players.items():
                if who == _GENERALIST or who.startswith("with prompt"):
                    label = name if who == _GENERALIST else f"{name}, {who}"
                    rows[label] = [label, shown(row, "success"), *others]
        rows |= {name: [name, shown(row, "right"), "", "", ""] for name, row in board["examined"].items()}
    if not rows:
        return paragraph(f"It was not played yet: quickstudy eval {shlex.quote(str(folder))}")
    heads = ["task", "success, or right (95 % interval)", "expert", "nearest recorded step", "random"]
    return table(list(rows.values()), heads, caption="Episodes of test seeds")


def _life(folder: Path) -> str:
    """Pictures of the first and the last episode of a life in a test task; nothing for tasks that cannot be looked at."""
    run = store.load(folder)
    task_key, life_key = jr.split(jr.key(0))
    task = run.tasks.sample(task_key, "test")
    if not isinstance(task, AbstractControlTask):
        return ""
    frames = list(watching.frames(run.learner, task, life_key, run.ticks))
    found = watching.episodes(frames)
    # Where an episode is a single tick, as in bandits, ten of them show more.
    first, last = (found[0], found[-1]) if len(found[0]) > 1 else (frames[:10], frames[-10:])
    total = lambda part: f"reward {sum(frame.reward for frame in part):g} in {len(part)} ticks"
    strips = [(f"The first episode: {total(first)}.", first), (f"The last episode: {total(last)}.", last)]
    blocks = [paragraph(text) + _strip(task, part) for text, part in strips]
    return paragraph("What the agent did in one test task. Each picture is the world before the action under it.") + side_by_side(
        blocks
    )


def _strip(task: AbstractControlTask, part: Sequence[watching.Frame]) -> str:
    """At most a dozen frames of an episode, evenly spaced, the last among them."""
    shown = [part[round(i)] for i in np.linspace(0, len(part) - 1, min(len(part), 12))]
    captions = [f"tick {frame.tick}: {frame.action}, reward {frame.reward:g}" for frame in shown]
    return image_grid([task.image(frame.world) for frame in shown], captions, size=96)


def run_page(runs: Sequence[_Told]) -> str:
    """The page as a string of HTML."""
    methods = sorted({run.config["method"] for run in runs})
    ideas = [paragraph(f"{method}: {catalog.card(catalog.METHODS[method]).idea}") for method in methods]
    title = f"{methods[0]}, {runs[0].config['preset']}" if len(runs) == 1 else f"{len(runs)} runs: {', '.join(methods)}"
    charts = side_by_side([_adaptation(runs), *([_training(runs)] if all(run.metrics for run in runs) else [])])
    sections = [
        Section("Held-out tasks", "".join([*ideas, _headline(runs), charts])),
        *(Section(f"Play: {run.name}" if len(runs) > 1 else "Play", run.play) for run in runs if run.play),
        *(Section(f"One life: {run.name}" if len(runs) > 1 else "One life", run.life) for run in runs if run.life),
        Section("Configuration", _configuration(runs)),
        Section("Provenance", _provenance(runs)),
    ]
    return page(title, sections, subtitle="; ".join(dict.fromkeys(run.config["tasks"] for run in runs)))


def _headline(runs: Sequence[_Told]) -> str:
    if all(run.play for run in runs):
        return ""  # the score of the last token of a window is nothing to be told apart
    if len(runs) == 1:
        found, (_, last, bounds) = runs[0].evaluation, _ends(runs[0])
        return stats([("score after the last tick", last), ("95 % interval", bounds), ("held-out tasks", found["n_tasks"])])
    rows = [[run.name, run.config["method"], run.evaluation["step"], *_ends(run)] for run in runs]
    return table(rows, ["run", "method", "steps", "first tick", "last tick", "95 % interval"], caption="Score on held-out tasks")


def _ends(run: _Told) -> tuple[float, float, str]:
    """The first and the last score of a run's curve, and the interval of the last."""
    curve = run.evaluation["curve"]
    return curve["mean"][0], curve["mean"][-1], f"{curve['low'][-1]:.4g} to {curve['high'][-1]:.4g}"


def _adaptation(runs: Sequence[_Told]) -> str:
    lines = [Series(run.name, *_points(run.evaluation["curve"])) for run in runs]
    references = {}
    for run in runs:
        for name, curve in run.evaluation["references"].items():
            line = f"{name} {run.config['method']}"
            references[line] = Series(line, *_points(curve)[:2], dashed=True)
    note = "Mean score per tick of experience in a new task, with its 95 % interval over tasks; tick 0 comes before adaptation."
    title, x_label, y_label = "Adaptation on tasks never drawn in training", "ticks of experience", "score"
    if all(run.play for run in runs):
        title, x_label, y_label = "Windows of test episodes, read token by token", "tokens", "log-likelihood, nats"
        note = "Mean log-likelihood of the next token where it is text or part of an action, and 0 elsewhere."
    return line_chart([*lines, *references.values()], title=title, x_label=x_label, y_label=y_label, note=note)


def _points(curve: dict[str, list[float]]) -> tuple[list[int], list[float], list[float], list[float]]:
    return list(range(len(curve["mean"]))), curve["mean"], curve["low"], curve["high"]


def _training(runs: Sequence[_Told]) -> str:
    metric = "score" if all("score" in line["metrics"] for run in runs for line in run.metrics) else "loss"
    steps = [[line["step"] for line in run.metrics] for run in runs]
    lines = [Series(run.name, x, [line["metrics"][metric] for line in run.metrics]) for run, x in zip(runs, steps, strict=True)]
    seconds = ", ".join(f"{sum(line['seconds'] for line in run.metrics):.0f} s" for run in runs)
    note = f"Mean of each chunk of outer steps, on training tasks. Time to train, compilation included: {seconds}."
    return line_chart(lines, title="Training", x_label="outer steps", y_label=metric, note=note)


def _configuration(runs: Sequence[_Told]) -> str:
    fields = [field for method in {run.config["method"]: 0 for run in runs} for field in catalog.defaults(catalog.METHODS[method])]
    settings = [(name, "") for name in ("seed", "steps")]
    named = list({field.name: (field.name, f"default {field.default}; {field.source}") for field in fields}.values()) + settings
    value = lambda run, name: str(run.config["config"].get(name, run.config.get(name, "")))
    rows = [[name, *(value(run, name) for run in runs), source] for name, source in named]
    return table(rows, ["setting", *(run.name for run in runs), "default and where it comes from"], caption="Settings")


def _provenance(runs: Sequence[_Told]) -> str:
    described = [_origin(run.config) for run in runs]
    names = list(dict.fromkeys(itertools.chain.from_iterable(described)))
    rows = [[name, *(one.get(name, "") for one in described)] for name in names]
    return table(rows, ["", *(run.name for run in runs)], caption="Where the runs come from")


def _origin(config: dict[str, Any]) -> dict[str, str]:
    changed = " with changed files" if config.get("changed files") else ""
    return {
        "command": config["command"],
        "created": config["created"],
        "commit": f"{config.get('commit', 'unknown')}{changed}",
        **{name: str(value) for name, value in config["machine"].items()},
        **config["versions"],
    }
