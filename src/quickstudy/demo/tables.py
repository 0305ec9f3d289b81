"""Third stop: a table is classified in forward passes alone, by a network that has met random tables only.

Nothing is trained here: the weights come with the package. The table is scikit-learn's breast-cancer table: 569 tumours, 30 numbers
each, benign or malignant. Half of the rows are given with their labels, the other half is predicted, five times over, beside a random
forest and logistic regression; all get the same halves.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from quickstudy.evaluation import bootstrap_interval
from quickstudy.report.charts import Series, line_chart
from quickstudy.report.html import Section, paragraph, stats, table

SPLITS = 5  # ours
SEED = 0
LEARNED, FOREST, LOGISTIC = "in context, nothing fitted", "random forest", "logistic regression"


class Answers(NamedTuple):
    """Predictions of one classifier for the rows left out of every split: `(splits, rows, classes)`, `(splits, rows)`, `(splits,)`."""

    probabilities: Float[np.ndarray, "splits rows classes"]
    labels: Int[np.ndarray, "splits rows"]
    seconds: Float[np.ndarray, " splits"]

    def right(self) -> Float[np.ndarray, " splits"]:
        """The share of right answers in every split."""
        return np.mean(self.probabilities.argmax(axis=2) == self.labels, axis=1)

    def log_loss(self) -> Float[np.ndarray, " splits"]:
        """The mean surprise at the label in nats, of every split."""
        chosen = np.take_along_axis(self.probabilities, self.labels[..., None], axis=2)[..., 0]
        return -np.log(np.clip(chosen, 1e-7, 1)).mean(axis=1)


def show(say: Callable[[str], None]) -> list[Section]:
    """Classify the table beside two others, print the figures; returns the report's sections."""
    from quickstudy.estimators.calibration import calibration_error

    x, y = material()
    say(f"A table of {len(x)} tumours, {x.shape[1]} numbers each. Half of the rows are shown, the rest is asked; {SPLITS} times.\n")
    answers = {name: answer(make, x, y) for name, make in classifiers().items()}
    rows = []
    say(f"{'classifier':<30} {'right':>7} {'log loss':>9} {'calibration error':>18} {'seconds':>8}")
    for name, found in answers.items():
        error = calibration_error(np.concatenate(found.probabilities), np.concatenate(found.labels))
        right, loss, seconds = found.right(), found.log_loss(), found.seconds[1:].mean()
        say(f"{name:<30} {100 * right.mean():>6.1f}% {loss.mean():>9.3f} {error:>18.3f} {seconds:>8.2f}")
        interval = " to ".join(f"{100 * bound:.1f}" for bound in bootstrap_interval(right))
        rows.append((name, f"{100 * right.mean():.1f} %", interval, f"{loss.mean():.3f}", f"{error:.3f}", f"{seconds:.2f}"))
    head = paragraph(
        f"A network that was trained on random tables only reads {len(x) // 2} labelled rows of a real one and answers the rest in "
        f"forward passes alone; nothing is fitted. Shares of right answers over {SPLITS} halves:"
    )
    best = [(name, f"{100 * found.right().mean():.1f} %") for name, found in answers.items()]
    columns = ("classifier", "right", "95 % interval", "log loss", "calibration error", "seconds")
    caption = f"Means over {SPLITS} halves of the table; seconds to fit and predict, without the first call, which compiles"
    return [Section("A new table", head + stats(best) + table(rows, columns, caption=caption) + _diagram(answers))]


def material() -> tuple[Float[np.ndarray, "rows columns"], Int[np.ndarray, " rows"]]:
    """The table, and which tumours are benign."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(return_X_y=True)


def classifiers() -> dict[str, Callable[[], Any]]:
    """Ours and two of scikit-learn's with default settings."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from quickstudy.estimators import InContextClassifier

    return {
        LEARNED: lambda: InContextClassifier(random_state=SEED),
        FOREST: lambda: RandomForestClassifier(random_state=SEED),
        LOGISTIC: lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    }


def answer(make: Callable[[], Any], x: Float[np.ndarray, "rows columns"], y: Int[np.ndarray, " rows"]) -> Answers:
    """What a classifier answers in every split, and how long it takes."""
    from sklearn.model_selection import StratifiedShuffleSplit

    found = []
    for context, rest in StratifiedShuffleSplit(SPLITS, test_size=0.5, random_state=SEED).split(x, y):
        began = time.perf_counter()
        probabilities = make().fit(x[context], y[context]).predict_proba(x[rest])
        found.append((probabilities, y[rest], time.perf_counter() - began))
    return Answers(*(np.stack(part) for part in zip(*found, strict=True)))


def _diagram(answers: dict[str, Answers]) -> str:
    from quickstudy.estimators.calibration import reliability

    lines = [Series("as right as it is sure", [0.5, 1.0], [0.5, 1.0], dashed=True)]
    for name, found in answers.items():
        curve = reliability(np.concatenate(found.probabilities), np.concatenate(found.labels))
        lines.append(Series(name, curve.confidence, curve.accuracy))
    text = (
        "How often answers are right that were given with the same confidence: on the dashed line, probabilities mean what they say."
    )
    return paragraph(text) + line_chart(lines, title="Reliability on the new table", x_label="mean confidence", y_label="share right")


def facts() -> dict[str, object]:
    """What the report says of how this stop was made."""
    from quickstudy.shipped import provenance

    weights = provenance("pfn-tabular")
    return {
        "table: data": "scikit-learn's breast-cancer table (Wolberg et al. 1995, UCI Machine Learning Repository)",
        "table: weights": f"{weights.get('command')}, commit {weights.get('commit')}, {weights.get('seconds')} s",
    }
