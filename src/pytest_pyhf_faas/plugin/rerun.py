"""The command that fits one hypothesis again."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.plugin.markers import quantity_of
from pytest_pyhf_faas.plugin.options import OPTIONS, given_of
from pytest_pyhf_faas.redaction import without_json
from pytest_pyhf_faas.wording import relative_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.option import Option

#: Options of pytest that select the ini file, and how they are written.
_OF_PYTEST = {"inifilename": "--config-file", "rootdir": "--rootdir"}


def rerun_command(context: Context, item: pytest.Item, result: HypotestResult) -> str:
    """Return the command that fits one hypothesis again, under the same options.

    If options decide which hypotheses an item tests, they name the hypothesis; else the
    node id of the item does.
    """
    config = context.config
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    chosen: dict[str, Any] = {}
    pallet = context.origins.get(result.pallet)  # unless it is the only one of its source
    names = {*parameters, *getattr(item, "fixturenames", ())}
    from_options = item.get_closest_marker("pallet") is None
    if pallet and from_options and {"signal_patch", "analysis_result"} & names:
        endpoint = parameters.get("faas_endpoint", context.settings.endpoints[0])
        chosen = {"pallet": [pallet], "patch": [result.patch], "endpoint": [endpoint]}
    if chosen:
        chosen |= {"quantity": quantity_of(item), "items": "hypothesis"}
    words = ["pytest", *_place(config, item, by_options=bool(chosen))]
    for name, flag in _OF_PYTEST.items():
        given = getattr(config.option, name)
        words += [f"{flag}={given}"] if given else []
    for option in OPTIONS:
        if option.rerun:
            words += _words(config, option, chosen.get(option.name, given_of(config, option)))
    return shlex.join(words)


def _place(config: pytest.Config, item: pytest.Item, *, by_options: bool) -> Iterator[str]:
    """Yield the path of the item; for the suite, what the user named, if options say the rest.

    Endpoints are parameters only if there are several.
    """
    from pytest_pyhf_faas import suite

    in_suite = any(item.path.is_relative_to(directory) for directory in suite.__path__)
    if in_suite and by_options:
        if config.args_source is config.ArgsSource.ARGS:
            yield from ["--pyargs"] if config.option.pyargs else []
            yield from (str(argument).partition("::")[0] for argument in config.args)
        return
    test = item.nodeid.partition("::")[2]
    if by_options and "faas_endpoint" in item.callspec.params:  # type: ignore[attr-defined]
        test = test.removesuffix(f"[{item.callspec.id}]")  # type: ignore[attr-defined]
    if in_suite:
        yield from ("--pyargs", f"{suite.__name__}.{item.path.stem}::{test}")
    else:
        yield f"{relative_path(item.path, config.invocation_params.dir)}::{test}"


def _words(config: pytest.Config, option: Option, given: Any) -> list[str]:
    """Return the words for an option, if the rerun would not have its value anyway."""
    in_ini = option.ini and config.getini(option.ini)
    if option.value(given) == option.value(None) and not in_ini:
        return []
    if option.secret and given == in_ini and without_json(given) != given:
        overridden = any(
            each.startswith(f"{option.ini}=") for each in config.option.override_ini or ()
        )
        return option.words(given) if overridden else []  # the rerun reads it from the file
    return option.words(given)
