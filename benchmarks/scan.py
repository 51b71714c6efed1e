"""A scan as a user runs it: seconds, memory over time, killed in the middle and resumed.

    python benchmarks/scan.py COUNT [--directory DIR] [--pallet NAME] [--endpoint SPEC]
        [--plot FILE]

Made by `make_scan.py` of a pallet, certified, in one item, with a report. The first run is
killed when half of the fits are in its journal; the second goes on. The memory is that of the
client alone, as /proc has it, without that of the workers.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import print_machine

from pytest_pyhf_faas.report import document as documents

SAMPLE_S = 0.5
WORKERS_END_S = 60.0
RESULT = b'"event": "result"'


class Run:
    """A run of the suite, watched from outside."""

    def __init__(self, scan: Path, directory: Path, endpoint: str, *words: str) -> None:
        self.journals = directory / ".pytest_cache" / "d" / "pyhf-faas"
        self._before = set(self.journals.glob("*.jsonl"))
        self.began = time.monotonic()
        command = [sys.executable, "-m", "pytest_pyhf_faas", "validate", "-k", "test_cls"]
        command += [f"--faas-endpoint={endpoint}", f"--faas-pallet={scan}", "-rs"]
        command += ["--faas-method=certified", "--faas-items=analysis", "--faas-report=report"]
        self._output = (directory / "output.txt").open("w")
        self.process = subprocess.Popen(
            [*command, *words],
            cwd=directory,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.memory: list[tuple[float, float]] = []
        self.first_s = math.nan
        self._read, self.fits = 0, 0

    def watch(self, until: int | None = None) -> None:
        """Look at it until it ends, or so many fits are in its journal."""
        while self.process.poll() is None:
            now = time.monotonic() - self.began
            mib = resident_mib(self.process.pid)
            if mib is not None:
                self.memory.append((now, mib))
            self._count()
            if self.fits and math.isnan(self.first_s):
                self.first_s = now
            if until is not None and self.fits >= until:
                return
            time.sleep(SAMPLE_S)
        self._output.close()

    def kill(self) -> None:
        """Kill the client alone, and wait until its workers have noticed."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + WORKERS_END_S
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self.process.pid, 0)
                time.sleep(SAMPLE_S / 5)

    def _count(self) -> None:
        for path in set(self.journals.glob("*.jsonl")) - self._before:
            with path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            self._read += len(new)
            self.fits += new.count(RESULT)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def peak_mib(self) -> float:
        return max(mib for _, mib in self.memory)


def resident_mib(pid: int) -> float | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def plot(runs: list[tuple[str, Run]], count: int, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for name, run in runs:
        axes.plot(*zip(*run.memory, strict=True), label=name)
    axes.axhline(400, color="grey", linestyle=":", label="the limit")
    axes.set(xlabel="time [s]", ylabel="client memory [MiB]", ylim=(0, None))
    axes.set_title(f"{count:,} hypotheses, one item")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--pallet", default="2L0J_simplified")
    parser.add_argument("--endpoint", default="local:2")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    print_machine()
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="scan-"))
    directory.mkdir(parents=True, exist_ok=True)
    scan, count = directory / "scan", arguments.count
    make = Path(__file__).with_name("make_scan.py")
    subprocess.run(
        [sys.executable, make, str(count), scan, "--pallet", arguments.pallet],
        check=True,
        stdout=subprocess.DEVNULL,
    )

    killed = Run(scan, directory, arguments.endpoint)
    killed.watch(until=count // 2)
    killed.kill()
    print(
        f"first run: killed after {killed.seconds:.0f} s with {killed.fits} fits in the journal, "
        f"the first after {killed.first_s:.1f} s; client {killed.peak_mib:.0f} MiB"
    )
    resumed = Run(scan, directory, arguments.endpoint, "--faas-resume")
    resumed.watch()
    print(
        f"resumed: {resumed.fits} fits, the first after {resumed.first_s:.1f} s; ended with status "
        f"{resumed.process.returncode} after {resumed.seconds:.0f} s; client "
        f"{resumed.peak_mib:.0f} MiB"
    )
    fits_s = [run.seconds - run.first_s for run in (killed, resumed)]
    print(f"all fits: {sum(fits_s):.0f} s on {arguments.endpoint}, the report included")
    report = directory / "report"
    with (report / "cls.csv").open(newline="") as file:
        rows = sum(1 for _ in csv.DictReader(file))
    (analysis,) = documents.read(report)["analyses"]
    print(f"cls.csv: {rows} of {count} rows; verdicts: {analysis['whole']['verdicts']}")
    for path in (report / "report.html", report / "report.json", *report.glob("*.gz")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    journal = sum(path.stat().st_size for path in resumed.journals.glob("*.jsonl"))
    print(f"journals: {journal / 1e6:.0f} MB, {journal / count:.0f} bytes for each hypothesis")
    if arguments.plot is not None:
        plot([("killed in the middle", killed), ("resumed", resumed)], count, arguments.plot)
    if arguments.directory is None:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
