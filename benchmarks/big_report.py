"""The report of many hypotheses: seconds to write it, its size, seconds until a browser shows it.

    python benchmarks/big_report.py [COUNT] [--directory DIR] [--rounds N]

The fits are made up (`tests/helpers/report_documents.py`): half of the hypotheses right, some
wrong, some broken with the same long error. The seconds of the browser are those of headless
Chromium with the page, less those with an empty one.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice, product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import print_machine

from pytest_pyhf_faas.report.publish import publish
from tests.helpers import report_documents as documents

BROWSER = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,2000",
)


def many(count):
    """Return a document with so many hypotheses on a grid of two masses."""
    side = math.ceil(math.sqrt(count))
    points = islice(product(range(side), range(side)), count)
    hypotheses = []
    for number, (column, row) in enumerate(points):
        m1, m2 = 200 + 1000 * column / side, 500 * row / side
        make = documents.hypothesis
        if number % 20 == 0:
            make = documents.wrong
        elif number % 50 == 1:
            make = documents.broken
        hypotheses.append(make(f"wino_{number}", (round(m1, 1), round(m2, 1))))
    trials = [documents.trial(fits=count, workers=64, wall_s=800.0) for _ in range(2)]
    return documents.document(
        [
            documents.analysis(
                hypotheses,
                timeline=documents.timeline(count, 64, 800.0),
                wall_time={"test": "test_walltime[wino]", "trials": trials},
            )
        ]
    )


def seconds_to_show(page, shot):
    """Return how long the browser takes until it has drawn a page."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [*BROWSER, f"--user-data-dir={profile}", f"--screenshot={shot}", page.as_uri()],
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print_machine()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        document = many(arguments.count)
        began = time.perf_counter()
        problems = publish(document, directory)
        print(f"{arguments.count} hypotheses: written in {time.perf_counter() - began:.1f} s")
        for problem in problems:
            print(problem)
        for name in ("report.json", "report.html"):
            print(f"{name}: {(directory / name).stat().st_size / 1e6:.2f} MB")
        if shutil.which(BROWSER[0]) is None:
            print(f"{BROWSER[0]} is not here: not shown")
            return
        empty = Path(temporary) / "empty.html"
        empty.write_text("<!doctype html><title>empty</title>", encoding="utf-8")
        shot = Path(temporary) / "shot.png"
        seconds_to_show(empty, shot)  # fills the caches
        pairs = [
            (seconds_to_show(directory / "report.html", shot), seconds_to_show(empty, shot))
            for _ in range(arguments.rounds)
        ]
        shown = statistics.median(page - nothing for page, nothing in pairs)
        print(f"shown after {shown:.1f} s (an empty page: {pairs[0][1]:.1f} s)")


if __name__ == "__main__":
    main()
