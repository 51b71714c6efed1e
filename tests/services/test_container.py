"""Workers in a container, on two nodes: through Parsl's launcher and as the agent starts them.

``PYHF_WORKER_IMAGE`` names a directory image: see ``scripts/worker_image.py``.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY, SERVICES
from tests.services.cluster import Cluster
from tests.services.processes import ServiceError

IMAGE = os.environ.get("PYHF_WORKER_IMAGE")
RECIPE = REPOSITORY / "endpoints" / "parsl" / "slurm.py"

pytestmark = [
    pytest.mark.services,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not IMAGE, reason="PYHF_WORKER_IMAGE names no directory image"),
    pytest.mark.skipif(shutil.which("ch-run") is None, reason="charliecloud is not installed"),
]


@pytest.fixture(scope="module")
def cluster():
    with (
        tempfile.TemporaryDirectory(prefix="cluster") as directory,
        Cluster(Path(directory), nodes=2, exports=[Path(IMAGE)], slurmd_timeout_s=10) as service,
    ):
        yield service


@pytest.fixture
def validate(cluster):
    """Fit some of the bundled pallet on an endpoint, from the head; returns the report."""

    def run(name, endpoint, *words, variables=()):
        report = cluster.shared / name
        command = [
            "env",
            *variables,
            sys.executable,
            "-m",
            "pytest",
            "--pyargs",
            "pytest_pyhf_faas.suite",
        ]
        command += [f"--faas-endpoint={endpoint}", "--faas-patch=synthetic_?00_0"]
        command += [f"--faas-report={report}", *words]
        cluster.run(*command, timeout=500)
        return json.loads((report / "report.json").read_text(encoding="utf-8"))

    return run


AGENT = """\
type: GlobusComputeEngine
label: container
address: 10.77.0.1
max_workers_per_node: 1
container_type: custom
container_cmd_options: ch-run --home --set-env {image} -- {{EXECUTOR_LAUNCH_CMD}}
provider:
  type: SlurmProvider
  exclusive: false
  cores_per_node: 1
  init_blocks: 2
  max_blocks: 2
  walltime: "00:20:00"
  scheduler_options: "#SBATCH --export=NONE"
  worker_init: export USER=$(id -un)
  launcher:
    type: SingleNodeLauncher
"""


@pytest.fixture
def agent(cluster):
    """An endpoint of a Globus Compute on the head: its id, and what its clients need."""
    engine = cluster.shared / "engine.yaml"
    engine.write_text(AGENT.format(image=IMAGE), encoding="utf-8")
    service = [sys.executable, str(SERVICES / "globus_compute.py")]
    place = str(cluster.shared / "globus")
    said = cluster.run(*service, "start", place, f"--engine={engine}", timeout=120)
    variables = [word for word in shlex.split(said) if word != "export"]
    yield dict(word.split("=", 1) for word in variables)["LOOPBACK_ENDPOINT"], variables
    cluster.run(*service, "stop", place, timeout=60)


def in_the_container(cluster, name, runner):
    """The project's recipe for Slurm, with two lines edited as docs/how-to/clusters.md says."""
    text = RECIPE.read_text(encoding="utf-8")
    for line, edited in (
        (
            'WORKER_INIT = "source $HOME/pyhf-env/bin/activate || exit 1"',
            'WORKER_INIT = "export USER=$(id -un)"',
        ),
        ("CONTAINER = None", f"CONTAINER = {runner!r}"),
    ):
        assert line in text
        text = text.replace(line, edited)
    path = cluster.shared / name
    path.write_text(text, encoding="utf-8")
    return f"parsl:{path}"


def cls_values(report):
    """CLs of each hypothesis, as they came."""
    (analysis,) = report["analyses"]
    return {row["patch"]: row["CLs"] for row in analysis["hypotheses"]}


def test_cls_in_the_container_is_that_outside_to_the_last_bit(cluster, validate):
    outside = validate("outside", "local:1")
    endpoint = in_the_container(cluster, "container.py", f"ch-run --set-env {IMAGE} --")
    words = ["--faas-blocks=2", "--faas-workers=1", "-v"]
    inside = validate("inside", endpoint, *words)
    assert len(cls_values(outside)) == 9
    assert all(cls_values(outside).values())
    assert cls_values(inside) == cls_values(outside)
    where = {(worker["host"], worker["executable"]) for worker in inside["environments"]}
    assert where == {("node1", "/opt/worker/bin/python3"), ("node2", "/opt/worker/bin/python3")}
    findings = {it["name"]: it["text"] for it in inside["endpoints"][0]["findings"]}
    assert "(/opt/worker/bin/python3), pyhf 0.7.6" in findings["environment"]
    # What is in the container counts, not what is on the node.
    with pytest.raises(
        ServiceError, match=r"pyhf 0\.7\.6.*pyhf==0\.7\.5|pyhf==0\.7\.5.*pyhf 0\.7\.6"
    ):
        validate("refused", endpoint, *words, "--faas-require=pyhf==0.7.5")


def test_the_agent_starts_workers_in_the_container(agent, validate):
    endpoint, variables = agent
    report = validate("agent", endpoint, variables=variables)
    assert cls_values(report) == cls_values(validate("beside", "local:1"))
    where = {(worker["host"], worker["executable"]) for worker in report["environments"]}
    assert {executable for _, executable in where} == {"/opt/worker/bin/python3"}
    assert {host for host, _ in where} <= {"node1", "node2"}
