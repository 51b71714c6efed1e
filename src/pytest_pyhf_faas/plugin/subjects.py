"""The subject of an item: found once, and carried by the item from collection on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.markers import Criteria
    from pytest_pyhf_faas.plugin.settings import Settings
    from pytest_pyhf_faas.published.publication import Publication

_SUBJECT = pytest.StashKey["Subject"]()
#: The role of the fits of an item, by the fixture that asks for them.
ROLES: dict[str, Role] = {
    "wall_time": "measure",
    "scaling_point": "scale",
    "hypotest_result": "compare",
    "limit_result": "compare",
    "published_result": "compare",
    "toys_result": "compare",
    "analysis_result": "check",
}

Role = Literal["compare", "check", "measure", "scale"]


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of one item.

    Attributes
    ----------
    test : str
        Node id of the item.
    endpoint : str
        Where its fits are done.
    config, criteria : HypotestConfig, Criteria
        How its hypotheses are tested, and when a result is right.
    pallet : Pallet or None
        The pallet that it is given.
    task : Task or None
        The hypothesis that it is given.
    tasks : tuple of Task
        The fits that it needs: that one, its parts, or all of its pallet; empty if they are made
        as they are sent.
    publication : Publication or None
        What its limits are compared with, if with published ones.
    role : "compare", "check", "measure", "scale" or None
        Whether its fits are compared, one by one or as a whole, or their time is measured, with the
        endpoint's own workers or with some other number of them; ``None``: it needs no fits.
    count : int
        That number.
    """

    test: str
    endpoint: str
    config: HypotestConfig
    criteria: Criteria
    pallet: Pallet | None = None
    task: Task | None = None
    tasks: tuple[Task, ...] = ()
    role: Role | None = None
    count: int = 0
    publication: Publication | None = None

    @property
    def quantity(self) -> str:
        """What is compared: CLs, upper limits, toys, or published upper limits."""
        return self.config.quantity if self.publication is None else "published"


def role_of(item: pytest.Item) -> Role | None:
    """Return the role of an item, from the fixtures that it asks for."""
    names = getattr(item, "fixturenames", ())
    return next((role for fixture, role in ROLES.items() if fixture in names), None)


def endpoint_of(item: pytest.Item, settings: Settings) -> str:
    """Return the endpoint that an item is for."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return str(parameters.get("faas_endpoint", settings.endpoints[0]))


def subject_of(item: pytest.Item, settings: Settings) -> Subject:
    """Return the subject of an item.

    Raises
    ------
    ConfigurationError
        If its marker ``hypotest`` makes no sense.
    """
    if _SUBJECT not in item.stash:
        item.stash[_SUBJECT] = _make_subject(item, settings)
    return item.stash[_SUBJECT]


def subject_with(
    item: pytest.Item, settings: Settings, pallet: Pallet, patch: SignalPatch
) -> Subject:
    """Return the subject of an item whose hypothesis may come from its own fixtures."""
    from pytest_pyhf_faas.campaign.tasks import make_task, parts_of

    subject = subject_of(item, settings)
    if subject.task is None:
        task = make_task(pallet, patch, subject.config)
        parts = tuple(parts_of(task))
        subject = replace(subject, pallet=pallet, task=task, tasks=parts, role=role_of(item))
        item.stash[_SUBJECT] = subject
    return subject


def _make_subject(item: pytest.Item, settings: Settings) -> Subject:
    from pytest_pyhf_faas.campaign.tasks import make_task, make_tasks, parts_of
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.markers import config_of

    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    publication: Publication | None = parameters.get("published_result")
    config, criteria = config_of(item, settings)
    endpoint = endpoint_of(item, settings)
    pallet: Pallet | None = parameters.get("pallet")
    patch: SignalPatch | None = parameters.get("signal_patch")
    if not isinstance(pallet, Pallet):  # there is none, or a fixture of the user's own
        return Subject(item.nodeid, endpoint, config, criteria)
    role = role_of(item)
    task = make_task(pallet, patch, config) if isinstance(patch, SignalPatch) else None
    tasks: tuple[Task, ...] = ()
    if role in ("measure", "scale"):
        tasks = tuple(make_tasks(pallet, config))
    elif publication is not None:
        # Whether one agrees depends on all of them. The one that this item is about has the patch
        # that references are of, which a limit on the cross section may need another form of.
        tasks = tuple(make_tasks(publication.pallet, config, publication.fitted))
    elif role == "compare" and task is not None:
        tasks = tuple(parts_of(task))
    count = parameters.get("scaling_point", 0)
    return Subject(
        item.nodeid, endpoint, config, criteria, pallet, task, tasks, role, count, publication
    )
