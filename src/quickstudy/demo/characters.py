"""First stop: meta-train on generated glyphs only, then learn real handwriting from a few examples of each character.

A prototypical network meets nothing but glyphs that nobody has written. Then it meets scikit-learn's handwritten digits (or a folder
of your own pictures), never seen in any form, with 1, 2, 5 and 10 examples of each, beside two learners that work on the same pixels:
nearest neighbour and logistic regression. All three get the same support sets and answer the same queries.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int

from quickstudy.algorithms.fewshot import protonet
from quickstudy.core import AbstractLearner, AbstractTaskDistribution, sample_tasks
from quickstudy.evaluation import bootstrap_interval
from quickstudy.outer import run
from quickstudy.report.charts import Series, line_chart
from quickstudy.report.html import Section, paragraph, stats, table
from quickstudy.report.images import Mark, image_grid
from quickstudy.tasks.arrays import from_arrays, from_image_folder
from quickstudy.tasks.digits import load_digits
from quickstudy.tasks.episode import EpisodeTask

SHOTS = (1, 2, 5, 10)
QUERY = 5  # ours: queries per class and episode; ten classes give 50 answers an episode
EPISODES = 100  # ours: the interval of a mean accuracy is then about 1.5 points to each side
SEED = 0
LEARNED, NEIGHBOUR, LOGISTIC = "meta-learned on glyphs", "nearest neighbour, pixels", "logistic regression, pixels"

Labels = Int[np.ndarray, "episodes queries"]


class Line(NamedTuple):
    """One row of the table: mean accuracy over episodes and its 95 % bootstrap interval."""

    learner: str
    shot: int
    accuracy: float
    low: float
    high: float


class Material(NamedTuple):
    """Pictures `(n, 28, 28)`, class numbers `(n,)`, class names, what to call them, and the numbers of examples they suffice for."""

    pictures: np.ndarray
    classes: np.ndarray
    names: list[str]
    what: str
    shots: list[int]


def show(material: Material, say: Callable[[str], None]) -> list[Section]:
    """Meta-train on glyphs, test on the material beside two learners from pixels, print the table; returns the report's sections."""
    pictures, classes, names, what, shots = material
    tests = {shot: from_arrays(pictures, classes, way=len(names), shot=shot, query=QUERY, splits=(0, 0, 1)) for shot in shots}
    learner, history = meta_train(say)
    say(f"\nNow {what}: {len(names)} classes, {EPISODES} episodes, never seen before.\n")
    say(f"{'learner':<28} {'shots':>5} {'accuracy':>9}   95 % interval")
    rows: list[Line] = []
    margins: list[tuple[str, int, float, float, float]] = []
    example: tuple[EpisodeTask, Labels] | None = None
    for shot, tasks in tests.items():
        episodes = draw_episodes(tasks)
        answers = {name: answer(episodes) for name, answer in _learners(learner).items()}
        right = {name: (labels == episodes.query_y).mean(axis=1) for name, labels in answers.items()}
        rows += [_line(name, shot, values, say) for name, values in right.items()]
        margins += [(name, shot, *_mean_and_interval(right[LEARNED] - right[name])) for name in (NEIGHBOUR, LOGISTIC)]
        example = example or (episodes, answers[LEARNED])
    say("")
    for name, shot, mean, low, high in margins:
        say(f"{shot:>2} shot: {100 * mean:+5.1f} points over {name} [{100 * low:+.1f}, {100 * high:+.1f}]")
    assert example is not None
    return _sections(what, rows, margins, history, example)


def meta_train(say: Callable[[str], None]) -> tuple[AbstractLearner, Float[np.ndarray, "2 steps"]]:
    """Meta-train the "glyphs" preset of protonet; returns the learner and the loss and accuracy of every outer step."""
    preset = protonet.PRESETS["glyphs"]
    tasks = preset.tasks()
    program = protonet.program(preset.config, tasks)
    say(f"Meta-training a prototypical network on generated glyphs, {preset.steps} episodes ...")
    learner, losses, scores = None, [], []
    for progress in run(program, steps=preset.steps, seed=SEED, chunk=-(-preset.steps // 7)):
        losses.append(progress.metrics["loss"])
        scores.append(progress.metrics["score"])
        learner = program.learner(progress.state)
        say(f"  episode {progress.step:>5}: {100 * scores[-1][-50:].mean():.0f} % of new glyph drawings right")
    assert learner is not None
    return learner, np.stack([np.concatenate(losses), np.concatenate(scores)])


def draw_episodes(tasks: AbstractTaskDistribution) -> EpisodeTask:
    """Draw the test episodes, stacked, as NumPy arrays; every learner meets the same ones."""
    drawn = eqx.filter_jit(sample_tasks)(tasks, jr.fold_in(jr.key(SEED), 1), "test", EPISODES)
    return jax.tree.map(np.asarray, drawn)


def _learners(learner: AbstractLearner) -> dict[str, Callable[[EpisodeTask], Labels]]:
    return {LEARNED: lambda e: answer_by_learner(learner, e), NEIGHBOUR: answer_by_neighbour, LOGISTIC: answer_by_regression}


def answer_by_learner(learner: AbstractLearner, episodes: EpisodeTask) -> Labels:
    """What a one-tick learner answers to the queries of each episode."""
    key = jr.key(SEED)

    @jax.jit
    def answer(task: EpisodeTask) -> jax.Array:
        view = task.view()
        return jnp.argmax(learner.respond(learner.begin(view, key), view, key), axis=-1)

    return np.asarray(jax.lax.map(answer, episodes, batch_size=10))


def answer_by_neighbour(episodes: EpisodeTask) -> Labels:
    """The label of the support example whose pixels are closest."""

    @jax.jit
    def answer(task: EpisodeTask) -> jax.Array:
        flat = lambda x: x.reshape(x.shape[0], -1)
        return task.support_y[protonet.squared_distances(flat(task.query_x), flat(task.support_x)).argmin(axis=1)]

    return np.asarray(jax.lax.map(answer, episodes))


def answer_by_regression(episodes: EpisodeTask) -> Labels:
    """Scikit-learn's logistic regression, its defaults but iterated until it converges, fitted to each support set's pixels."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    flat = lambda x: x.reshape(*x.shape[:2], -1)
    sets = zip(flat(episodes.support_x), episodes.support_y, flat(episodes.query_x), strict=True)
    # Problems this small lose far more to threads waiting for each other than they gain.
    with threadpool_limits(1):
        return np.stack([LogisticRegression(max_iter=1_000).fit(x, y).predict(queries) for x, y, queries in sets])


def material_of(images: str | None) -> Material:
    """The pictures of a folder, or scikit-learn's digits. Raises `ValueError` or `OSError` if the folder cannot be used."""
    if images is None:
        pictures, labels = load_digits()
        names = [str(digit) for digit in range(10)]
        return Material(pictures, labels, names, "scikit-learn's real handwritten digits", _possible_shots(labels))
    pictures, classes, names = from_image_folder(images)
    if len(names) < 2:
        raise ValueError(f"images must hold at least two classes, but {images!r} has one sub-folder")
    return Material(pictures, classes, names, f"the pictures in {images}", _possible_shots(classes))


def _possible_shots(classes: np.ndarray) -> list[int]:
    least = int(np.bincount(classes).min())
    if least < SHOTS[0] + QUERY:
        raise ValueError(f"every class of images must have at least {SHOTS[0] + QUERY} pictures, but the smallest has {least}")
    return [shot for shot in SHOTS if shot + QUERY <= least]


def _mean_and_interval(values: Float[np.ndarray, " episodes"]) -> tuple[float, float, float]:
    low, high = bootstrap_interval(values)
    return float(values.mean()), float(low), float(high)


def _line(name: str, shot: int, right: Float[np.ndarray, " episodes"], say: Callable[[str], None]) -> Line:
    line = Line(name, shot, *_mean_and_interval(right))
    say(f"{name:<28} {shot:>5} {100 * line.accuracy:>7.1f} %   [{100 * line.low:.1f}, {100 * line.high:.1f}]")
    return line


# --- The report ---------------------------------------------------------------------------------------------------------------------


def _sections(
    what: str,
    rows: list[Line],
    margins: list[tuple[str, int, float, float, float]],
    history: Float[np.ndarray, "2 steps"],
    example: tuple[EpisodeTask, Labels],
) -> list[Section]:
    one_shot = {line.learner: line for line in rows if line.shot == SHOTS[0]}
    head = paragraph(f"Meta-trained on generated glyphs only; tested on {what}, never seen before. At one example of each:")
    return [
        Section("New characters", head + stats([(name, f"{100 * line.accuracy:.1f} %") for name, line in one_shot.items()])),
        Section("The more examples, the better", _curve(rows) + _numbers(rows, margins)),
        Section("One episode", _episode(*example)),
        Section("Meta-training on glyphs", _training(history)),
    ]


def _curve(rows: list[Line]) -> str:
    names = list(dict.fromkeys(line.learner for line in rows))
    of = lambda name, field: [getattr(line, field) for line in rows if line.learner == name]
    series = [Series(n, of(n, "shot"), of(n, "accuracy"), of(n, "low"), of(n, "high"), dashed=n != LEARNED) for n in names]
    return line_chart(series, title="Accuracy on new characters", x_label="examples of each class", y_label="accuracy")


def _numbers(rows: list[Line], margins: list[tuple]) -> str:
    percent = lambda value: f"{100 * value:.1f}"
    accuracy = [(r.learner, r.shot, percent(r.accuracy), f"{percent(r.low)} to {percent(r.high)}") for r in rows]
    ahead = [(name, shot, f"{100 * mean:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}") for name, shot, mean, low, high in margins]
    caption = f"Mean over {EPISODES} episodes with {QUERY} queries a class; 95 % bootstrap interval over episodes"
    return table(accuracy, ("learner", "examples", "accuracy, %", "95 % interval"), caption=caption) + table(
        ahead, ("meta-learned, ahead of", "examples", "points", "95 % interval"), caption="Difference on the same episodes"
    )


def _episode(episodes: EpisodeTask, answers: Labels) -> str:
    """The first episode: its support set, and up to 30 queries with the learner's mistakes first."""
    grey = lambda images: list((255 * (1 - np.clip(images, 0, 1))).astype(np.uint8))
    right = answers[0] == episodes.query_y[0]
    order = np.argsort(right, kind="stable")[:30]
    support, queries = grey(episodes.support_x[0]), grey(episodes.query_x[0][order])
    said = [f"taken for {answers[0][i] + 1}, is {episodes.query_y[0][i] + 1}" for i in order]
    marks: list[Mark] = ["right" if right[i] else "wrong" for i in order]
    return (
        paragraph("All that the learner was shown. A class has no name here, only the number of the place where it stands:")
        + image_grid(support, [f"class {label + 1}" for label in episodes.support_y[0]])
        + paragraph("Some of the queries, mistakes first:")
        + image_grid(queries, said, marks=marks)
    )


def _training(history: Float[np.ndarray, "2 steps"]) -> str:
    steps = np.arange(1, history.shape[1] + 1)
    return line_chart(
        [Series("accuracy on the queries of training glyphs", steps, history[1])],
        title="Meta-training on glyphs",
        x_label="outer step (one episode each)",
        y_label="accuracy",
        y_range=(0, 1),
    )


def facts(material: Material) -> dict[str, object]:
    """What the report says of how this stop was made."""
    preset = protonet.PRESETS["glyphs"]
    return {
        "characters: method": f"protonet, preset glyphs, {preset.config}, {preset.steps} steps, seed {SEED}",
        "characters: training data": f"{preset.tasks()}",
        "characters: test data": material.what,
    }
