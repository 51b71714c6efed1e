"""Why the job of a block ended, by what its scheduler answers."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from parsl import providers

from pytest_pyhf_faas.engines.parsl_ends import called, why_it_ended

GRID_ENGINE = """\
jobnumber    7
failed       {}
exit_status  137                  (Killed)
ru_wallclock 6s
"""
TORQUE = "Job Id: 7.head\n    Job_Name = parsl\n    exit_status = {}\n\n"


def pbs_pro(**job):
    return json.dumps({"pbs_version": "23.06.06", "Jobs": {"7.head": job}})


def asked(kind, answer, directory=None):
    """Return what is known of job 7, and what was asked."""
    commands = []

    def execute_wait(command, timeout):
        commands.append(command)
        if isinstance(answer, Exception):
            raise answer
        return 0, answer, ""

    provider = object.__new__(getattr(providers, f"{kind}Provider"))
    provider.execute_wait, provider.script_dir = execute_wait, directory
    return why_it_ended(provider, "3", "7"), commands


@pytest.mark.parametrize(
    ("kind", "answer", "says"),
    [
        ("Slurm", "JobId=7 JobState=TIMEOUT Reason=TimeLimit", "Slurm says: TIMEOUT (TimeLimit)"),
        ("Slurm", "JobId=7 JobState=NODE_FAIL Reason=None", "Slurm says: NODE_FAIL (None)"),
        ("Slurm", "JobId=7 JobState=RUNNING Reason=None", None),
        ("Slurm", "", None),
        ("PBSPro", pbs_pro(Exit_status=-29), "PBS Pro says: Exit_status -29, out of walltime"),
        (
            "PBSPro",
            pbs_pro(Exit_status=271),
            "PBS Pro says: Exit_status 271, ended by signal 15, as qdel does it",
        ),
        ("PBSPro", pbs_pro(Exit_status=1), "PBS Pro says: Exit_status 1"),
        ("PBSPro", pbs_pro(job_state="R"), None),
        ("PBSPro", json.dumps({"pbs_version": "23"}), None),  # job_history_enable is not set
        ("PBSPro", "", None),
        ("Torque", TORQUE.format(-11), "Torque says: exit_status -11, out of walltime"),
        ("Torque", "Job Id: 7.head\n    job_state = R\n", None),
        ("Condor", "via condor_rm (by user me)\n", "HTCondor says: via condor_rm (by user me)"),
        ("Condor", "undefined\n", None),
        (
            "GridEngine",
            GRID_ENGINE.format("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit"),
            (
                "Grid Engine says: failed 37: qmaster enforced h_rt, h_cpu, or h_vmem limit (h_rt "
                "is the walltime), exit status 137 (Killed)"
            ),
        ),
        ("GridEngine", "error: job id 7 not found\n", None),
        ("Local", "", None),
    ],
)
def test_the_scheduler_says_how_a_job_ended(kind, answer, says):
    said, commands = asked(kind, answer)
    assert said == says
    assert all("7" in command for command in commands)
    assert len(commands) == (kind != "Local")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            "Terminated\n=>> PBS: job killed: walltime 61 exceeded limit 60\n",
            "PBS says: job killed: walltime 61 exceeded limit 60",
        ),
        (
            (
                "slurmstepd-node3: error: *** JOB 7 ON node3 CANCELLED AT 2026-11-27T13:00:00 DUE "
                "TO TIME LIMIT ***\n"
            ),
            "Slurm says: JOB 7 ON node3 CANCELLED AT 2026-11-27T13:00:00 DUE TO TIME LIMIT",
        ),
        ("a warning\n", "PBS Pro says: Exit_status 271, ended by signal 15, as qdel does it"),
    ],
)
def test_what_it_has_written_into_the_jobs_standard_error_goes_first(tmp_path, written, says):
    (tmp_path / "parsl.pbspro.block-3.17.25.stderr").write_text(written)
    (tmp_path / "parsl.pbspro.block-30.17.25.stderr").write_text("=>> PBS: of another block\n")
    assert asked("PBSPro", pbs_pro(Exit_status=271), tmp_path)[0] == says


class Missing(Exception):
    status = 404


def pod(*, reason=None, message=None, ended=None):
    state = SimpleNamespace(terminated=ended)
    containers = [SimpleNamespace(state=state, last_state=None)]
    status = SimpleNamespace(reason=reason, message=message, container_statuses=containers)
    return SimpleNamespace(status=status)


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (None, "its pod was deleted or evicted, or its node died"),
        (
            pod(reason="DeadlineExceeded", message="Pod was active for longer"),
            "DeadlineExceeded, Pod was active for longer",
        ),
        (
            pod(ended=SimpleNamespace(reason="OOMKilled", exit_code=137)),
            "OOMKilled, exit status 137",
        ),
        (pod(), None),
    ],
)
def test_kubernetes_says_what_became_of_a_pod(shown, says):
    def read_namespaced_pod(name, namespace):
        if shown is None:
            raise Missing
        return shown

    provider = object.__new__(providers.KubernetesProvider)
    provider.namespace = "default"
    provider.resources = {"7": {"pod_name": "block.7"}}
    provider.kube_client = SimpleNamespace(read_namespaced_pod=read_namespaced_pod)
    assert why_it_ended(provider, "3", "7") == says
    assert called(provider, "7") == "pod block.7"
