"""Translate the answers of engines into events, and decisions of the state into results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.events import EngineUnusable, Failed, Outcome
from pytest_pyhf_faas.campaign.results import FitError, HypotestResult
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EndpointUnusableError,
    EngineError,
    FaasError,
    RemoteCallError,
    TaskTimeoutError,
)
from pytest_pyhf_faas.redaction import redacted
from pytest_pyhf_faas.wording import described

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pytest_pyhf_faas.campaign.events import Event, GiveUp, Trouble
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.engines.base import Engine


def look_at(engine: Engine) -> tuple[Any, ...]:
    """Return the values of `Facts` as a plain tuple, since mostly nothing has changed."""
    broken = engine.broken
    return (
        engine.spec,
        engine.workers,
        engine.workers_there,
        engine.in_flight,
        engine.batch_s,
        engine.watches_workers,
        engine.loses_tasks,
        engine.ready_at,
        engine.missing_since,
        engine.waits_for,
        engine.remedy,
        engine.missing,
        broken,
        engine.failure if broken else None,
        engine.walltime_s,
        engine.missed_after_s,
    )


def outcome_of(result: HypotestResult) -> Outcome:
    """Return what the state needs of a result."""
    if result.error is not None:
        return Outcome(result.key, None, result.error.type)
    return Outcome(result.key, result.seconds["fit"])


def given_up(instruction: GiveUp, task: Task) -> HypotestResult:
    """Return the result of a fit that ends without an answer."""
    return HypotestResult(
        key=instruction.key,
        pallet=task.pallet.name,
        patch=task.patch.name,
        status=instruction.status,
        error=FitError(instruction.error, instruction.text),
        attempts=instruction.attempts,
    )


def failure_of(batch: int, error: BaseException) -> Event:
    """Return the trouble that an exception instead of an answer means."""
    text = redacted(str(error) if isinstance(error, FaasError) else described(error))
    if isinstance(error, (EndpointUnusableError, ConfigurationError)):
        return EngineUnusable(text)
    return Failed(batch, _trouble_of(error), text)


def _trouble_of(error: BaseException) -> Trouble:
    if isinstance(error, EngineError):
        return "engine lost"
    if isinstance(error, BlockLostError):
        return "block lost"
    if isinstance(error, TaskTimeoutError):
        return "timeout"
    return "remote call failed" if isinstance(error, RemoteCallError) else "worker lost"


def has_value(future: Future[Any]) -> bool:
    """Whether a future that has ended has a value."""
    return not future.cancelled() and future.exception() is None
