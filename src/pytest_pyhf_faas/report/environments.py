"""The environments of a run, and how they differ from those of the references."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import WorkerEnvironment, environment_differences
from pytest_pyhf_faas.wording import NOTHING, counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.report.form import Document


_Reference = tuple[str, str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class EnvironmentRow:
    """An environment, and how it differs from the references that it was compared with.

    Attributes
    ----------
    kind : str
        "client", "worker" or "reference".
    title : str
        Which one.
    values : dict
        Its properties, by name.
    differs : dict
        For what differs from a reference, what the reference has.
    pallets : set
        The analyses that it belongs to.
    hosts, cpus : set
        Of all the workers that are alike in all else.
    """

    kind: Literal["client", "worker", "reference"]
    title: str
    values: dict[str, str]
    differs: dict[str, str] = field(default_factory=dict)
    pallets: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    cpus: set[str] = field(default_factory=set)


def environment_rows(document: Document) -> list[EnvironmentRow]:
    """Return the client, each kind of worker, and what each reference was made with.

    Workers that differ in nothing but their host and processor are one kind.
    """
    references = _references(document)
    client = document["client"]
    everywhere = {analysis["pallet"] for analysis in document["analyses"]}
    found = [_environment_row("client", client["host"], client, everywhere, references)]
    used = _pallets_by_environment(document)
    alike: dict[tuple[tuple[str, str], ...], EnvironmentRow] = {}
    for place, environment in enumerate(document["environments"]):
        row = _environment_row("worker", "", environment, used.get(place, everywhere), references)
        first = alike.setdefault(tuple(row.values.items()), row)
        first.differs |= row.differs
        first.pallets |= row.pallets
        first.hosts |= row.hosts
        first.cpus |= row.cpus
    for row in alike.values():
        row.title = f"{counted(len(row.hosts), 'host')}: {listed(sorted(row.hosts))}"
    found += alike.values()
    for (method, date, versions), pallets in references.items():
        title = f"{listed(sorted(pallets))}: {method}, {date}"
        found.append(EnvironmentRow("reference", title, dict(versions), pallets=pallets))
    return found


def differences(document: Document) -> list[str]:
    """Return how the workers differ from the references, a line for each kind of worker."""
    return [
        f"workers on {row.title}: "
        + ", ".join(
            f"{name} {row.values[name]} (reference: {theirs})"
            for name, theirs in row.differs.items()
        )
        for row in environment_rows(document)
        if row.kind == "worker" and row.differs
    ]


def _references(document: Document) -> dict[_Reference, set[str]]:
    """Return how references were made, and for which pallets."""
    found: dict[_Reference, set[str]] = {}
    for analysis in document["analyses"]:
        made = analysis["reference"]
        if made is not None:
            key = (made["method"], made["date"], tuple(sorted(made["versions"].items())))
            found.setdefault(key, set()).add(analysis["pallet"])
    return found


def _pallets_by_environment(document: Document) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for analysis in document["analyses"]:
        for hypothesis in analysis["hypotheses"]:
            if hypothesis["environment"] is not None:
                found.setdefault(hypothesis["environment"], set()).add(analysis["pallet"])
    return found


def _environment_row(
    kind: Literal["client", "worker"],
    title: str,
    environment: Mapping[str, Any],
    pallets: set[str],
    references: Mapping[_Reference, set[str]],
) -> EnvironmentRow:
    known = WorkerEnvironment.from_json(environment)
    threads = {name: value for name, value in known.threads.items() if value is not None}
    values = {
        "python": known.python,
        "interpreter": known.executable or NOTHING,
        "platform": known.platform,
        "backend": known.backend or NOTHING,
        "optimizer": known.optimizer or NOTHING,
        **dict(sorted(known.versions.items())),
        "threads": ", ".join(f"{name}={value}" for name, value in threads.items()) or NOTHING,
    }
    differs = {
        name: theirs
        for (_method, _date, versions), those in references.items()
        if those & pallets
        for name, _mine, theirs in environment_differences(known.computing, dict(versions))
        if theirs is not None
    }
    return EnvironmentRow(kind, title, values, differs, set(pallets), {known.host}, {known.cpu})
