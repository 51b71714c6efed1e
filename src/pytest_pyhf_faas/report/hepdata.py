"""The CLs values and upper limits of a run as a submission to HEPData: a table of each analysis.

Its form is that of https://hepdata-submission.readthedocs.io, which ``hepdata-validator`` checks.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.report.analyses import names_of, stem_of
from pytest_pyhf_faas.report.axes import with_unit
from pytest_pyhf_faas.report.quantity import CLS, EXPECTED, LIMITS, OBSERVED, quantity_of
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import NOTHING, counted, one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis, Number
    from pytest_pyhf_faas.report.quantity import Quantity

DIRECTORY = "hepdata"
SUBMISSION = "submission.yaml"
#: Prefix of the names of the tables' files.
_STEMS = {CLS.name: "cls", LIMITS.name: "limits"}
#: What the values are, in a description; and at which minima, where there are two sets of them.
_WHAT = {
    CLS.name: CLS.name,
    LIMITS.name: "upper limits on the POI at 95 % CL (CLs)",
}
_AT_MINIMA = {
    CLS.name: "those of the set at which the fits ended",
    LIMITS.name: "those that were compared with the reference",
}
_LONGEST_NAME = 64
#: The bands of the expected value, among the six.
_BANDS = {"1 sigma": (2, 4), "2 sigma": (1, 5)}
#: HEPData reads such a text as a range, and refuses it.
_LIKE_A_RANGE = re.compile(r"(?<=[\d.])(\s*)-(?=\s*[+-]?\d)")
#: What the configuration of a hypothesis test is called in a table.
_QUALIFIERS = {
    "test_stat": "Test statistic",
    "test_poi": "POI",
    "measurement": "Measurement",
}


def write(document: Document, directory: Path) -> None:
    """Write the submission of a run over an earlier one; nothing if there are no values.

    Hypotheses whose values were shown to be wrong are left out, and so are those without; the
    description of the table says how many.
    """
    import yaml

    target = directory / DIRECTORY
    # HEPData refuses files that the submission does not name.
    tables = [path for stem in _STEMS.values() for path in target.glob(f"{stem}-*.yaml")]
    for earlier in [target / SUBMISSION, *tables]:
        earlier.unlink(missing_ok=True)
    entries: list[Mapping[str, Any]] = []
    names = names_of(document["analyses"], with_quantity=False)
    for place, (name, analysis) in enumerate(zip(names, document["analyses"], strict=True)):
        quantity = quantity_of(analysis)
        if quantity is None or "whole" in analysis:  # the document has only a part of it
            continue
        published = [one for one in analysis["hypotheses"] if _may_be_published(quantity, one)]
        if not published:
            continue
        target.mkdir(exist_ok=True)
        file = f"{stem_of(_STEMS[quantity.name], place, analysis)}.yaml"
        content = _table(quantity, analysis, published)
        (target / file).write_text(_dump(yaml, content), encoding="utf-8")
        taken = [one["name"] for one in entries]
        entries.append(_entry(quantity, name, analysis, published, file, taken))
    if entries:
        run = document["run"]
        head = {
            "comment": f"Calculated with pyhf by the run {run['id']} of "
            f"pytest-pyhf-faas {run['package']}, which began at {run['began_at']}"
        }
        text = "---\n".join(_dump(yaml, each) for each in (head, *entries))
        (target / SUBMISSION).write_text(text, encoding="utf-8")


def _dump(yaml: Any, value: Mapping[str, Any]) -> str:
    # YAML has no lone surrogates.
    harmless = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    # The C version is ten times as fast, but not always installed.
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        harmless,
        Dumper=dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    return text


# What is published


def _is_wrong(hypothesis: Hypothesis) -> bool:
    verdict = Verdict(hypothesis["verdict"])
    return verdict.state is State.WRONG or verdict is Verdict.KNOWN_ISSUE


def _may_be_published(quantity: Quantity, hypothesis: Hypothesis) -> bool:
    return quantity.obtained(hypothesis) is not None and not _is_wrong(hypothesis)


def _entry(
    quantity: Quantity,
    name: str,
    analysis: Analysis,
    published: Sequence[Hypothesis],
    file: str,
    taken: Sequence[str],
) -> dict[str, Any]:
    """Return the entry of a table in the submission."""
    what = f"{quantity.name[0].upper()}{quantity.name[1:]}"
    return {
        "name": _name(f"{what} of {one_line(name)}", taken),
        "description": _description(quantity, analysis, published),
        "keywords": [{"name": "observables", "values": ["CLS"]}],
        "data_file": file,
    }


def _name(wanted: str, taken: Sequence[str]) -> str:
    """Return a unique table name that HEPData accepts."""
    name, count = shortened(wanted, _LONGEST_NAME, cut="middle"), 1
    while name in taken:
        count += 1
        end = f" ({count})"
        name = shortened(wanted, _LONGEST_NAME - len(end), cut="middle") + end
    return name


def _description(quantity: Quantity, analysis: Analysis, published: Sequence[Hypothesis]) -> str:
    what = _WHAT[quantity.name]
    hypotheses = counted(len(published), "signal hypothesis")
    sentences = ["A synthetic pallet: this is no physics."] if analysis["synthetic"] else []
    sentences += [
        f"Observed and expected {what} of {one_line(analysis['pallet'])}: {hypotheses}.",
        f"Calculated in the asymptotic approximation, with {analysis['fit_setup']}.",
        f"The errors of the expected {quantity.name} are bands of 1 and 2 standard deviations.",
    ]
    if analysis["doi"]:
        sentences.append(f"The likelihoods were published as doi:{analysis['doi']}.")
    others = [each for each in analysis["hypotheses"] if not _may_be_published(quantity, each)]
    wrong = Counter(each["verdict"] for each in others if _is_wrong(each))
    for verdict, count in wrong.items():
        sentences.append(f"Left out: {counted(count, 'hypothesis')} with the verdict '{verdict}'.")
    without = len(others) - wrong.total()
    if without:
        sentences.append(f"Left out: {counted(without, 'hypothesis')} without {quantity.name}.")
    unchecked = sum(not Verdict(each["verdict"]).is_compared for each in published)
    if unchecked:
        sentences.append(
            f"{counted(unchecked, 'hypothesis')} of the table "
            f"{'was' if unchecked == 1 else 'were'} not compared with a reference."
        )
    ambiguous = sum(bool(quantity.at_minima(each)) for each in published)
    if ambiguous:
        sentences.append(
            f"The likelihood of {counted(ambiguous, 'hypothesis')} has two sets of minima; the "
            f"{quantity.name} are {_AT_MINIMA[quantity.name]}."
        )
    return " ".join(sentences)


# The table


def _table(
    quantity: Quantity, analysis: Analysis, published: Sequence[Hypothesis]
) -> dict[str, Any]:
    qualifiers = [
        {"name": title, "value": analysis["config"][field]}
        for field, title in _QUALIFIERS.items()
        if analysis["config"].get(field) is not None and (field, quantity) != ("test_poi", LIMITS)
    ]
    return {
        "independent_variables": _independent(analysis["labels"], published),
        "dependent_variables": [
            {
                "header": {"name": name},
                "qualifiers": [dict(each) for each in qualifiers],
                "values": [value(quantity.obtained(each) or ()) for each in published],
            }
            for name, value in (
                (f"Observed {quantity.one}", _observed),
                (f"Expected {quantity.one}", _expected),
            )
        ],
    }


def _independent(labels: Sequence[str], published: Sequence[Hypothesis]) -> list[dict[str, Any]]:
    """Return the values of the labels, and the names of the patches."""
    variables = []
    for place, label in enumerate(labels):
        name, unit = with_unit(label)
        variables.append(
            {
                "header": {"name": name, "units": unit} if unit else {"name": name},
                "values": [
                    {"value": _value(each["values"][place] if place < len(each["values"]) else "")}
                    for each in published
                ],
            }
        )
    names = [{"value": _value(each["patch"])} for each in published]
    return [*variables, {"header": {"name": "patch name"}, "values": names}]  # no label has a space


def _value(value: float | str) -> float | str:
    return _LIKE_A_RANGE.sub(rf"\1{NOTHING}", value) if isinstance(value, str) else value


def _observed(six: Sequence[Number]) -> dict[str, Any]:
    return {"value": _number(six[OBSERVED])}


def _expected(six: Sequence[Number]) -> dict[str, Any]:
    """Return the median with the edges of its bands, as differences from it."""
    median = float(six[EXPECTED])
    errors = []
    for label, (low, high) in _BANDS.items():
        minus, plus = float(six[low]) - median, float(six[high]) - median
        if math.isfinite(minus) and math.isfinite(plus) and (minus or plus):
            errors.append({"asymerror": {"minus": minus, "plus": plus}, "label": label})
    return {"value": _number(six[EXPECTED]), **({"errors": errors} if errors else {})}


def _number(value: Number) -> Number:
    return float(value) if math.isfinite(float(value)) else str(value)
