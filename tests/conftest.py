"""What all tests share: a project of a user, and the services."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
import warnings
from pathlib import Path

# A run of pytester in this process forgets what it has imported; a second import would make a
# second set of classes, which the first does not know.
import fastjsonschema  # noqa: F401
import filelock  # noqa: F401
import pooch  # noqa: F401
import pytest
import requests  # noqa: F401
import tqdm  # noqa: F401

from tests.helpers.project import Project

#: CI installs the services, so that there they must start. The tests themselves do without `CI`.
IN_CI = bool(os.environ.get("CI"))


# pytest collects garbage five times at the end of each run, and there is much that is none.
gc.freeze()


def is_suite(config):
    """Whether the validation suite runs: in a checkout, pytest loads this file for it as well.

    It does so because `--pyargs` names the suite by its module, which is no path.
    """
    return config.option.pyargs


def pytest_configure(config):
    """Let what is started from here be as if a user had started it.

    With pytest-xdist it would be taken for a part of this run, and where a shell runs this in the
    background, it would inherit that signals are ignored.
    """
    if is_suite(config):
        return
    for variable in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        del os.environ[variable]
    # Without bytecode, each process that is started compiles this package for half a second.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # What runs in a test is no part of the job that runs the tests.
    for variable in [name for name in os.environ if name.startswith("GITHUB_")]:
        del os.environ[variable]
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


#: The tests of Parsl: it forks, which who has used JAX should not. Then those that take longest.
FIRST = (
    "test_faults.py",
    "test_cluster_faults.py",
    "test_parsl.py",
    "test_parsl_runs.py",
    "test_schedulers.py",
    "test_contract.py",
    "test_globus_faults.py",
    "test_globus_compute.py",
    "test_benchmarks.py",
    "test_tutorial.py",
    "test_pyhf_optimizer.py",
    "test_recording.py",
    "test_bad_input.py",
)


#: What starts services; tests that start them by themselves carry the marker.
SERVICES = {"slurm", "cluster", "globus_compute_service"}


#: No test takes as long: one that hangs fails and shows where, and the others go on.
LIMIT_S = 300


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(config, items):
    """Limit each in time, mark what needs services, bring to the front what must not be late."""
    if is_suite(config):
        return
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LIMIT_S))
        if SERVICES.intersection(item.fixturenames):
            item.add_marker("services")
    ranks = {name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


#: Whose tests share a worker only where they have their first parameter in common: those of an
#: engine share its services, those of a page nothing.
BY_PARAMETER = ("test_faults.py", "test_contract.py", "test_schedulers.py", "test_tutorial.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let the tests of a file share a worker, in the order above: who begins late ends late."""
    if config.getvalue("dist") != "load" or is_suite(config):
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrParameter(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file, _, name = nodeid.partition("::")
            first = name.partition("[")[2].partition("-")[0].rstrip("]")
            return f"{file}[{first}]" if file.endswith(BY_PARAMETER) else file

    config.option.loadscopereorder = False
    return ByFileOrParameter(config, log)


@pytest.fixture
def wide_terminal(monkeypatch):
    """A terminal on which no line of a test is broken."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def project(pytester, monkeypatch, wide_terminal):
    # With CI or BUILD_NUMBER pytest does not shorten its summary, and messages appear twice.
    for variable in ("XDG_CACHE_HOME", "PYHF_PALLET_PATH", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(variable, raising=False)
    return Project(pytester)


@pytest.fixture(params=["", "-n0", "-n2"], ids=["alone", "n0", "n2"])
def distribution(request):
    """The three ways in which each run must come to the same."""
    return [request.param] if request.param else []


@pytest.fixture(scope="session")
def slurm():
    """A Slurm of this machine's own."""
    from tests.services.slurm import LocalSlurm

    if not LocalSlurm.installed() and not IN_CI:
        pytest.skip("Slurm is not installed: python tests/services/slurm.py install")
    # Its sockets need a short path.
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as directory,
        pytest.MonkeyPatch.context() as patch,
        LocalSlurm(Path(directory)) as service,
    ):
        for name, value in service.env.items():
            patch.setenv(name, value)
        yield service


@pytest.fixture(scope="session")
def cluster():
    """A head and two nodes that share nothing but what is exported; four for the fault table."""
    from tests.services.cluster import Cluster

    if (lacking := Cluster.missing()) and not IN_CI:
        pytest.skip(f"no cluster can be made here: {lacking}")
    with (
        tempfile.TemporaryDirectory(prefix="cluster") as directory,
        Cluster(Path(directory), nodes=4 if os.environ.get("FAAS_FAULT_TABLE") else 2) as service,
    ):
        yield service


@pytest.fixture(scope="session")
def globus_compute_service():
    """A Globus Compute of this machine's own; for tests: `globus_compute`."""
    from tests.services.globus_compute import LoopbackGlobusCompute

    missing = LoopbackGlobusCompute.missing()
    if missing and not IN_CI:
        pytest.skip(f"not installed: {', '.join(missing)}; see tests/services/globus_compute.py")
    import globus_compute_sdk  # noqa: F401 - see fastjsonschema

    with (
        tempfile.TemporaryDirectory(prefix="globus") as directory,
        LoopbackGlobusCompute(Path(directory)) as service,
    ):
        service.endpoint("first", workers=2)
        yield service


@pytest.fixture
def globus_compute(globus_compute_service, monkeypatch):
    """A Globus Compute with an endpoint "first", and an environment in which the SDK finds it.

    Whatever the last test has done to it, nothing is broken, and the endpoint is online.
    """
    from tests.services.globus_compute import close_clients

    # The SDK leaves sockets behind when it connects again. pytest ends this with the test.
    warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
    globus_compute_service.start()
    globus_compute_service.service.clear()
    globus_compute_service.agents["first"].start()
    for name, value in globus_compute_service.env.items():
        monkeypatch.setenv(name, value)
    yield globus_compute_service
    close_clients()
