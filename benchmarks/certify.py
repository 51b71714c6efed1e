"""What certified fits cost, measured in one run with what they are compared to.

    export PYHF_PALLET_PATH=...
    python benchmarks/certify.py whole 1Lbb [--thorough] [--against-scipy 4]
    python benchmarks/certify.py hypothesis 1Lbb stau_combined [--nextstat PYTHON]
    python benchmarks/certify.py evaluation 1Lbb stau_combined
    python benchmarks/certify.py memory 1Lbb

whole
    Whole pytest processes, start-up included, two workers.
hypothesis
    One worker, which is this process: for each patch in turn the nominal minima, the whole search,
    `pyhf.infer.hypotest` with NumPy and SciPy, and `hypotest` of NextStat, which has a process and
    an environment of its own (``pip install nextstat==0.10.1``). To read means: for us, apply the
    patch to a background that was read before; for the others, the text of the patched workspace.
evaluation
    Value, gradient and Hessian against one `logpdf` of pyhf's NumPy backend.
memory
    The largest resident memory of a fresh process that answers one batch for each patch.

``--patches N`` takes so many, spread over the grid. All have one thread and take turns, so that a
machine whose speed drifts harms nobody; ratios are medians of the ratios within a turn.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

import pyhf
from machine import print_machine

from pytest_pyhf_faas.campaign import tasks
from pytest_pyhf_faas.histfactory.errors import HistFactoryError
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.search import BRIEF, Search
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore
from pytest_pyhf_faas.worker.patching import apply_patch

CONFIG = tasks.HypotestConfig(method="certified")
CODES = {"normsys": {"interpcode": "code4"}, "histosys": {"interpcode": "code4p"}}
#: Relative difference in CLs_obs within which somebody is at our minima.
SAME_CLS = 1e-3

#: Says its version, then answers each workspace with seconds to read and to test, and CLs.
NEXTSTAT = """
import json, sys, time
import nextstat
nextstat.set_threads(1)
print(nextstat.__version__, flush=True)
for text in sys.stdin:
    began = time.perf_counter()
    model = nextstat.from_pyhf(text)
    read = time.perf_counter()
    try:
        cls = nextstat.hypotest(1.0, model)
    except Exception as error:
        print("NextStat:", error, file=sys.stderr)
        cls = float("nan")
    print(json.dumps([read - began, time.perf_counter() - read, cls]), flush=True)
"""

#: Answers the batches of stdin, and says how much memory that took, in MB.
WORKER = """
import importlib, json, sys
module, function, *more = sys.argv[1:]
for name in more:
    importlib.import_module(name)
fit = getattr(importlib.import_module(module), function)
for line in sys.stdin:
    for result in fit(json.loads(line))["results"]:
        if result["status"] != "ok":
            print(result["error"]["message"], file=sys.stderr)
status = open("/proc/self/status").read()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6)
"""


def resolved(name):
    (pallet,) = catalogue.resolve(name, search_path=catalogue.search_path_from_environment())
    return pallet


def spread(pallet, count):
    """Return so many of the patches with a signal, spread over the grid."""
    patches = [patch for patch in pallet.patches if any(o["op"] == "add" for o in patch.operations)]
    patches.sort(key=lambda patch: patch.values)
    count = min(count, len(patches))
    return [patches[(2 * index + 1) * len(patches) // (2 * count)] for index in range(count)]


def stored_pool(pallet):
    directory = Path(__file__).parents[1] / DIRECTORY
    store = ReferenceStore([directory], directory)
    points = store.pool(pallet, CONFIG) if hasattr(store, "pool") else None
    return tasks.Pool(points or ())


def seconds(function, *arguments, **options):
    """Return how long a call took, and its result."""
    began = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - began, result


def print_table(head, *rows):
    """Print rows of text below their heads, the first column to the left."""
    first, *rest = (max(map(len, column)) for column in zip(head, *rows, strict=True))
    for name, *cells in (head, *rows):
        right = (cell.rjust(width) for cell, width in zip(cells, rest, strict=True))
        print("  ".join([name.ljust(first), *right]))
    print(flush=True)


# --- whole processes ----------------------------------------------------------------------------


def run_pytest(options):
    """Return the wall seconds of a pytest process, and how it says that it ended."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "--pyargs", "pytest_pyhf_faas.suite"]
        command += ["--rootdir", folder, "-c", os.devnull, "-p", "no:cacheprovider"]
        command += ["-k", "test_cls or walltime", *options]
        if "--faas-update=all" in options:
            command.append(f"--faas-reference-dir={folder}")
        wall_s, done = seconds(subprocess.run, command, check=False, capture_output=True, text=True)
    *_, last = done.stdout.strip().splitlines() or [""]
    if done.returncode > 1 or " error" in last:  # wrong values are told, fits that broke no time
        raise SystemExit(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return wall_s, last


def whole(name, arguments):
    pallet = resolved(name)

    def selected(count):
        patches = spread(pallet, count) if count else ()
        common = [f"--faas-endpoint=local:{arguments.workers}", f"--faas-pallet={name}"]
        return common + [f"--faas-patch={patch.name}" for patch in patches]

    ways = {"certified": [*selected(arguments.patches), "--faas-method=certified"]}
    if arguments.thorough:
        ways["thorough"] = [*selected(arguments.patches), "--faas-update=all"]
    if arguments.against_scipy:
        some = selected(arguments.against_scipy)
        ways |= {"some, certified": [*some, "--faas-method=certified"], "some, numpy+scipy": some}
    walls = {way: [] for way in ways}
    said = {}
    for _round in range(arguments.rounds):
        for way, options in ways.items():
            wall_s, said[way] = run_pytest(options)
            walls[way].append(wall_s)
            print(f"# {name}, {way}: {wall_s:.1f} s; {said[way]}", flush=True)
    print(f"{name}: medians of {arguments.rounds}, {arguments.workers} workers")
    rows = [(way, f"{statistics.median(walls[way]):.1f}", said[way]) for way in ways]
    print_table(("", "wall time [s]", "pytest"), *rows)


# --- one hypothesis -----------------------------------------------------------------------------


class NextStat:
    """Tests a workspace; gives seconds to read, seconds to test, and CLs."""

    def __init__(self, python):
        command, pipe = [python, "-c", NEXTSTAT], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1)
        self.name = f"NextStat {self.process.stdout.readline().strip()}"

    def __call__(self, text):
        print(text, file=self.process.stdin)
        return json.loads(self.process.stdout.readline())


def read_ours(specification, background, patch):
    patched = apply_patch(patch.operations, specification)
    return Likelihood(Workspace.from_json(patched, background))


def read_pyhf(text):
    workspace = pyhf.Workspace(json.loads(text), validate=False)
    model = workspace.model(validate=False, modifier_settings=CODES)
    return model, workspace.data(model)


def hypotest(model, data):
    try:
        found = pyhf.infer.hypotest(1.0, data, model, test_stat="qtilde", return_expected_set=True)
    except pyhf.exceptions.FailedMinimization:
        return math.nan
    return float(found[0])


def one_turn(specification, background, patch, pool, nextstat):
    """Return seconds to read, seconds to test and CLs_obs of each way for one patch."""
    read_s, likelihood = seconds(read_ours, specification, background, patch)
    nominal_s, nominal = seconds(Search, likelihood, effort=None)
    search_s, search = seconds(Search, likelihood, pool=pool.points, effort=BRIEF)
    text = json.dumps(apply_patch(patch.operations, specification))
    pyhf_s, (model, data) = seconds(read_pyhf, text)
    turn = {
        "nominal": (read_s, nominal_s, nominal.nominal.cls[0]),
        "search": (read_s, search_s, search.lowest.cls[0]),
        "numpy+scipy": (pyhf_s, *seconds(hypotest, model, data)),
    }
    if nextstat:
        turn[nextstat.name] = nextstat(text)
    return turn


def hypothesis(name, arguments):
    pallet = resolved(name)
    pool, patches = stored_pool(pallet), spread(pallet, arguments.patches)
    specification = unpack(pallet.background)
    background = Workspace.from_json(specification)
    Search(read_ours(specification, background, patches[0]))  # what only the first one costs
    nextstat = NextStat(arguments.nextstat) if arguments.nextstat else None
    turns = []
    for patch in patches * arguments.rounds:
        try:
            turns.append(one_turn(specification, background, patch, pool, nextstat))
        except HistFactoryError as error:
            print(f"# {patch.name}: {error}")
    if nextstat:
        nextstat.process.communicate()
    print(f"{name}: {len(patches)} patches, {len(pool.points)} starts in its pool, medians")
    print_turns(turns)


def print_turns(turns):
    """Print how long each way takes, how many times as long as ours, and where its CLs is ours."""

    def median(value):
        return f"{statistics.median(map(value, turns)):.3g}"

    def ratio(way, ours):
        alone = median(lambda turn: turn[way][1] / turn[ours][1])
        both = median(lambda turn: sum(turn[way][:2]) / sum(turn[ours][:2]))
        return f"{alone} ({both})"

    def agree(way, ours):
        same = [math.isclose(turn[way][2], turn[ours][2], rel_tol=SAME_CLS) for turn in turns]
        return f"{sum(same)} of {len(same)}"

    def row(way):
        alone, read = (median(lambda turn, part=part: turn[way][part]) for part in (1, 0))
        found = (table(way, ours) for table in (ratio, agree) for ours in ("nominal", "search"))
        return (way, alone, read, *found)

    head = ("", "test [s]", "read [s]", "/ nominal (with reading)", "/ search (with reading)")
    print_table((*head, "CLs nominal", "CLs lowest"), *map(row, turns[0]))


# --- one evaluation, and memory -----------------------------------------------------------------


def evaluation(name, arguments):
    pallet = resolved(name)
    specification, (patch,) = unpack(pallet.background), spread(pallet, 1)
    likelihood = read_ours(specification, Workspace.from_json(specification), patch)
    model, data = read_pyhf(json.dumps(apply_patch(patch.operations, specification)))
    observed = likelihood.observed
    point = likelihood.initial + 0.01 * ~likelihood.fixed  # so that nothing is just 0
    pairs = []
    for _round in range(arguments.rounds):
        ours_s, ours = seconds(likelihood.evaluate, point, observed)
        pyhf_s, theirs = seconds(model.logpdf, point[likelihood.pyhf_order], data)
        pairs.append((1e3 * ours_s, 1e3 * pyhf_s, ours_s / pyhf_s))
    off = abs(ours.value + likelihood.saturated(observed) + 2 * float(theirs[0]))
    medians = [f"{statistics.median(column):.3f}" for column in zip(*pairs, strict=True)]
    head = ("", "parameters", "ours [ms]", "pyhf [ms]", "ours / pyhf", "twice NLL differs by")
    print_table(head, (name, str(len(likelihood)), *medians, f"{off:.0e}"))


def memory(name, arguments):
    pallet, function = resolved(name), tasks.worker_function(CONFIG)
    patches = spread(pallet, arguments.patches)
    fits = tasks.make_tasks(pallet, CONFIG, patches, stored_pool(pallet))
    batches = "\n".join(json.dumps(tasks.batch_payload([fit])) for fit in fits)
    command = [sys.executable, "-c", WORKER, function.__module__, function.__qualname__]
    peaks = [
        float(subprocess.check_output([*command, *more], input=batches, text=True))
        for more in ((), ("pyhf",))
    ]
    head = ("", "patches", "largest memory [MB]", "with pyhf loaded [MB]")
    print_table(head, (name, str(len(fits)), *(f"{peak:.0f}" for peak in peaks)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parts = parser.add_subparsers(required=True)
    for measure, patches, rounds in (
        (whole, 0, 3),
        (hypothesis, 10, 1),
        (evaluation, None, 300),
        (memory, 10, None),
    ):
        part = parts.add_parser(measure.__name__)
        part.set_defaults(measure=measure)
        part.add_argument("pallets", nargs="+")
        if patches is not None:
            part.add_argument("--patches", type=int, default=patches, help="default: %(default)s")
        if rounds is not None:
            part.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
        if measure is whole:
            part.add_argument("--workers", type=int, default=2)
            part.add_argument("--thorough", action="store_true")
            part.add_argument("--against-scipy", type=int, metavar="PATCHES")
        if measure is hypothesis:
            part.add_argument("--nextstat", metavar="PYTHON", help="of the environment with it")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # pyhf's, of logarithms that are not defined
    print_machine()
    for name in arguments.pallets:
        arguments.measure(name, arguments)


if __name__ == "__main__":
    main()
