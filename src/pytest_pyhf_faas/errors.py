"""The exceptions of this package; each message gives the cause and the remedy."""

from __future__ import annotations


class FaasError(Exception):
    """Base of all errors that users see; ``str(error)`` is the message, without a traceback."""


class PalletError(FaasError):
    """A pallet cannot be found, downloaded, read or verified."""


class ConfigurationError(FaasError):
    """An option, a marker or an ini key has an invalid value."""


class ReferenceFileError(FaasError):
    """A file of reference results cannot be read or written."""


class PublishedTableError(FaasError):
    """A table of published limits or cross sections cannot be read."""


class ReportError(FaasError):
    """A report of a run cannot be written or read."""


class EngineError(FaasError):
    """The engine as a whole is unusable: it cannot start, or it broke down permanently."""


class EndpointUnusableError(EngineError):
    """An endpoint can do no fit as it is, for example because no block ever started."""


class NotReadyError(FaasError):
    """An endpoint is not ready for fits; the message says what to change, and on which side."""


class WrongFitError(NotReadyError):
    """An endpoint does fits, but a fit with a known result is wrong."""


class NotMeasuredError(FaasError):
    """A check of an endpoint was skipped, because a check that it depends on has failed."""


class WorkerLostError(FaasError):
    """A worker died (killed, out of memory, crashed) while it held a task."""


class BlockLostError(FaasError):
    """The block of a task ended with all its workers (its job ended, its manager died)."""


class RemoteCallError(FaasError):
    """A worker could not run what was sent to it, or its answer is invalid."""


class TaskTimeoutError(FaasError):
    """A task exceeded its time limit and was stopped."""
