"""What the paths of options and markers are relative to."""

from __future__ import annotations

import json

import pytest

from pytest_pyhf_faas.plugin import values


@pytest.fixture
def elsewhere(project, monkeypatch):
    """A project with its pallet in a directory, and a working directory beside that."""
    project.pallet(2, name="analysis")
    (project.path / "likelihoods").mkdir()
    (project.path / "analysis").rename(project.path / "likelihoods" / "analysis")
    (project.path / "reference_results").rename(project.path / "refs")
    (project.path / "below").mkdir()
    monkeypatch.chdir(project.path / "below")
    return project


def ini(project, **keys):
    lines = (f"{key} = {json.dumps(value)}" for key, value in keys.items())
    (project.path / "pyproject.toml").write_text("\n".join(["[tool.pytest.ini_options]", *lines]))


def test_paths_of_the_ini_file_are_relative_to_it(elsewhere):
    ini(
        elsewhere,
        faas_pallet=["likelihoods/analysis"],
        faas_reference_dir="refs",
        faas_report="report",
        faas_endpoint_config="asked.json",
    )
    (elsewhere.path / "asked.json").write_text('{"max_blocks": 2}')
    file = elsewhere.path / "refs" / "analysis.json"
    data = json.loads(file.read_text())
    data["patches"]["sig_100_0"]["CLs_obs"] = 0.9
    file.write_text(json.dumps(data))
    result = elsewhere.run("-k", "test_cls", pallet=None)
    result.assert_outcomes(passed=1, failed=1, deselected=1)
    assert (elsewhere.path / "report" / "report.json").exists()
    path = elsewhere.path / "likelihoods" / "analysis"
    assert f"--faas-pallet={path} " in elsewhere.text(result)
    assert f"--faas-reference-dir={elsewhere.path}/refs" in elsewhere.text(result)


def test_those_of_the_command_line_are_relative_to_where_it_is_typed(elsewhere):
    ini(elsewhere, faas_pallet=["no/such/directory"], faas_reference_dir="nowhere")
    words = ("--faas-pallet=../likelihoods/analysis", "--faas-reference-dir=../refs")
    elsewhere.run(*words, "-k", "test_cls", pallet=None).assert_outcomes(passed=2, deselected=1)


@pytest.mark.parametrize("path", ["../likelihoods/analysis", "likelihoods/analysis"])
def test_those_of_a_marker_are_relative_to_the_file_of_the_test_or_the_rootdir(elsewhere, path):
    ini(elsewhere, faas_reference_dir="refs")
    (elsewhere.path / "tests").mkdir()
    (elsewhere.path / "tests" / "test_mine.py").write_text(
        f"import pytest\n\n@pytest.mark.pallet({path!r})\n"
        "def test_cls(hypotest_result):\n    pass\n"
    )
    result = elsewhere.run("../tests", suite=False, pallet=None)
    result.assert_outcomes(passed=2)


def test_what_is_no_path_stays_what_it_is(tmp_path):
    assert values.path_or_name_from(tmp_path, "1Lbb") == "1Lbb"
    assert values.path_or_name_from(tmp_path, '{"max_blocks": 2}') == '{"max_blocks": 2}'
    assert values.path_or_name_from(tmp_path, "x" * 5000) == "x" * 5000
    assert values.endpoint_from(tmp_path, "local:2") == "local:2"
    assert values.endpoint_from(tmp_path, "farm") == "farm"


def test_what_is_a_path_is_found_from_anywhere(tmp_path):
    (tmp_path / "1Lbb").mkdir()
    assert values.path_or_name_from(tmp_path, "1Lbb") == f"{tmp_path}/1Lbb"
    assert values.path_from(tmp_path, "new") == f"{tmp_path}/new"
    assert values.path_from(tmp_path, "/new") == "/new"
    assert values.endpoint_from(tmp_path, "parsl:a.py") == f"parsl:{tmp_path}/a.py"
    assert values.endpoint_from(tmp_path, "parsl:/a.py") == "parsl:/a.py"
