"""How endpoints are named, and what one of Globus Compute may be asked for."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas import engines
from pytest_pyhf_faas.engines import create_engine, read_endpoint_config, resolve_endpoint
from pytest_pyhf_faas.errors import ConfigurationError

UUID = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"


@pytest.fixture
def no_sdk(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)


@pytest.fixture
def sdk(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: object())


# Names


@pytest.mark.parametrize("spec", [UUID, UUID.upper(), f"  {UUID}\n", UUID.title()])
def test_an_endpoint_is_known_by_its_uuid_however_it_is_written(sdk, spec):
    assert resolve_endpoint(spec, {}) == UUID


def test_an_endpoint_may_have_a_name(sdk):
    assert resolve_endpoint("cluster", {"cluster": UUID.upper()}) == UUID


@pytest.mark.parametrize("spec", [UUID, UUID.upper()])
def test_without_the_sdk_a_uuid_says_what_to_install(no_sdk, spec):
    with pytest.raises(
        ConfigurationError, match=r"pip install 'pytest-pyhf-faas\[globus-compute\]'"
    ):
        resolve_endpoint(spec, {})


def test_without_the_sdk_other_endpoints_are_as_good_as_ever(no_sdk):
    assert resolve_endpoint("local:4", {}) == "local:4"


@pytest.mark.parametrize(
    "spec",
    [
        UUID[:-1],
        f"{UUID}0",
        UUID.replace("-", ""),
        f"{{{UUID}}}",
        f"urn:uuid:{UUID}",
        UUID.replace("a", "g"),
        f"x{UUID}",
        "",
    ],
)
def test_what_only_looks_like_a_uuid_is_refused_with_what_there_is(sdk, spec):
    with pytest.raises(ConfigurationError, match=r"the UUID of a funcX / Globus Compute endpoint"):
        resolve_endpoint(spec, {})


def test_an_engine_is_not_started_by_being_made():
    globus = pytest.importorskip("pytest_pyhf_faas.engines.globus_compute")
    config = {"user_endpoint_config": {"queue": "short"}}
    engine = create_engine(UUID, Path(), blocks=2, workers=3, config=config)
    assert isinstance(engine, globus.GlobusComputeEngine)
    assert (engine.spec, engine.workers, engine.ready_at) == (UUID, 6, None)
    assert config == {"user_endpoint_config": {"queue": "short"}}


def test_other_engines_need_no_sdk(monkeypatch):
    for name in ("globus_compute_sdk", "globus_sdk"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "pytest_pyhf_faas.engines.globus_compute", raising=False)
    assert create_engine("local:3", Path(), config={}).workers == 3


# What it is asked for

ASKED = {"max_blocks": 4, "partition": "short"}
SPECIFICATION = {"num_nodes": 2}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (ASKED, {"user_endpoint_config": ASKED}),
        ({}, {"user_endpoint_config": {}}),
        ({"user_endpoint_config": ASKED}, {"user_endpoint_config": ASKED}),
        ({"resource_specification": SPECIFICATION}, {"resource_specification": SPECIFICATION}),
        (
            {"user_endpoint_config": ASKED, "resource_specification": SPECIFICATION},
            {"user_endpoint_config": ASKED, "resource_specification": SPECIFICATION},
        ),
        ({"user_endpoint_config": {}}, {"user_endpoint_config": {}}),
    ],
)
@pytest.mark.parametrize("how", ["text", "spaces", "relative", "absolute"])
def test_it_is_read_from_text_and_from_files(tmp_path, written, read, how):
    text = json.dumps(written, indent=2)
    path = tmp_path / "deep" / "config.json"
    path.parent.mkdir()
    path.write_text(text)
    given = {
        "text": text,
        "spaces": f"\n {text}\n",
        "relative": "deep/config.json",
        "absolute": str(path),
    }
    assert read_endpoint_config(given[how], tmp_path) == read


@pytest.mark.parametrize(
    "text", ["missing.json", ".", "", "{", "{'a': 1}", "[1]", "4", "binary.json", "broken.json"]
)
def test_what_is_neither_json_nor_a_file_of_it_says_how_to_write_it(tmp_path, text):
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "broken.json").write_text('{"max_blocks": 4,}')
    with pytest.raises(ConfigurationError, match=r"neither JSON nor a file") as caught:
        read_endpoint_config(text, tmp_path)
    assert """--faas-endpoint-config='{"max_blocks": 4}'""" in str(caught.value)
    assert "--faas-endpoint-config FILE" in str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        [],
        3,
        None,
        "text",
        {"user_endpoint_config": None},
        {"user_endpoint_config": [1]},
        {"user_endpoint_config": {}, "resource_specification": 1},
        {"user_endpoint_config": {}, "max_blocks": 4},
        {"resource_specification": {}, "resource_spec": {}},
    ],
)
def test_another_shape_is_refused_with_the_right_one(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ConfigurationError, match=r"object with the keys user_endpoint_config and resource_specif"
    ):
        read_endpoint_config("config.json", tmp_path)


@settings(deadline=None, max_examples=200)
@given(
    content=st.text('{}[]:,"\\ \n', max_size=12)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(
                st.sampled_from(["user_endpoint_config", "resource_specification", "a"]), inner
            )
        ),
        max_leaves=6,
    ).map(json.dumps)
)
def test_whatever_is_written_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "config.json").write_text(content)
        found = []
        for text in (content, "config.json"):
            try:
                found.append(read_endpoint_config(text, Path(directory)))
            except ConfigurationError:
                continue
    keys = {"user_endpoint_config", "resource_specification"}
    for config in found:
        assert set(config) <= keys
        assert all(isinstance(value, dict) for value in config.values())
