"""`validate`: a campaign from Python, without pytest."""

from __future__ import annotations

import csv
import signal

import pytest

from pytest_pyhf_faas import validate
from pytest_pyhf_faas.errors import (
    ConfigurationError,
    EndpointUnusableError,
    FaasError,
    PalletError,
    ReportError,
)
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.session import campaigns
from tests.helpers.fakes import FakeEngine, Plan, canned

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def engines(project, monkeypatch):
    """The fake engines that were made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.path / "cache"))
    made = []

    def create(spec, _directory, **_how):
        made.append(FakeEngine(spec, Plan.read()))
        return made[-1]

    monkeypatch.setattr(campaigns, "create_engine", create)
    return made


def test_the_hypotheses_are_iterated_indexed_and_counted(project, engines):
    patches = project.pallet(4)
    found = validate("tiny")
    assert len(found) == 4
    assert [each.name for each in found] == patches
    assert patches[1] in found
    assert "nothing" not in found
    each = found[patches[1]]
    assert each.CLs_obs == canned(patches[1])["CLs_obs"]
    assert each.CLs_exp == tuple(canned(patches[1])["CLs_exp"])
    assert each.patch.values == (100, 50)
    assert each.verdict == "right"
    assert each.reference.CLs_obs == pytest.approx(each.CLs_obs)
    assert each.limits is each.toys is None
    assert found.counts == {"right": 4}
    assert str(found) == "tiny on local, numpy+scipy: 4 hypotheses: 4 right"
    with pytest.raises(KeyError, match=r"no patch 'sig_1' was fitted, but sig_100_0, "):
        found["sig_1"]
    assert [engine._pool for engine in engines] == [None]


def test_options_are_those_of_the_command_line(project, engines):
    patches = project.pallet(4)
    pallet = catalogue.resolve("tiny", search_path=())[0]
    found = validate(pallet, "local:2", patches="sig_200_*", optimizer="minuit", timeout_s=7.0)
    assert [each.name for each in found] == patches[2:]
    assert (found.endpoint, engines[0].spec) == ("local:2", "local:2")
    sent = (project.path / "fits.log").read_text()
    assert '"optimizer": "minuit"' in sent
    assert '"timeout_s": 7.0' in sent


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_on_request(project, engines, capsys, progress):
    project.pallet(2)
    project.plan(workers=1, fit_takes_s=0.3)
    validate("tiny", progress=progress)
    shown, said = capsys.readouterr()
    assert shown == ""
    assert ("fits done" in said) == progress
    assert progress or said == ""


def test_without_references_the_values_are_there(project, engines):
    (patch,) = project.pallet(1, references=False)
    found = validate("tiny")[patch]
    assert found.verdict == "no reference"
    assert not found.reference
    assert "there is no tiny.json" in str(found)
    assert found.CLs_obs == canned(patch)["CLs_obs"]


def test_the_table_is_that_of_a_report(project, engines):
    patches = project.pallet(3)
    project.change_reference(patches[0], CLs_obs=0.5)
    project.plan(lose={patches[1]: -1})
    found = validate("tiny")
    found.to_csv(project.path / "own.csv")
    with (project.path / "own.csv").open(newline="") as file:
        rows = {row["patch"]: row for row in csv.DictReader(file)}
    assert [row["verdict"] for row in rows.values()] == ["wrong", "broken", "right"]
    assert float(rows[patches[0]]["CLs_obs"]) == found[patches[0]].CLs_obs
    assert float(rows[patches[0]]["reference_CLs_obs"]) == 0.5
    assert rows[patches[1]]["CLs_obs"] == ""
    assert (rows[patches[2]]["m1"], rows[patches[2]]["m2"]) == ("200", "0")
    with pytest.raises(ReportError, match=r"cannot be written: .*; the results are still here"):
        found.to_csv(project.path / "nowhere" / "own.csv")


def test_what_failed_is_among_the_others_and_says_why(project, engines):
    patches = project.pallet(4)
    project.change_reference(patches[0], CLs_obs=0.5)
    project.plan(
        lose={patches[1]: -1},
        timeout=[patches[2]],
        errors={patches[3]: ["numpy.linalg.LinAlgError", "singular"]},
    )
    found = validate("tiny", timeout_s=5.0)
    verdicts = [each.verdict for each in found]
    assert verdicts == ["wrong", "broken", "timeout", "error"]
    wrong, broken, late, failed = map(str, found)
    assert "CLs differs from the reference" in wrong
    assert "its worker process was killed" in broken
    assert "time limit of 5.0 s" in late
    assert failed == "tiny / sig_200_50: error\nnumpy.linalg.LinAlgError: singular"
    assert found[patches[3]].CLs_obs is None


def row_of(found):
    """The row that is written of a single hypothesis."""
    found.to_csv("one.csv")
    with open("one.csv", newline="") as file:  # noqa: PTH123
        (row,) = csv.DictReader(file)
    return row


def test_limits_and_toys(project, engines):
    (patch,) = project.pallet(1, references=False)
    found = validate("tiny", quantity="limit")
    limits = found[patch]
    assert float(row_of(found)["limit_obs"]) == limits.limits.lowest.observed
    assert limits.verdict == "no reference"
    assert limits.limits.lowest.observed == pytest.approx(11 * canned(patch)["CLs_obs"])
    found = validate("tiny", quantity="toys", toys=1200, method="certified")
    toys = found[patch]
    assert float(row_of(found)["CLs_obs"]) == toys.toys.CLs_obs
    assert toys.toys.toys == {"signal": 1200, "background": 1200}  # of several tasks
    assert 0 < toys.toys.CLs_obs < 1
    assert toys.verdict == "no reference"  # the file has CLs alone


def test_an_interrupted_call_leaves_nothing_behind_and_is_resumed(project, engines):
    patches = project.pallet(5)
    project.plan(workers=1, kill=patches[2], signal=int(signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        validate("tiny")
    assert signal.getsignal(signal.SIGINT) is before
    assert engines[0]._pool is None
    done = len(project.fits())
    assert 1 < done < 5
    found = validate("tiny", resume=True)
    assert found.counts == {"right": 5}
    assert any("taken over from earlier runs" in note for note in found.notes)
    assert len(project.fits()) < done + 5


def test_an_endpoint_of_which_nothing_comes(project, engines):
    project.pallet(2)
    project.plan(breakdowns=-1)
    with pytest.raises(EndpointUnusableError, match="out of order"):
        validate("tiny")
    assert engines[0]._pool is None


@pytest.mark.parametrize(
    ("pallet", "how", "kind", "text"),
    [
        ("tiniest", {}, PalletError, "there is no pallet 'tiniest'"),
        (".", {}, PalletError, "has 2 pallets: .*validate takes one"),
        ("tiny", {"patches": ["sig_9*"]}, PalletError, "no patch of the pallet tiny"),
        ("tiny", {"endpoint": "there"}, ConfigurationError, "the endpoint 'there' is not known"),
        ("tiny", {"method": "magic"}, ConfigurationError, "method is 'magic'"),
        ("tiny", {"quantity": "toys", "toys": 0}, ConfigurationError, "toys is 0"),
        ("tiny", {"quantity": "limit", "test_stat": "q0"}, ConfigurationError, "has no limit"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_starts(
    project, engines, pallet, how, kind, text
):
    project.pallet(1)
    project.pallet(2, "other")
    with pytest.raises(kind, match=f"(?s){text}") as caught:
        validate(pallet, **how)
    assert isinstance(caught.value, FaasError)
    assert len(str(caught.value).splitlines()) < 12
    assert not (project.path / "starts.log").exists()
