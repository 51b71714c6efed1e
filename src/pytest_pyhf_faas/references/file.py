"""The files of reference results, which people read in a diff: reading and writing them."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.schemas import accepted_by_own_schema, own_schema

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_pyhf_faas.references.form import ReferenceFile

SCHEMA_VERSION = 3
SCHEMA = "reference.schema.json"
_INLINE_DEPTH = 3
#: Nested fields that are written with a line for each of their parts.
_EXPANDED = frozenset({"nominal", "differences", "patches"})
#: The fields of an entry, in the order in which they are written.
_FIELDS = (
    "values",
    "digest",
    "error",
    "CLs_obs",
    "CLs_exp",
    "mu_hat",
    "twice_nll",
    "nominal",
    "minima",
    "twice_nll_off_minimum",
    "rounding",
    "distance",
    "search",
    "unseen",
    "limits",
    "toys",
    "published",
    "fit_s",
    "checked",
    "provenance",
)


# Reading


def read(path: Path) -> ReferenceFile:
    """Read and validate a reference file.

    Raises
    ------
    ReferenceFileError
        If it cannot be read, is damaged, or was written by a newer version.
    """

    def wrong(why: str, remedy: str) -> ReferenceFileError:
        return ReferenceFileError(f"the reference file {path} cannot be used: {why}. {remedy}")

    restore = (
        "Restore it from version control, or remove it and make it again with --faas-update=new"
    )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(str(error.strerror), "Check its permissions") from error
    except UnicodeDecodeError as error:
        raise wrong("it is not UTF-8 text", restore) from error
    except json.JSONDecodeError as error:
        raise wrong(
            f"it is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg})",
            restore,
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise wrong(
            f"it has schema version {version}, and this version reads up to {SCHEMA_VERSION}",
            "Upgrade pytest-pyhf-faas",
        )
    data = _as_of_today(data, version)
    violation = _violation(data)
    if violation is not None:
        raise wrong(violation, restore)
    known = len(data["provenance"])
    for name, entry in data["patches"].items():
        if entry["provenance"] >= known:
            raise wrong(f"{name} has a provenance that the file does not list", restore)
    checked: ReferenceFile = data
    return checked


def _violation(data: Any) -> str | None:
    """Say where the content of a file violates the schema, if it does."""
    if accepted_by_own_schema(data, SCHEMA):
        return _no_versions(data)
    import jsonschema

    validator = jsonschema.Draft7Validator(own_schema(SCHEMA))
    violation = jsonschema.exceptions.best_match(validator.iter_errors(data))
    if violation is None:
        return None
    where = "/".join(str(part) for part in violation.absolute_path) or "the top level"
    return f"at {where}, {violation.message[:200]}"


def _no_versions(data: ReferenceFile) -> str | None:
    """Say which versions of pyhf make no sense, if there are some."""
    for number, issue in enumerate(data.get("known_issues", ())):
        try:
            SpecifierSet(issue.get("pyhf", ""))
        except InvalidSpecifier:
            where = f"known_issues/{number}/pyhf"
            return f"at {where}, {issue['pyhf']!r} is not a version specifier such as <=0.7.6"
    return None


def _as_of_today(data: Any, version: Any) -> Any:
    """Return the content of a file of an older schema as one of this schema."""
    if version == 1:
        data = _from_schema_1(data)
    return _from_schema_2(data) if version in (1, 2) else data


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file of schema 1 as one of schema 2.

    It has only the lowest minima, so the nominal ones are unknown; of the other minima that it
    lists, the gaps are kept. The schema refuses what does not fit.
    """
    converted = {**data, "schema_version": 2}
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        converted["patches"] = {
            name: _entry_from_schema_1(entry) for name, entry in data["patches"].items()
        }
    return converted


def _entry_from_schema_1(old: Mapping[str, Any]) -> dict[str, Any]:
    entry = dict(old)
    minima: dict[str, list[float]] = {}
    for other in entry.pop("local_minima", ()):
        minima.setdefault(other["fit"], []).append(float(other["gap"]))
    if minima:
        entry["minima"] = {fit: sorted(gaps) for fit, gaps in minima.items()}
    if "starts" in entry:  # it was not recorded how many of them were drawn at random
        counts = entry.pop("starts").items()
        entry["search"] = {fit: [starts, reached, 0, 0] for fit, (starts, reached, _) in counts}
    if "CLs_obs" in entry:
        entry["nominal"] = None
    return in_order(entry)


def _from_schema_2(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file of schema 2, where a fit setup was called a combination."""
    converted = {**data, "schema_version": SCHEMA_VERSION}
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        converted["known_issues"] = [
            {"fit_setup" if name == "combination" else name: part for name, part in issue.items()}
            for issue in data["known_issues"]
        ]
    return converted


# Writing


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(_format(data) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def in_order(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with its fields in the order in which they are written."""
    known = {name: entry[name] for name in _FIELDS if name in entry}
    return {**known, **entry}


def _format(value: Any, depth: int = 0, inline: int = _INLINE_DEPTH) -> str:
    """Format as JSON with a line for each field of a patch, so that a diff shows what changed."""
    parts = value.values() if isinstance(value, dict) else value
    if (
        not value
        or not isinstance(value, (dict, list))
        or depth == inline
        or (isinstance(value, list) and not any(isinstance(part, (dict, list)) for part in parts))
    ):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    indent = "  " * (depth + 1)
    if isinstance(value, dict):
        lines = [
            f"{json.dumps(key)}: "
            f"{_format(item, depth + 1, max(inline, depth + 1 + (key in _EXPANDED)))}"
            for key, item in value.items()
        ]
    else:
        lines = [_format(item, depth + 1, inline) for item in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n{indent}" + f",\n{indent}".join(lines) + f"\n{'  ' * depth}{closing}"
