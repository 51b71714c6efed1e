"""The pytest plugin: hooks only.

Importing this module imports none of the domain: those who only have the plugin installed pay
nothing for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyhf_faas.caches import passing_directory
from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.plugin import sharing
from pytest_pyhf_faas.plugin.command_line import (
    check_paths,
    check_positionals,
    check_words,
    unused_lines,
)
from pytest_pyhf_faas.plugin.context import (
    existing_context,
    get_context,
    journal_directory,
    progress_line,
)
from pytest_pyhf_faas.plugin.failures import Failures
from pytest_pyhf_faas.plugin.fixtures import (
    analysis_result,
    assert_analysis,
    assert_cls,
    assert_limit,
    assert_published,
    assert_toys,
    faas_endpoint,
    faas_engine,
    faas_preflight,
    hypotest_result,
    limit_result,
    pallet,
    published_result,
    reference_result,
    scaling_point,
    signal_patch,
    toys_result,
    wall_time,
)
from pytest_pyhf_faas.plugin.markers import config_of, pallet_selection
from pytest_pyhf_faas.plugin.options import add_options, any_given
from pytest_pyhf_faas.plugin.settings import read_settings
from pytest_pyhf_faas.plugin.subjects import ROLES, endpoint_of, role_of, subject_of
from pytest_pyhf_faas.plugin.summaries import summaries_of, summary_of
from pytest_pyhf_faas.wording import folded, terminal_width

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.plan import Plan

__all__ = [
    "analysis_result",
    "assert_analysis",
    "assert_cls",
    "assert_limit",
    "assert_published",
    "assert_toys",
    "faas_endpoint",
    "faas_engine",
    "faas_preflight",
    "hypotest_result",
    "limit_result",
    "pallet",
    "published_result",
    "reference_result",
    "scaling_point",
    "signal_patch",
    "toys_result",
    "wall_time",
]

_ERROR = "ERROR: "  # pytest's
#: The fixture of which only hypotheses with a published limit have a value.
_PUBLISHED = "published_result"
_MARKERS = (
    "pallet(*names, patch=...): the pallets (and patches) that a test is run for",
    "hypotest(test_poi=..., backend=..., rtol=..., ...): how hypotheses are tested and compared",
    "faas: set on each test that needs an endpoint",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Add the options."""
    add_options(parser)
    config: pytest.Config | None = pluginmanager.get_plugin("pytestconfig")
    assert config is not None
    try:
        check_words([str(word) for word in config.invocation_params.args])
    except FaasError as error:
        raise _usage_error(error) from error


def pytest_configure(config: pytest.Config) -> None:
    """Check the options, declare the markers, and arrange for xdist."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    try:
        check_positionals(config)
        if any_given(config):
            _check_client()
            check_paths(config)
            settings = read_settings(config)
            if settings.report is not None and not config.option.collectonly:
                _record(config, settings.report, settings.plane)
    except FaasError as error:
        raise _usage_error(error) from error
    config.pluginmanager.register(Failures())
    if config.getoption("tx", None):  # the controller of pytest-xdist
        from pytest_pyhf_faas.campaign import journal
        from pytest_pyhf_faas.plugin import relay

        directory = journal_directory(config) or passing_directory()
        journal.prune(directory)
        path = journal.new_path(directory)
        config.pluginmanager.register(sharing.XdistHooks(path), sharing.XDIST)
        relayed = relay.Relayed(path, config, lambda: progress_line(config))
        config.pluginmanager.register(relayed, relay.RELAYED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for it its endpoints, pallets and signal patches."""
    if not _ours(metafunc, "pallet", "faas_endpoint"):
        return
    context = get_context(metafunc.config)
    if "faas_endpoint" in metafunc.fixturenames and len(context.settings.endpoints) > 1:
        metafunc.parametrize("faas_endpoint", context.settings.endpoints, indirect=True)
    if not _ours(metafunc, "pallet"):
        return
    rows: dict[str, tuple[Any, ...]] = {}
    arguments = ["pallet", *(n for n in ("signal_patch", _PUBLISHED) if _ours(metafunc, n))]
    problem = ""
    try:
        _check_client()
        for found in _pallets(metafunc, context):
            rows |= _rows(context, found, arguments)
    except FaasError as error:
        problem = str(error)
    if problem and sharing.is_worker(metafunc.config):
        pytest.fail(problem, pytrace=False)  # a usage error of a worker looks like a crash
    if problem:
        context.problems.append(problem)
    metafunc.parametrize(arguments, list(rows.values()), indirect=True, ids=list(rows))
    if "scaling_point" in metafunc.fixturenames:
        metafunc.parametrize("scaling_point", context.settings.scaling, indirect=True)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Deselect the tests of the suite that were not asked for."""
    if collection_path.parent.name != "suite":
        return None
    from pytest_pyhf_faas import suite

    if not _is_below(collection_path, suite.__path__):
        return None
    settings = get_context(config).settings
    wanted = {
        "test_scaling.py": bool(settings.scaling),
        "test_analysis.py": "cls" in settings.quantities and settings.items == "hypothesis",
        "test_whole_analysis.py": settings.items == "analysis",
        "test_limits.py": "limit" in settings.quantities,
        "test_published.py": "limit" in settings.quantities,
        "test_toys.py": "toys" in settings.quantities,
    }
    return None if wanted.get(collection_path.name, True) else True


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs an endpoint."""
    if "faas_endpoint" in getattr(item, "fixturenames", ()):
        item.add_marker("faas")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Stop with the problems, if any; else sort the suite by endpoints and pallets."""
    context = existing_context(config)
    if context is None:
        return
    if context.problems:
        raise _usage_error(*dict.fromkeys(context.problems))
    items[:] = [item for item in items if not _lacks_publication(item)]
    _group_by_pallet(context, items)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Plan what the selected items need."""
    from pytest_pyhf_faas.plugin.update import refuse_losses

    context = existing_context(session.config)
    if context is not None:
        try:
            context.schedule.plan = _plan(context, session.items)
            comparing = (i for i in session.items if "assert_cls" in getattr(i, "fixturenames", ()))
            refuse_losses(context, (subject_of(item, context.settings) for item in comparing))
            if not sharing.is_worker(session.config):
                _check_client()
                _check_endpoints(context, session.items)
            _check_plane(context)
        except FaasError as error:
            raise _usage_error(error) from error


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Say what will be fitted."""
    context = existing_context(config)
    if context is None or context.problems:
        return []
    from pytest_pyhf_faas.plugin.header import plan_lines

    try:
        width = terminal_width()
        return [folded(line, width) for line in plan_lines(context)]
    except FaasError as error:  # an unreadable reference
        raise _usage_error(error) from error


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this session cannot do, before any fixture is set up."""
    if item.get_closest_marker("faas") is None:
        return
    context = get_context(item.config)
    if context.settings.dry_run:
        pytest.skip("dry run: nothing was fitted")
    fixtures = getattr(item, "fixturenames", ())
    no_wall_time = context.schedule.no_wall_time
    if no_wall_time and {"wall_time", "scaling_point"} & set(fixtures):
        pytest.skip(no_wall_time)
    if "faas_preflight" in fixtures and sharing.is_worker(item.config):
        pytest.skip("not measured under pytest-xdist, whose workers share it")
    role = role_of(item)
    if role and context.refused_update is not None:
        context.obstacles.refuse(context.refused_update)
    obstacle = context.obstacles.before(endpoint_of(item, context.settings), role) if role else None
    if obstacle is not None:
        pytest.skip(obstacle)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note that an item has reported why its endpoint is given up."""
    report = yield
    context = existing_context(item.config)
    if context is not None and report.failed and role_of(item):
        context.obstacles.failed(endpoint_of(item, context.settings))
    return report


# Before pytest-benchmark saves, independent of the order of installation.
@pytest.hookimpl(wrapper=True, tryfirst=True, specname="pytest_sessionfinish")
def pytest_sessionfinish_before_benchmarks(session: pytest.Session) -> Any:
    """Stop pytest-benchmark from saving if nothing was measured."""
    from pytest_pyhf_faas.plugin.measuring import save_no_empty_benchmarks

    context = existing_context(session.config)
    if context is not None:
        unsaved = save_no_empty_benchmarks(session.config)
        context.schedule.notes.extend(filter(None, [unsaved]))
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Any:
    """Write updated references, end the engines, and fail if something could not be kept."""
    config = session.config
    context = existing_context(config)
    failed = False
    if context is not None:
        try:
            context.references.save()
        except FaasError as error:
            context.unwritten.append(str(error))
        context.schedule.notes.extend(context.unwritten)
        failed = bool(context.unwritten)
        interrupted = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        context.schedule.close(interrupted=interrupted)
        if sharing.is_worker(config):
            sharing.hand_in(config, summary_of(context, failed=failed))
    outcome = yield  # xdist ends its workers here
    if context is not None and context.schedule.interrupted:
        session.exitstatus = pytest.ExitCode.INTERRUPTED
    failed = failed or any(summary["failed"] for summary in sharing.handed_in(config))
    if failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    return outcome


# Above the table of pytest-benchmark, independent of the order of installation.
@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Show the wall times and other results."""
    config = terminalreporter.config
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and existing_context(config) is None:
        for line in unused_lines(config):
            terminalreporter.write_line(line, yellow=True)
    summaries = summaries_of(config)
    if summaries:
        from pytest_pyhf_faas.plugin.terminal import measured_lines, summary_lines

        width = terminal_width()
        measured = measured_lines(existing_context(config), width)
        lines = summary_lines(summaries, measured, width)
        if lines:
            terminalreporter.write_sep("=", "pyhf-faas")
        for line, marked in lines:
            terminalreporter.write_line(folded(line, width), yellow=marked)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no process behind, however the run ended."""
    context = existing_context(config)
    if context is not None:
        context.schedule.close(interrupted=True)


def _record(config: pytest.Config, place: Path, plane: tuple[str, str] | None) -> None:
    """Record the content of this run's report."""
    from pytest_pyhf_faas.plugin import notes, recording
    from pytest_pyhf_faas.report.publish import check_place

    config.pluginmanager.register(notes.NoteCarrier(), notes.CARRIER)
    if not sharing.is_worker(config):
        check_place(place)
        seen = recording.Recording(config, place, plane)
        config.pluginmanager.register(seen, recording.PLUGIN)


def _check_client() -> None:
    from pytest_pyhf_faas.advice import check_client

    check_client()


def _usage_error(*problems: object) -> pytest.UsageError:
    """Return a usage error in lines that fit after the prefix that pytest writes."""
    text = _ERROR + "\n".join(map(str, problems))
    return pytest.UsageError(folded(text, terminal_width()).removeprefix(_ERROR))


def _ours(metafunc: pytest.Metafunc, *names: str) -> bool:
    """Whether a test asks for one of our fixtures, and not for its own of the same name."""
    definitions = metafunc._arg2fixturedefs  # noqa: SLF001 - pytest's own parametrization reads it
    return any(
        name in metafunc.fixturenames
        and definitions[name][-1].func.__module__ == f"{__package__}.fixtures"
        for name in names
        if name in definitions
    )


def _pallets(metafunc: pytest.Metafunc, context: Context) -> list[Pallet]:
    """Return the pallets that a test is for; errors in them are reported here."""
    definition = metafunc.definition
    config, _ = config_of(definition, context.settings)
    selection = pallet_selection(
        context.settings,
        definition.get_closest_marker("pallet"),
        [definition.path.parent, metafunc.config.rootpath],
    )
    _warm_up(metafunc, context)
    found = context.pallets(*selection)
    fits = _ours(metafunc, *ROLES) and not metafunc.config.option.collectonly
    for each in found if fits else ():
        context.refuse_unless_any_fits(each, config)
    for each in found if {"reference_result", "wall_time"} & set(metafunc.fixturenames) else ():
        context.references.load(each.name)
    return found


def _rows(context: Context, pallet: Pallet, arguments: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the arguments of tests for a pallet, by the end of their ids."""
    if _PUBLISHED in arguments:
        publication = context.publication(pallet)
        return {
            f"{pallet.name}-{patch.name}": (pallet, patch, publication)
            for patch in pallet.patches
            if publication is not None and patch.name in publication.expected
        }
    if "signal_patch" in arguments:
        return {f"{pallet.name}-{patch.name}": (pallet, patch) for patch in pallet.patches}
    return {pallet.name: (pallet,)}


def _plan(context: Context, items: Sequence[pytest.Item]) -> Plan:
    """Return which fits the selected items need."""
    from pytest_pyhf_faas.plugin.plan import Plan

    needy = (item for item in items if role_of(item) and not item.get_closest_marker("skip"))
    subjects = [subject_of(item, context.settings) for item in needy]
    return Plan(subjects, measures=context.schedule.no_wall_time is None)


def _warm_up(metafunc: pytest.Metafunc, context: Context) -> None:
    """Start the workers while pallets are still read, if fits are certain to follow."""
    option = metafunc.config.option
    idle = option.collectonly or option.setupplan or option.setuponly or context.settings.dry_run
    chosen = option.keyword or option.markexpr  # these tests may be deselected
    if "faas_endpoint" in metafunc.fixturenames and not (idle or chosen):
        for endpoint in context.settings.endpoints:
            context.schedule.warm_up(endpoint)


def _group_by_pallet(context: Context, items: list[pytest.Item]) -> None:
    """Sort the items of the suite, and only those, by endpoints and pallets.

    Items for the endpoint itself come before the fits there.
    """
    from pytest_pyhf_faas import suite

    places = [i for i, item in enumerate(items) if _is_below(item.path, suite.__path__)]
    endpoints = context.settings.endpoints
    order: dict[str, int] = {}

    def rank(item: pytest.Item) -> tuple[int, int]:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        endpoint = endpoints.index(parameters.get("faas_endpoint", endpoints[0]))
        if "pallet" not in parameters:
            return endpoint, -1
        if "scaling_point" in parameters:  # it ends the workers that the others use
            return len(endpoints), endpoint
        return endpoint, order.setdefault(parameters["pallet"].name, len(order))

    for place, item in zip(places, sorted((items[i] for i in places), key=rank), strict=True):
        items[place] = item


def _lacks_publication(item: pytest.Item) -> bool:
    """Whether this is pytest's placeholder for a test of published limits without any."""
    if _PUBLISHED not in getattr(item, "fixturenames", ()):
        return False
    from pytest_pyhf_faas.published.publication import Publication

    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return not isinstance(parameters.get(_PUBLISHED), Publication)


def _check_endpoints(context: Context, items: Sequence[pytest.Item]) -> None:
    """Refuse an unusable endpoint before its items run, as for fits."""
    for item in items:
        if {"faas_preflight", "scaling_point"} & set(getattr(item, "fixturenames", ())):
            context.schedule.engine(endpoint_of(item, context.settings))


def _check_plane(context: Context) -> None:
    """Refuse a plane that does not exist, before hours are spent on it.

    Under xdist it is a note, since a usage error of a worker looks like a crash.
    """
    if context.settings.plane is None:
        return
    from pytest_pyhf_faas.plugin.book import check_plane

    needs = context.schedule.plan.needs().items()
    labels = {pallet: need.hypotheses[0].pallet.labels for (_, pallet, _), need in needs}
    try:
        check_plane(context.settings.plane, labels)
    except FaasError as error:
        if not sharing.is_worker(context.config):
            raise
        context.schedule.notes.append(str(error))


def _is_below(path: Path, directories: Sequence[str]) -> bool:
    return any(path.is_relative_to(directory) for directory in directories)
