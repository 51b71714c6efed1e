"""The hypotheses of a run as tables, for spreadsheets and scripts: ``cls.csv``, ``limits.csv``."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.quantity import CLS, EXPECTED, LIMITS, OBSERVED, quantity_of
from pytest_pyhf_faas.report.whole import all_hypotheses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis, Number
    from pytest_pyhf_faas.report.quantity import Quantity

#: A table of each.
QUANTITIES = (CLS, LIMITS)
#: Of each set of minima.
_TWO = {"obs": OBSERVED, "exp": EXPECTED}
_BEFORE = ("pallet", "endpoint", "fit_setup", "patch")


def six_columns(quantity: Quantity) -> tuple[str, ...]:
    """Return the columns of the six values, named as in junitxml."""
    band = (f"exp_{n:+d}sigma" if n else "exp" for n in range(-2, 3))
    return tuple(f"{quantity.stem}_{name}" for name in ("obs", *band))


def write(document: Document, directory: Path) -> None:
    """Write the tables of a run: a row for each hypothesis; unknown values are empty.

    Quantities that the run did not calculate have no table, except CLs.
    """
    write_runs([({}, document)], directory, source=directory)


def write_runs(
    runs: Sequence[tuple[Mapping[str, str], Document]],
    directory: Path,
    *,
    source: Path | None = None,
) -> list[str]:
    """Write the tables of some runs, with the properties of each run in the first columns.

    Parameters
    ----------
    runs : sequence of tuple
        The properties of each, by column, and its document.
    directory : Path
        Where the tables go.
    source : Path, optional
        Where the files of all hypotheses lie; without it the rows are those of the documents.

    Returns
    -------
    list of str
        The names of the tables.
    """
    written = []
    for quantity in QUANTITIES:
        found = [
            (properties, each)
            for properties, document in runs
            for each in document["analyses"]
            if quantity_of(each) is quantity
        ]
        path = directory / quantity.file
        if found or quantity is CLS:
            _write_table(quantity, found, path, source)
            written.append(path.name)
        else:
            path.unlink(missing_ok=True)  # of an earlier run
    return written


def write_table(quantity: Quantity, analyses: Sequence[Analysis], path: Path) -> None:
    """Write a row for each hypothesis of some analyses of a quantity."""
    _write_table(quantity, [({}, each) for each in analyses], path)


def _write_table(
    quantity: Quantity,
    analyses: Sequence[tuple[Mapping[str, str], Analysis]],
    path: Path,
    source: Path | None = None,
) -> None:
    first = list(dict.fromkeys(name for properties, _analysis in analyses for name in properties))
    before, after = [*first, *_BEFORE], _columns_after(quantity)
    labels = _columns_of_labels([each for _properties, each in analyses], {*before, *after})
    rows = (
        {**properties, **_row(quantity, analysis, hypothesis, labels)}
        for properties, analysis in analyses
        for hypothesis in all_hypotheses(analysis, source)
    )
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, [*before, *labels.values(), *after], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _columns_after(quantity: Quantity) -> tuple[str, ...]:
    """Return the columns after the values of the pallets' labels."""
    six = six_columns(quantity)
    return (
        *six,
        *(f"{kind}_{quantity.stem}_{value}" for kind in ("lowest", "nominal") for value in _TWO),
        "minimum_set",
        *(f"reference_{value}" for value in six),
        "reference_error",
        "verdict",
        *(["remarks"] if quantity is LIMITS else ["mu_hat"]),
        "error",
        "fit_s",
    )


def _columns_of_labels(analyses: Sequence[Analysis], taken: set[str]) -> dict[str, str]:
    """Return the column of each label; one with the name of another column gets a suffix."""
    labels = dict.fromkeys(label for each in analyses for label in each["labels"])
    columns = {}
    for label in labels:
        column = label
        while column in taken:
            column = f"{column} (label)"
        taken.add(column)
        columns[label] = column
    return columns


def _row(
    quantity: Quantity, analysis: Analysis, hypothesis: Hypothesis, labels: Mapping[str, str]
) -> dict[str, object]:
    named = [labels[label] for label in analysis["labels"]]
    error = hypothesis["error"]
    reference = hypothesis["reference"]
    six = six_columns(quantity)
    return {
        "pallet": analysis["pallet"],
        "endpoint": analysis["endpoint"],
        "fit_setup": analysis["fit_setup"],
        "patch": hypothesis["patch"],
        **dict(zip(named, hypothesis["values"], strict=False)),
        **_six(six, quantity.obtained(hypothesis)),
        **_two_sets(quantity, hypothesis),
        "minimum_set": hypothesis["minimum_set"],
        **_six([f"reference_{name}" for name in six], quantity.reference(hypothesis)),
        "reference_error": reference and reference["error"],
        "verdict": hypothesis["verdict"],
        **_own(quantity, hypothesis),
        "error": error and error["type"],
        "fit_s": hypothesis["seconds"].get("fit"),
    }


def _six(names: Sequence[str], values: Sequence[Number] | None) -> dict[str, object]:
    return {} if values is None else dict(zip(names, values, strict=True))


def _two_sets(quantity: Quantity, hypothesis: Hypothesis) -> dict[str, object]:
    """Return observed and expected value at the two sets of minima, where these are two."""
    return {
        f"{kind}_{quantity.stem}_{name}": values[place]
        for kind, values in quantity.at_minima(hypothesis).items()
        for name, place in _TWO.items()
    }


def _own(quantity: Quantity, hypothesis: Hypothesis) -> dict[str, object]:
    """Return the columns that only one of the tables has."""
    if quantity is CLS:
        return {"mu_hat": hypothesis["mu_hat"]}
    limits = hypothesis.get("limits")
    return {"remarks": "; ".join(limits["remarks"]) if limits else None}
