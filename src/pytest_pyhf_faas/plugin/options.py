"""The options: one table, from which the command line, the ini keys and the markers are made.

Precedence: marker, then command line, then ini. `docs/options.md` documents each of them in four
equal lines; a test holds the two together.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pytest

    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.references.compare import Minimum

UpdateMode = Literal["new", "changed", "all"]
UPDATE_MODES = ("new", "changed", "all")
#: At which minima a result is right.
MINIMA = ("any", "lowest", "nominal")


@dataclass(frozen=True, slots=True)
class Option:
    """One option in its forms.

    Attributes
    ----------
    flags : tuple of str
        Command-line forms.
    ini : str or None
        Key in the ini file.
    marker : str or None
        Marker and keyword.
    default : str
        As people read it.
    many : bool
        Whether it may be repeated; in the ini file, one value for each line.
    switch : bool
        Whether it takes no value.
    """

    name: str
    flags: tuple[str, ...]
    metavar: str | None
    help: str
    default: str
    ini: str | None = None
    marker: str | None = None
    many: bool = False
    switch: bool = False
    choices: tuple[str, ...] | None = None


OPTIONS = (
    Option(
        "endpoint",
        ("--funcx-endpoint", "--faas-endpoint"),
        "SPEC",
        "where to fit: the UUID of a funcX / Globus Compute endpoint, local, local:N (N worker "
        "processes on this machine), parsl:CONFIG.py (a configuration of Parsl), or a name from "
        "the ini key faas_endpoints; may be repeated, the suite then runs once per endpoint",
        default="local",
        ini="faas_endpoint",
        many=True,
    ),
    Option(
        "pallet",
        ("--faas-pallet",),
        "NAME|DIR|ARCHIVE|DOI",
        "pallet to validate: a published one by name or DOI, a directory, an archive; may be "
        "repeated",
        default="synthetic",
        ini="faas_pallet",
        marker="pallet(NAME, ...)",
        many=True,
    ),
    Option(
        "patch",
        ("--faas-patch",),
        "GLOB|VALUES",
        "only the signal patches whose name matches, or those at these values (750,100); may be "
        "repeated",
        default="all patches",
        ini="faas_patch",
        marker="pallet(..., patch=...)",
        many=True,
    ),
    Option(
        "backend",
        ("--faas-backend",),
        "NAME",
        "pyhf tensor backend of the workers: numpy, jax, pytorch, tensorflow",
        default="numpy",
        ini="faas_backend",
        marker="hypotest(backend=...)",
    ),
    Option(
        "optimizer",
        ("--faas-optimizer",),
        "NAME",
        "pyhf optimizer of the workers: scipy, minuit",
        default="scipy",
        ini="faas_optimizer",
        marker="hypotest(optimizer=...)",
    ),
    Option(
        "method",
        ("--faas-method",),
        "NAME",
        "how hypotheses are tested: hypotest (pyhf.infer.hypotest), or certified (at minima that "
        "are certified, which backend and optimizer have no part in)",
        default="hypotest; certified with --faas-update",
        ini="faas_method",
        marker="hypotest(method=...)",
    ),
    Option(
        "trials",
        ("--faas-trials",),
        "N",
        "how often the wall time of each analysis is measured",
        default="1",
        ini="faas_trials",
    ),
    Option(
        "timeout",
        ("--faas-timeout",),
        "SECONDS",
        "how long one fit may take on a worker; 0 means without limit",
        default="3600",
        ini="faas_timeout",
    ),
    Option(
        "queue_timeout",
        ("--faas-queue-timeout",),
        "SECONDS",
        "how long no worker may be there, because a queue grants no block, before the fits are "
        "given up; 0 means without limit",
        default="3600",
        ini="faas_queue_timeout",
    ),
    Option(
        "blocks",
        ("--faas-blocks",),
        "N",
        "how many blocks a Parsl endpoint asks for, at the start and at most; asked of a Globus "
        "Compute endpoint as max_blocks",
        default="as its configuration says",
        ini="faas_blocks",
    ),
    Option(
        "workers",
        ("--faas-workers",),
        "N",
        "workers on each node of a Parsl endpoint, or worker processes of local; asked of a "
        "Globus Compute endpoint as workers",
        default="as its configuration says; the cores of this machine",
        ini="faas_workers",
    ),
    Option(
        "endpoint_config",
        ("--faas-endpoint-config",),
        "FILE|JSON",
        "what to ask a Globus Compute endpoint for: an object with user_endpoint_config and "
        "resource_specification, or one that is a user_endpoint_config",
        default="as the endpoint's template says",
        ini="faas_endpoint_config",
    ),
    Option(
        "retries",
        ("--faas-retries",),
        "N",
        "how often a fit is sent again after its worker died; a wrong value is never retried",
        default="1",
        ini="faas_retries",
    ),
    Option(
        "reference_dir",
        ("--faas-reference-dir",),
        "DIR",
        "where reference results are read and, with --faas-update, written",
        default="reference_results in the rootdir, then the ones that come with the package",
        ini="faas_reference_dir",
    ),
    Option(
        "rtol",
        ("--faas-rtol",),
        "X",
        "relative tolerance on CLs",
        default="that of the reference file, else 1e-4 for scipy, 1e-3 for minuit, 1e-6 if "
        "certified",
        ini="faas_rtol",
        marker="hypotest(rtol=...)",
    ),
    Option(
        "atol",
        ("--faas-atol",),
        "X",
        "absolute tolerance on CLs",
        default="that of the reference file, else 1e-6",
        ini="faas_atol",
        marker="hypotest(atol=...)",
    ),
    Option(
        "unconverged",
        ("--faas-unconverged",),
        "X",
        "how far above a minimum a fit may end, in twice the negative log-likelihood",
        default="0.01",
        ini="faas_unconverged",
        marker="hypotest(unconverged=...)",
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
        default="off",
        choices=UPDATE_MODES,
    ),
    Option(
        "report",
        ("--faas-report",),
        "DIR",
        "write a report of the run there: report.json, a page with plots (report.html), and the "
        "plots; under GitHub Actions also a summary of the job",
        default="none",
        ini="faas_report",
    ),
    Option(
        "plane",
        ("--faas-plane",),
        "LABEL,LABEL",
        "which two of a pallet's values, such as masses, make the plane with the exclusion "
        "contours in the report",
        default="those two that vary",
        ini="faas_plane",
    ),
    Option(
        "scaling",
        ("--faas-scaling",),
        "N,N,...",
        "also measure the wall time of each analysis with so many workers (blocks, on Parsl or "
        "Globus Compute), one number after the other",
        default="off",
        ini="faas_scaling",
    ),
    Option(
        "resume",
        ("--faas-resume",),
        None,
        "take over the results of earlier, interrupted runs from the journal",
        default="off",
        switch=True,
    ),
    Option(
        "dry_run",
        ("--faas-dry-run",),
        None,
        "collect, say what would be fitted, and fit nothing",
        default="off",
        switch=True,
    ),
)

#: Keywords of `hypotest(...)` that go beyond the options above: fields of `HypotestConfig`.
HYPOTEST_KEYWORDS = (
    "test_poi",
    "test_stat",
    "measurement",
    "normsys_interpcode",
    "histosys_interpcode",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a session, checked."""

    endpoints: tuple[str, ...]
    pallets: tuple[str, ...]
    patches: tuple[str, ...]
    hypotest: HypotestConfig
    trials: int
    timeout_s: float | None
    queue_timeout_s: float | None
    blocks: int | None
    workers: int | None
    endpoint_config: Mapping[str, Any]
    retries: int
    reference_dir: Path | None
    rtol: float | None
    atol: float | None
    unconverged: float
    minimum: Minimum
    update: UpdateMode | None
    report: Path | None
    plane: tuple[str, str] | None
    scaling: tuple[int, ...]
    resume: bool
    dry_run: bool


def add_options(parser: pytest.Parser) -> None:
    """Declare the options to pytest."""
    group = parser.getgroup("pyhf-faas", "validation of published pyhf likelihoods")
    for option in OPTIONS:
        keywords: dict[str, Any] = {"dest": _dest(option), "help": option.help, "default": None}
        if option.switch:
            keywords["action"] = "store_true"
        else:
            keywords["action"] = "append" if option.many else "store"
            if option.choices:
                keywords["choices"] = option.choices
            else:
                keywords["metavar"] = option.metavar
        keywords["help"] += f" (default: {option.default})"
        group.addoption(*option.flags, **keywords)
        if option.ini:
            kind: Literal["linelist", "string"] = "linelist" if option.many else "string"
            parser.addini(option.ini, f"default of {option.flags[0]}", type=kind, default=None)
    parser.addini(
        "faas_endpoints",
        "names for endpoints, one `name = spec` on each line",
        type="linelist",
        default=[],
    )


def check_paths(config: pytest.Config) -> None:
    """Refuse a path outside of this directory that stands apart from its option.

    Before pytest knows the options of plugins it takes such a path for a place of tests, and looks
    there for its rootdir and its ini file.

    Raises
    ------
    ConfigurationError
        If there is one.
    """
    from pytest_pyhf_faas.errors import ConfigurationError

    here = config.invocation_params.dir
    words = [str(word) for word in config.invocation_params.args]
    for flag, value in itertools.pairwise(words):
        if flag not in ("--faas-pallet", "--faas-reference-dir", "--faas-report"):
            continue
        path = (here / value).resolve()
        with contextlib.suppress(OSError):
            if path.exists() and not path.is_relative_to(here.resolve()):
                raise ConfigurationError(
                    f"{flag} and the path {value} are two words, so that pytest looks there for "
                    f"its configuration: write {flag}={value}"
                )


def any_given(config: pytest.Config) -> bool:
    """Whether a session uses any of the options, so that they are worth checking at its start."""
    return any(_given(config, option) for option in OPTIONS) or bool(
        config.getini("faas_endpoints")
    )


def read_settings(config: pytest.Config) -> Settings:
    """Return the checked options of a session.

    Raises
    ------
    ConfigurationError
        If one of them makes no sense.
    """
    from pytest_pyhf_faas.campaign.tasks import CERTIFIED, HypotestConfig
    from pytest_pyhf_faas.engines import read_endpoint_config, resolve_endpoint
    from pytest_pyhf_faas.errors import ConfigurationError
    from pytest_pyhf_faas.references.places import UNCONVERGED

    given = {option.name: _given(config, option) for option in OPTIONS}
    if given["update"] and given["method"] not in (None, CERTIFIED):
        raise ConfigurationError(
            f"--faas-update writes certified references, and --faas-method is {given['method']!r}: "
            "leave one of them out"
        )
    named = _named_endpoints(config.getini("faas_endpoints"))
    reference_dir = given["reference_dir"]
    endpoint_config = given["endpoint_config"]
    timeout_s = _number("timeout", given["timeout"] or "3600", float, minimum=0)
    queue_timeout_s = _number("queue_timeout", given["queue_timeout"] or "3600", float, minimum=0)
    return Settings(
        endpoints=tuple(
            dict.fromkeys(resolve_endpoint(spec, named) for spec in given["endpoint"] or ["local"])
        ),
        pallets=tuple(dict.fromkeys(given["pallet"] or ["synthetic"])),
        patches=tuple(given["patch"] or ()),
        hypotest=HypotestConfig(
            backend=given["backend"] or "numpy",
            optimizer=given["optimizer"] or "scipy",
            method=CERTIFIED if given["update"] else given["method"] or "hypotest",
            checked=bool(given["update"]),
        ),
        trials=_number("trials", given["trials"] or "1", int, minimum=1),
        timeout_s=timeout_s or None,
        queue_timeout_s=queue_timeout_s or None,
        blocks=_count("blocks", given["blocks"]),
        workers=_count("workers", given["workers"]),
        endpoint_config=(
            read_endpoint_config(endpoint_config, config.invocation_params.dir)
            if endpoint_config
            else {}
        ),
        retries=_number("retries", given["retries"] or "1", int, minimum=0),
        reference_dir=(config.invocation_params.dir / reference_dir) if reference_dir else None,
        rtol=_tolerance("rtol", given["rtol"]),
        atol=_tolerance("atol", given["atol"]),
        unconverged=_number("unconverged", given["unconverged"] or str(UNCONVERGED), float, 0),
        minimum=_minimum(given["minimum"] or "any"),
        update=given["update"],
        report=(config.invocation_params.dir / given["report"]) if given["report"] else None,
        plane=_plane(given["plane"]),
        scaling=_counts("scaling", given["scaling"]),
        resume=bool(given["resume"]),
        dry_run=bool(given["dry_run"]),
    )


def _dest(option: Option) -> str:
    return f"faas_{option.name}"


def _given(config: pytest.Config, option: Option) -> Any:
    value = config.getoption(_dest(option))
    if value is None and option.ini:
        value = config.getini(option.ini) or None
    return value


def _number(name: str, text: str, kind: Callable[[str], Any], minimum: float) -> Any:
    from pytest_pyhf_faas.errors import ConfigurationError

    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not minimum <= value < float("inf"):
        article = "a whole number" if kind is int else "a number"
        option = f"--faas-{name.replace('_', '-')}"
        raise ConfigurationError(f"{option} is {text!r}: it must be {article}, {minimum:g} or more")
    return value


def _count(name: str, text: str | None) -> int | None:
    return None if text is None else int(_number(name, text, int, minimum=1))


def _counts(name: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    return tuple(dict.fromkeys(_number(name, part, int, minimum=1) for part in text.split(",")))


def _plane(text: str | None) -> tuple[str, str] | None:
    from pytest_pyhf_faas.errors import ConfigurationError

    if text is None:
        return None
    labels = [label.strip() for label in text.split(",")]
    if len(set(labels)) != 2 or not all(labels):  # noqa: PLR2004 - a plane
        raise ConfigurationError(
            f"--faas-plane is {text!r}: it must be two labels of the pallet's values, as in m1,m2"
        )
    return labels[0], labels[1]


def _tolerance(name: str, text: str | None) -> float | None:
    return None if text is None else float(_number(name, text, float, minimum=0))


def _minimum(text: str) -> Minimum:
    from pytest_pyhf_faas.errors import ConfigurationError

    if text not in MINIMA:
        raise ConfigurationError(
            f"--faas-minimum is {text!r}, which is not known: use one of {', '.join(MINIMA)}"
        )
    return cast("Minimum", text)


def _named_endpoints(lines: Sequence[str]) -> dict[str, str]:
    from pytest_pyhf_faas.errors import ConfigurationError

    named = {}
    for line in lines:
        name, equals, spec = (part.strip() for part in line.partition("="))
        if not (name and equals and spec):
            raise ConfigurationError(
                f"the ini key faas_endpoints has the line {line!r}: write `name = spec`"
            )
        named[name] = spec
    return named


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a result is right; ``None`` leaves a tolerance to the reference file."""

    rtol: float | None
    atol: float | None
    unconverged: float
    minimum: Minimum


def hypotest_config(
    settings: Settings, marker: pytest.Mark | None
) -> tuple[HypotestConfig, Criteria]:
    """Return the configuration of a test and when its result is right.

    Raises
    ------
    ConfigurationError
        If its ``hypotest`` marker has an unknown keyword or a wrong value.
    """
    from dataclasses import replace

    from pytest_pyhf_faas.campaign.tasks import CERTIFIED
    from pytest_pyhf_faas.errors import ConfigurationError

    keywords = {} if marker is None else dict(marker.kwargs)
    criteria = {name: getattr(settings, name) for name in Criteria.__slots__}
    allowed = (*HYPOTEST_KEYWORDS, "backend", "optimizer", "method", *criteria)
    unknown = [name for name in keywords if name not in allowed]
    if unknown or (marker is not None and marker.args):
        what = f"the keyword {unknown[0]!r}" if unknown else "positional arguments"
        raise ConfigurationError(
            f"the marker hypotest does not take {what}: it takes {', '.join(allowed)}"
        )
    for name in criteria:
        value = keywords.pop(name, None)
        if value is not None:
            read = _minimum if name == "minimum" else partial(_tolerance, name)
            criteria[name] = read(str(value))
    if settings.update:
        keywords["method"] = CERTIFIED
    return replace(settings.hypotest, **keywords), Criteria(**criteria)


def pallet_selection(
    settings: Settings, marker: pytest.Mark | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the pallets and the patches that a test wants.

    Raises
    ------
    ConfigurationError
        If its ``pallet`` marker has an unknown keyword or names no pallet.
    """
    from pytest_pyhf_faas.errors import ConfigurationError

    if marker is None:
        return settings.pallets, settings.patches
    unknown = [name for name in marker.kwargs if name != "patch"]
    if unknown:
        raise ConfigurationError(
            f"the marker pallet does not take the keyword {unknown[0]!r}: it takes names, "
            "directories, archives or DOIs, and patch=..."
        )
    patch = marker.kwargs.get("patch", ())
    patches = tuple(patch) if isinstance(patch, (list, tuple, set)) else (patch,)
    if not all(isinstance(text, (str, Path)) for text in (*marker.args, *patches)):
        raise ConfigurationError("the marker pallet takes strings and paths")
    pallets = tuple(str(argument) for argument in marker.args) or settings.pallets
    return pallets, tuple(str(text) for text in patches) or settings.patches
