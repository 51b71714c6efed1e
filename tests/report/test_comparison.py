"""Two runs are compared from their reports alone."""

from __future__ import annotations

import copy
import json
import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.comparison.runs import compare_runs
from pytest_pyhf_faas.report.comparison.text import text as text_within
from pytest_pyhf_faas.schemas import accepted_by_own_schema, own_schema
from tests.helpers import report_documents as make
from tests.helpers.paths import STORED

VERDICTS = own_schema(documents.SCHEMA)["definitions"]["hypothesis"]["properties"]["verdict"][
    "enum"
]
HOSTILE = ("<script>alert(1)</script>", "\x1b[31mred\nline", "x" * 300, "\udcff", "ü|`$_^%")


def text(changes):
    return text_within(changes, 400)


texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8))
numbers = st.one_of(st.floats(0, 1), st.sampled_from(["nan", "inf", "-inf", 0, 1]))
cls_values = st.none() | st.lists(numbers, min_size=6, max_size=6)
trials = st.builds(
    lambda wall_s, **counts: make.trial(**counts) | {"wall_s": wall_s},
    fits=st.integers(1, 2),
    workers=st.integers(1, 3),
    wall_s=st.just(0.0) | st.floats(1e-3, 1e4),
)
environments = st.builds(
    make.environment,
    python=texts,
    backend=st.sampled_from(["numpy", "jax", None]),
    versions=st.dictionaries(st.sampled_from(["pyhf", "jax"]), texts),
)
references = st.none() | st.builds(
    lambda cls, error: {"CLs": cls, "error": error}, cls_values, st.none() | texts
)


@st.composite
def hypotheses(draw):
    return make.hypothesis(
        draw(st.sampled_from(["a", "b", "c", *HOSTILE])),
        (1, "low"),
        test=draw(st.sampled_from(["test_cls", "test_own"])),
        verdict=draw(st.sampled_from(VERDICTS)),
        CLs=draw(cls_values),
        reference=draw(references),
        minimum_set=draw(st.sampled_from(["lowest", "nominal", "both", "none", None])),
        environment=draw(st.sampled_from([None, 0, 1, 7])),
        seconds=draw(st.sampled_from([{}, {"fit": 1.0}, {"fit": 5.0}, {"fit": 0.0}])),
    )


@st.composite
def analyses(draw):
    measured = st.none() | st.builds(
        lambda trials: {"test": "test_walltime", "trials": trials},
        st.lists(trials, min_size=1, max_size=3),
    )
    return make.analysis(
        draw(st.lists(hypotheses(), max_size=4)),
        pallet=draw(st.sampled_from(["wino", HOSTILE[0]])),
        endpoint=draw(st.sampled_from(["local:2", "remote"])),
        fit_setup=draw(st.sampled_from(["numpy+scipy", "jax+scipy"])),
        config=draw(st.sampled_from([{}, {"test_poi": 1.0}, {"test_poi": 2.0, "backend": "jax"}])),
        digest=draw(st.sampled_from(["0" * 64, "1" * 64])),
        reference=None,
        wall_time=draw(measured),
        timeline=None,
    )


runs = st.builds(
    make.document,
    st.lists(analyses(), max_size=3),
    environments=st.lists(environments, max_size=2),
)


def compared(before, after, *, rtol=1e-6, atol=1e-8, slower=None):
    return compare_runs(before, after, rtol=rtol, atol=atol, slower=slower)


def one(*found, **changes):
    """A run of one analysis with these hypotheses."""
    return make.document([make.analysis(list(found), **changes)])


def timed(*walls, fits=25, **changes):
    trials = [make.trial(fits=fits, wall_s=wall, **changes) for wall in walls]
    return one(make.hypothesis(), wall_time={"test": "test_walltime", "trials": trials})


@settings(max_examples=60, deadline=None)
@given(run=runs, slower=st.none() | st.floats(1, 3))
def test_nothing_changes_from_a_run_to_itself(run, slower):
    assert accepted_by_own_schema(run, documents.SCHEMA)
    changes = compared(run, copy.deepcopy(run), rtol=0, atol=0, slower=slower)
    assert changes.status == 0
    assert changes.compared == sum(len(one["hypotheses"]) for one in run["analyses"])
    for found in (
        changes.differences,
        changes.moved,
        changes.verdicts,
        changes.references,
        changes.only_before,
        changes.only_after,
    ):
        assert found == ()


@settings(max_examples=100, deadline=None)
@given(before=runs, after=runs)
def test_the_way_back_turns_everything_round(before, after):
    there, back = compared(before, after), compared(after, before)
    turned = {"worse": "improved", "improved": "worse", "other": "other"}
    assert there.compared == back.compared
    assert sorted((each.patch, each.before, each.after, each.kind) for each in there.verdicts) == (
        sorted((each.patch, each.after, each.before, turned[each.kind]) for each in back.verdicts)
    )
    for first, second in (
        (there.only_before, back.only_after),
        (there.only_after, back.only_before),
    ):
        assert sorted(map(repr, first)) == sorted(map(repr, second))
    assert len(there.references) == len(back.references)
    assert sorted(repr((each.before, each.after)) for each in there.wall_times) == (
        sorted(repr((each.after, each.before)) for each in back.wall_times)
    )


@settings(max_examples=100, deadline=None)
@given(before=runs, after=runs)
def test_any_two_runs_can_be_told_of(before, after):
    changes = compared(before, after, slower=1.2)
    told = text(changes)
    assert max(map(len, text_within(changes, 80).split("\n"))) <= 80
    assert all(line.isprintable() for line in told.splitlines())
    assert max(map(len, told.splitlines()[1:])) < 400
    assert json.loads(json.dumps(changes.to_json(), allow_nan=False))["status"] == changes.status


@settings(max_examples=60, deadline=None)
@given(run=runs, rtol=st.floats(0, 1))
def test_without_tolerance_moves_whatever_moves_with_one(run, rtol):
    other = copy.deepcopy(run)
    for analysis in other["analyses"]:
        for each in analysis["hypotheses"]:
            each["CLs"] = each["CLs"] and [
                v if isinstance(v, str) else 1.1 * v for v in each["CLs"]
            ]
    strict = {each.patch for each in compared(run, other, rtol=0, atol=0).moved}
    assert {each.patch for each in compared(run, other, rtol=rtol).moved} <= strict


def test_a_value_that_moved_is_reported_with_its_size():
    before, after = make.hypothesis(), make.hypothesis()
    after["CLs"] = [*before["CLs"][:2], before["CLs"][2] * 1.002, *before["CLs"][3:]]
    changes = compared(one(before), one(after))
    (moved,) = changes.moved
    assert moved.value == CLS_LABELS[2]
    assert moved.relative == pytest.approx(0.002)
    assert changes.status == 1
    assert text(changes).startswith("1 of 1 hypothesis moved (at most 2.0e-03 relative), ")
    for tolerance in ({"rtol": 0.01}, {"atol": 1}):
        changes = compared(one(before), one(after), **tolerance)
        assert (changes.status, [each.fails for each in changes.moved]) == (0, [False])
        assert ", all within the tolerance, " in text(changes).partition("\n")[0]


@pytest.mark.parametrize("place", range(6))
def test_each_of_the_six_values_counts(place):
    before, after = make.hypothesis(), make.hypothesis()
    after["CLs"][place] *= 1.01
    (moved,) = compared(one(before), one(after)).moved
    assert moved.value == CLS_LABELS[place]


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        ("nan", "nan", False),
        ("inf", "inf", False),
        ("inf", "-inf", True),
        ("nan", 0.3, True),
        (0.3, "nan", True),
        ("nan", "inf", False),  # neither excludes anything
        ("nan", 0.9999, False),
        (0, 0.0, False),
        (0, 1e-9, False),
        (0, 1e-3, True),
    ],
)
def test_values_that_are_no_numbers(before, after, moves):
    first, second = make.hypothesis(), make.hypothesis()
    first["CLs"][0], second["CLs"][0] = before, after
    changes = compared(one(first), one(second))
    assert bool(changes.moved) is moves
    assert ("without a ratio" in text(changes)) is moves


def test_values_that_vanish_have_moved_unless_the_verdict_says_so():
    right, silent = make.hypothesis(), make.hypothesis(CLs=None)
    assert compared(one(right), one(silent)).status == 1
    assert len(compared(one(silent), one(right)).moved) == 1
    changes = compared(one(right), one(make.broken()))
    assert changes.moved == ()
    assert [change.kind for change in changes.verdicts] == ["worse"]
    assert compared(one(make.broken()), one(right)).moved == ()


@pytest.mark.parametrize(
    ("before", "after", "kind", "status"),
    [
        ("right", "wrong", "worse", 1),
        ("right", "broken", "worse", 1),
        ("right", "not run", "worse", 1),
        ("right", "no reference", "worse", 1),
        ("right", "known issue", "worse", 1),
        ("right", "fixed", "worse", 1),  # its test fails
        ("known issue", "fixed", "improved", 0),
        ("known issue", "unconverged", "worse", 1),
        ("fixed", "right", "improved", 0),
        ("wrong", "right", "improved", 0),
        ("not compared", "right", "improved", 0),
        ("wrong", "known issue", "improved", 0),
        ("wrong", "broken", "other", 1),
        ("no reference", "wrong", "other", 1),
    ],
)
def test_a_verdict_that_changed(before, after, kind, status):
    changes = compared(one(make.hypothesis(verdict=before)), one(make.hypothesis(verdict=after)))
    assert [(change.before, change.after, change.kind) for change in changes.verdicts] == [
        (before, after, kind)
    ]
    assert changes.status == status
    assert before in text(changes)
    assert ("no verdict got worse" in text(changes)) is (kind != "worse")


def shifted(by, setup="numpy+scipy", **changes):
    """Two runs of one hypothesis, whose CLs moved by so much from one to the other."""
    before = make.hypothesis(**changes)
    after = make.hypothesis(CLs=[value * (1 + by) for value in before["CLs"]], **changes)
    return [one(each, fit_setup=setup) for each in (before, after)]


UNCOMPARED = {"rtol": None, "atol": None, "within": None, "verdict": "no reference"}


@pytest.mark.parametrize(
    ("by", "setup", "changes", "listed", "status"),
    [
        (5e-7, "numpy+scipy", {}, 0, 0),
        (5e-5, "numpy+scipy", {}, 1, 0),
        (5e-4, "numpy+scipy", {}, 1, 1),
        (5e-4, "numpy+scipy", {"rtol": 1e-3}, 1, 0),  # which its reference file says
        (5e-4, "numpy+minuit", UNCOMPARED, 1, 0),
        (5e-3, "numpy+minuit", UNCOMPARED, 1, 1),
        (5e-4, "jax+scipy", UNCOMPARED, 1, 1),
        (5e-5, "certified", UNCOMPARED, 1, 1),
        (5e-5, "numpy+another", UNCOMPARED, 1, 1),
    ],
)
def test_what_a_backend_and_optimizer_can_do_is_listed_and_does_not_fail(
    by, setup, changes, listed, status
):
    found = compare_runs(*shifted(by, setup, **changes))
    assert (len(found.moved), found.status) == (listed, status)


def test_of_two_tolerances_the_larger_counts():
    before, after = shifted(5e-4)
    after["analyses"][0]["hypotheses"][0]["rtol"] = 1e-3
    assert compare_runs(before, after).status == compare_runs(after, before).status == 0


def test_what_fails_stands_above_what_is_within_its_tolerance():
    cls = make.hypothesis()["CLs"]
    before = one(make.hypothesis("a"), make.hypothesis("b"))
    after = one(
        make.hypothesis("a", rtol=0.1, CLs=[1.05 * value for value in cls]),
        make.hypothesis("b", CLs=[1.01 * value for value in cls]),
    )
    told = text(compare_runs(before, after))
    assert told.startswith("2 of 2 hypotheses moved (at most 5.0e-02 relative), 1 beyond the ")
    failing, _, listed = told.partition("CLs of wino moved by more than 1e-06 relative, ")
    assert " b " in failing.partition("CLs of wino moved by more than the tolerance")[2]
    assert " a " in listed
    assert "1.0e-01" in listed


def test_both_tolerances_and_what_moved_can_be_seen():
    cls = make.hypothesis("a")["CLs"]
    before, after = one(make.hypothesis("a")), one(make.hypothesis("a", CLs=list(cls)))
    after["analyses"][0]["hypotheses"][0]["CLs"][0] *= 1 + 3.2e-6
    found = compare_runs(before, after, rtol=1e-9)
    told = text(found)
    assert (
        "CLs of wino moved by more than 1e-09 relative, within the tolerance (atol 1e-06):" in told
    )
    (row,) = (line.split() for line in told.splitlines() if line.startswith("  a "))
    assert float(row[3]) / float(row[2]) - 1 == pytest.approx(3.2e-6, rel=0.05)
    moved = after["analyses"][0]["hypotheses"][0]
    several = one({**moved, "atol": 1e-5}, {**moved, "patch": "b", "atol": 1e-3})
    told = text(compare_runs(one(make.hypothesis("a"), make.hypothesis("b")), several))
    rows = [line.split() for line in told.splitlines() if line.startswith(("  a ", "  b "))]
    assert sorted(row[-1] for row in rows) == ["1.0e-03", "1.0e-05"]


def test_values_of_one_run_alone_are_counted():
    found = compare_runs(one(make.hypothesis()), one(make.broken()))
    assert (found.one_sided, found.moved) == (1, ())
    assert "1 with values in one run alone" in text(found).partition("\n")[0]


def test_a_hypothesis_that_went_to_the_other_minima_is_listed_as_moved():
    before, after = make.ambiguous("p", at="lowest"), make.ambiguous("p", at="nominal")
    changes = compared(one(before, make.hypothesis("q")), one(after, make.hypothesis("q")))
    (moved,) = changes.moved
    assert (moved.patch, moved.minima) == ("p", ("lowest", "nominal"))
    assert moved.value == "CLs_obs"
    assert changes.status == 1
    # The reference has both, before and after.
    assert changes.references == ()
    told = text(changes)
    assert told.startswith(
        "1 of 2 hypotheses moved (at most 3.6e-01 relative, 1 to other minima), "
    )
    assert "CLs of wino moved by more than the tolerance, or to other minima (atol 1e-08):" in told
    header, line = (each for each in told.splitlines() if "rel. diff" in each or "  p " in each)
    assert header.endswith("  minima")
    assert line.endswith("lowest -> nominal")
    assert json.loads(json.dumps(changes.to_json()))["moved"][0]["minima"] == ["lowest", "nominal"]


def test_other_minima_are_reported_even_within_the_tolerance():
    before, after = make.ambiguous("p", at="lowest"), make.ambiguous("p", at="nominal")
    after["CLs"] = before["CLs"]
    (moved,) = compared(one(before), one(after)).moved
    assert (moved.relative, moved.minima) == (0.0, ("lowest", "nominal"))
    assert len(compared(one(before), one(after), rtol=10, atol=1).moved) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [("both", "lowest"), ("nominal", "none"), (None, "nominal"), ("lowest", "lowest")],
)
def test_what_was_at_no_single_set_did_not_go_to_another(before, after):
    first, second = make.hypothesis(minimum_set=before), make.hypothesis(minimum_set=after)
    assert compared(one(first), one(second)).moved == ()


def test_a_report_of_version_1_says_nothing_of_minima():
    old = documents.read(STORED / "reports" / "version_1.json")
    assert {each["minimum_set"] for each in old["analyses"][0]["hypotheses"]} == {None}
    new = json.loads(json.dumps(old))
    for each in new["analyses"][0]["hypotheses"]:
        each["minimum_set"] = "nominal"
    assert compared(old, new).moved == ()


def test_a_reference_whose_other_minima_changed_is_reported():
    before, after = make.ambiguous("p"), make.ambiguous("p")
    after["ambiguous"]["lowest"][0] *= 1.5
    (change,) = compared(one(before), one(after)).references
    assert change.relative == pytest.approx(0.5)
    other = make.hypothesis("p", reference={"CLs": None, "error": "A"})
    changed = make.hypothesis("p", reference={"CLs": None, "error": "B"})
    assert len(compared(one(other), one(changed)).references) == 1


def test_verdicts_that_stay_bad_are_no_change():
    assert compared(one(make.wrong()), one(make.wrong())).status == 0


def test_another_reference_alone_is_reported_and_is_no_failure():
    other = make.hypothesis()
    other["reference"]["CLs"][0] *= 1.5
    changes = compared(one(make.hypothesis()), one(other))
    (change,) = changes.references
    assert change.relative == pytest.approx(0.5)
    assert changes.status == 0
    assert "1 reference changed" in text(changes).splitlines()[0]
    assert f"{other['reference']['CLs'][0]:.8g}" in text(changes)


def test_a_reference_of_another_background_is_called_so():
    other = make.hypothesis()
    other["reference"]["CLs"][0] *= 1.5
    changes = compared(one(make.hypothesis()), one(other, digest="1" * 64))
    told = text(changes)
    assert "1 reference of another background" in told.splitlines()[0]
    assert "references of another background (observed values):" in told
    assert "changed" not in told.splitlines()[0]
    assert changes.to_json()["references"][0]["background"] is True


@pytest.mark.parametrize(
    "reference", [None, {"CLs": None, "error": "pyhf.exceptions.InvalidModel"}]
)
def test_a_reference_without_values(reference):
    changes = compared(one(make.hypothesis(reference=reference)), one(make.hypothesis()))
    assert changes.references[0].relative == math.inf
    told = "none" if reference is None else reference["error"]
    assert f"  {told}  " in text(changes)


def test_environments_come_first_and_are_no_failure():
    after = make.document(
        environments=[
            make.environment(
                python="3.13.1", versions={"pyhf": "0.8.0"}, threads={"OMP_NUM_THREADS": "4"}
            )
        ],
        client=make.environment(host="other", backend=None, optimizer=None, cpu="Another CPU"),
        run={"package": "0.2.0"},
    )
    changes = compared(make.document(), after)
    assert {(each.where, each.name, each.before, each.after) for each in changes.differences} == {
        ("run", "pytest-pyhf-faas", "0.1.0", "0.2.0"),
        ("client", "cpu", "Some CPU @ 2.50GHz", "Another CPU"),
        ("workers", "python", "3.11.7", "3.13.1"),
        ("workers", "pyhf", "0.7.6", "0.8.0"),
        ("workers", "OMP_NUM_THREADS", "1", "4"),
    }
    assert changes.status == 0
    lines = text(changes).splitlines()
    assert lines.index("wall time:") > max(n for n, line in enumerate(lines) if "0.8.0" in line)


def test_workers_that_differ_among_themselves():
    mixed = make.document(
        [make.analysis([make.hypothesis("a"), make.hypothesis("b", environment=1)])],
        environments=[make.environment(), make.environment(versions={"pyhf": "0.8.0"})],
    )
    (difference,) = compared(one(make.hypothesis("a"), make.hypothesis("b")), mixed).differences
    assert (difference.before, difference.after) == ("0.7.6", "0.7.6, 0.8.0")


def test_two_endpoints_and_two_fit_setups_are_compared_and_told():
    after = one(make.hypothesis(), endpoint="remote", fit_setup="jax+scipy")
    after["analyses"][0]["config"]["backend"] = "jax"
    changes = compared(one(make.hypothesis()), after)
    assert changes.compared == 1
    assert [(each.name, each.before, each.after) for each in changes.differences] == [
        ("endpoint", "local:2", "remote"),
        ("fit setup", "numpy+scipy", "jax+scipy"),
    ]


def test_of_several_endpoints_each_is_compared_with_itself():
    slow, quick = make.analysis(endpoint="slow"), make.analysis(endpoint="quick")
    changes = compared(make.document([slow, quick]), make.document([quick]))
    assert changes.compared == len(quick["hypotheses"])
    assert changes.differences == ()
    (only,) = changes.only_before
    assert only.whole
    assert only.analysis == "wino on slow"
    assert changes.status == 0
    assert "wino on slow: the whole analysis, 25 hypotheses: wino_200_0, " in text(changes)


def test_another_configuration_and_background_are_reported():
    before = make.analysis([make.hypothesis()])
    after = make.analysis([make.hypothesis()], digest="a" * 64, wall_time=None, reference=None)
    after["config"] = {**after["config"], "test_poi": 1.5}
    changes = compared(make.document([before]), make.document([after]))
    assert {(each.name, each.before, each.after) for each in changes.differences} == {
        ("test_poi", "1.0", "1.5"),
        ("background (SHA-256)", "0" * 12, "a" * 12),
        ("wall time", "measured", "not measured"),
        ("method of references", "certified", "-"),
        ("date of references", "2026-11-01", "-"),
    }


def test_analyses_that_differ_in_their_configuration_alone_find_their_own():
    def at(poi):
        return make.analysis([make.hypothesis(f"poi_{poi}")], config={"test_poi": poi})

    changes = compared(make.document([at(1.0), at(2.0)]), make.document([at(2.0), at(1.0)]))
    assert changes.compared == 2
    assert changes.differences == ()


def test_upper_limits_move_as_cls_does():
    def runs(by, **changes):
        first = [make.limited("a"), make.limited("b")]
        second = [make.limited("a", **changes), make.limited("b")]
        for label in (0, 4):
            second[0]["limits"]["values"][label] *= 1 + by
        both = [make.document([make.analysis(), make.limits(found)]) for found in (first, second)]
        return compared(*both, rtol=None, atol=None)

    same = runs(0)
    assert (same.status, same.compared, same.quantities) == (
        *(0, 27),
        {"CLs": 25, "upper limits": 2},
    )
    assert "none of 27 results (CLs of 25, upper limits of 2) moved" in text(same)
    within = runs(5e-4)
    (moved,) = within.moved
    assert (moved.quantity, moved.patch, moved.rtol, moved.fails) == (
        *("upper limits", "a"),
        *(1e-3, False),
    )
    assert within.status == 0
    assert "upper limits of wino moved by more than 1e-06 relative, within the tolerance" in (
        text(within)
    )
    beyond = runs(5e-3, verdict="wrong", outcome="failed", title="the limits differ")
    assert beyond.status == 1
    told = text(beyond)
    assert re.search(r"upper limits of wino moved by more .*\n.*\n +a +limit_(obs|exp \+1σ)", told)
    assert re.search(r"wino, upper limits +a +right +wrong", told)
    assert beyond.to_json()["moved"][0]["quantity"] == "upper limits"


def test_a_limit_that_is_no_longer_there_fails_and_none_in_both_runs_moves_nothing():
    none = {"values": ["inf", *[1.0] * 5], "reference": ["inf", *[1.0] * 5]}
    first, second = (
        make.document([make.limits([make.limited("a", limits=each)])])
        for each in ({**none, "values": [2.0, *[1.0] * 5]}, none)
    )
    assert compared(second, copy.deepcopy(second)).moved == ()
    (moved,) = compared(first, second).moved
    assert moved.fails
    assert moved.value == "limit_obs"


def test_another_reference_of_limits_is_reported_once():
    before = make.limited("a")
    after = copy.deepcopy(before)
    after["limits"]["reference"][0] *= 1.5
    after["reference"]["CLs"][0] *= 1.5  # which is no reference of limits
    first, second = (make.document([make.limits([each])]) for each in (before, after))
    (change,) = compared(first, second).references
    assert change.relative == pytest.approx(0.5)
    known = before["limits"]["reference"][0]
    assert f"{known:.8g}" in text(compared(first, second))
    lost = make.document([make.limits([make.broken("a")])])
    assert compared(first, lost).references == ()


def test_several_tests_of_one_patch_find_their_own():
    first = make.hypothesis(test="test_a"), make.hypothesis(test="test_b", verdict="wrong")
    changes = compared(one(*first), one(*reversed(first)))
    assert changes.compared == 2
    assert changes.verdicts == ()
    # A test that alone looks at the patch may have any name.
    assert compared(one(first[0]), one(make.hypothesis(test="test_c"))).compared == 1


def test_hypotheses_that_one_run_alone_has():
    changes = compared(
        one(make.hypothesis("a"), make.hypothesis("gone")),
        one(make.hypothesis("a"), make.hypothesis("new"), make.hypothesis("newer")),
    )
    assert [each.patches for each in changes.only_before] == [("gone",)]
    assert [each.patches for each in changes.only_after] == [("new", "newer")]
    assert changes.status == 0
    first, *rest = text(changes).splitlines()
    assert "1 hypothesis only before, 2 hypotheses only after" in first
    assert "  wino: 2 hypotheses: new, newer" in rest


def test_runs_with_nothing_in_common_do_not_pass():
    changes = compared(one(make.hypothesis("a")), one(make.hypothesis("b")))
    assert changes.status == 1
    assert text(changes).startswith("no hypothesis is in both runs, 1 hypothesis only before")
    assert "are the same" not in text(changes)
    empty = make.document([])
    assert compared(empty, empty).status == 0


@pytest.mark.parametrize(
    ("before", "after", "slower", "word", "status"),
    [
        ((10, 11, 12), (20, 21, 22), 1.2, "slower than allowed", 1),
        ((10, 11, 12), (20, 21, 22), None, "slower", 0),
        ((10, 11, 12), (20, 21, 22), 2.5, "slower", 0),
        ((20, 21, 22), (10, 11, 12), 1.2, "faster", 0),
        ((10, 30), (25, 35), 1.2, "within the spread", 0),
        # The error of the mean decides, which falls with the number of trials.
        ((10, 11) * 2, (11, 12) * 2, None, "slower", 0),
        ((10, 11), (11, 12), None, "within the spread", 0),
        ((10,), (20,), 1.2, "slower than allowed", 1),
        ((10, 11), (20,), 1.2, "slower than allowed", 1),
        ((10,), (20,), None, "spread unknown", 0),
        ((10,), (11,), 1.2, "spread unknown", 0),
    ],
)
def test_who_got_slower(before, after, slower, word, status):
    changes = compared(timed(*before), timed(*after), slower=slower)
    assert changes.status == status
    (line,) = [line for line in text(changes).splitlines() if line.startswith("  wino ")]
    assert line.endswith(f"  {word}")
    (header,) = [line for line in text(changes).splitlines() if "of fits" in line]
    assert header.endswith("  change")


def test_fits_are_reported_from_overhead():
    changes = compared(timed(40), timed(60, startup_s=44.0))
    (change,) = changes.wall_times
    assert change.ratio == 1.5
    assert compared(timed(60), timed(40)).wall_times[0].ratio == pytest.approx(1 / 1.5)
    assert change.fit_ratio == 1.0
    assert "wall time 1.50 x" in text(changes).splitlines()[0]


def test_wall_times_of_other_fits_are_not_compared():
    changes = compared(timed(10, fits=25), timed(100, fits=250), slower=1.2)
    assert changes.wall_times[0].ratio is None
    assert changes.status == 0
    assert "25 -> 250" in text(changes)
    assert "wall time" not in text(changes).splitlines()[0]


def test_single_fits_that_took_much_longer():
    def fits(*times):
        return one(*(make.hypothesis(f"p{n}", seconds={"fit": t}) for n, t in enumerate(times)))

    changes = compared(fits(1.0, 0.1, 10.0, 3.0), fits(2.5, 0.9, 15.0, 9.0))
    assert [fit.patch for fit in changes.fit_times[0].slow] == ["p3", "p0"]
    assert changes.fit_times[0].median_ratio == pytest.approx(2.75)
    assert changes.status == 0
    assert "2 of 4 (median ratio of all 2.75): p3 (3.0 -> 9.0), p0 (1.0 -> 2.5)" in text(changes)


def test_many_that_moved_are_cut_to_the_largest():
    before = [make.hypothesis(f"p{n}") for n in range(40)]
    after = copy.deepcopy(before)
    for number, each in enumerate(after, start=1):
        each["CLs"][0] *= 1 + number / 1000
    told = text(compared(one(*before), one(*after)))
    listed = [line.split()[0] for line in told.splitlines() if line.startswith("  p")]
    assert listed[0] == "patch"
    assert listed[1:31] == [f"p{n}" for n in range(39, 9, -1)]
    assert "  ... and 10 more" in told


def test_patches_of_other_content_are_reported():
    def run(digit):
        same = [make.hypothesis("wino_3", digest="c" * 64), make.hypothesis("wino_4")]
        edited = [make.hypothesis(name, digest=digit * 64) for name in ("wino_1", "wino_2")]
        return make.document([make.analysis(edited + same)])

    (told,) = compared(run("a"), run("b")).differences
    assert told.name == "content of 2 patches (SHA-256 of wino_1)"
    assert (told.before, told.after) == ("a" * 12, "b" * 12)
    assert compared(run("a"), run("a")).differences == ()


# --- toys -----------------------------------------------------------------------------------------


def toys(shift=0.0, *, setup="numpy+scipy", **changes):
    """A run with toys of one hypothesis; CLs_obs lies some standard errors higher."""
    found = make.with_toys(**changes)
    if found["toys"]:
        found["toys"]["CLs"] = list(found["toys"]["CLs"])
        found["toys"]["CLs"][0] += shift * found["toys"]["errors"][0]
    config = {"toys": 1000, "test_poi": 1.0}
    return make.document(
        [make.analysis([found], quantity="toys", fit_setup=setup, config=config, wall_time=None)]
    )


@pytest.mark.parametrize(
    ("setup", "shift", "listed", "status"),
    [
        ("numpy+scipy", 0.0, 0, 0),
        ("numpy+scipy", 5.5, 1, 0),  # 5.5 / sqrt(2) of both: less than 4
        ("numpy+scipy", 5.8, 1, 1),
        ("certified", 0.05, 1, 0),  # the same toys
        ("certified", 0.2, 1, 1),
    ],
)
def test_toys_may_move_within_the_errors_of_both(setup, shift, listed, status):
    changes = compare_runs(toys(setup=setup), toys(shift, setup=setup))
    assert (len(changes.moved), changes.status) == (listed, status)
    assert changes.quantities == {"toys": 1}
    for moved in changes.moved:
        assert (moved.quantity, moved.value, moved.fails) == ("toys", "CLs_obs", bool(status))
        part = 0.1 if setup == "certified" else 4 * math.sqrt(2)
        assert (moved.rtol, moved.atol) == (0.0, pytest.approx(part * 0.01))


def test_certified_toys_of_another_number_or_patch_are_others():
    for change in ({"count": 2000}, {}):
        before, after = (toys(setup="certified") for _run in range(2))
        hypothesis = after["analyses"][0]["hypotheses"][0]
        hypothesis["toys"] = {**hypothesis["toys"], **change}
        hypothesis["toys"]["CLs"] = [value + 0.01 for value in hypothesis["toys"]["CLs"]]
        hypothesis["digest"] = "0" * 64
        assert compare_runs(before, after).status == 0


def test_toys_in_the_text_have_a_table_of_their_own():
    shown = text(compare_runs(toys(), toys(10)))
    assert shown.startswith("1 of 1 result (toys of 1) moved")
    assert "CLs from toys of wino moved by more than the tolerance (atol 0.0565685):" in shown
    (row,) = [line for line in shown.splitlines() if line.startswith("  wino_300_100")]
    assert "CLs_obs" in row
    shown = text(compare_runs(toys(), toys(1)))
    assert "CLs from toys of wino moved by more than 1e-06 relative, within the tolerance" in shown


def test_toys_that_came_or_went_fail_unless_the_verdict_says_so():
    before, after = toys(), toys()
    after["analyses"][0]["hypotheses"][0]["toys"] = None
    changes = compare_runs(before, after)
    assert (changes.status, changes.one_sided) == (1, 1)
    assert math.isinf(changes.moved[0].relative)
    after["analyses"][0]["hypotheses"][0]["verdict"] = "fixed"
    assert compare_runs(before, after).moved == ()


def test_what_toys_do_not_know_is_not_compared_and_a_tolerance_may_be_asked_for():
    before, after = toys(), toys(3)
    assert compare_runs(before, after, atol=0.02).status == 1
    assert compare_runs(before, after, rtol=100.0).status == 0
    before["analyses"][0]["hypotheses"][0]["toys"]["errors"] = ["inf"] * 6
    assert compare_runs(before, after).moved == ()


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_toys_that_have_no_value_any_more_fail(value):
    before, after = toys(), toys()
    after["analyses"][0]["hypotheses"][0]["toys"]["CLs"] = [value] * 6
    changes = compare_runs(before, after)
    assert changes.status == 1
    json.dumps(changes.to_json(), allow_nan=False)
    assert compare_runs(after, after).moved == ()
