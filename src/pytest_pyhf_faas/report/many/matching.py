"""Which hypotheses of many runs are the same."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas.report.comparison.inputs import CALCULATION
from pytest_pyhf_faas.report.quantity import CLS, name_of_quantity, quantity_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis
    from pytest_pyhf_faas.report.quantity import Quantity

_NAMES = ("endpoint", "fit_setup")


class Fitted(NamedTuple):
    """A hypothesis in one of the runs."""

    fit_setup: str
    hypothesis: Hypothesis


@dataclass(frozen=True, slots=True)
class Row:
    """A hypothesis in all runs; ``None`` where a run does not have it.

    Attributes
    ----------
    analysis : str
        Its pallet, with what else distinguishes it from the others.
    quantity : Quantity or None
        What its six values are; ``None`` where it has others, as toys.
    """

    analysis: str
    patch: str
    quantity: Quantity | None
    fitted: tuple[Fitted | None, ...]


def rows_of(documents: Sequence[Document | None]) -> list[Row]:
    """Return all hypotheses: those of the first run in its order, then others by their names.

    As where two runs are compared, endpoint and fit setup may differ from run to run where each has
    one; configuration and test count where a run has the same hypothesis more than once.
    """
    runs = [[] if document is None else document["analyses"] for document in documents]
    fields = _telling_apart(runs)
    by_test = any(
        count > 1
        for run in runs
        for analysis in run
        for count in Counter(each["patch"] for each in analysis["hypotheses"]).values()
    )
    found: dict[tuple[object, ...], tuple[Analysis, dict[int, Fitted]]] = {}
    for place, run in enumerate(runs):
        for key, analysis, hypothesis in _keyed(run, fields, by_test):
            fitted = Fitted(analysis["fit_setup"], hypothesis)
            found.setdefault(key, (analysis, {}))[1][place] = fitted
    here = [key for key, (_analysis, those) in found.items() if 0 in those]
    others = sorted(found.keys() - here, key=repr)
    rows = []
    for key in (*here, *others):
        analysis, those = found[key]
        patch = next(iter(those.values())).hypothesis["patch"]
        fitted_in = tuple(those.get(place) for place in range(len(runs)))
        rows.append(Row(_name(analysis, fields), patch, quantity_of(analysis), fitted_in))
    return rows


def _keyed(
    run: Sequence[Analysis], fields: Sequence[str], by_test: bool
) -> Iterator[tuple[tuple[object, ...], Analysis, Hypothesis]]:
    seen: Counter[tuple[object, ...]] = Counter()
    for analysis in run:
        for hypothesis in analysis["hypotheses"]:
            # A suite that is installed elsewhere has another path.
            test = hypothesis["test"].rpartition("::")[2] if by_test else ""
            key = (*_who(analysis, fields), hypothesis["patch"], test)
            seen[key] += 1
            yield (*key, seen[key]), analysis, hypothesis


def _telling_apart(runs: Sequence[Sequence[Analysis]]) -> list[str]:
    """Return what distinguishes analyses of one pallet, other than their quantity."""
    fields = [n for n in _NAMES if any(len({_part(a, n) for a in run}) > 1 for run in runs)]
    if any(_is_twice(run, fields) for run in runs):
        every = [analysis for run in runs for analysis in run]
        names = dict.fromkeys(name for each in every for name in each["config"])
        fields += [
            name
            for name in names
            if name not in CALCULATION and len({_part(each, name) for each in every}) > 1
        ]
    return fields


def _is_twice(run: Sequence[Analysis], fields: Sequence[str]) -> bool:
    return any(count > 1 for count in Counter(_who(each, fields) for each in run).values())


def _who(analysis: Analysis, fields: Sequence[str]) -> tuple[str, ...]:
    return (
        name_of_quantity(analysis),
        analysis["pallet"],
        *(_part(analysis, name) for name in fields),
    )


def _part(analysis: Analysis, name: str) -> str:
    if name in _NAMES:
        return str(analysis[name])  # type: ignore[literal-required]
    return json.dumps(analysis["config"].get(name))


def _name(analysis: Analysis, fields: Sequence[str]) -> str:
    parts = [
        _part(analysis, name) if name in _NAMES else f"{name} {_part(analysis, name)}"
        for name in fields
    ]
    quantity = name_of_quantity(analysis)
    return ", ".join([analysis["pallet"], *parts, *([] if quantity == CLS.name else [quantity])])
