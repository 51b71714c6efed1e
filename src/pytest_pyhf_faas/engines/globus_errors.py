"""What errors of Globus Compute mean, and what to do about them."""

from __future__ import annotations

import re

import globus_sdk

from pytest_pyhf_faas.engines.texts import in_one_line
from pytest_pyhf_faas.errors import BlockLostError, FaasError, RemoteCallError, WorkerLostError
from pytest_pyhf_faas.redaction import redacted
from pytest_pyhf_faas.wording import shortened

FORBIDDEN, TOO_LARGE, REFUSED = 403, 413, 422
_TOO_MANY_REQUESTS = 429
CHECK_NETWORK = "check the network, the proxy (HTTPS_PROXY) and https://status.globus.org"

#: An exception at the end of a traceback.
_EXCEPTION = re.compile(r"^[A-Za-z_][\w.]*(?=: |$)", re.MULTILINE)
#: Exceptions of endpoints, and what they mean here.
_MEANINGS: tuple[tuple[str, type[FaasError], str], ...] = (
    ("WorkerLost", WorkerLostError, "its worker process died: killed, crashed or out of memory"),
    ("BrokenProcessPool", BlockLostError, "all worker processes of its endpoint died"),
    (
        "ManagerLost",
        BlockLostError,
        "its block ended: cancelled, out of walltime, or a dead node",
    ),
    (
        "VersionMismatch",
        RemoteCallError,
        (
            "Python or Parsl of the endpoint and of its workers differ ({said}): make worker_init "
            "activate the environment that the agent runs in"
        ),
    ),
    (
        "MaxResultSizeExceeded",
        RemoteCallError,
        "its result is larger than the 10 MiB that Globus Compute carries",
    ),
)
#: The error of a task whose request the endpoint's executor does not accept.
_NOT_TAKEN = "InvalidResourceSpecification"
_ASKS_LESS = (
    "the endpoint's executor does not accept this resource_specification: leave it out of "
    "--faas-endpoint-config, or keep only what the executor knows. It says"
)
#: The error of all tasks when an endpoint's blocks fail.
_NO_BLOCK = ("BadStateException", "TooManyJobFailuresError")
_BLOCKS_FAIL = "the endpoint's blocks of workers end before they have done anything"
_LOOK_AT_BLOCKS = (
    "Check worker_init and the provider in its user_config_template.yaml.j2, and "
    "submit_scripts in ~/.globus_compute/uep.* on its machine. It says"
)
#: What a block wrote, as Parsl shows it.
_WRITTEN = re.compile(r"\tSTDERR: (.*?)(?=\nError \d+:|\n[-+ ]*$|\Z)", re.DOTALL)
_LINE = 200


def passes(error: BaseException) -> bool:
    """Whether the service may succeed later."""
    status = getattr(error, "http_status", None)
    return (
        isinstance(error, (globus_sdk.NetworkError, OSError))
        or status == _TOO_MANY_REQUESTS
        or (status is not None and status >= 500)  # noqa: PLR2004
    )


def explained(error: BaseException, endpoint_id: str) -> str:
    """Say what happened, a likely cause, and what to do."""
    status = getattr(error, "http_status", None)
    said = _readable(getattr(error, "message", None) or error)
    endpoint = f"the endpoint {endpoint_id}"
    if isinstance(error, globus_sdk.AuthAPIError):
        return (
            f"Globus refuses the credentials ({status}: {said}): check "
            "GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, or log in again"
        )
    if isinstance(error, (globus_sdk.NetworkError, OSError)):
        return f"the service of Globus Compute cannot be reached ({said}): {CHECK_NETWORK}"
    by_status = {
        401: "Globus Compute does not accept this login: log in again, or check "
        "GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET",
        FORBIDDEN: f"{endpoint} may not be used with this login: ask its owner to add it to the "
        "endpoint's policy, or log in as its owner",
        404: f"{endpoint} is not known to Globus Compute: check the UUID with "
        "`globus-compute-endpoint list` on its machine",
        TOO_LARGE: "the service accepts no submission that large: fit this pallet with "
        "parsl:CONFIG.py on the cluster itself, or with local",
        REFUSED: f"{endpoint} cannot start what was asked for. Check its engine and "
        "worker_init, what --faas-endpoint-config asks for, and the logs in "
        "~/.globus_compute on its machine. The endpoint says",
        _TOO_MANY_REQUESTS: "the service of Globus Compute accepts no more requests for now",
    }
    if status in by_status:
        return f"{by_status[status]} ({status}: {said})"
    return f"the service of Globus Compute answers {status or type(error).__name__}: {said}"


def blocks_failed(text: str) -> str | None:
    """Say how the endpoint's blocks fail, if its traceback about a task shows that."""
    if not any(name in text for name in _NO_BLOCK):
        return None
    written = _WRITTEN.search(text)
    lines = written[1].strip().splitlines() if written else []
    last = f": {shortened(_readable(lines[-1]), _LINE)}" if lines else ""  # it often says why
    return f"{_BLOCKS_FAIL}{last}. {_LOOK_AT_BLOCKS}: {_readable(_exception_in(text))}"


def not_taken(text: str) -> str | None:
    """Say why an endpoint rejects all such tasks, if its traceback shows that."""
    said = _exception_in(text)
    return f"{_ASKS_LESS}: {_readable(said)}" if _NOT_TAKEN in said else None


def text_of(error: BaseException) -> str:
    """Return what the endpoint wrote about a task, without secrets."""
    return redacted(str(getattr(error, "remote_data", None) or error))


def of_the_task(text: str) -> FaasError:
    """Return what the endpoint's traceback about one task means."""
    said = _exception_in(text)
    for name, kind, meaning in _MEANINGS:
        if name in said:
            return kind(meaning.format(said=_readable(said)))
    return RemoteCallError(f"the endpoint failed: {_readable(said)}")


def _exception_in(text: str) -> str:
    """Return the exception that a traceback ends with."""
    begins = list(_EXCEPTION.finditer(text))
    return text[begins[-1].start() :].rstrip("-+ \n") if begins else text


def _readable(error: object) -> str:
    """Return a message as people can read it, without secrets."""
    return in_one_line(redacted(str(error)))
