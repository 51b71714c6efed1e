"""A scan of many model points, made of a published pallet: written, then opened.

    python benchmarks/make_scan.py COUNT DIRECTORY [--pallet NAME] [--seed N] [--parquet]

Each point lies between two neighbours of the pallet's grid, and its yields between theirs, with
noise of 10 %. The same seed gives the same scan. What opening it costs is in addition to what a
scan of one point does, each in a process of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from machine import print_machine

from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.packing import unpack

NOISE = 0.1
NEIGHBOURS = 4
SAMPLE_OF = re.compile(r"/channels/(\d+)/samples/(?:\d+|-)")
OPEN = r"""\
import re, sys, time
from pathlib import Path
from pytest_pyhf_faas.pallets.read import read_pallets
begin = time.process_time()
(pallet,) = read_pallets(sys.argv[1])
opened = time.process_time() - begin
for patch in pallet.patches:
    patch.digest
digested = time.process_time() - begin - opened
# not ru_maxrss, which has the peak of the process that started this one
peak = int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
print(opened, digested, peak / 1024)
"""


def grid(pallet, background) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Values and yields of the pallet's own signals, and the columns of the yields."""
    sizes = [len(each["samples"][0]["data"]) for each in background["channels"]]
    begins = np.cumsum([0, *sizes])
    values, yields = [], []
    for patch in pallet.patches:
        row = np.zeros(begins[-1])
        for operation in patch.operations:
            place = SAMPLE_OF.fullmatch(operation["path"])
            if operation["op"] == "add" and place:
                channel = int(place[1])
                row[begins[channel] : begins[channel + 1]] = operation["value"]["data"]
        if row.any():
            values.append(patch.values)
            yields.append(row)
    names = [each["name"] for each in background["channels"]]
    columns = [f"{name}[{i}]" for name, size in zip(names, sizes, strict=True) for i in range(size)]
    return np.array(values, dtype=float), np.maximum(yields, 0.0), columns


def scan(values, yields, count, seed) -> tuple[np.ndarray, np.ndarray]:
    """Values and yields of so many points between neighbours."""
    draw = np.random.default_rng(seed)
    scaled = values / np.ptp(values, axis=0).clip(1e-9)
    distances = np.linalg.norm(scaled[:, None] - scaled, axis=2)
    near = np.argsort(distances, axis=1)[:, 1 : NEIGHBOURS + 1]
    one = draw.integers(len(values), size=count)
    other = near[one, draw.integers(near.shape[1], size=count)]
    share = draw.random((count, 1))
    shift = draw.normal(0.0, 0.5, (count, values.shape[1]))  # so that no two points are the same
    mixed = (1 - share) * yields[one] + share * yields[other]
    points = (1 - share) * values[one] + share * values[other] + shift
    return points.round(5), mixed * np.exp(draw.normal(0.0, NOISE, mixed.shape))


def write(directory, background, pallet, points, yields, columns, *, parquet) -> Path:
    """Write the background and the table."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "BkgOnly.json").write_text(json.dumps(background))
    header = ["name", *(f"value:{label}" for label in pallet.labels), *columns]
    names = [f"point_{number}" for number in range(len(points))]
    if parquet:
        import pyarrow as pa
        import pyarrow.parquet as pq

        cells = [names, *points.T, *yields.T]
        path = directory / "scan.parquet"
        pq.write_table(pa.table(dict(zip(header, cells, strict=True))), path)
        return path
    path = directory / "scan.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(header)
        for name, values, rates in zip(names, points, yields, strict=True):
            table.writerow([name, *values.tolist(), *(f"{rate:.6g}" for rate in rates)])
    return path


def opened(directory: Path) -> tuple[float, float, float]:
    """CPU seconds to open it and to take all digests, and the peak of memory in MiB."""
    command = [sys.executable, "-c", OPEN, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second, peak = map(float, done.stdout.split())
    return first, second, peak


def main() -> None:
    """Write a scan and say what opening it costs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("count", type=int)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pallet", default="2L0J_simplified")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parquet", action="store_true")
    arguments = parser.parse_args()
    print_machine()
    (pallet,) = catalogue.resolve(
        arguments.pallet, search_path=catalogue.search_path_from_environment()
    )
    background = unpack(pallet.background)
    values, yields, columns = grid(pallet, background)
    points, rates = scan(values, yields, arguments.count, arguments.seed)
    what = background, pallet, points, rates, columns
    path = write(arguments.directory, *what, parquet=arguments.parquet)
    one = arguments.directory / "one"
    write(one, background, pallet, points[:1], rates[:1], columns, parquet=arguments.parquet)
    least = opened(one)
    for file in one.iterdir():
        file.unlink()
    one.rmdir()
    cost = opened(arguments.directory)
    print(
        f"{arguments.count:,} points: {path.stat().st_size / 1e6:.1f} MB; opened in "
        f"{cost[0] - least[0]:.2f} s of CPU, all digests in {cost[1]:.2f} s, with "
        f"{cost[2] - least[2]:.0f} MiB more than one point"
    )


if __name__ == "__main__":
    main()
