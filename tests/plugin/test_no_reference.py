"""A first run of a pallet of one's own: there is no reference, and the CLs values are shown."""

from __future__ import annotations

import re

import pytest

from pytest_pyhf_faas.plugin.no_reference import unreferenced_lines
from tests.helpers.fakes import canned


def unreferenced(patch="sig_1", observed: float | str = 0.01, **changes):
    return {
        "pallet": "tiny",
        "fit_setup": "numpy+scipy",
        "test_stat": "qtilde",
        "is_limit": False,
        "reason": "there is no tiny.json",
        "remedy": "--faas-update=new",
        "patch": patch,
        "observed": observed,
        "expected": 0.25,
        **changes,
    }


def test_many_failures_for_want_of_a_reference_are_one_table(project, distribution):
    names = project.pallet(9, references=False)
    project.own_test()
    project.plan(answers={names[0]: {"CLs_obs": 0.01}, names[1]: {"CLs_obs": 0.5}})
    result = project.run(*distribution, "--junitxml=junit.xml", suite=False)
    result.assert_outcomes(failed=9)
    assert result.ret == 1
    shown = project.text(result)
    assert "FAILURES" not in shown
    assert "FAILED" not in shown
    result.stdout.fnmatch_lines_random(
        [
            "no reference for 9 hypotheses of tiny: there is no tiny.json in *",
            "*nothing was compared; make references: --faas-update=new",
            "*numpy+scipy* CLs_obs * CLs_exp * excluded",
        ]
    )
    for name in names:
        assert (
            len(re.findall(rf"^  {name} +[\d.e-]+ +[\d.e-]+ +(?:yes|no)$", shown, re.MULTILINE))
            == 1
        )
    assert re.search(rf"^  {names[0]} +0\.01 .* yes$", shown, re.MULTILINE)
    assert re.search(rf"^  {names[1]} +0\.5 .* no$", shown, re.MULTILINE)
    message = project.junit()[f"test_cls[tiny-{names[1]}]"].find("failure").text
    assert f"CLs_obs = 0.5, CLs_exp = {canned(names[1])['CLs_exp'][2]:.4g}" in message
    assert "--faas-update=new" in message


def test_limits_of_a_first_run_are_one_table(project):
    names = project.pallet(6, references=False)
    words = ("--pyargs", "pytest_pyhf_faas.suite", "--faas-quantity=limit", "-ktest_limit")
    shown = project.text(project.run(*words, suite=False))
    observed = canned(names[2])["CLs_obs"] * 11
    assert "no reference for 6 hypotheses of tiny: there is no tiny.json" in shown
    assert re.search(r"numpy\+scipy +limit_obs +limit_exp +excluded", shown)
    assert re.search(rf"^  {names[2]} +{observed:.4g} +[\d.e-]+ +(yes|no)$", shown, re.MULTILINE)
    assert re.search(r"\d of 6 (is|are) excluded at 95 % CL: limit_obs < 1", shown)
    assert "FAILED" not in shown


def test_other_failures_are_shown_next_to_them(project):
    names = project.pallet(6)
    for name in names[1:]:
        project.forget_reference(name)
    project.change_reference(names[0], CLs_obs=0.9)
    result = project.run()
    result.assert_outcomes(passed=1, failed=6)
    shown = project.text(result)
    assert f"tiny / {names[0]}: CLs differs from the reference" in shown
    assert "no reference for 5 hypotheses of tiny" in shown
    assert f"{names[1]}: no reference" not in shown
    assert f"{names[1]}: no reference" in project.text(project.run("-v"))


def test_a_few_are_failures_like_others(project):
    names = project.pallet(2, references=False)
    shown = project.text(project.run())
    assert all(f"tiny / {name}: no reference" in shown for name in names)
    assert "no reference for 2 hypotheses of tiny" in shown


def test_next_to_references_of_another_background_no_refused_update_is_advised(project):
    project.pallet(5)
    project.write_reference({**project.reference(), "background_sha256": 64 * "0"})
    advice = (
        "--faas-update=new with another --faas-reference-dir or pallet name, or --faas-update=all "
        "over all patches, which replaces them"
    )
    result = project.run()
    assert f"nothing was compared; make references: {advice}" in project.text(result)
    assert f"make it: {advice}" in project.text(project.run("-v"))


def test_of_very_many_the_first_are_listed():
    lines = unreferenced_lines([unreferenced(f"sig_{n}", n / 100) for n in range(100)], 80)
    assert len(lines) == 45
    assert "  sig_39" in lines[42]
    assert lines[43] == "  ... and 60 more: --faas-report=DIR writes them all to DIR/cls.csv"
    assert lines[44] == "  5 of 100 are excluded at 95 % CL: CLs_obs < 0.05"


@pytest.mark.parametrize("width", [50, 80])
def test_rows_fit_the_terminal(width):
    rows = unreferenced_lines([unreferenced("n" * 120), unreferenced("tau")], width)[2:-1]
    assert max(map(len, rows)) == width
    assert "…" in rows[1]


def test_what_excludes_nothing_is_not_called_so():
    lines = unreferenced_lines([unreferenced(test_stat="q0")], 80)
    assert not any("exclu" in line for line in lines)
    (*_, row, count) = unreferenced_lines([unreferenced(observed="nan")], 80)
    assert row.endswith("not a number")
    assert count == "  0 of 1 is excluded at 95 % CL: CLs_obs < 0.05"
