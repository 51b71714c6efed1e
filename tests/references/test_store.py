from __future__ import annotations

import difflib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import is_typeddict

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.results import FITS, FitError, WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, make_tasks, worker_sha256
from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.pallets.pallet import Packed
from pytest_pyhf_faas.references import form
from pytest_pyhf_faas.references.file import SCHEMA, SCHEMA_VERSION, read
from pytest_pyhf_faas.references.reference import Missing
from pytest_pyhf_faas.references.sameness import same_error
from pytest_pyhf_faas.references.store import ReferenceStore, bundled_directory
from pytest_pyhf_faas.schemas import own_schema
from tests.helpers import paths
from tests.helpers.scripted_engine import ENVIRONMENT, toy_pallet, toy_result, toy_tasks

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


FREE, FIXED, BACKGROUND, FREE_ASIMOV, FIXED_ASIMOV = FITS
#: What stands in `stored/`: parts of files of schema 1, as they were written.
STORED = paths.STORED / "references"


def search(random=24, **changes):
    """How each fit was searched."""
    how = {"starts": 40, "reached": 12, "random": random, "reached_at_random": 5, "unseen": 0.04}
    return {fit: {**how, **changes} for fit in FITS if fit != FREE_ASIMOV}


OLD_ISSUE = {
    "fit_setup": "numpy+scipy",
    "reason": "it is old",
    "link": "https://somewhere/1",
    "pyhf": "<=0.7.6",
    "patches": {"toy_000": {"error": "KeyError"}},
}


def certified(task, *, nominal=None, cls_obs=0.05, twice_nll=None, certificate=None, **changes):
    """A certified result; its nominal minima are others where ``nominal`` has twice the NLL."""
    fits = dict(zip(FITS, (100.0, 110.0, 120.0, 130.0, 140.0), strict=True))
    fits |= twice_nll or {}
    if nominal is not None:
        nominal = {
            "CLs_obs": 0.0435,
            "CLs_exp": [0.01, 0.02, "nan", 0.08, 0.16],
            "mu_hat": 0.125,
            "twice_nll": {**fits, **nominal},
        }
    found = {
        "distance": 3.14159e-13,
        "nominal": nominal,
        "differences": DIFFERENCES if nominal else [],
        "minima": {FIXED: [0.79, 0.8951234567], FREE: []},
        "search": search(),
        "new": [],
    }
    return toy_result(
        task,
        CLs_obs=cls_obs,
        twice_nll=fits,
        twice_nll_asimov_truth=fits[FREE_ASIMOV],
        rounding=changes.pop("rounding", 1e-11),
        certificate=found | (certificate or {}),
        **changes,
    )


DIFFERENCES = [
    {
        "fit": FIXED,
        "gap": 0.7912345678,
        "parameters": [{"name": "mu_W", "nominal": 1.0212345678, "lowest": 0.0}],
        "at_bound": ["mu_W"],
    }
]


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
        assert writer.update(task, result).path == folder / "toy.json"
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
    with pytest.raises(ReferenceFileError, match="an unfinished fit"):
        store.update(task, result)
    assert store.save() == []
    assert not store.find(task)


def test_a_reference_says_how_it_was_made(saved):
    found = saved.find(toy_tasks(1)[0])
    assert found.provenance["backend"] == "numpy"
    assert found.provenance["optimizer"] == "scipy"
    assert found.provenance["cpu"] == "Abacus"
    assert found.provenance["worker_sha256"] == worker_sha256()
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


def test_nothing_but_the_file_and_its_lock_is_left_behind(saved, tmp_path):
    assert sorted(path.name for path in tmp_path.iterdir()) == [".toy.json.lock", "toy.json"]


def test_a_file_is_locked_next_to_itself_so_that_other_machines_see_it(tmp_path):
    (task,) = toy_tasks(1)
    one, other = tmp_path / "one", tmp_path / "other"
    stores = [ReferenceStore([directory], directory) for directory in (one, other)]
    one.mkdir()
    done = threading.Event()

    def save(store):
        store.update(task, certified(task))
        store.save()
        done.set()

    with FileLock(one / ".toy.json.lock"):
        save(stores[1])  # a file of the same name elsewhere is another one
        done.clear()
        waiting = threading.Thread(target=save, args=(stores[0],))
        waiting.start()
        assert not done.wait(0.3)
        assert not (one / "toy.json").exists()
    waiting.join()
    assert (one / "toy.json").exists()


WRITER = """
import sys
from pathlib import Path
from tests.helpers.scripted_engine import toy_result, toy_tasks
from pytest_pyhf_faas.references.store import ReferenceStore

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


def test_without_a_file_the_reason_names_one_for_the_same_background(saved):
    missing = saved.find(make_tasks(toy_pallet(1).renamed("mine"), HypotestConfig())[0])
    assert isinstance(missing, Missing)
    assert missing.reason.endswith(
        "; toy.json is for the same background: to compare with it, rename the pallet's file or "
        "directory to toy"
    )


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
    other = replace(pallet, patches=(replace(pallet.patches[0], content=Packed("a" * 64, b"")),))
    missing = saved.find(make_tasks(other, HypotestConfig())[0])
    assert isinstance(missing, Missing)
    assert missing.reason.endswith("was made from a patch of the same name with other content")


# Files that cannot be used


@pytest.mark.parametrize("length", [0, 1, 100, -2])
def test_a_truncated_file_says_where(saved, tmp_path, length):
    path = tmp_path / "toy.json"
    path.write_text(path.read_text()[:length])
    with pytest.raises(ReferenceFileError, match="not valid JSON") as caught:
        ReferenceStore([tmp_path], tmp_path).find(toy_tasks(1)[0])
    assert str(path) in str(caught.value)
    assert "version control" in str(caught.value)


def test_a_damaged_file_is_never_taken_for_a_missing_one(saved, tmp_path):
    (tmp_path / "toy.json").write_text("{")
    store = ReferenceStore([tmp_path], tmp_path)
    for _ in range(3):
        with pytest.raises(ReferenceFileError, match="not valid JSON"):
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
        (lambda data: data.update(known_issues=[{"fit_setup": "x"}]), "known_issues/0"),
        (
            lambda data: data.update(known_issues=[{**OLD_ISSUE, "pyhf": "0.8"}]),
            "known_issues/0/pyhf",
        ),
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


def of_another_background(count):
    return make_tasks(replace(toy_pallet(count), digest="f" * 64), HypotestConfig())


def test_references_of_another_background_are_not_lost(saved, tmp_path):
    before = (tmp_path / "toy.json").read_bytes()
    (task, *_) = of_another_background(5)
    with pytest.raises(ReferenceFileError, match=r"5 references of another background .* lost"):
        saved.update(task, toy_result(task))
    saved.save()
    assert (tmp_path / "toy.json").read_bytes() == before


@pytest.mark.parametrize("count", [4, 5, 6])
def test_they_are_replaced_where_each_has_a_successor(saved, tmp_path, count):
    store = ReferenceStore([tmp_path], tmp_path, replaces=True)
    tasks = of_another_background(count)
    for task in tasks:
        store.update(task, toy_result(task))
    if count < 5:
        with pytest.raises(ReferenceFileError, match="would be lost"):
            store.save()
        assert all(saved.find(task) for task in toy_tasks(5))
        return
    store.save()
    assert list(read(tmp_path / "toy.json")["patches"]) == [task.patch.name for task in tasks]
    (written,) = store.written.values()
    assert (written.replaced, written.new) == (5, count)
    assert all(ReferenceStore([tmp_path], tmp_path).find(task) for task in tasks)


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


# Both sets of minima


def test_both_sets_of_minima_come_back(store, tmp_path):
    (task,) = toy_tasks(1)
    store.update(task, certified(task, nominal={FIXED: 110.79, BACKGROUND: 120.3}))
    store.save()
    found = ReferenceStore([tmp_path], tmp_path).find(task)
    assert found.ambiguous
    assert found.nominal_is_known
    assert found.flips
    assert found.lowest.CLs_obs == found.CLs_obs == 0.05
    assert found.nominal.cls_values[:3] == (0.0435, 0.01, 0.02)
    assert math.isnan(found.nominal.cls_values[3])
    assert found.nominal.mu_hat == 0.125
    assert found.nominal.twice_nll[FIXED] == 110.79
    assert found.lowest.twice_nll[FIXED] == found.twice_nll[FIXED] == 110.0
    (difference,) = found.differences
    assert (difference["fit"], difference["gap"]) == (FIXED, 0.791235)
    assert difference["parameters"] == [{"name": "mu_W", "nominal": 1.02123, "lowest": 0.0}]
    assert difference["at_bound"] == ["mu_W"]
    assert found.minima == {FIXED: (0.79, 0.895123)}
    assert found.distance == 3.1e-13
    assert found.search == {fit: [40, 12, 24, 5] for fit in FITS if fit != FREE_ASIMOV}


def test_where_the_nominal_minima_are_the_lowest_nothing_is_written_of_them(store, tmp_path):
    (task,) = toy_tasks(1)
    store.update(task, certified(task, certificate={"minima": {FIXED: []}}))
    store.save()
    found = store.find(task)
    assert found.nominal is found.lowest
    assert not found.ambiguous
    assert not found.flips
    entry = json.loads((tmp_path / "toy.json").read_text())["patches"]["toy_000"]
    assert {"nominal", "minima"} & entry.keys() == set()
    assert entry["unseen"] == 0.04


def test_an_ambiguous_entry_has_a_line_for_each_field(store, tmp_path):
    (task,) = toy_tasks(1)
    store.update(task, certified(task, nominal={FIXED: 110.79}))
    store.save()
    text = (tmp_path / "toy.json").read_text()
    entry = text.partition('"toy_000": {\n')[2].partition("\n    }")[0]
    lines = [line.strip() for line in entry.splitlines()]
    assert [line.partition(":")[0] for line in lines if ":" in line] == [
        *('"values"', '"digest"', '"CLs_obs"', '"CLs_exp"', '"mu_hat"', '"twice_nll"', '"nominal"'),
        *('"CLs_obs"', '"CLs_exp"', '"mu_hat"', '"twice_nll"', '"differences"', '{"fit"'),
        *('"minima"', '"twice_nll_off_minimum"', '"rounding"', '"distance"', '"search"'),
        *('"unseen"', '"fit_s"', '"provenance"'),
    ]
    assert '"minima": {"fixed_poi_fit_to_data": [0.79, 0.895123]},' in lines


def test_the_exception_of_another_program_is_written_as_that_of_pyhf(store):
    (task,) = toy_tasks(1)
    store.update(task, failed(task, "pytest_pyhf_faas.histfactory.errors.InvalidModel"))
    store.save()
    assert store.find(task).error == "pyhf.exceptions.InvalidModel"
    assert same_error("a.b.InvalidModel", "InvalidModel")
    assert not same_error(None, None)


# Files of schema 1


@pytest.mark.parametrize("name", ["2L0J_simplified", "stau_combined"])
def test_a_file_of_schema_1_is_read_as_one_of_schema_3(name):
    path = STORED / f"{name}.json"
    old, new = json.loads(path.read_text()), read(path)
    assert old["schema_version"] == 1
    assert new["schema_version"] == 3
    for part in ("background_sha256", "hypotest", "tolerances", "provenance"):
        assert new[part] == old[part]
    for patch, before in old["patches"].items():
        after = new["patches"][patch]
        same = ("CLs_obs", "CLs_exp", "mu_hat", "twice_nll", "digest", "checked", "distance")
        assert {part: after[part] for part in same} == {part: before[part] for part in same}
        assert after["nominal"] is None
        gaps = sorted((other["fit"], other["gap"]) for other in before["local_minima"])
        assert sorted((f, g) for f, found in after.get("minima", {}).items() for g in found) == gaps
        starts = {fit: [tried, hit, 0, 0] for fit, (tried, hit, _) in before["starts"].items()}
        assert after["search"] == starts


def test_a_file_of_schema_2_is_read_as_one_of_schema_3():
    path = STORED / "ttbar_ljets.json"
    old, new = json.loads(path.read_text()), read(path)
    assert old["schema_version"] == 2
    renamed = [{**issue, "fit_setup": issue["combination"]} for issue in old["known_issues"]]
    for issue in renamed:
        del issue["combination"]
    assert new == {**old, "schema_version": 3, "known_issues": renamed}
    assert [issue["fit_setup"] for issue in new["known_issues"]] == ["numpy+scipy"]


def test_a_reference_of_schema_1_has_the_lowest_minima_alone(tmp_path):
    (task,) = toy_tasks(1)
    store = schema_1(tmp_path, task)
    found = store.find(task)
    assert not found.nominal_is_known
    assert not found.ambiguous
    assert found.lowest.CLs_obs == 0.05
    assert found.minima == {FIXED: (0.895, 3.25)}


def schema_1(directory, *tasks):
    """A store with a file of schema 1."""
    store = ReferenceStore([directory], directory)
    for task in tasks:
        store.update(task, certified(task))
    store.save()

    def older(data):
        data["schema_version"] = 1
        for entry in data["patches"].values():
            for part in ("minima", "unseen"):
                entry.pop(part, None)
            entry["starts"] = {fit: [40, 12, 3] for fit in entry.pop("search")}
            other = {"parameter": "mu_W", "at": 1.0, "lowest_at": 0.0}
            other |= {"CLs_obs": 0.04, "CLs_exp": [0.1] * 5}
            entry["local_minima"] = [{"fit": FIXED, "gap": gap, **other} for gap in (3.25, 0.895)]

    edit(directory / "toy.json", older)
    return store


def test_what_was_not_known_stays_so_until_it_is_updated(tmp_path):
    tasks = toy_tasks(3)
    store = schema_1(tmp_path, *tasks)
    store.update(tasks[0], certified(tasks[0], nominal={FIXED: 110.79}))
    store.update(tasks[1], certified(tasks[1]))
    store.save()
    data = json.loads((tmp_path / "toy.json").read_text())
    assert data["schema_version"] == 3
    known = [store.find(task) for task in tasks]
    assert [each.nominal_is_known for each in known] == [True, True, False]
    assert [each.ambiguous for each in known] == [True, False, False]
    assert data["patches"]["toy_002"]["nominal"] is None
    notes = {"checked": {"toy_002": {"set": "lowest", "fit_s": 1.0}}, "rtol": 1e-4}
    store.note("toy", "numpy+scipy", {**notes, "known_issues": []})
    assert not store.find(tasks[2]).nominal_is_known


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(local_minima=[{"gap": 1.0}]),
        lambda entry: entry.update(local_minima=3),
        lambda entry: entry.update(starts={FIXED: [1, 2]}),
        lambda entry: entry.update(starts=[1]),
    ],
)
def test_a_damaged_file_of_schema_1_is_refused(tmp_path, change):
    schema_1(tmp_path, *toy_tasks(1))
    edit(tmp_path / "toy.json", lambda data: change(data["patches"]["toy_000"]))
    with pytest.raises(ReferenceFileError, match="patches/toy_000"):
        read(tmp_path / "toy.json")


# The pool

POOL = (
    {"alpha_jes": 1.234567, "mu_W": 0.0, "alpha_jer": -0.005},
    {"alpha_jes": -2.0, "mu_W": 1.02},
    {"alpha_jes": 0.5, "mu_W": 0.75, "alpha_signal": 1.0},
)


def test_the_pool_comes_back_rounded(store, tmp_path):
    (task,) = toy_tasks(1)
    assert store.pool(task.pallet, task.config) is None
    store.update(task, certified(task), POOL)
    store.save()
    found = ReferenceStore([tmp_path], tmp_path).pool(task.pallet, task.config)
    assert [dict(sorted(point.items())) for point in found] == [
        {"alpha_jer": round(-0.005, 2), "alpha_jes": 1.23, "mu_W": 0.0},
        {"alpha_jes": -2.0, "mu_W": 1.02},
        {"alpha_jes": 0.5, "alpha_signal": 1.0, "mu_W": 0.75},
    ]
    assert all(isinstance(value, float) for point in found for value in point.values())
    text = (tmp_path / "toy.json").read_text()
    assert '    "parameters": ["alpha_jes", "mu_W", "alpha_jer", "alpha_signal"],\n' in text
    assert "      [-2.0, 1.02, null, null],\n" in text


numbers_of_a_start = st.floats(-1e6, 1e6).map(lambda value: round(value, 2))


@given(st.lists(st.dictionaries(st.text(max_size=3), numbers_of_a_start, max_size=4), max_size=4))
def test_starts_of_two_digits_are_the_same_to_the_last_bit(points):
    (task,) = toy_tasks(1)
    with tempfile.TemporaryDirectory() as directory:
        store = ReferenceStore([Path(directory)], Path(directory))
        store.update(task, certified(task), points)
        store.save()
        found = store.pool(task.pallet, task.config)
    assert json.dumps(list(found), sort_keys=True) == json.dumps(points, sort_keys=True)


def test_an_empty_pool_is_known_to_be_empty(store):
    (task,) = toy_tasks(1)
    store.update(task, certified(task), [])
    store.save()
    assert store.pool(task.pallet, task.config) == ()


def test_a_new_pool_takes_the_place_of_the_old_one(store, tmp_path):
    tasks = toy_tasks(2)
    store.update(tasks[0], certified(tasks[0]), POOL[:1])
    store.save()
    store.update(tasks[1], certified(tasks[1]))  # says nothing of it
    store.save()
    assert len(store.pool(tasks[0].pallet, tasks[0].config)) == 1
    store.note("toy", "numpy+scipy", {"checked": {}, "rtol": 1e-4, "known_issues": []})
    assert len(store.pool(tasks[0].pallet, tasks[0].config)) == 1
    store.update(tasks[1], certified(tasks[1]), POOL)
    store.save()
    assert len(store.pool(tasks[0].pallet, tasks[0].config)) == len(POOL)
    assert set(read(tmp_path / "toy.json")["patches"]) == {"toy_000", "toy_001"}


def test_the_pool_of_another_background_or_test_is_none(store):
    (task,) = toy_tasks(1)
    store.update(task, certified(task), POOL)
    store.save()
    assert store.pool(task.pallet, task.config) is not None
    assert store.pool(replace(task.pallet, digest="f" * 64), task.config) is None
    assert store.pool(task.pallet, HypotestConfig(test_poi=2.0)) is None
    assert store.pool(task.pallet, HypotestConfig(method="certified")) is not None
    (other,) = of_another_background(1)
    replacing = ReferenceStore([store.target], store.target, replaces=True)
    replacing.update(other, certified(other))
    replacing.save()
    assert replacing.pool(other.pallet, other.config) is None


# A reference is never made worse

HIGHER = [
    ({FREE: 100.5}, "gap 0.5 in the free fit to data"),
    ({FIXED: 113.0}, "gap 3 in the fixed poi fit to data"),
    ({BACKGROUND: 120.001}, "gap 0.001 in the background fit to data"),
    ({FIXED_ASIMOV: 140.1}, "gap 0.1 in the fixed poi fit to asimov"),
    ({FIXED: 110.25, BACKGROUND: 119.0}, "gap 0.25 in the fixed poi fit to data"),
    ({FIXED: math.nan}, "gap inf in the fixed poi fit to data"),
]


@pytest.mark.parametrize(("changes", "told"), HIGHER)
def test_a_higher_minimum_does_not_replace_a_lower_one(store, tmp_path, changes, told):
    (task,) = toy_tasks(1)
    store.update(task, certified(task))
    store.save()
    before = (tmp_path / "toy.json").read_bytes()
    update = store.update(task, certified(task, twice_nll=changes, cls_obs=0.5))
    assert update.refused == f"the reference has a lower minimum ({told}): nothing written"
    assert update.worse
    assert store.save() == []
    assert (tmp_path / "toy.json").read_bytes() == before
    assert store.written[tmp_path / "toy.json"].worse == 1


@pytest.mark.parametrize(
    "changes",
    [
        {FIXED: 109.0},
        {FREE: 99.0, FIXED: 109.5, BACKGROUND: 119.0},
        {FIXED: 110.000009},  # noise
        {BACKGROUND: 119.0, FREE_ASIMOV: 131.0, FIXED_ASIMOV: 145.0},  # other Asimov data
        {FREE_ASIMOV: 130.0005, FIXED_ASIMOV: 140.0005},  # the same, made a little elsewhere
    ],
)
def test_a_lower_minimum_replaces_a_higher_one(store, changes):
    (task,) = toy_tasks(1)
    store.update(task, certified(task))
    store.save()
    assert store.update(task, certified(task, twice_nll=changes, cls_obs=0.5)).refused is None
    store.save()
    assert store.find(task).CLs_obs == 0.5


def test_rounding_allows_for_more(store):
    (task,) = toy_tasks(1)
    store.update(task, certified(task, rounding=0.01))
    store.save()
    assert not store.update(task, certified(task, twice_nll={FIXED: 110.009})).worse
    assert store.update(task, certified(task, twice_nll={FIXED: 110.02})).worse


def test_another_model_and_another_patch_may_have_higher_minima(saved):
    (task, *_) = toy_tasks(5)
    saved.update(task, certified(task, twice_nll_off_minimum=150.0))
    saved.save()
    raised = {"twice_nll": {FIXED: 113.0}}
    assert saved.update(task, certified(task, **raised)).worse
    changed = certified(task, twice_nll_off_minimum=150.001, **raised)
    assert saved.update(task, changed).refused is None
    pallet = toy_pallet(1)
    other = replace(pallet, patches=(replace(pallet.patches[0], content=Packed("a" * 64, b"")),))
    (other_task,) = make_tasks(other, HypotestConfig())
    assert saved.update(other_task, certified(other_task, **raised)).refused is None


def test_an_exception_and_values_replace_each_other(store):
    (task,) = toy_tasks(1)
    for result in (certified(task), failed(task), certified(task, twice_nll={FIXED: 120.0})):
        assert store.update(task, result).refused is None
        store.save()
    assert store.find(task).twice_nll[FIXED] == 120.0


def test_the_same_minima_from_a_shorter_search_are_not_written(store, tmp_path):
    (task,) = toy_tasks(1)
    store.update(task, certified(task))
    store.save()
    before = (tmp_path / "toy.json").read_bytes()
    shorter = certified(task, certificate={"search": search(4)})
    update = store.update(task, shorter)
    assert not update.worse
    assert update.refused == (
        "the reference has the same minima from a longer search (96 random starts, not 16): "
        "nothing written"
    )
    store.save()
    assert (tmp_path / "toy.json").read_bytes() == before
    assert store.written[tmp_path / "toy.json"].weaker == 1
    longer = certified(task, certificate={"search": search(120)})
    assert store.update(task, longer).refused is None
    store.save()
    assert store.find(task).search[FIXED] == [40, 12, 120, 5]
    # Other minima count, however they were found.
    lower = certified(task, twice_nll={FIXED: 109.0}, certificate={"search": search(4)})
    assert store.update(task, lower).refused is None
    nominal = certified(task, nominal={FIXED: 110.79}, certificate={"search": search(4)})
    assert store.update(task, nominal).refused is None


def test_what_another_process_has_written_meanwhile_counts(store, tmp_path):
    (task,) = toy_tasks(1)
    assert not store.find(task)
    assert store.update(task, certified(task)).refused is None
    other = ReferenceStore([tmp_path], tmp_path)
    other.update(task, certified(task, twice_nll={FIXED: 109.0}, cls_obs=0.25))
    other.save()
    store.save()
    assert store.find(task).CLs_obs == 0.25
    assert store.written[tmp_path / "toy.json"].worse == 1
    assert store.written[tmp_path / "toy.json"].total == 0


def test_what_was_written_is_counted(store, tmp_path):
    tasks = toy_tasks(5)
    for task in tasks[:3]:
        store.update(task, certified(task))
    store.save()
    counted = store.written[tmp_path / "toy.json"]
    assert (counted.new, counted.changed, counted.confirmed, counted.total) == (3, 0, 0, 3)
    store.written.clear()
    store.update(tasks[0], certified(tasks[0], twice_nll={FIXED: 109.0}))
    store.update(tasks[1], certified(tasks[1]))
    store.update(tasks[2], certified(tasks[2], twice_nll={FIXED: 111.0}))
    store.update(tasks[3], failed(tasks[3]))
    store.update(tasks[4], certified(tasks[4]))
    store.save()
    counted = store.written[tmp_path / "toy.json"]
    assert (counted.new, counted.changed, counted.confirmed) == (2, 1, 1)
    assert (counted.invalid, counted.worse, counted.weaker) == (1, 1, 0)


def test_where_a_fit_setup_was_is_not_known_of_other_minima(store):
    tasks = toy_tasks(2)
    for task in tasks:
        store.update(task, certified(task))
    store.save()
    found = {"set": "both", "cls": 1e-6, "twice_nll": 1e-4, "fit_s": 0.5}
    notes = {"checked": {task.patch.name: found for task in tasks}, "rtol": 1e-4}
    store.note("toy", "numpy+scipy", {**notes, "known_issues": []})
    store.update(tasks[0], certified(tasks[0], nominal={FIXED: 110.79}))
    store.update(tasks[1], certified(tasks[1]))
    store.save()
    rest = {part: value for part, value in found.items() if part != "set"}
    assert store.find(tasks[0]).checked == {"numpy+scipy": rest}
    assert store.find(tasks[1]).checked == {"numpy+scipy": found}


def test_an_issue_of_other_versions_stays_in_the_file(store):
    tasks = toy_tasks(2)
    for task in tasks:
        store.update(task, certified(task))
    store.save()
    names = [task.patch.name for task in tasks]
    notes = {"checked": {name: {"set": "none", "fit_s": 1.0} for name in names}, "rtol": 1e-4}
    wrong, worse = ({"error": kind} for kind in ("KeyError", "ValueError"))
    new = {part: value for part, value in OLD_ISSUE.items() if part != "pyhf"}

    def note(pyhf, **patches):
        found = [{**new, "patches": patches}] if patches else []
        store.note("toy", "numpy+scipy", {**notes, "pyhf": pyhf, "known_issues": found})
        data = json.loads(store.load("toy")[0].read_text())
        return {issue.get("pyhf"): issue["patches"] for issue in data.get("known_issues", ())}

    edit(store.load("toy")[0], lambda data: data.update(known_issues=[OLD_ISSUE]))
    # With another pyhf it is right; and then another hypothesis is wrong there.
    assert note("0.8.0") == {"<=0.7.6": {names[0]: wrong}}
    assert note("0.8.0", **{names[1]: worse}) == {
        "<=0.7.6": {names[0]: wrong},
        None: {names[1]: worse},
    }
    # With its own pyhf what is still wrong is still one of these versions.
    assert note("0.7.6", **{names[0]: worse}) == {"<=0.7.6": {names[0]: worse}}
    assert note("0.7.6") == {}


# The types


def _part(*place):
    found = own_schema(SCHEMA)
    for name in place:
        found = found[name]
    return found


ENTRY = ("properties", "patches", "additionalProperties")
DIFFERENCE = (*ENTRY, "properties", "nominal", "properties", "differences", "items")
ISSUE = ("properties", "known_issues", "items")
FORMS = {
    form.ReferenceFile: (),
    form.Tolerance: ("properties", "tolerances", "additionalProperties"),
    form.IssueEntry: ISSUE,
    form.WrongValues: (*ISSUE, "properties", "patches", "additionalProperties"),
    form.Provenance: ("properties", "provenance", "items"),
    form.Entry: ENTRY,
    form.NominalEntry: (*ENTRY, "properties", "nominal"),
    form.Difference: DIFFERENCE,
    form.Parameter: (*DIFFERENCE, "properties", "parameters", "items"),
    form.Checked: (*ENTRY, "properties", "checked", "additionalProperties"),
    form.PoolEntry: ("properties", "pool"),
    form.LimitsEntry: (*ENTRY, "properties", "limits"),
    form.LimitValues: (*ENTRY, "properties", "limits", "properties", "nominal"),
    form.ToysEntry: (*ENTRY, "properties", "toys"),
    form.PublishedEntry: (*ENTRY, "properties", "published"),
}


def test_each_form_of_a_file_is_held_to_the_schema():
    made = {each for each in vars(form).values() if is_typeddict(each)}
    assert {each for each in made if not each.__name__.startswith("_")} == set(FORMS)


@pytest.mark.parametrize("made", FORMS, ids=lambda made: made.__name__)
def test_a_form_of_a_file_has_the_fields_of_the_schema(made):
    described = _part(*FORMS[made])
    fields = made.__required_keys__ | made.__optional_keys__
    assert fields == described["properties"].keys()
    assert made.__required_keys__ == set(described.get("required", ()))
