"""Tables classified in one forward pass, beside the two best of scikit-learn's classifiers, tuned for every table.

The tables and figures are those of `tabular`, which must have been measured before: the two with the best mean ranks there (in ROC AUC
and log loss together) are tuned by random search, three-fold cross-validated log loss, 20 seconds of a core a split, three splits; the
default settings are among those tried.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from _running import ONE_THREAD, RESULTS, Target, main, spawn_here
from tabular import OURS, classifiers, figures, halves, leads, lived, load, log_loss, mean_figures, names, provenance

NAME = "tabular-tuned"
TARGETS = (
    Target("rank_in_auc_over_the_best_tuned_one_s", "at most", 1),
    Target("rank_in_log_loss_over_the_best_tuned_one_s", "at most", 1),
)
SPLITS, TUNED, SECONDS = 3, 2, 20.0


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


def here(name: str, *chosen: str) -> dict[str, Any]:
    """One table: ours as it is, the chosen ones tuned."""
    warnings.simplefilter("ignore")  # of scikit-learn about convergence and rare classes
    table = load(name)
    found = {}
    for who, make in classifiers(table).items():
        fit: Callable = lambda x, y, make=make, who=who: tuned(make(), grids()[who], x, y) if who in chosen else make().fit(x, y)
        if who in (OURS, *chosen):
            found[who] = mean_figures([lived(fit, table, *split) for split in halves(table, SPLITS)])
    return found


def measure() -> dict[str, Any]:
    best = best_with_defaults()

    def told(name: str) -> dict[str, Any]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        return spawn_here(__file__, name, *best, environment=ONE_THREAD)[0]

    with ThreadPoolExecutor(os.cpu_count()) as cores:  # the search looks at the clock, on one core
        found = dict(zip(names(), cores.map(told, names()), strict=True))
    notes = [f"tuned: {' and '.join(best)}"]
    return {"metrics": leads(found, "tuned one") | figures(found), "notes": notes, "tables": found, "weights": provenance()}


def best_with_defaults() -> list[str]:
    """The classifiers with the best mean ranks with default settings. Raises `RuntimeError` if that was not measured."""
    path = RESULTS / "tabular.json"
    if not path.exists():
        raise RuntimeError("run quickstudy bench tabular first: it says which classifiers to tune")
    metrics = json.loads(path.read_text())["metrics"]
    others = [name.split(":")[0] for name in metrics if name.endswith(": auc") and not name.startswith(OURS)]
    return sorted(others, key=lambda who: metrics[f"{who}: rank in auc"] + metrics[f"{who}: rank in log loss"])[:TUNED]


if __name__ == "__main__":
    main(NAME, TARGETS, measure, here)
