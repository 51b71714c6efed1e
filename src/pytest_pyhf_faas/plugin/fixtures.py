"""The fixtures: an item waits for its fit in its setup and compares in its call.

So a fit that broke is an ERROR, and a CLs value that differs is a FAILED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from pytest_pyhf_faas.plugin.context import get_context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult, Trial, WallTime
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.preflight.preflight import Preflight
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.reference import Missing, PatchReference


#: What the summary of a session says of its ambiguous hypotheses; see `terminal.ambiguous_lines`.
AMBIGUOUS = pytest.StashKey[list[dict[str, Any]]]()


class AssertCLs(Protocol):
    """What the fixture `assert_cls` gives."""

    def __call__(
        self,
        result: HypotestResult,
        reference: PatchReference | Missing,
        *,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> None:
        """Fail with the table of differences, or update the reference where that was asked for."""


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
    """What measures the endpoint before the fits; each measurement is taken once in a session."""
    context = get_context(request.config)
    preflight = context.preflight(faas_endpoint)
    if any(c.busy and c.engine is preflight.engine for c in context.schedule.campaigns):
        pytest.skip(f"fits run on {faas_endpoint} already, and would be measured along with it")
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
    from pytest_pyhf_faas.campaign.tasks import make_task

    config, _criteria = _hypotest(request)
    return get_context(request.config).references.find(make_task(pallet, signal_patch, config))


@pytest.fixture
def hypotest_result(
    request: pytest.FixtureRequest,
    faas_endpoint: str,
    pallet: Pallet,
    signal_patch: SignalPatch,
    reference_result: PatchReference | Missing,
) -> HypotestResult:
    """The hypothesis test of a signal patch, done on the endpoint.

    The setup of the item fails if the fit broke: its worker died, it took too long, or pyhf raised
    an exception that the reference does not call the right answer.
    """
    from pytest_pyhf_faas.plugin.recording import note_fit, note_verdict
    from pytest_pyhf_faas.plugin.terminal import broken_text
    from pytest_pyhf_faas.plugin.update import may_become_reference
    from pytest_pyhf_faas.references.ambiguity import at_minima
    from pytest_pyhf_faas.references.known_issues import is_known_error
    from pytest_pyhf_faas.references.sameness import error_matches
    from pytest_pyhf_faas.verdicts import Verdict

    context = get_context(request.config)
    config, criteria = _hypotest(request)
    (result,) = context.schedule.results(request.node)
    shown = at_minima(result, result.nominal) if criteria.minimum == "nominal" else result
    note_fit(
        request.node, context, pallet, signal_patch, config, faas_endpoint, reference_result, shown
    )
    request.node.user_properties += _properties(shown)
    right_error = error_matches(result, reference_result) or (
        context.settings.update is not None and may_become_reference(result)
    )
    if result.status != "ok" and not right_error:
        if result.status == "cancelled" and context.schedule.interrupted:
            pytest.skip("interrupted before this fit was done; --faas-resume goes on from there")
        issue = is_known_error(result, reference_result, config.fit_setup)
        if issue is not None:
            context.count_known_issue(pallet.name, config)
            title = f"known issue of {config.fit_setup}: {issue.reason} ({issue.link})"
            note_verdict(request.node, Verdict.KNOWN_ISSUE, title)
            pytest.xfail(title)
        setup = context.schedule.engine(faas_endpoint).worker_setup
        pytest.fail(broken_text(result, _rerun(request, result), setup), pytrace=False)
    return result


@pytest.fixture
def wall_time(
    request: pytest.FixtureRequest, faas_endpoint: str, pallet: Pallet, benchmark: Any
) -> WallTime:
    """The wall time of all fits of a pallet, measured by pytest-benchmark.

    Its last trial feeds the items that compare the fits. While it is measured nothing else runs on
    the endpoint.
    """
    from pytest_pyhf_faas.plugin.recording import note_wall_time

    del faas_endpoint
    context = get_context(request.config)
    config, _criteria = _hypotest(request)
    measured, results = context.schedule.measure(
        request.node,
        pallet.name,
        lambda trial: benchmark.pedantic(trial, rounds=context.settings.trials, iterations=1),
    )
    benchmark.group = "wall time"
    benchmark.extra_info.update(
        analysis=pallet.name,
        synthetic=pallet.synthetic,
        endpoint=measured.endpoint,
        patches=len(pallet.patches),
        trials=[trial.to_json() for trial in measured.trials],
    )
    note_wall_time(request.node, context, pallet, config, measured)
    _refuse_broken(context, pallet, results)
    return measured


@pytest.fixture
def scaling_point(
    request: pytest.FixtureRequest, faas_endpoint: str, pallet: Pallet, benchmark: Any
) -> Sequence[Trial]:
    """The trials of an analysis with one of the numbers of workers or blocks of --faas-scaling."""
    from pytest_pyhf_faas.campaign.tasks import make_tasks
    from pytest_pyhf_faas.plugin.recording import note_scaling

    context = get_context(request.config)
    config, _criteria = _hypotest(request)
    count: int = request.param
    trials, results = context.schedule.measure_with(
        count,
        faas_endpoint,
        make_tasks(pallet, config),
        lambda trial: benchmark.pedantic(trial, rounds=context.settings.trials, iterations=1),
    )
    benchmark.group = "scaling"
    benchmark.extra_info.update(
        analysis=pallet.name,
        endpoint=faas_endpoint,
        count=count,
        trials=[trial.to_json() for trial in trials],
    )
    _refuse_broken(context, pallet, results)
    note_scaling(request.node, context, pallet, config, faas_endpoint, count, trials)
    return trials


@pytest.fixture
def assert_cls(request: pytest.FixtureRequest) -> AssertCLs:
    """Compare a result with its reference, as `--faas-rtol`, `--faas-atol` and the marker say."""
    from pytest_pyhf_faas.plugin.recording import note_comparison
    from pytest_pyhf_faas.plugin.terminal import failure_text
    from pytest_pyhf_faas.plugin.update import update_reference
    from pytest_pyhf_faas.references.compare import compare
    from pytest_pyhf_faas.verdicts import Verdict

    context = get_context(request.config)
    config, criteria = _hypotest(request)

    def check(
        result: HypotestResult,
        reference: PatchReference | Missing,
        *,
        rtol: float | None = None,
        atol: float | None = None,
    ) -> None:
        rtol = criteria.rtol if rtol is None else rtol
        atol = criteria.atol if atol is None else atol
        comparison = compare(
            result,
            reference,
            fit_setup=config.fit_setup,
            rtol=rtol,
            atol=atol,
            nll_tolerance=criteria.nll_tolerance,
            minimum=criteria.minimum,
        )
        note_comparison(
            request.node,
            comparison,
            None if not reference else reference.tolerance(config.fit_setup, rtol, atol),
        )
        properties = request.node.user_properties
        properties.append(("verdict", comparison.verdict.value))
        if comparison.rows:
            largest = max((row.relative for row in comparison.rows), key=abs)
            properties.append(("largest_relative_difference", largest))
        if comparison.at is not None:
            properties.append(("minimum_set", comparison.at))
        if comparison.ambiguous is not None:
            properties.append(("ambiguous", "; ".join(comparison.ambiguous.lines)))
            _note_ambiguous(request.config, comparison, result, config.fit_setup)
        parameters = request.node.callspec.params
        pallet, patch = parameters["pallet"], parameters["signal_patch"]
        update_reference(context, pallet, patch, config, result, reference, comparison)
        if comparison.verdict is Verdict.KNOWN_ISSUE:
            context.count_known_issue(parameters["pallet"].name, config)
            pytest.xfail(comparison.title)
        if comparison.verdict is not Verdict.RIGHT:
            pytest.fail(
                failure_text(comparison, result, reference, _rerun(request, result)), pytrace=False
            )

    return check


def _note_ambiguous(
    config: pytest.Config, comparison: Comparison, result: HypotestResult, fit_setup: str
) -> None:
    """Take note of an ambiguous hypothesis, for the summary of the session."""
    ambiguous = comparison.ambiguous
    assert ambiguous is not None
    config.stash.setdefault(AMBIGUOUS, []).append(
        {
            "pallet": result.pallet,
            "patch": result.patch,
            "fit_setup": fit_setup,
            "at": comparison.at,
            "was_at": comparison.was_at,
            "flips": ambiguous.flips,
            "lowest": ambiguous.lowest[0],
            "nominal": ambiguous.nominal[0],
        }
    )


def _refuse_broken(context: Context, pallet: Pallet, results: Sequence[HypotestResult]) -> None:
    """Skip or fail a measurement whose fits were not all answered."""
    from pytest_pyhf_faas.plugin.terminal import broken_analysis_text

    broken = [result for result in results if not result.is_answer]
    if broken and context.schedule.interrupted:
        pytest.skip("interrupted before all fits were done")
    if broken:
        pytest.fail(broken_analysis_text(pallet.name, broken, len(results)), pytrace=False)


def _parameter(request: pytest.FixtureRequest, name: str) -> Any:
    if not hasattr(request, "param"):
        pytest.fail(
            f"the fixture {name} has a value for each pallet or patch, so that a test must name it "
            "(or hypotest_result) among its arguments; request.getfixturevalue cannot reach it",
            pytrace=False,
        )
    return request.param


def _hypotest(request: pytest.FixtureRequest) -> Any:
    from pytest_pyhf_faas.plugin.markers import hypotest_config

    settings = get_context(request.config).settings
    return hypotest_config(settings, request.node.get_closest_marker("hypotest"))


def _rerun(request: pytest.FixtureRequest, result: HypotestResult) -> str:
    from pytest_pyhf_faas.plugin.rerun import rerun_command

    return rerun_command(get_context(request.config), request.node, result)


def _properties(result: HypotestResult) -> list[tuple[str, object]]:
    """What junitxml and other reports get of a fit."""
    properties: list[tuple[str, object]] = [("status", result.status)]
    if result.status == "ok":
        properties.append(("CLs_obs", result.CLs_obs))
        properties += [
            (f"CLs_exp_{n:+d}sigma" if n else "CLs_exp", value)
            for n, value in zip(range(-2, 3), result.CLs_exp, strict=True)
        ]
        properties.append(("mu_hat", result.mu_hat))
        properties.append(("fit_s", result.seconds["fit"]))
    elif result.error is not None:
        properties.append(("error", result.error.type))
    properties.append(("worker", result.worker))
    return properties
