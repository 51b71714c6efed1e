"""What upper limits and toys cost, measured in one run with what they are compared to.

    export PYHF_PALLET_PATH=...
    python benchmarks/limits_and_toys.py [SECTION ...] [--nextstat PYTHON]

limits
    The six certified limits of each hypothesis of a pallet, at the nominal and the lowest minima.
pyhf
    The same of some hypotheses, and `pyhf.infer.intervals.upper_limits.upper_limit` with NumPy and
    SciPy.
toys
    So many toys with the tested signal, and so many without one.
many
    The same of a likelihood whose fits have more than one minimum.
nextstat
    Toys, and `hypotest_toys` of NextStat, which has a process and an environment of its own
    (``pip install nextstat==0.10.1``).
size
    Toys, and those of a larger likelihood: some channels twice, with nuisance parameters of their
    own, until there are 249 parameters.
memory
    The largest resident memory of a fresh process, pyhf loaded, after some toys and after many.

Without a section all of them run, each with a pallet and counts of its own, which the options
replace. What is compared has one thread; `limits`, `toys` and `many` have worker processes, whose
start and search for minima count. Wall time is what a user waits for; on a machine that has other
work to do, CPU time says more.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import statistics
import subprocess
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

# Limits the threads before NumPy is loaded.
from certify import print_table, read_pyhf, resolved, spread, stored_pool

# isort: split
import numpy as np
import pyhf
from machine import print_machine

from pytest_pyhf_faas.histfactory.errors import HistFactoryError
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.limits import upper_limits
from pytest_pyhf_faas.histfactory.search import BRIEF, Search
from pytest_pyhf_faas.histfactory.toys import Toys, blocks_of, toy_cls
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.worker.patching import apply_patch

SIDES = ("nominal", "lowest")
HYPOTHESES = ("signal", "background")
#: As many parameters as the workspace of four top quarks has that NextStat publishes timings of.
LARGE = 249
#: Toys that take turns with those of a larger likelihood.
TURN = 5

#: Says its version, then for the workspace of stdin CLs by toys, CPU and wall seconds.
NEXTSTAT = """
import json, sys, time
import nextstat
nextstat.set_threads(1)
model = nextstat.from_pyhf(sys.stdin.read())
began = time.process_time(), time.perf_counter()
cls = nextstat.hypotest_toys(1.0, model, n_toys=int(sys.argv[1]), seed=1)
took = time.process_time() - began[0], time.perf_counter() - began[1]
print(json.dumps([nextstat.__version__, float(cls), *took]))
"""


@dataclass(frozen=True)
class Plan:
    """What a section measures: some patches, or the one of a name, and so many toys of each."""

    pallet: str
    patches: int | None = 1
    patch: str | None = None
    toys: int = 0
    workers: int = 2
    nextstat: str | None = None


class Reader:
    """Makes the search of each patch of a pallet, whose background it reads once."""

    def __init__(self, background, points):
        self.specification, self.points = unpack(background), points
        self.background = Workspace.from_json(self.specification)

    def likelihood(self, operations):
        return Likelihood(Workspace.from_json(self.patched(operations), self.background))

    def patched(self, operations):
        return apply_patch(operations, self.specification)

    def search(self, operations):
        return Search(self.likelihood(operations), pool=self.points, effort=BRIEF)


def chosen(plan):
    """Return what a `Reader` of the pallet is made from, and the patches of a plan."""
    pallet = resolved(plan.pallet)
    made_from = pallet.background, stored_pool(pallet).points
    patches = spread(pallet, plan.patches or len(pallet.patches))
    if plan.patch:
        patches = [patch for patch in pallet.patches if patch.name == plan.patch]
    if not patches:
        raise SystemExit(f"{plan.pallet} has no patch {plan.patch or 'with a signal'}")
    return made_from, patches


class Clock:
    """CPU and wall seconds of a block of code in this process, and of workers that ended in it."""

    def __enter__(self):
        self._began = self._now()
        return self

    def __exit__(self, *_error):
        self.cpu_s, self.wall_s = (e - b for e, b in zip(self._now(), self._began, strict=True))

    def _now(self):
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = time.process_time() + ended.ru_utime + ended.ru_stime
        return cpu_s, time.perf_counter()


def started(workers, initializer, *arguments):
    fresh = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, fresh, initializer, arguments)


# --- limits -------------------------------------------------------------------------------------


def start_limits(*made_from):
    global reader  # noqa: PLW0603 - what a worker keeps between its tasks
    reader = Reader(*made_from)


def limits_of(operations):
    return timed_limits(reader, operations)


def timed_limits(reader, operations):
    """Return the limits of both sides, and CPU seconds: to read, to search and for each side."""
    times, found = [time.process_time()], {}
    try:
        likelihood = reader.likelihood(operations)
        times.append(time.process_time())
        search = Search(likelihood, pool=reader.points, effort=BRIEF)
        times.append(time.process_time())
        for side in SIDES:
            limits = upper_limits(search, side)
            found[side] = [limits.observed, *limits.expected]
            times.append(time.process_time())
    except HistFactoryError as error:
        return None, str(error)
    return found, np.diff(times)


def limits(plan):
    made_from, patches = chosen(plan)
    with Clock() as clock, started(plan.workers, start_limits, *made_from) as workers:
        answers = list(workers.map(limits_of, [patch.operations for patch in patches]))
    for patch, (found, said) in zip(patches, answers, strict=True):
        if found is None:
            print(f"# {patch.name}: {said}")
    times = [said for found, said in answers if found]
    head = [f"{step} [CPU s]" for step in ("read", "search", *SIDES)]
    took = [f"{seconds:.1f}" for seconds in (clock.wall_s, clock.cpu_s, *sum(times))]
    print(f"Certified limits, {plan.workers} workers")
    row = plan.pallet, str(len(times)), *took
    print_table(("", "hypotheses", "wall [s]", "CPU [s]", *head), row)


def against_pyhf(plan):
    made_from, patches = chosen(plan)
    own = Reader(*made_from)
    timed_limits(own, patches[0].operations)  # what only the first one costs
    rows = []
    for patch in patches:
        with Clock() as ours:
            found, said = timed_limits(own, patch.operations)
        if found is None:
            print(f"# {patch.name}: {said}")
            continue
        try:
            with Clock() as theirs:
                model, data = read_pyhf(json.dumps(own.patched(patch.operations)))
                observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model)
        except (ValueError, pyhf.exceptions.FailedMinimization) as error:
            print(f"# {patch.name}: pyhf: {str(error).splitlines()[0]:.200}")
            continue
        limits = np.array([observed, *expected], dtype=float)
        off = [np.abs(limits / np.array(found[side]) - 1).max() for side in SIDES]
        times = [f"{seconds:.3g}" for c in (ours, theirs) for seconds in (c.wall_s, c.cpu_s)]
        ratio = f"{theirs.cpu_s / ours.cpu_s:.0f}"
        rows.append((patch.name, *times, ratio, *(f"{each:.0e}" for each in off)))
    print(f"{plan.pallet}: limits at both sides, and those of pyhf; reading included, one thread")
    names = ["ours", "pyhf"]
    head = [f"{name} {clock} [s]" for name in names for clock in ("wall", "CPU")]
    print_table(("", *head, "ratio CPU", *(f"pyhf - {side}" for side in SIDES)), *rows)


# --- toys ---------------------------------------------------------------------------------------


def start_toys(operations, *made_from):
    global toys_here  # noqa: PLW0603
    toys_here = Toys(Reader(*made_from).search(operations))


def block_of(hypothesis, number, size):
    return toys_here.block(hypothesis, number, size)


def all_blocks(count):
    return [(name, *block) for name in HYPOTHESES for block in blocks_of(count)]


def joined(blocks, results):
    """Return the test statistics by hypothesis."""
    return [
        np.concatenate([r for (one, *_), r in zip(blocks, results, strict=True) if one == name])
        for name in HYPOTHESES
    ]


def toys(plan):
    made_from, patches = chosen(plan)
    blocks, rows = all_blocks(plan.toys), []
    for patch in patches:
        with (
            Clock() as clock,
            started(plan.workers, start_toys, patch.operations, *made_from) as workers,
        ):
            results = list(workers.map(block_of, *zip(*blocks, strict=True)))
        cls = toy_cls(
            Toys(Reader(*made_from).search(patch.operations)).observed, *joined(blocks, results)
        )
        times = f"{clock.wall_s:.1f}", f"{clock.cpu_s:.1f}", f"{500 * clock.cpu_s / plan.toys:.1f}"
        said = f"{cls.CLs_obs:.4f} +- {cls.CLs_obs_error:.4f}", str(sum(cls.failed.values()))
        rows.append((patch.name, *times, *said))
    print(f"{plan.pallet}: {plan.toys} + {plan.toys} toys, {plan.workers} workers")
    print_table(("", "wall [s]", "CPU [s]", "per toy [CPU ms]", "CLs_obs", "failed"), *rows)


def against_nextstat(plan):
    made_from, (patch, *_) = chosen(plan)
    own = Reader(*made_from)
    of_hypothesis = Toys(own.search(patch.operations))
    of_hypothesis.block("signal", 0, 1)
    blocks = all_blocks(plan.toys)
    with Clock() as clock:
        results = [of_hypothesis.block(*block) for block in blocks]
    cls = toy_cls(of_hypothesis.observed, *joined(blocks, results)).CLs_obs
    ways = {"ours": (cls, clock.cpu_s, clock.wall_s)}
    if plan.nextstat:
        done = subprocess.run(
            [plan.nextstat, "-c", NEXTSTAT, str(plan.toys)],
            input=json.dumps(own.patched(patch.operations)),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        version, *found = json.loads(done.stdout)
        ways[f"NextStat {version}"] = found
    else:
        print("# NextStat is not measured: --nextstat PYTHON names the environment that has it")
    rows = [
        (
            way,
            f"{wall:.2f}",
            f"{cpu:.2f}",
            f"{500 * cpu / plan.toys:.1f}",
            f"{cpu / clock.cpu_s:.1f}",
            f"{cls:.3f}",
        )
        for way, (cls, cpu, wall) in ways.items()
    ]
    print(f"{plan.pallet}: {plan.toys} + {plan.toys} toys, one thread, without reading")
    print_table(("", "wall [s]", "CPU [s]", "per toy [CPU ms]", "ratio", "CLs_obs"), *rows)


def size(plan):
    made_from, (patch, *_) = chosen(plan)
    specification = Reader(*made_from).patched(patch.operations)
    both = [
        Likelihood(Workspace.from_json(each)) for each in (specification, enlarged(specification))
    ]
    of_both = [Toys(Search(likelihood, effort=BRIEF)) for likelihood in both]
    turns = []
    for number, name in ((n, name) for n in range(-(-plan.toys // TURN)) for name in HYPOTHESES):
        turn = []
        for each in of_both:
            with Clock() as clock:
                each.block(name, number, TURN)
            turn.append(1e3 * clock.cpu_s / TURN)
        turns.append(turn)
    ratio = statistics.mean(turn[1] for turn in turns) / statistics.mean(turn[0] for turn in turns)
    rows = [
        (name, str(len(one)), str(len(one.bins)), f"{statistics.mean(times):.1f}", said)
        for name, one, times, said in zip(
            (plan.pallet, "larger"),
            both,
            zip(*turns, strict=True),
            ("1", f"{ratio:.2f}"),
            strict=True,
        )
    ]
    print(f"{plan.pallet}: {len(turns) * TURN} toys of each size, one thread")
    print_table(("", "parameters", "bins", "per toy [CPU ms]", "ratio"), *rows)


def enlarged(specification):
    """Return a workspace with some channels twice, the second one with parameters of its own.

    So many channels that the bins grow as the parameters do; of the second ones all gammas are
    their own, and as many other nuisance parameters as are missing.
    """
    parameters = len(Likelihood(Workspace.from_json(specification)))
    larger = copy.deepcopy(specification)
    observed = {each["name"]: each for each in specification["observations"]}
    bins = sum(len(each["data"]) for each in observed.values())
    missing, more_bins = LARGE - parameters, bins * LARGE / parameters - bins
    own = {}
    for channel in copy.deepcopy(specification["channels"]):
        if more_bins <= 0:
            break
        name = channel["name"]
        more_bins -= len(observed[name]["data"])
        channel["name"] = f"{name} again"
        for modifier in (m for sample in channel["samples"] for m in sample["modifiers"]):
            if modifier["type"] in ("staterror", "shapesys"):
                modifier["name"] += " again"
        larger["channels"].append(channel)
        larger["observations"].append({"name": channel["name"], "data": observed[name]["data"]})
    missing = LARGE - len(Likelihood(Workspace.from_json(larger)))
    for channel in larger["channels"][len(specification["channels"]) :]:
        for modifier in (m for sample in channel["samples"] for m in sample["modifiers"]):
            name = modifier["name"]
            if modifier["type"] in ("normsys", "histosys") and (name in own or len(own) < missing):
                modifier["name"] = own.setdefault(name, f"{name} again")
    return larger


def largest_memory(count):
    for block in all_blocks(count):
        toys_here.block(*block)
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def memory(plan):
    made_from, (patch, *_) = chosen(plan)
    rows = []
    for count in (max(1, plan.toys // 10), plan.toys):
        with started(1, start_toys, patch.operations, *made_from) as worker:
            peak = worker.submit(largest_memory, count).result()
        rows.append((f"{count} + {count}", f"{peak:.0f}"))
    print(f"{plan.pallet}: a worker")
    print_table(("toys", "largest memory [MB]"), *rows)


SECTIONS = {
    "limits": (limits, Plan("1Lbb", patches=None)),
    "pyhf": (against_pyhf, Plan("sbottom_RegionA", patches=3)),
    "toys": (toys, Plan("tHu_ML", toys=1000)),
    "many": (toys, Plan("stau_combined", patch="DS_120_1_Staus", toys=10_000)),
    "nextstat": (against_nextstat, Plan("tHu_ML", toys=50)),
    "size": (size, Plan("tHu_ML", toys=50)),
    "memory": (memory, Plan("tHu_ML", toys=500)),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--pallet", help="instead of that of the section")
    parser.add_argument("--patch", help="its name")
    parser.add_argument("--patches", type=int, help="so many, spread over the grid")
    parser.add_argument("--toys", type=int, help="so many with a signal, and so many without")
    parser.add_argument("--workers", type=int, help="of limits, toys and many; default: 2")
    parser.add_argument("--nextstat", metavar="PYTHON", help="of the environment with it")
    options = vars(parser.parse_args())
    sections = options.pop("sections") or SECTIONS
    given = {name: value for name, value in options.items() if value is not None}
    if "pallet" in given:
        given = {"patch": None, **given}
    unknown = [name for name in sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}: choose from {', '.join(SECTIONS)}")
    warnings.simplefilter("ignore")  # pyhf's, of logarithms that are not defined
    print_machine()
    for name in sections:
        measure, plan = SECTIONS[name]
        measure(replace(plan, **given))


if __name__ == "__main__":
    main()
