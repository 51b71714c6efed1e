"""Requirements that workers must meet so that their fits count: ``--faas-require``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Parsed
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

from pytest_pyhf_faas.campaign.results import FitError
from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.worker.fitting import VERSIONED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult, WorkerEnvironment

PYTHON = "python"
#: Type of the error of a fit that was done by a worker that is not as required.
REFUSED = "RequirementError"
_REQUIRED = re.compile(r"but (\S+) is required")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A version that workers must have.

    Attributes
    ----------
    name : str
        ``python``, or a distribution whose version workers report.
    text : str
        The requirement, as for pip.
    """

    name: str
    text: str

    @classmethod
    def read(cls, text: str) -> Requirement:
        """Read a requirement as pip does.

        Raises
        ------
        ConfigurationError
            If it is not valid, or cannot be checked with what workers report.
        """
        try:
            parsed = Parsed(text)
        except InvalidRequirement as error:
            why = str(error).partition("\n")[0]
            raise ConfigurationError(
                f"--faas-require is {text!r} ({why}): write a pip requirement, such as pyhf==0.7.6"
            ) from error
        name = canonicalize_name(parsed.name)
        if name not in (PYTHON, *VERSIONED):
            raise ConfigurationError(
                f"--faas-require is {text!r}: workers only report {PYTHON}, "
                f"{', '.join(VERSIONED)} versions"
            )
        if parsed.extras or parsed.marker or parsed.url:
            raise ConfigurationError(
                f"--faas-require is {text!r}: it takes a name and versions, no extras, markers or "
                "URLs (instead of pyhf[jax] require jax)"
            )
        return cls(name, f"{name}{parsed.specifier}")

    def unmet_by(self, environment: WorkerEnvironment) -> str | None:
        """Return what a worker has instead of what is required; ``None`` if it meets it."""
        versions = {PYTHON: environment.python, **environment.versions}
        version = versions.get(self.name)
        if version is None:
            return f"no {self.name}, but {self.text} is required"
        try:
            # An installed release candidate was chosen on purpose.
            met = Parsed(self.text).specifier.contains(version, prereleases=True)
        except InvalidVersion:
            met = False
        return None if met else f"{self.name} {version}, but {self.text} is required"


def unmet(requirements: Sequence[Requirement], environment: WorkerEnvironment) -> list[str]:
    """Return what a worker has instead of what is required."""
    return [what for each in requirements if (what := each.unmet_by(environment)) is not None]


def refused(requires: Iterable[str], versions: Mapping[str, str]) -> list[str]:
    """Return installed versions that a distribution says it does not work with.

    Parameters
    ----------
    requires : iterable of str
        What it needs, as its metadata say; what only its extras need is left out.
    versions : mapping
        The versions of what is installed.
    """
    found = []
    for each in map(Parsed, requires):
        version = versions.get(canonicalize_name(each.name))
        if each.marker or version is None:
            continue
        if not each.specifier.contains(version, prereleases=True):
            found.append(f"{each.name} {version} (it asks for {each.specifier})")
    return found


def required_in(text: str) -> list[str]:
    """Return the requirements, each once, that a text says are not met."""
    return list(dict.fromkeys(_REQUIRED.findall(text)))


def accepted(result: HypotestResult, requirements: Sequence[Requirement]) -> HypotestResult:
    """Return a result, without its values if its worker is not as required."""
    if not requirements or not result.is_answer:
        return result
    if result.environment is None:
        missing = ["not reported its versions"]
    else:
        missing = unmet(requirements, result.environment)
    if not missing:
        return result
    said = f"the worker has {'; '.join(missing)} (--faas-require)"
    return replace(
        result,
        status="error",
        error=FitError(REFUSED, said),
        CLs_obs=None,
        CLs_exp=(),
        mu_hat=None,
        certificate={},
        limits={},
        toys={},
    )
