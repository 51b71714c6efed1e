"""The options of a session, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin.options import OPTIONS, from_ini_file, given_of
from pytest_pyhf_faas.plugin.values import endpoint_from
from pytest_pyhf_faas.session.fitting import Fitting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pytest

    from pytest_pyhf_faas.campaign.requirements import Requirement
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.references.criteria import Minimum

UpdateMode = Literal["new", "changed", "all"]
Items = Literal["hypothesis", "analysis"]
#: Fields that are the values of the options of their names.
_AS_READ = (
    "toys",
    "published",
    "trials",
    "blocks",
    "workers",
    "retries",
    "require",
    "rtol",
    "atol",
    "nll_tolerance",
    "minimum",
    "update",
    "plane",
    "items",
    "resume",
    "dry_run",
)


@dataclass(frozen=True, slots=True)
class Settings(Fitting):
    """The options of a session, checked."""

    endpoints: tuple[str, ...]
    pallets: tuple[str, ...]
    patches: tuple[str, ...]
    hypotest: HypotestConfig
    quantities: tuple[str, ...]
    toys: int
    published: tuple[str, ...]
    trials: int
    require: tuple[Requirement, ...]
    reference_dir: Path | None
    rtol: float | None
    atol: float | None
    nll_tolerance: float
    minimum: Minimum
    update: UpdateMode | None
    report: Path | None
    plane: tuple[str, str] | None
    scaling: tuple[int, ...]
    items: Items
    dry_run: bool


def read_settings(config: pytest.Config) -> Settings:
    """Return the checked options of a session.

    Raises
    ------
    ConfigurationError
        If one of them makes no sense.
    """
    from pytest_pyhf_faas.campaign.tasks import CERTIFIED, HypotestConfig
    from pytest_pyhf_faas.engines import read_endpoint_config, resolve_endpoint

    given = {option.name: given_of(config, option) for option in OPTIONS}
    if given["update"] and given["method"] not in (None, CERTIFIED):
        raise ConfigurationError(
            f"--faas-update writes certified references, and --faas-method is {given['method']!r}: "
            "leave one of them out"
        )
    values = {option.name: option.value(given[option.name]) for option in OPTIONS}
    if values["items"] == "analysis":
        check_analysis_goes_with(
            config,
            {
                "--faas-update": values["update"],
                "--faas-scaling": values["scaling"],
                "--faas-quantity": values["quantity"] != ("cls",),
            },
        )
    here = config.invocation_params.dir
    named = {
        name: from_ini_file(config, endpoint_from, spec)
        for name, spec in _named_endpoints(config.getini("faas_endpoints")).items()
    }
    specs = (resolve_endpoint(spec, named) for spec in values["endpoint"])
    update, endpoint_config = values["update"], values["endpoint_config"]
    return Settings(
        endpoints=tuple(dict.fromkeys(specs)),
        pallets=values["pallet"],
        patches=values["patch"],
        quantities=values["quantity"],
        hypotest=HypotestConfig(
            backend=values["backend"],
            optimizer=values["optimizer"],
            method=CERTIFIED if update else values["method"],
            checked=bool(update),
        ),
        timeout_s=values["timeout"],
        queue_timeout_s=values["queue_timeout"],
        endpoint_config=read_endpoint_config(endpoint_config, here) if endpoint_config else {},
        reference_dir=_below(here, values["reference_dir"]),
        report=_below(here, values["report"]),
        scaling=values["scaling"] or (),
        **{name: values[name] for name in _AS_READ},
    )


def check_analysis_goes_with(config: pytest.Config, given: Mapping[str, Any]) -> None:
    """Refuse what one item cannot do that checks a whole pallet.

    Parameters
    ----------
    config : Config
        Of the session.
    given : mapping
        What else is asked for, by its name: refused where it is true.

    Raises
    ------
    ConfigurationError
        If something of that is asked for, or items are shared among processes.
    """
    under_xdist = config.getoption("tx", None) or hasattr(config, "workerinput")
    for what, asked_for in {**given, "pytest-xdist (-n)": under_xdist}.items():
        if asked_for:
            raise ConfigurationError(
                "one item that compares the CLs of a whole pallet (--faas-items=analysis, or the "
                f"fixture analysis_result) does not work with {what}: leave one of them out"
            )


def _below(directory: Path, path: str | None) -> Path | None:
    return directory / path if path else None


def _named_endpoints(lines: Sequence[str]) -> dict[str, str]:

    named = {}
    for line in lines:
        name, equals, spec = (part.strip() for part in line.partition("="))
        if not (name and equals and spec):
            raise ConfigurationError(
                f"the ini key faas_endpoints has the line {line!r}: write `name = spec`"
            )
        named[name] = spec
    return named
