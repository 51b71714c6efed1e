"""Why the blocks of a Parsl executor failed, as far as they and Parsl report it."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

import parsl
from parsl.executors.high_throughput.errors import VersionMismatch

from pytest_pyhf_faas.engines.texts import in_one_line

#: Appended to worker_init, so that a failing block reports which Parsl its workers have.
TELL_PARSL = (
    "\npython3 -c 'import sys; from importlib.metadata import version; "
    'print("pyhf-faas: Parsl", version("parsl"), "of", sys.executable)\' 1>&2 2>/dev/null || true\n'
)
_REPORTED = re.compile(r"pyhf-faas: Parsl (\S+) of (.+)\n?")
_VERSIONS = re.compile(r"py\.v=(\S+) parsl\.v=(\S+)")
#: Parsl's words for a block without workers, where it knows nothing else.
_NOTHING_KNOWN = "Job is marked as MISSING"
_WORKER_COMMAND = "process_worker_pool.py"


def failed_blocks(executor: Any) -> str:
    """Say in one line how blocks failed, and why if that is known."""
    error = executor.executor_exception
    ended = ended_blocks(executor)
    causes = filter(None, [_mismatch(error), *map(_cause, map(_written, ended))])
    cause = next(causes, None)
    if cause is not None:
        return f"its workers cannot start: {cause}"
    if not ended:
        return f"its blocks fail: {in_one_line(error)}"
    failed: dict[str, list[str]] = {}
    for status in ended:
        code = "" if status.exit_code is None else f" with exit status {status.exit_code}"
        said = said_by(status)
        how = f"{code}: {said}" if said else code
        failed.setdefault(alike(how), []).append(how)
    counted = "; ".join(f"{len(those)} ended{those[0]}" for those in failed.values())
    where = getattr(executor.provider, "script_dir", None)
    logs = f", and the logs in {where}" if where else ""
    return (
        f"its blocks of workers end before they have done anything: {counted.rstrip('.')}. Check "
        f"worker_init and the provider of the configuration{logs}"
    )


def alike(said: str) -> str:
    """Return what a text has in common with those that differ in the number of a job."""
    return re.sub(r"\d+", "0", said)


def ended_blocks(executor: Any) -> list[Any]:
    """Return the statuses of the blocks that ended, with the files that these wrote to.

    Some providers (Torque, HTCondor, Grid Engine) do not say which files that are.
    """
    ended = []
    for block, status in list(executor.status_facade.items()):
        if not status.terminal:
            continue
        ended.append(status)
        if not status.stderr_path:
            for stream, path in files_of(executor.provider, block).items():
                setattr(status, f"{stream}_path", str(path))
    return ended


def files_of(provider: Any, block: str) -> dict[str, Path]:
    """Return the files that a block has written to, by stream: ``stdout`` and ``stderr``."""
    directory = getattr(provider, "script_dir", None)
    if not directory:
        return {}
    return {
        stream: path
        for stream in ("stdout", "stderr")
        for path in Path(directory).glob(f"*.block-{block}.*.{stream}")
    }


def said_by(status: Any) -> str:
    """Return the output of a block, or else what Parsl says about it."""
    errors = _REPORTED.sub("", status.stderr_summary or "").strip()
    said = status.message or ""
    if said.startswith(_NOTHING_KNOWN):
        said = ""
    return in_one_line(errors or status.stdout_summary or said)


def _written(status: Any) -> str:
    return status.stderr_summary or ""


def _cause(written: str) -> str | None:
    """Return what a block's standard error shows about its Parsl, if that is why it failed."""
    reported = _REPORTED.search(written)
    if reported is not None and reported[1] != parsl.__version__:
        return _differ(f"Parsl {reported[1]} ({reported[2]})")
    if f"{_WORKER_COMMAND}: error: " in written:
        return _differ("another version of Parsl")
    if re.search(rf"{re.escape(_WORKER_COMMAND)}['\"]?: (command )?not found", written):
        return (
            f"the environment of worker_init has no Parsl. Make it activate one with "
            f"pyhf and Parsl, or run there: {_install()}"
        )
    return None


def _mismatch(error: object) -> str | None:
    """Return what Parsl's own check of versions found."""
    if not isinstance(error, VersionMismatch):
        return None
    theirs = _VERSIONS.search(str(error.manager_version))
    if theirs is None:
        return _differ(str(error.manager_version))
    python, its_parsl = theirs.groups()
    if its_parsl != parsl.__version__:
        return _differ(f"Parsl {its_parsl} (Python {python})")
    return (
        f"they have Python {python}, and this side has Python {platform.python_version()}. Parsl "
        "needs the same minor version on both sides: make worker_init activate such an environment"
    )


def _differ(theirs: str) -> str:
    return (
        f"they have {theirs}, and this side has Parsl {parsl.__version__} ({sys.executable}). Both "
        f"must be the same: in the environment of worker_init, run {_install()}"
    )


def _install() -> str:
    return f"python -m pip install 'parsl=={parsl.__version__}'"
