from __future__ import annotations

import difflib
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted_engine import ENVIRONMENT, toy_pallet, toy_result, toy_tasks

from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.reference import (
    SCHEMA_VERSION,
    Missing,
    ReferenceStore,
    bundled_directory,
    read,
)
from pytest_pyhf_faas.results import FITS, FitError, WorkerEnvironment
from pytest_pyhf_faas.tasks import HypotestConfig, make_tasks

pytestmark = pytest.mark.timeout(300)

numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(
    [0.0, -0.0, 5e-324, 1e-300, 1.7976931348623157e308, 0.1 + 0.2, 1 / 3]
)


@pytest.fixture
def store(tmp_path):
    return ReferenceStore([tmp_path], tmp_path)


@pytest.fixture
def saved(store):
    """A store with a file of five patches."""
    tasks = toy_tasks(5)
    for task in tasks:
        store.update(task, toy_result(task))
    store.save()
    return store


def environment(**changes):
    return WorkerEnvironment.from_json({**ENVIRONMENT, **changes})


def failed(task, kind="pyhf.exceptions.InvalidModel"):
    error = FitError(kind, "no signal left", "traceback")
    return toy_result(task, status="error", error=error, CLs_obs=None, CLs_exp=())


def edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


# There and back


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(numbers, min_size=12, max_size=12), fit_s=st.floats(0, 1e6))
def test_values_come_back_to_twelve_digits(values, fit_s):
    (task,) = toy_tasks(1)
    result = toy_result(
        task,
        CLs_obs=values[0],
        CLs_exp=tuple(values[1:6]),
        mu_hat=values[6],
        twice_nll=dict(zip(FITS, values[7:], strict=True)),
        seconds={"unpack": 0.0, "build": 0.0, "fit": fit_s},
    )
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        writer = ReferenceStore([folder], folder)
        assert writer.update(task, result) == folder / "toy.json"
        assert writer.save() == [folder / "toy.json"]
        found = ReferenceStore([folder], folder).find(task)
    kept = [found.CLs_obs, *found.CLs_exp, found.mu_hat, *found.twice_nll.values()]
    assert list(map(repr, kept)) == [repr(float(f"{value:.12g}")) for value in values]
    assert tuple(found.twice_nll) == FITS
    assert found.cls_values == (found.CLs_obs, *found.CLs_exp)
    assert found.fit_s == pytest.approx(fit_s, rel=0.005)
    assert found.error is None


def test_an_exception_may_be_the_reference(store, tmp_path):
    (task,) = toy_tasks(1)
    store.update(task, failed(task))
    store.save()
    found = ReferenceStore([tmp_path], tmp_path).find(task)
    assert found
    assert (found.error, found.CLs_obs, found.cls_values, found.fit_s) == (
        "pyhf.exceptions.InvalidModel",
        None,
        (),
        None,
    )


@pytest.mark.parametrize("status", ["broken", "timeout", "cancelled"])
def test_a_fit_that_broke_cannot_become_a_reference(store, status):
    (task,) = toy_tasks(1)
    result = toy_result(task, status=status, error=FitError(status, "killed"))
    with pytest.raises(ReferenceFileError, match="did not end"):
        store.update(task, result)
    assert store.save() == []
    assert not store.find(task)


def test_a_reference_says_how_it_was_made(saved):
    found = saved.find(toy_tasks(1)[0])
    assert found.provenance["backend"] == "numpy"
    assert found.provenance["optimizer"] == "scipy"
    assert found.provenance["cpu"] == "Abacus"
    assert found.provenance["versions"] == {"python": "3.11.7", **ENVIRONMENT["versions"]}


def test_an_update_is_seen_after_saving_only(saved):
    (task, *_) = toy_tasks(5)
    saved.update(task, toy_result(task, CLs_obs=0.5))
    assert saved.find(task).CLs_obs == 0.05
    saved.save()
    assert saved.find(task).CLs_obs == 0.5


def test_the_last_update_of_a_patch_counts_and_is_written_once(store):
    (task,) = toy_tasks(1)
    for value in (0.1, 0.2, 0.3):
        store.update(task, toy_result(task, CLs_obs=value))
    assert len(store.save()) == 1
    assert store.save() == []
    assert store.find(task).CLs_obs == 0.3


def test_nothing_but_the_file_is_left_behind(saved, tmp_path):
    assert [path.name for path in tmp_path.iterdir()] == ["toy.json"]


WRITER = """
import sys
from pathlib import Path
from scripted_engine import toy_result, toy_tasks
from pytest_pyhf_faas.reference import ReferenceStore

directory, part = Path(sys.argv[1]), int(sys.argv[2])
tasks = toy_tasks(20)[part::2]
stores = [ReferenceStore([directory], directory) for _ in tasks]
print("ready", flush=True)
sys.stdin.readline()
for store, task in zip(stores, tasks):
    store.find(task)  # what it knows is older than what the other one writes
    store.update(task, toy_result(task, CLs_obs=float(part + 1)))
    store.save()
"""


def test_two_processes_that_save_at_the_same_time_lose_nothing(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(part)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        for part in range(2)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("\n", timeout=50)
        assert writer.returncode == 0
    store = ReferenceStore([tmp_path], tmp_path)
    found = [store.find(task) for task in toy_tasks(20)]
    assert [reference.CLs_obs for reference in found] == [1.0, 2.0] * 10


# What is not there


def test_without_a_file_the_reason_names_the_directories(tmp_path):
    store = ReferenceStore([tmp_path / "a", tmp_path / "b"], tmp_path)
    missing = store.find(toy_tasks(1)[0])
    assert isinstance(missing, Missing)
    assert not missing
    assert missing.reason == f"there is no toy.json in {tmp_path}/a, {tmp_path}/b"


def test_another_background_is_missing(saved):
    other = replace(toy_pallet(1), digest="f" * 64)
    missing = saved.find(make_tasks(other, HypotestConfig())[0])
    assert isinstance(missing, Missing)
    assert "for another background" in missing.reason
    assert "this one has ffffffffffff..." in missing.reason


def test_another_test_is_missing_and_names_what_differs(saved):
    (task,) = toy_tasks(1, test_poi=2.0, test_stat="q")
    missing = saved.find(task)
    assert isinstance(missing, Missing)
    assert missing.reason.endswith(
        "is for another test: test_poi=2.0 (reference: 1.0), test_stat='q' (reference: 'qtilde')"
    )


@pytest.mark.parametrize("change", [{"backend": "jax"}, {"optimizer": "minuit"}])
def test_another_backend_or_optimizer_has_the_same_reference(saved, change):
    assert saved.find(toy_tasks(1, **change)[0]).CLs_obs == 0.05


def test_an_unknown_patch_is_missing(saved):
    missing = saved.find(toy_tasks(6)[5])
    assert isinstance(missing, Missing)
    assert missing.reason.endswith("does not have this patch")


def test_another_patch_of_the_same_name_is_missing(saved):
    pallet = toy_pallet(1)
    other = replace(pallet, patches=(replace(pallet.patches[0], digest="a" * 64),))
    missing = saved.find(make_tasks(other, HypotestConfig())[0])
    assert isinstance(missing, Missing)
    assert missing.reason.endswith("was made from another patch of this name")


# Files that cannot be used


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_truncated_file_says_where(saved, tmp_path, length):
    path = tmp_path / "toy.json"
    path.write_text(path.read_text()[:length])
    with pytest.raises(ReferenceFileError, match="no valid JSON") as caught:
        ReferenceStore([tmp_path], tmp_path).find(toy_tasks(1)[0])
    assert str(path) in str(caught.value)
    assert "version control" in str(caught.value)


def test_a_damaged_file_is_never_taken_for_a_missing_one(saved, tmp_path):
    (tmp_path / "toy.json").write_text("{")
    store = ReferenceStore([tmp_path], tmp_path)
    for _ in range(3):
        with pytest.raises(ReferenceFileError, match="no valid JSON"):
            store.find(toy_tasks(1)[0])


def test_a_newer_version_asks_for_an_upgrade(saved, tmp_path):
    edit(tmp_path / "toy.json", lambda data: data.update(schema_version=SCHEMA_VERSION + 1))
    with pytest.raises(ReferenceFileError, match="Upgrade pytest-pyhf-faas"):
        read(tmp_path / "toy.json")


def test_text_in_another_encoding_says_so(tmp_path):
    (tmp_path / "toy.json").write_bytes('{"description": "σ"}'.encode("utf-16"))
    with pytest.raises(ReferenceFileError, match="not UTF-8"):
        read(tmp_path / "toy.json")


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ReferenceFileError, match="No such file"):
        read(tmp_path / "toy.json")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda data: data.pop("background_sha256"), "the top level"),
        (lambda data: data.update(surprise=1), "the top level"),
        (lambda data: data.update(schema_version=0), "schema_version"),
        (lambda data: data.update(background_sha256="xyz"), "background_sha256"),
        (lambda data: data.update(patches=[]), "patches"),
        (lambda data: data["patches"]["toy_001"].pop("digest"), "patches/toy_001"),
        (lambda data: data["patches"]["toy_001"].update(CLs_obs="0.5"), "patches/toy_001/CLs_obs"),
        (lambda data: data["patches"]["toy_001"].update(CLs_obs=None), "patches/toy_001/CLs_obs"),
        (lambda data: data["patches"]["toy_001"]["CLs_exp"].pop(), "patches/toy_001/CLs_exp"),
        (lambda data: data["patches"]["toy_001"].update(error="E"), "patches/toy_001"),
        (lambda data: data["provenance"][0].pop("versions"), "provenance/0"),
        (
            lambda data: data.update(tolerances={"numpy+scipy": {"rtol": -1}}),
            "tolerances/numpy+scipy/rtol",
        ),
        (lambda data: data.update(known_issues=[{"combination": "x"}]), "known_issues/0"),
    ],
)
def test_a_violation_of_the_schema_says_where(saved, tmp_path, change, where):
    path = tmp_path / "toy.json"
    edit(path, change)
    with pytest.raises(ReferenceFileError) as caught:
        read(path)
    assert f"the reference file {path} cannot be used: at {where}, " in str(caught.value)


def test_a_list_is_no_reference_file(tmp_path):
    (tmp_path / "toy.json").write_text("[]")
    with pytest.raises(ReferenceFileError, match="at the top level"):
        read(tmp_path / "toy.json")


def test_a_provenance_that_is_not_listed_is_wrong(saved, tmp_path):
    path = tmp_path / "toy.json"
    edit(path, lambda data: data["patches"]["toy_003"].update(provenance=1))
    with pytest.raises(ReferenceFileError, match="toy_003 has a provenance"):
        read(path)


def test_a_damaged_file_is_not_written_over(saved, tmp_path):
    tasks = toy_tasks(1), toy_tasks(1, "other")
    (tmp_path / "toy.json").write_text("{")
    store = ReferenceStore([tmp_path], tmp_path)
    for (task,) in tasks:
        store.update(task, toy_result(task))
    with pytest.raises(ReferenceFileError) as caught:
        store.save()
    assert str(tmp_path / "toy.json") in str(caught.value)
    assert "--faas-resume" in str(caught.value)
    assert (tmp_path / "toy.json").read_text() == "{"
    assert store.find(tasks[1][0])  # the others are written all the same


def test_the_remedy_for_a_damaged_file_works(saved, tmp_path):
    (task,) = toy_tasks(1)
    path = tmp_path / "toy.json"
    path.write_text("{")
    with pytest.raises(ReferenceFileError) as caught:
        read(path)
    remedy = str(caught.value)
    if "remove" in remedy or "delete" in remedy:
        path.unlink()
    store = ReferenceStore([tmp_path], tmp_path)
    store.update(task, toy_result(task))  # what --faas-update=all does
    store.save()
    assert store.find(task)


def test_a_target_that_cannot_be_made_is_an_error(tmp_path):
    (task,) = toy_tasks(1)
    (tmp_path / "file").write_text("in the way")
    store = ReferenceStore([tmp_path], tmp_path / "file")
    store.update(task, toy_result(task))
    with pytest.raises(ReferenceFileError, match="cannot be written"):
        store.save()


# Merging


def test_provenances_are_shared_and_pruned(saved, tmp_path):
    tasks = toy_tasks(5)
    path = tmp_path / "toy.json"

    def indices():
        data = read(path)
        return [data["patches"][task.patch.name]["provenance"] for task in tasks]

    assert indices() == [0] * 5
    newer = environment(versions={**ENVIRONMENT["versions"], "scipy": "1.16.0"})
    for task in tasks[1:3]:
        saved.update(task, toy_result(task, environment=newer))
    saved.save()
    assert len(read(path)["provenance"]) == 2
    assert len(set(indices())) == 2
    versions = [saved.find(task).provenance["versions"]["scipy"] for task in tasks]
    assert versions == ["1.15.3", "1.16.0", "1.16.0", "1.15.3", "1.15.3"]
    for task in tasks:
        saved.update(task, toy_result(task, environment=newer))
    saved.save()
    assert len(read(path)["provenance"]) == 1
    assert indices() == [0] * 5


def test_tolerances_of_the_file_are_kept(saved, tmp_path):
    (task, *_) = toy_tasks(5)
    tolerances = {"numpy+scipy": {"rtol": 0.01}, "numpy+minuit": {"atol": 0.5}}
    edit(tmp_path / "toy.json", lambda data: data.update(tolerances=tolerances))
    store = ReferenceStore([tmp_path], tmp_path)
    store.update(task, toy_result(task, CLs_obs=0.5))
    store.save()
    assert read(tmp_path / "toy.json")["tolerances"] == tolerances
    found = store.find(task)
    assert found.tolerance("numpy+scipy") == (0.01, 1e-6)
    assert found.tolerance("numpy+minuit") == (1e-3, 0.5)
    assert found.tolerance("jax+scipy") == (1e-4, 1e-6)
    assert found.tolerance("numpy+scipy", atol=0.0) == (0.01, 0.0)


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("scipy", ["1.15.3", "1.16.0"])
def test_a_diff_of_one_changed_patch_touches_only_its_lines(saved, tmp_path, number, scipy):
    path = tmp_path / "toy.json"
    before = path.read_text().splitlines()
    task = toy_tasks(5)[number]
    newer = environment(versions={**ENVIRONMENT["versions"], "scipy": scipy})
    saved.update(task, toy_result(task, CLs_obs=0.5, environment=newer))
    saved.save()
    after = path.read_text().splitlines()
    start = after.index(f'    "{task.patch.name}": {{')
    end = next(n for n in range(start, len(after)) if after[n].startswith("    }"))
    its_lines = set(range(start, end + 1))
    if scipy != "1.15.3":  # and those of the provenances, of which there is one more
        its_lines |= set(range(after.index('  "provenance": ['), after.index('  "patches": {')))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    changed = {
        line
        for tag, _i1, _i2, first, last in matcher.get_opcodes()
        if tag != "equal"
        for line in range(first, max(last, first + 1))
    }
    assert changed
    assert changed <= its_lines
    assert any('"CLs_obs": 0.5' in after[line] for line in changed)


def test_saving_the_same_again_changes_nothing(saved, tmp_path):
    path = tmp_path / "toy.json"
    before = path.read_text()
    for task in reversed(toy_tasks(5)):
        saved.update(task, toy_result(task))
    saved.save()
    assert path.read_text() == before


def test_a_file_has_a_line_for_each_field_of_a_patch(saved, tmp_path):
    lines = (tmp_path / "toy.json").read_text().splitlines()
    assert '      "CLs_obs": 0.05,' in lines
    assert '      "CLs_exp": [0.01, 0.02, 0.04, 0.08, 0.16],' in lines
    names = [line.strip() for line in lines if line.startswith('    "toy_')]
    assert names == sorted(names)


def test_references_of_another_background_are_not_mixed_in(saved, tmp_path):
    other = replace(toy_pallet(1), digest="f" * 64)
    (task,) = make_tasks(other, HypotestConfig())
    saved.update(task, toy_result(task))
    saved.save()
    assert list(read(tmp_path / "toy.json")["patches"]) == ["toy_000"]
    assert saved.find(task)
    assert not saved.find(toy_tasks(2)[1])


def test_two_tests_of_one_pallet_are_not_mixed_in_one_file(store, tmp_path):
    (usual,) = toy_tasks(1)
    other = toy_tasks(2, test_poi=2.0)[1]
    store.update(usual, toy_result(usual))
    with pytest.raises(ReferenceFileError, match="toy"):
        store.update(other, toy_result(other))
    store.save()
    kept = ReferenceStore([tmp_path], tmp_path)
    assert kept.find(usual)
    assert not kept.find(other)


# Where references are


def test_the_first_directory_that_has_a_file_counts(tmp_path):
    (task,) = toy_tasks(1)
    for name, value in (("first", 0.1), ("second", 0.2)):
        one = ReferenceStore([tmp_path / name], tmp_path / name)
        one.update(task, toy_result(task, CLs_obs=value))
        one.save()
    both = ReferenceStore([tmp_path / "first", tmp_path / "second"], tmp_path / "first")
    assert both.find(task).CLs_obs == 0.1
    assert both.find(task).path == tmp_path / "first" / "toy.json"
    (tmp_path / "first" / "toy.json").unlink()
    assert both.find(task).CLs_obs == 0.1  # as at the start of the session
    again = ReferenceStore([tmp_path / "first", tmp_path / "second"], tmp_path / "first")
    assert again.find(task).CLs_obs == 0.2


def test_an_update_of_a_bundled_reference_goes_to_the_users_directory(saved, tmp_path):
    own = tmp_path / "own"
    bundled = (tmp_path / "toy.json").read_text()
    store = ReferenceStore([own, tmp_path], own)
    (task, *others) = toy_tasks(5)
    store.update(task, toy_result(task, CLs_obs=0.5))
    assert store.save() == [own / "toy.json"]
    assert store.find(task).CLs_obs == 0.5
    assert [store.find(other).CLs_obs for other in others] == [0.05] * 4
    assert (tmp_path / "toy.json").read_text() == bundled


def test_the_bundled_references_are_there_and_valid():
    paths = sorted(bundled_directory().glob("*.json"))
    assert paths
    for path in paths:
        data = read(path)
        assert data["pallet"] == path.stem
        for entry in data["patches"].values():
            values = [entry.get("CLs_obs", 0), *entry.get("CLs_exp", [])]
            assert all(math.isnan(float(v)) or -1e-6 <= float(v) <= 1 + 1e-6 for v in values)
