"""The command that fits one hypothesis again."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from pytest_pyhf_faas.plugin.options import OPTIONS, given_of

if TYPE_CHECKING:
    import pytest

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.plugin.context import Context


def rerun_command(context: Context, item: pytest.Item, result: HypotestResult) -> str:
    """Return the command that fits one hypothesis again, under the same options.

    The patch is named by options, where options decide which patches an item is for, and else the
    item by its node id.
    """
    config, settings = context.config, context.settings
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    words = ["pytest"]
    chosen: dict[str, list[str]] = {}
    if item.get_closest_marker("pallet") is None and "signal_patch" in parameters:
        if config.args_source is config.ArgsSource.ARGS:
            words += ["--pyargs"] if config.option.pyargs else []
            words += [str(argument).partition("::")[0] for argument in config.args]
        pallet = parameters["pallet"].name  # that of the result may be another with the same patch
        chosen["pallet"] = [context.origins.get(pallet, pallet)]
        chosen["patch"] = [result.patch]
        chosen["endpoint"] = [parameters.get("faas_endpoint", settings.endpoints[0])]
    else:
        path = os.path.relpath(item.path, config.invocation_params.dir)
        words.append(f"{path}::{item.nodeid.partition('::')[2]}")
    for option in OPTIONS:
        if option.rerun:
            words += option.words(chosen.get(option.name, given_of(config, option)))
    return shlex.join(words)
