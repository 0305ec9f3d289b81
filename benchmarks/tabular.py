"""Tables classified in one forward pass, beside scikit-learn's classifiers, on real tables that nothing was trained on.

The tables are those of the folder `QUICKSTUDY_TABLES`: an `index.json`, a list of `{"name": ..., "categorical": [columns]}`, and for
each a `<name>.csv` whose last column is the class; an empty cell is a missing value. Without it, the four that scikit-learn carries.
Each is split in halves five times, stratified: one is the context, the other is predicted. Figures are means over splits, then over
tables; ranks are among ours and the six with default settings (1 is best, ties share), `..._tuned` among ours and the two best of
those tuned (random search by three-fold cross-validated log loss, 20 seconds of a core a split, three splits). `seconds` are for fit
and predict on two cores once the programs for a table's size are compiled; the first call's are stored beside them.
"""

import csv
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _running import COLD, ONE_THREAD, Target, main, spawn_here

NAME = "tabular"
TARGETS = (
    Target("rank_in_auc_over_the_best_other_s", "at most", 1),
    Target("rank_in_log_loss_over_the_best_other_s", "at most", 1),
    Target("rank_in_auc_over_the_best_tuned_one_s", "at most", 1),
    Target("rank_in_log_loss_over_the_best_tuned_one_s", "at most", 1),
    Target("most_seconds_a_table", "at most", 1),
    Target("lowest_auc", "at least", 0.5),
)
SPLITS, TUNED_SPLITS, TUNED, SECONDS = 5, 3, 2, 20.0
OURS = "in context"
Figures = dict[str, float]  # auc, accuracy, log loss, calibration error, seconds


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


def grids() -> dict[str, dict[str, Any]]:
    """What tuning draws from: wide ranges of the settings that matter most."""
    from scipy.stats import loguniform, randint, uniform

    return {
        "logistic regression": {"C": loguniform(1e-3, 1e3)},
        "nearest neighbours": {"n_neighbors": randint(1, 40), "weights": ["uniform", "distance"], "p": [1, 2]},
        "random forest": {
            "n_estimators": randint(50, 500),
            "max_features": uniform(0.1, 0.9),
            "min_samples_leaf": randint(1, 10),
            "criterion": ["gini", "entropy"],
        },
        "gradient boosting": {
            "learning_rate": loguniform(0.01, 0.5),
            "max_leaf_nodes": randint(4, 64),
            "min_samples_leaf": randint(2, 40),
            "l2_regularization": loguniform(1e-3, 10),
            "max_iter": randint(50, 300),
        },
        "Gaussian process": {"kernel__length_scale": loguniform(0.3, 30)},
        "multi-layer perceptron": {
            "alpha": loguniform(1e-5, 10),
            "hidden_layer_sizes": [(50,), (100,), (200,), (100, 100)],
            "learning_rate_init": loguniform(1e-4, 1e-2),
        },
    }


def tuned(model: Any, grid: dict[str, Any], x: np.ndarray, y: np.ndarray) -> Any:
    """The best of as many random settings as `SECONDS` suffice for, the default among them, fitted to all rows."""
    from sklearn.base import clone
    from sklearn.model_selection import ParameterSampler, StratifiedKFold, cross_val_predict

    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    began, best, least = time.perf_counter(), model, np.inf
    last = model.steps[-1][0]
    for settings in [{}, *ParameterSampler(grid, 1_000, random_state=0)]:
        candidate = clone(model).set_params(**{f"{last}__{name}": value for name, value in settings.items()})
        loss = log_loss(y, cross_val_predict(candidate, x, y, cv=folds, method="predict_proba"))
        best, least = (candidate, loss) if loss < least else (best, least)
        if time.perf_counter() - began > SECONDS:
            break
    return best.fit(x, y)


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


def here(name: str, *chosen: str) -> dict[str, Any]:
    """One table: every classifier in every split, or the chosen ones tuned."""
    warnings.simplefilter("ignore")  # of scikit-learn about convergence and rare classes: its defaults are what they are
    table = load(name)
    found: dict[str, Any] = {}
    for who, make in classifiers(table).items():
        if chosen and who not in (OURS, *chosen):
            continue
        fit: Callable = make().fit
        if who in chosen:
            fit = lambda x, y, make=make, who=who: tuned(make(), grids()[who], x, y)
        splits = list(halves(table, TUNED_SPLITS if chosen else SPLITS))
        first = lived(make().fit, table, *splits[0])["seconds"] if who == OURS else None
        each = [lived(fit if who in chosen else make().fit, table, *split) for split in splits]
        found[who] = {figure: float(np.mean([one[figure] for one in each])) for figure in each[0]}
        found[who] |= {} if first is None else {"seconds of the first call": first}
    return found


def measure() -> dict[str, Any]:
    defaults = {name: _told(name) for name in names()}
    ranks = {figure: mean_ranks(defaults, figure) for figure in ("auc", "log loss")}
    others = sorted((who for who in ranks["auc"] if who != OURS), key=lambda who: ranks["auc"][who] + ranks["log loss"][who])
    best = others[:TUNED]
    with ThreadPoolExecutor(os.cpu_count()) as cores:  # nobody looks at the clock but the search, on one core each
        found = cores.map(lambda name: _told(name, *best, environment=ONE_THREAD), names())
    beside = dict(zip(names(), found, strict=True))
    metrics: dict[str, float] = {}
    for figure, ranked in ranks.items():
        plain = figure.replace(" ", "_")
        metrics[f"rank_in_{plain}_over_the_best_other_s"] = ranked[OURS] / min(ranked[who] for who in others)
        against = mean_ranks(beside, figure)
        metrics[f"rank_in_{plain}_over_the_best_tuned_one_s"] = against[OURS] / min(against[who] for who in best)
    metrics["most_seconds_a_table"] = max(found[OURS]["seconds"] for found in defaults.values())
    metrics["lowest_auc"] = min(found[OURS]["auc"] for found in defaults.values())
    for who in (OURS, *others):
        for figure in ("auc", "accuracy", "log loss", "calibration error", "seconds"):
            metrics[f"{who}: {figure}"] = float(np.mean([found[who][figure] for found in defaults.values()]))
        metrics |= {f"{who}: rank in {figure}": ranked[who] for figure, ranked in ranks.items()}
    from quickstudy.estimators.provenance import provenance

    notes = [f"tuned: {' and '.join(best)}"]
    return {"metrics": metrics, "notes": notes, "tables": defaults, "beside tuned": beside, "weights": provenance("pfn-tabular")}


def _told(name: str, *chosen: str, environment: Mapping[str, str] = COLD) -> dict[str, Any]:
    print(f"{name}{' beside tuned ones' if chosen else ''} ...", file=sys.stderr, flush=True)
    return spawn_here(__file__, name, *chosen, environment=environment)[0]


def mean_ranks(found: dict[str, dict[str, Figures]], figure: str) -> Figures:
    """The mean over tables of each classifier's rank in a figure."""
    from scipy.stats import rankdata

    who = list(next(iter(found.values())))
    sign = -1 if figure in ("auc", "accuracy") else 1
    ranks = [rankdata([sign * table[one][figure] for one in who]) for table in found.values()]
    return dict(zip(who, np.mean(ranks, axis=0).tolist(), strict=True))


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
