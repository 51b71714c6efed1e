"""Which setups are right or wrong, and what is recorded."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.references.cls_values import DEFAULT_RTOL
from pytest_pyhf_faas.references.known_issues import KnownIssue
from pytest_pyhf_faas.references.matrix import judge, judge_limits, noted, notes, table
from pytest_pyhf_faas.references.reference import Missing
from pytest_pyhf_faas.verdicts import Verdict
from tests.helpers.made_minima import (
    AT_LOWEST,
    AT_NOMINAL,
    BACKGROUND,
    BOTH,
    FIXED,
    LOWEST_VALUES,
    MINIMA,
    NOMINAL,
    NOMINAL_VALUES,
    VALUES,
    at,
    certified,
    error_of,
    fitted,
    minima_of,
    right_error,
    run,
    two,
)

MIXED = run(at(0, 0.03), {FIXED: NOMINAL[FIXED]})


@pytest.mark.parametrize(
    ("result", "reference", "verdict", "where"),
    [
        (AT_LOWEST, two(), "right", "lowest"),
        (AT_NOMINAL, two(), "right", "nominal"),
        (fitted(VALUES), certified(), "right", "both"),
        (fitted(VALUES), certified(nominal_is_known=False), "right", "lowest"),
        (MIXED, two(), "mixed", "none"),
        (run(at(0, 0.03), {FIXED: 110.4}), two(), "unconverged", "none"),
        (fitted(at(0, 0.9)), certified(), "wrong", "none"),
        (error_of("a.FailedMinimization"), two(), "error", "none"),
        (error_of("b.InvalidModel"), right_error(), "right", "both"),
        (fitted(VALUES), right_error(), "error", "none"),
    ],
)
def test_a_stored_result_is_judged(result, reference, verdict, where):
    finding = judge(result, reference, "numpy+scipy")
    assert (finding.verdict.value, finding.at) == (verdict, where)
    # What the file says of known issues and tolerances is no part of it.
    issue = KnownIssue("why", "https://somewhere/1", cls_values=result.cls_values or VALUES)
    told = {"known_issues": {"numpy+scipy": [issue]}, "tolerances": {"numpy+scipy": {"rtol": 0.0}}}
    assert judge(result, replace(reference, **told), "numpy+scipy") == finding


def test_a_cls_that_is_no_number_is_never_right():
    """A run passes where nothing is excluded, so that it is no known issue."""
    result, reference = fitted(at(0, math.nan)), certified(lowest=minima_of(at(0, 1.0), MINIMA))
    finding = judge(result, replace(reference, nominal=reference.lowest), "numpy+scipy")
    assert (finding.verdict, finding.at) == (Verdict.WRONG, "none")
    written = notes("numpy+scipy", [finding])
    assert written["known_issues"] == []
    assert written["checked"][finding.patch]["cls"] == "nan"
    assert noted("numpy+scipy", [finding]) == "numpy+scipy: 1 hypothesis noted"
    (*_, row) = table("toy", {"numpy+scipy": [finding]}, 100)
    assert row.split()[:5] == ["numpy+scipy", "0", "0", "0", "1"]


def limits_of(*values, nominal=None):
    def one(six):
        return {"observed": six[0], "expected": list(six[1:])}

    return one(values) | ({} if nominal is None else {"nominal": one(nominal)})


LOW, HIGH = (1.0,) * 6, (2.0,) * 6


@pytest.mark.parametrize(
    ("found", "verdict", "where", "off"),
    [
        (LOW, "right", "lowest", 0),
        ((2.001, *HIGH[1:]), "right", "nominal", 5e-4),
        ((1.0, *HIGH[1:]), "mixed", "none", 1.0),
        ((1.01, *LOW[1:]), "wrong", "none", 0.01),
        ((math.inf, *LOW[1:]), "wrong", "none", math.inf),
        ((0.5, math.inf, *LOW[2:]), "wrong", "none", math.inf),
    ],
)
def test_upper_limits_are_judged_by_their_tolerance(found, verdict, where, off):
    known = Limits.from_json(limits_of(*LOW, nominal=HIGH))
    result = replace(fitted(VALUES), limits=limits_of(*found))
    finding = judge_limits(result, replace(two(), limits=known), "numpy+scipy")
    assert (finding.verdict.value, finding.at) == (verdict, where)
    assert finding.cls == pytest.approx(off)
    shown = table("toy", {"numpy+scipy": [finding]}, 200, "limits")
    assert "limits off by" in shown[2]
    assert judge_limits(result, two(), "numpy+scipy") is None
    failed = judge_limits(error_of("a.FailedMinimization"), replace(two(), limits=known), "x+y")
    assert failed.verdict is Verdict.ERROR


def test_what_is_noted_is_said():
    found = [
        judge(error_of("a.FailedMinimization"), two(), "numpy+scipy"),
        judge(error_of("b.InvalidModel"), right_error(), "numpy+scipy"),
        judge(AT_LOWEST, two(), "numpy+scipy"),
        judge(MIXED, two(), "numpy+scipy"),
    ]
    assert noted("numpy+scipy", found) == (
        "numpy+scipy: 4 hypotheses noted, 2 as known issues, 1 with FailedMinimization, 1 with "
        "InvalidModel"
    )


def test_without_a_reference_there_is_nothing_to_judge():
    assert judge(AT_LOWEST, Missing("none"), "numpy+scipy") is None


def test_differences_are_from_the_set_that_a_result_is_at():
    fits = {**NOMINAL, FIXED: NOMINAL[FIXED] + 0.002}
    values = [value * 1.001 for value in NOMINAL_VALUES]
    finding = judge(run(values, fits), two(), "numpy+scipy")
    assert finding.at == "nominal"
    assert finding.cls == pytest.approx(1e-3)
    assert finding.twice_nll == pytest.approx(0.002)


def test_a_certified_result_is_at_both():
    assert judge(BOTH, two(), "certified").at == "both"
    assert judge(BOTH, two(nominal=at(0, 0.03)), "certified").verdict is Verdict.WRONG


def test_another_minimum_that_is_hardly_higher_is_no_tolerance():
    """CLs is off by 5 %: a fit ended in a minimum of no set, within the threshold of one."""
    reference = certified(minima={BACKGROUND: (0.005,)})
    there = {BACKGROUND: MINIMA[BACKGROUND] + 0.005}
    off = [value * 1.05 for value in VALUES]
    found = judge(fitted(off, twice_nll=there, truth=130.5), reference, "numpy+scipy")
    assert found.verdict is Verdict.MIXED
    found = judge(fitted(VALUES, twice_nll=there), reference, "numpy+scipy")
    assert found.verdict is Verdict.RIGHT
    assert judge(fitted(off), certified(), "numpy+scipy").verdict is Verdict.RIGHT


def findings(*results):
    references = {id(AT_LOWEST): two(), id(AT_NOMINAL): two(), id(MIXED): two()}
    return [
        judge(
            replace(result, patch=f"p{number}"),
            references.get(id(result), certified()),
            "numpy+scipy",
        )
        for number, result in enumerate(results)
    ]


def test_the_table_counts_each_verdict():
    unconverged, failed = fitted(twice_nll={FIXED: 111.0}), error_of("a.FailedMinimization")
    found = findings(
        *(AT_LOWEST, AT_NOMINAL, AT_NOMINAL, fitted(VALUES), MIXED, unconverged, fitted(), failed)
    )
    shown = table("toy", {"numpy+scipy": found, "numpy+minuit": found[:1]}, 200)
    assert shown[0] == "toy: 8 hypotheses"
    assert shown[2].split()[:7] == [
        *("lowest", "nominal", "both", "mixed", "unconverged", "wrong", "error"),
    ]
    assert shown[3].split()[:8] == ["numpy+scipy", *"12111111"[:7]]
    assert shown[4].split()[:8] == ["numpy+minuit", *"1000000"]
    assert len({len(line) for line in shown[2:4]}) == 1
    for width in (60, 80):
        shown = table("toy", {"numpy+scipy": found, "numpy+minuit": found[:1]}, width)
        assert max(map(len, shown)) <= width
    assert "unconverged" not in "".join(table("toy", {"numpy+scipy": found[:4]}, 80))


def test_what_is_noted_are_sets_and_what_is_at_none():
    failed = error_of("a.FailedMinimization")
    found = findings(AT_LOWEST, AT_NOMINAL, fitted(VALUES), MIXED, fitted(), failed)
    noted = notes("numpy+scipy", found)
    assert [each["set"] for each in noted["checked"].values()] == [
        *("lowest", "nominal", "both", "none", "none", "none"),
    ]
    assert noted["checked"]["p5"]["error"] == "a.FailedMinimization"
    issues = {issue["reason"]: issue["patches"] for issue in noted["known_issues"]}
    assert {reason: list(patches) for reason, patches in issues.items()} == {
        "the fits end at minima of no consistent set": ["p3"],
        "CLs is off although the fits have converged": ["p4"],
        "scipy raises FailedMinimization": ["p5"],
    }
    assert issues["the fits end at minima of no consistent set"]["p3"]["CLs_obs"] == 0.03
    assert noted["rtol"] == 1e-6
    assert math.isclose(notes("numpy+scipy", found[3:])["rtol"], DEFAULT_RTOL["scipy"])


def test_the_values_of_both_sets_are_apart():
    """Else the tests above would say nothing."""
    assert all(abs(a - b) > 1e-4 for a, b in zip(LOWEST_VALUES, NOMINAL_VALUES, strict=True))
