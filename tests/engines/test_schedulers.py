"""The recipes for Parsl on the other batch systems: their blocks run, fail, and are taken away.

Each recipe runs as it stands, but for the place of the workers' environment where that is none
that a test can make, and what a test would wait for too long: heartbeats, Grid Engine's walltime.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

import pytest
from parsl.jobs.states import JobState
from parsl.providers.errors import ExecutionProviderException

from pytest_pyhf_faas.campaign.events import Note
from pytest_pyhf_faas.engines import create_engine, parsl_config
from pytest_pyhf_faas.engines.parsl_ends import why_it_ended
from tests.conftest import IN_CI
from tests.engines.test_parsl_runs import begin, patches  # noqa: F401 - a fixture
from tests.helpers.paths import REPOSITORY
from tests.helpers.scripted_engine import wait_until
from tests.helpers.stage import MARK, Stage, fits, ok
from tests.services.gridengine import LocalGridEngine
from tests.services.htcondor import HTCondor
from tests.services.kubernetes_api import KubernetesApi
from tests.services.pbs import Pbs, Torque

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.services,
]

RECIPES = REPOSITORY / "endpoints" / "parsl"
ENVIRONMENTS = re.compile(r"(\$HOME|/cvmfs/your\.experiment)/pyhf-env")
GONE_S = 15.0
#: Of the walltimes of the recipes.
OUT_OF_WALLTIME = "PBS says: job killed: walltime 1801 exceeded limit 1800"
BIN = Path(sys.executable).parent
IMAGE = "pyhf/pyhf:v0.7.6"
PIP = """\
#!/bin/sh
exec python3 -c '
import sys
from importlib.metadata import version
name, _, wanted = sys.argv[1].partition("==")
sys.exit(None if version(name) == wanted else f"ERROR: No matching distribution for {name}")
' "$3"
"""


class Site:
    """A batch system with one of the recipes, for which there is an environment on its nodes."""

    def __init__(self, name, place):
        self.name = name
        # A file called kubernetes.py would hide the module of that name.
        self.file = "k8s.py" if name == "kubernetes" else f"{name.partition('_')[0]}.py"
        #: What a block says that does not find its environment.
        self.complaint = "/no/such/bin/activate: No such file"
        if name == "kubernetes":
            self.complaint = "ERROR: No matching distribution for pyhf"
        self.environment = place / "pyhf-env"
        (self.environment / "bin").mkdir(parents=True)
        (self.environment / "bin" / "activate").write_text(f"export PATH={BIN}:$PATH\n")
        self.service = self._service(place)

    def _service(self, place):
        if self.name == "kubernetes":
            return KubernetesApi(place / "api", images={IMAGE: self._image(place)})
        if self.name == "gridengine":
            return LocalGridEngine(place / "service")
        if self.name == "pbspro_without_history":
            return Pbs(place / "service", home=place, history=False)
        kind = {"htcondor": HTCondor, "pbspro": Pbs, "torque": Torque}[self.name]
        return kind(place / "service", home=place)

    def _image(self, place):
        """Make what pods find on their PATH: Python with pyhf, Parsl's own, and pip."""
        found = place / "image" / "bin"
        found.mkdir(parents=True)
        (found / "process_worker_pool.py").symlink_to(BIN / "process_worker_pool.py")
        # A link to the Python of a virtual environment would not find that.
        for name, text in {
            "python3": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
            "pip": PIP,
        }.items():
            (found / name).write_text(text)
            (found / name).chmod(0o755)
        return found.parent

    def recipe(self, directory, *, environment=None, **constants):
        """Copy the recipe to a directory, with another environment or other constants."""
        text = (RECIPES / self.file).read_text()
        if environment is not None or self.name in ELSEWHERE:
            text, count = ENVIRONMENTS.subn(str(environment or self.environment), text)
            assert count == 1
        for key, value in constants.items():
            line = rf"^( *{key} ?= ?)[^,#\n]+?(,?(?:  #.*)?)$"
            text, count = re.subn(line, rf"\g<1>{value!r}\2", text, flags=re.MULTILINE)
            assert count == 1
        path = directory / self.file
        path.write_text(text)
        return f"parsl:{path.name}"

    def broken(self, directory):
        """Copy the recipe with an environment that is not there."""
        if self.name == "kubernetes":
            endpoint = self.recipe(directory)
            path = directory / self.file
            path.write_text(path.read_text().replace("parsl=={", "pyhf=={"))
            return endpoint
        return self.recipe(directory, environment="/no/such")


#: Where the environment of a recipe is not in the home directory that a test makes.
ELSEWHERE = ("htcondor", "gridengine")
SITES = ("gridengine", "pbspro", "torque", "htcondor", "kubernetes")


@pytest.fixture(scope="module", params=SITES)
def site(request):
    name = request.param
    if name == "kubernetes" and not IN_CI:
        pytest.importorskip("kubernetes")
    if name == "gridengine" and not LocalGridEngine.installed() and not IN_CI:
        pytest.skip("not installed: python tests/services/gridengine.py install")
    with tempfile.TemporaryDirectory(prefix="site") as directory:
        site = Site(name, Path(directory))
        with site.service:
            yield site


@pytest.fixture
def at_site(site, monkeypatch):
    """The site, with its commands on the PATH."""
    for name, value in site.service.env.items():
        monkeypatch.setenv(name, value)
    if site.name == "kubernetes":  # whose client looks into its environment when it is imported
        place = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(place, str(site.service.kubeconfig))
    yield site
    wait_until(lambda: not site.service.jobs(), "no job is left", GONE_S)


ONE_WORKER = ("--faas-workers=1", "--faas-blocks=1")
#: Noticed together, so that a run that fails need not ask for one after the other.
THREE_BLOCKS = ("--faas-workers=1", "--faas-blocks=3")


def test_fits_run_in_its_blocks(at_site, begin, tmp_path):  # noqa: F811
    endpoint = at_site.recipe(tmp_path)
    run = begin(f"--faas-endpoint={endpoint}", *ONE_WORKER, *patches("700_0", "800_0"))
    assert run.end() == 0, run.output
    assert "2 passed" in run.output
    assert "2 fits sent to workers" in run.output
    run.assert_nothing_is_left()


def test_a_block_that_fails_at_its_start_says_why(at_site, begin, tmp_path):  # noqa: F811
    endpoint = at_site.broken(tmp_path)
    began = time.monotonic()
    run = begin(f"--faas-endpoint={endpoint}", *THREE_BLOCKS, *patches("700_0"))
    assert run.end() == 1, run.output
    assert time.monotonic() - began < 60.0
    assert "1 error" in run.output
    assert "Traceback" not in run.output
    assert at_site.complaint in run.output
    assert "Check worker_init" in run.output
    run.assert_nothing_is_left()


QUEUES = {
    "gridengine": 'job requests unknown queue "nowhere"',
    "pbspro": "qsub: Unknown queue",
    "torque": "qsub: Unknown queue MSG=requested queue not found",
}


@pytest.mark.parametrize("site", QUEUES, indirect=True)
def test_a_job_that_is_refused_says_why(at_site, tmp_path):
    provider = provider_of(at_site, tmp_path, QUEUE="nowhere")
    with pytest.raises(ExecutionProviderException) as refused:
        provider.submit("true", 1, "block-0")
    said = " ".join(str(refused.value).split())
    assert "-q nowhere" in said
    assert QUEUES[at_site.name] in said


@pytest.mark.parametrize("site", ["torque"], indirect=True)
def test_a_run_whose_jobs_are_refused_says_why(at_site, begin, tmp_path):  # noqa: F811
    endpoint = at_site.recipe(tmp_path, QUEUE="nowhere")
    run = begin(f"--faas-endpoint={endpoint}", *ONE_WORKER, *patches("700_0"))
    assert run.end() == 1, run.output
    assert QUEUES[at_site.name] in " ".join(run.output.split())
    assert "Traceback" not in run.output
    run.assert_nothing_is_left()


@pytest.mark.parametrize("site", ["gridengine"], indirect=True)
def test_a_job_that_cannot_be_started_says_why_and_leaves_the_queue(at_site, tmp_path):
    provider = provider_of(at_site, tmp_path)
    provider.scheduler_options += "\n#$ -wd /no/such"
    job = provider.submit("true", 1, "block-0")
    wait_until(lambda: provider.status([job])[0].terminal, "it has failed", GONE_S)
    (status,) = provider.status([job])
    assert status.state == JobState.FAILED
    assert status.message == "error: can't chdir to /no/such: No such file or directory"


@pytest.mark.parametrize("site", ["gridengine"], indirect=True)
def test_grid_engine_says_that_it_was_the_walltime(at_site, tmp_path):
    """Its own walltime, in seconds; those of the stand-ins end when a test says so, see below."""
    provider = provider_of(at_site, tmp_path, WALLTIME="00:00:02")
    job = provider.submit("sleep 60", 1, "block-0")
    wait_until(lambda: why_it_ended(provider, "0", job), "it is accounted for", GONE_S)
    said = why_it_ended(provider, "0", job)
    assert said.startswith("Grid Engine says: failed 37: qmaster enforced h_rt")
    assert "(h_rt is the walltime)" in said


def provider_of(site, directory, **constants):
    """Return the provider of a recipe as an engine would start it."""
    path = directory / site.recipe(directory, **constants).removeprefix("parsl:")
    config = parsl_config.load(path, directory, blocks=1, workers=1)
    provider = config.executors[0].provider
    provider.script_dir = str(directory)
    return provider


@pytest.fixture
def stage(at_site, tmp_path, monkeypatch):
    """The site with fits that do as they are told, in one block of one worker."""
    name, value = MARK.split("=")
    monkeypatch.setenv(name, value)
    endpoint = at_site.recipe(tmp_path, heartbeat_period=1, heartbeat_threshold=4)
    path = tmp_path / endpoint.removeprefix("parsl:")
    engine = create_engine(f"parsl:{path}", tmp_path / "engine", workers=1, blocks=1)
    stage = Stage(at_site.name, engine, tmp_path, monkeypatch, at_site.service)
    yield stage
    if stage.campaign is not None:
        stage.campaign.cancel("the test is over")
    stage.engine.stop()


#: What each says of a block that is cancelled by its own command, and of its walltime.
SAID = {
    "gridengine": ("Grid Engine says: failed 100: assumedly after job, exit status 137", None),
    "htcondor": (
        "HTCondor says: via condor_rm (by user ",
        "HTCondor says: The job attribute PeriodicRemove expression",
    ),
    "kubernetes": ("its pod was deleted or evicted, or its node died", None),
    "pbspro": ("PBS Pro says: Exit_status 271, ended by signal 15", OUT_OF_WALLTIME),
    "pbspro_without_history": ("cancelled, out of walltime, or a dead node", OUT_OF_WALLTIME),
    "torque": ("Torque says: exit_status 271, ended by signal 15", OUT_OF_WALLTIME),
}


@pytest.mark.parametrize("site", SAID, indirect=True)
def test_a_block_that_is_cancelled_and_one_out_of_walltime_cost_no_fit(at_site, stage):
    cancelled, out_of_walltime = SAID[at_site.name]
    orders = fits(2)
    orders[0] |= {"do": "never end", "times": 2 if out_of_walltime else 1}
    stage.begin(orders)
    stage.wait_for_running()
    (first,) = at_site.service.jobs()
    at_site.service.cancel(first)
    if out_of_walltime:
        wait_until(
            lambda: [name for name, *_ in stage.begun()].count("toy_000") == 2, "again", 60.0
        )
        (second,) = at_site.service.jobs()
        at_site.service.expire(second)
    assert ok(stage.finish())
    texts = [note.text for _at, note in stage.told.records if isinstance(note, Note)]
    assert f" {first}) ended: " in texts[0]
    assert cancelled in texts[0]
    if out_of_walltime:
        assert f" {second}) ended: " in texts[1]
        assert out_of_walltime in texts[1]
    assert len(texts) == orders[0]["times"]
    assert len(stage.begun()) == len(orders) + len(texts)
