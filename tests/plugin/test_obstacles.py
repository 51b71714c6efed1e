"""Where no fit can be done, one item says why, and nobody waits for it twice."""

from __future__ import annotations

import re
import time
from types import SimpleNamespace

import pytest

from pytest_pyhf_faas.campaign.results import ENGINE, FitError
from pytest_pyhf_faas.plugin.obstacles import Obstacles
from tests.helpers.scripted_engine import toy_result, toy_tasks

EVERYTHING = ("--pyargs", "pytest_pyhf_faas.suite")
#: An endpoint is waited for so long, and a run that waits once takes less than twice that.
WAIT_S = 3.0


@pytest.fixture
def silent(project):
    """A project whose endpoint grants no worker."""
    project.pallet(5)
    project.plan(no_workers=True)
    return project


def test_what_the_preflight_finds_out_is_not_found_out_by_each_fit(silent):
    words = ["-rs", "--faas-scaling=1,2", f"--faas-queue-timeout={WAIT_S}"]
    began = time.monotonic()
    result = silent.run(*EVERYTHING, *words, suite=False)
    assert time.monotonic() - began < 2 * WAIT_S
    # It exists, and does not answer; 6 measurements, 5 fits, a wall time and 2 points need that.
    result.assert_outcomes(passed=1, failed=1, skipped=6 + 5 + 1 + 2)
    reason = "not fitted: local is not ready (test_endpoint_answers)"
    result.stdout.fnmatch_lines(
        ["endpoint local: no worker answered within 3 s", f"SKIPPED [[]8] *: {reason}"]
    )
    assert result.ret == 1
    assert silent.journaled() == []


def test_without_a_preflight_the_first_item_says_why(silent, distribution):
    silent.own_test()
    result = silent.run(*distribution, "-rs", "--faas-queue-timeout=0.5", suite=False)
    outcomes = result.parseoutcomes()
    assert (outcomes["errors" if "errors" in outcomes else "error"], outcomes["skipped"]) == (1, 4)
    result.stdout.fnmatch_lines(
        [
            "*no worker of local was available for * s: blocks: 1 pending. * or wait longer with *",
            "SKIPPED *not fitted: local was given up (see the first error)",
        ]
    )
    assert result.ret == 1
    text = silent.text(result)
    assert text.count("no worker of local was available for") == 1
    assert ": the fit was not done" in text
    assert re.search(
        r"^0 fits sent to workers, \d not sent because no worker answered$", text, re.MULTILINE
    )
    assert not list(silent.path.glob(".pytest_cache/d/pyhf-faas/*.first-*"))


def test_a_wall_time_that_is_waited_for_in_vain_says_why(silent):
    result = silent.run("--faas-queue-timeout=0.5")
    result.assert_outcomes(errors=1, skipped=5)
    silent.assert_told(result, "tiny: no wall time: no worker of local was available for", code=1)
    silent.assert_told(result, "or wait longer with --faas-queue-timeout", code=1)


def test_a_run_that_is_resumed_waits_once(silent):
    """For workers that are to say what they are, and not then for those that are to fit."""
    silent.plan()
    silent.run("-k", "sig_100").assert_outcomes(passed=2, deselected=4)
    silent.plan(no_workers=True)
    began = time.monotonic()
    result = silent.run("--faas-resume", f"--faas-queue-timeout={WAIT_S}")
    assert time.monotonic() - began < 2 * WAIT_S
    result.assert_outcomes(errors=1, skipped=5)
    silent.assert_told(result, "they stay in the journal", "no worker answered within 3 s", code=1)
    silent.plan()
    silent.run("--faas-resume").assert_outcomes(passed=5, skipped=1)
    assert len(silent.fits()) == 3


NUMPY_2 = ["AttributeError", "module 'numpy' has no attribute 'product'"]


@pytest.mark.parametrize("kind", ["too old", "no pyhf", "not as required"])
def test_one_item_says_that_the_environment_of_the_workers_can_do_no_fit(
    project, kind, distribution
):
    patches = project.pallet(4)
    words = ["-rs", "-k", "test_cls", *distribution]
    if kind == "not as required":
        words.append("--faas-require=pyhf==0.7.5")
        what = "RequirementError: the worker has pyhf 0.7.6"
    else:
        error = NUMPY_2 if kind == "too old" else ["ModuleNotFoundError", "No module named 'pyhf'"]
        project.plan(errors=dict.fromkeys(patches, error))
        what = ": ".join(error)
    result = project.run(*words)
    result.assert_outcomes(errors=1, skipped=3)
    assert result.ret == 1
    text = " ".join(project.text(result).split())
    assert text.count("the fit broke") == 1
    assert text.count("what to do:") == 1
    assert f"not compared: local completes no fit (see the first {what.partition(':')[0]})" in text


def test_where_some_worker_can_do_fits_each_error_is_shown(project):
    _first, *others = project.pallet(3)
    project.plan(errors=dict.fromkeys(others, NUMPY_2))
    project.run("-k", "test_cls").assert_outcomes(passed=1, errors=2)


# --- the rules ----------------------------------------------------------------------------------


def obstacles(*, found=None, given_up=None, sharing=None, results=(), endpoint="here"):
    schedule = SimpleNamespace(
        campaigns=SimpleNamespace(given_up={endpoint: given_up}.get),
        results=lambda _endpoint: results,
        sharing=sharing,
    )
    return Obstacles({endpoint: SimpleNamespace(obstacle=found)}, schedule)


@pytest.mark.parametrize("role", ["compare", "measure", "scale"])
def test_where_nothing_is_found_all_is_begun(role):
    assert obstacles().before("here", role) is None
    assert obstacles(found="answers").before("elsewhere", role) is None
    assert "(test_endpoint_answers)" in obstacles(found="answers").before("here", role)


def test_what_was_fitted_before_the_end_is_compared():
    (task,) = toy_tasks(1)
    given_up = obstacles(given_up="it broke down 4 times")
    assert given_up.before("here", "compare") is None
    assert given_up.after("here", toy_result(task)) is None
    assert "was given up" in given_up.before("here", "measure")
    assert "was given up" in given_up.before("here", "scale")


def broken(kind):
    (task,) = toy_tasks(1)
    return toy_result(task, status="broken", error=FitError(kind, "because"))


def test_one_item_tells_of_the_endpoint_and_each_of_its_own_fit():
    given_up = obstacles(given_up="because")
    assert given_up.after("here", broken("broken")) is None
    assert given_up.after("here", broken(ENGINE)) is None
    assert "was given up" in given_up.after("here", broken(ENGINE))
    assert given_up.after("here", broken("broken")) is None
    assert given_up.after("elsewhere", broken(ENGINE)) is None


def test_a_measurement_that_has_failed_has_told_it():
    given_up = obstacles(given_up="because")
    given_up.failed("here")
    assert "was given up" in given_up.after("here", broken(ENGINE))
    other = obstacles()
    other.failed("here")  # by a failure of its own
    assert other.after("here", broken(ENGINE)) is None


def test_one_item_tells_of_an_environment_unless_others_can_do_fits():
    (task,) = toy_tasks(1)

    def answer(kind, message="because"):
        return toy_result(task, status="error", error=FitError(kind, message))

    none, jax = answer("ModuleNotFoundError", "No module named 'pyhf'"), answer("InvalidBackend")
    results = []
    some = obstacles(results=results)
    for told in (none, jax):  # each is another thing to do
        results.append(told)
        assert some.after("here", told) is None
    assert some.after("here", none).count("(see the first ModuleNotFoundError") == 1
    assert some.after("elsewhere", none) is None
    results.append(broken("broken"))  # a worker that died tells nothing of packages
    assert some.after("here", none)
    results.append(answer("pyhf.exceptions.InvalidModel"))  # what can say so has pyhf
    assert some.after("here", none) is None
    lost = answer("OSError", "[Errno 28] No space left on device")
    alone = obstacles(results=[lost])
    assert (alone.after("here", lost), alone.after("here", lost)) == (None, None)


def test_of_the_workers_of_xdist_one_tells_it():
    told = []

    class Shared:
        def is_first(self, what):
            told.append(what)
            return len(told) == 1

    first, second = obstacles(sharing=Shared()), obstacles(sharing=Shared())
    assert first.after("here", broken(ENGINE)) is None
    assert "was given up" in second.after("here", broken(ENGINE))


@pytest.mark.parametrize("endpoint", ["754d0d9b-e04f-4475-930e-594bf56515f3", f"parsl:/{'a' * 90}"])
def test_reasons_fit_into_a_line_of_the_short_summary(endpoint):
    said = [
        obstacles(found="reference_fit", endpoint=endpoint).before(endpoint, "compare"),
        obstacles(given_up="x", endpoint=endpoint).before(endpoint, "measure"),
    ]
    assert [len(reason) <= 80 for reason in said] == [True, True]
