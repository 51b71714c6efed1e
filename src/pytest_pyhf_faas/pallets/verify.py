"""Verify a pallet: its files are JSON, follow their schemas, and are as published."""

from __future__ import annotations

import json
import math
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.schemas import accepted_by_pyhf_schema
from pytest_pyhf_faas.wording import brief, counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The rule for names in pyhf's schema of a patchset; the same holds for labels.
ALLOWED_IN_NAMES = "pyhf allows only letters, digits and _ in the name of a patch"
NAME_OF_PATCH, _NOT_ALLOWED = re.compile(r"[a-zA-Z0-9_]+"), re.compile(r"[^a-zA-Z0-9_]+")
#: Where they are.
_NAMED = re.compile(r"/metadata/labels/\d+|/patches/\d+/metadata/name")


def parse(data: bytearray, where: str) -> Any:
    """Return the content of a buffer, and empty it: both at once would take much memory."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PalletError(
            f"{where}: not valid UTF-8 at byte {error.start}\n"
            "the file is damaged, or not a JSON file: fetch it again"
        ) from error
    data.clear()
    literals: list[str] = []

    def not_finite(literal: str) -> float:
        literals.append(literal)
        return float(literal)

    try:
        parsed = json.loads(text, parse_constant=not_finite)
    except json.JSONDecodeError as error:
        cause = "truncated" if error.pos >= len(text.rstrip()) else "damaged"
        raise PalletError(
            f"{where}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}\n"
            f"the file looks {cause}: fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 10,000 brackets
        raise PalletError(
            f"{where}: cannot be read as JSON: {brief(error)}\n"
            "no pallet looks like that: the file is damaged"
        ) from error
    if literals:
        _refuse_not_finite(parsed, where)
    return parsed


def _refuse_not_finite(parsed: Any, where: str) -> NoReturn:
    places = [
        f"{place} ({value})"
        for place, value in _leaves(parsed)
        if isinstance(value, float) and not math.isfinite(value)
    ]
    raise PalletError(
        f"{where}: {counted(len(places), 'number')} that JSON does not have: "
        f"{listed(places, 5, 120)}\n"
        "the program that wrote it divided by zero or had no value: correct it and write it again"
    )


def _leaves(parsed: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each number, text or null with its place as a JSON pointer."""
    if isinstance(parsed, dict):
        for key, value in parsed.items():
            yield from _leaves(value, f"{place}/{key}")
    elif isinstance(parsed, list):
        for index, value in enumerate(parsed):
            yield from _leaves(value, f"{place}/{index}")
    else:
        yield place, parsed


def validate(obj: Any, schema: str, where: str, what: str) -> None:
    """Check an object against a schema of pyhf."""
    if accepted_by_pyhf_schema(obj, schema):
        return
    import jsonschema
    import pyhf

    try:
        with warnings.catch_warnings():
            # pyhf 0.7 uses jsonschema's RefResolver
            warnings.filterwarnings("ignore", "jsonschema.RefResolver", DeprecationWarning)
            pyhf.schema.validate(obj, schema)
    except pyhf.exceptions.InvalidSpecification as error:
        cause = error.__context__
        if isinstance(cause, jsonschema.ValidationError):
            cause = jsonschema.exceptions.best_match([cause])
            if cause.validator == "pattern":
                _refuse_names(obj, where)
            at = "/".join(map(str, cause.absolute_path)) or "the top"
            message = f"{brief(cause.message)} (at {brief(at)})"
        else:
            message = brief(error)
        raise PalletError(
            f"{where}: not {what}: {message}\n"
            "the file is not what its name says, is damaged, or is of a schema that pyhf "
            f"{pyhf.__version__} does not know"
        ) from None  # pyhf's own message may hold the whole file


def _refuse_names(patchset: Any, where: str) -> None:
    """Refuse the labels and the names of patches that pyhf does not allow, if there are any."""
    refused = {
        place: value
        for place, value in _leaves(patchset)
        if isinstance(value, str) and _NAMED.fullmatch(place) and not NAME_OF_PATCH.fullmatch(value)
    }
    if not refused:
        return
    places = [f"{brief(value, 60)!r} (at {place})" for place, value in refused.items()]
    instead = _NOT_ALLOWED.sub("_", next(iter(refused.values()))).strip("_") or "m1"
    raise PalletError(
        f"{where}: {counted(len(places), 'name')} that pyhf does not allow: "
        f"{listed(places, 5, 120)}\n"
        "labels and names of patches may only have letters, digits and _: write "
        f"{brief(instead)}"
    ) from None


def is_plain_patch(operations: Any) -> bool:
    """Whether some JSON is certainly a JSON patch: it adds something at places without escapes.

    Nearly all signals are such patches, and the schema takes a millisecond for each.
    """
    return type(operations) is list and all(
        type(each) is dict
        and each.get("op") == "add"
        and "value" in each
        and type(path := each.get("path")) is str
        and path.startswith("/")
        and "~" not in path
        for each in operations
    )


def is_plain_hypothesis(patch: Any) -> bool:
    """Whether some JSON is certainly a patch of a patchset, with a plain JSON patch."""
    if type(patch) is not dict or patch.keys() != {"metadata", "patch"}:
        return False
    about = patch["metadata"]
    return (
        type(about) is dict
        and type(name := about.get("name")) is str
        and NAME_OF_PATCH.fullmatch(name) is not None
        and type(values := about.get("values")) is list
        and all(type(value) in (int, float, str) for value in values)
        and is_plain_patch(patch["patch"])
    )


def check_digests(published: dict[str, str], computed: dict[str, str], where: str) -> None:
    """Compare a background with the digests in its patchset, by algorithm."""
    for algorithm, expected in published.items():
        if computed[algorithm] != expected.lower():
            found = computed[algorithm]
            raise PalletError(
                f"{digest_mismatch(where, expected, found, algorithm)}\n"
                "if the workspace is your own and you edited it, put the digest that was found "
                "into metadata.digests of the patchset"
            )


def digest_mismatch(where: str, expected: str, found: str, algorithm: str = "sha256") -> str:
    """Return the message that a background is not the one that was published."""
    return (
        f"{where}: the {algorithm} digest of the background-only workspace is not the published "
        f"one\n  published {expected}\n  found     {found}\n"
        "the background and the patches are probably of different versions of the publication, "
        "or the workspace was edited: fetch both from the same archive"
    )


@contextmanager
def writable(obj: Any, where: str) -> Iterator[None]:
    """Refuse an object that cannot be written as JSON, if the block finds that.

    A number such as 1e999 is read as infinite, and a string may hold half of a character.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise PalletError(
            f"{where}: holds a string that is not valid Unicode (a lone surrogate)\n"
            "the file is damaged: fetch it again"
        ) from error
    except ValueError:
        _refuse_not_finite(obj, where)
