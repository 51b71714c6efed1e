"""Run the fault tests and make a table of what they noted down.

``python benchmarks/fault_table.py [-k cluster_faults]``; words that follow go to pytest. The
cluster has four nodes then instead of two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from machine import print_machine

DIRECTORY = Path(__file__).parents[1] / "tests" / "engines"
NAMES = ("test_faults.py", "test_globus_faults.py", "test_cluster_faults.py")
TESTS = [str(DIRECTORY / name) for name in NAMES]
COLUMNS = (
    "fault",
    "engine",
    "fits",
    "executed",
    "counted",
    "lost",
    "doubled",
    "noticed_s",
    "replaced_s",
    "left",
    "wall_s",
)


def shown(value: object) -> str:
    """As it stands in the table."""
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def main() -> int:
    print_machine()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "faults.xml"
        command = [sys.executable, "-m", "pytest", *TESTS, "-q", "-ojunit_family=xunit1"]
        command.append(f"--junitxml={report}")
        env = {**os.environ, "FAAS_FAULT_TABLE": "all"}
        code = subprocess.run([*command, *sys.argv[1:]], env=env, check=False).returncode
        properties = ET.parse(report).getroot().iter("property")
        rows = [json.loads(p.get("value")) for p in properties if p.get("name") == "fault_row"]
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row in sorted(rows, key=lambda row: row["fault"]):
        print("| " + " | ".join(shown(row.get(name)) for name in COLUMNS) + " |")
    return code


if __name__ == "__main__":
    sys.exit(main())
