"""Each benchmark runs: on the smallest input, as a user would start it."""

import subprocess
import sys

import pytest

from tests.helpers.paths import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
SMALL = ["--pallet", "synthetic", "--patch", "synthetic_600_300", "--toys", "2", "--workers", "1"]
SMALLEST = {
    "big_report.py": [["20", "--rounds", "1"]],
    "certify.py": [
        ["evaluation", "synthetic", "--rounds", "2"],
        ["hypothesis", "synthetic", "--patches", "1"],
        ["memory", "synthetic", "--patches", "1"],
        ["whole", "synthetic", "--patches", "1", "--rounds", "1", "--workers", "1"],
    ],
    "compare_engines.py": [["synthetic:2", "local:1"]],
    "compare_ways.py": [["synthetic:1", "--rounds", "1", "--workers", "1"]],
    "fault_table.py": [["-k", "test_a_worker_that_exits_in_mid_fit and local"]],
    "idle_tail.py": [["synthetic", "2"]],
    "limits_and_toys.py": [
        ["limits", "pyhf", "toys", "nextstat", "size", "memory", *SMALL],
    ],
    "table1.py": [["--analysis", "SS3L", "--trials", "1", "--speed-up", "1000", "--blocks", "1"]],
    "make_scan.py": [["50", "{directory}", "--pallet", "synthetic"]],
    "scan.py": [["3", "--pallet", "synthetic", "--endpoint", "local:1"]],
    "throughput.py": [["--count", "20", "local:1"], ["--fits", "--count", "2", "local:1"]],
}
#: What the last one says, or a row of its table.
SAYS = {
    "big_report.py": "20 hypotheses: written in",
    "certify.py": "synthetic",
    "compare_engines.py": "| local:1 |",
    "compare_ways.py": "bytes sent for all 43:",
    "fault_table.py": "| worker exits once | local | 6 |",
    "idle_tail.py": "| as in the patchset |",
    "limits_and_toys.py": "larger",
    "table1.py": "| SS3L | 1 | warm | 1 |",
    "make_scan.py": "50 points:",
    "scan.py": "cls.csv: 3 of 3 rows; verdicts: {'not compared': 3}",
    "throughput.py": "| local:1 |",
}


def test_each_benchmark_has_a_smoke_run():
    found = {path.name for path in BENCHMARKS.glob("*.py")} - {"machine.py", "replay.py"}
    assert found == set(SMALLEST)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(name, words, id="-".join([name.removesuffix(".py"), words[0]]))
        for name, runs in SMALLEST.items()
        for words in runs
    ],
)
def test_a_benchmark_prints_its_machine_and_a_result(name, words, tmp_path):
    words = [word.format(directory=tmp_path / "made") for word in words]
    command = [sys.executable, str(BENCHMARKS / name), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    machine, versions, *lines = done.stdout.splitlines()
    assert machine.startswith("# machine: ")
    assert versions.startswith("# versions: Python ")
    assert any(SAYS[name] in line for line in lines), done.stdout
