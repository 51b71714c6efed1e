"""Look up, update and annotate the references in some directories."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.campaign.results import MinimumSet
from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.references.entries import (
    DIGEST_DIGITS,
    entry_of,
    header_of,
    packed_pool,
    points_of,
    provenance_of,
)
from pytest_pyhf_faas.references.file import in_order, read, write
from pytest_pyhf_faas.references.known_issues import KnownIssue
from pytest_pyhf_faas.references.merging import (
    ONE_FILE,
    Written,
    entries_of,
    merged,
    refusal_of,
    replacement_of,
    with_notes,
)
from pytest_pyhf_faas.references.reference import MAKE, REPLACE, Missing, PatchReference
from pytest_pyhf_faas.references.sameness import same_minima

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.form import Entry, IssueEntry, PoolEntry, ReferenceFile

DIRECTORY = "reference_results"
#: Within these a file names its background.
_HEADER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Update:
    """The outcome of making a result a reference.

    Attributes
    ----------
    path : Path
        The file that it is for.
    refused : str or None
        Why the file keeps its present reference.
    worse : bool
        Whether that is because a minimum of the result is higher.
    """

    path: Path
    refused: str | None = None
    worse: bool = False


class ReferenceStore:
    """The reference files of some directories; the first one of a pallet counts.

    Parameters
    ----------
    directories : sequence of Path
        Where to look.
    target : Path
        Where updates are written.
    replaces : bool, optional
        Whether updates may take the place of references of another background or test, where each
        of them gets a successor.

    Attributes
    ----------
    written : dict
        What was written into each file, and what was refused.
    """

    def __init__(
        self, directories: Sequence[Path], target: Path, *, replaces: bool = False
    ) -> None:
        self.directories = tuple(directories)
        self.target = target
        self.replaces = replaces
        self.written: dict[Path, Written] = {}
        self._files: dict[str, tuple[Path, ReferenceFile] | None] = {}
        self._names: dict[str, str | None] = {}
        self._updates: dict[str, dict[str, dict[str, Any]]] = {}
        self._additions: dict[str, dict[str, dict[str, Any]]] = {}
        self._headers: dict[str, dict[str, Any]] = {}
        self._pools: dict[str, PoolEntry] = {}

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
            reason = f"there is no {task.pallet.name}.json in {looked}"
            if other := self._of_background(task.pallet.digest):
                reason += (
                    f"; {other}.json is for the same background: to compare with it, rename the "
                    f"pallet's file or directory to {other}"
                )
            return Missing(reason)
        path, data = loaded
        if data["background_sha256"] != task.pallet.digest:
            return Missing(
                f"{path} is for another background (SHA-256 {data['background_sha256'][:12]}..., "
                f"this one has {task.pallet.digest[:12]}...)",
                self._remedy(path),
            )
        if data["hypotest"] != task.config.physics:
            ours, theirs = task.config.physics, data["hypotest"]
            differ = ", ".join(
                f"{name}={ours.get(name)!r} (reference: {theirs.get(name)!r})"
                for name in sorted(ours.keys() | theirs.keys())
                if ours.get(name) != theirs.get(name)
            )
            return Missing(f"{path} is for another test: {differ}", self._remedy(path))
        entry = data["patches"].get(task.patch.name)
        if entry is None:
            return Missing(f"{path} does not have this patch")
        if entry["digest"] != task.patch.digest[:DIGEST_DIGITS]:
            return Missing(
                f"{path} was made from a patch of the same name with other content",
                MAKE if path.parent != self.target else REPLACE,
            )
        return _patch_reference(path, data, task.patch.name, entry)

    def _of_background(self, digest: str) -> str | None:
        """Return the name of the pallet whose file is for a background, if there is one."""
        if digest not in self._names:
            named = f'"background_sha256": "{digest}"'.encode()
            paths = [path for each in self.directories for path in sorted(each.glob("*.json"))]
            self._names[digest] = next((path.stem for path in paths if _begins(path, named)), None)
        return self._names[digest]

    def load(self, pallet: str) -> tuple[Path, ReferenceFile] | None:
        """Return the path and the validated content of a pallet's file, or ``None``."""
        if pallet not in self._files:
            paths = (directory / f"{pallet}.json" for directory in self.directories)
            path = next((path for path in paths if path.is_file()), None)
            self._files[pallet] = None if path is None else (path, read(path))
        return self._files[pallet]

    def pool(self, pallet: Pallet, config: HypotestConfig) -> tuple[dict[str, float], ...] | None:
        """Return the starts that a pallet's hypotheses share, each a value by parameter.

        ``None`` where there is no file, or it is for another background or test, or has no
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
        return points_of(data["pool"]) if "pool" in data else None

    def refuse_losses(self, tasks: Iterable[Task]) -> None:
        """Refuse the updates of some tasks if they could not be saved, as far as is known now.

        Raises
        ------
        ReferenceFileError
            See `update`; also if the file of a pallet cannot be read.
        """
        headers: dict[str, dict[str, Any]] = {}
        names: dict[str, set[str]] = {}
        for task in tasks:
            pallet = task.pallet.name
            header = header_of(task.pallet, task.config)
            _refuse_two(pallet, headers.setdefault(pallet, header), header)
            names.setdefault(pallet, set()).add(task.patch.name)
        for pallet, header in headers.items():
            self._refuse_loss(pallet, header, names[pallet])

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
            All starts that the pallet's hypotheses share, to be stored with the file instead
            of those that it has.

        Raises
        ------
        ReferenceFileError
            If the result is no answer that could be right, or if this session has results of the
            same pallet, or the file has references, for another background or another test.
        """
        if not result.is_answer:
            raise ReferenceFileError("an unfinished fit cannot become a reference")
        name = task.pallet.name
        header = header_of(task.pallet, task.config)
        _refuse_two(name, self._headers.setdefault(name, header), header)
        path = self.target / f"{name}.json"
        entry = entry_of(task, result)
        loaded = None
        with contextlib.suppress(ReferenceFileError):  # what is wrong with the file, `save` says
            loaded = self.load(name)
        if loaded is not None:
            if loaded[0] == path and not self.replaces:
                _refuse_loss(path, loaded[1], header, ())
            before = entries_of(loaded[1], header).get(task.patch.name)
            refusal = None if before is None else refusal_of(before[0], cast("Entry", entry))
            if refusal is not None:
                self._written(path).count(refusal)
                return Update(path, refusal.reason, refusal.worse)
        self._updates.setdefault(name, {})[task.patch.name] = {
            "entry": entry,
            "provenance": provenance_of(task.config, result),
        }
        if pool is not None:
            self._pools[name] = packed_pool(pool)
        return Update(path)

    def add(
        self, task: Task, result: HypotestResult | None, part: str, value: Mapping[str, Any]
    ) -> Path:
        """Remember a value of a hypothesis other than CLs; `save` writes it.

        Parameters
        ----------
        task, result : Task, HypotestResult
            Which hypothesis, and the certified result that the value follows from; ``None`` if its
            minima are not those of the reference, and need not be.
        part : str
            One of `merging.BESIDE_CLS`.
        value : mapping
            Its entry in the file.

        Raises
        ------
        ReferenceFileError
            If neither the file nor this session has the CLs reference of this hypothesis at the
            same minima.
        """
        name, patch = task.pallet.name, task.patch.name
        path = self.target / f"{name}.json"
        header = header_of(task.pallet, task.config)
        pending = self._updates.get(name, {}).get(patch)
        loaded = self.load(name)
        known = entries_of(loaded[1] if loaded else None, header).get(patch)
        before = cast("Entry", pending["entry"]) if pending else known[0] if known else None
        if before is None or before["digest"] != task.patch.digest[:DIGEST_DIGITS]:
            raise ReferenceFileError(
                f"{path} has no CLs reference of {patch} that this could be added to: make it in "
                f"the same run, with --faas-quantity=cls,{task.config.quantity}"
            )
        if result is not None and result.twice_nll:
            rounding = before.get("rounding", 0.0)
            if not same_minima(MinimumSet.from_json(before), result.lowest, rounding):
                raise ReferenceFileError(
                    f"{path} has other minima of {patch} than this fit found: compare CLs "
                    "first, with --faas-quantity=cls"
                )
        self._headers.setdefault(name, header)
        self._additions.setdefault(name, {}).setdefault(patch, {})[part] = dict(value)
        return path

    def note(self, pallet: str, fit_setup: str, notes: Mapping[str, Any]) -> Path:
        """Record how a fit setup did on a pallet.

        Parameters
        ----------
        pallet, fit_setup : str
            Which.
        notes : mapping
            ``checked`` (by patch), ``rtol`` and ``known_issues``, as in the schema, and ``pyhf``,
            its version. What was known of these patches with this fit setup and version is
            replaced.

        Raises
        ------
        ReferenceFileError
            If the file cannot be read or written.
        """
        from filelock import FileLock

        path = self.target / f"{pallet}.json"
        try:
            self.target.mkdir(parents=True, exist_ok=True)
            with FileLock(_lock(path)):
                self._files.pop(pallet, None)
                loaded = (path, read(path)) if path.is_file() else self.load(pallet)
                if loaded is None:
                    raise ReferenceFileError(f"there is no {pallet}.json to write notes to")
                write(path, with_notes(loaded[1], fit_setup, notes))
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
        for name in sorted(self._updates.keys() | self._additions.keys()):
            updates = self._updates.get(name, {})
            path = self.target / f"{name}.json"
            try:
                self.target.mkdir(parents=True, exist_ok=True)
                with FileLock(_lock(path)):
                    self._merge_into(path, name, updates)
                written.append(path)
            except OSError as error:
                problems.append(f"{path} cannot be written: {error.strerror or error}")
            except ReferenceFileError as error:
                problems.append(str(error))
        self._updates.clear()
        self._additions.clear()
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
        """Merge updates into what the file, or the one that it replaces, has by now."""
        loaded = (path, read(path)) if path.is_file() else self.load(name)
        old = None if loaded is None else loaded[1]
        if loaded is not None and loaded[0] == path:
            _refuse_loss(path, loaded[1], self._headers[name], updates if self.replaces else ())
        data, counted = merged(old, self._headers[name], updates, self._pools.get(name))
        for patch, parts in self._additions.get(name, {}).items():
            entry = data["patches"].get(patch)
            if entry is not None:
                data["patches"][patch] = in_order({**entry, **parts})
                counted.count_parts(parts)
        if not path.is_file():
            counted.replaced = 0  # those stay in the other directory
        write(path, data)
        self._written(path).add(counted)

    def _refuse_loss(self, pallet: str, header: Mapping[str, Any], names: Iterable[str]) -> None:
        loaded = self.load(pallet)
        if loaded is not None and loaded[0] == self.target / f"{pallet}.json":
            _refuse_loss(*loaded, header, names if self.replaces else ())

    def _remedy(self, path: Path) -> str:
        """Say how to make references in addition to a file for something else."""
        if path.parent != self.target:
            return MAKE
        return (
            f"{MAKE} with another --faas-reference-dir or pallet name, or --faas-update=all over "
            "all patches, which replaces them"
        )

    def _written(self, path: Path) -> Written:
        return self.written.setdefault(path, Written())


def _refuse_two(pallet: str, known: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Raise where two updates are not for one file."""
    if any(known[part] != header[part] for part in ONE_FILE):
        raise ReferenceFileError(
            f"the references of {pallet} cannot be updated for two tests at once: a file is of "
            "one background and one hypothesis test. Update them in separate runs, each "
            "with its own --faas-reference-dir"
        )


def _refuse_loss(
    path: Path, data: ReferenceFile, header: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Raise where an update would lose references of another background or test."""
    lost, all_succeeded = replacement_of(data, header, names)
    if lost and not (all_succeeded and names):
        raise ReferenceFileError(
            f"{path} is not updated: {lost} would be lost\n"
            "use another --faas-reference-dir or another pallet name, or remove the file; "
            "--faas-update=all over all patches replaces them (without -n, -k and --faas-patch)"
        )


def _begins(path: Path, part: bytes) -> bool:
    """Whether the beginning of a file has a part; not so if it cannot be read."""
    try:
        with path.open("rb") as file:
            return part in file.read(_HEADER_BYTES)
    except OSError:
        return False


def store_in(directory: Path) -> ReferenceStore:
    """Return the references in a directory, or else those of the package."""
    return ReferenceStore(list(dict.fromkeys([directory, bundled_directory()])), directory)


def bundled_directory() -> Path:
    """Return the directory of the references that come with the package."""
    package = Path(str(resources.files("pytest_pyhf_faas")))
    installed = package / DIRECTORY
    return installed if installed.is_dir() else package.parents[1] / DIRECTORY


def _patch_reference(path: Path, data: ReferenceFile, name: str, entry: Entry) -> PatchReference:
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
        known_issues=_known_issues(data, name),
        tolerances=data.get("tolerances", {}),
        limits=Limits.from_json(entry["limits"]) if "limits" in entry else None,
        toys=entry.get("toys"),
        published=entry.get("published"),
        test_stat=data["hypotest"]["test_stat"],
        test_poi=data["hypotest"]["test_poi"],
    )


def _known_issues(data: ReferenceFile, patch: str) -> dict[str, list[KnownIssue]]:
    """Return the known issues of a patch, by fit setup."""
    issues: dict[str, list[KnownIssue]] = {}
    for issue in data.get("known_issues", ()):
        if patch in issue["patches"]:
            issues.setdefault(issue["fit_setup"], []).append(_known_issue(issue, patch))
    return issues


def _known_issue(issue: IssueEntry, patch: str) -> KnownIssue:
    wrong = issue["patches"][patch]
    values = [wrong["CLs_obs"], *wrong["CLs_exp"]] if "CLs_obs" in wrong else []
    return KnownIssue(
        reason=issue["reason"],
        link=issue["link"],
        cls_values=tuple(float(value) for value in values),
        error=wrong.get("error"),
        pyhf=issue.get("pyhf", ""),
    )


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _lock(path: Path) -> Path:
    """Return the lock of a file: next to it, so that all machines that share it use the same."""
    return path.with_name(f".{path.name}.lock")
