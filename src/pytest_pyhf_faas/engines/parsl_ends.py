"""Why the job of a block ended while fits ran there, in the words of its scheduler."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from parsl.providers import (
    CondorProvider,
    GridEngineProvider,
    KubernetesProvider,
    PBSProProvider,
    SlurmProvider,
    TorqueProvider,
)

from pytest_pyhf_faas.engines import parsl_pods
from pytest_pyhf_faas.engines.parsl_failures import files_of
from pytest_pyhf_faas.engines.texts import in_one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from parsl.providers.cluster_provider import ClusterProvider

#: Time limit for a scheduler's answer, which a fit waits for before it is sent again.
_ANSWER_S = 10
#: Lines that schedulers add to the standard error of a job that they end.
_WRITTEN = (
    ("PBS", re.compile(r"^=>> PBS: (.+)$", re.MULTILINE)),
    ("Slurm", re.compile(r"^slurmstepd\S* error: \*\*\* (JOB .+?) \*\*\*", re.MULTILINE)),
)
#: The meaning of a job's exit number; 256 and more are signals.
_PBS_PRO = {-25: "too many cores", -27: "out of memory", -29: "out of walltime"}
_TORQUE = {-10: "out of memory", -11: "out of walltime", -12: "out of CPU time"}
_SIGNALS = 256


def called(provider: object, job: str) -> str:
    """Return what the scheduler calls the job of a block."""
    if isinstance(provider, KubernetesProvider):
        return f"pod {provider.resources[job]['pod_name']}"
    return f"job {job}"


def why_it_ended(provider: object, block: str, job: str) -> str | None:
    """Return what is known about the end of a job, or None.

    Parameters
    ----------
    provider : ExecutionProvider
        The provider that submitted it.
    block, job : str
        The block and its job.
    """
    if isinstance(provider, KubernetesProvider):
        return parsl_pods.why_it_ended(provider, job)
    for scheduler, words in _WRITTEN:
        found = words.search(_errors(provider, block))
        if found is not None:
            return f"{scheduler} says: {in_one_line(found[1])}"
    for kind, (scheduler, command, read) in _ASKED:
        if isinstance(provider, kind):
            said = read(provider.execute_wait(command.format(job), _ANSWER_S)[1])
            return f"{scheduler} says: {in_one_line(said)}" if said else None
    return None


def _errors(provider: object, block: str) -> str:
    paths = files_of(provider, block)
    return paths["stderr"].read_text(errors="replace") if "stderr" in paths else ""


def _of_slurm(output: str) -> str | None:
    found = re.search(r"JobState=(\S+) Reason=(\S+)", output)
    if found is None or found[1] in ("PENDING", "RUNNING", "COMPLETING"):
        return None
    return f"{found[1]} ({found[2]})"


def _of_pbs_pro(output: str) -> str | None:
    try:
        (job,) = json.loads(output).get("Jobs", {}).values()
    except ValueError:  # unknown to it, or not JSON
        return None
    return _status("Exit_status", job.get("Exit_status"), _PBS_PRO)


def _of_torque(output: str) -> str | None:
    found = re.search(r"^ *exit_status = (-?\d+)$", output, re.MULTILINE)
    return None if found is None else _status("exit_status", int(found[1]), _TORQUE)


def _status(name: str, status: int | None, meanings: dict[int, str]) -> str | None:
    if status is None:
        return None
    meaning = meanings.get(status)
    if meaning is None and status > _SIGNALS:
        meaning = f"ended by signal {status - _SIGNALS}, as qdel does it"
    return f"{name} {status}" + (f", {meaning}" if meaning else "")


def _of_htcondor(output: str) -> str | None:
    said = output.strip()
    return said if said and said != "undefined" else None


def _of_grid_engine(output: str) -> str | None:
    fields = dict(re.findall(r"^(failed|exit_status) +(\S.*?) *$", output, re.MULTILINE))
    if "failed" not in fields:
        return None
    failed = re.sub(r"\s+:\s+", ": ", fields["failed"])
    meaning = " (h_rt is the walltime)" if "h_rt" in failed else ""
    return f"failed {failed}{meaning}, exit status {fields['exit_status']}"


_ASKED: tuple[tuple[type[ClusterProvider], tuple[str, str, Callable[[str], str | None]]], ...] = (
    (SlurmProvider, ("Slurm", "scontrol --oneliner show job {}", _of_slurm)),
    (PBSProProvider, ("PBS Pro", "qstat -x -f -F json {}", _of_pbs_pro)),
    (TorqueProvider, ("Torque", "qstat -f {}", _of_torque)),
    (CondorProvider, ("HTCondor", "condor_q {} -af RemoveReason", _of_htcondor)),
    (GridEngineProvider, ("Grid Engine", "qacct -j {}", _of_grid_engine)),
)
