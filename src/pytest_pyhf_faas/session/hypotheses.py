"""The entry of a hypothesis in a document: its fit, and the comparison with its reference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.campaign.results import json_number
from pytest_pyhf_faas.references.toy_values import toy_cls_of
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.report.form import (
        Ambiguous,
        Analysis,
        Hypothesis,
        LimitValues,
        MadeReferences,
        Number,
        ReferenceValues,
        ToyResult,
    )


def analysis_of(
    pallet: Pallet,
    endpoint: str,
    config: HypotestConfig,
    reference: PatchReference | Missing | None = None,
) -> Analysis:
    """Return what identifies an analysis, without its hypotheses."""
    return {
        "pallet": pallet.name,
        "endpoint": endpoint,
        "fit_setup": config.fit_setup,
        "quantity": config.quantity,
        "config": config.to_json(),
        "synthetic": pallet.synthetic,
        "doi": pallet.doi,
        "digest": pallet.digest,
        "labels": list(pallet.labels),
        "reference": _reference(reference),
        "wall_time": None,
        "timeline": None,
        "hypotheses": [],
    }


def unfitted(patch: SignalPatch, test: str) -> Hypothesis:
    """Return the entry of a hypothesis before its fit."""
    return {
        "patch": patch.name,
        "digest": patch.digest,
        "values": [json_value(value) for value in patch.values],
        "test": test,
        "outcome": "not run",
        "verdict": Verdict.NOT_RUN.value,
        "title": "",
        "text": "",
        "status": None,
        "CLs": None,
        "reference": None,
        "minimum_set": None,
        "ambiguous": None,
        "within": None,
        "rtol": None,
        "atol": None,
        "mu_hat": None,
        "error": None,
        "environment": None,
        "worker": None,
        "attempts": 0,
        "seconds": {},
        "warnings": [],
    }


def fitted(
    patch: SignalPatch,
    test: str,
    quantity: str,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> Hypothesis:
    """Return the entry of a hypothesis after its fit; `compared` adds to it."""
    hypothesis = unfitted(patch, test)
    said = result.to_json()
    hypothesis |= cast("Hypothesis", {name: said[name] for name in hypothesis if name in said})
    verdict = Verdict.of_fit(result.status) if result.was_sent else Verdict.CANCELLED
    hypothesis |= {"verdict": verdict.value, "reference": _values_of(reference)}
    if quantity == "cls":
        hypothesis["CLs"] = numbers(result.cls_values) or None
    elif result.limits:
        hypothesis["limits"] = _limits(Limits.from_json(result.limits), reference)
    elif result.toys:
        hypothesis["toys"] = _toys(result, reference)
    return hypothesis


def compared(
    hypothesis: Hypothesis, comparison: Comparison, tolerance: tuple[float, float] | None
) -> None:
    """Add the comparison of a hypothesis with its reference."""
    hypothesis |= {
        "verdict": comparison.verdict.value,
        "title": comparison.title,
        "minimum_set": comparison.at,
        "ambiguous": _ambiguous(comparison),
    }
    if comparison.rows and tolerance is not None:
        # The values of the set of minima that was compared.
        obtained = numbers(row.obtained for row in comparison.rows)
        known = numbers(row.reference for row in comparison.rows)
        limits = hypothesis.get("limits")
        if limits:
            limits |= {"values": obtained, "reference": known}
        else:
            hypothesis |= {"CLs": obtained, "reference": {"CLs": known, "error": None}}
        rtol, atol = tolerance
        hypothesis |= {
            "within": [row.within for row in comparison.rows],
            "rtol": rtol,
            "atol": atol,
        }


def json_value(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    return json_number(value) if isinstance(value, float) else value


def numbers(values: Iterable[float]) -> list[Number]:
    """Return numbers as JSON can hold them."""
    return [value if math.isfinite(value) else str(value) for value in values]


def _reference(reference: PatchReference | Missing | None) -> MadeReferences | None:
    if not reference:  # there is none, or none was needed
        return None
    provenance = reference.provenance
    return {
        "file": reference.path.name,
        "method": provenance["method"],
        "date": provenance["date"],
        "versions": dict(provenance["versions"]),
    }


def _values_of(reference: PatchReference | Missing) -> ReferenceValues | None:
    if not reference:
        return None
    return {"CLs": numbers(reference.cls_values) or None, "error": reference.error}


def _limits(limits: Limits, reference: PatchReference | Missing) -> LimitValues:
    known = reference.limits if reference else None
    return {
        "values": numbers(limits.lowest.values),
        "reference": None if known is None else numbers(known.lowest.values),
        "lowest": numbers(limits.lowest.values) if limits.ambiguous else None,
        "nominal": numbers(limits.nominal.values) if limits.ambiguous else None,
        "remarks": list(limits.lowest.remarks),
    }


def _toys(result: HypotestResult, reference: PatchReference | Missing) -> ToyResult:
    from pytest_pyhf_faas.report.toys import toys_entry  # imports NumPy

    asymptotic = result.lowest if result.cls_values else reference.lowest if reference else None
    return toys_entry(toy_cls_of(result.toys), asymptotic, reference.toys if reference else None)


def _ambiguous(comparison: Comparison) -> Ambiguous | None:
    """Return how the two sets of minima of a hypothesis differ, if it has two."""
    found = comparison.ambiguous
    if found is None:
        return None
    return {
        "lowest": numbers(found.lowest),
        "nominal": numbers(found.nominal),
        "flips": found.flips,
        "gap": found.gap,
        "fit": found.fit,
        "parameters": [
            {"name": each["name"], "lowest": each["lowest"], "nominal": each["nominal"]}
            for each in found.parameters
        ],
        "at_bound": list(found.at_bound),
        "was_at": comparison.was_at,
    }
