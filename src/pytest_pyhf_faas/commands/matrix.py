"""``pyhf-faas matrix``: which backends and optimizers get a pallet right."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.advice import check_client
from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin.options import BY_NAME
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.campaign import Campaign
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.matrix import Finding
    from pytest_pyhf_faas.references.store import ReferenceStore

FIT_SETUPS = ("numpy+scipy", "numpy+minuit", "jax+scipy", "jax+minuit", "certified")
#: Options of the plugin that mean the same here; tolerances and known issues are looked for.
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
            "retries",
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
    parser.add_argument(
        "pallet", nargs="+", metavar="PALLET", help="name, directory, archive or DOI"
    )
    parser.add_argument(
        "--fit-setup",
        action="append",
        metavar="BACKEND+OPTIMIZER",
        help=f"may be repeated (default: {', '.join(FIT_SETUPS)})",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="note distances, tolerances and known issues in the reference files",
    )
    for option in _OPTIONS:
        parser.add_argument(*option.flags, **option.argument())
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
        If an option makes no sense, or a pallet cannot be read or has no references.
    """
    check_client()
    from pytest_pyhf_faas.pallets import catalogue
    from pytest_pyhf_faas.pallets.pallet import each_once, select
    from pytest_pyhf_faas.references.matrix import notes, table
    from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore, bundled_directory

    values = {option.name: option.value(getattr(options, option.dest)) for option in _OPTIONS}
    configs = [_config(fit_setup) for fit_setup in options.fit_setup or FIT_SETUPS]
    own = Path.cwd() / (values["reference_dir"] or DIRECTORY)
    store = ReferenceStore([own, bundled_directory()], own)
    search_path = catalogue.search_path_from_environment()
    named = (p for name in options.pallet for p in catalogue.resolve(name, search_path=search_path))
    pallets = select(each_once(named), values["patch"])
    campaign = _campaign(values, store)
    all_right = True
    try:
        for pallet in pallets:
            findings: dict[str, list[Finding]] = {}
            for config in configs:
                found = _findings(campaign, store, pallet, config)
                findings[config.fit_setup] = found
                if not found:
                    raise ConfigurationError(
                        f"{pallet.name} has no references for these patches in {own} nor among "
                        f"those that come with the package: make them with 'pyhf-faas validate "
                        f"--faas-pallet={pallet.name} --faas-update=new'"
                    )
                if options.write:
                    store.note(pallet.name, config.fit_setup, notes(config.fit_setup, found))
            all_right &= all(
                f.verdict is Verdict.RIGHT for found in findings.values() for f in found
            )
            sys.stdout.write("\n".join(table(pallet.name, findings)) + "\n")
            sys.stdout.flush()
    finally:
        campaign.cancel("the matrix ended")
    return 0 if all_right else 1


def _config(fit_setup: str) -> HypotestConfig:
    from pytest_pyhf_faas.campaign.tasks import CERTIFIED, HypotestConfig

    if fit_setup == CERTIFIED:
        return HypotestConfig(method=CERTIFIED)
    backend, plus, optimizer = fit_setup.partition("+")
    if not plus:
        raise ConfigurationError(
            f"the fit setup {fit_setup!r} is not known: write BACKEND+OPTIMIZER, as numpy+scipy"
        )
    return HypotestConfig(backend=backend, optimizer=optimizer)


def _campaign(values: dict[str, Any], store: ReferenceStore) -> Campaign:
    import platformdirs

    from pytest_pyhf_faas.campaign.campaign import Campaign
    from pytest_pyhf_faas.campaign.policy import Policy
    from pytest_pyhf_faas.engines import create_engine, read_endpoint_config, resolve_endpoint

    asked = values["endpoint_config"]
    engine = create_engine(
        resolve_endpoint(values["endpoint"], {}),
        platformdirs.user_cache_path("pytest-pyhf-faas"),
        blocks=values["blocks"],
        workers=values["workers"],
        config=read_endpoint_config(asked, Path.cwd()) if asked else {},
    )

    def expected_s(task: Task) -> float | None:
        reference = store.find(task)
        return reference.expected_s(task.config.fit_setup) if reference else None

    def relative_s(task: Task) -> float | None:
        reference = store.find(task)
        return reference.relative_s() if reference else None

    return Campaign(
        engine,
        Policy(
            timeout_s=values["timeout"],
            retries=values["retries"],
            queue_timeout_s=values["queue_timeout"],
        ),
        expected_s=expected_s,
        relative_s=relative_s,
    )


def _findings(
    campaign: Campaign, store: ReferenceStore, pallet: Pallet, config: HypotestConfig
) -> list[Finding]:
    """Fit a pallet, and return how that compares with its references."""
    from pytest_pyhf_faas.references.matrix import judge

    tasks = _tasks(store, pallet, config)
    campaign.submit(tasks)
    found = [
        judge(campaign.result(task).result(), store.find(task), config.fit_setup) for task in tasks
    ]
    return [finding for finding in found if finding is not None]


def _tasks(store: ReferenceStore, pallet: Pallet, config: HypotestConfig) -> Sequence[Task]:
    """Return the tasks of a pallet; certified ones begin where its references were searched."""
    from pytest_pyhf_faas.campaign.tasks import CERTIFIED, Pool, make_tasks

    points = store.pool(pallet, config) if config.method == CERTIFIED else None
    return make_tasks(pallet, config, pool=Pool(points or ()))
