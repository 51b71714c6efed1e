"""Fit some patches of a pallet in five ways, measured in turn in one run, and print a table.

    PYHF_PALLET_PATH=... python benchmarks/compare_ways.py 1Lbb:20 sbottom_RegionB

A pallet's name may carry how many of its patches are fitted, spread over the grid. The ways:

ours
    ``pytest --faas-pallet ...`` of this package, the whole process, start-up included.
loop (a)
    One process, one `pyhf.Workspace`, and for each patch ``workspace.model`` and ``hypotest``.
published (b)
    One task for each patch on the same engine, the `pyhf.Workspace` pickled into each of them.
xdist (c)
    A parametrised test that builds its workspace and model, under ``pytest -n WORKERS``.
cls (d)
    The command ``pyhf cls`` for each patch, as many at a time as there are workers.

Every way has the same number of workers (the loop has one) and one thread for linear algebra. The
ways take turns, so that a machine whose speed drifts harms none of them; a ratio is the median over
the rounds of the ratios within a round. All ways must find the same CLs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

from machine import print_machine

from pytest_pyhf_faas.campaign.times import PARTS

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
WAYS = ("ours", "loop", "published", "xdist", "cls")
MODIFIER_SETTINGS = {
    "normsys": {"interpcode": "code4"},
    "histosys": {"interpcode": "code4p"},
}
#: Start-up, models and fits of different processes must end in the same minima.
SAME_CLS = 1e-7

XDIST_TEST = """
import json, os, pathlib, pytest, pyhf
HERE = pathlib.Path(__file__).parent
NAMES = json.loads((HERE / "names.json").read_text())
SETTINGS = {settings!r}

@pytest.mark.parametrize("name", NAMES)
def test_hypotest(name):
    workspace = pyhf.Workspace(json.loads((HERE / "BkgOnly.json").read_text()))
    patch = json.loads((HERE / f"{{name}}.json").read_text())
    model = workspace.model(patches=[patch], modifier_settings=SETTINGS)
    result = pyhf.infer.hypotest(
        1.0, workspace.data(model), model, test_stat="qtilde", return_expected_set=True
    )
    (HERE / f"{{name}}.cls").write_text(str(float(result[0])))
"""


def infer_hypotest(workspace, patch):
    """What the published study sends to a worker."""
    import time

    import pyhf

    model = workspace.model(patches=[patch], modifier_settings=MODIFIER_SETTINGS)
    started = time.perf_counter()
    result = pyhf.infer.hypotest(
        1.0, workspace.data(model), model, test_stat="qtilde", return_expected_set=True
    )
    return float(result[0]), time.perf_counter() - started


def run_ours(folder, pallet, names, workers):
    report, results = folder / "benchmark.json", folder / "results.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--pyargs",
        "pytest_pyhf_faas.suite.test_analysis",
    ]
    command += ["--rootdir", str(folder), "-c", os.devnull, "-p", "no:cacheprovider"]
    command += ["--funcx-endpoint", f"local:{workers}", "--faas-pallet", pallet]
    command += [f"--faas-patch={name}" for name in names]
    command += ["--benchmark-json", str(report), "--junitxml", str(results)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    (trial,) = benchmark["extra_info"]["trials"]
    cls = {}
    for case in ET.parse(results).iter("testcase"):
        for entry in case.iter("property"):
            if entry.get("name") == "CLs_obs":
                cls[case.get("name").partition("-")[2].removesuffix("]")] = float(
                    entry.get("value")
                )
    return cls, trial


def run_loop(folder, pallet, names, workers):
    del pallet, workers
    code = f"""
import json, pathlib, pyhf
folder = pathlib.Path({str(folder)!r})
workspace = pyhf.Workspace(json.loads((folder / "BkgOnly.json").read_text()))
cls = {{}}
for name in json.loads((folder / "names.json").read_text()):
    patch = json.loads((folder / f"{{name}}.json").read_text())
    model = workspace.model(patches=[patch], modifier_settings={MODIFIER_SETTINGS!r})
    result = pyhf.infer.hypotest(
        1.0, workspace.data(model), model, test_stat="qtilde", return_expected_set=True
    )
    cls[name] = float(result[0])
print(json.dumps(cls))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout), None


def run_published(folder, pallet, names, workers):
    """In a process of its own, so that its start-up counts as everybody's does."""
    del pallet
    command = [sys.executable, "-W", "ignore", __file__, "--published", str(folder)]
    command += ["--workers", str(workers), *names]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout), None


def published(folder, names, workers):
    sys.path.insert(0, str(Path(__file__).parent))
    import compare_ways

    from pytest_pyhf_faas.engines import create_engine

    engine = create_engine(f"local:{workers}", folder)
    engine.start()
    import pyhf

    workspace = pyhf.Workspace(json.loads((folder / "BkgOnly.json").read_text()))
    futures = {}
    for name in names:
        patch = json.loads((folder / f"{name}.json").read_text())
        futures[name] = engine.submit(compare_ways.infer_hypotest, workspace, patch)
    print(json.dumps({name: future.result()[0] for name, future in futures.items()}))
    engine.stop()


def run_xdist(folder, pallet, names, workers):
    del pallet
    test = folder / "test_hypotest.py"
    test.write_text(XDIST_TEST.format(settings=MODIFIER_SETTINGS))
    command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), str(test)]
    command += ["-p", "no:cacheprovider", "-p", "no:pyhf-faas", "--rootdir", str(folder)]
    subprocess.run([*command, "-c", os.devnull], check=True, stdout=subprocess.DEVNULL)
    return {name: float((folder / f"{name}.cls").read_text()) for name in names}, None


def run_cls(folder, pallet, names, workers):
    del pallet

    def one(name):
        command = [str(Path(sys.executable).with_name("pyhf")), "cls", "BkgOnly.json"]
        done = subprocess.run(
            [*command, "--patch", f"{name}.json"],
            check=True,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return name, float(json.loads(done.stdout)["CLs_obs"])

    with ThreadPoolExecutor(workers) as pool:
        return dict(pool.map(one, names)), None


def prepare(folder, pallet, count):
    """Write the files that the other ways read; return the names of the patches."""
    from pytest_pyhf_faas.pallets import catalogue, packing

    (found,) = catalogue.resolve(pallet, search_path=catalogue.search_path_from_environment())
    # A patch that makes no model would end the other ways.
    patches = [patch for patch in found.patches if any(o["op"] == "add" for o in patch.operations)]
    patches.sort(key=lambda patch: patch.values)
    if count:
        step = len(patches) / count
        patches = [patches[math.floor(step * (index + 0.5))] for index in range(count)]
    (folder / "BkgOnly.json").write_text(json.dumps(packing.unpack(found.background)))
    for patch in patches:
        (folder / f"{patch.name}.json").write_text(json.dumps(patch.operations))
    names = [patch.name for patch in patches]
    (folder / "names.json").write_text(json.dumps(names))
    return names


def bytes_sent(pallet):
    """Bytes that all fits of a pallet send to workers: ours, and the published way's."""
    import pyhf

    from pytest_pyhf_faas.campaign import tasks
    from pytest_pyhf_faas.pallets import catalogue, packing

    (found,) = catalogue.resolve(pallet, search_path=catalogue.search_path_from_environment())
    all_tasks = tasks.make_tasks(found, tasks.HypotestConfig())
    ours = sum(len(pickle.dumps(tasks.batch_payload([task]))) for task in all_tasks)
    workspace = pyhf.Workspace(packing.unpack(found.background), validate=False)
    theirs = sum(len(pickle.dumps((workspace, patch.operations))) for patch in found.patches)
    return ours, theirs, len(all_tasks)


def measure(pallet, count, ways, rounds, workers):
    runs = {name: globals()[f"run_{name}"] for name in ways}
    seconds = {name: [] for name in ways}
    efficiencies, trials = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = prepare(folder, pallet, count)
        for number in range(rounds):
            found = {}
            for way, run in runs.items():
                started = time.perf_counter()
                found[way], trial = run(folder, pallet, names, workers)
                seconds[way].append(time.perf_counter() - started)
                print(f"# {pallet} round {number + 1}: {way} {seconds[way][-1]:.1f} s", flush=True)
                if trial is not None:
                    trials.append(trial)
                    efficiencies.append(trial["fit_s"] / (workers * seconds[way][-1]))
            check_same(found)
    print_table(pallet, len(names), seconds, efficiencies, trials, workers)


def check_same(found):
    first = next(iter(found.values()))
    for way, cls in found.items():
        if cls.keys() != first.keys():
            raise SystemExit(f"{way} fitted {len(cls)} patches, not {len(first)}")
        for name, value in cls.items():
            both_nan = math.isnan(value) and math.isnan(first[name])
            if not both_nan and not math.isclose(value, first[name], rel_tol=SAME_CLS):
                raise SystemExit(f"{way} finds CLs_obs {value} for {name}, not {first[name]}")


def print_table(pallet, fits, seconds, efficiencies, trials, workers):
    rounds = len(next(iter(seconds.values())))
    print(f"\n{pallet}: {fits} fits, {workers} workers, medians of {rounds}")
    print(f"{'way':12}{'wall time [s]':>16}{'times as long as ours':>24}")
    for way, values in seconds.items():
        ratio = statistics.median(
            theirs / ours for theirs, ours in zip(values, seconds["ours"], strict=True)
        )
        print(f"{way:12}{statistics.median(values):>16.1f}{ratio:>24.2f}")
    print(f"efficiency of ours, start-up included: {statistics.median(efficiencies):.3f}")
    wall = statistics.median(seconds["ours"])
    inside = statistics.median(trial["wall_s"] for trial in trials)
    print(f"of {wall:.1f} s, outside the measured analysis: {wall - inside:.1f} s; inside:")
    for part in (f"{name}_s" for name in PARTS):
        value = statistics.median(trial[part] for trial in trials)
        print(f"  {part:12}{value:>10.2f} worker seconds {value / (workers * wall):>8.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pallets", nargs="+", help="NAME or NAME:PATCHES")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--published", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for name in THREADS:
        os.environ[name] = "1"
    if arguments.published:
        published(arguments.published, arguments.pallets, arguments.workers)
        return
    print_machine()
    for text in arguments.pallets:
        pallet, _, count = text.partition(":")
        ways = arguments.ways.split(",")
        measure(pallet, int(count or 0), ways, arguments.rounds, arguments.workers)
        ours, theirs, fits = bytes_sent(pallet)
        print(
            f"bytes sent for all {fits}: ours {ours}, published {theirs}, {theirs / ours:.1f} x\n"
        )


if __name__ == "__main__":
    main()
