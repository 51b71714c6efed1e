"""An installer and a suite that stand in for real ones, as processes of their own."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

from pytest_pyhf_faas.gate.installer import Installer
from tests.helpers import report_documents as make

#: Makes `bin/python` of an environment, which is the suite below.
_MAKE = """
import pathlib, sys
python = pathlib.Path(sys.argv[1], "bin", "python")
python.parent.mkdir(parents=True)
python.write_text(f"#!/bin/sh\\nexec {sys.executable} {sys.argv[2]} $(dirname $0)/.. \\"$@\\"\\n")
python.chmod(0o755)
"""
#: Fails as an installer does where it is told to, and says what is installed.
_INSTALL = """
import json, pathlib, sys
directory, plan, *requirements = sys.argv[1:]
for requirement, output in json.loads(plan).items():
    if requirement in requirements:
        sys.exit(output)
pathlib.Path(directory, "installed.json").write_text(json.dumps(requirements))
"""
#: Ends as it is told to for what is installed, and writes a report.
_SUITE = """
import json, os, pathlib, signal, sys, time
environment, here = pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent
words = dict(word.partition("=")[::2] for word in sys.argv[2:])
installed = json.loads((environment / "installed.json").read_text())
told = json.loads((here / "plan.json").read_text())
cell = pathlib.Path(words["--faas-report"]).parent
journals = cell / ".pytest_cache/d/pyhf-faas"
journals.mkdir(parents=True, exist_ok=True)
(journals / "one.jsonl").touch()
with (here / "suites.log").open("a") as log:
    log.write(json.dumps({"cell": cell.name, "words": sys.argv[2:], "pid": os.getpid()}) + "\\n")
does = next((told[name] for name in (cell.name, *installed) if name in told), {})

def write(exit_status, interrupted=False):
    document = json.loads((here / "report.json").read_text())
    document["run"] |= {"exit_status": exit_status, "interrupted": interrupted}
    if "not_ready" in does:
        failure = {"test": "test_endpoint", "outcome": "failed", "text": does["not_ready"]}
        document["run"]["failures"] = [failure]
        document["analyses"][0]["hypotheses"][0] |= {"status": None, "verdict": "not run"}
    (cell / "report.json").write_text(json.dumps(document))
    sys.exit(exit_status)

for line in does.get("says", []):
    print(line, flush=True)
if "signal" in does:
    os.kill(os.getpid(), does["signal"])
hears = signal.signal(signal.SIGINT, signal.SIG_IGN) if "deaf" in does else None
try:
    while "until" in does and not (here / does["until"]).exists():
        time.sleep(0.02)
except KeyboardInterrupt:
    write(2, interrupted=True)
if does.get("exit", 0) in (0, 1) and "says" not in does:
    write(does.get("exit", 0))
sys.exit(does.get("exit", 0))
"""


@dataclass(frozen=True, slots=True)
class StandIn(Installer):
    """An installer whose environments hold nothing but a suite that does as it is told."""

    place: Path = Path()
    fails: str = "{}"

    def make(self, directory, interpreter):
        return [sys.executable, "-c", _MAKE, str(directory), str(self.place / "suite.py")]

    def install(self, directory, requirements):
        return [sys.executable, "-c", _INSTALL, str(directory), self.fails, *requirements]

    def available(self, distribution):
        return ["0.7.0", "0.7.1", "0.7.6"]


class Place:
    """Where the suites of a gate are told what to do, and what they did."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        (path / "suite.py").write_text(textwrap.dedent(_SUITE))
        document = make.document([make.analysis([make.hypothesis()])])
        (path / "report.json").write_text(json.dumps(document))
        self.suites_do()

    def suites_do(self, **by_cell_or_requirement):
        """Say what suites do: exit, says (lines), signal (itself), until (a file is there)."""
        (self.path / "plan.json").write_text(json.dumps(by_cell_or_requirement))

    def installer(self, **fails):
        """Return an installer that fails for some requirements, with what it writes."""
        return StandIn(None, self.path, json.dumps(fails))

    def suites(self):
        """Return what suites were run: directory, words and process."""
        log = self.path / "suites.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def let_go(self, name):
        (self.path / name).touch()
