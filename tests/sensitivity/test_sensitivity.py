"""Each fault that is planted in pyhf turns the suite red, and the verdict says what is wrong.

Each is a run of the shipped suite on the bundled pallet and its certified reference, by workers
whose pyhf has one fault (see `faults`).
"""

from __future__ import annotations

import re

import pytest

from tests.helpers.paths import REPOSITORY
from tests.sensitivity.faults import FAULTS

INSTALL = """\
import sys

sys.path.insert(0, {folder!r})

from tests.sensitivity import faults

faults.install({name!r})
"""
#: A run takes four seconds; on a busy machine ten times that.
TIMEOUT_S = 180
VERDICT = re.compile(r"^\s*verdict: (.*)$", re.MULTILINE)


def run(project, *patches):
    """Run the suite on some patches."""
    words = [word for patch in patches for word in ("--faas-patch", patch)]
    return project.pytester.runpytest_subprocess(
        *("-p", "no:hypothesispytest", "--pyargs", "pytest_pyhf_faas.suite.test_analysis"),
        *("-k", "test_cls", "--faas-pallet", "synthetic", *words),
        *("--funcx-endpoint", "local:1"),
        timeout=TIMEOUT_S,
    )


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_caught_and_told(project, name):
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
