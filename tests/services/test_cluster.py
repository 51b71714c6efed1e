"""The cluster of namespaces: what leans on what clusters lack fails there, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.services import cluster as module
from tests.services.cluster import Cluster
from tests.services.machines import HIERARCHIES, Line
from tests.services.processes import ServiceError, wait_for
from tests.services.wire import Direction

SERVE_ONCE = """
import socket, sys
with socket.create_server((sys.argv[1], 0)) as server:
    print(server.getsockname()[1], flush=True)
    server.accept()
"""


def traces():
    """What a machine of namespaces may leave behind: links, mounts, namespaces, control groups."""
    links = {path.name for path in Path("/sys/class/net").iterdir()}
    mounts = set(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines())
    groups = {path for at in HIERARCHIES for path in Path(at).glob("faas-*")}
    return links, mounts, groups


def holders(directory):
    """The processes that mention a directory in their arguments or see it mounted."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            told = (path / "cmdline").read_bytes() + (path / "mountinfo").read_bytes()
        except OSError:
            continue
        if str(directory).encode() in told:
            found.append(path.name)
    return found


def test_each_node_is_a_machine_of_its_own(cluster):
    told = cluster.run("srun", "--nodes=2", "sh", "-c", "echo $(hostname) $(hostname -I)")
    assert sorted(told.splitlines()) == ["node1 10.77.0.2", "node2 10.77.0.3"]
    assert cluster.run("srun", "cat", "/proc/1/comm") == "sleep\n"
    assert cluster.run("scontrol", "show", "node", "node2").count("CPUTot=24") == 1


def test_only_what_is_exported_is_shared(cluster):
    cluster.run("touch", "/tmp/of_the_head", f"{cluster.shared}/of_all")
    assert cluster.run("srun", "--nodes=2", "ls", str(cluster.shared)).count("of_all") == 2
    with pytest.raises(ServiceError, match="No such file"):
        cluster.run("srun", "ls", "/tmp/of_the_head")
    with pytest.raises(ServiceError, match="Read-only"):
        cluster.run("touch", str(module.PROJECT / "of_the_head"), on="node1")


def reaches(cluster, address, port, *, on):
    """Whether a program on a machine can connect; raises what else goes wrong."""
    code = f"import socket; socket.create_connection(({address!r}, {port}), 1)"
    try:
        cluster.run(sys.executable, "-c", code, on=on)
    except ServiceError as error:
        if "refused" not in str(error) and "timed out" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize(("address", "reached"), [("127.0.0.1", False), ("10.77.0.1", True)])
def test_loopback_is_each_machines_own(cluster, address, reached):
    command = [sys.executable, "-c", SERVE_ONCE, address]
    with cluster.popen(*command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            assert reaches(cluster, address, port, on="node1") == reached
        finally:
            server.kill()


def test_a_job_without_the_shells_environment_does_not_find_its_programs(cluster):
    # As the recipe submits it; sbatch passes the whole environment on by default.
    find = f"command -v {Path(sys.executable).name} || echo none; exit 0"
    bin_directory = str(Path(sys.executable).parent)
    for export, found in (("ALL", bin_directory), ("NONE", "none")):
        path = f"PATH={bin_directory}:/usr/bin:/bin"
        batch = ["sbatch", "--wait", "--output=found", f"--export={export}", "--wrap", find]
        cluster.run("env", path, *batch)
        assert (cluster.shared / "found").read_text(encoding="utf-8").startswith(found)


def test_a_recipe_that_leans_on_loopback_fails_and_says_so(cluster):
    recipe = (module.PROJECT / "endpoints" / "parsl" / "slurm.py").read_text(encoding="utf-8")
    leaning = cluster.shared / "leaning.py"
    leaning.write_text(recipe.replace('label="slurm",', 'label="slurm", address="127.0.0.1",'))
    command = [sys.executable, "-m", "pytest", "--pyargs", "pytest_pyhf_faas.suite"]
    command += [f"--faas-endpoint=parsl:{leaning}", "-k", "test_endpoint_answers"]
    command += ["--faas-queue-timeout=30", "--faas-workers=1"]
    with pytest.raises(ServiceError) as caught:
        cluster.run(*command, timeout=250)
    said = " ".join(str(caught.value).split())
    assert "without a connected worker" in said
    assert "its workers cannot reach this machine" in said
    assert wait_for(lambda: not cluster.jobs(), 30)


def test_a_node_that_is_cut_off_hears_and_says_nothing(cluster):
    slurmctld, slurmd = ("10.77.0.1", 6817), ("10.77.0.3", 6818)
    cluster.cut("node2")
    try:
        assert not reaches(cluster, *slurmd, on="head")
        assert not reaches(cluster, *slurmctld, on="node2")
        assert reaches(cluster, *slurmctld, on="node1")
    finally:
        cluster.mend("node2")
    assert reaches(cluster, *slurmd, on="head")
    assert reaches(cluster, *slurmctld, on="node2")


def test_a_line_is_slow_lossy_and_narrow(cluster):
    code = """
import socket, time
begun = time.monotonic()
socket.create_connection(("10.77.0.1", 6817), 20)
print(time.monotonic() - begun)
"""
    cluster.connect("node2", Line(delay_ms=100))
    try:
        # One way for each of the two packets; the first one asks for the address, too.
        reaches(cluster, "10.77.0.1", 6817, on="node2")
        assert 0.2 <= float(cluster.run(sys.executable, "-c", code, on="node2")) < 0.4
        cluster.connect("node2", Line(loss_percent=100))
        assert not reaches(cluster, "10.77.0.1", 6817, on="node2")
    finally:
        cluster.connect("node2")
    assert float(cluster.run(sys.executable, "-c", code, on="node2")) < 0.1


def test_a_wire_delays_loses_and_queues():
    def arrivals(frames, at=0.0, **line):
        way = Direction(0, **{"delay_s": 0.0, "loss": 0.0, "bits_per_s": None, "seed": 1, **line})
        for frame in frames:
            way.take(frame, at)
        return [due for due, _ in way.frames]

    assert arrivals([b"x"], at=5.0, delay_s=0.25) == [5.25]
    assert arrivals([b"x" * 1000] * 3, bits_per_s=80_000) == pytest.approx([0.1, 0.2, 0.3])
    # A port that has more than a second's frames to send drops what comes.
    assert len(arrivals([b"x" * 1000] * 100, bits_per_s=80_000)) == 11
    assert 9700 < len(arrivals([b"x"] * 10_000, loss=0.02)) < 9900


def test_the_head_restarts_and_knows_its_jobs(cluster):
    job = cluster.run("sbatch", "--parsable", "--output=job", "--wrap", "sleep 60").strip()
    cluster.restart_head()
    assert job in cluster.jobs()
    cluster.run("scancel", job)


BUSY = """
import time
begun, used = time.monotonic(), time.process_time()
while time.monotonic() < begun + 1.5: pass
print((time.process_time() - used) / 1.5)
"""


def test_a_slow_node_gets_less_of_the_processors(cluster):
    cluster.slow("node2", 5)
    try:
        used = float(cluster.run("srun", "-w", "node2", sys.executable, "-c", BUSY))
    finally:
        cluster.slow("node2", 1)
    assert used < 1.3 * os.cpu_count() / 2 / 5


def test_nothing_is_left_of_it(tmp_path):
    before = traces()
    service = Cluster(tmp_path / "c", nodes=1)
    with service:
        assert holders(service.directory)
        service.slow("node1", 5)
        job = service.popen("srun", "sh", "-c", "trap '' TERM; setsid sleep 300 & sleep 300")
        assert wait_for(lambda: "RUNNING" in service.jobs().values(), 20)
    assert job.wait(10) != 0
    assert holders(service.directory) == []
    assert traces() == before
    assert not list(service.directory.glob("machines/*/root"))


def test_who_is_not_root_is_reported(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tests.services.machines.os.geteuid", lambda: 1000)
    monkeypatch.setattr(Cluster, "installed", staticmethod(lambda: True))
    monkeypatch.setattr("tests.services.slurm_service.missing", lambda *_: [])
    assert module.main(["start", str(tmp_path / "c")]) == 1
    assert "need root. Remedy: run this as root" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
