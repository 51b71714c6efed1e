"""A worker's answer to a batch, read in one place.

An answer may come from another version of this package: a later session may collect what a
service kept since an earlier one. So nothing in it is taken for granted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.quantities import checked_limits, checked_toys
from pytest_pyhf_faas.campaign.results import CLS_LABELS, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.errors import RemoteCallError
from pytest_pyhf_faas.redaction import redacted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.tasks import Task


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a worker to a batch.

    Attributes
    ----------
    worker : str
        Host and process.
    block : str or None
        Name of its block, if reported.
    results : mapping
        The result of each task that was asked for, by its key, in the order of the tasks. How
        often it was sent is known to the campaign.
    environment : WorkerEnvironment or None
        The environment of the worker, if reported.
    began_s, total_s : float
        When the worker began, on its own clock, and how long it took, in seconds.
    gap_s : float or None
        Seconds since it ended its task before; ``None`` where there was none.
    unpack_s, build_s, fit_s : float
        Where its time went, in seconds, including patches that were not asked for.
    """

    worker: str
    block: str | None
    results: Mapping[str, HypotestResult]
    environment: WorkerEnvironment | None
    began_s: float
    total_s: float
    gap_s: float | None
    unpack_s: float
    build_s: float
    fit_s: float


def parse_answer(data: Any, tasks: Sequence[Task]) -> Answer:
    """Read what a worker answered to a batch.

    Parameters
    ----------
    data : BatchAnswer
        As it came; anything else is an error.
    tasks : sequence of Task
        All or some of those that were sent.

    Raises
    ------
    RemoteCallError
        If it is not an answer to these tasks. The text says what is wrong with it.
    """
    try:
        return _parse(data, tasks)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise RemoteCallError(
            f"a worker gave an answer that cannot be read ({what}). It may come from another "
            "version of pytest-pyhf-faas, or something in between has changed it"
        ) from error


def _parse(data: Any, tasks: Sequence[Task]) -> Answer:
    if not isinstance(data, dict):
        raise TypeError(f"it is {data!r:.100}, not an object")
    worker = data["worker"]
    if not isinstance(worker, str):
        raise TypeError(f"worker is {worker!r:.100}")
    environment = data["environment"]
    known = None if environment is None else WorkerEnvironment.from_json(environment)
    by_key = {result["key"]: result for result in data["results"]}
    results = {task.key: _result(by_key[task.key], task, worker, known) for task in tasks}
    spent_s = dict.fromkeys(("unpack", "build", "fit"), 0.0)
    for result in by_key.values():
        for name in spent_s.keys() & result["seconds"].keys():
            spent_s[name] += _seconds(result["seconds"], name)
    block = data.get("block")
    return Answer(
        worker=worker,
        block=None if block is None else str(block),
        results=results,
        environment=known,
        began_s=_seconds(data, "began_s"),
        total_s=_seconds(data, "total_s"),
        gap_s=None if data["gap_s"] is None else _seconds(data, "gap_s"),
        unpack_s=_seconds(data, "unpack_s") + spent_s["unpack"],
        build_s=spent_s["build"],
        fit_s=spent_s["fit"],
    )


def _result(
    data: dict[str, Any], task: Task, worker: str, environment: WorkerEnvironment | None
) -> HypotestResult:
    status = data["status"]
    if status not in ("ok", "error"):
        raise ValueError(f"the status of a fit is {status!r:.100}")
    if status == "ok":
        _check_values(data, task)
    elif data["error"] is None:
        raise ValueError("error is null")
    named = {"pallet": task.pallet.name, "patch": task.patch.name, "worker": worker}
    texts: dict[str, Any] = {"warnings": [redacted(text) for text in data.get("warnings", ())]}
    if data.get("error"):
        texts["error"] = {part: redacted(text) for part, text in data["error"].items()}
    return HypotestResult.from_json({**data, **named, **texts}, environment)


def _check_values(data: dict[str, Any], task: Task) -> None:
    """Refuse a result without the values that were asked for."""
    _seconds(data["seconds"], "fit")
    quantity = task.config.quantity
    if quantity == "limit":
        checked_limits(data["limits"])
    elif quantity == "toys":
        checked_toys(data["toys"], task.toys[1])
    else:
        for name in ("CLs_obs", "CLs_exp"):
            if data[name] is None:
                raise ValueError(f"{name} is null")
        if len(data["CLs_exp"]) != len(CLS_LABELS) - 1:
            raise ValueError(f"CLs_exp has {len(data['CLs_exp'])} values")


def _seconds(data: Mapping[str, Any], name: str) -> float:
    value = float(data[name])
    if not math.isfinite(value):
        raise ValueError(f"{name} is {value}")
    return value
