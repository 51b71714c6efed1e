"""The fit of the bundled pallet that tests an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.tasks import CERTIFIED, Pool, make_tasks
from pytest_pyhf_faas.errors import NotReadyError
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.store import ReferenceStore, bundled_directory

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.references.reference import PatchReference


def quickest_fit(config: HypotestConfig) -> tuple[Task, PatchReference]:
    """Return the quickest fit of the bundled pallet that is right with a configuration."""
    store = ReferenceStore([bundled_directory()], bundled_directory())
    found: list[tuple[float, Task, PatchReference]] = []
    bundled = catalogue.bundled()
    certified = config.method == CERTIFIED
    pool = Pool((store.pool(bundled, config) if certified else None) or ())
    for task in make_tasks(bundled, config, pool=pool):
        reference = store.find(task)
        if not reference or reference.error is not None:
            continue
        expected_s = reference.expected_s(config.fit_setup) or reference.relative_s()
        if expected_s is not None and config.fit_setup not in reference.known_issues:
            found.append((expected_s, task, reference))
    if not found:
        raise NotReadyError(
            f"the bundled pallet has no reference for {config.fit_setup}: this installation of "
            "pytest-pyhf-faas is not complete; install it again"
        )
    _expected_s, task, reference = min(found, key=lambda entry: entry[0])
    return task, reference
