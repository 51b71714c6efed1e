"""The texts and tables of the terminal."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING

from pytest_pyhf_faas.compare import Verdict, environment_line, table
from pytest_pyhf_faas.report.summary import MEASURED_HEADER, measured_cells
from pytest_pyhf_faas.results import ENGINE, PARTS
from pytest_pyhf_faas.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_pyhf_faas.compare import Comparison
    from pytest_pyhf_faas.context import Context
    from pytest_pyhf_faas.preflight import Preflight
    from pytest_pyhf_faas.reference import Missing, PatchReference
    from pytest_pyhf_faas.results import HypotestResult, WallTime

_INDENT = "  "
_TRACEBACK_LINES = 6
_WIDTH = 100
#: What is told of an endpoint, each group from the beginning of a line.
_ENDPOINT_GROUPS = (
    ("exists",),
    ("workers", "environment"),
    ("answers", "round_trip", "payload", "clock", "reference_fit"),
)

#: What to do about exceptions that a worker answers with; `Engine.worker_setup` says where.
_REMEDIES = {
    "pyhf.exceptions.ImportBackendError": (
        "install the backend or optimizer in {setup}: pip install 'pyhf[jax]' (or torch, "
        "tensorflow, minuit)"
    ),
    "pyhf.exceptions.FailedMinimization": (
        "the optimizer gave up: try the other one (--faas-optimizer)"
    ),
    "pyhf.exceptions.InvalidModel": (
        "the patched workspace makes no model; if that is right for this patch, accept it with "
        "--faas-update=new"
    ),
    "pyhf.exceptions.InvalidSpecification": (
        "the patched workspace violates the schema: the patch was made for another background"
    ),
    "pytest_pyhf_faas.certify.CertificationError": (
        "this patch gets no reference: its likelihood is not smooth there, or has no minimum"
    ),
    "MemoryError": "use fewer workers, or ones with more memory",
    "ModuleNotFoundError": "install pyhf, and what the backend needs, in {setup}",
    "ImportError": "install what is missing in {setup}",
}
_STATUS_TITLES = {
    "broken": "the fit broke: no worker finished it",
    "timeout": "the fit broke: it took too long",
    "cancelled": "the fit was not done",
    "error": "the fit broke",
}
_STATUS_REMEDIES = {
    "broken": "look at the memory and the logs of the worker's machine; a rerun may just work",
    "timeout": "raise --faas-timeout, or find out why this fit does not end",
    "cancelled": "run again with --faas-resume: what was done is in the journal",
}


def failure_text(
    comparison: Comparison,
    result: HypotestResult,
    reference: PatchReference | Missing,
    rerun: str,
) -> str:
    """Return what a person reads when CLs differs from the reference, or has none."""
    lines = table(comparison.rows) if comparison.rows else []
    if comparison.explanation:
        lines += comparison.explanation.splitlines()
    environment = environment_line(result, reference)
    if environment and comparison.verdict in (Verdict.WRONG, Verdict.UNCONVERGED):
        lines.append(environment)
    lines.append(f"rerun:  {rerun}")
    if comparison.verdict is Verdict.MISSING:
        lines.append("make it: --faas-update=new")
    elif comparison.verdict is Verdict.WRONG:
        where = getattr(reference, "path", None)
        lines.append(f"accept: --faas-update=changed  ({_short(where)})")
    return "\n".join([comparison.title, *(f"{_INDENT}{line}" for line in lines)])


def broken_text(result: HypotestResult, rerun: str, worker_setup: str) -> str:
    """Return what a person reads when a fit broke."""
    error = result.error
    title = f"{result.pallet} / {result.patch}: {_STATUS_TITLES[result.status]}"
    lines: list[str] = []
    remedy = _STATUS_REMEDIES.get(result.status)
    if error is not None:
        if result.status == "error":
            lines.append(f"{error.type}: {error.first_line}")
            if error.type not in _REMEDIES and error.traceback:
                lines += error.traceback.strip().splitlines()[-_TRACEBACK_LINES:-1]
            remedy = _REMEDIES.get(error.type)
        else:
            lines += error.message.splitlines()
            if error.type == ENGINE:
                remedy = None
    if result.worker:
        lines.append(f"worker {result.worker}, attempt {result.attempts}")
    if remedy:
        lines.append(f"what to do: {remedy.format(setup=worker_setup)}")
    lines.append(f"rerun:  {rerun}")
    return "\n".join([title, *(f"{_INDENT}{line}" for line in lines)])


def broken_analysis_text(analysis: str, broken: Sequence[HypotestResult], fits: int) -> str:
    """Return why a wall time was not measured."""
    names = ", ".join(result.patch for result in broken[:5])
    more = ", ..." if len(broken) > 5 else ""  # noqa: PLR2004
    return (
        f"{analysis}: no wall time, because {len(broken)} of {fits} fits broke\n"
        f"{_INDENT}{names}{more}: see their own errors"
    )


def rerun_command(context: Context, item: pytest.Item, result: HypotestResult) -> str:
    """Return the command that fits one patch again."""
    config, settings = context.config, context.settings
    words = ["pytest"]
    if config.args_source is config.ArgsSource.ARGS:
        words += ["--pyargs"] if config.option.pyargs else []
        words += [str(argument).partition("::")[0] for argument in config.args]
    marker = item.get_closest_marker("pallet")
    if marker is None:
        origin = context.origins.get(result.pallet, result.pallet)
        # A path that stands alone would move pytest's rootdir.
        words += [f"--faas-pallet={origin}"] if "/" in origin else ["--faas-pallet", origin]
        words += ["--faas-patch", result.patch]
    else:
        words += ["-k", result.patch]
    if settings.endpoints != ("local",):
        endpoint = item.callspec.params.get("faas_endpoint", settings.endpoints[0])  # type: ignore[attr-defined]
        words += ["--funcx-endpoint", endpoint]
    for flag, value, default in (
        ("--faas-backend", settings.hypotest.backend, "numpy"),
        ("--faas-optimizer", settings.hypotest.optimizer, "scipy"),
        ("--faas-method", settings.hypotest.method, "hypotest"),
    ):
        words += [flag, value] if value != default else []
    if settings.reference_dir is not None:
        words.append(f"--faas-reference-dir={settings.reference_dir}")
    return shlex.join(words)


def wall_time_table(wall_times: Sequence[WallTime]) -> list[str]:
    """Return the wall times in the shape of the published table, and where the time went."""
    header = ("analysis", "endpoint", "patches", *MEASURED_HEADER)
    rows: list[tuple[str, ...]] = [header]
    rows += [
        (
            wall_time.analysis,
            f"{wall_time.endpoint} ({counted(wall_time.last.workers, 'worker')})",
            str(wall_time.last.fits),
            *measured_cells(wall_time),
        )
        for wall_time in wall_times
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = []
    for row in rows:
        cells = [row[column].rjust(width) for column, width in enumerate(widths)]
        cells[0], cells[1] = row[0].ljust(widths[0]), row[1].ljust(widths[1])
        lines.append("  ".join(cells).rstrip())
    lines += [f"{w.analysis}: {_where_the_time_went(w)}" for w in wall_times]
    return lines


def endpoint_lines(preflight: Preflight) -> list[str]:
    """Return what was measured of an endpoint, and what failed; nothing if nothing was tried."""
    spec = preflight.engine.spec
    lines = []
    for group in _ENDPOINT_GROUPS:
        texts = [preflight.findings[name].text for name in group if name in preflight.findings]
        lines.append(", ".join(filter(None, texts)))
    for error in dict.fromkeys(map(str, preflight.failures.values())):
        title = error.partition("\n")[0]
        lines.append(f"not ready: {title.removeprefix(f'endpoint {spec}: ')}")
    wrapped = [
        piece
        for line in lines
        for piece in textwrap.wrap(line, _WIDTH - len(_INDENT), break_on_hyphens=False)
    ]
    return [f"endpoint {spec}:", *(f"{_INDENT}{piece}" for piece in wrapped)] if wrapped else []


def plan_lines(context: Context) -> list[str]:
    """Return what is going to be fitted, after collection."""
    fits = context.schedule.fits()
    lines = []
    for (endpoint, pallet), tasks in fits.items():
        first = next(iter(tasks.values()))
        engine = context.schedule.engine(endpoint)
        workers = f" ({counted(engine.workers, 'worker')})" if engine.workers_known else ""
        label = " (synthetic, no physics)" if first.pallet.synthetic else ""
        known = [context.schedule.expected_s(task) for task in tasks.values()]
        total = sum(seconds for seconds in known if seconds is not None)
        seconds = total / engine.workers * context.settings.trials
        times = f", about {duration(seconds)}" if total and engine.workers_known else ""
        lines.append(
            f"pyhf-faas: {pallet}{label}: {counted(len(tasks), 'fit')} on {endpoint}{workers}, "
            f"{first.config.combination}{times}"
        )
    for (endpoint, pallet, patches), counts in context.schedule.scaling.items():
        numbers = ", ".join(map(str, counts))
        lines.append(
            f"pyhf-faas: {pallet}: {counted(patches, 'fit')} on {endpoint} with {numbers} "
            f"{context.schedule.scaling_unit(endpoint)}, one after the other"
        )
    return lines


def _where_the_time_went(wall_time: WallTime) -> str:
    capacity = wall_time.mean_of("wall_s") * wall_time.last.workers
    shares = [(part, wall_time.mean_of(f"{part}_s") / capacity) for part in PARTS]
    # No minus before a zero.
    return "time of the workers: " + ", ".join(
        f"{part} {round(share, 3) + 0.0:.1%}" for part, share in shares
    )


def _short(path: object) -> str:
    text = str(path)
    return "/".join(text.split("/")[-2:]) if path else "no reference file"
