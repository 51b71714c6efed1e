"""The types of a report, as `data/report.schema.json` describes it.

The schema and ``docs/reference/report-json.md`` explain each field; a test compares the two.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

#: A number, or the word for one that JSON does not have.
Number = float | str


class Document(TypedDict):
    """The whole report."""

    schema_version: int
    run: Run
    client: Environment
    environments: list[Environment]
    endpoints: list[Endpoint]
    analyses: list[Analysis]
    scaling: list[Scaling]
    notes: list[str]


class _Fits(TypedDict):
    sent: int
    again: dict[str, int]
    taken_over: int
    collected: int


class Fits(_Fits, total=False):
    """How many fits were sent, how many of them again and why, and how many came from earlier.

    Those that are not sent are those to which no worker answered; the searches are those that
    were sent to find the starts of certified fits. An older document has neither.
    """

    not_sent: int
    searches: int


class _Run(TypedDict):
    id: str
    began_at: str
    ended_at: str
    seconds: float
    command: str
    exit_status: int
    interrupted: bool
    package: str
    tests: dict[str, int]
    failures: list[TestFailure]
    benchmark_files: list[str]


class Run(_Run, total=False):
    """The session of pytest."""

    fits: Fits
    worker_sha256: str


class TestFailure(TypedDict):
    """A failed test that tests no hypothesis."""

    test: str
    outcome: str
    text: str


class _Environment(TypedDict):
    python: str
    platform: str
    host: str
    cpu: str
    backend: str | None
    optimizer: str | None
    threads: dict[str, str | None]
    versions: dict[str, str]


class Environment(_Environment, total=False):
    """What the client or a worker computes with."""

    executable: str | None


class Endpoint(TypedDict):
    """Measurements of an endpoint before the fits."""

    endpoint: str
    findings: list[EndpointFinding]
    failures: list[EndpointFailure]


class EndpointFinding(TypedDict):
    """One thing that was measured."""

    name: str
    text: str
    values: dict[str, float | str | bool]


class EndpointFailure(TypedDict):
    """One check that failed."""

    name: str
    text: str


class _Analysis(TypedDict):
    pallet: str
    endpoint: str
    fit_setup: str
    config: dict[str, Any]
    synthetic: bool
    doi: str | None
    digest: str
    labels: list[str]
    reference: MadeReferences | None
    wall_time: WallTimeEntry | None
    timeline: TimelineEntry | None
    hypotheses: list[Hypothesis]


class Analysis(_Analysis, total=False):
    """The hypotheses of one pallet on one endpoint, tested in one way."""

    quantity: str
    plane: list[str]
    not_measured: str
    published: PublishedAnalysis
    whole: WholeAnalysis


class WholeAnalysis(TypedDict):
    """A summary of all hypotheses, where the document has only some of them.

    How many there are with each verdict, with two sets of minima, and with an exclusion that
    depends on these; and the file with all of them, one as JSON on each line.
    """

    verdicts: dict[str, int]
    ambiguous: int
    flips: int
    file: str | None


class PublishedAnalysis(TypedDict):
    """Where the upper limits of a pallet agree with the published ones."""

    sentence: str
    line: list[float]
    tolerance: float


class MadeReferences(TypedDict):
    """How the references of an analysis were made."""

    file: str
    method: str
    date: str
    versions: dict[str, str]


class WallTimeEntry(TypedDict):
    """A measured wall time."""

    test: str
    trials: list[TrialEntry]


class _TrialEntry(TypedDict):
    fits: int
    workers: int
    wall_s: float
    waiting_s: float
    startup_s: float
    queue_s: float
    transfer_s: float
    unpack_s: float
    build_s: float
    fit_s: float
    overhead_s: float
    idle_s: float
    unattributed_s: float
    speed_up: Number
    efficiency: Number


class TrialEntry(_TrialEntry, total=False):
    """One measured pass; the fields of `results.Trial`. An older document has no ``lost``."""

    lost: dict[str, int]


class TimelineEntry(TypedDict):
    """What each worker did: place of the worker, begin, end and number of fits of each task."""

    seconds: float
    workers: list[TimelineWorker]
    tasks: list[tuple[int, float, float, int]]


class TimelineWorker(TypedDict):
    """A worker of a timeline."""

    worker: str
    clock_uncertainty_s: float


class _Scaling(TypedDict):
    pallet: str
    endpoint: str
    fit_setup: str
    unit: Literal["workers", "blocks"]
    points: list[ScalingPoint]


class Scaling(_Scaling, total=False):
    """Wall times with several numbers of workers or blocks."""

    refused: list[RefusedPoint]


class ScalingPoint(TypedDict):
    """The trials with one number of them."""

    count: int
    trials: list[TrialEntry]


class RefusedPoint(TypedDict):
    """A number of them with which no wall time was measured, and why."""

    count: int
    reason: str


class _Hypothesis(TypedDict):
    patch: str
    values: list[float | str]
    test: str
    outcome: str
    verdict: str
    title: str
    text: str
    status: str | None
    CLs: list[Number] | None
    reference: ReferenceValues | None
    minimum_set: str | None
    ambiguous: Ambiguous | None
    within: list[bool] | None
    rtol: float | None
    atol: float | None
    mu_hat: Number | None
    error: Error | None
    environment: int | None
    worker: str | None
    attempts: int
    seconds: dict[str, float]
    warnings: list[str]


class Hypothesis(_Hypothesis, total=False):
    """A signal hypothesis: its fit, its reference and its verdict."""

    digest: str
    limits: LimitValues | None
    toys: ToyResult | None
    published: PublishedValues | None


class PublishedValues(TypedDict):
    """A published upper limit on the cross section, in pb, and upper limits on the POI."""

    limit: float
    rounding: float
    cross_section: float
    mass: float
    mu: dict[str, float]
    place: str
    at: str
    off: float


class _LimitValues(TypedDict):
    values: list[Number]
    reference: list[Number] | None
    nominal: list[Number] | None
    remarks: list[str]


class LimitValues(_LimitValues, total=False):
    """Upper limits: the observed one, and the five expected ones.

    As well as those that were compared: those of the reference, and those at the lowest and at the
    nominal minima, where these are two.
    """

    lowest: list[Number] | None


class ToyResult(TypedDict):
    """CLs from toys, with that of the reference and the asymptotic one.

    The asymptotic test statistic of the Asimov data decides the asymptotic distributions; `off` is
    how many standard errors CLs_obs from toys lies above the asymptotic one, where the observed
    test statistic is not 0.
    """

    count: int
    failed: list[int]
    CLs: list[Number]
    errors: list[Number]
    reference: ToyReference | None
    asymptotic: list[Number] | None
    off: Number | None
    observed: Number
    asimov: Number | None
    histogram: ToyHistogram


class ToyReference(TypedDict):
    """CLs from toys in the reference file."""

    count: int
    CLs: list[Number]
    errors: list[Number]


class ToyHistogram(TypedDict):
    """How many toys have a test statistic between each two edges, with the signal and without."""

    edges: list[float]
    signal: list[int]
    background: list[int]


class ReferenceValues(TypedDict):
    """What a hypothesis was compared with: six values, or an exception."""

    CLs: list[Number] | None
    error: str | None


class Ambiguous(TypedDict):
    """How two sets of minima differ."""

    lowest: list[Number]
    nominal: list[Number]
    flips: bool
    gap: float
    fit: str
    parameters: list[Parameter]
    at_bound: list[str]
    was_at: str | None


class Parameter(TypedDict):
    """A parameter at the two minima of a fit."""

    name: str
    lowest: float
    nominal: float


class Error(TypedDict):
    """The exception of a fit."""

    type: str
    message: str
    traceback: str
