"""Tables classified in one forward pass, beside scikit-learn's classifiers, on real tables that nothing was trained on.

The tables are those of the folder `QUICKSTUDY_TABLES`: an `index.json`, a list of `{"name": ..., "categorical": [columns]}`, and for
each a `<name>.csv` whose last column is the class; an empty cell is a missing value. Without it, the four that scikit-learn carries.
Each is split in halves five times, stratified: one is the context, the other is predicted. Figures are means over splits, then over
tables; ranks are among ours and the six with default settings (1 is best, ties share). `seconds` are for fit and predict on two cores
once the programs for a table's size are compiled; the first call's are stored beside them. Against tuned ones: `tabular-tuned`.
"""

import csv
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _running import COLD, Target, main, spawn_here

NAME = "tabular"
TARGETS = (
    Target("rank_in_auc_over_the_best_other_s", "at most", 1),
    Target("rank_in_log_loss_over_the_best_other_s", "at most", 1),
    Target("most_seconds_a_table", "at most", 1),
    Target("lowest_auc", "at least", 0.5),
)
SPLITS = 5
OURS = "in context"
Figures = dict[str, float]  # auc, accuracy, log loss, calibration error, seconds
Tables = dict[str, dict[str, Figures]]  # table -> classifier -> figures


class Table(NamedTuple):
    """Numbers with NaN for empty cells and codes in categorical columns, and class numbers."""

    name: str
    x: np.ndarray
    y: np.ndarray
    categorical: list[int]


# --- Tables -------------------------------------------------------------------------------------------------------------------------


def names() -> list[str]:
    folder = os.environ.get("QUICKSTUDY_TABLES")
    return [entry["name"] for entry in json.loads((Path(folder) / "index.json").read_text())] if folder else list(_CARRIED)


_CARRIED = ("iris", "wine", "breast_cancer", "digits")


def load(name: str) -> Table:
    folder = os.environ.get("QUICKSTUDY_TABLES")
    if folder is None:
        from sklearn import datasets

        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        return Table(name, x[:2_000], y[:2_000], [])
    entry = next(entry for entry in json.loads((Path(folder) / "index.json").read_text()) if entry["name"] == name)
    with (Path(folder) / f"{name}.csv").open() as file:
        head, *rows = csv.reader(file)
    *columns, labels = zip(*rows, strict=True)
    categorical = [i for i, column in enumerate(head[:-1]) if column in entry["categorical"]]
    x = np.stack([codes(c) if i in categorical else np.array([float(v or "nan") for v in c]) for i, c in enumerate(columns)], axis=1)
    return Table(name, x, np.unique(labels, return_inverse=True)[1], categorical)


def codes(column: tuple[str, ...]) -> np.ndarray:
    levels = {value: float(i) for i, value in enumerate(sorted(set(column) - {""}))}
    return np.array([levels.get(value, np.nan) for value in column])


# --- Classifiers --------------------------------------------------------------------------------------------------------------------


def classifiers(table: Table) -> dict[str, Callable[[], Any]]:
    """Ours, and scikit-learn's with default settings, behind what each needs: filled cells, coded categories, one scale."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from quickstudy.estimators import InContextClassifier

    numeric = [i for i in range(table.x.shape[1]) if i not in table.categorical]

    def prepared(model: Any) -> Any:
        coded = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        scaled = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
        return make_pipeline(make_column_transformer((coded, table.categorical), (scaled, numeric)), model)

    return {
        OURS: lambda: InContextClassifier(categorical=table.categorical, random_state=0),
        "logistic regression": lambda: prepared(LogisticRegression()),
        "nearest neighbours": lambda: prepared(KNeighborsClassifier()),
        "random forest": lambda: prepared(RandomForestClassifier(random_state=0)),
        "gradient boosting": lambda: prepared(HistGradientBoostingClassifier(random_state=0)),
        "Gaussian process": lambda: prepared(GaussianProcessClassifier(random_state=0)),
        "multi-layer perceptron": lambda: prepared(MLPClassifier(random_state=0)),
    }


# --- Figures ------------------------------------------------------------------------------------------------------------------------


def log_loss(y: np.ndarray, p: np.ndarray) -> float:
    """In nats; no probability counts as less than one in ten million."""
    return float(-np.mean(np.log(np.clip(p[np.arange(len(y)), y], 1e-7, 1))))


def judged(y: np.ndarray, p: np.ndarray) -> Figures:
    from sklearn.metrics import roc_auc_score

    from quickstudy.estimators.calibration import calibration_error

    there = [k for k in range(p.shape[1]) if 0 < np.sum(y == k) < len(y)]
    return {
        "auc": float(np.mean([roc_auc_score(y == k, p[:, k]) for k in there])),  # one against the rest
        "accuracy": float(np.mean(np.argmax(p, axis=1) == y)),
        "log loss": log_loss(y, p),
        "calibration error": calibration_error(p, y),
    }


def halves(table: Table, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedShuffleSplit

    return StratifiedShuffleSplit(n, test_size=0.5, random_state=0).split(table.x, table.y)


def lived(fit: Callable[[np.ndarray, np.ndarray], Any], table: Table, context: np.ndarray, rest: np.ndarray) -> Figures:
    """Fit to a half and predict the other; a class that the first does not have gets no probability."""
    began = time.perf_counter()
    model = fit(table.x[context], table.y[context])
    found = model.predict_proba(table.x[rest])
    seconds = time.perf_counter() - began
    p = np.zeros((len(rest), int(table.y.max()) + 1))
    p[:, model.classes_] = found
    return judged(table.y[rest], p) | {"seconds": seconds}


def here(name: str) -> dict[str, Any]:
    """One table: every classifier in every split; ours once more before, as its first call compiles."""
    warnings.simplefilter("ignore")  # of scikit-learn about convergence and rare classes: its defaults are what they are
    table = load(name)
    splits = list(halves(table, SPLITS))
    makers = classifiers(table)
    first = lived(makers[OURS]().fit, table, *splits[0])["seconds"]
    found = {who: mean_figures([lived(make().fit, table, *split) for split in splits]) for who, make in makers.items()}
    found[OURS]["seconds of the first call"] = first
    return found


def mean_figures(each: list[Figures]) -> Figures:
    return {figure: float(np.mean([one[figure] for one in each])) for figure in each[0]}


def measure() -> dict[str, Any]:
    found = {name: _told(name) for name in names()}
    metrics = leads(found, "other")
    metrics["most_seconds_a_table"] = max(table[OURS]["seconds"] for table in found.values())
    metrics["lowest_auc"] = min(table[OURS]["auc"] for table in found.values())
    return {"metrics": metrics | figures(found), "tables": found, "weights": provenance()}


def leads(found: Tables, what: str) -> Figures:
    """Our mean rank over the best other's: below one, ours is best."""
    ranks = {figure: mean_ranks(found, figure) for figure in ("auc", "log loss")}
    others = lambda ranked: [rank for who, rank in ranked.items() if who != OURS]
    return {
        f"rank_in_{figure.replace(' ', '_')}_over_the_best_{what}_s": ranked[OURS] / min(others(ranked))
        for figure, ranked in ranks.items()
    }


def figures(found: Tables) -> Figures:
    """Means over tables, and mean ranks, of every classifier."""
    ranks = {figure: mean_ranks(found, figure) for figure in ("auc", "log loss")}
    metrics: Figures = {}
    for who in next(iter(found.values())):
        for figure in ("auc", "accuracy", "log loss", "calibration error", "seconds"):
            metrics[f"{who}: {figure}"] = float(np.mean([table[who][figure] for table in found.values()]))
        metrics |= {f"{who}: rank in {figure}": ranked[who] for figure, ranked in ranks.items()}
    return metrics


def provenance() -> dict[str, Any]:
    from quickstudy.shipped import provenance

    return provenance("pfn-tabular")


def _told(name: str) -> dict[str, Any]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    return spawn_here(__file__, name, environment=COLD)[0]


def mean_ranks(found: Tables, figure: str) -> Figures:
    """The mean over tables of each classifier's rank in a figure."""
    from scipy.stats import rankdata

    who = list(next(iter(found.values())))
    sign = -1 if figure in ("auc", "accuracy") else 1
    ranks = [rankdata([sign * table[one][figure] for one in who]) for table in found.values()]
    return dict(zip(who, np.mean(ranks, axis=0).tolist(), strict=True))


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
