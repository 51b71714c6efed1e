"""The options: one table, from which the command line, the ini keys and the rerun line are made.

Precedence: marker, then command line, then ini. `docs/reference/options.md` documents each of
them in four equal lines; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.plugin import values
from pytest_pyhf_faas.plugin.option import Option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import pytest

UPDATE_MODES = ("new", "changed", "all")
#: At which minima a result is right.
MINIMA = ("any", "lowest", "nominal")
#: Those of `campaign.tasks`, which are not imported by those who only have the plugin installed.
METHODS = ("hypotest", "certified")
#: What an item of the suite is.
ITEMS = ("hypothesis", "analysis")


OPTIONS = (
    Option(
        "endpoint",
        ("--faas-endpoint", "--funcx-endpoint"),
        "SPEC",
        "where to fit: the UUID of a funcX / Globus Compute endpoint, local, local:N (N worker "
        "processes on this machine), parsl:CONFIG.py (a configuration of Parsl), or a name from "
        "the ini key faas_endpoints; may be repeated, the suite then runs once per endpoint",
        default="local",
        ini="faas_endpoint",
        place=values.endpoint_from,
        many=True,
    ),
    Option(
        "pallet",
        ("--faas-pallet",),
        "NAME|DIR|ARCHIVE|DOI|A+B",
        "pallet to validate: a published one by name or DOI, a directory, an archive; several "
        "joined by a plus, or in a combination file, are fitted as one; may be repeated",
        default="synthetic",
        ini="faas_pallet",
        place=values.pallet_from,
        marker="pallet(NAME, ...)",
        many=True,
    ),
    Option(
        "patch",
        ("--faas-patch",),
        "[PALLET::]GLOB|VALUES",
        "fit only the signal patches whose name matches, or those at these values (750,100); "
        "PALLET:: limits this to one pallet; may be repeated",
        default_is="all patches",
        ini="faas_patch",
        marker="pallet(..., patch=...)",
        many=True,
    ),
    Option(
        "items",
        ("--faas-items",),
        None,
        "what an item of the suite is: a hypothesis, or an analysis, which checks a whole pallet "
        "and lists what fails: for 10,000 hypotheses and more",
        default="hypothesis",
        ini="faas_items",
        choices=ITEMS,
    ),
    Option(
        "backend",
        ("--faas-backend",),
        "NAME",
        "tensor backend, of those that the pyhf of the workers has: numpy, jax (before pyhf 0.8 "
        "also pytorch, tensorflow)",
        default="numpy",
        ini="faas_backend",
        marker="hypotest(backend=...)",
    ),
    Option(
        "optimizer",
        ("--faas-optimizer",),
        "NAME",
        "optimizer, of those that the pyhf of the workers has: scipy, minuit",
        default="scipy",
        ini="faas_optimizer",
        marker="hypotest(optimizer=...)",
    ),
    Option(
        "method",
        ("--faas-method",),
        None,
        "how hypotheses are tested: hypotest (pyhf.infer.hypotest), or certified (at minima that "
        "are certified, which do not depend on backend and optimizer)",
        default="hypotest",
        default_is="hypotest; certified with --faas-update",
        ini="faas_method",
        marker="hypotest(method=...)",
        choices=METHODS,
    ),
    Option(
        "quantity",
        ("--faas-quantity",),
        "NAME,NAME,...",
        "what is calculated and compared for each hypothesis: cls, limit (the upper limits on the "
        "POI, also compared with published ones if a table is found), toys (CLs from "
        "pseudo-experiments)",
        default="cls",
        ini="faas_quantity",
        marker="hypotest(quantity=...)",
        read=values.quantities,
    ),
    Option(
        "toys",
        ("--faas-toys",),
        "N",
        "number of toys for each hypothesis with the tested signal, and as many without a signal",
        default="1000",
        ini="faas_toys",
        marker="hypotest(toys=...)",
        read=values.at_least(1),
    ),
    Option(
        "published",
        ("--faas-published",),
        "FILE|DIR|DOI",
        "table of published upper limits, or of theory cross sections by mass: a "
        "file, a directory of them, or the DOI of a table of HEPData; may be repeated",
        default_is="tables next to the pallet, or in PYHF_PALLET_PATH",
        ini="faas_published",
        place=values.path_or_name_from,
        many=True,
    ),
    Option(
        "trials",
        ("--faas-trials",),
        "N",
        "how often the wall time of each analysis is measured",
        default="1",
        ini="faas_trials",
        read=values.at_least(1),
        rerun=False,
    ),
    Option(
        "timeout",
        ("--faas-timeout",),
        "SECONDS",
        "how long one fit may take on a worker; 0 means no limit",
        default="3600",
        ini="faas_timeout",
        read=values.seconds,
    ),
    Option(
        "queue_timeout",
        ("--faas-queue-timeout",),
        "SECONDS",
        "give up when no worker has been available for this many seconds, at the start or later, "
        "because a queue grants no block; 0 means no limit",
        default="3600",
        ini="faas_queue_timeout",
        read=values.seconds,
    ),
    Option(
        "blocks",
        ("--faas-blocks",),
        "N",
        "how many blocks a Parsl endpoint asks for, at the start and at most; asked of a Globus "
        "Compute endpoint as max_blocks",
        default_is="as its configuration says",
        ini="faas_blocks",
        read=values.at_least(1),
    ),
    Option(
        "workers",
        ("--faas-workers",),
        "N",
        "workers on each node of a Parsl endpoint, or worker processes of local; asked of a "
        "Globus Compute endpoint as workers",
        default_is="as its configuration says; the cores of this machine",
        ini="faas_workers",
        read=values.at_least(1),
    ),
    Option(
        "endpoint_config",
        ("--faas-endpoint-config",),
        "FILE|JSON",
        "what to ask a Globus Compute endpoint for: an object with user_endpoint_config and "
        "resource_specification, or one that is a user_endpoint_config",
        default_is="as the endpoint's template says",
        ini="faas_endpoint_config",
        place=values.path_or_name_from,
        secret=True,
    ),
    Option(
        "require",
        ("--faas-require",),
        "REQUIREMENT",
        "what workers must have, as a pip requirement (pyhf==0.7.6, or python>=3.11): others are "
        "named, and their fits are refused; may be repeated",
        default_is="nothing",
        ini="faas_require",
        many=True,
        read=values.requirement,
    ),
    Option(
        "retries",
        ("--faas-retries",),
        "N",
        "how often a fit is sent again after its worker died; a wrong value is never retried",
        default="1",
        ini="faas_retries",
        read=values.at_least(0),
    ),
    Option(
        "reference_dir",
        ("--faas-reference-dir",),
        "DIR",
        "where reference results are read and, with --faas-update, written",
        default_is="reference_results in the rootdir, then those that come with the package",
        ini="faas_reference_dir",
        place=values.path_from,
    ),
    Option(
        "rtol",
        ("--faas-rtol",),
        "X",
        "relative tolerance on CLs",
        default_is="that of the reference file, else 1e-4 for scipy, 1e-3 for minuit, 1e-6 if "
        "certified",
        ini="faas_rtol",
        marker="hypotest(rtol=...)",
        read=values.number,
    ),
    Option(
        "atol",
        ("--faas-atol",),
        "X",
        "absolute tolerance on CLs",
        default_is="that of the reference file, else 1e-6",
        ini="faas_atol",
        marker="hypotest(atol=...)",
        read=values.number,
    ),
    Option(
        "nll_tolerance",
        ("--faas-nll-tolerance",),
        "X",
        "how far above a minimum a fit may end, in twice the negative log-likelihood",
        default="0.01",
        ini="faas_nll_tolerance",
        marker="hypotest(nll_tolerance=...)",
        read=values.number,
    ),
    Option(
        "minimum",
        ("--faas-minimum",),
        None,
        "at which minima a result is right, where a hypothesis has two: the lowest that were "
        "found, the nominal ones (where a descent from pyhf's initial values ends), or any of them",
        default="any",
        ini="faas_minimum",
        marker="hypotest(minimum=...)",
        choices=MINIMA,
    ),
    Option(
        "update",
        ("--faas-update",),
        None,
        "write certified reference results and mark the items skipped: new ones only; also those "
        "that changed; all",
        choices=UPDATE_MODES,
    ),
    Option(
        "report",
        ("--faas-report",),
        "DIR|DIR/report.json",
        "write a report of the run there: report.json (alone, where that file is named), a page "
        "with plots (report.html), the plots, the CLs values as cls.csv and as a submission to "
        "HEPData; under GitHub Actions also a summary of the job",
        default_is="none",
        ini="faas_report",
        place=values.path_from,
        rerun=False,
    ),
    Option(
        "plane",
        ("--faas-plane",),
        "X,Y",
        "the plane with the exclusion contours in the report: each axis a label of the pallet's "
        "values, or the difference or ratio of two, as in m1,m1-m2",
        default_is="the first two that vary",
        ini="faas_plane",
        read=values.plane,
        rerun=False,
    ),
    Option(
        "scaling",
        ("--faas-scaling",),
        "N,N,...",
        "also measure the wall time of each analysis with so many workers (blocks, on Parsl or "
        "Globus Compute), one number after the other",
        ini="faas_scaling",
        read=values.counts,
        rerun=False,
    ),
    Option(
        "resume",
        ("--faas-resume",),
        None,
        "take over the results of earlier, interrupted runs from the journal",
        switch=True,
        rerun=False,
    ),
    Option(
        "dry_run",
        ("--faas-dry-run",),
        None,
        "collect, say what would be fitted, and fit nothing",
        switch=True,
        rerun=False,
    ),
)
BY_NAME = {option.name: option for option in OPTIONS}


def without_secrets(words: Iterable[str]) -> list[str]:
    """Return the words of a command line as they may be shown."""
    shown: list[str] = []
    for word in words:
        before = shown[-1] if shown else ""
        text = word
        for option in OPTIONS:
            if option.secret and before in option.flags:
                text = option.shown(word)
            elif option.secret:
                # Also the ini key, as in ``-o faas_endpoint_config={...}``.
                for name in filter(None, (*option.flags, option.ini)):
                    head, equals, value = text.partition(f"{name}=")
                    text = f"{head}{equals}{option.shown(value)}"
        shown.append(text)
    return shown


def add_options(parser: pytest.Parser) -> None:
    """Declare the options to pytest."""
    group = parser.getgroup("pyhf-faas", "validation of published pyhf likelihoods")
    for option in OPTIONS:
        group.addoption(*option.flags, **option.argument())
        if option.ini:
            kind: Literal["linelist", "string"] = "linelist" if option.many else "string"
            parser.addini(option.ini, f"default of {option.flags[0]}", type=kind, default=None)
    parser.addini(
        "faas_endpoints",
        "names for endpoints, one `name = spec` on each line",
        type="linelist",
        default=[],
    )


def any_given(config: pytest.Config) -> bool:
    """Whether a session uses any of the options, so that they are worth checking at its start."""
    return any(given_of(config, option) for option in OPTIONS) or bool(
        config.getini("faas_endpoints")
    )


def given_of(config: pytest.Config, option: Option) -> Any:
    """Return what the command line or the ini file says; ``None`` where both are silent.

    A path of the command line is relative to the working directory, one of the ini file to that
    file.
    """
    value = config.getoption(option.dest)
    if value is not None or not option.ini:
        return value
    value = config.getini(option.ini) or None
    if value is None or option.place is None:
        return value
    if option.many:
        return [from_ini_file(config, option.place, text) for text in value]
    return from_ini_file(config, option.place, value)


def from_ini_file(config: pytest.Config, place: Callable[[Path, str], str], text: str) -> str:
    """Return a text of the ini file, which is a path from that file, as one from here."""
    directory = config.inipath.parent if config.inipath else config.rootpath
    return text if directory == config.invocation_params.dir else place(directory, text)
