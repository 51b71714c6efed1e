"""What a test of a user's own may do with the fixtures, and that nothing is done twice."""

from __future__ import annotations

from collections import Counter

import pytest

from pytest_pyhf_faas.campaign import tasks
from pytest_pyhf_faas.plugin import markers
from pytest_pyhf_faas.references.store import ReferenceStore

WRONG = "sig_100_50"


@pytest.mark.parametrize("options", [[], ["--faas-update=all"]], ids=["", "update"])
def test_a_result_is_compared_in_a_test_that_is_for_no_pallet(project, options):
    project.pallet(2)
    project.change_reference(WRONG, CLs_obs=0.9)
    project.own_test(
        """\
import pytest

found = {}

def test_fit(hypotest_result, reference_result):
    found[hypotest_result.patch] = hypotest_result, reference_result

def test_right(assert_cls):
    assert_cls(*found["sig_100_0"])

@pytest.mark.hypotest(rtol=10)
def test_loose(assert_cls):
    assert_cls(*found["sig_100_50"])

def test_wrong(assert_cls):
    assert_cls(*found["sig_100_50"])
"""
    )
    before = project.reference()
    result = project.run(*options, suite=False)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        [
            f"tiny / {WRONG}: CLs differs from the reference",
            "  rerun:  pytest test_own.py::test_wrong*",
        ]
    )
    assert project.reference() == before  # which is not to be updated by who is for no hypothesis


def test_fixtures_of_a_users_own_give_the_hypothesis(project):
    (patch,) = project.pallet(1)
    project.own_test(
        """\
import pytest

@pytest.fixture
def pallet():
    from pathlib import Path
    from pytest_pyhf_faas.pallets.read import read_pallets

    (found,) = read_pallets(Path("tiny"))
    return found

@pytest.fixture
def signal_patch(pallet):
    return pallet.patches[0]

def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    project.run(suite=False, pallet=None).assert_outcomes(passed=1)
    assert project.fits() == [patch]


def test_nothing_is_found_out_twice(project, monkeypatch):
    """One look at the marker for each item, one task for each use, one look-up for each task."""
    calls = Counter()

    def counted(owner, name, what):
        function = getattr(owner, name)

        def wrapper(*arguments, **keywords):
            calls[name, what(*arguments)] += 1
            return function(*arguments, **keywords)

        monkeypatch.setattr(owner, name, wrapper)

    counted(ReferenceStore, "find", lambda _store, task: task.patch.name)
    counted(tasks, "make_task", lambda _pallet, patch, *_: patch.name)
    counted(markers, "hypotest_config", lambda *_: "")
    patches = project.pallet(3)
    project.run().assert_outcomes(passed=4)
    assert calls == {
        **{("find", patch): 1 for patch in patches},
        # Of its own item, and of that which measures the wall time of all.
        **{("make_task", patch): 2 for patch in patches},
        # Of each item, and of each of the two tests while they are collected.
        ("hypotest_config", ""): 4 + 2,
    }


def test_a_difference_that_means_nothing_is_none_in_junitxml(project):
    (patch,) = project.pallet(1)
    project.change_reference(patch, CLs_obs=0.0)
    project.plan(answers={patch: {"CLs_obs": 1e-9}})
    project.own_test()
    project.run("--junitxml=junit.xml", suite=False)
    properties = project.junit()[f"test_cls[tiny-{patch}]"].iter("property")
    found = {each.get("name"): each.get("value") for each in properties}
    assert float(found["largest_relative_difference"]) == 0.0  # it was infinite


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("def test_own(limit_result, hypotest_result):", "asks for hypotest_result and limit_resu"),
        (
            "import pytest\n@pytest.mark.hypotest(test_stat='q0')\ndef test_own(limit_result):",
            "test_stat is 'q0', a test of discovery, and has no limit",
        ),
        (
            "import pytest\n@pytest.mark.hypotest(backend='jaxx')\ndef test_own(hypotest_result):",
            "backend is 'jaxx', which is not known",
        ),
    ],
    ids=["two quantities", "no limit", "no backend"],
)
def test_a_test_that_makes_no_sense_is_named(project, own, said):
    project.pallet(1)
    project.own_test(f"{own}\n    pass\n")
    result = project.run(suite=False)
    assert result.ret == 4
    text = " ".join(project.text(result).split())
    assert said in text
    assert "::test_own: " in text
    assert project.fits() == []


@pytest.mark.parametrize(
    ("compare", "quantity", "said"),
    [
        ("assert_limit", "cls", "no upper limits to compare, since this test calculates cls"),
        ("assert_toys", "limit", "no toys to compare, since this test calculates limit"),
        ("assert_cls", "limit", "no CLs to compare, since this test calculates limit"),
    ],
)
def test_what_was_not_calculated_is_not_compared(project, compare, quantity, said):
    (patch,) = project.pallet(1)
    project.plan(answers={patch: {"CLs_obs": None}} if compare == "assert_cls" else {})
    project.own_test(
        "import pytest\n"
        f"@pytest.mark.hypotest(quantity={quantity!r})\n"
        f"def test_own(hypotest_result, reference_result, {compare}):\n"
        f"    {compare}(hypotest_result, reference_result)\n"
    )
    result = project.run(suite=False)
    result.assert_outcomes(failed=1)
    assert said in " ".join(project.text(result).split())
