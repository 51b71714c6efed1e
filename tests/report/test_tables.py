"""What a run gives to others: `cls.csv`, and a submission to HEPData."""

import csv
import json

import pytest
import yaml

from pytest_pyhf_faas.report import csv_tables, hepdata, publish
from pytest_pyhf_faas.report.quantity import CLS, LIMITS
from tests.helpers import report_documents as make


def table(document, directory, quantity=CLS):
    csv_tables.write(document, directory)
    with (directory / quantity.file).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def submission(document, directory):
    """Return the documents of a submission, and its tables by the names of their files."""
    hepdata.write(document, directory)
    target = directory / hepdata.DIRECTORY
    first, *entries = yaml.safe_load_all((target / hepdata.SUBMISSION).read_text("utf-8"))
    tables = [yaml.safe_load((target / each["data_file"]).read_text("utf-8")) for each in entries]
    return first, entries, tables


# cls.csv


def test_each_hypothesis_has_a_row_with_all_that_is_known(tmp_path):
    two = make.ambiguous("two", (300, 100))
    found = [two, make.wrong("off", (400, 100)), make.broken("lost", (500, 0))]
    document = make.document([make.analysis(found), make.analysis(pallet="bino", labels=["tau"])])
    first, off, lost, *others = table(document, tmp_path)
    assert (first["pallet"], first["patch"]) == ("wino", "two")
    assert (first["endpoint"], first["fit_setup"]) == ("local:2", "numpy+scipy")
    assert (first["m1"], first["m2"], first["tau"]) == ("300", "100", "")
    assert [float(first[name]) for name in csv_tables.six_columns(CLS)] == two["CLs"]
    assert [float(first[f"reference_{name}"]) for name in csv_tables.six_columns(CLS)] == two[
        "reference"
    ]["CLs"]
    assert (first["lowest_CLs_obs"], first["nominal_CLs_obs"]) == ("0.0684", "0.0435")
    assert float(first["nominal_CLs_exp"]) == two["ambiguous"]["nominal"][3]
    assert (first["minimum_set"], first["verdict"], first["fit_s"]) == ("nominal", "right", "2.5")
    assert (off["verdict"], off["lowest_CLs_obs"]) == ("wrong", "")
    assert (lost["verdict"], lost["error"], lost["CLs_obs"], lost["fit_s"]) == (
        *("broken", "broken"),
        *("", ""),
    )
    assert {(row["m1"], row["pallet"]) for row in others} == {("", "bino")}
    assert {row["tau"] for row in others} == {"200", "400", "600", "800", "1000"}


def test_labels_of_any_name_have_columns_of_their_own(tmp_path):
    labels = ["patch", "CLs_obs", "patch (label)", 'a,b\n"c"']
    one = make.hypothesis("p", (1, 2, 3, 4), CLs=["nan", *make.cls_of(1, 2)[1:]])
    (row,) = table(make.document([make.analysis([one], labels=labels)]), tmp_path)
    assert (row["patch"], row["CLs_obs"]) == ("p", "nan")
    assert (row["patch (label)"], row["CLs_obs (label)"]) == ("1", "2")
    assert (row["patch (label) (label)"], row['a,b\n"c"']) == ("3", "4")


def test_limits_have_a_table_of_their_own(tmp_path):
    two = {"lowest": [2.0] * 6, "nominal": [3.0] * 6, "remarks": ["a bound", "a jump"]}
    found = [make.limited("two", (300, 100), limits=two), make.broken("lost", (500, 0))]
    document = make.document([make.analysis([make.hypothesis("one")]), make.limits(found)])
    assert [row["patch"] for row in table(document, tmp_path)] == ["one"]
    first, lost = table(document, tmp_path, LIMITS)
    known = make.limits_of(300, 100)
    six = csv_tables.six_columns(LIMITS)
    assert six[:2] == ("limit_obs", "limit_exp_-2sigma")
    assert [float(first[name]) for name in six] == known
    assert [float(first[f"reference_{name}"]) for name in six] == known
    assert (first["lowest_limit_obs"], first["nominal_limit_exp"]) == ("2.0", "3.0")
    assert (first["m1"], first["verdict"], first["remarks"]) == ("300", "right", "a bound; a jump")
    assert (lost["verdict"], lost["limit_obs"], lost["reference_limit_obs"]) == ("broken", "", "")
    csv_tables.write(make.document(), tmp_path)
    assert not (tmp_path / LIMITS.file).exists()


# HEPData


def test_a_submission_has_a_table_of_each_analysis(tmp_path):
    found = [make.hypothesis(values=(300, 100)), make.hypothesis("b", values=(300, "heavy"))]
    labels = ["m1_GeV", "kind"]
    first, entries, (data, _other) = submission(
        make.document(
            [make.analysis(found, labels=labels, doi="10.1/x"), make.analysis(pallet="bino")]
        ),
        tmp_path,
    )
    assert "20261122T150823Z-0123abcd" in first["comment"]
    assert [each["name"] for each in entries] == ["CLs of wino", "CLs of bino"]
    assert "2 signal hypotheses" in entries[0]["description"]
    assert "doi:10.1/x" in entries[0]["description"]
    mass, kind, patch = data["independent_variables"]
    assert mass["header"] == {"name": "m1", "units": "GeV"}
    assert kind["header"] == {"name": "kind"}
    assert [each["value"] for each in kind["values"]] == [100, "heavy"]
    assert patch["header"] == {"name": "patch name"}
    assert [each["value"] for each in patch["values"]] == ["wino_300_100", "b"]
    observed, expected = data["dependent_variables"]
    cls = make.cls_of(300, 100)
    assert observed["values"][0]["value"] == cls[0]
    value = expected["values"][0]
    assert value["value"] == cls[3]
    for error, low, high in zip(value["errors"], (cls[2], cls[1]), (cls[4], cls[5]), strict=True):
        edges = error["asymerror"]
        assert value["value"] + edges["minus"] == pytest.approx(low, rel=1e-12)
        assert value["value"] + edges["plus"] == pytest.approx(high, rel=1e-12)
    assert [error["label"] for error in value["errors"]] == ["1 sigma", "2 sigma"]


def test_what_was_shown_to_be_wrong_is_not_published(tmp_path):
    found = [
        make.hypothesis("right", (1, 1)),
        make.hypothesis("new", (2, 1), verdict="no reference", reference=None),
        make.hypothesis("known", (3, 1), verdict="known issue"),
        make.wrong("off", (4, 1)),
        make.wrong("mixed", (5, 1), verdict="mixed"),
        make.broken("lost", (6, 1)),
        make.ambiguous("two", (7, 1)),
    ]
    _first, (entry,), (data,) = submission(make.document([make.analysis(found)]), tmp_path)
    first = data["independent_variables"][0]
    assert [each["value"] for each in first["values"]] == [1, 2, 7]
    for word in (
        "1 hypothesis with the verdict 'wrong'",
        "1 hypothesis with the verdict 'mixed'",
        "1 hypothesis with the verdict 'known issue'",
        "1 hypothesis without CLs",
        "1 hypothesis of the table was not compared with a reference",
        "The likelihood of 1 hypothesis has two sets of minima",
    ):
        assert word in entry["description"]


def test_limits_are_published_next_to_cls(tmp_path):
    found = [make.limited("one", (1, 1)), make.wrong_limit("off", (4, 1))]
    _first, (_cls, entry), (_, data) = submission(
        make.document([make.analysis(), make.limits(found)]), tmp_path
    )
    assert entry["name"] == "Upper limits of wino"
    assert entry["data_file"] == "limits-1-wino.yaml"
    assert (
        "Observed and expected upper limits on the POI at 95 % CL (CLs) of wino"
        in (entry["description"])
    )
    assert "1 hypothesis with the verdict 'wrong'" in entry["description"]
    observed, expected = data["dependent_variables"]
    known = make.limits_of(1, 1)
    assert observed["header"] == {"name": "Observed upper limit"}
    assert observed["values"] == [{"value": known[0]}]
    assert expected["values"][0]["value"] == known[3]
    assert not any(each["name"] == "POI" for each in observed["qualifiers"])


def test_a_small_value_of_a_band_keeps_its_digits(tmp_path):
    small = 1.234567e-7
    found = make.hypothesis(CLs=[0.2, small, 0.01, 0.3, 0.4, 0.5])
    *_, (data,) = submission(make.document([make.analysis([found])]), tmp_path)
    value = data["dependent_variables"][1]["values"][0]
    minus = value["errors"][1]["asymerror"]["minus"]
    assert value["value"] + minus == pytest.approx(small, rel=1e-6)


def test_an_earlier_submission_is_replaced(tmp_path):
    hepdata.write(make.document([make.analysis(), make.analysis(pallet="bino")]), tmp_path)
    _first, entries, _tables = submission(make.document(), tmp_path)
    written = {path.name for path in (tmp_path / hepdata.DIRECTORY).iterdir()}
    assert written == {hepdata.SUBMISSION, *(each["data_file"] for each in entries)}
    hepdata.write(make.document([make.analysis([make.broken()])]), tmp_path)
    assert list((tmp_path / hepdata.DIRECTORY).iterdir()) == []


ANY = "é<{\"\n\t%&*!|>'@`[]#,: - ~\x00\ud800" + "n" * 120


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # by the validator
def test_hepdata_accepts_what_a_run_can_hold(tmp_path):
    validators = pytest.importorskip("hepdata_validator.full_submission_validator")
    cls = make.cls_of(1, 1)
    found = [
        make.hypothesis("100-200", ("100-200", "1e3 - 2")),
        make.hypothesis("same", (1, 1), CLs=[0.5] * 6),
        make.hypothesis("tiny", (1e-5, -1), CLs=[1e-300, 0.0, 0.0, 0.0, 1e-5, 1.0]),
        make.hypothesis("nan", (2, 2), CLs=["nan", *cls[1:4], "inf", "nan"]),
        make.hypothesis(ANY, (ANY, ANY)),
        make.hypothesis("few", (1,)),
        make.ambiguous("two", (7, 1)),
    ]
    limits = [make.limited("none", (1, 2), limits={"values": ["inf", 0.0, 1.0, 2.0, "inf", "inf"]})]
    document = make.document(
        [
            make.analysis(found, pallet=ANY, labels=[ANY, "m_GeV"], endpoint="local"),
            make.analysis(found, pallet=ANY, labels=[ANY, "m_GeV"], synthetic=True),
            make.analysis(pallet=ANY, labels=[]),
            make.analysis([]),
            make.limits([make.limited(ANY, (ANY, 1)), *limits], pallet=ANY),
        ]
    )
    hepdata.write(document, tmp_path)
    validator = validators.FullSubmissionValidator()
    accepted = validator.validate(directory=str(tmp_path / hepdata.DIRECTORY))
    assert accepted, [each.message for some in validator.messages.values() for each in some]
    assert len(validator.submission_docs) == 5


# With the rest of a report


def test_plots_of_an_earlier_run_are_gone_and_files_of_others_stay(tmp_path):
    publish.publish(make.document([make.analysis(), make.analysis(pallet="bino")]), tmp_path)
    mine = tmp_path / "plots" / "mine.svg"
    mine.touch()
    assert publish.publish(make.document([make.analysis([make.hypothesis()])]), tmp_path) == []
    left = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert left == {"mine", "where_the_time_went", "cls_difference-0-wino", "timeline-0-wino"}


def test_one_part_that_fails_takes_no_other_down(tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("pytest_pyhf_faas.report.plots.draw", lambda _document: [])
    monkeypatch.setattr(hepdata, "_table", broken)
    (problem,) = publish.publish(make.document(), tmp_path)
    assert problem.startswith("the HEPData submission of the report could not be made (ZeroDiv")
    assert f"pyhf-faas report {tmp_path}" in problem
    assert (tmp_path / CLS.file).is_file()
    assert (tmp_path / publish.PAGE).is_file()
    assert json.loads((tmp_path / "report.json").read_text())["analyses"]
