"""All hypotheses of a run as one table, for spreadsheets and scripts: ``cls.csv``."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.report.analyses import reference_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis, Number

FILE = "cls.csv"
#: The six values, as junitxml names them as well.
SIX = (
    "CLs_obs",
    "CLs_exp_-2sigma",
    "CLs_exp_-1sigma",
    "CLs_exp",
    "CLs_exp_+1sigma",
    "CLs_exp_+2sigma",
)
#: Of each set of minima.
_TWO = {"CLs_obs": 0, "CLs_exp": 3}
_BEFORE = ("pallet", "endpoint", "fit_setup", "patch")
#: What stands behind the values of the pallets' labels.
_AFTER = (
    *SIX,
    *(f"{kind}_{value}" for kind in ("lowest", "nominal") for value in _TWO),
    "minimum_set",
    *(f"reference_{value}" for value in SIX),
    "reference_error",
    "verdict",
    "mu_hat",
    "error",
    "fit_s",
)


def write(document: Document, directory: Path) -> None:
    """Write the table of a run into a directory."""
    write_table(document["analyses"], directory / FILE)


def write_table(analyses: Sequence[Analysis], path: Path) -> None:
    """Write a row for each hypothesis of some analyses, what is not known left empty."""
    columns = _columns_of_labels(analyses)
    rows = [
        _row(analysis, hypothesis, columns)
        for analysis in analyses
        for hypothesis in analysis["hypotheses"]
    ]
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, [*_BEFORE, *columns.values(), *_AFTER], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _columns_of_labels(analyses: Sequence[Analysis]) -> dict[str, str]:
    """Return the column of each label; one that has the name of another column is told apart."""
    labels = dict.fromkeys(label for each in analyses for label in each["labels"])
    taken = {*_BEFORE, *_AFTER}
    columns = {}
    for label in labels:
        column = label
        while column in taken:
            column = f"{column} (label)"
        taken.add(column)
        columns[label] = column
    return columns


def _row(
    analysis: Analysis, hypothesis: Hypothesis, columns: Mapping[str, str]
) -> dict[str, object]:
    named = [columns[label] for label in analysis["labels"]]
    error = hypothesis["error"]
    reference = hypothesis["reference"]
    return {
        "pallet": analysis["pallet"],
        "endpoint": analysis["endpoint"],
        "fit_setup": analysis["fit_setup"],
        "patch": hypothesis["patch"],
        **dict(zip(named, hypothesis["values"], strict=False)),
        **_six("", hypothesis["CLs"]),
        **_two(hypothesis),
        "minimum_set": hypothesis["minimum_set"],
        **_six("reference_", reference_of(hypothesis)),
        "reference_error": reference and reference["error"],
        "verdict": hypothesis["verdict"],
        "mu_hat": hypothesis["mu_hat"],
        "error": error and error["type"],
        "fit_s": hypothesis["seconds"].get("fit"),
    }


def _six(prefix: str, values: Sequence[Number] | None) -> dict[str, object]:
    if values is None:
        return {}
    return {f"{prefix}{name}": value for name, value in zip(SIX, values, strict=True)}


def _two(hypothesis: Hypothesis) -> dict[str, object]:
    found: Any = hypothesis["ambiguous"]
    if found is None:
        return {}
    return {
        f"{kind}_{value}": found[kind][place]
        for kind in ("lowest", "nominal")
        for value, place in _TWO.items()
    }
