"""`--faas-resume`: the results of earlier runs for an endpoint, and which are valid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_pyhf_faas.advice import speaks_of_the_worker
from pytest_pyhf_faas.campaign import journal as journals
from pytest_pyhf_faas.campaign.tasks import worker_sha256
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_pyhf_faas.campaign.journal import StoredResult
    from pytest_pyhf_faas.campaign.results import HypotestResult

    Known: TypeAlias = HypotestResult | StoredResult

_OTHER_CODE = (
    "another version of pytest-pyhf-faas, with other code for workers, had done or sent them"
)


@dataclass(frozen=True, slots=True)
class Earlier:
    """The results of earlier runs.

    Attributes
    ----------
    results : dict
        Answers, or where in a journal they are, by the keys of their tasks.
    accepted : dict
        References of calls that were sent and not received, by the keys of tasks.
    left_out : dict
        Why an answer is not taken over, or a call not collected, by the keys of tasks.
    problems : list of str
        What is wrong with the journals.
    """

    results: dict[str, Known] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_earlier(directory: Path, endpoint: str) -> Earlier:
    """Return what the journals in a directory hold for an endpoint, as far as it may be valid."""
    found = Earlier()
    of_other_code: set[str] = set()
    for path in journals.earlier(directory):
        reader = journals.JournalReader(path)
        answered: set[str] = set()
        stored: dict[str, StoredResult] = {}
        for where, result, place in reader.read_places():
            if where == endpoint:
                answered.add(result.key)
                if result.environment is not None and _stands(result):
                    stored[result.key] = place
        sent = {key: text for (where, key), text in reader.accepted.items() if where == endpoint}
        if reader.problem:
            found.problems.append(reader.problem)
        if reader.worker_sha256 != worker_sha256():
            of_other_code |= sent.keys() | answered
            continue
        for key in answered:
            found.accepted.pop(key, None)
        found.results.update(stored)
        found.accepted.update(sent)
    lost = of_other_code - found.results.keys() - found.accepted.keys()
    found.left_out.update(dict.fromkeys(lost, _OTHER_CODE))
    return found


def of_the_same_workers(
    results: Mapping[str, Known], probe: Mapping[str, Any]
) -> tuple[dict[str, Known], dict[str, str]]:
    """Return the results of workers like the present ones, and why others are left out.

    Parameters
    ----------
    results : mapping
        By the keys of their tasks.
    probe : mapping
        The environment of a present worker, from `fitting.probe_environment`.
    """
    today = {"python": probe["python"], **probe["versions"]}
    usable: dict[str, Known] = {}
    left_out: dict[str, str] = {}
    for key, result in results.items():
        then = result.environment.computing if result.environment else {}
        changed = [
            f"{name} {old} -> {today.get(name)}"
            for name, old in sorted(then.items())
            if today.get(name) != old
        ]
        if changed:
            left_out[key] = f"the workers changed: {', '.join(changed)}"
        else:
            usable[key] = result
    return usable, left_out


def left_out_notes(reasons: Iterable[str]) -> list[str]:
    """Return notes on the fits that were left out, one for each reason."""
    return [
        f"--faas-resume left {counted(count, 'earlier fit')} out: {why}"
        for why, count in Counter(reasons).items()
    ]


def _stands(result: HypotestResult) -> bool:
    """Whether a worker of the same versions would answer the same again."""
    return result.is_answer and not (result.error and speaks_of_the_worker(result.error))
