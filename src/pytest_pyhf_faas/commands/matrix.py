"""``pyhf-faas matrix``: which backends and optimizers get a pallet right."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.advice import check_client
from pytest_pyhf_faas.commands.choosing import (
    FIT_SETUPS,
    add_options,
    add_pallets,
    chosen_pallets,
    reference_store,
    values_of,
)
from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin.options import BY_NAME
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted, folded, listed, terminal_width

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.matrix import Finding
    from pytest_pyhf_faas.references.store import ReferenceStore
    from pytest_pyhf_faas.session.fitting import Fitting

#: Options of the plugin that mean the same here; tolerances and known issues are results here.
_OPTIONS = (
    replace(
        BY_NAME["endpoint"],
        help="where to fit: local, local:N, parsl:CONFIG.py, or the UUID of a funcX / Globus "
        "Compute endpoint",
        many=False,
    ),
    *(
        BY_NAME[name]
        for name in (
            "patch",
            "timeout",
            "queue_timeout",
            "blocks",
            "workers",
            "endpoint_config",
            "require",
            "retries",
            "resume",
            "reference_dir",
        )
    ),
)


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "matrix",
        help="fit pallets with every backend and optimizer, and say which are right",
        description="Fit pallets with every backend and optimizer, and say which are right, "
        "which are wrong by how much, and how fast each is.",
        epilog="Exit status: 0 if all are right, 1 if one got something wrong, 2 if it cannot be "
        "done.",
    )
    add_pallets(parser)
    parser.add_argument(
        "--fit-setup",
        action="append",
        metavar="BACKEND+OPTIMIZER",
        help=f"may be repeated (default: {', '.join(FIT_SETUPS)})",
    )
    parser.add_argument(
        "--quantity",
        choices=("cls", "limit"),
        default="cls",
        help="what is compared: CLs, or upper limits, of which pyhf does dozens of tests for each "
        "hypothesis (default: cls)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="note distances, tolerances and known issues of CLs in the reference files",
    )
    add_options(parser, _OPTIONS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fit, print a table for each pallet, and note what was found if that is asked for.

    Returns
    -------
    int
        The exit status: 1 if a fit setup got something wrong.

    Raises
    ------
    FaasError
        If an option makes no sense, a pallet cannot be read or has no references, or the endpoint
        returns nothing.
    KeyboardInterrupt
        If it was interrupted, by Ctrl-C or SIGTERM; what is fitted by then is in the journal.
    """
    check_client()
    limits = options.quantity == "limit"
    if limits and options.write:
        raise ConfigurationError(
            "--write notes what is known of CLs, and nothing of upper limits: leave out one of "
            "--write and --quantity=limit"
        )
    from pytest_pyhf_faas.campaign.tasks import make_tasks
    from pytest_pyhf_faas.references.matrix import judge, judge_limits, noted, notes, table
    from pytest_pyhf_faas.session.display import StreamDisplay
    from pytest_pyhf_faas.session.fits import Fits
    from pytest_pyhf_faas.session.interrupts import sigterm_like_ctrl_c

    values = values_of(options, _OPTIONS)
    configs = [
        replace(_config(fit_setup), quantity=options.quantity)
        for fit_setup in options.fit_setup or FIT_SETUPS
    ]
    store = reference_store(values)
    pallets = chosen_pallets(options, values)
    all_right = True
    all_fits = Fits(
        values["endpoint"],
        _fitting(values),
        store,
        "matrix",
        StreamDisplay(sys.stderr),
        values["require"],
    )
    with sigterm_like_ctrl_c(), closing(all_fits) as fits:
        fits.watch_interrupts()
        for pallet in pallets:
            findings: dict[str, list[Finding]] = {}
            written: list[str] = []
            for config in configs:
                tasks = make_tasks(pallet, config)
                _check_references(store, tasks)
                results = fits.results(tasks, f"{pallet.name} {config.fit_setup}")
                judged = (
                    (judge_limits if limits else judge)(result, store.find(task), config.fit_setup)
                    for task, result in zip(tasks, results, strict=True)
                )
                found = [finding for finding in judged if finding is not None]
                findings[config.fit_setup] = found
                unanswered = sum(not result.is_answer for result in results)
                if unanswered and options.write:
                    fits.say(
                        f"{pallet.name} {config.fit_setup}: nothing is noted, because "
                        f"{counted(unanswered, 'fit')} of {len(results)} broke; with --faas-resume "
                        "only these are fitted again"
                    )
                elif options.write:
                    path = store.note(pallet.name, config.fit_setup, notes(config.fit_setup, found))
                    written.append(f"{path}: {noted(config.fit_setup, found)}")
            all_right &= all(
                f.verdict is Verdict.RIGHT for found in findings.values() for f in found
            )
            width = terminal_width()
            said = [*_in_the_files(pallet, findings), *written]
            lines = table(pallet.name, findings, width, "limits" if limits else "CLs")
            lines += [folded(line, width) for line in said]
            sys.stdout.write("\n".join(lines) + "\n")
            sys.stdout.flush()
    return 0 if all_right else 1


def _in_the_files(pallet: Pallet, findings: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Name problems in the files that may be why some hypotheses are not right."""
    from pytest_pyhf_faas.pallets.check import check
    from pytest_pyhf_faas.pallets.packing import unpack

    failed = {f.patch for found in findings.values() for f in found if not f.passes}
    patches = [patch for patch in pallet.patches if patch.name in failed]
    return [
        f"in the file: {each.text} ({listed(each.patches)})"
        for each in (check(unpack(pallet.background), patches) if patches else ())
        if each.level != "note"
    ]


def _fitting(values: dict[str, Any]) -> Fitting:
    """Return the fit configurations of the options."""
    from pytest_pyhf_faas.engines import read_endpoint_config
    from pytest_pyhf_faas.session.fitting import Fitting

    asked = values["endpoint_config"]
    return Fitting(
        timeout_s=values["timeout"],
        queue_timeout_s=values["queue_timeout"],
        retries=values["retries"],
        blocks=values["blocks"],
        workers=values["workers"],
        endpoint_config=read_endpoint_config(asked, Path.cwd()) if asked else {},
        resume=values["resume"],
    )


def _check_references(store: ReferenceStore, tasks: Sequence[Task]) -> None:
    """Refuse patches whose references lack what is compared.

    Raises
    ------
    ConfigurationError
        With the command that makes references.
    """
    limits = tasks[0].config.quantity == "limit"
    known = [found for task in tasks if (found := store.find(task))]
    if any(not limits or found.limits is not None for found in known):
        return
    what = "references of upper limits" if limits else "references"
    option = " --faas-quantity=cls,limit" if limits else ""
    name = tasks[0].pallet.name
    raise ConfigurationError(
        f"{name} has no {what} for these patches in {store.target} nor among those that come with "
        f"the package: make them with 'pyhf-faas validate --faas-pallet={name}{option} "
        "--faas-update=new'"
    )


def _config(fit_setup: str) -> HypotestConfig:
    from pytest_pyhf_faas.campaign.tasks import CERTIFIED, HypotestConfig

    if fit_setup == CERTIFIED:
        return HypotestConfig(method=CERTIFIED)
    backend, plus, optimizer = fit_setup.partition("+")
    if not plus:
        raise ConfigurationError(
            f"the fit setup {fit_setup!r} is unknown: write BACKEND+OPTIMIZER, such as numpy+scipy"
        )
    return HypotestConfig(backend=backend, optimizer=optimizer)
