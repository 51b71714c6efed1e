"""What is wrong with an endpoint that is not ready, and what to change on which side."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.errors import NotReadyError
from pytest_pyhf_faas.preflight.words import float_type
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.engines.base import Engine

#: The oldest pyhf whose `hypotest` can return its calculator.
OLDEST_PYHF = (0, 7)

#: What provides a backend, optimizer or method of pyhf.
_PROVIDED_BY = {
    "jax": "pyhf[jax]",
    "pytorch": "pyhf[torch]",
    "tensorflow": "pyhf[tensorflow]",
    "minuit": "pyhf[minuit]",
}


class Remedies:
    """Errors that say the cause and the remedy.

    Parameters
    ----------
    engine : Engine
        The engine of the endpoint.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def not_ready(self, what: str, *lines: str) -> NotReadyError:
        """Say what is wrong, and in the lines after that why and what to do."""
        text = [f"endpoint {self._engine.spec}: {what}", *(f"  {line}" for line in lines)]
        return NotReadyError("\n".join(text))

    def gone(self, why: str) -> NotReadyError:
        """Say that nothing more will come."""
        return self.not_ready(
            f"it is gone: {why}",
            *self.on_its_side("look at its logs, and start it by hand to see what it says"),
        )

    def state(self) -> list[str]:
        """Say why no answer comes, and what to do."""
        engine = self._engine
        if engine.failure is not None:
            return [f"it is gone: {engine.failure}", *self.on_its_side("look at its logs")]
        if engine.waits_for is not None:
            return [
                f"it is pending: {engine.waits_for}",
                "on this side: wait longer with --faas-queue-timeout SECONDS (0: without limit)",
                *self.on_its_side("look at its queue, and at what its start says"),
            ]
        return [
            f"it says that it has {counted(engine.workers_there, 'worker')}, which do not answer",
            *self.on_its_side("look whether they hang or wait for something, and at their logs"),
        ]

    def on_its_side(self, what: str, command: str = "") -> list[str]:
        """Say what to do where the workers run."""
        line = f"on the side of the workers (set up in {self._engine.worker_setup}): {what}"
        return [line, f"  {command}"] if command else [line]

    def check_environment(self, found: Mapping[str, Any], config: HypotestConfig) -> None:
        """Check what a worker would fit with."""
        python = f"its Python {found['python']} on {found['host']} is {found['executable']}"
        needed = f"pyhf>={_dotted(OLDEST_PYHF)}"
        problem = found["problem"]
        if problem is not None and problem["what"] == "pyhf":
            raise self.not_ready(
                "its workers cannot import pyhf",
                problem["message"],
                python,
                *self.on_its_side("install it", pip(needed)),
            )
        if _version(found["pyhf"]) < OLDEST_PYHF:
            raise self.not_ready(
                f"its workers have pyhf {found['pyhf']}, which is too old",
                python,
                *self.on_its_side("upgrade it", pip("--upgrade", needed)),
            )
        if config.method == CERTIFIED:
            return  # backend and optimizer have no part in it
        if problem is not None:
            names = (config.backend, config.optimizer)
            extras = [_PROVIDED_BY[name] for name in names if name in _PROVIDED_BY]
            raise self.not_ready(
                f"its workers cannot use {config.fit_setup}",
                problem["message"],
                python,
                *self.on_its_side("install what it needs", pip(*(extras or [needed]))),
                "on this side: or choose another --faas-backend or --faas-optimizer",
            )
        if "64" not in str(found["float"]):
            raise self.not_ready(
                f"its workers compute with {float_type(found)}, and fits need float64",
                python,
                *self.on_its_side("look for settings of the backend, such as JAX_ENABLE_X64"),
            )


def pip(*words: str) -> str:
    """Return the command that installs something."""
    quoted = (f"'{word}'" if re.search(r"[^\w-]", word) else word for word in words)
    return f"python -m pip install {' '.join(quoted)}"


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
