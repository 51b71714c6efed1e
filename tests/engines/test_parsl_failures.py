"""Why the blocks of a Parsl executor failed, as far as they and Parsl say it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import parsl
import pytest
from parsl.executors.high_throughput.errors import VersionMismatch
from parsl.jobs.states import JobState, JobStatus

from pytest_pyhf_faas.engines.parsl_failures import TELL_PARSL, failed_blocks, said_by

OURS = parsl.__version__
INSTALL = f"python -m pip install 'parsl=={OURS}'"
USAGE = "usage: process_worker_pool.py [-h]\nprocess_worker_pool.py: error: "


def told(version):
    return f"pyhf-faas: Parsl {version} of /site/bin/python3\n"


def block(stderr="", *, terminal=True, stdout="", message=None, exit_code=2):
    return SimpleNamespace(
        stderr_summary=stderr,
        stderr_path=None,
        stdout_summary=stdout,
        message=message,
        terminal=terminal,
        exit_code=exit_code,
    )


def why(*blocks, error=None):
    provider = SimpleNamespace(script_dir="/scripts")
    return failed_blocks(
        SimpleNamespace(
            status_facade=dict(enumerate(blocks)), executor_exception=error, provider=provider
        )
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            told("2024.1.29") + USAGE + "unrecognized arguments: --cert_dir",
            ["they have Parsl 2024.1.29 (/site/bin/python3)", f"this side has Parsl {OURS}"],
        ),
        (USAGE + "the following arguments are required: -t", ["another version of Parsl"]),
        (told(OURS) + USAGE + "bad", ["another version of Parsl"]),
        ("cmd.sh: line 20: process_worker_pool.py: command not found", ["has no Parsl"]),
        ("cmd.sh: 20: process_worker_pool.py: not found", ["has no Parsl"]),
    ],
)
def test_another_parsl_is_named_with_both_versions(text, words):
    found = why(block("", terminal=False), block(text))
    for word in (*words, INSTALL):
        assert word in found
    assert "usage" not in found


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        ("py.v=3.11 parsl.v=2026.10.19", ["Parsl 2026.10.19 (Python 3.11)", INSTALL]),
        (f"py.v=3.13 parsl.v={OURS}", ["they have Python 3.13, and this side has Python 3."]),
        ("something new", ["they have something new", INSTALL]),
    ],
)
def test_what_parsl_itself_finds_to_differ(theirs, words):
    found = why(block(), error=VersionMismatch(f"py.v=3.11 parsl.v={OURS}", theirs))
    for word in words:
        assert word in found


def test_a_block_that_fails_for_another_reason_shows_what_it_wrote():
    found = why(
        block(told(OURS) + "module: no such module: pyhf", exit_code=1), block("", exit_code=1)
    )
    assert "1 ended with exit status 1: module: no such module: pyhf; 1 ended with" in found
    assert "pyhf-faas: Parsl" not in found
    assert "the logs in /scripts" in found
    alike = [block(f"/spool/job{number}/script: no such file") for number in range(7, 10)]
    assert "before they have done anything: 3 ended with exit status 2: /spool/job7/" in why(*alike)
    assert why(error=RuntimeError("no\nroom")) == "its blocks fail: no room"


@pytest.mark.parametrize("name", ["parsl.torque.block-1.17.25.submit", "htcondor.block-1.17.25"])
def test_what_a_block_wrote_is_found_where_its_provider_does_not_say_where(tmp_path, name):
    """As of Torque, HTCondor and Grid Engine."""
    said = "Job is marked as MISSING since the workers failed to register to the executor."
    (tmp_path / f"{name}.stderr").write_text("activate: no such file\n")
    (tmp_path / f"{name}.stdout").write_text("")
    (tmp_path / f"{name.replace('block-1', 'block-10')}.stderr").write_text("of another block\n")
    lost, silent = (JobStatus(JobState.MISSING, said) for _ in range(2))
    executor = SimpleNamespace(
        status_facade={"1": lost, "2": silent},
        executor_exception=None,
        provider=SimpleNamespace(script_dir=str(tmp_path)),
    )
    found = failed_blocks(executor)
    assert "1 ended: activate: no such file; 1 ended. Check worker_init" in found
    assert f"the logs in {tmp_path}" in found
    executor.provider.script_dir = None  # pods have none
    assert "the logs" not in failed_blocks(executor)


def test_what_a_block_says_of_its_parsl_does_not_hide_the_rest():
    assert said_by(block(told(OURS), stdout="out of quota")) == "out of quota"
    assert said_by(block(told(OURS), message="MISSING")) == "MISSING"


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("has_parsl", [True, False])
def test_a_block_says_which_parsl_it_has(tmp_path, shell, has_parsl):
    """Whatever it has, it goes on, also under ``set -e``."""
    if not has_parsl:
        (tmp_path / "python3").write_text("#!/bin/sh\necho no parsl >&2; exit 1\n")
        (tmp_path / "python3").chmod(0o755)
    path = str(Path(sys.executable).parent) if has_parsl else str(tmp_path)
    done = subprocess.run(
        [shell, "-c", f"set -e{TELL_PARSL}echo went on"],
        env={"PATH": f"{path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "went on\n"
    assert bool(done.stderr) == has_parsl
    if has_parsl:
        assert done.stderr.startswith(f"pyhf-faas: Parsl {OURS} of ")
        assert why(block(done.stderr)).startswith("its blocks of workers end")
