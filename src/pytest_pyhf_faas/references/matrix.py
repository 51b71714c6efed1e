"""Who is right: fit pallets with every backend and optimizer, and compare with the references.

``python -m pytest_pyhf_faas matrix PALLET...`` prints the table; with ``--write`` the reference
files take note of the minima that each combination is at, how far it is from them, the tolerance
that follows, and what it gets wrong: what is at no consistent set of minima.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import platformdirs

from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.tasks import CERTIFIED, HypotestConfig, Pool, make_task
from pytest_pyhf_faas.engines import create_engine, resolve_endpoint
from pytest_pyhf_faas.errors import ConfigurationError, FaasError
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.compare import Verdict, compare
from pytest_pyhf_faas.references.reference import (
    DEFAULT_RTOL,
    DIRECTORY,
    TOLERANCE_MARGIN,
    Missing,
    ReferenceStore,
    bundled_directory,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.compare import At
    from pytest_pyhf_faas.references.reference import PatchReference

COMBINATIONS = ("numpy+scipy", "numpy+minuit", "jax+scipy", "jax+minuit", CERTIFIED)
ISSUES = "https://github.com/scikit-hep/pyhf/issues"
#: CLs that is off by less than this does not tell two minima apart.
_ONE_MINIMUM = 1e-3
_SMALLEST_RTOL = 1e-6
_LEGEND = (
    "(right: at the lowest minima, the nominal ones, or both, where they are the same; "
    "CLs off by: median / largest; fit: median)"
)
#: A converged fit that is farther off than this is wrong all the same.
_LARGEST_RTOL = 0.1


#: What may be said of a hypothesis that is not right and was fitted.
_WRONG_KINDS = ("mixed", "unconverged", "wrong")
#: How a right one is counted, by the set of minima that it is at.
_SETS: tuple[At, ...] = ("lowest", "nominal", "both")


@dataclass(frozen=True, slots=True)
class Finding:
    """How one combination did on one hypothesis.

    Attributes
    ----------
    kind : str
        "right", "mixed", "unconverged", "wrong", or the type of an exception.
    at : str
        The set of minima that it is at: "lowest", "nominal", "both" (the two are one) or "none".
    cls : float
        Largest relative difference of CLs from that set, or else from the nearest; infinite where
        there are no values.
    twice_nll : float
        Largest difference of the twice NLL of the fits, from the same.
    """

    patch: str
    kind: str
    at: At
    cls: float
    twice_nll: float
    fit_s: float
    result: HypotestResult


def judge(
    result: HypotestResult, reference: PatchReference | Missing, setup: str
) -> Finding | None:
    """Return how a result compares with its certified reference; ``None`` without one.

    Nothing but the two decides: known issues and tolerances are what is looked for.

    Parameters
    ----------
    result, reference : HypotestResult, PatchReference or Missing
        As of `compare`.
    setup : str
        Backend and optimizer, as `HypotestConfig.combination`.
    """
    if isinstance(reference, Missing):
        return None
    fit_s = result.seconds.get("fit", 0.0)
    comparison = compare(
        result, reference, combination=setup, rtol=_LARGEST_RTOL, ignore_known_issues=True
    )
    right = comparison.verdict is Verdict.RIGHT
    if reference.error is not None or result.error is not None:
        kind, distance = ("right", 0.0) if right else (_error_type(result), math.inf)
        at: At = "both" if right else "none"
        return Finding(result.patch, kind, at, distance, distance, fit_s, result)
    relative = [abs(row.relative) for row in comparison.rows if not row.indifferent]
    largest = max(relative, default=0.0)
    kind = comparison.verdict.value
    if right and largest > _ONE_MINIMUM and comparison.elsewhere:
        kind = "mixed"  # another minimum that is hardly higher
    at = (comparison.at or "none") if kind == "right" else "none"
    minima = reference.nominal if at == "nominal" else reference.lowest
    gaps = [
        result.twice_nll[fit] - minimum
        for fit, minimum in minima.twice_nll.items()
        if fit in result.twice_nll
    ]
    return Finding(result.patch, kind, at, largest, max(gaps, key=abs, default=0.0), fit_s, result)


def table(pallet: str, findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return the lines of the table of one pallet."""
    rows: list[tuple[str, ...]] = [
        ("", *_SETS, *_WRONG_KINDS, "error", "CLs off by", "fit [s]"),
    ]
    for combination, found in findings.items():
        right = [sum(f.kind == "right" and f.at == at for f in found) for at in _SETS]
        wrong = [sum(f.kind == kind for f in found) for kind in _WRONG_KINDS]
        distances = [finding.cls for finding in found if math.isfinite(finding.cls)]
        times = [finding.fit_s for finding in found if finding.fit_s]
        rows.append(
            (
                combination,
                *(str(count) for count in (*right, *wrong)),
                str(len(found) - sum(right) - sum(wrong)),
                f"{median(distances):.0e} / {max(distances):.0e}" if distances else "-",
                f"{median(times):.2f}" if times else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    count = max((len(found) for found in findings.values()), default=0)
    lines = [
        f"{pallet}: {count} hypotheses",
        _LEGEND,
    ]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return lines


def notes(combination: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what a reference file notes of one combination; see `ReferenceStore.note`."""
    checked = {}
    issues: dict[str, dict[str, Any]] = {}
    for finding in findings:
        checked[finding.patch] = _checked(finding)
        if finding.kind != "right":
            issues.setdefault(finding.kind, {})[finding.patch] = _wrong_values(finding.result)
    return {
        "checked": checked,
        "rtol": _tolerance(combination, findings),
        "known_issues": [
            {"combination": combination, **_reason(kind, combination), "patches": patches}
            for kind, patches in sorted(issues.items())
        ],
    }


def _tolerance(combination: str, findings: Sequence[Finding]) -> float:
    """Return the smallest relative tolerance, to one digit, that gives no false alarm.

    The default where nothing was right.
    """
    right = [finding.cls for finding in findings if finding.kind == "right"]
    if not right:
        return DEFAULT_RTOL[combination.rpartition("+")[2]]
    rtol = max(_SMALLEST_RTOL, TOLERANCE_MARGIN * max(right))
    digits = math.floor(math.log10(rtol))
    return float(f"{math.ceil(rtol / 10**digits - 1e-9)}e{digits}")


def _checked(finding: Finding) -> dict[str, Any]:
    entry: dict[str, Any] = {"set": finding.at, "fit_s": float(f"{finding.fit_s:.3g}")}
    if finding.result.error is not None:
        return {**entry, "error": finding.result.error.type}
    return {**entry, "cls": _short(finding.cls), "twice_nll": _short(finding.twice_nll)}


def _wrong_values(result: HypotestResult) -> dict[str, Any]:
    if result.error is not None:
        return {"error": result.error.type}
    return {
        "CLs_obs": _short(result.CLs_obs, 6),
        "CLs_exp": [_short(value, 6) for value in result.CLs_exp],
    }


def main(arguments: Sequence[str]) -> int:
    """Run the command; return its exit status, 1 if a combination got something wrong."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except FaasError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


def _run(options: argparse.Namespace) -> int:
    configs = [_config(combination) for combination in options.combination or COMBINATIONS]
    own = options.reference_dir or Path.cwd() / DIRECTORY
    store = ReferenceStore([own, bundled_directory()], own)
    search_path = catalogue.search_path_from_environment()
    pallets = [
        pallet.select(options.patch)
        for name in options.pallet
        for pallet in catalogue.resolve(name, search_path=search_path)
    ]
    directory = platformdirs.user_cache_path("pytest-pyhf-faas")
    engine = create_engine(resolve_endpoint(options.endpoint, {}), directory)
    campaign = Campaign(
        engine,
        timeout_s=options.timeout or None,
        retries=2,
        expected_s=lambda task: _expected_s(store, task),
    )
    all_right = True
    try:
        for pallet in pallets:
            findings: dict[str, list[Finding]] = {}
            for config in configs:
                tasks = _tasks(store, pallet, config)
                campaign.submit(tasks)
                findings[config.combination] = found = []
                for task in tasks:
                    result = campaign.result(task).result()
                    finding = judge(result, store.find(task), config.combination)
                    if finding is not None:
                        found.append(finding)
                if not found:
                    raise ConfigurationError(
                        f"{pallet.name} has no references for these patches in {own} nor among "
                        f"those that come with the package: make them with pytest --faas-pallet "
                        f"{pallet.name} --faas-update=new"
                    )
                if options.write:
                    store.note(pallet.name, config.combination, notes(config.combination, found))
            all_right &= all(f.kind == "right" for found in findings.values() for f in found)
            sys.stdout.write("\n".join(table(pallet.name, findings)) + "\n")
            sys.stdout.flush()
    finally:
        campaign.cancel("the matrix ended")
    return 0 if all_right else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_pyhf_faas matrix",
        description="Fit pallets with every backend and optimizer, and say who is right, who is "
        "wrong by how much, and who is how fast.",
    )
    parser.add_argument("pallet", nargs="+", help="name, directory, archive or DOI")
    parser.add_argument(
        "--patch", action="append", default=[], help="only these patches, as --faas-patch"
    )
    parser.add_argument("--endpoint", default="local", help="where to fit (default: local)")
    parser.add_argument(
        "--combination",
        action="append",
        metavar="BACKEND+OPTIMIZER",
        help=f"may be repeated (default: {', '.join(COMBINATIONS)})",
    )
    parser.add_argument("--reference-dir", type=Path, help="where references are read and written")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one fit")
    parser.add_argument(
        "--write",
        action="store_true",
        help="note distances, tolerances and known issues in the reference files",
    )
    return parser


def _config(combination: str) -> HypotestConfig:
    if combination == CERTIFIED:
        return HypotestConfig(method=CERTIFIED)
    backend, plus, optimizer = combination.partition("+")
    if not plus:
        raise ConfigurationError(
            f"the combination {combination!r} is not known: write BACKEND+OPTIMIZER, as numpy+scipy"
        )
    return HypotestConfig(backend=backend, optimizer=optimizer)


def _tasks(store: ReferenceStore, pallet: Pallet, config: HypotestConfig) -> list[Task]:
    """Return the tasks of a pallet; certified ones begin where its references were searched."""
    points = store.pool(pallet, config) if config.method == CERTIFIED else None
    pool = Pool(points or ())
    return [make_task(pallet, patch, config, pool) for patch in pallet.patches]


def _expected_s(store: ReferenceStore, task: Task) -> float | None:
    reference = store.find(task)
    return None if isinstance(reference, Missing) else reference.expected_s(task.config.combination)


def _error_type(result: HypotestResult) -> str:
    return result.error.type if result.error is not None else "no exception"


def _reason(kind: str, combination: str) -> dict[str, str]:
    """Return reason and link of a known issue."""
    optimizer = combination.rpartition("+")[2]
    if kind == "mixed":
        return {
            "reason": "the fits end at minima of no consistent set",
            "link": f"{ISSUES}/1032",
        }
    if kind == "unconverged":
        return {
            "reason": f"{optimizer} stops above the minimum and says that it succeeded",
            "link": f"{ISSUES}/1320",
        }
    if kind == "wrong":
        return {"reason": "CLs is off although the fits have converged", "link": f"{ISSUES}/1320"}
    return {"reason": f"{optimizer} raises {kind.rpartition('.')[2]}", "link": f"{ISSUES}/635"}


def _short(value: float | None, digits: int = 2) -> float | str:
    if value is None or not math.isfinite(value):
        return str(value)
    return float(f"{value:.{digits}g}")
