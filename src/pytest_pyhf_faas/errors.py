"""The few exceptions of this package; each message says the cause and the remedy."""

from __future__ import annotations


class FaasError(Exception):
    """Base of all that a user can meet; ``str(error)`` is what is shown, without a traceback."""


class PalletError(FaasError):
    """A pallet cannot be found, downloaded, read or verified."""


class ConfigurationError(FaasError):
    """An option, a marker or an ini key says something that makes no sense."""


class ReferenceFileError(FaasError):
    """A file of reference results cannot be read or written."""


class PublishedTableError(FaasError):
    """A table of published limits or cross sections cannot be read."""


class ReportError(FaasError):
    """A report of a run cannot be written, read or understood."""


class EngineError(FaasError):
    """The engine as a whole is unusable: it cannot start, or it broke down for good."""


class EndpointUnusableError(EngineError):
    """Nothing will ever come of this endpoint as it is, such as where no block ever started."""


class NotReadyError(FaasError):
    """An endpoint is not ready for fits; the message says what to change on which side."""


class WrongFitError(NotReadyError):
    """An endpoint does fits, and one of a known result is wrong."""


class NotMeasuredError(FaasError):
    """Something of an endpoint was not measured, because what it rests on has failed before."""


class WorkerLostError(FaasError):
    """A worker died (killed, out of memory, crashed) while it held a task."""


class BlockLostError(FaasError):
    """What a task ran on is gone with all its workers (its job ended, its manager died)."""


class RemoteCallError(FaasError):
    """A worker could not run what was sent to it, or sent back what makes no sense."""


class TaskTimeoutError(FaasError):
    """A task ran longer than it may and was ended."""
