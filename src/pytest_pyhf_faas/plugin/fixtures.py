"""The fixtures: an item waits for its fit in its setup and compares in its call.

So a fit that broke is an ERROR, and a CLs value that differs is a FAILED.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin.context import get_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.times import Trial, WallTime
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.analysis import AnalysisResult
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.preflight.preflight import Preflight
    from pytest_pyhf_faas.references.published import PublishedResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference


class AssertRight(Protocol):
    """The type of the fixtures `assert_limit` and `assert_toys`."""

    def __call__(self, result: HypotestResult, reference: PatchReference | Missing) -> None:
        """Fail with the table of differences, or update the reference with `--faas-update`."""


class AssertPublished(Protocol):
    """The type of the fixture `assert_published`."""

    def __call__(self, found: PublishedResult, reference: PatchReference | Missing) -> None:
        """Fail if no set of minima reproduces the published limit, unless that is a known issue."""


class AssertAnalysis(Protocol):
    """The type of the fixture `assert_analysis`."""

    def __call__(self, found: AnalysisResult) -> None:
        """Fail if hypotheses of an analysis are not right; skip if none was compared."""


class AssertCLs(Protocol):
    """The type of the fixture `assert_cls`."""

    def __call__(
        self,
        result: HypotestResult,
        reference: PatchReference | Missing,
        *,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> None:
        """Fail with the table of differences, or update the reference with `--faas-update`."""


@pytest.fixture
def faas_endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint that fits run on, as named by --faas-endpoint."""
    if hasattr(request, "param"):
        return str(request.param)
    return get_context(request.config).settings.endpoints[0]


@pytest.fixture
def faas_engine(request: pytest.FixtureRequest, faas_endpoint: str) -> Engine:
    """The engine of the endpoint, started: a `concurrent.futures.Executor`."""
    engine = get_context(request.config).schedule.engine(faas_endpoint)
    engine.start()
    return engine


@pytest.fixture
def faas_preflight(request: pytest.FixtureRequest, faas_endpoint: str) -> Preflight:
    """The preflight of the endpoint; each measurement is taken once in a session."""
    context = get_context(request.config)
    preflight = context.preflight(faas_endpoint)
    if any(c.busy and c.engine is preflight.engine for c in context.schedule.campaigns):
        pytest.skip("not measured: fits run there already")
    return preflight


@pytest.fixture
def pallet(request: pytest.FixtureRequest) -> Pallet:
    """Each pallet that the marker ``pallet`` or --faas-pallet names."""
    value: Pallet = _parameter(request, "pallet")
    return value


@pytest.fixture
def signal_patch(request: pytest.FixtureRequest) -> SignalPatch:
    """Each signal patch of each pallet."""
    value: SignalPatch = _parameter(request, "signal_patch")
    return value


@pytest.fixture
def reference_result(
    request: pytest.FixtureRequest, pallet: Pallet, signal_patch: SignalPatch
) -> PatchReference | Missing:
    """The reference of a signal patch; false, with the reason, where there is none."""
    from pytest_pyhf_faas.plugin.subjects import subject_with

    context = get_context(request.config)
    subject = subject_with(request.node, context.settings, pallet, signal_patch)
    assert subject.task is not None
    return context.schedule.reference(subject.task)


@pytest.fixture
def hypotest_result(
    request: pytest.FixtureRequest,
    faas_endpoint: str,
    reference_result: PatchReference | Missing,
) -> HypotestResult:
    """The hypothesis test of a signal patch, done on the endpoint.

    The setup of the item fails if the fit broke: its worker died, it took too long, or pyhf raised
    an exception that the reference does not call the right answer.
    """
    del faas_endpoint
    return _result(request, reference_result)


@pytest.fixture
def limit_result(
    request: pytest.FixtureRequest,
    faas_endpoint: str,
    reference_result: PatchReference | Missing,
) -> HypotestResult:
    """The upper limits on the POI of a signal patch; see `hypotest_result`."""
    del faas_endpoint
    return _result(request, reference_result)


@pytest.fixture
def published_result(
    request: pytest.FixtureRequest,
    faas_endpoint: str,
    reference_result: PatchReference | Missing,
) -> PublishedResult:
    """At which minima a signal patch has its published upper limit.

    That depends on the limits of all hypotheses of the pallet that have one: the setup waits for
    them, and fails if this one has none.
    """
    from pytest_pyhf_faas.plugin.notes import note_published
    from pytest_pyhf_faas.plugin.outcomes import refuse_no_limit
    from pytest_pyhf_faas.references.published import PublishedResult

    del faas_endpoint
    context, subject = get_context(request.config), _subject(request)
    assert subject.task is not None
    results = context.schedule.results_for(subject)
    place = [task.patch.name for task in subject.tasks].index(subject.task.patch.name)
    result = _checked(request, results[place], reference_result)
    among = context.agreements(subject, results)
    agreement = among.of(subject.task.patch.name) or refuse_no_limit(result)
    found = PublishedResult(result, agreement, among)
    note_published(request.node, found)
    return found


@pytest.fixture
def toys_result(
    request: pytest.FixtureRequest,
    faas_endpoint: str,
    reference_result: PatchReference | Missing,
) -> HypotestResult:
    """The toys of a signal patch; see `hypotest_result`."""
    del faas_endpoint
    return _result(request, reference_result)


@pytest.fixture
def analysis_result(
    request: pytest.FixtureRequest, faas_endpoint: str, pallet: Pallet
) -> AnalysisResult:
    """All hypotheses of a pallet, fitted and compared with their references as they come.

    The setup of the item fails if fits broke and nothing else is wrong.
    """
    from pytest_pyhf_faas.plugin.analysis import check_analysis
    from pytest_pyhf_faas.plugin.outcomes import refuse_broken_analysis
    from pytest_pyhf_faas.plugin.settings import check_analysis_goes_with

    del faas_endpoint, pallet
    context, subject = get_context(request.config), _subject(request)
    unsuited = {
        "--faas-update": context.settings.update,
        f"the quantity {subject.quantity}": subject.quantity != "cls",
    }
    problem = ""
    try:
        check_analysis_goes_with(request.config, unsuited)
    except ConfigurationError as error:
        problem = str(error)
    if problem:  # not in there, or pytest shows both
        pytest.fail(problem, pytrace=False)
    found = check_analysis(context, request.node, subject)
    refuse_broken_analysis(context, subject, found)
    return found


@pytest.fixture
def assert_analysis(request: pytest.FixtureRequest) -> AssertAnalysis:
    """Fail with the list of the hypotheses that are not right; skip where nothing was compared."""
    from pytest_pyhf_faas.plugin.outcomes import decide_analysis

    context = get_context(request.config)
    return partial(decide_analysis, context)


@pytest.fixture
def wall_time(
    request: pytest.FixtureRequest, faas_endpoint: str, pallet: Pallet, benchmark: Any
) -> WallTime:
    """The wall time of all fits of a pallet, measured by pytest-benchmark.

    Its last trial feeds the items that compare the fits. While it is measured nothing else runs on
    the endpoint.
    """
    from pytest_pyhf_faas.campaign.times import NotMeasured
    from pytest_pyhf_faas.plugin.measuring import as_benchmark, environments_of, measure
    from pytest_pyhf_faas.plugin.notes import note_wall_time
    from pytest_pyhf_faas.plugin.outcomes import refuse_measurement

    context = get_context(request.config)
    subject = _subject(request)
    repeat = as_benchmark(request.config, benchmark, "wall time", context.settings.trials)
    measured = measure(context.schedule, subject, repeat)
    note_wall_time(request.node, subject, measured)
    if isinstance(measured, NotMeasured):
        refuse_measurement(context, pallet.name, measured)
    benchmark.extra_info.update(
        analysis=pallet.name,
        synthetic=pallet.synthetic,
        endpoint=faas_endpoint,
        fit_setup=subject.config.fit_setup,
        config=subject.config.to_json(),
        environments=environments_of(context.schedule, subject),
        patches=len(pallet.patches),
        trials=[trial.to_json() for trial in measured.trials],
    )
    return measured


@pytest.fixture
def scaling_point(
    request: pytest.FixtureRequest, faas_endpoint: str, pallet: Pallet, benchmark: Any
) -> Sequence[Trial]:
    """The trials of an analysis with one of the numbers of workers or blocks of --faas-scaling."""
    from pytest_pyhf_faas.campaign.times import NotMeasured
    from pytest_pyhf_faas.plugin.measuring import as_benchmark, measure_with, scaling_unit
    from pytest_pyhf_faas.plugin.notes import note_scaling
    from pytest_pyhf_faas.plugin.outcomes import refuse_measurement

    context = get_context(request.config)
    subject = _subject(request)
    repeat = as_benchmark(request.config, benchmark, "scaling", context.settings.trials)
    trials = measure_with(context.schedule, subject, repeat)
    note_scaling(request.node, subject, scaling_unit(faas_endpoint), trials)
    if isinstance(trials, NotMeasured):
        refuse_measurement(context, pallet.name, trials)
    benchmark.extra_info.update(
        analysis=pallet.name,
        endpoint=faas_endpoint,
        count=subject.count,
        trials=[trial.to_json() for trial in trials],
    )
    return trials


@pytest.fixture
def assert_cls(request: pytest.FixtureRequest) -> AssertCLs:
    """Compare a result with its reference, within the tolerances asked for."""
    from pytest_pyhf_faas.plugin.notes import note_comparison
    from pytest_pyhf_faas.plugin.outcomes import decide
    from pytest_pyhf_faas.references.compare import compare

    context = get_context(request.config)
    subject = _subject(request)
    fit_setup, criteria = subject.config.fit_setup, subject.criteria

    def check(
        result: HypotestResult,
        reference: PatchReference | Missing,
        *,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> None:
        _refuse_without(result.cls_values, "CLs", "hypotest_result", subject, result)
        rtol = criteria.rtol if rtol is None else rtol
        atol = criteria.atol if atol is None else atol
        comparison = compare(
            result,
            reference,
            fit_setup=fit_setup,
            rtol=rtol,
            atol=atol,
            nll_tolerance=criteria.nll_tolerance,
            minimum=criteria.minimum,
        )
        tolerance = reference.tolerance(fit_setup, rtol, atol) if reference else None
        note_comparison(request.node, fit_setup, comparison, result, tolerance)
        decide(context, request.node, subject, comparison, result, reference)

    return check


@pytest.fixture
def assert_limit(request: pytest.FixtureRequest) -> AssertRight:
    """Compare upper limits with their reference, within `--faas-rtol` and `--faas-atol`."""
    from pytest_pyhf_faas.plugin.notes import note_comparison
    from pytest_pyhf_faas.plugin.outcomes import decide_limits
    from pytest_pyhf_faas.references.limit_values import limit_tolerance
    from pytest_pyhf_faas.references.limits import compare_limits

    context = get_context(request.config)
    subject = _subject(request)
    fit_setup, criteria = subject.config.fit_setup, subject.criteria

    def check(result: HypotestResult, reference: PatchReference | Missing) -> None:
        _refuse_without(result.limits, "upper limits", "limit_result", subject, result)
        tolerance = limit_tolerance(fit_setup, criteria.rtol, criteria.atol)
        comparison = compare_limits(
            result, reference, tolerance=tolerance, minimum=criteria.minimum
        )
        note_comparison(request.node, fit_setup, comparison, result, tolerance)
        decide_limits(context, request.node, subject, comparison, result, reference)

    return check


@pytest.fixture
def assert_toys(request: pytest.FixtureRequest) -> AssertRight:
    """Compare CLs from toys with its reference, within the statistical errors of both."""
    from pytest_pyhf_faas.plugin.notes import note_comparison, note_toys
    from pytest_pyhf_faas.plugin.outcomes import decide_toys
    from pytest_pyhf_faas.references.toy_values import ToyValues, toy_cls_of
    from pytest_pyhf_faas.references.toys import compare_toys

    context = get_context(request.config)
    subject = _subject(request)

    def check(result: HypotestResult, reference: PatchReference | Missing) -> None:
        _refuse_without(result.toys, "toys", "toys_result", subject, result)
        found = toy_cls_of(result.toys) if result.toys else None
        values = None if found is None else ToyValues.of(found)
        comparison = compare_toys(result, values, reference)
        note_comparison(request.node, subject.config.fit_setup, comparison, result, None)
        note_toys(request.node)
        decide_toys(context, request.node, subject, comparison, result, values, reference)

    return check


@pytest.fixture
def assert_published(request: pytest.FixtureRequest) -> AssertPublished:
    """Compare where a published limit is reproduced with the reference."""
    from pytest_pyhf_faas.plugin.notes import note_comparison
    from pytest_pyhf_faas.plugin.outcomes import decide_published
    from pytest_pyhf_faas.references.published import compare_published

    context, subject = get_context(request.config), _subject(request)

    def check(found: PublishedResult, reference: PatchReference | Missing) -> None:
        comparison = compare_published(found, reference)
        note_comparison(request.node, subject.config.fit_setup, comparison, found.result, None)
        decide_published(context, request.node, subject, comparison, found, reference)

    return check


def _result(request: pytest.FixtureRequest, reference: PatchReference | Missing) -> HypotestResult:
    """Wait for the fits of an item, and end it if they broke."""
    result = get_context(request.config).schedule.result(_subject(request))
    return _checked(request, result, reference)


def _checked(
    request: pytest.FixtureRequest, result: HypotestResult, reference: PatchReference | Missing
) -> HypotestResult:
    """Record the fit of an item, and end it if that broke."""
    from pytest_pyhf_faas.plugin.notes import note_fit
    from pytest_pyhf_faas.plugin.outcomes import refuse_broken_fit
    from pytest_pyhf_faas.references.ambiguity import at_minima

    context = get_context(request.config)
    subject = _subject(request)
    nominal = subject.criteria.minimum == "nominal"
    shown = at_minima(result, result.nominal) if nominal else result
    note_fit(request.node, subject, shown, reference)
    refuse_broken_fit(context, request.node, subject, result, reference)
    return result


def _refuse_without(
    values: object, what: str, fixture: str, subject: Subject, result: HypotestResult
) -> None:
    """End an item that compares a quantity that was not calculated for it."""
    if result.status == "ok" and not values:
        pytest.fail(
            f"{result.pallet} / {result.patch}: there are no {what} to compare, since this test "
            f"calculates {subject.config.quantity}: use the fixture {fixture}, without a "
            "quantity in the marker",
            pytrace=False,
        )


def _parameter(request: pytest.FixtureRequest, name: str) -> Any:
    if not hasattr(request, "param"):
        pytest.fail(
            f"the fixture {name} has a value for each pallet or patch, so that a test must name it "
            "(or hypotest_result) among its arguments; request.getfixturevalue cannot reach it",
            pytrace=False,
        )
    return request.param


def _subject(request: pytest.FixtureRequest) -> Subject:
    from pytest_pyhf_faas.plugin.subjects import subject_of

    return subject_of(request.node, get_context(request.config).settings)
