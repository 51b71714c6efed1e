"""Each fault that is planted in pyhf turns the suite red, and the verdict says what is wrong.

All are planted where a patch of the bundled pallet is fitted, and the result is compared with the
certified reference (see `faults`). One of each explanation is also a run of the shipped suite.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.compare import compare
from pytest_pyhf_faas.references.store import ReferenceStore, bundled_directory
from pytest_pyhf_faas.verdicts import Verdict
from tests.helpers.paths import REPOSITORY
from tests.sensitivity.faults import FAULTS

CONFIG = HypotestConfig()
INSTALL = """\
import sys

sys.path.insert(0, {folder!r})

from tests.sensitivity import faults

faults.install({name!r})
"""
#: A run takes four seconds; on a busy machine ten times that.
TIMEOUT_S = 180
VERDICT = re.compile(r"^\s*verdict: (.*)$", re.MULTILINE)
#: The first fault of each explanation.
ONE_OF_EACH = list({fault.explanation: name for name, fault in reversed(FAULTS.items())}.values())


@pytest.fixture(scope="module")
def tasks():
    """Return the tasks of the bundled pallet by patch."""
    (pallet,) = catalogue.resolve(catalogue.BUNDLED, search_path=())
    return {task.patch.name: task for task in make_tasks(pallet, CONFIG)}


@pytest.fixture(scope="module")
def answers(tasks):
    """Return what workers answer that have one fault each."""
    batches = {name: batch_payload([tasks[fault.patch]]) for name, fault in FAULTS.items()}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.sensitivity.fit_with_faults"],
        input=json.dumps(batches),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught_and_told(tasks, answers, name):
    task = tasks[FAULTS[name].patch]
    (result,) = parse_answer(answers[name], [task]).results.values()
    reference = ReferenceStore([bundled_directory()], bundled_directory()).find(task)
    comparison = compare(result, reference, fit_setup=CONFIG.fit_setup)
    assert comparison.verdict not in {Verdict.RIGHT, Verdict.KNOWN_ISSUE, Verdict.FIXED}
    (verdict,) = VERDICT.findall(comparison.explanation)
    assert verdict.startswith(FAULTS[name].explanation)


def run(project, *patches):
    """Run the suite on some patches."""
    words = [word for patch in patches for word in ("--faas-patch", patch)]
    return project.pytester.runpytest_subprocess(
        *("-p", "no:hypothesispytest", "--pyargs", "pytest_pyhf_faas.suite.test_analysis"),
        *("-k", "test_cls", "--faas-pallet", "synthetic", *words),
        *("--funcx-endpoint", "local:1"),
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_fault_turns_the_suite_red(project, name):
    fault = FAULTS[name]
    folder = str(REPOSITORY)
    project.pytester.makeconftest(INSTALL.format(folder=folder, name=name))
    result = run(project, fault.patch)
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (verdict,) = VERDICT.findall(result.stdout.str())
    assert verdict.startswith(fault.explanation)


def test_unharmed_pyhf_passes(project):
    project.real_engines()
    patches = sorted({fault.patch for fault in FAULTS.values()})
    run(project, *patches).assert_outcomes(passed=len(patches))
