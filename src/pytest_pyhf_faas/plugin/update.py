"""`--faas-update`: which results become references."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.plugin.sharing import is_worker
from pytest_pyhf_faas.references.reference import REPLACE
from pytest_pyhf_faas.references.sameness import moved
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.references.store import Update

#: Exceptions about the model. Others are about the optimizer, the
#: installation or the machine, and are never right. A patch that pyhf accepts and we refuse has no
#: right answer either.
_RIGHT_ERRORS = frozenset({"pyhf.exceptions.InvalidModel"})


def refuse_losses(context: Context, compared: Iterable[Subject]) -> None:
    """Refuse to fit for references that could not be saved.

    Parameters
    ----------
    context : Context
        Of the session.
    compared : iterable of Subject
        Whose results may become references.

    Raises
    ------
    ReferenceFileError
        With the reason. A usage error of a worker of xdist looks like a crash: there the items fail
        that were to be fitted.
    """
    if context.settings.update is None:
        return
    try:
        context.references.refuse_losses(each.task for each in compared if each.task is not None)
    except FaasError as error:
        if not is_worker(context.config):
            raise
        context.refused_update = str(error)


def may_become_reference(result: HypotestResult) -> bool:
    """Whether a result can be the right answer at all."""
    if result.status == "error":
        return result.error is not None and result.error.type in _RIGHT_ERRORS
    return result.status == "ok"


def becomes_reference(context: Context, task: Task | None, result: HypotestResult) -> bool:
    """Whether a result can be made the reference.

    An exception can where other patches of the pallet have a model: else it is about
    the background, and all patches would be right without a single CLs.
    """
    if result.status == "ok" or not may_become_reference(result):
        return result.status == "ok"
    return task is not None and context.any_fits(task.pallet, task.config)


def update_reference(
    context: Context,
    task: Task,
    result: HypotestResult,
    reference: PatchReference | Missing,
    comparison: Comparison,
) -> None:
    """Make a result the reference, and skip the item, where `--faas-update` asks for that.

    Raises
    ------
    pytest.skip.Exception
        If the reference is to be written, or the one that there is is as good or better: nothing
        was compared, so that the item is not green.
    pytest.fail.Exception
        If the reference has a lower minimum, or cannot be written.
    """
    wanted = _is_wanted(context, comparison, moved=moved(result, reference))
    if not (wanted and becomes_reference(context, task, result)):
        return
    problem = ""
    try:
        update = _update(context, task, result)
    except FaasError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)
    if update.worse:
        title = f"{task.pallet.name} / {task.patch.name}: {update.refused} ({update.path.name})"
        lines = [title, *(f"  {line}" for line in comparison.explanation.splitlines())]
        pytest.fail("\n".join(lines), pytrace=False)
    said = update.refused or "reference written"
    pytest.skip(f"not compared: {said} ({update.path.name})")


def update_part(
    context: Context,
    task: Task,
    result: HypotestResult | None,
    part: str,
    value: Mapping[str, Any],
    comparison: Comparison,
) -> None:
    """Add a value other than CLs to a reference, and skip the item, as `update_reference` does.

    Raises
    ------
    pytest.skip.Exception
        If it is to be written.
    pytest.fail.Exception
        If there is no reference of the same minima that it could be added to.
    """
    if not _is_wanted(context, comparison):
        return
    problem = ""
    try:
        path = context.references.add(task, result, part, value)
    except FaasError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)
    pytest.skip(f"not compared: {part} written ({path.name})")


def _is_wanted(context: Context, comparison: Comparison, *, moved: bool = False) -> bool:
    """Whether the session is to write what was compared; count what it does not change.

    `moved`: its minima are others than those of the reference, though it is right.
    """
    mode = context.settings.update
    wanted = {
        None: False,
        "new": _has_none(comparison),
        "changed": comparison.verdict is not Verdict.RIGHT or moved,
        "all": True,
    }[mode]
    context.kept += mode is not None and not wanted
    return wanted


def _has_none(comparison: Comparison) -> bool:
    """Whether there is no reference of the name, not even one of another patch."""
    return comparison.verdict is Verdict.NO_REFERENCE and comparison.remedy != REPLACE


def _update(context: Context, task: Task, result: HypotestResult) -> Update:
    found = context.schedule.exploration(task)
    if found is None:
        return context.references.update(task, result)
    evidence = found.evidence.get(task.patch.digest)
    if evidence is not None and result.certificate:
        # The search for the starts was longer than the search from them.
        result = replace(result, certificate={**result.certificate, "search": evidence})
    return context.references.update(task, result, found.pool.points)
