"""Verdicts follow from the evidence, and every claim says what it must."""

import importlib

import numpy as np
import pytest

from quickstudy import catalog
from quickstudy.claims import Claim, Expectation, judge, verdict
from quickstudy.evaluation import bootstrap_interval


def repeats(ours, baseline=0.0):
    return [{"ours": value, "baseline": baseline} for value in ours]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [([1.0, 1.2, 0.9, 1.1, 1.0], "held"), ([-1.0, -1.2, -0.9, -1.1, -1.0], "failed"), ([1.0, -1.2, 0.9, -1.1, 0.1], "undecided")],
)
def test_a_verdict_needs_the_whole_interval(ours, expected):
    assert judge(Expectation("ours", ">", "baseline"), repeats(ours)) == expected
    opposite = {"held": "failed", "failed": "held", "undecided": "undecided"}[expected]
    assert judge(Expectation("ours", "<", "baseline"), repeats(ours)) == opposite


def test_a_single_repeat_decides_nothing():
    assert judge(Expectation("ours", ">", 0.0), repeats([5.0])) == "undecided"


@pytest.mark.parametrize("relation", ["<", ">"])
def test_a_repeat_that_diverged_decides_nothing(relation):
    assert judge(Expectation("ours", relation, 0.0), repeats([1.0, np.nan, 1.0])) == "undecided"


def test_margins_are_taken_repeat_by_repeat():
    """Arms that vary together are told apart by less than they vary."""
    paired = [{"ours": 10.0 * seed + 1, "baseline": 10.0 * seed} for seed in range(5)]
    np.testing.assert_array_equal(Expectation("ours", ">", "baseline").margins(paired), np.ones(5))
    assert judge(Expectation("ours", ">", "baseline"), paired) == "held"


def test_factor_multiplies_the_right_arm_and_slack_forgives_the_left():
    measured = [{"ours": 3.0, "baseline": 4.0}]
    margin = lambda **rest: float(Expectation("ours", "<", "baseline", **rest).margins(measured)[0])
    assert margin() == 1.0
    assert margin(factor=0.5) == -1.0
    assert margin(factor=0.5, slack=1.5) == 0.5
    assert Expectation("ours", ">", "baseline", slack=1.5).margins(measured).tolist() == [0.5]
    assert Expectation("ours", ">", 2.0).margins(measured).tolist() == [1.0]
    assert str(Expectation("ours", "<", "baseline", slack=1.5, factor=0.5)) == "ours < 0.5 x baseline (within 1.5)"


@pytest.mark.parametrize(
    ("bounds", "expected"), [((0.0, 0.5), "held"), ((0.0, 5.0), "failed"), ((0.0, 1.0), "undecided"), ((1.0, 5.0), "failed")]
)
def test_a_claim_holds_if_all_its_expectations_do_and_fails_if_any_does(bounds, expected):
    claim = Claim("id", "", "", "", "", lambda scale, seed: {}, tuple(Expectation("ours", ">", bound) for bound in bounds))
    assert verdict(claim, repeats([0.8, 1.0, 1.2])) == expected


def test_the_interval_covers_the_mean_as_often_as_it_says():
    samples = np.random.default_rng(1).normal(3.0, 2.0, (200, 40))
    covered = [low <= 3.0 <= high for low, high in map(bootstrap_interval, samples)]
    # Of 200, 95 % with a deviation of 1.5 points; the percentile interval of 40 values is a little too narrow.
    assert 0.89 <= np.mean(covered) <= 0.99


def test_more_data_and_less_confidence_give_narrower_intervals():
    values = np.random.default_rng(1).normal(size=1_600)
    width = lambda n, **rest: float(np.diff(bootstrap_interval(values[:n], **rest))[0])
    assert width(100) / width(1_600) == pytest.approx(4, rel=0.25)
    # The quantiles of a Gaussian at 68 and at 95 %: 1 and 1.96 deviations.
    assert width(1_600, confidence=0.68) / width(1_600) == pytest.approx(1 / 1.96, rel=0.1)


def test_an_interval_of_curves_is_one_of_every_point():
    curves = np.random.default_rng(1).normal(size=(30, 3))
    low, high = bootstrap_interval(curves)
    each = [bootstrap_interval(curves[:, i]) for i in range(3)]
    np.testing.assert_allclose(np.stack([low, high], axis=1), each)


def published():
    modules = [importlib.import_module(name) for name in sorted({*catalog.METHODS.values(), *catalog.CLAIMS.values()})]
    return [claim for module in modules for claim in getattr(module, "CLAIMS", ())]


@pytest.mark.parametrize("claim", published(), ids=lambda claim: claim.id)
def test_a_claim_says_what_it_rests_on_and_what_it_leaves_open(claim):
    for said in (claim.statement, claim.source, claim.reported, claim.not_answered):
        assert said.strip()
    assert claim.expected
    assert claim.repeats["laptop"] >= 5
    for expectation in claim.expected:
        assert expectation.relation in ("<", ">")
        assert expectation.slack >= 0 < expectation.factor
        assert expectation.left != expectation.right


def test_claims_have_names_of_their_own_and_the_catalogue_knows_their_files():
    ids = [claim.id for claim in published()]
    assert len(set(ids)) == len(ids)
    assert set(catalog.CLAIMS) <= set(ids)
