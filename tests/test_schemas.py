"""Compiled schemas accept nothing that pyhf refuses."""

import copy
import importlib.machinery
import json
from pathlib import Path

import pyhf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_pyhf_faas
from pytest_pyhf_faas import schemas
from pytest_pyhf_faas.references.file import SCHEMA, read
from pytest_pyhf_faas.references.store import bundled_directory
from pytest_pyhf_faas.schemas import accepted_by_own_schema, accepted_by_pyhf_schema
from tests.helpers import paths

BUNDLED = Path(pytest_pyhf_faas.__file__).parent / "data" / "synthetic"
WORKSPACE = json.loads((BUNDLED / "BkgOnly.json").read_text())
PATCHSET = json.loads((BUNDLED / "patchset.json").read_text())
PATCHSET["patches"] = PATCHSET["patches"][:2]
REPLACEMENTS = (None, True, -1, 0.5, 1e308, "", "text", [], [1.0], {}, {"name": "x"}, "normsys")

pytestmark = pytest.mark.filterwarnings("ignore:jsonschema.RefResolver")


def places(value, path=()):
    """All paths into a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, (dict, list)):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


def harmed(value, path, replacement, how):
    value = copy.deepcopy(value)
    if not path:
        return replacement
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if how == "remove":
        del parent[path[-1]]
    elif how == "extend" and isinstance(parent[path[-1]], dict):
        parent[path[-1]]["unknown"] = replacement
    else:
        parent[path[-1]] = replacement
    return value


def pyhf_accepts(value, schema):
    try:
        pyhf.schema.validate(value, schema)
    except pyhf.exceptions.InvalidSpecification:
        return False
    return True


def judged_alike(value, schema, replacement):
    ours, theirs = accepted_by_pyhf_schema(value, schema), pyhf_accepts(value, schema)
    # pyhf takes true for the number 1, and is left to say so.
    assert ours == theirs or (theirs and replacement is True)


@pytest.mark.parametrize(
    ("value", "schema"), [(WORKSPACE, "workspace.json"), (PATCHSET, "patchset.json")]
)
def test_accepts_what_is_valid(value, schema):
    assert accepted_by_pyhf_schema(value, schema)
    assert pyhf_accepts(value, schema)


@pytest.mark.parametrize(
    ("value", "schema"), [(WORKSPACE, "workspace.json"), (PATCHSET, "patchset.json")]
)
def test_validating_changes_nothing(value, schema):
    before = copy.deepcopy(value)
    accepted_by_pyhf_schema(value, schema)
    assert value == before


@settings(max_examples=40, deadline=None)
@given(
    path=st.sampled_from(list(places(WORKSPACE))),
    replacement=st.sampled_from(REPLACEMENTS),
    how=st.sampled_from(["replace", "remove", "extend"]),
)
def test_a_harmed_workspace_is_judged_as_pyhf_does(path, replacement, how):
    judged_alike(harmed(WORKSPACE, path, replacement, how), "workspace.json", replacement)


@settings(max_examples=40, deadline=None)
@given(
    path=st.sampled_from(list(places(PATCHSET))),
    replacement=st.sampled_from(REPLACEMENTS),
    how=st.sampled_from(["replace", "remove", "extend"]),
)
def test_a_harmed_patchset_is_judged_as_pyhf_does(path, replacement, how):
    judged_alike(harmed(PATCHSET, path, replacement, how), "patchset.json", replacement)


def test_pyhf_is_asked_only_which_of_several_versions_it_uses(tmp_path, monkeypatch):
    ours = schemas._pyhf_schemas()
    assert ours == Path(str(pyhf.schema.path), pyhf.schema.version)
    for version in ("1.0.0", "2.0.0"):
        (tmp_path / "schemas" / version).mkdir(parents=True)
    spec = importlib.machinery.ModuleSpec("pyhf", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(schemas, "find_spec", lambda _name: spec)
    assert schemas._pyhf_schemas() == ours


STORED = paths.STORED / "references"


def test_own_schema_accepts_the_references_that_come_along():
    paths = sorted(bundled_directory().glob("*.json"))
    assert paths
    for path in (*paths, *STORED.glob("*.json")):
        assert accepted_by_own_schema(read(path), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"error": "pyhf.exceptions.InvalidModel"},
        {"nominal": {"CLs_obs": 0.1}},
        {"nominal": []},
        {"minima": {"free_fit_to_data": []}},
        {"search": {"free_fit_to_data": [1, 2, 3]}},
        {"checked": {"numpy+scipy": {"fit_s": 1.0, "set": "any"}}},
        {"local_minima": []},
    ],
    ids=str,
)
def test_own_schema_refuses_what_no_patch_has(change):
    data = read(bundled_directory() / "synthetic.json")
    next(iter(data["patches"].values())).update(change)
    assert not accepted_by_own_schema(data, SCHEMA)


@pytest.mark.parametrize(
    "pool",
    [{"points": []}, {"parameters": ["a"], "points": [["x"]]}, {"parameters": [1], "points": []}],
    ids=str,
)
def test_own_schema_refuses_what_is_no_pool(pool):
    data = read(bundled_directory() / "synthetic.json")
    assert accepted_by_own_schema({**data, "pool": {"parameters": ["a"], "points": [[1]]}}, SCHEMA)
    assert not accepted_by_own_schema({**data, "pool": pool}, SCHEMA)
