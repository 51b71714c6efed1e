"""Reference results: what is known of a hypothesis, looked up and updated.

A reference has the five fits of a hypothesis at two sets of minima, the lowest and the nominal
ones, where these are others (see `results.MinimumSet`).
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import MinimumSet
from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.references import file as files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet

DIRECTORY = "reference_results"
#: Relative tolerance on CLs of each optimizer, and of certified results, where a reference file
#: does not set its own.
DEFAULT_RTOL = {"scipy": 1e-4, "minuit": 1e-3, CERTIFIED: 1e-6}
#: Where it is known how far a backend and optimizer are from the truth, the tolerance is so many
#: times that, for another machine is a little farther off.
TOLERANCE_MARGIN = 3.0
#: Absolute tolerance on CLs: no limit in the field depends on less.
DEFAULT_ATOL = 1e-6
#: A hypothesis whose CLs_obs is below this is excluded at 95 % CL.
EXCLUDED = 0.05
#: CLs from here on excludes nothing. Without any sensitivity pyhf divides 0 by 0 there, and whether
#: that gives 1 or NaN is decided by the rounding of the last digits.
NO_EXCLUSION = 1 - 1e-3

_NO_MINIMA = MinimumSet()


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """What one backend and optimizer get wrong in a way that is understood.

    Attributes
    ----------
    reason, link : str
        Why, and where that is explained.
    cls_values : tuple of float
        The wrong CLs_obs and CLs_exp; empty where `error` comes instead.
    error : str or None
        Type of the exception.
    """

    reason: str
    link: str
    cls_values: tuple[float, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class PatchReference:
    """The reference of one signal hypothesis.

    Attributes
    ----------
    lowest, nominal : MinimumSet
        The two sets of minima; one object where they are the same. Empty where `error` is the
        right answer.
    nominal_is_known : bool
        Whether anything is known of the nominal minima: a file of schema 1 has the lowest alone.
    differences : tuple of mapping
        For each fit whose nominal minimum is another one than the lowest: ``fit``, ``gap`` (nominal
        minus lowest, twice the NLL), ``parameters`` (those that differ most, each with ``name``,
        ``nominal`` and ``lowest``) and ``at_bound`` (those at a bound in either).
    minima : mapping
        For each fit, how far other known minima lie above the lowest, in twice the NLL.
    twice_nll_off_minimum : float or None
        Twice the negative log-likelihood at a point that depends on the model alone.
    rounding : float
        How far twice the NLL may be rounded.
    distance : float or None
        The largest of the estimated distances to the minima, in twice the negative log-likelihood.
    search : mapping
        For each fit how many starts there were, how many of them ended in the lowest minimum, how
        many were drawn at random, and how many of those ended there.
    error : str or None
        Type of the exception that is the right answer.
    fit_s : float or None
        Seconds of the fit where the reference was made.
    checked : mapping
        For each fit setup that was tried at which set of minima it was
        (``set``: "lowest", "nominal", "both" or "none") and how far from it: ``cls`` (largest
        relative difference), ``twice_nll`` (largest difference); and ``fit_s``.
    known_issues : mapping of fit setup to KnownIssue
        What is known to be got wrong.
    provenance : mapping
        How, when and with which versions it was made.
    tolerances : mapping of fit setup to mapping
        ``rtol`` and ``atol`` as the file sets them.
    test_stat, test_poi : str, float
        The test of the file.
    """

    pallet: str
    patch: str
    path: Path
    provenance: Mapping[str, Any]
    lowest: MinimumSet = _NO_MINIMA
    nominal: MinimumSet = _NO_MINIMA
    nominal_is_known: bool = True
    differences: tuple[Mapping[str, Any], ...] = ()
    minima: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    twice_nll_off_minimum: float | None = None
    rounding: float = 0.0
    distance: float | None = None
    search: Mapping[str, Sequence[int]] = field(default_factory=dict)
    error: str | None = None
    fit_s: float | None = None
    checked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    known_issues: Mapping[str, KnownIssue] = field(default_factory=dict)
    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    test_stat: str = "qtilde"
    test_poi: float = 1.0

    @property
    def CLs_obs(self) -> float | None:
        """Observed CLs at the lowest minima."""
        return self.lowest.CLs_obs

    @property
    def CLs_exp(self) -> tuple[float, ...]:
        """Expected CLs at the lowest minima, at -2, -1, 0, 1, 2 standard deviations."""
        return self.lowest.CLs_exp

    @property
    def mu_hat(self) -> float | None:
        """POI of the free fit to data at the lowest minima."""
        return self.lowest.mu_hat

    @property
    def twice_nll(self) -> Mapping[str, float]:
        """Twice the negative log-likelihood at the lowest minima of the five fits."""
        return self.lowest.twice_nll

    @property
    def cls_values(self) -> tuple[float, ...]:
        """CLs_obs and the five CLs_exp at the lowest minima."""
        return self.lowest.cls_values

    @property
    def ambiguous(self) -> bool:
        """Whether the nominal minima are others than the lowest."""
        return self.nominal is not self.lowest

    @property
    def flips(self) -> bool:
        """Whether the hypothesis is excluded at one of the two sets of minima alone."""
        return flips(self.lowest, self.nominal)

    @property
    def asimov_poi(self) -> float:
        """The POI that the Asimov data are to be built at."""
        return 1.0 if self.test_stat == "q0" else 0.0

    def tolerance(
        self, fit_setup: str, rtol: float | None = None, atol: float | None = None
    ) -> tuple[float, float]:
        """Return rtol and atol.

        Those given; else what follows from how far the fit setup is known to be from this very
        reference; else those of the file; else the defaults.
        """
        of_file = self.tolerances.get(fit_setup, {})
        if rtol is None:
            default = DEFAULT_RTOL[fit_setup.rpartition("+")[2]]
            checked = self.checked.get(fit_setup, {})
            distance = checked.get("cls")
            if fit_setup in self.known_issues or checked.get("set") == "none":
                rtol = default
            elif isinstance(distance, float):
                rtol = max(default, TOLERANCE_MARGIN * distance)
            else:
                rtol = of_file.get("rtol", default)
        return rtol, of_file.get("atol", DEFAULT_ATOL) if atol is None else atol

    def expected_s(self, fit_setup: str) -> float | None:
        """Return how long the fit took with a fit setup, or else with any."""
        times = {name: tried.get("fit_s") for name, tried in self.checked.items()}
        known = [seconds for seconds in times.values() if seconds is not None]
        return (
            self.fit_s
            if fit_setup == CERTIFIED or not known
            else (times.get(fit_setup) or known[0])
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """No reference, and why; false, as a reference never is."""

    reason: str

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class Update:
    """What becomes of a result that is to be a reference.

    Attributes
    ----------
    path : Path
        The file that it is for.
    refused : str or None
        Why the file keeps the reference that it has.
    worse : bool
        Whether that is because a minimum of the result is higher.
    """

    path: Path
    refused: str | None = None
    worse: bool = False


class ReferenceStore:
    """The reference files of some directories, the first that has one of a pallet counting.

    Parameters
    ----------
    directories : sequence of Path
        Where to look.
    target : Path
        Where updates are written.

    Attributes
    ----------
    written : dict
        What was written into each file, and what was refused.
    """

    def __init__(self, directories: Sequence[Path], target: Path) -> None:
        self.directories = tuple(directories)
        self.target = target
        self.written: dict[Path, files.Written] = {}
        self._files: dict[str, tuple[Path, dict[str, Any]] | None] = {}
        self._updates: dict[str, dict[str, dict[str, Any]]] = {}
        self._headers: dict[str, dict[str, Any]] = {}
        self._pools: dict[str, dict[str, Any]] = {}

    def find(self, task: Task) -> PatchReference | Missing:
        """Return the reference of a task.

        Raises
        ------
        ReferenceFileError
            If there is a file for its pallet that cannot be read.
        """
        loaded = self.load(task.pallet.name)
        if loaded is None:
            looked = ", ".join(str(path) for path in self.directories)
            return Missing(f"there is no {task.pallet.name}.json in {looked}")
        path, data = loaded
        if data["background_sha256"] != task.pallet.digest:
            return Missing(
                f"{path} is for another background (SHA-256 {data['background_sha256'][:12]}..., "
                f"this one has {task.pallet.digest[:12]}...)"
            )
        if data["hypotest"] != task.config.physics:
            ours, theirs = task.config.physics, data["hypotest"]
            differ = ", ".join(
                f"{name}={ours.get(name)!r} (reference: {theirs.get(name)!r})"
                for name in sorted(ours.keys() | theirs.keys())
                if ours.get(name) != theirs.get(name)
            )
            return Missing(f"{path} is for another test: {differ}")
        entry = data["patches"].get(task.patch.name)
        if entry is None:
            return Missing(f"{path} does not have this patch")
        if entry["digest"] != task.patch.digest[: files.DIGEST_DIGITS]:
            return Missing(f"{path} was made from another patch of this name")
        return _patch_reference(path, data, task.patch.name, entry)

    def load(self, pallet: str) -> tuple[Path, dict[str, Any]] | None:
        """Return the path and the validated content of a pallet's file, or ``None``."""
        if pallet not in self._files:
            paths = (directory / f"{pallet}.json" for directory in self.directories)
            path = next((path for path in paths if path.is_file()), None)
            self._files[pallet] = None if path is None else (path, files.read(path))
        return self._files[pallet]

    def pool(self, pallet: Pallet, config: HypotestConfig) -> tuple[dict[str, float], ...] | None:
        """Return the starts that a pallet's hypotheses share, each a value by parameter.

        ``None`` where there is no file, or it is for another background or another test, or has no
        starts.

        Raises
        ------
        ReferenceFileError
            If there is a file that cannot be read.
        """
        loaded = self.load(pallet.name)
        if loaded is None:
            return None
        _path, data = loaded
        if data["background_sha256"] != pallet.digest or data["hypotest"] != config.physics:
            return None
        return files.points_of(data["pool"]) if "pool" in data else None

    def update(
        self,
        task: Task,
        result: HypotestResult,
        pool: Sequence[Mapping[str, float]] | None = None,
    ) -> Update:
        """Remember a result as the new reference of its task; `save` writes it.

        A reference of the same patch and model is never made worse: one of whose minima would be
        higher is refused, and so are the same minima after a shorter search.

        Parameters
        ----------
        task, result : Task, HypotestResult
            Which hypothesis, and its new reference.
        pool : sequence of mapping, optional
            All starts that the pallet's hypotheses share, to be stored with the file in the place
            of those that it has.

        Raises
        ------
        ReferenceFileError
            If the result is no answer that could be right, or if this session has results of the
            same pallet for another background or another test.
        """
        if not result.is_answer:
            raise ReferenceFileError("a fit that did not end cannot become a reference")
        name = task.pallet.name
        header = files.header_of(task.pallet, task.config)
        known = self._headers.setdefault(name, header)
        if any(known[part] != header[part] for part in files.ONE_FILE):
            raise ReferenceFileError(
                f"the references of {name} cannot be updated for two tests at once: a file is of "
                "one background and one hypothesis test. Update them in runs of their own, each "
                "with its --faas-reference-dir"
            )
        path = self.target / f"{name}.json"
        entry = files.entry_of(task, result)
        with contextlib.suppress(ReferenceFileError):  # what is wrong with the file, `save` says
            loaded = self.load(name)
            before = files.entries_of(loaded[1] if loaded else None, header).get(task.patch.name)
            refusal = None if before is None else files.refusal_of(before[0], entry)
            if refusal is not None:
                self._written(path).count(refusal)
                return Update(path, refusal.reason, refusal.worse)
        self._updates.setdefault(name, {})[task.patch.name] = {
            "entry": entry,
            "provenance": files.provenance_of(task.config, result),
        }
        if pool is not None:
            self._pools[name] = files.packed_pool(pool)
        return Update(path)

    def note(self, pallet: str, fit_setup: str, notes: Mapping[str, Any]) -> Path:
        """Write down how a fit setup did on a pallet.

        Parameters
        ----------
        pallet, fit_setup : str
            Which.
        notes : mapping
            ``checked`` (by patch), ``rtol`` and ``known_issues``, as in the schema. What was known
            of these patches with this fit setup is replaced.

        Raises
        ------
        ReferenceFileError
            If the file cannot be read or written.
        """
        from filelock import FileLock

        path = self.target / f"{pallet}.json"
        try:
            self.target.mkdir(parents=True, exist_ok=True)
            with FileLock(_lock(pallet)):
                self._files.pop(pallet, None)
                loaded = (path, files.read(path)) if path.is_file() else self.load(pallet)
                if loaded is None:
                    raise ReferenceFileError(f"there is no {pallet}.json to take notes in")
                files.write(path, files.with_notes(loaded[1], fit_setup, notes))
        except OSError as error:
            raise ReferenceFileError(f"{path} cannot be written: {error.strerror}") from error
        self._files.pop(pallet, None)
        return path

    def save(self) -> list[Path]:
        """Merge the updates into the files, each under a lock, and return their paths.

        Raises
        ------
        ReferenceFileError
            If a file cannot be read or written; the others are written all the same.
        """
        from filelock import FileLock

        written = []
        problems = []
        for name, updates in sorted(self._updates.items()):
            path = self.target / f"{name}.json"
            try:
                self.target.mkdir(parents=True, exist_ok=True)
                with FileLock(_lock(name)):
                    self._merge_into(path, name, updates)
                written.append(path)
            except OSError as error:
                problems.append(f"{path} cannot be written: {error.strerror or error}")
            except ReferenceFileError as error:
                problems.append(str(error))
        self._updates.clear()
        self._headers.clear()
        self._pools.clear()
        self._files.clear()
        if problems:
            raise ReferenceFileError(
                "\n".join(problems) + "\nthe results are in the journal: remove the cause, then "
                "repeat the run with --faas-resume"
            )
        return written

    def _merge_into(self, path: Path, name: str, updates: Mapping[str, Mapping[str, Any]]) -> None:
        """Put updates over what the file, or the one it takes the place of, has by now."""
        loaded = (path, files.read(path)) if path.is_file() else self.load(name)
        old = None if loaded is None else loaded[1]
        merged, counted = files.merged(old, self._headers[name], updates, self._pools.get(name))
        files.write(path, merged)
        self._written(path).add(counted)

    def _written(self, path: Path) -> files.Written:
        return self.written.setdefault(path, files.Written())


def bundled_directory() -> Path:
    """Return the directory of the references that come with the package."""
    package = Path(str(resources.files("pytest_pyhf_faas")))
    installed = package / DIRECTORY
    return installed if installed.is_dir() else package.parents[1] / DIRECTORY


def close(obtained: float, reference: float, rtol: float, atol: float) -> bool:
    """Whether two CLs values agree; those that exclude nothing do, even one that is no number."""
    if math.isnan(obtained) or math.isnan(reference):
        return all(math.isnan(v) or v >= NO_EXCLUSION for v in (obtained, reference))
    if math.isinf(obtained) or math.isinf(reference):
        return obtained == reference
    return abs(obtained - reference) <= atol + rtol * abs(reference)


def flips(one: MinimumSet, other: MinimumSet) -> bool:
    """Whether a hypothesis is excluded at one of two sets of minima alone."""
    excluded = [s.CLs_obs is not None and s.CLs_obs < EXCLUDED for s in (one, other)]
    return excluded[0] != excluded[1]


def _patch_reference(
    path: Path, data: Mapping[str, Any], name: str, entry: Mapping[str, Any]
) -> PatchReference:
    lowest = MinimumSet.from_json(entry)
    nominal = entry.get("nominal")
    return PatchReference(
        pallet=data["pallet"],
        patch=name,
        path=path,
        provenance=data["provenance"][entry["provenance"]],
        lowest=lowest,
        nominal=MinimumSet.from_json(nominal) if nominal else lowest,
        nominal_is_known="nominal" not in entry or nominal is not None,
        differences=tuple(nominal["differences"]) if nominal else (),
        minima={fit: tuple(gaps) for fit, gaps in entry.get("minima", {}).items()},
        twice_nll_off_minimum=_number(entry.get("twice_nll_off_minimum")),
        rounding=entry.get("rounding", 0.0),
        distance=entry.get("distance"),
        search=entry.get("search", {}),
        error=entry.get("error"),
        fit_s=entry.get("fit_s"),
        checked=entry.get("checked", {}),
        known_issues={
            issue["fit_setup"]: _known_issue(issue, name)
            for issue in data.get("known_issues", ())
            if name in issue["patches"]
        },
        tolerances=data.get("tolerances", {}),
        test_stat=data["hypotest"]["test_stat"],
        test_poi=data["hypotest"]["test_poi"],
    )


def _known_issue(issue: Mapping[str, Any], patch: str) -> KnownIssue:
    wrong = issue["patches"][patch]
    values = [wrong["CLs_obs"], *wrong["CLs_exp"]] if "CLs_obs" in wrong else []
    return KnownIssue(
        reason=issue["reason"],
        link=issue["link"],
        cls_values=tuple(float(value) for value in values),
        error=wrong.get("error"),
    )


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _lock(pallet: str) -> Path:
    return Path(tempfile.gettempdir()) / f"pyhf-faas-{os.getuid()}-{pallet}.lock"
