"""What a history keeps of a run: a point for each analysis."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.campaign.results import WorkerEnvironment
from pytest_pyhf_faas.report.quantity import CLS, name_of_quantity
from pytest_pyhf_faas.report.wall_times import has_fit_times, wall_time_of
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_pyhf_faas.campaign.times import WallTime
    from pytest_pyhf_faas.report.form import Analysis, Document

#: The name of this package among the versions of others.
OWN = "pytest-pyhf-faas"
UNKNOWN = "not known"
BACKGROUND = "background"
#: The default configuration of a calculation; a test compares it with the real defaults.
USUAL: Mapping[str, Any] = {
    "test_poi": 1.0,
    "test_stat": "qtilde",
    "measurement": None,
    "normsys_interpcode": "code4",
    "histosys_interpcode": "code4p",
    "toys": 0,
}
_DIGEST_WIDTH = 12


class Key(NamedTuple):
    """What the points of a series have in common.

    `config` has the parts of the configuration that are not the default ones.
    """

    pallet: str
    endpoint: str
    fit_setup: str
    quantity: str
    config: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The name that distinguishes the series from others."""
        quantity = [] if self.quantity == CLS.name else [self.quantity]
        config = [f"{name} {value}" for name, value in self.config]
        return ", ".join([f"{self.pallet} on {self.endpoint}", self.fit_setup, *quantity, *config])


class Conditions(NamedTuple):
    """What must be the same for two times to be comparable: processors, workers, hypotheses."""

    cpus: tuple[str, ...]
    workers: int | None
    fits: int
    patches: str | None


@dataclass(frozen=True, slots=True)
class Workers:
    """The workers of an analysis, all of them together.

    Attributes
    ----------
    versions : mapping
        Of Python and of the libraries that decide a fit's value; several where workers differ.
    threads : mapping
        The variables that say how many threads linear algebra takes.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    threads: Mapping[str, str] = field(default_factory=dict)
    cpus: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @classmethod
    def of(cls, environments: Iterable[Mapping[str, Any]]) -> Workers:
        """Add up the environments of some workers."""
        known = [WorkerEnvironment.from_json(each) for each in environments]
        return cls(
            versions=_together(each.computing for each in known),
            threads=_together(
                {name: str(value) for name, value in each.threads.items() if value is not None}
                for each in known
            ),
            cpus=tuple(sorted({each.cpu for each in known})),
            hosts=tuple(sorted({each.host for each in known})),
        )


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a series.

    Attributes
    ----------
    run : str
        Its id.
    began_at : str
        In UTC, as a report has it.
    source : Path
        Its ``report.json``, or the file of pytest-benchmark where there is no report.
    verdicts : mapping of str to int, or None
        How many hypotheses have each, the worst first; ``None`` without a report.
    package, code : str or None
        Version of this package, and the digest of the part of it that fits on workers.
    inputs : mapping
        What the values depend on as well as the versions: background and references.
    wall_time : WallTime or None
        ``None`` where it was not measured.
    fit_s : float or None
        Median of the seconds of single fits; ``None`` where one gave no answer.
    patches : str or None
        Digest of the names of its hypotheses; ``None`` without a report.
    """

    run: str
    began_at: str
    source: Path
    interrupted: bool = False
    verdicts: Mapping[str, int] | None = None
    package: str | None = None
    code: str | None = None
    workers: Workers = field(default_factory=Workers)
    inputs: Mapping[str, str] = field(default_factory=dict)
    wall_time: WallTime | None = None
    fit_s: float | None = None
    patches: str | None = None

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what fitted, and of this package."""
        own = {} if self.package is None else {OWN: self.package}
        return {**self.workers.versions, **own}

    @property
    def conditions(self) -> Conditions:
        """What must be the same for its times to be comparable with those of another run."""
        measured = self.wall_time
        fits = sum((self.verdicts or {}).values()) if measured is None else measured.last.fits
        workers = None if measured is None else measured.last.workers
        return Conditions(self.workers.cpus, workers, fits, self.patches)


def key_of(analysis: Analysis) -> Key:
    """Return the series that an analysis belongs to."""
    return Key(
        analysis["pallet"],
        analysis["endpoint"],
        analysis["fit_setup"],
        name_of_quantity(analysis),
        not_default(analysis["config"]),
    )


def not_default(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the parts of a configuration that differ from the default.

    What is calculated, and how, is no part of it; what an earlier version did not know is as by
    default.
    """
    return tuple(
        (name, str(config[name]))
        for name, value in USUAL.items()
        if name in config and config[name] != value
    )


def point_of(document: Document, analysis: Analysis, source: Path) -> Point:
    """Return an analysis of a run as a point of its series."""
    run = document["run"]
    hypotheses = analysis["hypotheses"]
    places = {each["environment"] for each in hypotheses}
    environments = [each for n, each in enumerate(document["environments"]) if n in places]
    counts = Counter(each["verdict"] for each in hypotheses)
    seconds = [each["seconds"]["fit"] for each in hypotheses if "fit" in each["seconds"]]
    made, code = analysis["reference"], run.get("worker_sha256")
    inputs = {BACKGROUND: analysis["digest"][:_DIGEST_WIDTH]}
    if made is not None:
        inputs["references"] = f"{made['method']}, {made['date']}"
    return Point(
        run=run["id"],
        began_at=run["began_at"],
        source=source,
        interrupted=run["interrupted"],
        verdicts={each.value: counts[each.value] for each in Verdict if counts[each.value]},
        package=run["package"],
        code=None if code is None else code[:_DIGEST_WIDTH],
        workers=Workers.of(environments),
        inputs=inputs,
        wall_time=wall_time_of(analysis),
        fit_s=median(seconds) if seconds and has_fit_times(analysis) else None,
        patches=_digest(each["patch"] for each in hypotheses),
    )


def facts_of(point: Point) -> dict[str, str]:
    """Return all that may change from one point to the next, by its name."""
    return {**point.versions, **point.workers.threads, **point.inputs}


def timing_facts_of(point: Point) -> dict[str, str]:
    """Return the parts that may change a wall time.

    The version of this package changes with each commit, the code that fits does not.
    """
    code = {} if point.code is None else {"code of the fits": point.code}
    background = {name: each for name, each in point.inputs.items() if name == BACKGROUND}
    return {**point.workers.versions, **point.workers.threads, **background, **code}


def _digest(names: Iterable[str]) -> str:
    joined = "\0".join(sorted(names)).encode("utf-8", "backslashreplace")
    return hashlib.sha256(joined).hexdigest()


def _together(each: Iterable[Mapping[str, str]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for facts in each:
        for name, value in facts.items():
            found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}
