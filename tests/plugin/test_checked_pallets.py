"""What is wrong in the files of a pallet is told once, before anything is fitted."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pyhf
import pytest

import pytest_pyhf_faas

INVALID_MODEL = "pyhf.exceptions.InvalidModel"


@pytest.fixture
def change(project):
    """Change background and patches of the pallet, and the digest with them."""

    def changed(background=None, patches=None, count=2):
        project.pallet(count)
        files = [project.path / "tiny" / name for name in ("BkgOnly.json", "patchset.json")]
        workspace, patchset = (json.loads(file.read_text()) for file in files)
        if background is not None:
            background(workspace)
        if patches is not None:
            patches(patchset["patches"])
        patchset["metadata"]["digests"] = {"sha256": pyhf.utils.digest(workspace)}
        for file, content in zip(files, (workspace, patchset), strict=True):
            file.write_text(json.dumps(content))
        project.own_test()

    return changed


def fix_poi(workspace):
    workspace["measurements"][0]["config"]["parameters"] = [{"name": "mu_SIG", "fixed": True}]


def no_signal(patches):
    patches[0]["patch"][0]["value"]["modifiers"] = []


@pytest.mark.parametrize("words", [[], ["--faas-update=new"], ["--faas-patch=sig_100_0"]])
def test_a_background_that_fits_no_patch_ends_the_run_and_writes_nothing(project, change, words):
    change(fix_poi)
    project.reference_file().unlink()
    result = project.run(*words, suite=False)
    project.assert_told(
        result,
        "tiny: no patch of the pallet tiny can be fitted:",
        "- the measurement fixes the parameter of interest mu_SIG: nothing can be tested",
        "correct the workspace or the patches",
        code=4,
    )
    assert project.text(result).count("nothing can be tested") == 1
    assert project.fits() == []
    assert not project.reference_file().exists()


def test_it_is_reported_under_xdist_too(project, change):
    change(fix_poi)
    project.pytester.makepyfile(test_plain="def test_plain():\n    pass\n")
    result = project.run("-n2", ".", suite=False)
    assert result.ret != 0
    assert "the measurement fixes the parameter of interest mu_SIG" in project.text(result)
    project.assert_no_internals(result)


def test_the_cause_is_that_of_the_test(project, change):
    """Each test of a session has a tested value of its own."""
    change()
    project.own_test(
        "import pytest\n\n@pytest.mark.hypotest(test_poi=11)\ndef test_cls(hypotest_result):\n"
        "    pass\n"
    )
    told = "mu_SIG at 11, which lies\n  outside of its bounds, 0 and 10"
    project.assert_told(project.run(suite=False), told, code=4)


def test_a_test_that_fits_nothing_may_look_at_any_pallet(project, change):
    change(fix_poi)
    project.own_test("def test_own(pallet, signal_patch):\n    assert signal_patch.operations")
    project.run(suite=False).assert_outcomes(passed=2)


@pytest.mark.parametrize("count", [1, 2])
def test_invalid_model_is_a_reference_where_other_patches_have_a_model(project, change, count):
    change(patches=no_signal, count=count)
    project.plan(errors={"sig_100_0": [INVALID_MODEL, "no model"]})
    project.reference_file().unlink()
    result = project.run("--faas-update=new", "--faas-patch=sig_100_0", suite=False)
    if count == 1:
        project.assert_told(result, "'mu_SIG' is not a parameter of the model", code=4)
        assert not project.reference_file().exists()
    else:
        result.assert_outcomes(skipped=1)
        assert project.reference()["patches"]["sig_100_0"]["error"] == INVALID_MODEL


def negative(patches):
    patches[0]["patch"][0]["value"]["data"] = [-300.0, 1.0]


def test_what_breaks_one_patch_is_reported_in_its_item(project, change):
    change(patches=negative)
    project.plan(errors={"sig_100_0": ["pyhf.exceptions.FailedMinimization", "gave up"]})
    result = project.run(suite=False)
    result.assert_outcomes(passed=1, errors=1)
    project.assert_told(
        result,
        "in the file: bin 0 of the channel SR has 51 events, where -250 are expected",
        "what to do: correct the workspace or this patch",
        code=1,
    )
    assert "the other one (--faas-optimizer)" not in project.text(result)
    told = "pyhf-faas: tiny: error: bin 0 of the channel SR has 51 events, where -250 are expected"
    assert told in " ".join(project.text(result).split())
    assert "(sig_100_0); the others are fitted" in " ".join(project.text(result).split())


@pytest.mark.parametrize(("select", "told"), [("test_cls", True), ("test_endpoint", False)])
def test_what_breaks_a_patch_is_reported_where_the_pallet_is_fitted(project, change, select, told):
    change(patches=negative)
    result = project.run("-k", select)
    assert ("where -250 are expected" in " ".join(project.text(result).split())) is told


def zero(patches):
    for patch in patches:
        patch["patch"][0]["value"]["data"] = [0.0, 0.0]


@pytest.mark.parametrize("broken", [True, False])
def test_what_the_files_have_is_reported_with_a_failure(project, change, broken):
    change(patches=zero, count=1)
    project.references()
    project.change_reference("sig_100_0", CLs_obs=0.5)
    if broken:
        project.plan(errors={"sig_100_0": ["pyhf.exceptions.FailedMinimization", "gave up"]})
    shown = project.text(project.run(suite=False))
    assert "in the file: the signal is 0 in each bin, so CLs is 1" in shown
    assert ("the other one (--faas-optimizer)" in shown) is broken


def test_an_error_that_is_the_reference_is_not_announced(project, change):
    change(patches=no_signal)
    project.references()
    project.expect_error("sig_100_0")
    project.plan(errors={"sig_100_0": [INVALID_MODEL, "no model"]})
    result = project.run(suite=False)
    result.assert_outcomes(passed=2)
    assert "error:" not in project.text(result)


def test_a_warning_is_reported_before_the_fits(project, change):
    change(patches=zero, count=3)
    result = project.run(suite=False)
    told = (
        "pyhf-faas: tiny: warning: the signal is 0 in each bin, so CLs is 1 for any data "
        "(sig_100_0, sig_100_50, and 1 more)"
    )
    assert told in " ".join(project.text(result).split())


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("name", ["BkgOnly.json", "patchset.json"])
def test_a_number_that_json_does_not_have_is_refused_with_its_place(project, name, number):
    project.pallet(1)
    file = project.path / "tiny" / name
    old = "50.0" if name == "BkgOnly.json" else "30.0"
    file.write_text(file.read_text().replace(old, number, 1))
    place = "/channels/0/samples/0/data/0" if name == "BkgOnly.json" else "/value/data/0"
    result = project.run()
    project.assert_told(result, f"{name}", "1 number that JSON does not have", place, code=4)


def handled_outcomes(source):
    """Yield the lines that end an item while an exception is handled, which pytest then shows."""
    for handler in ast.walk(ast.parse(source)):
        if isinstance(handler, ast.ExceptHandler):
            for node in ast.walk(handler):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                    "pytest.fail",
                    "pytest.skip",
                    "pytest.xfail",
                ):
                    yield node.lineno


def test_no_item_ends_while_an_exception_is_handled():
    """Else each message is shown twice, with "During handling of the above exception"."""
    assert list(handled_outcomes("try:\n    f()\nexcept E:\n    pytest.fail('x')")) == [4]
    root = Path(pytest_pyhf_faas.__file__).parent
    assert not [
        (file, line) for file in root.rglob("*.py") for line in handled_outcomes(file.read_text())
    ]
