"""The environments of many runs: read from directories, named, and what they differ in."""

from __future__ import annotations

import json

import pytest

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.many.cell import Cell, named, read_cell
from pytest_pyhf_faas.report.many.factors import factors_of, order_of, with_asked
from tests.helpers import report_documents as make


def run_of(backend="numpy", optimizer="scipy", **versions):
    config = {"backend": backend, "optimizer": optimizer, "test_poi": 1.0, "method": "hypotest"}
    return make.document(
        [make.analysis([make.hypothesis()], config=config, fit_setup=f"{backend}+{optimizer}")],
        environments=[make.environment(backend=backend, optimizer=optimizer, versions=versions)],
    )


def write(directory, document=None, **told):
    if document is not None:
        documents.write(document, directory)
    if told:
        directory.mkdir(exist_ok=True)
        (directory / "cell.json").write_text(json.dumps(told))
    return directory


def test_a_report_with_what_was_asked_for(tmp_path):
    asked = {"pyhf": "0.7.6", "scipy": "1.17"}
    place = write(tmp_path / "a", run_of(), name="the last release", factors=asked)
    cell = read_cell(place)
    assert (cell.name, cell.factors, cell.reason) == ("the last release", asked, None)
    assert cell.document == documents.read(place)
    assert cell.directory == place
    assert cell.environment["scipy"] == "1.17.1"
    assert read_cell(place / "report.json") == cell


def test_an_environment_without_a_run_has_its_reason(tmp_path):
    told = {"name": "old", "factors": {"pyhf": "0.7.0"}, "reason": "cannot be installed"}
    cell = read_cell(write(tmp_path / "a", **told))
    assert (cell.document, cell.reason) == (None, "cannot be installed")
    assert cell.environment == {"pyhf": "0.7.0"}
    assert read_cell(write(tmp_path / "b", name="b", factors={})).reason == "it has no report"
    cut_off = write(tmp_path / "c", name="c", factors={})
    (cut_off / "report.json").write_text("{")
    assert read_cell(cut_off).reason.startswith("the report ")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"name": "a"}',
        '{"name": 1, "factors": {}}',
        '{"name": "a", "factors": {"pyhf": 7}}',
        '{"name": "a", "factors": {}, "reason": []}',
    ],
)
def test_a_file_that_is_no_environment_is_named(tmp_path, text):
    (tmp_path / "cell.json").write_text(text)
    with pytest.raises(ReportError, match=r"cell\.json.* Run the gate again"):
        read_cell(tmp_path)


def test_a_directory_without_either_is_an_error(tmp_path):
    with pytest.raises(ReportError, match="cannot be read"):
        read_cell(tmp_path)


def names(*documents_or_cells):
    cells = [each if isinstance(each, Cell) else Cell("", {}, each) for each in documents_or_cells]
    return [cell.name for cell in named(cells)]


def test_what_tells_an_environment_from_the_others_is_its_name(tmp_path):
    old, new = {"pyhf": "0.7.0", "numpy": "1.26.4"}, {"pyhf": "0.7.6", "numpy": "2.4.6"}
    # NumPy goes with pyhf, and is not needed to tell them apart.
    assert names(run_of(**old), run_of(**new), run_of(optimizer="minuit", **new)) == [
        "pyhf 0.7.0, scipy",
        "pyhf 0.7.6, scipy",
        "pyhf 0.7.6, minuit",
    ]
    same = [Cell("", {}, run_of(), directory=tmp_path / each) for each in ("a", "b")]
    assert names(*same) == ["a", "b"]
    assert names(same[0], same[0]) == ["a", "a (2)"]
    told = [Cell("gate", {}, None, directory=tmp_path / each) for each in ("a", "b")]
    assert names(*told, run_of()) == ["gate, a", "gate, b", "pyhf 0.7.6"]


def test_a_package_that_is_not_used_is_no_factor():
    installed = {"iminuit": "2.33.0", "jax": "0.10.2", "jaxlib": "0.10.2"}
    found = factors_of(run_of(**installed))
    assert not set(installed) & set(found)
    assert found["numpy"] == "2.4.6"
    assert set(installed) & set(factors_of(run_of("jax", "minuit", **installed))) == set(installed)


def test_the_machine_and_the_inputs_are_factors_and_a_host_is_none():
    found = factors_of(run_of())
    assert found["cpu"] == "Some CPU @ 2.50GHz"
    assert found["python"] == "3.11.7"
    assert found["OMP_NUM_THREADS"] == "1"
    assert found["background of wino"] == "0" * 12
    assert "node1" not in found.values()


def test_a_checkout_is_not_taken_for_the_release_whose_version_it_has():
    real = {"pyhf": "0.7.6", "scipy": "1.14.1"}
    asked = {"pyhf": "main", "scipy": "1.14", "optimizer": "minuit"}
    assert with_asked(real, asked) == {
        "pyhf": "0.7.6 (main)",
        "scipy": "1.14.1",
        "optimizer": "minuit",
    }
    assert with_asked({"scipy": "1.14.1"}, {"scipy": "1.1"}) == {"scipy": "1.14.1 (1.1)"}


def test_versions_have_the_order_of_versions():
    values = ["scipy", "1.14.1", "0.7.6+planted", "1.9.3", "0.7.6", "0.7.6 (main)", "minuit"]
    assert sorted(values, key=order_of) == [
        *("0.7.6", "0.7.6 (main)", "0.7.6+planted", "1.9.3", "1.14.1"),
        *("minuit", "scipy"),
    ]
