"""Reference results: read, looked up, written; people read them in a diff."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.results import FITS, json_number
from pytest_pyhf_faas.schemas import accepted_by_own_schema, own_schema
from pytest_pyhf_faas.tasks import CERTIFIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.pallet import Pallet
    from pytest_pyhf_faas.results import HypotestResult
    from pytest_pyhf_faas.tasks import HypotestConfig, Task

SCHEMA_VERSION = 1
SCHEMA = "reference.schema.json"
DIRECTORY = "reference_results"
#: Relative tolerance on CLs of each optimizer, and of proven minima, where a reference file does
#: not set its own.
DEFAULT_RTOL = {"scipy": 1e-4, "minuit": 1e-3, CERTIFIED: 1e-6}
#: Where it is known how far a backend and optimizer are from the truth, the tolerance is so many
#: times that, for another machine is a little farther off.
TOLERANCE_MARGIN = 3.0
#: Absolute tolerance on CLs: no limit in the field depends on less.
DEFAULT_ATOL = 1e-6

_DIGEST_DIGITS = 16
#: What all references of a file have in common.
_ONE_FILE = ("background_sha256", "hypotest")
_INLINE_DEPTH = 3
#: What stands before the tolerances.
_HEAD = (
    "schema_version",
    "pallet",
    "description",
    "synthetic",
    "doi",
    "background_sha256",
    "hypotest",
)
#: What a reference keeps of the search for a minimum: starts that were tried, that reached it, that
#: were dropped.
_SEARCH = ("starts", "reached", "dropped")


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """What one backend and optimizer get wrong in a way that is understood.

    Attributes
    ----------
    reason, link : str
        Why, and where it is told.
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
    CLs_obs : float or None
        ``None`` where `error` is the right answer.
    CLs_exp : tuple of float, shape (5,)
        At -2, -1, 0, 1, 2 standard deviations.
    twice_nll : mapping
        Twice the negative log-likelihood at the minima of the five fits.
    twice_nll_off_minimum : float or None
        The same at a point that depends on the model alone.
    rounding : float
        How far these may be rounded.
    distance : float or None
        The largest of the estimated distances to the minima, in twice the negative log-likelihood.
    local_minima : tuple of mapping
        Higher minima of the fits: ``fit``, ``gap``, ``parameter``, ``at``, ``lowest_at``, and the
        CLs that one gets there.
    error : str or None
        Type of the exception that is the right answer.
    fit_s : float or None
        Seconds of the fit where the reference was made.
    checked : mapping
        For each combination of backend and optimizer that was tried how far it was from this:
        ``cls`` (largest relative difference), ``twice_nll`` (largest difference), ``fit_s``.
    known_issues : mapping of combination to KnownIssue
        What is known to be got wrong.
    provenance : mapping
        How, when and with which versions it was made.
    tolerances : mapping of combination to mapping
        ``rtol`` and ``atol`` as the file sets them.
    test_stat, test_poi : str, float
        The test of the file.
    """

    pallet: str
    patch: str
    path: Path
    provenance: Mapping[str, Any]
    CLs_obs: float | None = None
    CLs_exp: tuple[float, ...] = ()
    mu_hat: float | None = None
    twice_nll: Mapping[str, float] = field(default_factory=dict)
    twice_nll_off_minimum: float | None = None
    rounding: float = 0.0
    distance: float | None = None
    local_minima: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    fit_s: float | None = None
    checked: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    known_issues: Mapping[str, KnownIssue] = field(default_factory=dict)
    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    test_stat: str = "qtilde"
    test_poi: float = 1.0

    @property
    def asimov_poi(self) -> float:
        """The POI that the Asimov data are to be built at."""
        return 1.0 if self.test_stat == "q0" else 0.0

    @property
    def cls_values(self) -> tuple[float, ...]:
        """CLs_obs and the five CLs_exp."""
        return () if self.CLs_obs is None else (self.CLs_obs, *self.CLs_exp)

    def tolerance(
        self, combination: str, rtol: float | None = None, atol: float | None = None
    ) -> tuple[float, float]:
        """Return rtol and atol.

        Those given; else what follows from how far the combination is known to be from this very
        reference; else those of the file; else the defaults.
        """
        of_file = self.tolerances.get(combination, {})
        if rtol is None:
            default = DEFAULT_RTOL[combination.rpartition("+")[2]]
            distance = self.checked.get(combination, {}).get("cls")
            if combination in self.known_issues:
                rtol = default
            elif isinstance(distance, float):
                rtol = max(default, TOLERANCE_MARGIN * distance)
            else:
                rtol = of_file.get("rtol", default)
        return rtol, of_file.get("atol", DEFAULT_ATOL) if atol is None else atol

    def expected_s(self, combination: str) -> float | None:
        """Return how long the fit took with a combination, or else with any."""
        times = {name: tried.get("fit_s") for name, tried in self.checked.items()}
        known = [seconds for seconds in times.values() if seconds is not None]
        return (
            self.fit_s
            if combination == CERTIFIED or not known
            else (times.get(combination) or known[0])
        )


@dataclass(frozen=True, slots=True)
class Missing:
    """No reference, and why; false, as a reference never is."""

    reason: str

    def __bool__(self) -> Literal[False]:
        return False


class ReferenceStore:
    """The reference files of some directories, the first that has one of a pallet counting.

    Parameters
    ----------
    directories : sequence of Path
        Where to look.
    target : Path
        Where updates are written.
    """

    def __init__(self, directories: Sequence[Path], target: Path) -> None:
        self.directories = tuple(directories)
        self.target = target
        self._files: dict[str, tuple[Path, dict[str, Any]] | None] = {}
        self._updates: dict[str, dict[str, dict[str, Any]]] = {}
        self._headers: dict[str, dict[str, Any]] = {}

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
        if entry["digest"] != task.patch.digest[:_DIGEST_DIGITS]:
            return Missing(f"{path} was made from another patch of this name")
        return _patch_reference(path, data, task.patch.name, entry)

    def load(self, pallet: str) -> tuple[Path, dict[str, Any]] | None:
        """Return the path and the validated content of a pallet's file, or ``None``."""
        if pallet not in self._files:
            paths = (directory / f"{pallet}.json" for directory in self.directories)
            path = next((path for path in paths if path.is_file()), None)
            self._files[pallet] = None if path is None else (path, read(path))
        return self._files[pallet]

    def update(self, task: Task, result: HypotestResult) -> Path:
        """Remember a result as the new reference of its task; `save` writes it.

        Raises
        ------
        ReferenceFileError
            If the result is no answer that could be right, or if this session has results of the
            same pallet for another background or another test.
        """
        if not result.is_answer:
            raise ReferenceFileError("a fit that did not end cannot become a reference")
        name = task.pallet.name
        header = _header(task.pallet, task.config)
        known = self._headers.setdefault(name, header)
        if any(known[part] != header[part] for part in _ONE_FILE):
            raise ReferenceFileError(
                f"the references of {name} cannot be updated for two tests at once: a file is of "
                "one background and one hypothesis test. Update them in runs of their own, each "
                "with its --faas-reference-dir"
            )
        self._updates.setdefault(name, {})[task.patch.name] = {
            "entry": _entry(task, result),
            "provenance": _provenance(task.config, result),
        }
        return self.target / f"{name}.json"

    def note(self, pallet: str, combination: str, notes: Mapping[str, Any]) -> Path:
        """Write down how a combination of backend and optimizer did on a pallet.

        Parameters
        ----------
        pallet, combination : str
            Which.
        notes : mapping
            ``checked`` (by patch), ``rtol`` and ``known_issues``, as in the schema. What was known
            of these patches with this combination is replaced.

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
                loaded = (path, read(path)) if path.is_file() else self.load(pallet)
                if loaded is None:
                    raise ReferenceFileError(f"there is no {pallet}.json to take notes in")
                _write(path, _with_notes(loaded[1], combination, notes))
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
                    _write(path, _merge(path, self.load(name), self._headers[name], updates))
                written.append(path)
            except OSError as error:
                problems.append(f"{path} cannot be written: {error.strerror or error}")
            except ReferenceFileError as error:
                problems.append(str(error))
        self._updates.clear()
        self._headers.clear()
        self._files.clear()
        if problems:
            raise ReferenceFileError(
                "\n".join(problems) + "\nthe results are in the journal: mend it, then repeat the "
                "run with --faas-resume"
            )
        return written


def read(path: Path) -> dict[str, Any]:
    """Read and validate a reference file.

    Raises
    ------
    ReferenceFileError
        If it cannot be read, is damaged, or was written by a newer version.
    """
    import jsonschema

    def wrong(why: str, remedy: str) -> ReferenceFileError:
        return ReferenceFileError(f"the reference file {path} cannot be used: {why}. {remedy}")

    restore = (
        "Restore it from version control, or remove it and make it anew with --faas-update=new"
    )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(str(error.strerror), "Check its permissions") from error
    except UnicodeDecodeError as error:
        raise wrong("it is not UTF-8 text", restore) from error
    except json.JSONDecodeError as error:
        raise wrong(
            f"it is no valid JSON (line {error.lineno}, column {error.colno}: {error.msg})", restore
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise wrong(
            f"it has schema version {version}, and this version reads up to {SCHEMA_VERSION}",
            "Upgrade pytest-pyhf-faas",
        )
    if not accepted_by_own_schema(data, SCHEMA):
        validator = jsonschema.Draft7Validator(own_schema(SCHEMA))
        violation = jsonschema.exceptions.best_match(validator.iter_errors(data))
        if violation is not None:
            where = "/".join(str(part) for part in violation.absolute_path) or "the top level"
            raise wrong(f"at {where}, {violation.message[:200]}", restore)
    known = len(data["provenance"])
    for name, entry in data["patches"].items():
        if entry["provenance"] >= known:
            raise wrong(f"{name} has a provenance that the file does not list", restore)
    return dict(data)


def bundled_directory() -> Path:
    """Return the directory of the references that come with the package."""
    package = Path(__file__).parent
    installed = package / DIRECTORY
    return installed if installed.is_dir() else package.parents[1] / DIRECTORY


def _patch_reference(
    path: Path, data: Mapping[str, Any], name: str, entry: Mapping[str, Any]
) -> PatchReference:
    return PatchReference(
        pallet=data["pallet"],
        patch=name,
        path=path,
        provenance=data["provenance"][entry["provenance"]],
        CLs_obs=_number(entry.get("CLs_obs")),
        CLs_exp=tuple(float(value) for value in entry.get("CLs_exp", ())),
        mu_hat=_number(entry.get("mu_hat")),
        twice_nll={fit: float(value) for fit, value in entry.get("twice_nll", {}).items()},
        twice_nll_off_minimum=_number(entry.get("twice_nll_off_minimum")),
        rounding=entry.get("rounding", 0.0),
        distance=entry.get("distance"),
        local_minima=tuple(entry.get("local_minima", ())),
        error=entry.get("error"),
        fit_s=entry.get("fit_s"),
        checked=entry.get("checked", {}),
        known_issues={
            issue["combination"]: _known_issue(issue, name)
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


def _header(pallet: Pallet, config: HypotestConfig) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "pallet": pallet.name,
        "description": pallet.description,
        "synthetic": pallet.synthetic,
        "doi": pallet.doi,
        "background_sha256": pallet.digest,
        "hypotest": config.physics,
    }


def _entry(task: Task, result: HypotestResult) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "values": list(task.patch.values),
        "digest": task.patch.digest[:_DIGEST_DIGITS],
    }
    if result.error is not None:
        entry["error"] = result.error.type
        return entry
    entry["CLs_obs"] = _rounded(result.CLs_obs)
    entry["CLs_exp"] = [_rounded(value) for value in result.CLs_exp]
    entry["mu_hat"] = _rounded(result.mu_hat)
    entry["twice_nll"] = {fit: _rounded(result.twice_nll[fit]) for fit in FITS}
    entry["twice_nll_off_minimum"] = _rounded(result.twice_nll_off_minimum)
    certificate = result.certificate
    if certificate:
        entry["rounding"] = float(f"{result.rounding or 0.0:.2g}")
        entry["distance"] = max(float(f"{c['distance']:.2g}") for c in certificate.values())
        # How many starts of each fit, and how many of them ended in the lowest minimum.
        entry["starts"] = {fit: [certificate[fit][n] for n in _SEARCH] for fit in FITS}
        entry["local_minima"] = [
            {"fit": fit, **_shortened(other)}
            for fit in FITS
            for other in certificate[fit]["others"]
        ]
    entry["fit_s"] = float(f"{result.seconds['fit']:.3g}")
    return entry


def _shortened(values: Mapping[str, Any]) -> dict[str, Any]:
    """Cut the floats of a higher minimum to what tells it apart."""

    def short(value: Any) -> Any:
        if isinstance(value, list):
            return [short(item) for item in value]
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return {name: short(value) for name, value in values.items()}


def _provenance(config: HypotestConfig, result: HypotestResult) -> dict[str, Any]:
    environment = result.environment
    versions = dict(environment.computing) if environment else {}
    return {
        "method": config.method,
        "backend": environment.backend if environment else config.backend,
        "optimizer": environment.optimizer if environment else config.optimizer,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": environment.cpu if environment else "unknown",
        "platform": environment.platform if environment else "unknown",
        "versions": versions,
    }


def _merge(
    path: Path,
    loaded: tuple[Path, dict[str, Any]] | None,
    header: dict[str, Any],
    updates: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Put updates over what the file (or the one it takes the place of) has for the same test."""
    old = read(path) if path.is_file() else (loaded[1] if loaded else None)
    if old is not None and any(old[part] != header[part] for part in _ONE_FILE):
        old = None
    entries: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name, entry in (old["patches"] if old else {}).items():
        entries[name] = entry, old["provenance"][entry["provenance"]] if old else {}
    for name, update in updates.items():
        entry = update["entry"]
        before = entries[name][0] if name in entries else {}
        if "checked" in before and before["digest"] == entry["digest"]:
            entry["checked"] = before["checked"]
        entries[name] = entry, update["provenance"]
    # In the order of the file, so that the other patches keep their index, and their lines.
    used = [how for _entry, how in entries.values()]
    provenance = [how for how in (old["provenance"] if old else []) if how in used]
    patches = {}
    for name, (entry, how) in sorted(entries.items()):
        if how not in provenance:
            provenance.append(how)
        patches[name] = {**entry, "provenance": provenance.index(how)}
    merged = dict(header)
    for kept in ("tolerances", "known_issues"):
        if old and kept in old:
            merged[kept] = old[kept]
    return {**merged, "provenance": provenance, "patches": patches}


def _with_notes(
    data: Mapping[str, Any], combination: str, notes: Mapping[str, Any]
) -> dict[str, Any]:
    """Put what was found of a combination into the content of a file."""
    checked = notes["checked"]
    patches = {
        name: {**entry, "checked": {**entry.get("checked", {}), combination: checked[name]}}
        if name in checked
        else entry
        for name, entry in data["patches"].items()
    }
    issues = []
    for issue in data.get("known_issues", ()):
        kept = issue["patches"]
        if issue["combination"] == combination:
            kept = {name: wrong for name, wrong in kept.items() if name not in checked}
        if kept:
            issues.append({**issue, "patches": kept})
    for new in notes["known_issues"]:
        same = next((i for i in issues if {**i, "patches": 0} == {**new, "patches": 0}), None)
        if same is None:
            issues.append(new)
        else:
            same["patches"] = dict(sorted({**same["patches"], **new["patches"]}.items()))
    before = data.get("tolerances", {}).get(combination, {})
    whole = set(checked) == set(data["patches"])
    # Of a part of the patches a smaller tolerance says nothing.
    rtol = notes["rtol"] if whole else max(notes["rtol"], before.get("rtol", 0.0))
    head = {name: data[name] for name in _HEAD if name in data}
    head["tolerances"] = dict(
        sorted({**data.get("tolerances", {}), combination: {**before, "rtol": rtol}}.items())
    )
    if issues:
        head["known_issues"] = sorted(issues, key=lambda i: (i["combination"], i["reason"]))
    return {**head, "provenance": data["provenance"], "patches": patches}


def _lock(pallet: str) -> Path:
    return Path(tempfile.gettempdir()) / f"pyhf-faas-{os.getuid()}-{pallet}.lock"


def _write(path: Path, data: Mapping[str, Any]) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(_format(data) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _format(value: Any, depth: int = 0) -> str:
    """Format as JSON with a line for each field of a patch, so that a diff shows what changed."""
    if depth == _INLINE_DEPTH or not value or not isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    indent = "  " * (depth + 1)
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_format(item, depth + 1)}" for key, item in value.items()]
    else:
        lines = [_format(item, depth + 1) for item in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n{indent}" + f",\n{indent}".join(lines) + f"\n{'  ' * depth}{closing}"


def _rounded(value: float | None) -> float | str | None:
    """Cut a float to 12 digits; the rest is rounding noise of one machine."""
    if value is None or not math.isfinite(value):
        return json_number(value)
    return float(f"{value:.12g}")
