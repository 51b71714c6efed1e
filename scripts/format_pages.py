"""Write the tables of fields in docs/reference from the JSON schemas of the package.

Usage: python scripts/format_pages.py

A schema describes each of its fields; here this becomes a page that people read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[1]
SCHEMAS = REPOSITORY / "src" / "pytest_pyhf_faas" / "data"
PAGES = REPOSITORY / "docs" / "reference"
BEGIN, END = "<!-- fields: begin -->", "<!-- fields: end -->"
_TYPES = {"string": "text", "array": "list", "integer": "whole number"}
#: Definitions of the schemas, where a field refers to one.
_WORDS = {
    "band": "list of 5 numbers",
    "cls_values": "list of 6 numbers or null",
    "environment": "[environment](#environments)",
    "fits": "object of 5 numbers",
    "number": "number, `nan`, `inf` or `-inf`",
    "outcome": "outcome of a test",
    "time": "time",
    "words": "object of texts",
}

#: The pages, with the parts of their schemas that have a table of their own.
TABLES = {
    "report-json.md": (
        "report.schema.json",
        {
            "": "The document",
            "run": "run",
            "endpoints": "Each of endpoints",
            "analyses": "Each of analyses",
            "#hypothesis": "Each of hypotheses",
            "#trial": "Each of trials",
            "scaling": "Each of scaling",
            "#environment": "Environments",
        },
    ),
    "reference-file.md": (
        "reference.schema.json",
        {
            "": "The file",
            "known_issues": "Each of known_issues",
            "provenance": "Each of provenance",
            "patches": "Each of patches",
            "pool": "pool",
        },
    ),
}


def tables(schema: dict[str, Any], titles: dict[str, str]) -> str:
    """Return the tables of a schema as Markdown."""
    parts = {part: _found(schema, part) for part in titles}
    lines: list[str] = []
    for part, title in titles.items():
        lines += [f"## {title}", "", "| field | type | meaning |", "|---|---|---|"]
        others = [other for key, other in parts.items() if key != part]
        lines += [
            f"| `{name}` | {kind_of(field)}{'' if needed else ', optional'} | {_cell(field)} |"
            for name, field, needed in fields(parts[part], others)
        ]
        lines.append("")
    return "\n".join(lines)


def fields(
    schema: dict[str, Any], others: list[dict[str, Any]], before: str = ""
) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield the name of each field, its schema, and whether it must be there.

    What has a table of its own is named, and not gone into.
    """
    for name, field in schema.get("properties", {}).items():
        yield before + name, field, name in schema.get("required", ())
        inner, mark = _inner(field)
        if inner not in others:
            yield from fields(inner, others, f"{before}{name}{mark}.")


def _inner(field: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what a field holds: itself, or each of its items or values."""
    if isinstance(items := field.get("items"), dict):
        return items, "[]"
    if isinstance(values := field.get("additionalProperties"), dict):
        return values, ".NAME"
    return field, ""


def _found(schema: dict[str, Any], part: str) -> dict[str, Any]:
    if not part:
        return schema
    if part.startswith("#"):
        return schema["definitions"][part[1:]]
    return _inner(schema["properties"][part])[0]


def kind_of(field: dict[str, Any]) -> str:
    """Return what a value is, in words."""
    if "enum" in field:
        return ", ".join("null" if each is None else f"`{each}`" for each in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if "$ref" in field:
        return _WORDS[field["$ref"].rpartition("/")[2]]
    if "oneOf" in field:
        return " or ".join(kind_of(each) for each in field["oneOf"])
    kinds = field.get("type", "any")
    words = [_TYPES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    return " or ".join(words)


def _cell(field: dict[str, Any]) -> str:
    return str(field.get("description", "")).replace("|", "\\|")


def page(name: str) -> str:
    """Return a page with its tables as the schema has them."""
    file, titles = TABLES[name]
    schema = json.loads((SCHEMAS / file).read_text(encoding="utf-8"))
    before, _, after = (PAGES / name).read_text(encoding="utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n\n{tables(schema, titles)}\n{END}{after.partition(END)[2]}"


if __name__ == "__main__":
    for each in TABLES:
        (PAGES / each).write_text(page(each), encoding="utf-8")
