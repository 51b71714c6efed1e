"""What changed between two runs: CLs values, verdicts, references and wall times.

All is taken from the two reports, see `report.document`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict, deque
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import CLS_LABELS, json_number
from pytest_pyhf_faas.references.cls_values import close
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from pytest_pyhf_faas.report.document import Document

#: Parts of a configuration that say how CLs is calculated; the others say what CLs is.
_CALCULATION = ("backend", "optimizer", "method")
#: A change of a mean wall time is larger than the spread beyond so many standard errors.
_STANDARD_ERRORS = 2.0
#: A single fit is told of if it took so many times as long, and so many seconds longer.
SLOW_FIT = (2.0, 1.0)
_DIGEST_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Run:
    """Which run it was."""

    id: str
    began_at: str
    package: str
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that the two runs, their machines or their inputs differ in."""

    where: str
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A hypothesis with CLs values that moved, or with fits that are at other minima than before.

    Attributes
    ----------
    before, after : tuple of float, shape (6,), or None
        In the order of `CLS_LABELS`; ``None`` where there were none.
    value : str
        Which of the six moved most, relative to what it was.
    relative : float
        By how much; infinite where it is no number, was 0, or is not there.
    verdict : str
        What the later run says of it.
    minima : tuple of str or None
        At which set of minima it was and is, where it went from the lowest to the nominal ones or
        back.
    """

    analysis: str
    patch: str
    before: tuple[float, ...] | None
    after: tuple[float, ...] | None
    value: str
    relative: float
    verdict: str
    minima: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """A hypothesis with another verdict than before, and the line that says why."""

    analysis: str
    patch: str
    before: str
    after: str
    kind: Literal["worse", "improved", "other"]
    title: str


@dataclass(frozen=True, slots=True)
class ReferenceChange:
    """A hypothesis that was compared with another reference than before.

    Attributes
    ----------
    before, after : mapping or None
        CLs values and error of the reference, as in the report.
    relative : float
        Largest relative difference of its values; infinite where there are none in one run.
    """

    analysis: str
    patch: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    relative: float


@dataclass(frozen=True, slots=True)
class OnlyIn:
    """Hypotheses of an analysis that are in one run only; `whole`: the other has none of it."""

    analysis: str
    whole: bool
    patches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WallTimes:
    """The wall time of an analysis in one run; the standard deviation of a single trial is None."""

    trials: int
    fits: int
    workers: int
    mean_s: float
    stdev_s: float | None
    fit_s: float


@dataclass(frozen=True, slots=True)
class WallTimeChange:
    """How the wall time of an analysis changed.

    Attributes
    ----------
    ratio : float or None
        After to before; ``None`` where not the same number of hypotheses was fitted.
    fit_ratio : float or None
        The same of the sum of the fits' own seconds: where it is near 1 and `ratio` is not, the
        change is none of the fits.
    beyond_spread : bool or None
        Whether the means differ by more than two standard errors; ``None`` where a run has one
        trial, so that the spread is not known.
    slower : bool
        Whether it is slower than allowed, see `compare_runs`.
    """

    analysis: str
    before: WallTimes
    after: WallTimes
    ratio: float | None
    fit_ratio: float | None
    beyond_spread: bool | None
    slower: bool


@dataclass(frozen=True, slots=True)
class SlowFit:
    """A single fit that took more than twice as long as before, and a second longer."""

    patch: str
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class FitTimes:
    """The fits of an analysis that both runs have: median of their ratios, and the slow ones."""

    analysis: str
    fits: int
    median_ratio: float
    slow: tuple[SlowFit, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed from one run to another.

    Attributes
    ----------
    compared : int
        How many hypotheses both runs have.
    differences : tuple of Difference
        Of endpoints, environments, configurations, backgrounds and the making of references.
    moved : tuple of Moved
        The largest relative change first.
    """

    before: Run
    after: Run
    rtol: float
    atol: float
    compared: int
    differences: tuple[Difference, ...]
    moved: tuple[Moved, ...]
    verdicts: tuple[VerdictChange, ...]
    references: tuple[ReferenceChange, ...]
    only_before: tuple[OnlyIn, ...]
    only_after: tuple[OnlyIn, ...]
    wall_times: tuple[WallTimeChange, ...]
    fit_times: tuple[FitTimes, ...]

    @property
    def status(self) -> int:
        """The exit status: 1 if the later run does not stand up to the earlier one, else 0.

        That is so where a CLs value moved or fits are at other minima, a verdict changed without
        getting better, an analysis is slower than allowed, or the runs have hypotheses, but none in
        common. What differs between their environments, references that changed, verdicts that got
        better, and hypotheses that one run alone has, are no reason by themselves.
        """
        failed = (
            self.moved
            or any(change.kind != "improved" for change in self.verdicts)
            or any(change.slower for change in self.wall_times)
            or (not self.compared and (self.only_before or self.only_after))
        )
        return 1 if failed else 0

    @property
    def wall_time_ratio(self) -> float | None:
        """The wall time of all analyses that can be compared, over what it was before."""
        timed = [change for change in self.wall_times if change.ratio is not None]
        before, after = (
            sum(getattr(change, side).mean_s for change in timed) for side in ("before", "after")
        )
        return _ratio(before, after) if timed else None

    def to_json(self) -> dict[str, Any]:
        """Return the changes as JSON-able values, the exit status among them."""
        return {"status": self.status, **_json_able(asdict(self))}


def compare_runs(
    before: Document, after: Document, *, rtol: float, atol: float, slower: float | None
) -> Changes:
    """Compare two runs, from their reports alone.

    Analyses belong together that have the same pallet, endpoint and fit setup (backend and
    optimizer). Where each of the runs has exactly one endpoint, it may have any name, so that two
    endpoints can be compared; the same holds for the fit setup. Of several such analyses those
    with the same configuration belong together first. Hypotheses belong together by their patch,
    and by their test where several tests look at one patch.

    Parameters
    ----------
    before, after : Document
        The reports.
    rtol, atol : float
        A value has moved beyond ``atol + rtol * abs(before)``. Two that are not a number are equal;
        so are, as in `compare`, one that is not and one that excludes nothing. Values that only one
        run has have moved, unless the verdict changed with them and says so.
    slower : float or None
        An analysis is slower than allowed if its mean wall time is more than so many times the
        earlier one, and, where both runs have two trials or more, if the means differ by more than
        two standard errors; with a single trial there is no spread, and the ratio decides alone.
        At least 1; ``None`` allows all.

    Returns
    -------
    Changes
        What changed.
    """
    runs = (before, after)
    free = tuple(
        name for name in ("endpoint", "fit_setup") if all(len(_all(run, name)) == 1 for run in runs)
    )

    def who(analysis: Mapping[str, Any]) -> tuple[str, ...]:
        return (
            analysis["pallet"],
            *(analysis[name] for name in ("endpoint", "fit_setup") if name not in free),
        )

    def named(analysis: Mapping[str, Any]) -> str:
        """Return the name of an analysis, with no more than tells it from the others."""
        name = str(analysis["pallet"])
        for part, word in (("fit_setup", ""), ("endpoint", "on ")):
            if any(len(_all(run, part)) > 1 for run in runs):
                name += f" {word}{analysis[part]}"
        return name

    analyses, gone, new = _matched(
        before["analyses"], after["analyses"], lambda each: (*who(each), _physics(each)), who
    )
    differences = [
        Difference("run", name.replace("_", " "), *(next(iter(_all(run, name))) for run in runs))
        for name in free
        if _all(before, name) != _all(after, name)
    ]
    differences += _environment_differences(before, after, analyses)
    only_before = [_whole(named(each), each) for each in gone]
    only_after = [_whole(named(each), each) for each in new]
    pairs: list[tuple[str, Any, Any]] = []
    wall_times, fit_times = [], []
    for first, second in analyses:
        name = named(first)
        differences += _input_differences(name, first, second)
        both, *rests = _matched(
            first["hypotheses"],
            second["hypotheses"],
            lambda each: (each["patch"], each["test"]),
            lambda each: each["patch"],
        )
        pairs += [(name, *pair) for pair in both]
        for rest, only in zip(rests, (only_before, only_after), strict=True):
            if rest:
                only.append(OnlyIn(name, False, tuple(each["patch"] for each in rest)))
        if first["wall_time"] and second["wall_time"]:
            wall_times.append(_wall_time_change(name, first, second, slower))
        fit_times += _fit_times(name, both)
    moved = [each for pair in pairs if (each := _moved(*pair, rtol, atol)) is not None]
    return Changes(
        before=_run(before),
        after=_run(after),
        rtol=rtol,
        atol=atol,
        compared=len(pairs),
        differences=tuple(dict.fromkeys(differences)),
        moved=tuple(sorted(moved, key=lambda each: -abs(each.relative))),
        verdicts=tuple(_verdict_changes(pairs)),
        references=tuple(_reference_changes(pairs)),
        only_before=tuple(only_before),
        only_after=tuple(only_after),
        wall_times=tuple(wall_times),
        fit_times=tuple(fit_times),
    )


def _matched(
    before: Sequence[Any], after: Sequence[Any], *keys: Callable[[Any], Hashable]
) -> tuple[list[tuple[Any, Any]], list[Any], list[Any]]:
    """Return pairs with equal keys, and what is left of both.

    What no pair was found for by the first key is tried with the next one; of those with equal keys
    the first belong together, then the second, and so on.
    """
    pairs: list[tuple[int, int]] = []
    gone, new = list(range(len(before))), list(range(len(after)))
    for key in keys:
        places: dict[Hashable, deque[int]] = defaultdict(deque)
        for place in new:
            places[key(after[place])].append(place)
        same = [(place, places[key(before[place])]) for place in gone]
        pairs += [(place, queue.popleft()) for place, queue in same if queue]
        gone = sorted(set(gone) - {place for place, _ in pairs})
        new = sorted(set(new) - {place for _, place in pairs})
    return (
        [(before[first], after[second]) for first, second in sorted(pairs)],
        [before[place] for place in gone],
        [after[place] for place in new],
    )


def _all(run: Document, name: str) -> set[str]:
    """Return the endpoints or the fit setups of a run."""
    return {analysis[name] for analysis in run["analyses"]}


def _physics(analysis: Mapping[str, Any]) -> str:
    config = {name: value for name, value in analysis["config"].items() if name not in _CALCULATION}
    return json.dumps(config, sort_keys=True)


def _run(run: Document) -> Run:
    return Run(**{name: run["run"][name] for name in Run.__slots__})


def _whole(name: str, analysis: Mapping[str, Any]) -> OnlyIn:
    return OnlyIn(name, True, tuple(each["patch"] for each in analysis["hypotheses"]))


def _environment_differences(
    before: Document, after: Document, analyses: Sequence[tuple[Any, Any]]
) -> list[Difference]:
    """Return how package, client and the workers of each endpoint and fit setup differ."""
    runs = (before, after)
    found = []
    versions = [run["run"]["package"] for run in runs]
    if versions[0] != versions[1]:
        found.append(Difference("run", "pytest-pyhf-faas", *versions))
    found += _different_facts("client", [before["client"]], [after["client"]])
    workers: dict[tuple[str, str], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for pair in analyses:
        group = workers[pair[0]["endpoint"], pair[0]["fit_setup"]]
        for environments, run, analysis in zip(group, runs, pair, strict=True):
            environments.extend(_workers(run, analysis))
    for (endpoint, fit_setup), group in workers.items():
        where = "workers" if len(workers) == 1 else f"workers of {endpoint}, {fit_setup}"
        found += _different_facts(where, *group)
    return found


def _workers(run: Document, analysis: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    places = {each["environment"] for each in analysis["hypotheses"]}
    return [each for place, each in enumerate(run["environments"]) if place in places]


def _different_facts(where: str, before: Sequence[Any], after: Sequence[Any]) -> list[Difference]:
    """Return the facts that differ; none where nothing is known of one run's environments."""
    if not before or not after:
        return []
    first, second = _facts(before), _facts(after)
    both = {name: (first.get(name, "-"), second.get(name, "-")) for name in (*first, *second)}
    return [Difference(where, name, *pair) for name, pair in both.items() if pair[0] != pair[1]]


def _facts(environments: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what may matter to a fit; where workers differ, all that there is."""
    found: dict[str, set[str]] = defaultdict(set)
    for environment in environments:
        facts = {
            **{name: environment[name] for name in ("python", "platform", "cpu")},
            **{name: environment[name] for name in ("backend", "optimizer")},
            **environment["versions"],
            **environment["threads"],
        }
        for name, value in facts.items():
            found[name].add("-" if value is None else value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _input_differences(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[Difference]:
    """Return how configuration, background, references and what was measured differ."""
    found = []
    first, second = before["config"], after["config"]
    for key in dict.fromkeys((*first, *second)):
        told = key in _CALCULATION and before["fit_setup"] != after["fit_setup"]
        if not told and first.get(key) != second.get(key):
            found.append(Difference(name, key, _word(first.get(key)), _word(second.get(key))))
    if before["digest"] != after["digest"]:
        digests = [each["digest"][:_DIGEST_WIDTH] for each in (before, after)]
        found.append(Difference(name, "background (SHA-256)", *digests))
    measured = ["measured" if each["wall_time"] else "not measured" for each in (before, after)]
    if measured[0] != measured[1]:
        found.append(Difference(name, "wall time", *measured))
    made = [each["reference"] or {} for each in (before, after)]
    for key in ("method", "date"):
        words = [_word(each.get(key)) for each in made]
        if words[0] != words[1]:
            found.append(Difference(name, f"{key} of references", *words))
    return found


def _word(value: Any) -> str:
    return "-" if value is None else str(value)


def _values(cls: Sequence[float | str] | None) -> tuple[float, ...] | None:
    return None if cls is None else _numbers(cls)


def _relative(before: float, after: float) -> float:
    if before == after or (math.isnan(before) and math.isnan(after)):
        return 0.0
    if not before or not math.isfinite(before) or not math.isfinite(after):
        return math.inf
    return (after - before) / abs(before)


def _moved(
    name: str, first: Mapping[str, Any], second: Mapping[str, Any], rtol: float, atol: float
) -> Moved | None:
    before, after = _values(first["CLs"]), _values(second["CLs"])
    where = (name, second["patch"], before, after)
    if before is None or after is None:
        vanished = before != after and first["verdict"] == second["verdict"]
        return Moved(*where, CLS_LABELS[0], math.inf, second["verdict"]) if vanished else None
    minima = _other_minima(first, second)
    changes = [
        (_relative(one, other), label)
        for label, one, other in zip(CLS_LABELS, before, after, strict=True)
        if minima or not close(other, one, rtol, atol)
    ]
    if not changes:
        return None
    relative, label = max(changes, key=lambda change: abs(change[0]))
    return Moved(*where, label, relative, second["verdict"], minima)


def _other_minima(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the sets of minima that a hypothesis was and is at, if it went to the other."""
    before, after = (each.get("minimum_set") for each in (first, second))
    if before is None or after is None or {before, after} != {"lowest", "nominal"}:
        return None
    return before, after


def _verdict_changes(pairs: Iterable[tuple[str, Any, Any]]) -> Iterable[VerdictChange]:
    for name, first, second in pairs:
        before, after = first["verdict"], second["verdict"]
        if before == after:
            continue
        change = _severity(after) - _severity(before)
        kind: Literal["worse", "improved", "other"] = "other"
        if change:
            kind = "worse" if change < 0 else "improved"
        yield VerdictChange(name, second["patch"], before, after, kind, second["title"])


def _severity(verdict: str) -> int:
    """Return its place; all that are worse than a known issue are equally bad."""
    worse = Verdict.KNOWN_ISSUE.severity - 1
    return max(worse, Verdict(verdict).severity)


def _reference_changes(pairs: Iterable[tuple[str, Any, Any]]) -> Iterable[ReferenceChange]:
    for name, first, second in pairs:
        before, after = first["reference"], second["reference"]
        old, new = _reference_sets(first), _reference_sets(second)
        errors = [each and each["error"] for each in (before, after)]
        if old == new and errors[0] == errors[1] and (before is None) == (after is None):
            continue
        relative = math.inf
        if None not in old and None not in new:
            changes = (
                _relative(*values)
                for both in zip(old, new, strict=True)
                for values in zip(*map(_numbers, both), strict=True)
            )
            relative = max(changes, key=abs)
        yield ReferenceChange(name, second["patch"], before, after, relative)


def _reference_sets(hypothesis: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the CLs values of a reference at both sets of minima, whichever was compared."""
    ambiguous = hypothesis.get("ambiguous")
    if ambiguous:
        return ambiguous["lowest"], ambiguous["nominal"]
    reference = hypothesis["reference"] or {}
    return (reference.get("CLs"),) * 2


def _numbers(cls: Sequence[float | str]) -> tuple[float, ...]:
    return tuple(float(value) for value in cls)


def _wall_times(analysis: Mapping[str, Any]) -> WallTimes:
    trials = analysis["wall_time"]["trials"]
    times = [trial["wall_s"] for trial in trials]
    return WallTimes(
        trials=len(trials),
        fits=trials[-1]["fits"],
        workers=trials[-1]["workers"],
        mean_s=fmean(times),
        stdev_s=stdev(times) if len(times) > 1 else None,
        fit_s=fmean(trial["fit_s"] for trial in trials),
    )


def _wall_time_change(
    name: str, first: Mapping[str, Any], second: Mapping[str, Any], slower: float | None
) -> WallTimeChange:
    before, after = _wall_times(first), _wall_times(second)
    if before.fits != after.fits:
        return WallTimeChange(name, before, after, None, None, None, False)
    beyond = None
    if before.stdev_s is not None and after.stdev_s is not None:
        error = math.hypot(
            before.stdev_s / math.sqrt(before.trials), after.stdev_s / math.sqrt(after.trials)
        )
        beyond = abs(after.mean_s - before.mean_s) > _STANDARD_ERRORS * error
    ratio = _ratio(before.mean_s, after.mean_s)
    too_slow = slower is not None and ratio > slower and beyond is not False
    fit_ratio = _ratio(before.fit_s, after.fit_s)
    return WallTimeChange(name, before, after, ratio, fit_ratio, beyond, too_slow)


def _ratio(before: float, after: float) -> float:
    return 1.0 if before == after else after / before if before else math.inf


def _fit_times(name: str, pairs: Iterable[tuple[Any, Any]]) -> list[FitTimes]:
    """Return the times of the fits that both runs have, if there are any."""
    known = [
        SlowFit(second["patch"], first["seconds"]["fit"], second["seconds"]["fit"])
        for first, second in pairs
        if "fit" in first["seconds"] and "fit" in second["seconds"]
    ]
    if not known:
        return []
    times, seconds = SLOW_FIT
    slow = [
        fit
        for fit in known
        if fit.after_s > times * fit.before_s and fit.after_s > fit.before_s + seconds
    ]
    slow.sort(key=lambda fit: fit.before_s - fit.after_s)
    ratio = median(_ratio(fit.before_s, fit.after_s) for fit in known)
    return [FitTimes(name, len(known), ratio, tuple(slow))]


def _json_able(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _json_able(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_able(each) for each in value]
    return json_number(value) if isinstance(value, float) else value
