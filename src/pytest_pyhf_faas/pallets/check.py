"""Find everything that is wrong with a pallet at once, before anything is fitted.

An *error* leaves a patch without CLs: pyhf refuses it, or its fits begin where the likelihood is
not defined. A *warning* says what may make CLs, or names, other than a person
expects. A *note* names what pyhf ignores without harm. The likelihood of this package refuses
the same, in the same words.
"""

from __future__ import annotations

import textwrap
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.histfactory.asymptotics import asimov_poi, tested_poi
from pytest_pyhf_faas.histfactory.defects import repeated, sample_defects, workspace_defects
from pytest_pyhf_faas.histfactory.errors import HistFactoryError, InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.search import poi_defects
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.pallets.rows import Row, SignalRows
from pytest_pyhf_faas.pallets.verify import ALLOWED_IN_NAMES, validate
from pytest_pyhf_faas.wording import brief, listed
from pytest_pyhf_faas.worker.patching import apply_patch

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch

Level = Literal["error", "warning", "note"]
#: In the order in which people read them.
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
#: Pallets of more patches than this are checked in part.
_CHECKED = 1_000
#: How many findings a message has.
_SHOWN = 8
#: Exceptions from reading a file as a workspace that does not follow the schema.
_NO_WORKSPACE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes
    ----------
    level
        "error", "warning" or "note".
    text
        The problem, with the channel, the sample, the modifier and the bin.
    patches
        The patches that have it.
    """

    level: Level
    text: str
    patches: tuple[str, ...]


def check(
    background: Mapping[str, Any],
    patches: Iterable[SignalPatch],
    measurement: str | None = None,
    test_poi: float = 1.0,
    test_stat: str = "qtilde",
) -> list[Finding]:
    """Return the problems of some patches to a background, errors first.

    Parameters
    ----------
    background : mapping
        The JSON of the background-only workspace, which follows its schema.
    patches : iterable of SignalPatch
        The signal hypotheses.
    measurement, test_poi, test_stat
        As for `pyhf.infer.hypotest`; the first measurement by default.
    """
    return _Checker(background, measurement, test_poi, test_stat).check(patches)


class PalletCheck:
    """The problems of the patches of a pallet, for the tests to come.

    Of a pallet of very many patches the sample is checked, unless nothing of that can be fitted.

    Parameters
    ----------
    pallet : Pallet
        The pallet.
    measurement, test_poi, test_stat
        As for `check`.

    Attributes
    ----------
    pallet : Pallet
        See above.
    findings : list of Finding
        The problems of the checked patches.
    """

    def __init__(
        self, pallet: Pallet, measurement: str | None, test_poi: float, test_stat: str
    ) -> None:
        self.pallet = pallet
        checker = _Checker(unpack(pallet.background), measurement, test_poi, test_stat)
        is_large = len(pallet.patches) > _CHECKED
        self.findings = checker.check(pallet.sample) if is_large else []
        in_part = is_large and len(without_model(self.findings)) < len(pallet.sample)
        self._checker = checker if in_part else None
        if not in_part:
            self.findings = checker.check(pallet.patches)

    def of(self, patch: SignalPatch) -> list[Finding]:
        """Return the problems of a patch, checking it if necessary."""
        if self._checker is not None:
            return self._checker.check([patch])
        return self._by_patch.get(patch.name, [])

    @cached_property
    def _by_patch(self) -> dict[str, list[Finding]]:
        found: dict[str, list[Finding]] = defaultdict(list)
        for finding in self.findings:
            for name in finding.patches:
                found[name].append(finding)
        return found


def without_model(findings: Iterable[Finding]) -> set[str]:
    """Return the patches that cannot be fitted."""
    return {name for each in findings if each.level == "error" for name in each.patches}


def refuse(pallet: Pallet, findings: Sequence[Finding]) -> NoReturn:
    """Refuse a pallet if no patch can be fitted: the cause is then in what they share.

    Raises
    ------
    PalletError
        With all errors.
    """
    errors = [finding for finding in findings if finding.level == "error"]
    lines = [
        textwrap.fill(
            f"- {finding.text}{_share(finding, pallet)}",
            80,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for finding in errors[:_SHOWN]
    ]
    if len(errors) > _SHOWN:
        lines.append(f"- and {len(errors) - _SHOWN} more: 'pyhf-faas inspect' shows them all")
    raise PalletError(
        "\n".join(
            [
                f"{pallet.source}: no patch of the pallet {pallet.name} can be fitted:",
                *lines,
                "correct the workspace or the patches, or fetch them again",
            ]
        )
    )


def _share(finding: Finding, pallet: Pallet) -> str:
    return "" if len(finding.patches) == len(pallet.patches) else f" ({listed(finding.patches)})"


#: Ends warnings; they are not errors, because another search may succeed.
_FAIL = "most optimizers that start there fail"


class _Checker:
    """Checks one patch after the other, and what they have in common once."""

    def __init__(
        self, background: Mapping[str, Any], measurement: str | None, poi: float, stat: str
    ) -> None:
        self._background = background
        self._measurement = measurement
        self._test = poi, stat
        self._read: Workspace | None = None
        self._told: set[tuple[Level, str]] = set()
        samples = (each for channel in background["channels"] for each in channel["samples"])
        self._shared = {id(sample) for sample in samples}
        self._known: dict[tuple[int, str, int], list[str]] = {}
        self._kinds: dict[SignalRows, Sequence[Hashable]] = {}
        self._of_kind: dict[Hashable, list[tuple[Level, str]]] = {}

    def check(self, patches: Iterable[SignalPatch]) -> list[Finding]:
        """Return the problems of some patches, errors first."""
        found: dict[tuple[Level, str], list[str]] = defaultdict(list)
        of_content: dict[str, list[str]] = defaultdict(list)
        of_file: dict[str, str] = {}
        for patch in patches:
            if patch.file:
                of_file[patch.name] = patch.file
            of_content[patch.digest].append(patch.name)
            kind = self._kind(patch)
            if kind not in self._of_kind:
                self._of_kind[kind] = list(self._of_patch(patch))
            for what in self._of_kind[kind]:
                found[what].append(patch.name)
        for names in of_content.values():
            if len(names) > 1:
                found["note", f"they have the same content, that of {names[0]}"] = names
        if of_file:
            name, file = next(iter(of_file.items()))
            found["warning", f"{file} is called {name}: {ALLOWED_IN_NAMES}"] = list(of_file)
        findings = [Finding(level, text, tuple(names)) for (level, text), names in found.items()]
        return sorted(findings, key=lambda finding: LEVELS.index(finding.level))

    def _kind(self, patch: SignalPatch) -> Hashable:
        """Return a key that is the same for patches with the same findings."""
        content = patch.content
        if not (isinstance(content, Row) and isinstance(content.rows, SignalRows)):
            return content.digest
        rows = content.rows
        if rows not in self._kinds:
            self._kinds[rows] = self._kinds_of(rows, patch)
        return rows, self._kinds[rows][content.row]

    def _kinds_of(self, scan: SignalRows, patch: SignalPatch) -> Sequence[Hashable]:
        """Return the kind of each row of a scan, all cells of which are known to be sound.

        Remaining problems are in the background, and in bins where it expects nothing: there
        it matters whether there is a signal, or how much of it if fewer than 0 are expected.
        With a negative signal strength each yield matters.
        """
        test_poi, test_stat = self._test
        try:
            workspace = Workspace.from_json(apply_patch(patch.operations, self._background))
            likelihood = Likelihood(workspace, self._measurement)
        except (HistFactoryError, *_NO_WORKSPACE):
            return [None] * len(scan)
        start = likelihood.initial.copy()
        tested = tested_poi(test_stat, test_poi), start[likelihood.poi]
        start[likelihood.poi] = 0.0
        rates = dict(zip(likelihood.bins, likelihood.expected(start), strict=True))
        expected = np.array([rates[place] for place in scan.bins])
        yields = scan.yields
        if min(tested) >= 0:
            has_signal = yields.any(axis=1, keepdims=True)
            without = yields[:, expected == 0] > 0
            less = yields[:, ~(expected >= 0)]
            yields = np.hstack([has_signal, without, less])
        return [bytes(row) for row in np.ascontiguousarray(yields)]

    def _of_patch(self, patch: SignalPatch) -> Iterator[tuple[Level, str]]:
        """Yield the problems of a patch."""
        try:
            patched = apply_patch(patch.operations, self._background)
        except ValueError as error:
            yield "error", brief(error)
            return
        try:
            found = list(self._of_workspace(patched))
        except _NO_WORKSPACE as error:
            found = [("error", f"with the patch, it cannot be read: {brief(repr(error))}")]
        if not self._told.issuperset(found):  # a broken schema breaks anything else
            found = _of_schema(patched) or found
        self._told.update(found)
        yield from found

    def _of_workspace(self, patched: Mapping[str, Any]) -> Iterator[tuple[Level, str]]:
        defects = list(dict.fromkeys(workspace_defects(patched, self._sample_defects)))
        yield from (("error", defect) for defect in defects)
        yield from _oddities(patched)
        if defects:
            return
        self._read = Workspace.from_json(patched, self._read)
        try:
            likelihood = Likelihood(self._read, self._measurement)
        except InvalidModel as error:
            yield "error", str(error)
            return
        yield from _of_luminosity(self._read, self._measurement)
        yield from _of_likelihood(likelihood, *self._test)

    def _sample_defects(self, channel: str, bins: int, sample: Mapping[str, Any]) -> list[str]:
        """Return the defects of a sample, cached for samples of the background."""
        if id(sample) not in self._shared:
            return list(sample_defects(channel, bins, sample))
        key = id(sample), channel, bins
        if key not in self._known:
            self._known[key] = list(sample_defects(channel, bins, sample))
        return self._known[key]


def _of_schema(patched: Any) -> list[tuple[Level, str]]:
    try:
        validate(patched, "workspace.json", "with the patch", "a HistFactory workspace")
    except PalletError as error:
        return [("error", str(error).partition("\n")[0])]
    return []


def _of_likelihood(
    likelihood: Likelihood, test_poi: float, test_stat: str
) -> Iterator[tuple[Level, str]]:
    poi = likelihood.poi
    defects = poi_defects(likelihood, test_poi, test_stat)
    yield from (("error", defect) for defect in defects)
    observed = likelihood.observed
    bins: dict[str, Level] = {}
    for value in (tested_poi(test_stat, test_poi), asimov_poi(test_stat), likelihood.initial[poi]):
        start = likelihood.initial.copy()
        start[poi] = value
        undefined = list(likelihood.undefined_bins(start, observed))
        for text, hopeless in undefined:
            if hopeless:
                bins[text] = "error"
            else:
                bins[f"{text}: {_FAIL}"] = "warning"
        if not undefined and not np.isfinite(likelihood.value(start, observed)):
            text = f"a constraint term is not defined with {likelihood.names[poi]} at {value:g}"
            bins[f"{text}: {_FAIL}"] = "warning"
        for (channel, index), rate, events in zip(
            likelihood.bins, likelihood.expected(start), observed.main, strict=True
        ):
            if rate < 0 and not events:  # pyhf gets a number, and mostly fails nonetheless
                where = f"bin {index} of the channel {channel} has no events"
                bins[f"{where}, where {rate:.3g} are expected"] = "warning"
    yield from ((level, text) for text, level in bins.items())
    if likelihood.idle[poi]:
        yield "warning", "the signal is 0 in each bin, so CLs is 1 for any data"
    if test_stat == "qtilde" and likelihood.lower[poi] < 0 and not defects:
        text = (
            f"the parameter of interest {likelihood.names[poi]} may be negative (its lower bound "
            f"is {likelihood.lower[poi]:g}), and qtilde is for those that may not: test with q"
        )
        yield "warning", text


def _of_luminosity(workspace: Workspace, measurement: str | None) -> Iterator[tuple[Level, str]]:
    samples = (sample for channel in workspace.channels for sample in channel.samples)
    names = {name for sample in samples for kind, name, _ in sample.linear if kind == "lumi"}
    for setting in workspace.measurement(measurement)["parameters"]:
        if setting["name"] in names and "sigmas" not in setting:
            text = (
                f"the measurement gives no sigmas for the luminosity {setting['name']}, whose "
                "uncertainty is then 1, as large as itself"
            )
            yield "warning", text


def _oddities(specification: Mapping[str, Any]) -> Iterator[tuple[Level, str]]:
    """Yield what pyhf silently ignores."""
    observed = [entry["name"] for entry in specification["observations"]]
    for name in repeated(observed):
        yield "warning", f"the channel {name} has several observations, of which the last counts"
    channels = {channel["name"] for channel in specification["channels"]}
    for name in dict.fromkeys(observed):
        if name not in channels:
            yield "note", f"there is an observation for {name}, which is not a channel"
    for name in repeated(each["name"] for each in specification["measurements"]):
        yield "note", f"several measurements are called {name}, of which the first counts"
