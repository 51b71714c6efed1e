"""`pyhf-faas inspect`: describe a pallet and what is wrong with it."""

from __future__ import annotations

import json
import re

import pyhf
import pytest

from pytest_pyhf_faas import commands


@pytest.fixture
def inspect(project, monkeypatch, capsys):
    """Run the command in a project; return status, output and errors."""
    monkeypatch.chdir(project.path)

    def run(*words):
        status = commands.main(["inspect", *words])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def damage(project, change):
    """Change the background, and its digest in the patchset."""
    files = [project.path / "tiny" / name for name in ("BkgOnly.json", "patchset.json")]
    workspace, patchset = (json.loads(file.read_text()) for file in files)
    change(workspace, patchset["patches"])
    patchset["metadata"]["digests"] = {"sha256": pyhf.utils.digest(workspace)}
    for file, content in zip(files, (workspace, patchset), strict=True):
        file.write_text(json.dumps(content))


def test_a_sound_pallet_in_80_columns(project, inspect):
    project.pallet(4)
    status, shown, error = inspect("tiny", "--patches")
    assert (status, error) == (0, "")
    assert shown == (
        f"""\
tiny: a patchset for tests
  source        tiny
  published     hepdata ins1234567
  background    SHA-256 {project.reference()["background_sha256"][:16]}...
  measurement   meas, parameter of interest mu_SIG from 0 to 10, initially 1
  channels      1 with 2 bins and 1 sample: SR (2)
  parameters    2
  patches       4 patches
  m1            100 to 200, 2 values
  m2            0 to 50, 2 values
  references    4 of 4
  in            reference_results/tiny.json
  fits take     on one worker about {{}} with certified fits
  findings      none

patch        m1  m2
sig_100_0   100   0
sig_100_50  100  50
sig_200_0   200   0
sig_200_50  200  50
"""
    ).format(shown.partition("worker about ")[2].partition(" with certified")[0])


def test_the_same_as_json(project, inspect):
    project.pallet(4)
    status, shown, _ = inspect("tiny", "--json", "--faas-patch=sig_100_*")
    (found,) = json.loads(shown)
    assert status == 0
    assert found["name"] == "tiny"
    assert [each["values"] for each in found["patches"]] == [[100, 0], [100, 50]]
    assert found["labels"][1] == {"label": "m2", "values": 2, "lowest": 0, "highest": 50}
    assert found["channels"] == [{"name": "SR", "bins": 2, "samples": 1}]
    assert found["model"]["poi_bounds"] == [0, 10]
    assert found["reference_results"]["patches"] == 2
    assert found["findings"] == found["same_content"] == []


def test_all_findings_are_shown_and_are_the_exit_status(project, inspect):
    project.pallet(3)

    def change(workspace, patches):
        workspace["observations"].append({"name": "VR", "data": [1.0]})
        patches[1]["patch"] = patches[0]["patch"]
        patches[2]["patch"] = []

    damage(project, change)
    status, shown, _ = inspect("tiny")
    assert status == 1
    assert all(len(line) <= 80 or str(project.path) in line for line in shown.splitlines())
    assert "  patches       3 patches, 1 with the content of another\n" in shown
    assert "  error         the parameter of interest 'mu_SIG' is not a parameter" in shown
    assert "  note          there is an observation for VR, which is not a channel" in shown
    assert "sig_100_0, sig_100_50" in shown
    (found,) = json.loads(inspect("tiny", "--json")[1])
    assert found["same_content"] == [["sig_100_0", "sig_100_50"]]
    assert [each["level"] for each in found["findings"]] == ["error", "note", "note"]
    assert found["findings"][0]["patches"] == ["sig_200_0"]


def test_invalid_model_as_reference_is_no_failure(project, inspect):
    project.pallet(2)
    damage(project, lambda _workspace, patches: patches[0].update(patch=[]))
    project.references()
    assert inspect("tiny")[0] == 1
    project.expect_error("sig_100_0")
    status, shown, _ = inspect("tiny")
    assert status == 0
    assert "2 of 2 (1 InvalidModel)" in shown
    words = " ".join(shown.split())
    assert "a signal: InvalidModel, as in its reference (sig_100_0)" in words
    assert " error " not in words
    damage(project, lambda _workspace, patches: patches[1].update(patch=[]))
    status, shown, _ = inspect("tiny", "--json")
    levels = [(each["level"], each["patches"]) for each in json.loads(shown)[0]["findings"]]
    assert status == 1
    assert levels[:2] == [("error", ["sig_100_50"]), ("note", ["sig_100_0"])]


def test_a_pallet_of_which_nothing_can_be_fitted_is_shown_all_the_same(project, inspect):
    project.pallet(2)

    def change(workspace, _patches):
        workspace["observations"][0]["data"] = [1.0]

    damage(project, change)
    status, shown, _ = inspect("tiny", "--faas-reference-dir=nowhere")
    assert status == 1
    told = "the observation of the channel SR has 1 bin, its samples have 2 (each patch)"
    assert told in " ".join(shown.split())
    assert "parameters" not in shown
    assert "references    none: there is no tiny.json in" in shown


def test_several_pallets_and_another_test(project, inspect):
    project.pallet(1)
    project.pallet(2, name="other")
    status, shown, _ = inspect("tiny", "other", "--test-poi=11", "--test-stat=q")
    assert status == 1
    assert " ".join(shown.split()).count("mu_SIG at 11, which lies outside") == 2
    assert [line for line in shown.splitlines() if line.endswith(": a patchset for tests")] == [
        "tiny: a patchset for tests",
        "other: a patchset for tests",
    ]


def test_what_cannot_be_read_says_so(project, inspect):
    project.pallet(1)
    project.pallet(1, name="other")
    (project.path / "reference_results/other.json").write_text("{")
    status, shown, error = inspect("absent", "tiny", "other")
    assert status == 2
    assert shown.startswith("tiny: a patchset for tests\n")
    assert shown.count("findings") == 1
    assert error.startswith("error: there is no pallet 'absent'")
    assert "\nerror: " in error
    assert "other.json" in error
    status, shown, _ = inspect("absent", "tiny", "--json")
    assert (status, [each["name"] for each in json.loads(shown)]) == (2, ["tiny"])
    assert inspect("absent")[:2] == (2, "")


def test_what_each_fit_setup_gets_right_adds_up_to_the_references(inspect):
    _, shown, _ = inspect("synthetic")
    rows = dict(re.findall(r"^  (\w+\+\w+) +(.*)$", shown, re.MULTILINE))
    assert list(rows) == ["numpy+scipy", "numpy+minuit", "jax+scipy", "jax+minuit"]
    assert [sum(map(int, re.findall(r"\d+", said))) for said in rows.values()] == [43] * 4
    assert "hepdata" not in shown  # ins0000000 is no record
    assert all(len(line) <= 80 for line in shown.splitlines())
