"""The CLs values of a run as a submission to HEPData: a table of each analysis.

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
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import NOTHING, counted, one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis, Number

DIRECTORY = "hepdata"
SUBMISSION = "submission.yaml"
_TABLE = "cls"
_LONGEST_NAME = 64
#: The expected value and its bands, among the six.
_MEDIAN, _BANDS = 3, {"1 sigma": (2, 4), "2 sigma": (1, 5)}
#: HEPData takes such a text for a range, and refuses it.
_LIKE_A_RANGE = re.compile(r"(?<=[\d.])(\s*)-(?=\s*[+-]?\d)")
#: What the configuration of a hypothesis test is called in a table.
_QUALIFIERS = {
    "test_stat": "Test statistic",
    "test_poi": "POI",
    "measurement": "Measurement",
}


def write(document: Document, directory: Path) -> None:
    """Write the submission of a run, in place of an earlier one; none where there is no CLs.

    Hypotheses whose CLs was shown to be wrong are left out, and so are those without CLs; the
    description of the table says how many.
    """
    import yaml

    target = directory / DIRECTORY
    # HEPData refuses files that the submission does not name.
    for earlier in [target / SUBMISSION, *target.glob(f"{_TABLE}-*.yaml")]:
        earlier.unlink(missing_ok=True)
    entries: list[Mapping[str, Any]] = []
    for place, (name, analysis) in enumerate(
        zip(names_of(document["analyses"]), document["analyses"], strict=True)
    ):
        published = [each for each in analysis["hypotheses"] if _may_be_published(each)]
        if not published:
            continue
        target.mkdir(exist_ok=True)
        file = f"{stem_of(_TABLE, place, analysis)}.yaml"
        (target / file).write_text(_dump(yaml, _table(analysis, published)), encoding="utf-8")
        entries.append(_entry(name, analysis, published, file, [one["name"] for one in entries]))
    if entries:
        run = document["run"]
        head = {
            "comment": f"CLs values calculated with pyhf by the run {run['id']} of "
            f"pytest-pyhf-faas {run['package']}, which began at {run['began_at']}"
        }
        text = "---\n".join(_dump(yaml, each) for each in (head, *entries))
        (target / SUBMISSION).write_text(text, encoding="utf-8")


def _dump(yaml: Any, value: Mapping[str, Any]) -> str:
    # YAML has no halves of surrogate pairs.
    harmless = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    # The one in C is ten times as fast, and not everywhere.
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


def _may_be_published(hypothesis: Hypothesis) -> bool:
    return hypothesis["CLs"] is not None and not _is_wrong(hypothesis)


def _entry(
    name: str,
    analysis: Analysis,
    published: Sequence[Hypothesis],
    file: str,
    taken: Sequence[str],
) -> dict[str, Any]:
    """Return what the submission says of a table."""
    return {
        "name": _name(f"CLs of {one_line(name)}", taken),
        "description": _description(analysis, published),
        "keywords": [{"name": "observables", "values": ["CLS"]}],
        "data_file": file,
    }


def _name(wanted: str, taken: Sequence[str]) -> str:
    """Return a name that no other table has and that HEPData takes."""
    name, count = shortened(wanted, _LONGEST_NAME, cut="middle"), 1
    while name in taken:
        count += 1
        end = f" ({count})"
        name = shortened(wanted, _LONGEST_NAME - len(end), cut="middle") + end
    return name


def _description(analysis: Analysis, published: Sequence[Hypothesis]) -> str:
    hypotheses = counted(len(published), "signal hypothesis")
    sentences = ["A synthetic pallet: this is no physics."] if analysis["synthetic"] else []
    sentences += [
        f"Observed and expected CLs of {one_line(analysis['pallet'])}: {hypotheses}.",
        f"Calculated in the asymptotic approximation, with {analysis['fit_setup']}.",
        "The errors of the expected CLs are its bands of 1 and 2 standard deviations.",
    ]
    if analysis["doi"]:
        sentences.append(f"The likelihoods were published as doi:{analysis['doi']}.")
    others = [each for each in analysis["hypotheses"] if not _may_be_published(each)]
    wrong = Counter(each["verdict"] for each in others if _is_wrong(each))
    for verdict, count in wrong.items():
        sentences.append(f"Left out: {counted(count, 'hypothesis')} with the verdict '{verdict}'.")
    without = len(others) - wrong.total()
    if without:
        sentences.append(f"Left out: {counted(without, 'hypothesis')} without CLs.")
    unchecked = sum(not Verdict(each["verdict"]).is_compared for each in published)
    if unchecked:
        sentences.append(
            f"{counted(unchecked, 'hypothesis')} of the table "
            f"{'was' if unchecked == 1 else 'were'} compared with no reference."
        )
    ambiguous = sum(each["ambiguous"] is not None for each in published)
    if ambiguous:
        sentences.append(
            f"The likelihood of {counted(ambiguous, 'hypothesis')} has two sets of minima; CLs is "
            "that of the set at which the fits ended."
        )
    return " ".join(sentences)


# The table


def _table(analysis: Analysis, published: Sequence[Hypothesis]) -> dict[str, Any]:
    qualifiers = [
        {"name": title, "value": analysis["config"][field]}
        for field, title in _QUALIFIERS.items()
        if analysis["config"].get(field) is not None
    ]
    return {
        "independent_variables": _independent(analysis["labels"], published),
        "dependent_variables": [
            {
                "header": {"name": name},
                "qualifiers": [dict(each) for each in qualifiers],
                "values": [value(each["CLs"] or ()) for each in published],
            }
            for name, value in (("Observed CLs", _observed), ("Expected CLs", _expected))
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
    return {"value": _number(six[0])}


def _expected(six: Sequence[Number]) -> dict[str, Any]:
    """Return the median with the edges of its bands, as differences from it."""
    median = float(six[_MEDIAN])
    errors = []
    for label, (low, high) in _BANDS.items():
        minus, plus = float(six[low]) - median, float(six[high]) - median
        if math.isfinite(minus) and math.isfinite(plus) and (minus or plus):
            errors.append({"asymerror": {"minus": minus, "plus": plus}, "label": label})
    return {"value": _number(six[_MEDIAN]), **({"errors": errors} if errors else {})}


def _number(value: Number) -> Number:
    return float(value) if math.isfinite(float(value)) else str(value)
