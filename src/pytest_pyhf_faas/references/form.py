"""The types of a reference file, as `data/reference.schema.json` describes it.

The schema and ``docs/explanation/references.md`` explain each field; a test compares the two.
"""

from __future__ import annotations

from typing import Any, TypedDict

#: A number, or the word for one that JSON does not have.
Number = float | str


class _ReferenceFile(TypedDict):
    schema_version: int
    pallet: str
    background_sha256: str
    hypotest: dict[str, Any]
    provenance: list[Provenance]
    patches: dict[str, Entry]


class ReferenceFile(_ReferenceFile, total=False):
    """The references of one pallet."""

    description: str
    synthetic: bool
    doi: str | None
    tolerances: dict[str, Tolerance]
    known_issues: list[IssueEntry]
    pool: PoolEntry


class Tolerance(TypedDict, total=False):
    """The tolerance on CLs of a fit setup."""

    rtol: float
    atol: float


class _IssueEntry(TypedDict):
    fit_setup: str
    reason: str
    link: str
    patches: dict[str, WrongValues]


class IssueEntry(_IssueEntry, total=False):
    """What a fit setup gets wrong, by patch, and with which versions of pyhf."""

    pyhf: str


class WrongValues(TypedDict, total=False):
    """What replaces the right values: others, or an exception."""

    CLs_obs: Number
    CLs_exp: list[Number]
    error: str


class _Provenance(TypedDict):
    method: str
    date: str
    backend: str | None
    optimizer: str | None
    versions: dict[str, str]


class Provenance(_Provenance, total=False):
    """How, when and with which versions references were made."""

    cpu: str
    platform: str
    worker_sha256: str


class _Entry(TypedDict):
    values: list[Any]
    digest: str
    provenance: int


class Entry(_Entry, total=False):
    """One hypothesis."""

    error: str
    CLs_obs: Number
    CLs_exp: list[Number]
    mu_hat: Number
    twice_nll: dict[str, Number]
    nominal: NominalEntry | None
    minima: dict[str, list[float]]
    twice_nll_off_minimum: Number
    rounding: float
    distance: float
    search: dict[str, list[int]]
    unseen: float
    limits: LimitsEntry
    toys: ToysEntry
    published: PublishedEntry
    checked: dict[str, Checked]
    fit_s: float


class LimitValues(TypedDict):
    """The six upper limits on the POI at one set of minima."""

    observed: Number
    expected: list[Number]


class LimitsEntry(LimitValues, total=False):
    """Those at the lowest minima, and at the nominal ones where they are others."""

    nominal: LimitValues
    remarks: list[str]


class ToysEntry(TypedDict):
    """CLs from toys at the lowest minima, with its statistical errors."""

    count: int
    failed: list[int]
    CLs_obs: Number
    CLs_obs_error: Number
    CLs_exp: list[Number]
    CLs_exp_error: list[Number]


class PublishedEntry(TypedDict):
    """At which minima the published upper limit was reproduced, and how far off it is there."""

    place: str
    off: float


class NominalEntry(TypedDict):
    """The nominal minima, where they are others than the lowest."""

    CLs_obs: Number
    CLs_exp: list[Number]
    mu_hat: Number
    twice_nll: dict[str, Number]
    differences: list[Difference]


class Difference(TypedDict):
    """How the two minima of a fit differ."""

    fit: str
    gap: float
    parameters: list[Parameter]
    at_bound: list[str]


class Parameter(TypedDict):
    """A parameter at the two minima of a fit."""

    name: str
    nominal: float
    lowest: float


class _Checked(TypedDict):
    fit_s: float


class Checked(_Checked, total=False):
    """At which minima a fit setup was, and how far from them."""

    set: str
    cls: Number
    twice_nll: Number
    error: str


class PoolEntry(TypedDict):
    """Starts that the hypotheses of a pallet share."""

    parameters: list[str]
    points: list[list[float | None]]
