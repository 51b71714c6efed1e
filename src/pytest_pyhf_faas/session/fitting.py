"""How the fits of a session are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Fitting:
    """How fits are done: `Policy` and `create_engine` have the same names.

    Attributes
    ----------
    resume : bool
        Whether fits of earlier runs are taken over.
    """

    timeout_s: float | None
    queue_timeout_s: float | None
    retries: int
    blocks: int | None
    workers: int | None
    endpoint_config: Mapping[str, Any] = field(repr=False)
    resume: bool
