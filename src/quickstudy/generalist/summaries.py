"""What episodes that were played say together: of one task, and of several, each of which counts as much as another."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import binomtest, trim_mean

from quickstudy.evaluation import bootstrap_interval
from quickstudy.persist import Facts

_TWO_SIDES = 1.96  # standard errors of a 95 % interval


def normalised(returns: Float[np.ndarray, " episodes"], low: float, high: float) -> Float[np.ndarray, " episodes"]:
    """Returns on the scale where `low` is 0 and `high` is 1; NaN where there is no such scale.

    >>> normalised(np.array([1.0, 4.0]), 1.0, 3.0).tolist()
    [0.0, 1.5]
    """
    return (returns - low) / (high - low) if high > low else np.full(len(returns), np.nan)


def summary(
    returns: Float[np.ndarray, " episodes"], success: Bool[np.ndarray, " episodes"], scores: Float[np.ndarray, " episodes"]
) -> Facts:
    """Of one task: how many episodes, and of their returns, successes and normalised `scores` means with 95 % intervals and more."""
    interval = bootstrap_interval(returns)
    return {
        "episodes": len(returns),
        "return": float(returns.mean()),
        "return interval": [float(end) for end in interval],
        "interquartile mean": _middle(returns),
        "minimum": float(returns.min()),
        "success": float(success.mean()),
        "success interval": interval_of_a_share(float(success.mean()), len(success)),
        "normalised": float(scores.mean()),
    }


def over_tasks(tasks: Mapping[str, Facts], scores: Mapping[str, Mapping[str, Float[np.ndarray, " episodes"]]]) -> Facts:
    """For whoever plays several tasks, what the `summary` of each and the normalised `scores` of its episodes say together."""
    players: Facts = next(iter(tasks.values()), {})
    return {who: _pooled([task[who] for task in tasks.values()], [scores[name][who] for name in tasks]) for who in players}


def _pooled(rows: Sequence[Facts], scores: Sequence[Float[np.ndarray, " episodes"]]) -> Facts:
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("return", "success", "normalised")}
    each, episodes = np.array([row["normalised"] for row in rows]), sum(row["episodes"] for row in rows)
    # The tasks are these and no others, so only what episodes of a task differ by makes the means uncertain.
    wide = _TWO_SIDES * float(np.sqrt(sum(np.var(score) / len(score) for score in scores))) / len(rows)
    return means | {
        "success interval": interval_of_a_share(means["success"], episodes),
        "normalised interval": [means["normalised"] - wide, means["normalised"] + wide],
        "interquartile mean": _middle(np.concatenate(scores)),
        "minimum": float(each.min()),
        "above half": float(np.mean(each > 0.5)),
        "above four fifths": float(np.mean(each > 0.8)),
        "tasks": len(rows),
        "episodes": episodes,
    }


def _middle(values: Float[np.ndarray, " n"]) -> float:
    return float(trim_mean(values, 0.25))


def shown(row: Facts, name: str) -> str:
    """A mean of a `summary` with its interval, as it is printed.

    >>> shown({"success": 0.5, "success interval": [0.25, 0.75]}, "success")
    '0.50 (0.25-0.75)'
    """
    low, high = row[f"{name} interval"]
    return f"{row[name]:.2f} ({low:.2f}{' to ' if low < 0 else '-'}{high:.2f})"  # two signs in a row would be read as one


def interval_of_a_share(share: float, n: int) -> list[float]:
    """Wilson's 95 % interval of a share of `n`: of a bootstrap, a share of one has no width at all."""
    found = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return [float(found.low), float(found.high)]
