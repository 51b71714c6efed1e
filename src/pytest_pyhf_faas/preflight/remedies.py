"""What is wrong with an endpoint that is not ready, and what to change on which side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.advice import advice_on, in_brackets, to_have, too_old
from pytest_pyhf_faas.campaign.requirements import required_in, unmet
from pytest_pyhf_faas.campaign.results import FitError, WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.errors import (
    ConfigurationError,
    EndpointUnusableError,
    FaasError,
    NotReadyError,
)
from pytest_pyhf_faas.preflight.words import float_type
from pytest_pyhf_faas.wording import counted, short_uuid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.advice import Advice
    from pytest_pyhf_faas.campaign.requirements import Requirement
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.engines.base import Engine


#: How many workers are named in a message.
_NAMED = 5


class Remedies:
    """Errors that say the cause and the remedy.

    Parameters
    ----------
    engine : Engine
        The engine of the endpoint.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def not_ready(
        self, what: str, *lines: str, kind: type[NotReadyError] = NotReadyError
    ) -> NotReadyError:
        """Say what is wrong, and in the lines after that why and what to do."""
        text = [
            f"endpoint {short_uuid(self._engine.spec)}: {what}",
            *(f"  {line}" for line in lines),
        ]
        return kind("\n".join(text))

    def gone(self, why: FaasError | str) -> NotReadyError:
        """Say that nothing more will come."""
        if isinstance(why, (EndpointUnusableError, ConfigurationError)):  # they say what to do
            return self.not_ready(f"it cannot be used: {why}")
        return self.not_ready(
            f"it failed: {why}",
            *self.on_its_side("check its logs, and start it by hand to see its messages"),
        )

    def state(self) -> list[str]:
        """Say why no answer comes, and what to do."""
        engine = self._engine
        if engine.failure is not None:
            return [f"it failed: {engine.failure}", *self.on_its_side("check its logs")]
        if engine.waits_for is not None:
            return [
                f"its state: {engine.waits_for}",
                *(self.on_its_side(engine.remedy) if engine.remedy else []),
                "on this side: wait longer with --faas-queue-timeout SECONDS (0: without limit)",
            ]
        return [
            f"it reports {counted(engine.workers_there, 'worker')}, but they do not answer",
            *self.on_its_side("check whether they hang or wait for something, and see their logs"),
        ]

    def on_its_side(self, what: str, command: str = "") -> list[str]:
        """Say what to do where the workers run."""
        line = f"on the side of the workers (set up in {self._engine.worker_setup}): {what}"
        return [line, f"  {command}"] if command else [line]

    def advised(self, what: str, *lines: str, advice: Advice | None) -> NotReadyError:
        """Say what is wrong, with what is known of its cause, and what to do on which side."""
        text = list(lines)
        if advice is not None:
            text += [f"cause: {advice.cause}"] if advice.cause else []
            text += self.on_its_side(advice.there, advice.command) if advice.there else []
            either = "or " if advice.there else ""
            text += [f"on this side: {either}{advice.here}"] if advice.here else []
        return self.not_ready(what, *text)

    def check_requirements(
        self, workers: Sequence[WorkerEnvironment], requirements: Sequence[Requirement]
    ) -> None:
        """Check that all workers have what is required."""
        lines: dict[str, None] = {}
        for worker in workers:
            missing = unmet(requirements, worker)
            if missing:
                python = f"Python {worker.python}{in_brackets(worker)}"
                lines[f"{worker.host}, {python}: {'; '.join(missing)}"] = None
        if lines:
            more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
            raise self.not_ready(
                "its workers are not as --faas-require asks",
                *list(lines)[:_NAMED],
                *more,
                *self.on_its_side(*to_have(required_in("; ".join(lines)))),
            )

    def check_environment(self, found: Mapping[str, Any], config: HypotestConfig) -> None:
        """Check what a worker would fit with."""
        environment = WorkerEnvironment.from_json(found)
        python = f"its Python {found['python']} on {found['host']} is {found['executable']}"
        problem = found["problem"]
        error = None if problem is None else FitError(problem["type"], problem["message"])
        said = () if error is None else (f"{error.type}: {error.message}",)
        old = too_old(environment)
        if old is not None:
            raise self.advised("its workers have a pyhf that is too old", python, advice=old)
        if error is not None and problem["what"] == "pyhf":
            advice = advice_on(error, environment)
            raise self.advised("its workers cannot import pyhf", *said, python, advice=advice)
        if config.method == CERTIFIED:
            return  # backend and optimizer are not involved
        if error is not None:
            raise self.advised(
                f"its workers cannot use {config.fit_setup}",
                *said,
                python,
                advice=advice_on(error, environment),
            )
        if "64" not in str(found["float"]):
            raise self.not_ready(
                f"its workers compute with {float_type(found)}, and fits need float64",
                python,
                *self.on_its_side("check the settings of the backend, such as JAX_ENABLE_X64"),
            )
