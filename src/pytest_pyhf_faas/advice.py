"""What an exception of a worker means, and what to do about it.

The preflight of an endpoint and the fits both use it.
"""

from __future__ import annotations

import builtins
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.requirements import PYTHON, REFUSED, Requirement, required_in
from pytest_pyhf_faas.campaign.results import FitError
from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import WorkerEnvironment

_OLDEST_PYTHON = (3, 10)
#: The oldest pyhf whose `hypotest` can return its calculator.
OLDEST_PYHF = (0, 7)
#: The oldest one that runs under NumPy 2, seen with NumPy 2.4: 0.7.2 does not.
_FOR_NUMPY_2 = (0, 7, 3)

_OTHER_SETUP = "choose another --faas-backend or --faas-optimizer"
#: Packages for backends and optimizers that pyhf has but cannot import.
_PROVIDED_BY = {
    "jax": "pyhf[jax]",
    "pytorch": "pyhf[torch]",
    "tensorflow": "pyhf[tensorflow]",
    "minuit": "pyhf[minuit]",
}
#: An exception with its message inside of another text.
_EXCEPTION = re.compile(
    r"\b((?:[A-Za-z_]\w*\.)*_?[A-Z]\w*(?:Error|Exception))\b(?:: (.*))?", re.DOTALL
)
_ERRNO = re.compile(r"\[Errno (\d+)\]")
#: How pyhf lists the ones that it has, if it does not know a name.
_SUPPORTED = re.compile(r"supported (?P<what>backend|optimizer)s: (?P<names>\w+(?:, \w+)*)")
#: How Python and NumPy say that a package no longer has something.
_REMOVED = (
    re.compile(r"module '(?P<package>\w+)[\w.]*' has no attribute '(?P<name>\w+)'"),
    re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<package>\w+)[\w.]*'"),
    re.compile(r"`(?P<package>np)\.(?P<name>\w+)` was (?:removed|a deprecated alias)"),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """Why something failed on a worker, and what to do about it.

    Attributes
    ----------
    cause : str
        Why; empty where the exception says it.
    there : str
        What to do where the workers run; empty where nothing is to be done there.
    command : str
        The command that does it.
    here : str
        What to do on this side, or instead.
    """

    cause: str = ""
    there: str = ""
    command: str = ""
    here: str = ""

    def lines(self, setup: str) -> list[str]:
        """Return it as people read it; `setup` is `Engine.worker_setup`."""
        lines = [f"cause: {self.cause}"] if self.cause else []
        if self.there:
            command = f", in {setup}: {self.command}" if self.command else ""
            lines.append(f"what to do: {self.there}{command}")
        if self.here:
            lines.append(f"{'or' if self.there else 'what to do'}: {self.here}")
        return lines


def advice_on(error: FitError, environment: WorkerEnvironment | None = None) -> Advice | None:
    """Return what is known of an exception of a worker; ``None`` if nothing is.

    Parameters
    ----------
    error : FitError
        The exception.
    environment : WorkerEnvironment or None
        What the worker is, where that is known.
    """
    if environment is not None and (old := too_old(environment)):
        return old
    kind = error.type.rpartition(".")[2]
    if kind in _ADVICE:
        return _ADVICE[kind](error, environment)
    if _is_os_error(kind):
        return _of_the_system(error, environment)
    return _removed(error, environment)


def speaks_of_the_worker(error: FitError) -> bool:
    """Whether an exception is not about the fit: the worker may by now have what it lacked."""
    kind = error.type.rpartition(".")[2]
    return kind in _OF_THE_WORKER or _is_os_error(kind)


def is_of_the_environment(error: FitError, environment: WorkerEnvironment | None) -> bool:
    """Whether an exception comes from a worker's packages: all its fits end like this."""
    if environment is not None and too_old(environment):
        return True
    kind = error.type.rpartition(".")[2]
    if kind == "SyntaxError":
        return _old_python(error, environment) is not None
    return kind in _OF_THE_ENVIRONMENT or _removed(error, environment) is not None


def advice_in(text: str) -> Advice | None:
    """Return what is known of the exception that a message names; ``None`` if it names none."""
    found = _EXCEPTION.search(text)
    return advice_on(FitError(found[1], found[2] or "")) if found else None


def too_old(environment: WorkerEnvironment) -> Advice | None:
    """Return what to do if the pyhf of a worker is older than what the fits need."""
    pyhf = environment.versions.get("pyhf")
    if pyhf is None or version_of(pyhf) >= OLDEST_PYHF:
        return None
    return Advice(
        f"pyhf {pyhf} is too old: the fits need {needed_pyhf()}",
        "upgrade it",
        pip("--upgrade", needed_pyhf()),
    )


def check_client() -> None:
    """Refuse to work with a pyhf that is missing or too old in this Python.

    Raises
    ------
    ConfigurationError
        If it is.
    """
    try:
        found = metadata.version("pyhf")
    except metadata.PackageNotFoundError:
        found = ""
    if version_of(found) < OLDEST_PYHF:
        what = f"pyhf {found} is too old" if found else "there is no pyhf"
        raise ConfigurationError(
            f"{what} in {sys.executable}: {pip('--upgrade', needed_pyhf())}, or start pytest in "
            "another environment"
        )


def needed_pyhf() -> str:
    """Return the pyhf that fits need, as a pip requirement."""
    return f"pyhf>={_dotted(OLDEST_PYHF)}"


def pip(*words: str) -> str:
    """Return the command that installs something."""
    quoted = (f"'{word}'" if re.search(r"[^\w-]", word) else word for word in words)
    return f"python -m pip install {' '.join(quoted)}"


def version_of(text: str, numbers: int = 2) -> tuple[int, ...]:
    """Return the first numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", text)[:numbers]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _old_python(_error: FitError, environment: WorkerEnvironment | None) -> Advice | None:
    if environment is not None and version_of(environment.python) >= _OLDEST_PYTHON:
        return None
    return Advice("the workers' Python is too old", "use Python 3.10 or newer")


def _missing_module(error: FitError, environment: WorkerEnvironment | None) -> Advice:
    named = re.search(r"No module named '([\w.]+)'", error.message)
    name = named[1].partition(".")[0] if named else "a module"
    python = _interpreter(environment)
    if name == "pyhf":
        return Advice(
            f"{python} has no pyhf: perhaps it is not the environment that you mean",
            "activate the environment that has pyhf, or install it",
            pip(needed_pyhf()),
        )
    if name == "pkg_resources":
        return Advice(
            "this pyhf is older than its setuptools, which no longer has pkg_resources",
            "upgrade pyhf",
            pip("--upgrade", needed_pyhf()),
        )
    return Advice(f"{python} has no {name}", f"install what provides {name} there")


def _broken_import(error: FitError, environment: WorkerEnvironment | None) -> Advice:
    if "cannot open shared object file" in error.message:
        return Advice(
            "a library of the system is missing on the worker's machine",
            "load the module that provides it, or install packages that bring their own",
        )
    return _removed(error, environment) or Advice(
        "the packages of the worker's environment are incompatible",
        "make a new environment",
        pip(needed_pyhf()),
    )


def _missing_backend(_error: FitError, environment: WorkerEnvironment | None) -> Advice:
    asked = () if environment is None else (environment.backend, environment.optimizer)
    extras = [_PROVIDED_BY[name] for name in asked if name in _PROVIDED_BY]
    return Advice(
        "",
        "install the backend or optimizer",
        pip(*(extras or [needed_pyhf()])),
        _OTHER_SETUP,
    )


def to_have(requirements: Sequence[str]) -> tuple[str, str]:
    """Return what to do where workers do not have what is required, and the command for it."""
    if any(Requirement.read(text).name == PYTHON for text in requirements):
        all_of_it = " and ".join(requirements)
        return f"start the workers in an environment with {all_of_it} (pip installs no Python)", ""
    command = pip(*requirements) if requirements else ""
    return "start the workers in the environment that you mean, or change it", command


def _not_as_required(error: FitError, environment: WorkerEnvironment | None) -> Advice:
    python = _interpreter(environment)
    return Advice(
        f"{python} is not the environment that --faas-require asks for",
        *to_have(required_in(error.message)),
        here="leave --faas-require out, if this environment is the one to validate",
    )


def _not_in_pyhf(error: FitError, environment: WorkerEnvironment | None) -> Advice:
    """Say which backends or optimizers the pyhf of the worker has, as it reports itself."""
    supported = _SUPPORTED.search(error.message)
    if supported is None:
        return Advice("", here=_OTHER_SETUP)
    version = "" if environment is None else environment.versions.get("pyhf", "")
    pyhf = f"pyhf {version}" if version else "the workers' pyhf"
    what = supported["what"]
    return Advice(
        f"{pyhf} has no such {what}",
        here=f"choose one that it has with --faas-{what}: {supported['names']}",
    )


def _removed(error: FitError, environment: WorkerEnvironment | None) -> Advice | None:
    """Explain what pyhf, or another package, needs and a package lacks."""
    found = next(filter(None, (form.search(error.message) for form in _REMOVED)), None)
    if found is None or found["package"] == "pyhf":
        return None
    versions: Mapping[str, str] = {} if environment is None else environment.versions
    package = "numpy" if found["package"] == "np" else found["package"]
    if package not in versions and environment is not None:
        return None  # not a package that pyhf computes with
    pyhf, its = f"pyhf {versions.get('pyhf', '')}".strip(), versions.get(package, "")
    who = f"{pyhf}, or what it uses,"
    pins = [pip("--upgrade", "pyhf"), *([pip(f"{package}<{its}")] if its else [])]
    if package == "numpy" and (not its or version_of(its) >= (2,)):
        pins = [pip("--upgrade", f"pyhf>={_dotted(_FOR_NUMPY_2)}"), pip("numpy<2")]
        if version_of(versions.get("pyhf", "1"), 3) < _FOR_NUMPY_2:
            who = pyhf
    return Advice(
        f"{who} is older than {package} {its}".rstrip() + f", which no longer has {found['name']}",
        "install compatible versions",
        ", or ".join(pins),
    )


def _of_the_system(error: FitError, _environment: WorkerEnvironment | None) -> Advice:
    """Explain what the operating system of the worker refused."""
    number = _ERRNO.search(error.message)
    return Advice(*_BY_ERRNO.get(int(number[1]) if number else 0, _REFUSED))


def _interpreter(environment: WorkerEnvironment | None) -> str:
    if environment is None:
        return "the workers' Python"
    return f"Python {environment.python} on {environment.host}{in_brackets(environment)}"


def in_brackets(environment: WorkerEnvironment) -> str:
    """Return the interpreter of a worker, where it is known."""
    return f" ({environment.executable})" if environment.executable else ""


def _is_os_error(kind: str) -> bool:
    found = getattr(builtins, kind, None)
    return isinstance(found, type) and issubclass(found, OSError)


def _always(advice: Advice) -> Callable[[FitError, WorkerEnvironment | None], Advice]:
    return lambda _error, _environment: advice


_FULL = ("a disk of the worker is full", "free some space, or set TMPDIR to another disk")
_FORBIDDEN = (
    "the worker may not use a file that it needs",
    "give its account access to it, or let TMPDIR and HOME be directories of its own",
)
_FILES = ("the worker has too many files open", "raise its limit (ulimit -n)")
_BUSY = (
    "the worker's machine gives no more processes or memory",
    "use fewer workers, or raise its limits (ulimit -u, ulimit -v)",
)
_LOST_FILES = (
    "a file that the worker needs is not there, or its file system does not answer",
    "check the file systems that its environment, TMPDIR and HOME lie on",
)
_REFUSED = (
    "the operating system of the worker refused something; neither pyhf nor the fit is the cause",
    "check its disks, its limits (ulimit -a) and its logs",
)
#: By the number of an error of the operating system (Linux).
_BY_ERRNO = {
    1: _FORBIDDEN,
    2: _LOST_FILES,
    5: _LOST_FILES,
    11: _BUSY,
    12: _BUSY,
    13: _FORBIDDEN,
    23: _FILES,
    24: _FILES,
    28: _FULL,
    30: _FORBIDDEN,
    116: _LOST_FILES,
    122: _FULL,
}
_NOT_IMPORTED = frozenset({"ImportBackendError", "ImportError", "ModuleNotFoundError"})
_OF_THE_ENVIRONMENT = _NOT_IMPORTED | {"InvalidBackend", "InvalidOptimizer", REFUSED}
_OF_THE_WORKER = _NOT_IMPORTED | {"MemoryError", "_ArrayMemoryError"}
_NO_MEMORY = Advice(
    "the worker's machine has not enough memory for all its workers",
    "use fewer workers, or machines with more memory",
)
#: By the last part of the type of an exception.
_ADVICE: Mapping[str, Callable[[FitError, WorkerEnvironment | None], Advice | None]] = {
    "ModuleNotFoundError": _missing_module,
    "ImportError": _broken_import,
    "ImportBackendError": _missing_backend,
    "InvalidBackend": _not_in_pyhf,
    "InvalidOptimizer": _not_in_pyhf,
    REFUSED: _not_as_required,
    "MemoryError": _always(_NO_MEMORY),
    "_ArrayMemoryError": _always(_NO_MEMORY),
    "SyntaxError": _old_python,
    "FailedMinimization": _always(
        Advice("the optimizer gave up", here="try the other one (--faas-optimizer)")
    ),
    "InvalidModel": _always(
        Advice(
            "",
            here="the patched workspace makes no model; if that is right for this patch, accept "
            "it with --faas-update=new",
        )
    ),
    "InvalidSpecification": _always(
        Advice(
            "",
            here="the patched workspace violates the schema: the patch was made for another "
            "background",
        )
    ),
    "CertificationError": _always(
        Advice(
            "",
            here="this patch gets no reference: its likelihood is not smooth there, or has no "
            "minimum",
        )
    ),
}
