"""versions.py: what the values of a factor mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.versions import MAIN, anywhere, needs_index, parse, resolved

INDEX = ["0.6.3", "0.7.0rc1", "0.7.0", "0.7.1", "0.7.6", "0.8.0rc1", "not a version", "1.9.3"]


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("0.7.6", "pyhf==0.7.6"),
        ("0.7", "pyhf==0.7.*"),
        ("1", "pyhf==1.*"),
        ("0.8.0rc1", "pyhf==0.8.0rc1"),
        ("0.8rc1", "pyhf==0.8rc1"),
        ("0.7.6+planted", "pyhf==0.7.6+planted"),
    ],
)
def test_a_version_and_a_series(tmp_path, text, requirement):
    assert parse("pyhf", text, tmp_path).requirement("pyhf") == requirement


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "pyhf").mkdir()
    (tmp_path / "1.9").mkdir()
    (tmp_path / "pyhf-0.8.0rc1-py3-none-any.whl").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "label", "source"),
    [
        ("./pyhf", "pyhf", "pyhf"),
        ("pyhf @ pyhf", "pyhf", "pyhf"),
        ("pyhf", "pyhf", "pyhf"),
        ("branch=./pyhf/", "branch", "pyhf"),
        ("pyhf-0.8.0rc1-py3-none-any.whl", "0.8.0rc1", "pyhf-0.8.0rc1-py3-none-any.whl"),
    ],
)
def test_a_source_on_this_machine(sources, text, label, source):
    value = parse("pyhf", text, sources)
    assert (value.label, value.source) == (label, str(sources / source))
    assert value.requirement("pyhf") == "pyhf"
    assert parse("pyhf", anywhere(text, sources), sources / "1.9") == value


def test_a_source_elsewhere(tmp_path):
    assert parse("pyhf", "main", tmp_path).source == MAIN["pyhf", "main"]
    assert parse("pyhf", "main", tmp_path).label == "main"
    address = "git+https://github.com/someone/pyhf.git@fix-1"
    assert parse("pyhf", f"pyhf @ {address}", tmp_path).source == address
    assert parse("pyhf", f"fix={address}", tmp_path).label == "fix"
    assert parse("pyhf", f"fix={address}", tmp_path).source == address


def test_a_directory_that_is_called_as_a_version_is_none(sources):
    assert parse("scipy", "1.9", sources).source is None


@pytest.mark.parametrize("text", ["newest", "./nowhere", "nowhere.whl", "0.7.x", "main="])
def test_what_is_no_value_is_refused(tmp_path, text):
    with pytest.raises(ConfigurationError, match="pyhf"):
        parse("pyhf", text, tmp_path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.7.6", ["0.7.6"]),
        ("0.7.0..0.7.6", ["0.7.0", "0.7.1", "0.7.6"]),
        ("0.7.0rc1..0.7.1", ["0.7.0rc1", "0.7.0", "0.7.1"]),
        ("0.6..1.9", ["0.6", "0.7", "1.9"]),
        ("latest", ["1.9.3"]),
        ("pre", ["1.9.3"]),
        ("../pyhf", ["../pyhf"]),
    ],
)
def test_a_range_has_what_the_index_has(text, values):
    assert resolved("pyhf", text, lambda _name: INDEX) == values


def test_the_newest_may_be_a_candidate():
    assert resolved("pyhf", "pre", lambda _name: INDEX[:-1]) == ["0.8.0rc1"]
    assert resolved("pyhf", "latest", lambda _name: INDEX[:-1]) == ["0.7.6"]


@pytest.mark.parametrize("text", ["2.0..3.0", "0.7.6..0.7.0", "0.7..", "a..b", "1..2..3"])
def test_a_range_of_nothing_is_refused(text):
    with pytest.raises(ConfigurationError, match="pyhf"):
        resolved("pyhf", text, lambda _name: INDEX)


def test_the_index_is_asked_only_where_it_must(monkeypatch):
    assert not needs_index("0.7.6")
    assert resolved("pyhf", "0.7.6", lambda _name: pytest.fail("it was asked")) == ["0.7.6"]


numbers = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@given(numbers, numbers)
def test_a_series_has_all_its_versions_and_no_other(asked, other):
    """Of a version, that alone; numbers that are missing are zeros."""
    from pathlib import Path

    texts = [".".join(map(str, each)) for each in (asked, other)]
    requirement = parse("scipy", texts[0], Path()).requirement("scipy")
    allowed = SpecifierSet(requirement.removeprefix("scipy")).contains(texts[1])
    padded = [*other, 0, 0, 0, 0]
    if len(asked) < 3:
        assert allowed == (padded[: len(asked)] == asked)
    else:
        assert allowed == (padded[:4] == [*asked, 0][:4])
