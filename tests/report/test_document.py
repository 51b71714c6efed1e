"""The report of a run is written whole or not at all, and what is read is one."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import TypedDict, is_typeddict

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.times import Trial
from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import form
from pytest_pyhf_faas.report.document import FILE, SCHEMA, VERSION, read, write
from pytest_pyhf_faas.schemas import accepted_by_own_schema, own_schema
from tests.helpers import report_documents as make
from tests.helpers.paths import REPOSITORY, STORED

DOCS = REPOSITORY / "docs" / "reference" / "report-json.md"
REPORTS = STORED / "reports"
#: All that Python can hold; two surrogates that make one letter come back as that letter.
names = st.text(st.characters(exclude_categories=())).filter(
    lambda name: not re.search("[\ud800-\udbff][\udc00-\udfff]", name)
)
finite = st.floats(allow_nan=False, allow_infinity=False)
numbers = finite | st.sampled_from(["nan", "inf", "-inf"])


@st.composite
def documents(draw):
    hypothesis = make.hypothesis(
        draw(names),
        draw(st.lists(finite | names, max_size=3)),
        title=draw(names),
        CLs=draw(st.none() | st.lists(numbers, min_size=6, max_size=6)),
        mu_hat=draw(st.none() | numbers),
        error=draw(
            st.none() | st.fixed_dictionaries({"type": names, "message": names, "traceback": names})
        ),
    )
    return make.document(
        [make.analysis([hypothesis], pallet=draw(names), config={draw(names): draw(finite)})],
        notes=draw(st.lists(names, max_size=2)),
    )


def changed(document, path, value):
    """Put a value somewhere into a document; the path ends with a key."""
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def refused(path):
    """Return what is said of a report that cannot be read."""
    with pytest.raises(ReportError) as raised:
        read(path)
    message = str(raised.value)
    assert message.startswith(f"the report {path}")
    assert len(message) < 1000
    assert "\n" not in message
    return message


def saved(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_a_stored_report_of_today_is_read():
    path = REPORTS / f"version_{VERSION}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert read(path) == stored
    verdicts = [each["verdict"] for each in stored["analyses"][0]["hypotheses"]]
    assert verdicts == ["right"] * 4


@pytest.mark.parametrize("version", [1, 2])
def test_a_report_of_an_earlier_version_is_read_as_one_of_today(version):
    path = REPORTS / f"version_{version}.json"
    old, new = json.loads(path.read_text()), read(path)
    assert old["schema_version"] == version
    assert new["schema_version"] == VERSION
    for part in ("analyses", "scaling"):
        assert old[part]
        for before, after in zip(old[part], new[part], strict=True):
            expected = {**before, "fit_setup": before["combination"]}
            del expected["combination"]
            assert {**after, "hypotheses": 0} == {**expected, "hypotheses": 0}
    parts = ("run", "client", "environments", "endpoints", "notes")
    assert {part: new[part] for part in parts} == {part: old[part] for part in parts}
    pairs = zip(old["analyses"][0]["hypotheses"], new["analyses"][0]["hypotheses"], strict=True)
    for before, after in pairs:
        verdict = {"mended": "fixed"}.get(before["verdict"], before["verdict"])
        unknown = {"minimum_set": None, "ambiguous": None}
        assert after == {**unknown, **before, "verdict": verdict}
    assert "fixed" in [each["verdict"] for each in new["analyses"][0]["hypotheses"]]


@pytest.mark.parametrize(
    "change",
    [
        lambda old: old.update(analyses=3),
        lambda old: old["analyses"][0].pop("combination"),
        lambda old: old["analyses"][0]["hypotheses"][0].pop("verdict"),
        lambda old: old["scaling"][0].update(fit_setup="x", combination="y", unit="z"),
    ],
)
def test_a_damaged_report_of_an_earlier_version_is_refused(tmp_path, change):
    old = json.loads((REPORTS / "version_2.json").read_text())
    change(old)
    assert "is not valid: " in refused(saved(tmp_path / FILE, old))


def test_its_schema_is_valid_and_accepts_what_the_tests_build():
    schema = own_schema(SCHEMA)
    jsonschema.Draft7Validator.check_schema(schema)
    documents = [
        make.document(),
        make.document([], environments=[], scaling=[make.scaling()]),
        make.document(
            [make.analysis([make.wrong(), make.broken()], wall_time=None, timeline=None)]
        ),
        make.document([make.analysis([make.ambiguous(), make.hypothesis(verdict="mixed")])]),
    ]
    for document in documents:
        jsonschema.Draft7Validator(schema).validate(document)
        assert accepted_by_own_schema(document, SCHEMA)


@settings(max_examples=60, deadline=None)
@given(document=documents())
def test_what_was_written_is_read_back(tmp_path_factory, document):
    directory = tmp_path_factory.getbasetemp() / "written" / "deeper"
    path = write(document, directory)
    assert path == directory / FILE
    assert read(directory) == read(path) == document
    assert [each.name for each in directory.iterdir()] == [FILE]
    json.loads(path.read_text(encoding="utf-8"))


def test_ten_thousand_hypotheses_and_a_long_error(tmp_path):
    found = [make.hypothesis(f"p{number}") for number in range(10_000)]
    document = make.document(
        [make.analysis([*found, make.broken(message="no memory\n" * 100_000)])]
    )
    assert read(write(document, tmp_path)) == document


def test_no_report(tmp_path):
    remedy = "Give the directory that --faas-report wrote, or the report.json in it"
    assert remedy in refused(tmp_path / "absent")
    with pytest.raises(ReportError, match=f"{FILE} cannot be read: No such file"):
        read(tmp_path)
    assert "File name too long" in refused(tmp_path / ("x" * 300))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        json.dumps(make.document())[:-100],
        "[" * 100_000,
        json.dumps(make.document()).replace('"mu_hat": 0.1', '"mu_hat": NaN', 1),
    ],
    ids=["empty", "words", "cut off", "deep", "NaN"],
)
def test_what_is_not_json(tmp_path, text):
    message = refused(saved(tmp_path / FILE, text))
    assert "is not JSON" in message
    assert "Run again with --faas-report" in message


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / FILE
    path.write_bytes(b"\xff\xfe{}")
    assert "is not JSON" in refused(path)


def test_a_later_version(tmp_path):
    path = saved(tmp_path / FILE, {"schema_version": VERSION + 1, "new": True})
    assert "has version 4, this package reads only up to 3: upgrade" in refused(path)


@pytest.mark.parametrize("value", [[], '"report"', None, 1, [make.document()]])
def test_what_is_not_an_object(tmp_path, value):
    message = refused(saved(tmp_path / FILE, value))
    assert "is not valid: the top level: " in message
    assert "is not of type 'object'. Run again with --faas-report" in message


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("schema_version",), 0, "schema_version: 3 was expected"),
        (("run", "seconds"), "long", "run/seconds: 'long' is not of type 'number'"),
        (("run", "id"), "../evil", "run/id: '../evil' does not match"),
        (("analyses", 0, "hypotheses", 3, "attempts"), -1, "analyses/0/hypotheses/3/attempts: -1"),
        (("analyses", 0, "hypotheses", 3, "CLs"), [0.1] * 5, "analyses/0/hypotheses/3/CLs: "),
        (("analyses", 0, "hypotheses", 3, "verdict"), "fine", "hypotheses/3/verdict: 'fine'"),
        (("analyses", 0, "hypotheses", 3, "minimum_set"), "some", "minimum_set: 'some'"),
        (("analyses", 0, "hypotheses", 3, "ambiguous"), {}, "hypotheses/3/ambiguous: "),
        (("analyses", 0, "wall_time", "trials"), [], "analyses/0/wall_time/trials: "),
        (("unknown",), 1, "the top level: Additional properties are not allowed ('unknown'"),
        (("notes",), {"x": "y" * 10_000}, "y'} is not of type 'array'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, path, value, said):
    document = changed(make.document(), path, value)
    message = refused(saved(tmp_path / FILE, document))
    assert said in message
    assert message.endswith("Run again with --faas-report")


def test_what_is_missing_is_named(tmp_path):
    document = make.document()
    del document["client"]["host"]
    assert "client: 'host' is a required property" in refused(saved(tmp_path / FILE, document))


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ReportError, match=r"cannot be written to .* another directory"):
            write(make.document(), directory)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_earlier_report_whole(tmp_path, monkeypatch, error):
    earlier = make.document()
    write(earlier, tmp_path)
    write_text = Path.write_text

    def half(path, text, **options):
        write_text(path, text[: len(text) // 2], **options)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", half)
        with pytest.raises((ReportError, KeyboardInterrupt)):
            write(make.document(notes=["later"]), tmp_path)
    assert read(tmp_path) == earlier
    write(make.document(notes=["later"]), tmp_path)
    assert read(tmp_path)["notes"] == ["later"]


def test_what_json_cannot_say_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(make.document([make.analysis([make.hypothesis(mu_hat=float("nan"))])]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_docs_name_every_verdict():
    text = DOCS.read_text(encoding="utf-8")
    hypothesis = own_schema(SCHEMA)["definitions"]["hypothesis"]["properties"]
    assert [
        verdict for verdict in hypothesis["verdict"]["enum"] if f"`{verdict}`" not in text
    ] == []


# The types


def _object(place):
    schema = own_schema(SCHEMA)
    found = schema
    for part in place:
        found = found[part]
    return found


FORMS = {
    form.Document: (),
    form.Run: ("properties", "run"),
    form.Fits: ("properties", "run", "properties", "fits"),
    form.TestFailure: ("properties", "run", "properties", "failures", "items"),
    form.Environment: ("definitions", "environment"),
    form.Endpoint: ("properties", "endpoints", "items"),
    form.EndpointFinding: (
        *("properties", "endpoints", "items", "properties", "findings", "items"),
    ),
    form.EndpointFailure: (
        *("properties", "endpoints", "items", "properties", "failures", "items"),
    ),
    form.Analysis: ("properties", "analyses", "items"),
    form.MadeReferences: ("properties", "analyses", "items", "properties", "reference"),
    form.WallTimeEntry: ("properties", "analyses", "items", "properties", "wall_time"),
    form.TrialEntry: ("definitions", "trial"),
    form.TimelineEntry: ("properties", "analyses", "items", "properties", "timeline"),
    form.TimelineWorker: (
        *("properties", "analyses", "items", "properties", "timeline"),
        *("properties", "workers", "items"),
    ),
    form.Scaling: ("properties", "scaling", "items"),
    form.ScalingPoint: ("properties", "scaling", "items", "properties", "points", "items"),
    form.RefusedPoint: ("properties", "scaling", "items", "properties", "refused", "items"),
    form.Hypothesis: ("definitions", "hypothesis"),
    form.WholeAnalysis: ("properties", "analyses", "items", "properties", "whole"),
    form.PublishedAnalysis: ("properties", "analyses", "items", "properties", "published"),
    form.PublishedValues: ("definitions", "hypothesis", "properties", "published"),
    form.LimitValues: ("definitions", "hypothesis", "properties", "limits"),
    form.ToyResult: ("definitions", "hypothesis", "properties", "toys"),
    form.ToyReference: (
        *("definitions", "hypothesis", "properties", "toys"),
        *("properties", "reference"),
    ),
    form.ToyHistogram: (
        *("definitions", "hypothesis", "properties", "toys"),
        *("properties", "histogram"),
    ),
    form.ReferenceValues: ("definitions", "hypothesis", "properties", "reference"),
    form.Ambiguous: ("definitions", "hypothesis", "properties", "ambiguous"),
    form.Parameter: (
        *("definitions", "hypothesis", "properties", "ambiguous"),
        *("properties", "parameters", "items"),
    ),
    form.Error: ("definitions", "hypothesis", "properties", "error"),
}


def test_each_form_is_held_to_the_schema():
    made = {each for each in vars(form).values() if is_typeddict(each)}
    assert {each for each in made if not each.__name__.startswith("_")} - {TypedDict} == set(FORMS)


@pytest.mark.parametrize(
    ("made", "place"), FORMS.items(), ids=lambda each: getattr(each, "__name__", "")
)
def test_a_form_has_the_fields_of_the_schema(made, place):
    described = _object(place)
    assert made.__annotations__.keys() == described["properties"].keys()
    assert made.__required_keys__ == set(described["required"])
    assert described["additionalProperties"] is False


def test_a_measured_pass_has_the_fields_of_a_trial():
    derived = {"speed_up", "efficiency"}
    measured = {each.name for each in fields(Trial)}
    assert measured | derived == form.TrialEntry.__annotations__.keys()
    assert derived <= set(dir(Trial)) - measured
