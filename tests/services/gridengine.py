"""A real Grid Engine of one host, without its installer: for the tests and CI.

Run as a script it starts and stops one from a shell::

    eval "$(python tests/services/gridengine.py start /tmp/ge)"; qhost
    python tests/services/gridengine.py stop /tmp/ge

Tried with the Grid Engine of Debian 12 (8.1.9), as root.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import re
import shutil
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.processes import (
    SYSTEM_PATH,
    DebianService,
    MarkedProcesses,
    ServiceError,
    call,
    free_ports,
    missing,
    tails,
    wait_for,
    wait_while_alive,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("gridengine-master", "gridengine-exec", "gridengine-client")
#: Where Debian has the programs, without the directories that Grid Engine looks for.
PROGRAMS = Path("/usr/lib/gridengine")
SHARED = Path("/usr/share/gridengine")
NEEDED = ("sge_qmaster", "sge_execd", "sge_shepherd", "spoolinit", "spooldefaults")
CLIENTS = ("qacct", "qconf", "qdel", "qstat", "qsub")
ARCHITECTURE = "lx-amd64"
QUEUE = "all.q"
#: The name that most sites give the parallel environment of one host.
PARALLEL_ENVIRONMENT = "smp"
REMEDY = f"run `python tests/services/gridengine.py install` (Debian: {' '.join(PACKAGES)})"

BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {spooling}
binary_path {programs}
qmaster_spool_dir {root}/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
#: What is changed in Debian's default configuration: a host that is known, root, and quick news.
CONFIGURATION = {
    "execd_spool_dir": "{root}/execd",
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:05",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false "
    "sharelog=00:00:00",
    # What a job leaves behind is found by an additional group, and ends with it.
    "execd_params": "ENABLE_ADDGRP_KILL=true",
}
#: Every second, and at once when a job comes or ends.
SCHEDULING = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
_LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")
#: All attributes must be named.
QUEUE_CONF = {
    "qname": QUEUE,
    "hostlist": "localhost",
    "seq_no": "0",
    "nsuspend": "1",
    "suspend_interval": "00:05:00",
    "priority": "0",
    "min_cpu_interval": "00:05:00",
    "processors": "UNDEFINED",
    "qtype": "BATCH",
    "pe_list": PARALLEL_ENVIRONMENT,
    "rerun": "FALSE",
    "slots": "{slots}",
    "tmpdir": "/tmp",
    "shell": "/bin/sh",
    "shell_start_mode": "posix_compliant",
    "notify": "00:00:60",
    "initial_state": "default",
    **dict.fromkeys(
        (
            *("load_thresholds", "suspend_thresholds", "ckpt_list", "prolog", "epilog"),
            *("starter_method", "suspend_method", "resume_method", "terminate_method"),
            *("owner_list", "user_lists", "xuser_lists", "subordinate_list", "complex_values"),
            *("projects", "xprojects", "calendar"),
        ),
        "NONE",
    ),
    **{f"{kind}_{limit}": "INFINITY" for limit in _LIMITS for kind in "sh"},
}
PE_CONF = {
    "pe_name": PARALLEL_ENVIRONMENT,
    "slots": "999",
    "user_lists": "NONE",
    "xuser_lists": "NONE",
    "start_proc_args": "NONE",
    "stop_proc_args": "NONE",
    "allocation_rule": "$pe_slots",
    "control_slaves": "FALSE",
    "job_is_first_task": "TRUE",
    "urgency_slots": "min",
    "qsort_args": "NONE",
    "accounting_summary": "FALSE",
}


class LocalGridEngine(DebianService):
    """A Grid Engine of one host, which is this machine under the name localhost.

    Everything but the packages lives in one directory; several may run at once. Each start after a
    `stop` is a fresh one: no jobs, numbers from 1. Its daemons listen on all addresses, as they
    always do, but take orders from localhost alone.

    Parameters
    ----------
    directory
        Where configuration, state and logs go; made if missing, not removed.
    slots
        How many the queue has, which may exceed the machine's cores.
    """

    packages = PACKAGES

    def __init__(self, directory: Path, *, slots: int = 64) -> None:
        super().__init__(directory)
        self.slots = slots
        self._processes = MarkedProcesses(self.directory)

    @staticmethod
    def lacking() -> list[str]:
        """Return which of the programs are not there."""
        return [*missing(NEEDED, str(PROGRAMS)), *missing(CLIENTS)]

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment."""
        ports = (self._root / "ports").read_text(encoding="utf-8").split()
        return {
            "SGE_ROOT": str(self._root),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": ports[0],
            "SGE_EXECD_PORT": ports[1],
        }

    def run(self, *command: str) -> str:
        """Run one of its commands as a user would, and return what it wrote."""
        return call(command, timeout=30, env={"PATH": SYSTEM_PATH, **self.env})

    def jobs(self) -> dict[str, str]:
        """Tell the jobs that have not ended, and their states as `qstat` writes them."""
        lines = self.run("qstat", "-u", "*").splitlines()[2:]
        return {words[0]: words[4] for words in map(str.split, lines)}

    def cancel(self, job: str) -> None:
        """End a job, as its owner or an administrator would from another shell."""
        self.run("qdel", job)

    @property
    def _root(self) -> Path:
        return self.directory / "root"

    @property
    def _logs(self) -> list[Path]:
        places = ("qmaster.out", "root/qmaster/messages", "execd.out", "root/execd/*/messages")
        return [path for place in places for path in sorted(self.directory.glob(place))]

    def _check(self) -> None:
        if not self.installed():
            raise ServiceError(f"Grid Engine is not installed. Remedy: {REMEDY}")

    def _start(self) -> None:
        if self._processes.found() and self._is_ready():
            return
        self._stop()
        self._configure()
        env = {"PATH": SYSTEM_PATH, "LD_LIBRARY_PATH": str(PROGRAMS), **self.env}
        self._launch("qmaster", env)
        self._wait("qmaster", self._answers)
        self._launch("execd", env)
        self.run("qconf", "-as", "localhost")  # jobs may be submitted here
        self.run("qconf", "-Ap", self._file("pe", PE_CONF))
        queue = {key: value.format(slots=self.slots) for key, value in QUEUE_CONF.items()}
        self.run("qconf", "-Aq", self._file("queue", queue))
        scheduling = _changed(self.run("qconf", "-ssconf"), SCHEDULING)
        (self._root / "scheduling").write_text(scheduling, encoding="utf-8")
        self.run("qconf", "-Msconf", str(self._root / "scheduling"))
        self._wait("execd", self._is_ready)

    def _configure(self) -> None:
        root, cell = self._root, self._root / "default" / "common"
        for name in ("bin", "lib", "utilbin", "qmaster/job_scripts", "execd"):
            (root / name).mkdir(parents=True, exist_ok=True)
        cell.mkdir(parents=True)
        for name in ("bin", "lib", "utilbin"):
            (root / name / ARCHITECTURE).symlink_to(PROGRAMS)
        (root / "util").symlink_to(SHARED / "util")
        (root / "ports").write_text(" ".join(map(str, free_ports(2))))
        (cell / "act_qmaster").write_text("localhost\n")
        # Whatever this machine is called, it is the host that clients and jobs know.
        (cell / "host_aliases").write_text(f"localhost {socket.gethostname()}\n")
        spooling = f"{cell};{root}/qmaster"
        (cell / "bootstrap").write_text(
            BOOTSTRAP.format(root=root, programs=PROGRAMS, spooling=spooling)
        )
        text = (SHARED / "default-configuration").read_text(encoding="utf-8")
        changes = {key: value.format(root=root) for key, value in CONFIGURATION.items()}
        (root / "configuration").write_text(_changed(text, changes), encoding="utf-8")
        env = {"PATH": SYSTEM_PATH, "LD_LIBRARY_PATH": str(PROGRAMS), **self.env}
        call(
            [f"{PROGRAMS}/spoolinit", "classic", "libspoolc", spooling, "init"], timeout=30, env=env
        )
        for words in (
            ("configuration", root / "configuration"),
            ("complexes", SHARED / "util" / "resources" / "centry"),
            ("usersets", SHARED / "util" / "resources" / "usersets"),
            ("managers", getpass.getuser()),
            ("adminhosts", "localhost"),
        ):
            call([f"{PROGRAMS}/spooldefaults", *map(str, words)], timeout=30, env=env)

    def _file(self, name: str, attributes: dict[str, str]) -> str:
        path = self._root / name
        path.write_text("".join(f"{key} {value}\n" for key, value in attributes.items()))
        return str(path)

    def _launch(self, name: str, env: dict[str, str]) -> None:
        command = [PROGRAMS / f"sge_{name}"]
        output = self.directory / f"{name}.out"
        self._processes.launch(command, env=env, output=output, cwd=self.directory, daemon=True)

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        def alive() -> object:
            return self._processes.found(lambda words: words[0].endswith(f"sge_{name}"))

        if problem := wait_while_alive(ready, alive, 30):
            raise ServiceError(f"Grid Engine's {name} {problem}:\n{tails(self._logs)}")

    def _answers(self) -> bool:
        with contextlib.suppress(ServiceError):
            return "localhost" in self.run("qconf", "-sh").split()
        return False

    def _is_ready(self) -> bool:
        """Whether its host has reported, and is in no state that keeps jobs away."""
        with contextlib.suppress(ServiceError, OSError):
            shown = re.search(rf"^{QUEUE}@localhost (.*)$", self.run("qstat", "-f"), re.MULTILINE)
            return shown is not None and shown[1].split()[3:] == [ARCHITECTURE]
        return False

    def _stop(self) -> None:
        if self._processes.found():
            with contextlib.suppress(ServiceError):
                if jobs := self.jobs():  # so that what waits for them is told
                    self.run("qdel", *jobs)
                    wait_for(lambda: not self.jobs(), 3)
        self._processes.kill()
        shutil.rmtree(self._root, ignore_errors=True)


def _changed(text: str, changes: dict[str, str]) -> str:
    """Return a configuration with other values of some attributes."""
    for key, value in changes.items():
        line = re.compile(rf"^{key}\b.*$", re.MULTILINE)
        assert line.search(text), key
        text = line.sub(f"{key} {value}", text)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Start or stop a Grid Engine from the command line.

    Parameters
    ----------
    arguments
        Those of the command line by default.

    Returns
    -------
    int
        The exit status: 0 if all went well, 1 if not.
    """
    parser = argparse.ArgumentParser(description="A real Grid Engine of one host.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the Debian packages")
    for name, help_ in [
        ("start", "start it, print the shell commands that select it"),
        ("stop", "end it and its jobs"),
    ]:
        commands.add_parser(name, help=help_).add_argument("directory", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        if options.command == "install":
            LocalGridEngine.install()
            return 0
        service = LocalGridEngine(options.directory)
        getattr(service, options.command)()
        if options.command == "start":
            for name, value in service.env.items():
                print(f"export {name}={value}")
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
