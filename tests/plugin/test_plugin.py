"""What a user reads: right, wrong, broken, missing and slow never look alike."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec

import pytest

from pytest_pyhf_faas.campaign.times import PARTS
from tests.helpers.fakes import canned
from tests.helpers.project import SUITE

PATCH = "sig_100_0"
FAILED_MINIMIZATION = "pyhf.exceptions.FailedMinimization"
INVALID_MODEL = "pyhf.exceptions.InvalidModel"


def block(result, title):
    """Return the lines that a title begins, up to the end of its failure, without indentation."""
    lines = result.outlines
    (first,) = [number for number, line in enumerate(lines) if line == title]
    end = next(n for n in range(first, len(lines)) if re.match(r"___|===|- generated", lines[n]))
    return [line.strip() for line in lines[first + 1 : end]]


# --- right --------------------------------------------------------------------------------------


def test_everything_right(project):
    project.pallet(3)
    result = project.run()
    result.assert_outcomes(passed=4)
    project.assert_no_internals(result)
    result.stdout.fnmatch_lines(
        [
            "pyhf-faas: tiny: 3 fits on local (2 workers), numpy+scipy",
            "*= pyhf-faas =*",
            "analysis  endpoint           patches  wall time [[]s]*",
            "tiny      local (2 workers)        3 *",
            "tiny: time of the workers: fit *",
            "3 fits sent to workers",
            "test_walltime[[]tiny]*",
        ]
    )
    (title,) = [place for place, line in enumerate(result.outlines) if "= pyhf-faas =" in line]
    assert result.outlines[title + 1].startswith("analysis")  # no blank line between


def test_junitxml_holds_the_values(project):
    project.pallet(1)
    project.run("--junitxml=junit.xml")
    case = project.junit()[f"test_cls[tiny-{PATCH}]"]
    properties = {item.get("name"): item.get("value") for item in case.iter("property")}
    assert properties["status"] == "ok"
    assert float(properties["CLs_obs"]) == canned(PATCH)["CLs_obs"]
    names = ("CLs_exp_-2sigma", "CLs_exp_-1sigma", "CLs_exp", "CLs_exp_+1sigma", "CLs_exp_+2sigma")
    assert [float(properties[name]) for name in names] == canned(PATCH)["CLs_exp"]
    assert float(properties["mu_hat"]) == canned(PATCH)["mu_hat"]
    assert float(properties["fit_s"]) > 0
    assert properties["worker"].startswith("fakehost:")
    assert properties["verdict"] == "right"
    assert float(properties["largest_relative_difference"]) == 0.0


def test_junitxml_shows_what_became_of_a_fit_that_is_not_right(project):
    wrong, lost = project.pallet(2)
    project.plan(lose={lost: -1})
    project.change_reference(wrong, CLs_obs=canned(wrong)["CLs_obs"] / 1.5)
    project.run("--junitxml=junit.xml")
    cases = [project.junit()[f"test_cls[tiny-{name}]"] for name in (wrong, lost)]
    of_wrong, of_lost = (
        {item.get("name"): item.get("value") for item in case.iter("property")} for case in cases
    )
    assert of_wrong["verdict"] == "wrong"
    assert float(of_wrong["largest_relative_difference"]) == pytest.approx(0.5)
    assert of_lost["status"] == of_lost["error"] == "broken"


def test_expected_exception_is_right(project):
    project.pallet(2)
    project.plan(errors={PATCH: [INVALID_MODEL, "No POI"]})
    project.expect_error(PATCH)
    result = project.run("--junitxml=junit.xml")
    result.assert_outcomes(passed=3)
    properties = project.junit()[f"test_cls[tiny-{PATCH}]"].iter("property")
    assert ("error", INVALID_MODEL) in [
        (item.get("name"), item.get("value")) for item in properties
    ]


def test_difference_within_the_tolerance_is_right(project):
    project.pallet(1)
    project.change_reference(PATCH, CLs_obs=canned(PATCH)["CLs_obs"] * (1 + 0.9e-4))
    project.run().assert_outcomes(passed=2)


# --- wrong --------------------------------------------------------------------------------------


def test_wrong_value_is_reported_in_full(project):
    project.pallet(2)
    reference = canned(PATCH)["CLs_obs"] / 1.001
    project.change_reference(PATCH, CLs_obs=reference)
    result = project.run()
    result.assert_outcomes(passed=2, failed=1)
    project.assert_no_internals(result)
    lines = block(result, f"tiny / {PATCH}: CLs differs from the reference")
    obtained, expected = canned(PATCH)["CLs_obs"], canned(PATCH)["CLs_exp"]
    assert [" ".join(line.split()) for line in lines] == [
        "obtained reference rel. diff",
        f"CLs_obs {obtained:.8g} {reference:.8g} 1.0e-03 <--",
        *(
            f"CLs_exp{sigma} {value:.8g} {value:.8g} 0.0e+00"
            for sigma, value in zip((" -2σ", " -1σ", "", " +1σ", " +2σ"), expected, strict=True)
        ),
        (
            "verdict: the reference contradicts itself: its CLs is not what follows from its own "
            "five fits, so it was changed by hand, or made with other formulae"
        ),
        "tolerance 0.0001 relative, 1e-06 absolute",
        "worker fakehost: scipy 1.16.0 (reference: 1.15.3); everything else is equal",
        (f"rerun: pytest {' '.join(SUITE)} --faas-pallet=tiny --faas-patch={PATCH}"),
        "accept: --faas-update=changed (reference_results/tiny.json)",
    ]


def test_wrong_value_is_a_failure_in_junitxml(project):
    project.pallet(2)
    project.change_reference(PATCH, CLs_obs=0.9)
    project.run("--junitxml=junit.xml")
    assert project.outcomes() == {PATCH: "failed", "sig_100_50": "passed"}
    failure = project.junit()[f"test_cls[tiny-{PATCH}]"].find("failure")
    assert f"tiny / {PATCH}: CLs differs from the reference" in failure.get("message")
    assert "<--" in failure.text


@pytest.mark.parametrize(
    ("fit", "change", "verdict"),
    [
        (
            "free_fit_to_asimov",
            +0.82,
            "the optimizer scipy failed: the free fit to asimov stopped 0.82 above a known minimum",
        ),
        (
            "free_fit_to_data",
            +0.5,
            (
                "the optimizer scipy failed: the free fit to data stopped 0.5 above a point that "
                "changing one parameter reaches"
            ),
        ),
        (
            "fixed_poi_fit_to_data",
            -0.5,
            "the fixed poi fit to data ends 0.5 below the reference's in twice-NLL*",
        ),
    ],
)
def test_the_verdict_names_the_fit_that_went_astray(project, fit, change, verdict):
    project.pallet(1)
    twice_nll = canned(PATCH)["twice_nll"]
    astray = {**twice_nll, fit: twice_nll[fit] + change}
    project.plan(answers={PATCH: {"CLs_obs": 0.9, "twice_nll": astray}})
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*verdict: {verdict}"])
    project.assert_no_internals(result)


def test_what_has_not_converged_is_not_to_be_accepted(project):
    """Though CLs agrees: the next one may not."""
    project.pallet(1)
    twice_nll = {**canned(PATCH)["twice_nll"], "background_fit_to_data": 12.5}
    project.plan(answers={PATCH: {"twice_nll": twice_nll, "twice_nll_nearby": {}}})
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    lines = block(result, f"tiny / {PATCH}: unconverged, though CLs agrees")
    assert lines[-4:] == [
        (
            "verdict: the optimizer scipy failed: the background fit to data stopped 0.5 above "
            "the certified minimum 12"
        ),
        "worker fakehost: scipy 1.16.0 (reference: 1.15.3); everything else is equal",
        (
            "what to do: try --faas-optimizer=minuit or other versions; 'pyhf-faas matrix --write' "
            "notes what stays wrong"
        ),
        (f"rerun:  pytest {' '.join(SUITE)} --faas-pallet=tiny --faas-patch={PATCH}"),
    ]


def test_not_a_number_is_wrong(project):
    project.pallet(1)
    project.plan(answers={PATCH: {"CLs_obs": "nan"}})
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    lines = block(result, f"tiny / {PATCH}: CLs is not a number")
    assert re.fullmatch(r"CLs_obs +nan +[\d.]+ +nan +<--", lines[1])
    project.assert_no_internals(result)


def test_fit_where_an_exception_is_right_is_wrong(project):
    project.pallet(1)
    project.expect_error(PATCH)
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    lines = block(
        result, f"tiny / {PATCH}: fitted, though the right answer is pyhf.exceptions.InvalidModel"
    )
    assert lines[0] == f"obtained CLs_obs = {canned(PATCH)['CLs_obs']:.8g}"


# --- missing ------------------------------------------------------------------------------------


def test_missing_reference_names_the_option(project):
    project.pallet(2)
    project.forget_reference(PATCH)
    result = project.run()
    result.assert_outcomes(passed=2, failed=1)
    lines = block(result, f"tiny / {PATCH}: no reference")
    values = canned(PATCH)
    assert lines[0] == f"CLs_obs = {values['CLs_obs']:.4g}, CLs_exp = {values['CLs_exp'][2]:.4g}"
    assert lines[1] == f"{project.reference_file()} does not have this patch"
    assert lines[-1] == "make it: --faas-update=new"
    project.assert_no_internals(result)


def test_missing_reference_file_says_where_it_looked(project):
    project.pallet(1, references=False)
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    lines = block(result, f"tiny / {PATCH}: no reference")
    assert lines[1].startswith(f"there is no tiny.json in {project.path}/reference_results, ")
    assert not project.reference_file().exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"background_sha256": 64 * "0"}, "is for another background"),
        ({"hypotest": {"test_poi": 3.0}}, "is for another test: *test_poi=1.0 (reference: 3.0)"),
    ],
)
def test_reference_of_something_else_is_missing(project, change, reason):
    project.pallet(1)
    project.references(**change)
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*no reference", f"*tiny.json {reason}*"])


def test_reference_of_another_patch_of_the_name_is_missing(project):
    project.pallet(1)
    project.change_reference(PATCH, digest=16 * "0")
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*was made from a patch of the same name with other content"])


# --- broken -------------------------------------------------------------------------------------


def test_lost_worker_is_an_error(project):
    project.pallet(2)
    project.plan(lose={PATCH: -1})
    project.own_test()
    result = project.run("--junitxml=junit.xml", suite=False)
    result.assert_outcomes(passed=1, errors=1)
    assert project.outcomes() == {PATCH: "error", "sig_100_50": "passed"}
    lines = block(result, f"tiny / {PATCH}: the fit broke: no worker finished it")
    assert lines == [
        "its worker process was killed (signal 9)",
        "attempt 1: its worker process was killed (signal 9)",
        ("what to do: check the memory and the logs of the worker's machine; a rerun may work"),
        (
            f"rerun:  pytest 'test_own.py::test_cls[tiny-{PATCH}]' --faas-pallet=tiny "
            f"--faas-patch={PATCH}"
        ),
    ]
    assert project.fits() == [*2 * [PATCH], "sig_100_50"]
    project.assert_no_internals(result)


@pytest.mark.parametrize("times", [1, 2])
def test_worker_lost_now_and_then_is_made_good(project, times):
    project.pallet(2)
    project.plan(lose={PATCH: times})
    project.run(f"--faas-retries={times}").assert_outcomes(passed=3)
    assert project.fits() == [*(1 + times) * [PATCH], "sig_100_50"]


def test_a_block_that_ended_is_reported_at_the_end_of_the_run(project):
    project.pallet(2)
    project.plan(lose={PATCH: 2}, block_says="the block on node3 (job 7) ended: qdel")
    result = project.run()
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "*sent to workers, 2 of them sent again (block lost: 2)",
            "the block on node3 (job 7) ended: qdel (2 fits ran there)",
        ]
    )


def test_a_lost_batch_is_made_good_one_by_one(project):
    patches = project.pallet(12)
    project.plan(workers=1, batch_s=10, lose={"sig_300_0": 1})
    project.own_test()
    project.run(suite=False).assert_outcomes(passed=12)
    fits = project.fits()
    assert set(fits) == set(patches)
    assert fits.count("sig_300_0") == 2
    assert 13 <= len(fits) <= 16


def test_retries_are_an_option(project):
    project.pallet(1)
    project.plan(lose={PATCH: 1})
    project.own_test()
    project.run("--faas-retries", "0", suite=False).assert_outcomes(errors=1)
    assert project.fits() == [PATCH]


def test_wrong_value_is_never_retried(project):
    project.pallet(1)
    project.plan(answers={PATCH: {"CLs_obs": "nan"}})
    project.run()
    assert project.fits() == [PATCH]


def test_timeout_is_an_error(project):
    project.pallet(2)
    project.plan(timeout=[PATCH])
    project.own_test()
    result = project.run("--faas-timeout", "7", suite=False)
    result.assert_outcomes(passed=1, errors=1)
    lines = block(result, f"tiny / {PATCH}: the fit broke: it took too long")
    assert lines[0] == "it was ended after its time limit of 7.0 s"
    assert lines[1].startswith("what to do: raise --faas-timeout")
    assert project.fits() == [PATCH, "sig_100_50"]
    project.assert_no_internals(result)


def test_unexpected_exception_is_an_error(project):
    project.pallet(2)
    project.plan(errors={PATCH: [INVALID_MODEL, "No POI"]})
    result = project.run("--junitxml=junit.xml")
    result.assert_outcomes(passed=1, errors=2)
    assert project.outcomes() == {PATCH: "error", "sig_100_50": "passed"}
    lines = block(result, f"tiny / {PATCH}: the fit broke")
    assert lines[0] == f"{INVALID_MODEL}: No POI"
    assert lines[1].startswith("worker fakehost:")
    assert lines[2].startswith("what to do: the patched workspace makes no model")
    project.assert_no_internals(result)


@pytest.mark.parametrize("newlines", [True, False])
def test_long_messages_are_cut_to_a_line(project, newlines):
    project.pallet(1)
    message = ("Inequality constraints incompatible" + newlines * "\n").ljust(200_000, "x")
    project.plan(errors={PATCH: [FAILED_MINIMIZATION, message]})
    result = project.run()
    result.assert_outcomes(errors=2)
    line = block(result, f"tiny / {PATCH}: the fit broke")[0]
    assert line.startswith(f"{FAILED_MINIMIZATION}: Inequality constraints incompatible")
    assert len(line) < 400
    assert len(project.text(result)) < 20_000


def test_another_exception_than_the_expected_one_is_no_green(project):
    project.pallet(1)
    project.plan(errors={PATCH: [FAILED_MINIMIZATION, "no"]})
    project.expect_error(PATCH)
    result = project.run()
    result.assert_outcomes(errors=2)


def test_engine_that_breaks_down_once_is_restarted(project):
    patches = project.pallet(4)
    project.plan(breakdowns=1)
    project.run().assert_outcomes(passed=5)
    assert project.fits() == patches
    assert project.starts() == ["local", "local"]


def test_engine_that_breaks_down_for_good_is_given_up(project):
    project.pallet(3)
    project.plan(breakdowns=-1)
    project.own_test()
    result = project.run(suite=False)
    result.assert_outcomes(errors=1, skipped=2)
    result.stdout.fnmatch_lines(
        ["*the engine local broke down 4 times in a row *because the fake engine is out of order"]
    )
    project.assert_no_internals(result)


# --- slow ---------------------------------------------------------------------------------------


def test_wall_time_is_an_error_where_fits_broke(project):
    project.pallet(3)
    project.plan(lose={PATCH: -1})
    result = project.run("--junitxml=junit.xml")
    result.assert_outcomes(passed=2, errors=2)
    case = project.junit()["test_walltime[tiny]"]
    assert case.find("error") is not None
    result.stdout.fnmatch_lines(
        ["tiny: no wall time: 1 of 3 fits broke: its worker process was killed *", f"  {PATCH}"]
    )


def test_wall_time_is_a_benchmark(project):
    project.pallet(2)
    result = project.run("--faas-trials", "3", "--benchmark-json=benchmark.json")
    result.assert_outcomes(passed=3)
    data = json.loads((project.path / "benchmark.json").read_text())
    (benchmark,) = data["benchmarks"]
    assert benchmark["name"] == "test_walltime[tiny]"
    assert benchmark["stats"]["rounds"] == 3
    extra = benchmark["extra_info"]
    assert {name: extra[name] for name in ("analysis", "synthetic", "endpoint", "patches")} == {
        "analysis": "tiny",
        "synthetic": False,
        "endpoint": "local",
        "patches": 2,
    }
    assert [trial["fits"] for trial in extra["trials"]] == [2, 2, 2]
    for trial in extra["trials"]:
        spent = sum(trial[f"{part}_s"] for part in PARTS)
        assert spent == pytest.approx(trial["workers"] * trial["wall_s"])


@pytest.mark.parametrize(
    ("option", "outcomes"),
    [
        ("--benchmark-skip", {"passed": 2, "skipped": 1}),
        ("--benchmark-disable", {"passed": 3}),
        ("--benchmark-only", {"passed": 1, "skipped": 2}),
    ],
)
def test_options_of_pytest_benchmark_mean_what_they_say(project, option, outcomes):
    patches = project.pallet(2)
    project.run(option).assert_outcomes(**outcomes)
    assert project.fits() == patches


# --- fixtures and markers -----------------------------------------------------------------------


def test_the_engine_is_an_executor(project):
    project.own_test(
        """\
def test_engine(faas_engine, faas_endpoint):
    assert faas_endpoint == "local"
    assert faas_engine.submit(pow, 2, 10).result() == 1024
"""
    )
    project.run(suite=False, pallet=None).assert_outcomes(passed=1)


def test_endpoint_tests_carry_the_marker(project):
    project.own_test(
        """\
def test_endpoint(faas_endpoint, request):
    assert request.node.get_closest_marker("faas")
"""
    )
    project.run(suite=False, pallet=None).assert_outcomes(passed=1)


def test_own_tolerance_of_a_call(project):
    project.pallet(1)
    project.change_reference(PATCH, CLs_obs=canned(PATCH)["CLs_obs"] * 1.01)
    project.own_test(
        """\
def test_loose(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result, rtol=0.1)

def test_tight(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    project.run(suite=False).assert_outcomes(passed=1, failed=1)


def test_fixture_of_the_same_name_is_left_alone(project):
    project.own_test(
        """\
import pytest

@pytest.fixture
def pallet():
    return "a wooden one"

def test_pallet(pallet):
    assert pallet == "a wooden one"
"""
    )
    project.run(suite=False, pallet="no_such_pallet").assert_outcomes(passed=1)


def test_pallet_that_is_asked_for_too_late(project):
    project.pallet(1)
    project.own_test("def test_late(request):\n    request.getfixturevalue('hypotest_result')")
    result = project.run(suite=False)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*a test must name it (or hypotest_result) among its arguments*"])


def test_marker_names_pallet_and_patches(project):
    project.pallet(4)
    project.own_test(
        """\
from pathlib import Path

import pytest

@pytest.mark.pallet("tiny", patch="sig_*_50")
def test_one(hypotest_result):
    pass

@pytest.mark.pallet(Path("tiny"), patch=["100,0", "sig_200_50"])
def test_several(hypotest_result):
    pass
"""
    )
    result = project.run("--faas-patch", "sig_200_0", suite=False, pallet="no_such_pallet")
    result.assert_outcomes(passed=4)
    assert project.fits() == ["sig_100_0", "sig_100_50", "sig_200_50"]


def test_marker_decides_how_a_hypothesis_is_tested(project):
    project.pallet(1)
    project.own_test(
        """\
import pytest

@pytest.mark.hypotest(
    test_poi=2.0, test_stat="q", backend="numpy", optimizer="minuit", measurement="meas",
    normsys_interpcode="code1", histosys_interpcode="code0",
)
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    result = project.run("--faas-backend", "jax", suite=False)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*is for another test: *test_poi=2.0 (reference: 1.0)*"])
    assert project.how_fitted() == [
        {
            "test_poi": 2.0,
            "test_stat": "q",
            "quantity": "cls",
            "toys": 0,
            "backend": "numpy",
            "optimizer": "minuit",
            "method": "hypotest",
            "effort": "brief",
            "checked": False,
            "measurement": "meas",
            "normsys_interpcode": "code1",
            "histosys_interpcode": "code0",
            "timeout_s": 3600.0,
        }
    ]


def test_tolerance_of_the_marker_comes_before_the_command_line(project):
    project.pallet(1)
    project.change_reference(PATCH, CLs_obs=canned(PATCH)["CLs_obs"] * 1.01)
    project.own_test(
        """\
import pytest

@pytest.mark.hypotest(rtol=0.1)
def test_loose(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)

@pytest.mark.hypotest(atol=0.1)
def test_loose_too(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)

def test_tight(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    project.run("--faas-rtol", "1e-3", suite=False).assert_outcomes(passed=2, failed=1)


def test_markers_are_declared(project):
    result = project.run("--markers", "--strict-markers", suite=False, pallet=None)
    result.stdout.fnmatch_lines(
        ["@pytest.mark.pallet(*", "@pytest.mark.hypotest(*", "@pytest.mark.faas:*"]
    )


# --- journals and resuming ----------------------------------------------------------------------


def test_what_a_killed_run_has_done_is_taken_over(project):
    patches = project.pallet(6)
    project.own_test()
    project.plan(workers=1, kill="sig_300_0", kill_after=4)
    killed = project.run(suite=False, subprocess=True)
    assert killed.ret == -9
    done = project.journaled()
    assert done == patches[:4]
    project.plan()
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=6)
    assert project.fits() == patches[4:]
    result.stdout.fnmatch_lines(["2 fits sent to workers, 4 taken over from earlier runs"])


def test_an_interrupted_run_finishes_what_runs_and_the_next_takes_it_over(project):
    patches = project.pallet(8)
    project.own_test()
    project.plan(workers=1, kill="sig_200_0", kill_after=2, signal=2)
    interrupted = project.run("--junitxml=junit.xml", suite=False, subprocess=True)
    assert interrupted.ret == 2
    project.assert_told(
        interrupted,
        "interrupted: 1 running fit is finished first, and no others started; Ctrl-C again",
        code=2,
    )
    done = project.journaled()
    assert set(patches[:3]) <= set(done) < set(patches)
    outcomes = project.outcomes()
    assert {patch for patch in patches if outcomes[patch] == "passed"} == set(done)
    assert {patch for patch in patches if outcomes[patch] == "skipped"} == set(patches) - set(done)
    project.plan()
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=8)
    assert project.fits() == sorted(set(patches) - set(done))


def test_sigterm_ends_what_runs_and_reports_the_results_so_far(project):
    patches = project.pallet(8)
    project.own_test()
    project.plan(workers=1, kill="sig_200_0", kill_after=2, signal=15)
    result = project.run(suite=False, subprocess=True)
    project.assert_told(
        result,
        "interrupted: 1 running fit is ended, and no others",
        "of 8 fits on local; --faas-resume takes over",
        code=2,
    )
    done = project.journaled()
    assert set(patches[:2]) <= set(done) < set(patches)


def test_what_a_run_has_done_until_its_first_failure_is_taken_over(project):
    patches = project.pallet(6)
    project.own_test()
    project.change_reference(patches[1], CLs_obs=0.9)
    project.plan(workers=1)
    project.run("-x", suite=False).assert_outcomes(passed=1, failed=1)
    done = project.journaled()
    assert set(done) >= set(patches[:2])
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=5, failed=1)
    assert project.fits() == sorted(set(patches) - set(done))


def test_what_another_version_has_fitted_is_fitted_again(project):
    *patches, _unasked = project.pallet(3)
    project.own_test()
    project.run(suite=False).assert_outcomes(passed=3)
    (journal,) = project.path.glob(".pytest_cache/d/pyhf-faas/*.jsonl")
    text = journal.read_text()
    journal.write_text(re.sub(r'("worker_sha256": ")\w', r"\1x", text))
    project.run("--faas-resume", "--faas-patch=sig_100_*", suite=False).stdout.fnmatch_lines(
        ["2 fits sent to workers", "--faas-resume left 2 earlier fits out: another version of *"]
    )
    assert project.fits() == patches


def test_what_a_worker_lacked_is_fitted_again(project):
    patches = project.pallet(3)
    project.own_test()
    project.plan(errors={PATCH: ["ModuleNotFoundError", "No module named 'iminuit'"]})
    project.run(suite=False).assert_outcomes(passed=2, errors=1)
    project.plan()
    project.run("--faas-resume", suite=False).assert_outcomes(passed=len(patches))
    assert project.fits() == [PATCH]


def test_what_broke_is_fitted_again(project):
    project.pallet(3)
    project.own_test()
    project.plan(lose={PATCH: -1}, timeout=["sig_100_50"])
    project.run(suite=False).assert_outcomes(passed=1, errors=2)
    project.plan()
    project.run("--faas-resume", suite=False).assert_outcomes(passed=3)
    assert project.fits() == [PATCH, "sig_100_50"]


def test_other_versions_are_fitted_again(project):
    patches = project.pallet(2)
    project.own_test()
    project.run(suite=False)
    project.plan(versions={"pyhf": "0.8.0", "numpy": "2.0.0", "scipy": "1.16.0"})
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=2)
    assert project.fits() == patches
    result.stdout.fnmatch_lines(
        ["--faas-resume left 2 earlier fits out: the workers *pyhf 0.7.6 -> 0.8.0"]
    )


def test_another_configuration_is_fitted_again(project):
    patches = project.pallet(2)
    project.own_test()
    project.run(suite=False)
    result = project.run("--faas-resume", "--faas-optimizer", "minuit", suite=False)
    result.assert_outcomes(passed=2)
    assert project.fits() == patches


def test_another_endpoint_is_fitted_again(project):
    patches = project.pallet(2)
    project.own_test()
    project.run(suite=False)
    result = project.run("--faas-resume", "--funcx-endpoint", "local:2", suite=False)
    result.assert_outcomes(passed=2)
    assert project.fits() == patches


def test_resuming_what_never_began_says_so(project):
    patches = project.pallet(2)
    project.own_test()
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=2)
    assert project.fits() == patches
    result.stdout.fnmatch_lines(["--faas-resume found no earlier results for local"])


def test_resuming_a_complete_run_fits_nothing(project):
    project.pallet(2)
    project.run().assert_outcomes(passed=3)
    result = project.run("--faas-resume")
    result.assert_outcomes(passed=2, skipped=1)
    assert project.fits() == []
    result.stdout.fnmatch_lines(["*2 taken over from earlier runs"])


def test_a_run_without_resume_takes_nothing_over(project):
    patches = project.pallet(2)
    project.run()
    project.run()
    assert project.fits() == patches


def test_a_damaged_journal_loses_only_its_damaged_lines(project):
    patches = project.pallet(3)
    project.own_test()
    project.run(suite=False)
    (journal,) = project.path.glob(".pytest_cache/d/pyhf-faas/*.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    last = max(n for n, line in enumerate(lines) if '"event": "result"' in line)
    lines[last] = lines[last][:50]
    journal.write_text("".join(lines))
    project.run("--faas-resume", suite=False).assert_outcomes(passed=3)
    assert len(project.fits()) == 1
    assert set(project.fits()) < set(patches)


def test_a_journal_of_a_newer_version_is_not_taken_over_and_the_run_says_so(project):
    project.pallet(2)
    project.own_test()
    project.run(suite=False)
    (journal,) = project.path.glob(".pytest_cache/d/pyhf-faas/*.jsonl")
    text = journal.read_text().replace('"version": 2, "again": 2', '"version": 3, "again": 3')
    journal.write_text(text)
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=2)
    assert len(project.fits()) == 2
    assert "has version 3, but only 2 and older ones are known" in project.text(result)


def test_without_cache_the_journal_lies_in_the_users_cache(project):
    patches = project.pallet(2)
    project.own_test()
    project.run("-p", "no:cacheprovider", suite=False).assert_outcomes(passed=2)
    assert not (project.path / ".pytest_cache").exists()
    result = project.run("-p", "no:cacheprovider", "--faas-resume", suite=False)
    result.assert_outcomes(passed=2)
    assert project.fits() == []
    assert len(patches) == 2


# --- for real -----------------------------------------------------------------------------------


@pytest.mark.skipif(find_spec("jax") is None, reason="certified fits need JAX")
def test_real_run(project):
    project.pallet(4, references=False)
    project.real_engines()
    project.run("--funcx-endpoint", "local:2", "--faas-update", "new", "--benchmark-skip")
    references = project.reference()["patches"]
    result = project.run("--funcx-endpoint", "local:2")
    result.assert_outcomes(passed=5)
    observed = [references[patch]["CLs_obs"] for patch in ("sig_100_0", "sig_200_0")]
    assert 0 < observed[0] < observed[1] < 1  # the stronger signal is excluded better
