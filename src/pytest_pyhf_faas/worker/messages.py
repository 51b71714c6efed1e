"""Types of the messages to and from a worker.

Imported only for types: a worker does not need it.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class Background(TypedDict):
    """The workspace that all patches of a batch apply to; `data` as of `PatchOrder`."""

    digest: str
    data: str


class _PatchOrder(TypedDict):
    key: str
    data: str


class PatchOrder(_PatchOrder, total=False):
    """One patch to fit; `data` is JSON, compressed by zlib or xz, in base64.

    Where toys are asked for, `toys` are the number of the first, and how many from there on.
    """

    toys: tuple[int, int]


class BatchPayload(TypedDict):
    """A batch of patches to fit; `config` has the fields of `HypotestConfig`."""

    background: Background
    config: dict[str, Any]
    patches: list[PatchOrder]
    pool: list[dict[str, float]]


class Failure(TypedDict):
    """An exception, as data."""

    type: str
    message: str
    traceback: str


class _EveryPatchAnswer(TypedDict):
    key: str
    status: Literal["ok", "error"]
    seconds: dict[str, float]


class PatchAnswer(_EveryPatchAnswer, total=False):
    """The result of one patch; it has values if `status` is "ok"."""

    warnings: list[str]
    error: Failure
    CLs_obs: float
    CLs_exp: list[float]
    mu_hat: float | None
    asimov_poi: float | None
    twice_nll: dict[str, float]
    twice_nll_nearby: dict[str, float]
    twice_nll_asimov_truth: float | None
    twice_nll_off_minimum: float | None
    certificate: dict[str, Any]
    rounding: float | None
    limits: dict[str, Any]
    toys: dict[str, Any]


class Environment(TypedDict):
    """The environment of a worker."""

    python: str
    executable: str
    platform: str
    host: str
    pid: int
    cpu: str
    backend: str | None
    optimizer: str | None
    threads: dict[str, str | None]
    versions: dict[str, str]


class BatchAnswer(TypedDict):
    """The answer to a batch; durations are on the worker's own clock, in seconds."""

    worker: str
    block: str | None
    environment: Environment | None
    results: list[PatchAnswer]
    began_s: float
    gap_s: float | None
    unpack_s: float
    total_s: float
