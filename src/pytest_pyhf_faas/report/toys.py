"""Toys in a report: CLs with its errors, and the distributions of the test statistic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import ndtr

from pytest_pyhf_faas.campaign.results import json_number
from pytest_pyhf_faas.references.toy_values import ToyValues, is_off, measured
from pytest_pyhf_faas.report.analyses import title_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pytest_pyhf_faas.campaign.results import MinimumSet
    from pytest_pyhf_faas.histfactory.toys import ToyCLs
    from pytest_pyhf_faas.references.form import ToysEntry
    from pytest_pyhf_faas.report.form import (
        Document,
        Number,
        ToyHistogram,
        ToyReference,
        ToyResult,
    )

    Vector = NDArray[np.float64]

_BINS = 40
#: Where the observed test statistic is not larger, all toys are as large by definition, and of
#: those with the signal the asymptotic formulae have one half: two conventions, no approximation.
_ZERO = 1e-6
_OBSERVED, _MEDIAN = 0, 3  # of the six values


def toys_entry(
    found: ToyCLs, asymptotic: MinimumSet | None, reference: ToysEntry | None
) -> ToyResult:
    """Return the entry of a report for the toys of a hypothesis.

    Parameters
    ----------
    found : ToyCLs
        What follows from them.
    asymptotic : MinimumSet or None
        The minima that the asymptotic CLs follows from, where they are known.
    reference : ToysEntry or None
        What the reference file says.
    """
    values = ToyValues.of(found)
    known = asymptotic is not None and bool(asymptotic.cls_values)
    asimov = off = cls = None
    if known and asymptotic is not None:
        cls = _numbers(asymptotic.cls_values)
        if found.observed > _ZERO:
            off = json_number(found.errors_from(asymptotic.cls_values[_OBSERVED]))
        fits = asymptotic.twice_nll
        if {"fixed_poi_fit_to_asimov", "free_fit_to_asimov"} <= fits.keys():
            asimov = json_number(fits["fixed_poi_fit_to_asimov"] - fits["free_fit_to_asimov"])
    return {
        "count": values.count,
        "failed": list(values.failed),
        "CLs": _numbers(values.values),
        "errors": _numbers(values.errors),
        "reference": None if reference is None else _reference(ToyValues.from_json(reference)),
        "asymptotic": cls,
        "off": off,
        "observed": _number(found.observed),
        "asimov": asimov,
        "histogram": _histogram(found),
    }


class ToyRow(NamedTuple):
    """A hypothesis in the table of toys."""

    title: str
    patch: str
    toys: str
    failed: str
    observed: str
    asymptotic_observed: float | None
    finding: str
    expected: str
    asymptotic_expected: float | None
    reference: str


def toy_rows(document: Document) -> list[ToyRow]:
    """Return the hypotheses with toys, those first whose asymptotic CLs_obs is off."""
    rows = [
        (abs(float(found["off"] or 0.0)), _row(title_of(analysis), each["patch"], found))
        for analysis in document["analyses"]
        for each in analysis["hypotheses"]
        if (found := each.get("toys")) is not None
    ]
    return [row for _off, row in sorted(rows, key=lambda pair: -pair[0] * is_off(pair[0]))]


def asymptotic_shares(test_stat: str, asimov: float, edges: Vector) -> tuple[Vector, Vector]:
    r"""Return which share of toys lies between each two edges, by the asymptotic formulae.

    Parameters
    ----------
    test_stat : str
        "qtilde" or "q".
    asimov : float
        The test statistic of the background-only Asimov data, :math:`\mu^2 / \sigma^2`.
    edges : array, shape (n + 1,)
        The first of them is 0, where half of the toys with the signal are.

    Returns
    -------
    tuple of array, each of shape (n,)
        With the tested signal, and without one.

    Notes
    -----
    The cumulative distributions of Cowan, Cranmer, Gross, Vitells: Equation (57) for "q", (65) for
    "qtilde", with :math:`\mu'` the tested value and 0.
    """
    root = np.sqrt(asimov)

    def cumulative(shift: float) -> Vector:
        r"""Return it; the shift is :math:`(\mu - \mu') / \sigma`."""
        below = np.sqrt(edges) - shift
        if test_stat == "qtilde" and root > 0:
            beyond = (edges - asimov + 2 * root * (root - shift)) / (2 * root)
            below = np.where(edges > asimov, beyond, below)
        shares: Vector = ndtr(below)
        shares[0] = 0.0  # at 0 there is a separate share
        return shares

    return np.diff(cumulative(0.0)), np.diff(cumulative(float(root)))


def _histogram(found: ToyCLs) -> ToyHistogram:
    largest = max((float(each[-1]) for each in found.statistics.values() if len(each)), default=1.0)
    highest = max(largest, found.observed, 1e-3) * 1.02
    edges = np.linspace(0, float(f"{highest:.3g}") * 1.01, _BINS + 1)
    signal, background = (
        np.histogram(found.statistics[hypothesis], edges)[0].tolist()
        for hypothesis in ("signal", "background")
    )
    rounded = [float(f"{edge:.6g}") for edge in edges.tolist()]
    return {"edges": rounded, "signal": signal, "background": background}


def _reference(known: ToyValues) -> ToyReference:
    return {
        "count": known.count,
        "CLs": _numbers(known.values),
        "errors": _numbers(known.errors),
    }


def _row(title: str, patch: str, found: ToyResult) -> ToyRow:
    asymptotic, off = found["asymptotic"], found["off"]
    reference = found["reference"]

    def cell(values: list[Number], errors: list[Number], at: int) -> str:
        return measured(float(values[at]), float(errors[at]))

    finding = "" if float(found["observed"]) > _ZERO else "the observed test statistic is 0"
    if off is not None and is_off(float(off)):
        finding = f"off by {abs(float(off)):.1f} standard errors"
    return ToyRow(
        title=title,
        patch=patch,
        toys=f"{found['count']:,} + {found['count']:,}",
        failed=str(sum(found["failed"])),
        observed=cell(found["CLs"], found["errors"], _OBSERVED),
        asymptotic_observed=None if asymptotic is None else float(asymptotic[_OBSERVED]),
        finding=finding,
        expected=cell(found["CLs"], found["errors"], _MEDIAN),
        asymptotic_expected=None if asymptotic is None else float(asymptotic[_MEDIAN]),
        reference=""
        if reference is None
        else cell(reference["CLs"], reference["errors"], _OBSERVED),
    )


def _number(value: float) -> Number:
    found = json_number(value)
    assert found is not None
    return found


def _numbers(values: Iterable[float]) -> list[Number]:
    return [_number(value) for value in values]
