"""Who is right: fit pallets with every backend and optimizer, and hold each against the references.

``python -m pytest_pyhf_faas matrix PALLET...`` prints the table; with ``--write`` the reference
files take note of how far each combination was from the truth, of the tolerance that follows, and
of what it gets wrong.
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

from pytest_pyhf_faas import catalogue
from pytest_pyhf_faas.campaign import Campaign
from pytest_pyhf_faas.compare import Verdict, compare, is_in_local_minimum
from pytest_pyhf_faas.engines import create_engine, resolve_endpoint
from pytest_pyhf_faas.errors import ConfigurationError, FaasError
from pytest_pyhf_faas.reference import (
    DEFAULT_RTOL,
    DIRECTORY,
    TOLERANCE_MARGIN,
    Missing,
    ReferenceStore,
    bundled_directory,
)
from pytest_pyhf_faas.tasks import CERTIFIED, HypotestConfig, make_tasks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.reference import PatchReference
    from pytest_pyhf_faas.results import HypotestResult
    from pytest_pyhf_faas.tasks import Task

COMBINATIONS = ("numpy+scipy", "numpy+minuit", "jax+scipy", "jax+minuit", CERTIFIED)
ISSUES = "https://github.com/scikit-hep/pyhf/issues"
#: CLs that is off by less than this does not tell two minima apart.
_ONE_MINIMUM = 1e-3
_SMALLEST_RTOL = 1e-6
#: A converged fit that is farther off than this is wrong all the same.
_LARGEST_RTOL = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """How one combination did on one hypothesis.

    Attributes
    ----------
    kind : str
        "right", "stopped above a minimum", "local minimum", "wrong", or the type of an exception.
    cls : float
        Largest relative difference of CLs; infinite where there are no values.
    twice_nll : float
        Largest difference of the twice NLL of the fits.
    """

    patch: str
    kind: str
    cls: float
    twice_nll: float
    fit_s: float
    result: HypotestResult


def judge(
    result: HypotestResult, reference: PatchReference | Missing, combination: str
) -> Finding | None:
    """Return how a result compares with its certified reference; ``None`` without one."""
    if isinstance(reference, Missing):
        return None
    fit_s = result.seconds.get("fit", 0.0)
    # Known issues and tolerances are what is looked for.
    comparison = compare(
        result, reference, combination=combination, rtol=_LARGEST_RTOL, ignore_known_issues=True
    )
    if reference.error is not None or result.error is not None:
        kind = "right" if comparison.verdict is Verdict.RIGHT else _error_type(result)
        distance = 0.0 if kind == "right" else math.inf
        return Finding(result.patch, kind, distance, distance, fit_s, result)
    differences = [row.relative for row in comparison.rows if not row.indifferent]
    gaps = [
        result.twice_nll[fit] - minimum
        for fit, minimum in reference.twice_nll.items()
        if fit in result.twice_nll
    ]
    largest = max((abs(value) for value in differences), default=0.0)
    kind = "right"
    if comparison.verdict is Verdict.UNCONVERGED:
        local = "local minimum" in comparison.explanation
        kind = "local minimum" if local else "stopped above a minimum"
    elif comparison.verdict is Verdict.WRONG:
        kind = "wrong"
    elif largest > _ONE_MINIMUM and is_in_local_minimum(result, reference):
        kind = "local minimum"  # one that is hardly higher
    return Finding(
        result.patch,
        kind,
        largest,
        max(gaps, key=abs, default=0.0),
        fit_s,
        result,
    )


def table(pallet: str, findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return the lines of the table of one pallet."""
    rows: list[tuple[str, ...]] = [
        ("", "right", "stopped", "local min.", "wrong", "error", "CLs off by", "fit [s]")
    ]
    for combination, found in findings.items():
        kinds = [finding.kind for finding in found]
        counted = [kinds.count(k) for k in ("right", "stopped above a minimum", "local minimum")]
        wrong = kinds.count("wrong")
        distances = [finding.cls for finding in found if math.isfinite(finding.cls)]
        times = [finding.fit_s for finding in found if finding.fit_s]
        rows.append(
            (
                combination,
                *(str(count) for count in counted),
                str(wrong),
                str(len(found) - sum(counted) - wrong),
                f"{median(distances):.0e} / {max(distances):.0e}" if distances else "-",
                f"{median(times):.2f}" if times else "-",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    count = max((len(found) for found in findings.values()), default=0)
    lines = [f"{pallet}: {count} hypotheses (CLs off by: median / largest; fit: median)"]
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
    entry: dict[str, Any] = {"fit_s": float(f"{finding.fit_s:.3g}")}
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
                tasks = make_tasks(pallet, config)
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


def _expected_s(store: ReferenceStore, task: Task) -> float | None:
    reference = store.find(task)
    return None if isinstance(reference, Missing) else reference.expected_s(task.config.combination)


def _error_type(result: HypotestResult) -> str:
    return result.error.type if result.error is not None else "no exception"


def _reason(kind: str, combination: str) -> dict[str, str]:
    """Return reason and link of a known issue."""
    optimizer = combination.partition("+")[2]
    if kind == "local minimum":
        return {
            "reason": "the optimizer ends in a local minimum",
            "link": f"{ISSUES}/1032",
        }
    if kind == "stopped above a minimum":
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
