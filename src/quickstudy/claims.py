"""A claim is a paper's finding as a program: arms, comparisons that must come out, and a verdict from the evidence.

A claim's `measure` trains and evaluates every arm once, for one repeat; it is run for several repeats and each expectation is judged
on the repeats' 95 % bootstrap interval: **held** if the whole interval agrees, **failed** if the whole interval disagrees,
**undecided** otherwise. A claim holds if all its expectations do, and fails if any does.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from quickstudy.evaluation import bootstrap_interval

Scale = Literal["smoke", "laptop", "full"]
Verdict = Literal["held", "failed", "undecided"]
Measurements = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Expectation:
    """`left relation right`: an arm against another arm or against a number.

    Against another arm, the difference is taken repeat by repeat; the right arm is first multiplied by `factor`, and `slack` is how
    much the left arm may fall short.
    """

    left: str
    relation: Literal[">", "<"]
    right: str | float
    slack: float = 0.0
    factor: float = 1.0

    def __str__(self) -> str:
        factor = f"{self.factor:.3g} x " if self.factor != 1 else ""
        slack = f" (within {self.slack:g})" if self.slack else ""
        return f"{self.left} {self.relation} {factor}{self.right}{slack}"

    def margins(self, repeats: list[Measurements]) -> np.ndarray:
        """By how much each repeat agrees: positive is agreement."""
        right = [r[self.right] if isinstance(self.right, str) else self.right for r in repeats]
        difference = np.array([r[self.left] for r in repeats]) - self.factor * np.array(right)
        return (difference if self.relation == ">" else -difference) + self.slack


@dataclasses.dataclass(frozen=True)
class Claim:
    """One finding and how to measure it.

    `measure(scale, seed)` returns one number per arm and metric; `expected` names those numbers. `repeats` are per scale.
    `reported` is the source's own number and scale; `not_answered` is one line on what the experiment leaves open.
    """

    id: str
    statement: str
    source: str
    reported: str
    not_answered: str
    measure: Callable[[Scale, int], Measurements]
    expected: tuple[Expectation, ...]
    repeats: Mapping[Scale, int] = dataclasses.field(default_factory=lambda: {"smoke": 1, "laptop": 5, "full": 5})


def judge(expectation: Expectation, repeats: list[Measurements]) -> Verdict:
    """The verdict on one expectation; a single repeat decides nothing."""
    low, high = (float(bound) for bound in bootstrap_interval(expectation.margins(repeats)))
    return "held" if low >= 0 else "failed" if high < 0 else "undecided"


def verdict(claim: Claim, repeats: list[Measurements]) -> Verdict:
    """The verdict on a whole claim: held if every expectation held, failed if any failed."""
    verdicts = {judge(expectation, repeats) for expectation in claim.expected}
    return "failed" if "failed" in verdicts else "undecided" if "undecided" in verdicts else "held"
