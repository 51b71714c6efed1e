"""Each kind of exception of a worker gets its own cause and remedy."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.advice import advice_in, advice_on, to_have, too_old
from pytest_pyhf_faas.campaign.requirements import required_in
from pytest_pyhf_faas.campaign.results import TOO_LONG, FitError, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.pallets.check import Finding
from pytest_pyhf_faas.plugin.terminal import broken_text

SETUP = "worker_init of toy.py"
INSTALL = "python -m pip install"


def worker(backend="numpy", optimizer="scipy", **versions):
    return WorkerEnvironment.from_json(
        {
            "python": "3.12.1",
            "executable": "/opt/python3",
            "host": "node7",
            "backend": backend,
            "optimizer": optimizer,
            "versions": {"pyhf": "0.7.6", "numpy": "2.4.6", "scipy": "1.17.1", **versions},
        }
    )


def advised(kind, message, environment=None):
    advice = advice_on(FitError(kind, message), environment or worker())
    return "\n".join(advice.lines(SETUP)) if advice else None


@pytest.mark.parametrize(
    ("requirements", "there", "command"),
    [
        (["pyhf==0.7.6", "jax"], "start the workers in the env", f"{INSTALL} 'pyhf==0.7.6' jax"),
        (["python>=3.13"], "environment with python>=3.13 (pip installs no Python)", ""),
        (["pyhf", "python<4,>=3.13"], "with pyhf and python<4,>=3.13 (pip inst", ""),
        ([], "start the workers in the environment that you mean", ""),
    ],
)
def test_what_is_required_is_installed_by_what_can_do_so(requirements, there, command):
    text = "; ".join(f"no such, but {each} is required" for each in requirements)
    assert required_in(text) == requirements
    assert there in to_have(requirements)[0]
    assert to_have(requirements)[1] == command


@pytest.mark.parametrize(
    ("kind", "message", "environment", "words"),
    [
        (
            "ModuleNotFoundError",
            "No module named 'pyhf'",
            worker(),
            ["Python 3.12.1 on node7 (/opt/python3) has no pyhf", f"{INSTALL} 'pyhf>=0.7'", SETUP],
        ),
        ("ModuleNotFoundError", "No module named 'yaml.x'", worker(), ["has no yaml", "provides"]),
        ("ModuleNotFoundError", "No module named 'pkg_resources'", worker(), ["setuptools"]),
        (
            "ImportError",
            "libopenblas.so.0: cannot open shared object file: No such file or directory",
            worker(),
            ["a library of the system is missing", "load the module"],
        ),
        ("ImportError", "DLL load failed", worker(), ["incompatible", "new environment"]),
        (
            "ImportError",
            "cannot import name 'simps' from 'scipy.integrate' (/x/y.py)",
            worker(),
            ["older than scipy 1.17.1", "no longer has simps", "'scipy<1.17.1'"],
        ),
        (
            "AttributeError",
            "module 'numpy' has no attribute 'product'",
            worker(pyhf="0.7.0"),
            [
                "cause: pyhf 0.7.0 is older than numpy 2.4.6",
                "no longer has product",
                f"{INSTALL} --upgrade 'pyhf>=0.7.3', or {INSTALL} 'numpy<2'",
            ],
        ),
        (
            "AttributeError",
            "`np.float_` was removed in the NumPy 2.0 release. Use `np.float64` instead.",
            worker(pyhf="0.7.1"),
            ["older than numpy 2.4.6", "no longer has float_", "'numpy<2'"],
        ),
        (
            "AttributeError",
            "module 'numpy' has no attribute 'trapz'",
            worker(),
            ["pyhf 0.7.6, or what it uses, is older than numpy 2.4.6"],
        ),
        ("MemoryError", "", worker(), ["not enough memory", "use fewer workers"]),
        ("numpy._core._exceptions._ArrayMemoryError", "8 GiB", worker(), ["use fewer workers"]),
        ("OSError", "[Errno 28] No space left on device", worker(), ["disk", "full", "TMPDIR"]),
        ("PermissionError", "[Errno 13] Permission denied: '/x'", worker(), ["may not use a file"]),
        ("OSError", "[Errno 24] Too many open files", worker(), ["ulimit -n"]),
        ("BlockingIOError", "[Errno 11] Resource temporarily unavailable", worker(), ["fewer"]),
        ("ConnectionResetError", "gone", worker(), ["neither pyhf nor the fit is the cause"]),
        (
            "pyhf.exceptions.ImportBackendError",
            "no jax",
            worker("jax", "minuit"),
            [f"{INSTALL} 'pyhf[jax]' 'pyhf[minuit]'", "or: choose another --faas-backend"],
        ),
        (
            "pyhf.exceptions.InvalidBackend",
            "Not supported: pytorch. Select from one of the supported backends: numpy, jax",
            worker("pytorch", pyhf="0.8.0"),
            [
                "cause: pyhf 0.8.0 has no such backend",
                "what to do: choose one that it has with --faas-backend: numpy, jax",
            ],
        ),
        (
            "pyhf.exceptions.InvalidOptimizer",
            "Not supported: adam. Select from one of the supported optimizers: scipy, minuit",
            worker("numpy", "adam"),
            ["pyhf 0.7.6 has no such optimizer", "with --faas-optimizer: scipy, minuit"],
        ),
        (
            "pyhf.exceptions.InvalidBackend",
            "said in other words",
            worker("pytorch"),
            ["what to do: choose another --faas-backend or --faas-optimizer"],
        ),
        (
            "pyhf.exceptions.FailedMinimization",
            "Inequality constraints incompatible",
            worker(),
            ["cause: the optimizer gave up", "what to do: try the other one (--faas-optimizer)"],
        ),
    ],
)
def test_each_kind_has_its_cause_and_remedy(kind, message, environment, words):
    text = advised(kind, message, environment)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("AttributeError", "'NoneType' object has no attribute 'x'"),
        ("AttributeError", "module 'pyhf' has no attribute 'x'"),
        ("AttributeError", "module 'socket' has no attribute 'x'"),
        ("ValueError", "math domain error"),
        ("KeyError", "'CR'"),
        ("SyntaxError", "invalid syntax"),  # though its Python is new enough
        ("NotAnOSError", "[Errno 28] No space left on device"),
    ],
)
def test_what_nobody_knows_has_no_advice(kind, message):
    assert advised(kind, message) is None


@given(
    kind=st.sampled_from(["OSError", "KeyError", "ImportError", "_RefResolutionError", "X"]),
    message=st.text(max_size=40),
    pyhf=st.sampled_from(["0.6.3", "0.5.4.dev2", "0.6.4rc1"]),
)
def test_a_pyhf_that_is_too_old_is_the_cause_of_whatever_fails(kind, message, pyhf):
    text = advised(kind, message, worker(pyhf=pyhf))
    assert f"cause: pyhf {pyhf} is too old: the fits need pyhf>=0.7" in text
    assert text.endswith(f"in {SETUP}: {INSTALL} --upgrade 'pyhf>=0.7'")


@pytest.mark.parametrize("pyhf", ["0.7.0", "0.7.0rc1", "0.10.1", "1.0"])
def test_a_pyhf_that_is_new_enough(pyhf):
    assert too_old(worker(pyhf=pyhf)) is None


@given(number=st.sampled_from(sorted(errno.errorcode)))
def test_each_error_of_the_system_says_that_the_fit_is_not_to_blame(number):
    """Whatever it is, nobody is sent to install pyhf, or to try another optimizer."""
    error = OSError(number, os.strerror(number))
    text = advised(type(error).__name__, str(error))
    assert text.startswith("cause: ")
    assert "pip" not in text
    assert "--faas" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            (
                "a worker could not run what was sent to it: OSError: [Errno 28] No space left on "
                "device"
            ),
            "disk of the worker is full",
        ),
        ("a worker failed: SyntaxError: invalid syntax", "Python 3.10 or newer"),
        ("a worker failed: MemoryError", "memory"),
        ("it said: a.b.ModuleNotFoundError: No module named 'pyhf'", "has no pyhf"),
    ],
)
def test_an_exception_is_found_in_the_text_of_an_engine(text, words):
    assert words in "\n".join(advice_in(text).lines(SETUP))


@pytest.mark.parametrize(
    "text", ["", "its worker process was killed", "its payload is too large", "Error: x"]
)
def test_a_text_without_an_exception_has_no_advice(text):
    assert advice_in(text) is None


def test_what_no_worker_finished_gets_the_advice_of_its_exception():
    said = "a worker could not run what was sent to it: OSError: [Errno 28] No space left on device"
    result = HypotestResult("k", "tiny", "s", "broken", error=FitError("remote call failed", said))
    lines = broken_text(result, "pytest", SETUP).splitlines()
    assert lines[1:] == [
        f"  {said}",
        "  cause: a disk of the worker is full",
        "  what to do: free some space, or set TMPDIR to another disk",
        "  rerun:  pytest",
    ]
    lost = HypotestResult("k", "tiny", "s", "broken", error=FitError("worker lost", "it died"))
    assert "memory and the logs" in broken_text(lost, "pytest", SETUP)


def test_a_rerun_does_not_help_a_fit_that_is_longer_than_a_block_lives():
    error = FitError(TOO_LONG, "its block is gone. Set a longer walltime")
    result = HypotestResult("k", "tiny", "s", "broken", error=error)
    assert broken_text(result, "pytest", SETUP).splitlines()[1:] == [
        "  its block is gone. Set a longer walltime",
        "  rerun:  pytest",
    ]


def test_a_fault_of_the_environment_is_put_right_before_one_of_the_patch():
    gone = FitError("AttributeError", "module 'numpy' has no attribute 'product'")
    result = HypotestResult("k", "tiny", "s", "error", error=gone)
    found = Finding("error", "a bin has -250 events", ("s",))
    text = broken_text(result, "pytest", SETUP, [found])
    assert "in the file: a bin has -250 events" in text
    assert f"in {SETUP}: {INSTALL}" in text
    assert "correct the workspace" not in text
