"""docs/reference: file formats, as the schemas and the code have them."""

from __future__ import annotations

import re

import pytest

from pytest_pyhf_faas.campaign import log
from pytest_pyhf_faas.gate import tables
from pytest_pyhf_faas.pallets import combination
from pytest_pyhf_faas.schemas import own_schema
from scripts import format_pages
from tests.helpers.paths import REPOSITORY

TEXT = (REPOSITORY / "docs" / "reference" / "file-formats.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", format_pages.TABLES)
def test_pages_of_schemas_are_as_the_script_writes_them(name):
    written = (format_pages.PAGES / name).read_text(encoding="utf-8")
    assert written == format_pages.page(name), "run python scripts/format_pages.py"


@pytest.mark.parametrize("name", format_pages.TABLES)
def test_each_field_is_described(name):
    file, _titles = format_pages.TABLES[name]
    schema = own_schema(file)
    parts = [schema, *schema["definitions"].values()]
    fields = [found for part in parts for found in format_pages.fields(part, [])]
    assert len(fields) > 80
    assert [name for name, field, _needed in fields if not field.get("description")] == []


def test_fields_are_named_with_what_they_are_in():
    schema = {
        "required": ["runs"],
        "properties": {
            "runs": {"items": {"properties": {"id": {"type": "string"}}}},
            "sizes": {"additionalProperties": {"properties": {"x": {"type": ["number", "null"]}}}},
        },
    }
    assert [(name, needed) for name, _field, needed in format_pages.fields(schema, [])] == [
        ("runs", True),
        ("runs[].id", False),
        ("sizes", False),
        ("sizes.NAME.x", False),
    ]
    assert format_pages.kind_of({"type": ["number", "null"]}) == "number or null"
    assert format_pages.kind_of({"enum": ["both", None]}) == "`both`, null"


def rows(section):
    """Return what stands in the first column of the tables of a section."""
    text = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    [found] = [part for part in text if part.startswith(section + "\n")]
    return [
        name
        for cells in re.findall(r"^\| ([^|]+) \|", found, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cells)
    ]


def test_combination_file():
    assert sorted(rows("Combination file")) == sorted(combination._KEYS)


def test_gate_file():
    assert sorted(rows("Gate file")) == sorted([*tables._KEYS, *tables._OF_A_PALLET])


def test_journal():
    of_the_file = ["journal", "worker", "result"]
    known = [*of_the_file, *log._EVENTS, *log._INSTRUCTIONS]
    assert sorted(set(rows("Journal"))) == sorted({*known, "event", "do"})
