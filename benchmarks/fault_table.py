"""Run the fault tests and make a table of what they noted down.

``python benchmarks/fault_table.py [-k slurm]``; words that follow go to pytest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree as ET

from machine import print_machine

DIRECTORY = Path(__file__).parents[1] / "tests" / "engines"
TESTS = [str(DIRECTORY / name) for name in ("test_faults.py", "test_globus_faults.py")]
COLUMNS = ("fault", "engine", "fits", "executed", "counted", "lost", "doubled", "noticed_s", "left")


def main() -> int:
    print_machine()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "faults.xml"
        command = [sys.executable, "-m", "pytest", *TESTS, "-q", "-ojunit_family=xunit1"]
        command.append(f"--junitxml={report}")
        code = subprocess.run([*command, *sys.argv[1:]], check=False).returncode
        properties = ET.parse(report).getroot().iter("property")
        rows = [json.loads(p.get("value")) for p in properties if p.get("name") == "fault_row"]
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for row in sorted(rows, key=lambda row: row["fault"]):
        if row["noticed_s"] is not None:
            row["noticed_s"] = f"{row['noticed_s']:.1f}"
        print(
            "| "
            + " | ".join("" if row[name] is None else str(row[name]) for name in COLUMNS)
            + " |"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
