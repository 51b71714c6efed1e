"""Report documents as a run would make them, of any size, for the tests of what reads them."""

from __future__ import annotations

import math
from itertools import product

TOLERANCES = {"rtol": 1e-4, "atol": 1e-6}


def environment(**changes):
    known = {
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "host": "node1",
        "cpu": "Some CPU @ 2.50GHz",
        "backend": "numpy",
        "optimizer": "scipy",
        "threads": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": None},
        "versions": {
            "pyhf": "0.7.6",
            "numpy": "2.4.6",
            "scipy": "1.17.1",
            "jsonpatch": "1.33",
        },
    }
    known["versions"] = {**known["versions"], **changes.pop("versions", {})}
    return {**known, **changes}


def cls_of(m1, m2):
    """Six CLs values that rise towards heavy particles and small mass differences."""
    distance = math.hypot(m1 / 700, m2 / 300) - 1
    return [
        1 / (1 + 19 * math.exp(-4 * (distance + shift)))
        for shift in (0.08, -0.5, -0.25, 0, 0.3, 0.6)
    ]


def hypothesis(patch="wino_300_100", values=(300, 100), **changes):
    """One that is right; `wrong` and `broken` make others."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    m1, m2 = (*numbers, 0, 0)[:2]
    cls = cls_of(m1, m2)
    return {
        "patch": patch,
        "values": list(values),
        "test": f"src/pytest_pyhf_faas/suite/test_analysis.py::test_cls[wino-{patch}]",
        "outcome": "passed",
        "verdict": "right",
        "title": f"wino / {patch}: CLs agrees with the reference",
        "text": "",
        "status": "ok",
        "CLs": cls,
        "reference": {
            "CLs": [
                value * (1 + 2e-6 * math.sin(math.fmod(m1, math.tau) + math.fmod(m2, math.tau)))
                for value in cls
            ],
            "error": None,
        },
        "minimum_set": "both",
        "ambiguous": None,
        "within": [True] * 6,
        **TOLERANCES,
        "mu_hat": 0.1,
        "error": None,
        "environment": 0,
        "worker": "node1:101",
        "attempts": 1,
        "seconds": {"unpack": 0.02, "build": 0.3, "fit": 2.0 + m2 / 200},
        "warnings": [],
        **changes,
    }


def with_toys(patch="wino_300_100", values=(300, 100), *, off=0.7, **changes):
    """One with toys that follow the asymptotic formulae, as far as three bins say."""
    right = hypothesis(patch, values)
    cls, errors = right["CLs"], [0.01] * 6
    toys = {
        "count": 1000,
        "failed": [1, 0],
        "CLs": cls,
        "errors": errors,
        "reference": {"count": 1000, "CLs": cls, "errors": errors},
        "asymptotic": [value - 0.01 * (off if isinstance(off, float) else 0) for value in cls],
        "off": off,
        "observed": 1.5,
        "asimov": 2.0,
        "histogram": {
            "edges": [0.0, 1.0, 4.0, 16.0],
            "signal": [839, 136, 24],
            "background": [340, 381, 279],
        },
        **changes,
    }
    return right | {"CLs": None, "toys": toys}


def wrong(patch="wino_300_100", values=(300, 100), **changes):
    right = hypothesis(patch, values)
    cls = [value * 1.02 for value in right["CLs"]]
    return right | {
        "outcome": "failed",
        "verdict": "wrong",
        "title": f"wino / {patch}: CLs differs from the reference",
        "text": f"wino / {patch}: CLs differs from the reference\n"
        "                    obtained      reference   rel. diff\n"
        f"  CLs_obs     {cls[0]:14.8g}{right['CLs'][0]:15.8g}     2.0e-02  <--\n"
        "  verdict: the formulae changed\n"
        "  rerun:  pytest --faas-pallet=wino --faas-patch=" + patch,
        "CLs": cls,
        "within": [False] * 6,
        **changes,
    }


def ambiguous(patch="wino_300_100", values=(300, 100), *, at="nominal", **changes):
    """One with two sets of minima, of which the nominal one alone excludes it."""
    right = hypothesis(patch, values)
    lowest, nominal = [0.0684, *right["CLs"][1:]], [0.0435, *right["CLs"][1:]]
    found = lowest if at == "lowest" else nominal
    return right | {
        "title": f"wino / {patch}: CLs agrees with the reference at the {at} minima",
        "CLs": found,
        "reference": {"CLs": found, "error": None},
        "minimum_set": at,
        "ambiguous": {
            "lowest": lowest,
            "nominal": nominal,
            "flips": True,
            "gap": 0.79,
            "fit": "fixed_poi_fit_to_data",
            "parameters": [{"name": "mu_W", "lowest": 0.0, "nominal": 1.02}],
            "at_bound": ["mu_W"],
            "was_at": None,
            **changes.pop("ambiguous", {}),
        },
        **changes,
    }


def limits_of(m1, m2):
    """Six upper limits that rise towards heavy particles and small mass differences."""
    distance = math.hypot(m1 / 700, m2 / 300) - 1
    return [math.exp(4 * (distance + shift)) for shift in (0.08, -0.3, -0.15, 0, 0.2, 0.4)]


def limited(patch="wino_300_100", values=(300, 100), *, limits=None, **changes):
    """One with upper limits in the place of CLs, which are right."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    found = {"values": limits_of(*(*numbers, 0, 0)[:2]), "nominal": None, "remarks": []}
    found |= limits or {}
    return hypothesis(patch, values) | {
        "test": f"src/pytest_pyhf_faas/suite/test_limits.py::test_limit[wino-{patch}]",
        "title": f"wino / {patch}: the limits agree with the reference",
        "CLs": None,
        "limits": {"reference": list(found["values"]), **found},
        "rtol": 1e-3,
        "atol": 1e-9,
        **changes,
    }


def wrong_limit(patch="wino_300_100", values=(300, 100), **changes):
    known = limits_of(*values)
    title = f"wino / {patch}: the limits differ from the reference"
    return limited(
        patch,
        values,
        limits={"values": [1.02 * value for value in known], "reference": known},
        outcome="failed",
        verdict="wrong",
        title=title,
        text=f"{title}\n"
        "                    obtained      reference   rel. diff\n"
        f"  limit_obs   {1.02 * known[0]:14.8g}{known[0]:15.8g}     2.0e-02  <--\n"
        "  tolerance 0.001 relative, 1e-09 absolute\n"
        "  rerun:  pytest --faas-pallet=wino --faas-quantity=limit --faas-patch=" + patch,
        within=[False] * 6,
        **changes,
    )


def broken(patch="wino_300_100", values=(300, 100), *, message="killed by signal 9", **changes):
    return hypothesis(patch, values) | {
        "outcome": "error",
        "verdict": "broken",
        "title": f"wino / {patch}: the fit broke: no worker finished it",
        "text": f"wino / {patch}: the fit broke: no worker finished it\n  {message[:300]}",
        "status": "broken",
        "CLs": None,
        "minimum_set": None,
        "within": None,
        "rtol": None,
        "atol": None,
        "mu_hat": None,
        "error": {"type": "broken", "message": message, "traceback": ""},
        "environment": None,
        "worker": None,
        "attempts": 2,
        "seconds": {},
        **changes,
    }


def trial(fits=25, workers=2, wall_s=40.0, **changes):
    """One whose parts add up: what no change names goes to the fits."""
    parts = {
        "startup_s": 4.0,
        "queue_s": 0.0,
        "transfer_s": 0.5,
        "unpack_s": 0.4,
        "build_s": 6.0,
        "overhead_s": 0.2,
        "idle_s": 3.0,
        "unattributed_s": 0.1,
    } | changes
    fit_s = workers * wall_s - sum(parts.values())
    return {
        "fits": fits,
        "workers": workers,
        "wall_s": wall_s,
        "waiting_s": 1.5,
        "fit_s": fit_s,
        "speed_up": fit_s / wall_s,
        "efficiency": fit_s / wall_s / workers,
        **parts,
    }


def timeline(tasks=25, workers=2, wall_s=40.0):
    share = wall_s / math.ceil(tasks / workers)
    return {
        "seconds": wall_s,
        "workers": [
            {"worker": f"node{i % 4 + 1}:{101 + i}", "clock_uncertainty_s": 0.002}
            for i in range(workers)
        ],
        "tasks": [
            [i % workers, (i // workers) * share, (i // workers + 0.95) * share, 1]
            for i in range(tasks)
        ],
    }


def analysis(hypotheses=None, *, pallet="wino", **changes):
    if hypotheses is None:
        grid = product(range(200, 1200, 200), range(0, 500, 100))
        hypotheses = [hypothesis(f"wino_{m1}_{m2}", (m1, m2)) for m1, m2 in grid]
    return {
        "pallet": pallet,
        "endpoint": "local:2",
        "fit_setup": "numpy+scipy",
        "config": {"backend": "numpy", "optimizer": "scipy", "test_poi": 1.0, "method": "hypotest"},
        "synthetic": False,
        "doi": None,
        "digest": "0" * 64,
        "labels": ["m1", "m2"],
        "plane": ["m1", "m2"],
        "reference": {
            "file": f"{pallet}.json",
            "method": "certified",
            "date": "2026-11-01",
            "versions": {"pyhf": "0.7.6", "numpy": "2.4.6", "scipy": "1.17.0", "jax": "0.10.2"},
        },
        "wall_time": {
            "test": f"src/pytest_pyhf_faas/suite/test_analysis.py::test_walltime[{pallet}]",
            "trials": [trial(), trial(wall_s=44.0, idle_s=5.0)],
        },
        "timeline": timeline(),
        "hypotheses": hypotheses,
        **changes,
    }


def limits(hypotheses=None, **changes):
    """Return an analysis of upper limits, which has no wall time."""
    if hypotheses is None:
        grid = product(range(200, 1200, 200), range(0, 500, 100))
        hypotheses = [limited(f"wino_{m1}_{m2}", (m1, m2)) for m1, m2 in grid]
    beside = {"quantity": "limit", "wall_time": None, "timeline": None}
    return analysis(hypotheses, **{**beside, **changes})


def scaling(**changes):
    return {
        "pallet": "wino",
        "endpoint": "local",
        "fit_setup": "numpy+scipy",
        "unit": "workers",
        "points": [
            {
                "count": count,
                "trials": [trial(workers=count, wall_s=3 + 72 / count, startup_s=3.0 * count)],
            }
            for count in (1, 2, 4)
        ],
        **changes,
    }


def document(analyses=None, **changes):
    if analyses is None:
        analyses = [analysis()]
    outcomes = [each["outcome"] for one in analyses for each in one["hypotheses"]]
    run = {
        "id": "20261122T150823Z-0123abcd",
        "began_at": "2026-11-22T15:08:23Z",
        "ended_at": "2026-11-22T15:10:00Z",
        "seconds": 97.0,
        "command": "pytest --faas-pallet wino --funcx-endpoint local:2",
        "exit_status": 1 if {"failed", "error"} & set(outcomes) else 0,
        "interrupted": False,
        "package": "0.1.0",
        "tests": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        "failures": [],
        "benchmark_files": [],
        "worker_sha256": "0123456789abcdef" * 4,
        "fits": {"sent": 1, "again": {}, "taken_over": 0, "collected": 0},
    } | changes.pop("run", {})
    return {
        "schema_version": 3,
        "run": run,
        "client": environment(host="laptop", backend=None, optimizer=None),
        "environments": [environment()],
        "endpoints": [
            {
                "endpoint": "local:2",
                "findings": [
                    {
                        "name": "workers",
                        "text": "2 workers on 1 host (node1)",
                        "values": {"workers": 2, "hosts": 1, "host_names": "node1"},
                    }
                ],
                "failures": [],
            }
        ],
        "analyses": analyses,
        "scaling": [],
        "notes": [],
        **changes,
    }
