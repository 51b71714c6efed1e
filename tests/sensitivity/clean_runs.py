"""Run the suite with an unharmed pyhf on the bundled pallet, and count the false alarms.

``python tests/sensitivity/clean_runs.py [--runs 3] [--fit-setup numpy+scipy ...]`` prints the
lines of a table: outcomes, seconds, the largest relative difference of CLs from the reference, and
the rtol that would have accepted all of them, next to the atol that a comparison has by default.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree as ET

REPOSITORY = Path(__file__).parents[2]
FIT_SETUPS = ("numpy+scipy", "numpy+minuit", "jax+scipy", "jax+minuit")
LABELS = ("CLs_obs", "CLs_exp_-2sigma", "CLs_exp_-1sigma", "CLs_exp", "CLs_exp_+1sigma")
LABELS += ("CLs_exp_+2sigma",)
ATOL = 1e-6


def run(fit_setup, junit):
    """Run the suite as a user does, and return its last line and the seconds that it took."""
    backend, optimizer = fit_setup.split("+")
    options = ("--faas-backend", backend, "--faas-optimizer", optimizer, f"--junitxml={junit}")
    words = [sys.executable, "-m", "pytest", "-q", "--funcx-endpoint", "local:2", *options]
    began = time.monotonic()
    done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[-1], time.monotonic() - began


def differences(junit):
    """Return (patch, label, relative difference, rtol that it needs beyond the atol)."""
    reference = json.loads((REPOSITORY / "reference_results" / "synthetic.json").read_text())
    for case in ET.parse(junit).getroot().iter("testcase"):
        properties = {item.get("name"): item.get("value") for item in case.iter("property")}
        patch = case.get("name").partition("-")[2].rstrip("]")
        expected = reference["patches"].get(patch)
        if expected is None or "CLs_obs" not in expected or "CLs_obs" not in properties:
            continue
        values = [expected["CLs_obs"], *expected["CLs_exp"]]
        for label, right in zip(LABELS, values, strict=True):
            off = abs(float(properties[label]) - right)
            yield patch, label, off / right, (off - ATOL) / right


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--fit-setup", action="append", choices=FIT_SETUPS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        junit = Path(directory) / "junit.xml"
        for number in range(1, arguments.runs + 1):
            for fit_setup in arguments.fit_setup or FIT_SETUPS:
                last, seconds = run(fit_setup, junit)
                rows = list(differences(junit))
                off = max(rows, key=lambda row: row[2])
                need = max(rows, key=lambda row: row[3])
                print(
                    f"{fit_setup} | run {number} | {last} | {seconds:.0f} s | "
                    f"{off[2]:.1e} ({off[0]} {off[1]}) | rtol {need[3]:.1e} ({need[0]} {need[1]})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
