"""Certified batches are answered as by the worker, from both minima, and pyhf may object."""

from __future__ import annotations

import copy
import json
import math
import os
import re
import subprocess
import sys

import jsonpatch
import pyhf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.results import FITS, HypotestResult
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.search import BRIEF, THOROUGH
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets import catalogue, packing
from pytest_pyhf_faas.worker import certified, fitting
from pytest_pyhf_faas.worker.certified import certify_batch
from pytest_pyhf_faas.worker.patching import apply_patch
from tests.histfactory.generated import (
    MU,
    copied,
    gammas,
    histosys,
    normsys,
    sample,
    workspace,
)
from tests.worker.test_fitting import packed

pytestmark = pytest.mark.timeout(300)

#: Three of one shape, and one that has no parameter of interest.
NAMES = ("synthetic_300_0", "synthetic_500_100", "synthetic_800_0")
NO_SIGNAL = "synthetic_900_890"
OURS = "pytest_pyhf_faas.histfactory.errors."
TO_DATA = ("fixed_poi_fit_to_data", "free_fit_to_data", "background_fit_to_data")
relaxed = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def fresh_worker(monkeypatch):
    """A worker that has done nothing yet; pyhf is left as it was found."""
    for module, name in (
        (fitting, "_backgrounds"),
        (fitting, "_environments"),
        (certified, "_workspaces"),
    ):
        monkeypatch.setattr(module, name, {})
    pyhf.set_backend("numpy", "scipy")
    yield
    pyhf.set_backend("numpy", "scipy")


@pytest.fixture(scope="module")
def bundled():
    """The patches of the bundled pallet, and its background."""
    (found,) = catalogue.resolve(catalogue.BUNDLED, search_path=[])
    return found


def tasks_of(where, names, **fields):
    tasks = make_tasks(where, HypotestConfig(method="certified", **fields))
    return [next(task for task in tasks if task.patch.name == name) for name in names]


def background(*modifiers, observed=(67, 30), parameters=()):
    """Two bins, the first of which has an excess; the modifiers are those of its background."""
    samples = [sample("background", [50.0, 28.0], *modifiers)]
    return workspace({"bins": samples}, {"bins": list(observed)}, parameters)


#: Up and down raise the background where there is an excess; up begins to, down does more.
BOTH = histosys("both", [58.0, 33.0], [63.0, 45.0])


def signal(rates=(0.0, 7.0), *modifiers):
    """The patch that adds a signal."""
    return [
        {
            "op": "add",
            "path": "/channels/0/samples/0",
            "value": sample("signal", list(rates), MU, *modifiers),
        }
    ]


def batch(specification, *patches, pool=(), **fields):
    fields = {"method": "certified", **fields}
    return {
        "background": {"digest": json.dumps(specification), "data": packed(specification)},
        "config": HypotestConfig(**fields).to_json(),
        "patches": [
            {"key": f"key{number}", "data": packed(patch)} for number, patch in enumerate(patches)
        ],
        "pool": list(pool),
    }


def certify(*args, **fields):
    """Certify a batch, and check what holds for each answer."""
    answer = certify_batch(batch(*args, **fields))
    json.dumps(answer, allow_nan=False)
    return answer["results"]


def certify_one(specification, patch, **fields):
    (result,) = certify(specification, patch, **fields)
    assert result["status"] == "ok", result["error"]["traceback"]
    return result


def without_times(results):
    return [
        {name: value for name, value in result.items() if name != "seconds"} for result in results
    ]


# --- batches ------------------------------------------------------------------------------------


@pytest.mark.parametrize("checked", [False, True])
def test_a_batch_is_answered_as_by_the_worker(bundled, checked):
    tasks = tasks_of(bundled, [*NAMES, NO_SIGNAL], checked=checked)
    payload = batch_payload(tasks)
    broken = [{"op": "remove", "path": "/channels/99"}]
    payload["patches"].append({"key": "broken", "data": packed(broken)})
    answer = certify_batch(payload)
    json.dumps(answer, allow_nan=False)
    plain = fitting.fit_batch({**payload, "config": HypotestConfig().to_json()})
    assert answer.keys() == plain.keys()
    for ours, theirs in zip(answer["results"], plain["results"], strict=True):
        assert (ours["key"], ours["status"]) == (theirs["key"], theirs["status"])
        assert ours["seconds"].keys() == theirs["seconds"].keys()
        assert ours["warnings"] == []
        if ours["status"] == "ok":
            assert ours.keys() == {*theirs, "certificate", "rounding"}
            assert ours["CLs_obs"] == pytest.approx(theirs["CLs_obs"], rel=5e-3)
            assert ours["CLs_exp"] == pytest.approx(theirs["CLs_exp"], rel=5e-3)
            assert ours["mu_hat"] == pytest.approx(theirs["mu_hat"], abs=2e-3)
            assert ours["asimov_poi"] == theirs["asimov_poi"] == 0
            off = theirs["twice_nll_off_minimum"]
            assert ours["twice_nll_off_minimum"] == pytest.approx(off, rel=1e-12)
            assert set(ours["twice_nll"]) == set(FITS)
            for name in TO_DATA:
                assert ours["twice_nll"][name] <= theirs["twice_nll"][name] + 1e-9
                assert ours["twice_nll"][name] == pytest.approx(theirs["twice_nll"][name], abs=1e-3)
            assert 0 < ours["rounding"] < 1e-9
            assert 0 <= ours["certificate"]["distance"] < 1e-8
    *good, no_signal, broken = answer["results"]
    assert {result["status"] for result in good} == {"ok"}
    # Where a reference is made, the error is the one that pyhf has.
    if checked:
        assert no_signal["error"]["type"] == "pyhf.exceptions.InvalidModel"
        assert no_signal["error"]["message"] == plain["results"][3]["error"]["message"]
    else:
        assert no_signal["error"]["type"] == f"{OURS}InvalidModel"
        assert "as in a patch without a signal" in no_signal["error"]["message"]
    assert broken["error"] == {
        **plain["results"][4]["error"],
        "traceback": broken["error"]["traceback"],
    }
    assert answer["environment"]["backend"] is None
    assert answer["environment"]["optimizer"] == "certified"


def test_the_client_reads_what_it_answers():
    data = certify_one(background(BOTH), signal(), effort="thorough")
    result = HypotestResult.from_json({**data, "pallet": "p", "patch": "s"}, None)
    assert result.certificate == data["certificate"]
    assert result.rounding == data["rounding"]
    again = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert again["certificate"] == data["certificate"]


@pytest.mark.parametrize("histosys_interpcode", ["code0", "code2", "code4p"])
@pytest.mark.parametrize("normsys_interpcode", ["code1", "code4"])
def test_interpolation_codes_are_those_that_were_asked_for(normsys_interpcode, histosys_interpcode):
    codes = {"normsys_interpcode": normsys_interpcode, "histosys_interpcode": histosys_interpcode}
    shape, scale = histosys("shape", [46.0, 29.0], [55.0, 26.5]), normsys("scale", 0.8, 1.1)
    payload = batch(background(shape, scale, gammas("shapesys", "g", [3.0, 4.0])), signal())
    off_minimum = {}
    for method in ("certified", "hypotest"):
        config = HypotestConfig(method=method, checked=method == "certified", **codes).to_json()
        run = certify_batch if method == "certified" else fitting.fit_batch
        (result,) = run({**payload, "config": config})["results"]
        off_minimum[method] = result["twice_nll_off_minimum"]
    assert off_minimum["certified"] == pytest.approx(off_minimum["hypotest"], rel=1e-12)


def test_a_measurement_is_chosen_by_its_name():
    specification = background(normsys("scale", 0.8, 1.1))
    other = {"name": "other", "config": {"poi": "nu", "parameters": []}}
    specification["measurements"].append(other)
    patch = copied(signal())
    patch[0]["value"]["modifiers"][0]["name"] = "nu"
    first, second = certify(specification, signal(), patch, checked=True)
    assert (first["status"], second["status"]) == ("ok", "error")
    first, second = certify(specification, signal(), patch, measurement="other", checked=True)
    assert (first["status"], second["status"]) == ("error", "ok")
    (result,) = certify(specification, signal(), measurement="absent")
    assert result["error"]["message"] == "no measurement 'absent' in the workspace, but: m, other"


def test_what_cannot_be_certified_in_a_batch_spares_the_others():
    kink = histosys("kink", [60.0, 29.0], [60.0, 29.0])
    sharp = [{"op": "add", "path": "/channels/0/samples/0/modifiers/0", "value": kink}]
    sharp += signal([2.0, 12.0])
    specification = background(observed=(49, 30))
    first, second, third = certify(
        specification, signal(), sharp, signal(), histosys_interpcode="code0"
    )
    assert (first["status"], second["status"], third["status"]) == ("ok", "error", "ok")
    assert first["CLs_obs"] == third["CLs_obs"]
    assert second["error"]["type"] == f"{OURS}CertificationError"
    assert re.match(r"the [\w ]+ ended at an estimated distance of", second["error"]["message"])
    assert "CLs_obs" not in second


@pytest.mark.parametrize("checked", [False, True])
def test_what_only_we_refuse_is_reported_by_our_own_error(checked):
    """pyhf makes a model of a variation to nothing, whose logarithm it then takes."""
    patch = signal([3.0, 7.0], normsys("jes", 0.0, 1.1))
    (result,) = certify(background(), patch, checked=checked)
    assert result["error"]["type"] == f"{OURS}InvalidModel"
    assert result["error"]["message"].startswith(
        "the normsys jes of the sample signal of the channel bins has lo = 0 and hi = 1.1"
    )


def test_a_malformed_patch_gets_the_message_of_the_schema_where_it_is_checked():
    patch = signal(["three", "seven"])
    (ours,) = certify(background(), patch, checked=True)
    (theirs,) = fitting.fit_batch(batch(background(), patch, method="hypotest"))["results"]
    assert ours["error"]["type"] == "pyhf.exceptions.InvalidSpecification"
    assert ours["error"]["message"] == theirs["error"]["message"]
    assert certify(background(), patch)[0]["status"] == "error"


def test_a_background_that_cannot_be_unpacked_is_an_error_for_each_patch():
    broken = batch(background(), signal(), signal())
    broken["background"]["data"] = "abc"
    answer = certify_batch(broken)
    assert [result["key"] for result in answer["results"]] == ["key0", "key1"]
    assert {result["status"] for result in answer["results"]} == {"error"}
    assert certify(background(), signal())[0]["status"] == "ok"  # it is not remembered


def test_an_interrupt_is_no_answer(monkeypatch):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(newton, "minimize", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certify(background(), signal())


# --- what a worker remembers --------------------------------------------------------------------


def test_a_result_does_not_depend_on_what_its_worker_did_before():
    """Both have two minima, and each leads to a lower one of the other."""
    specification = background(BOTH, normsys("scale", 0.8, 1.1))
    a, b = signal(), signal([1.0, 9.0])

    def results(*patches):
        return without_times(certify(specification, *patches))

    (alone,) = results(a)
    assert alone["certificate"]["differences"]
    first, second = results(b, a)
    assert second == {**alone, "key": "key1"}
    third, fourth = results(a, b)
    assert third == alone
    assert fourth == {**first, "key": "key1"}
    # And on a worker that starts again, or has another pallet between.
    certify(background(), signal(), effort="thorough")
    certified._workspaces.clear()
    assert results(a) == [alone]


def test_a_background_is_read_once_and_only_so_many_are_kept(monkeypatch):
    read = []
    from_json = Workspace.from_json

    def counted(specification, known=None):
        read.append(known)
        return from_json(specification, known)

    monkeypatch.setattr(Workspace, "from_json", counted)
    specification = background()
    certify(specification, signal(), signal())
    certify(specification, signal([1.0, 2.0]))
    assert [known is None for known in read] == [True, False, False, False]
    for number in range(fitting.MAX_BACKGROUNDS):
        certify(background(observed=(67, number)))
    assert len(certified._workspaces) == fitting.MAX_BACKGROUNDS
    assert json.dumps(specification) not in certified._workspaces


def test_draws_are_those_of_a_patch():
    """So that a pallet is searched at many places, and each patch always at the same ones."""
    specification = background(BOTH)
    one, same, other = certify(
        specification, signal(), signal(), signal([0.0, 7.000001]), effort="thorough"
    )
    assert one["certificate"] == same["certificate"]
    searches = [result["certificate"]["search"] for result in (one, other)]
    assert searches[0] != searches[1]


# --- both minima --------------------------------------------------------------------------------


def test_the_values_are_those_of_the_lowest_minima_and_the_certificate_has_the_nominal_ones():
    result = certify_one(background(BOTH), signal(), effort="thorough")
    certificate = result["certificate"]
    assert set(certificate) == {
        *("distance", "nominal", "differences", "minima", "search", "new", "helpful"),
    }
    nominal = certificate["nominal"]
    assert set(nominal) == {"CLs_obs", "CLs_exp", "mu_hat", "twice_nll"}
    (plain,) = fitting.fit_batch(batch(background(BOTH), signal(), method="hypotest"))["results"]
    assert nominal["CLs_obs"] == pytest.approx(plain["CLs_obs"], rel=1e-4)
    assert nominal["CLs_exp"] == pytest.approx(plain["CLs_exp"], rel=1e-4)
    assert nominal["twice_nll"] == pytest.approx(plain["twice_nll"], abs=1e-4)
    assert result["CLs_obs"] < nominal["CLs_obs"] - 0.1
    assert result["twice_nll_asimov_truth"] == result["twice_nll"]["free_fit_to_asimov"]
    # Asimov data of other parameters are other data, whose fits do not compare.
    assert [entry["fit"] for entry in certificate["differences"]] == [
        "free_fit_to_data",
        "background_fit_to_data",
    ]
    for entry in certificate["differences"]:
        fit = entry["fit"]
        assert set(entry) == {"fit", "gap", "parameters", "at_bound"}
        gap = nominal["twice_nll"][fit] - result["twice_nll"][fit]
        assert entry["gap"] == pytest.approx(gap, abs=1e-12)
        assert entry["gap"] > 0.5
        first = entry["parameters"][0]
        assert (first["name"], first["lowest"] < 0 < first["nominal"]) == ("both", True)
        # The other minimum is the nominal one.
        assert certificate["minima"][fit] == pytest.approx([entry["gap"]], abs=1e-9)
    free, background_fit = certificate["differences"]
    assert free["at_bound"] == ["mu"]
    assert background_fit["at_bound"] == []  # there it is fixed


def test_parameters_that_differ_most_are_named_first_in_units_of_their_widths():
    specification = background(
        BOTH, normsys("scale", 0.9, 1.1), gammas("staterror", "stat", [4.0, 2.0])
    )
    result = certify_one(specification, signal(), effort="thorough")
    assert len(result["certificate"]["differences"]) == 2
    for entry in result["certificate"]["differences"]:
        names = [parameter["name"] for parameter in entry["parameters"]]
        assert names == ["both", "stat[0]", "stat[1]"]
        apart = [abs(there["nominal"] - there["lowest"]) for there in entry["parameters"]]
        assert apart[0] > 1
        assert apart[1] < 0.02  # of a width of 0.08; that of the scale is 1


def test_where_the_asimov_data_differ_their_fits_do_not_compare():
    """Though that to the nominal ones is 0.2 above the other."""
    both = histosys("both", [56.0, 72.0], [61.0, 73.0])
    specification = workspace(
        {"bins": [sample("background", [41.0, 52.0], both)]}, {"bins": [44, 61]}
    )
    result = certify_one(specification, signal([3.0, 11.0]), effort="thorough")
    certificate = result["certificate"]
    fit = "fixed_poi_fit_to_asimov"
    assert certificate["nominal"]["twice_nll"][fit] > result["twice_nll"][fit] + 0.1
    assert [entry["fit"] for entry in certificate["differences"]] == ["background_fit_to_data"]
    assert set(certificate["minima"]) == {"background_fit_to_data"}


def test_where_the_asimov_data_are_the_same_their_fits_compare():
    specification = workspace(
        {"bins": [sample("background", [40.0], histosys("both", [63.0], [36.0]))]}, {"bins": [33]}
    )
    result = certify_one(specification, signal([11.0]), effort="thorough")
    (entry,) = result["certificate"]["differences"]
    assert entry["fit"] == "fixed_poi_fit_to_asimov"
    assert entry["gap"] == pytest.approx(0.0561, abs=1e-4)
    nominal = result["certificate"]["nominal"]
    assert {**nominal["twice_nll"], entry["fit"]: 0} == {**result["twice_nll"], entry["fit"]: 0}
    assert nominal["CLs_exp"] != result["CLs_exp"]


def test_without_a_second_minimum_there_is_no_other_set():
    result = certify_one(background(normsys("scale", 0.8, 1.1)), signal(), effort="thorough")
    certificate = result["certificate"]
    assert certificate["nominal"] is None
    assert (certificate["differences"], certificate["minima"], certificate["new"]) == ([], {}, [])


@pytest.mark.parametrize(("effort", "asked"), [("brief", BRIEF), ("thorough", THOROUGH)])
def test_evidence_is_that_of_the_search(effort, asked):
    result = certify_one(background(BOTH), signal(), effort=effort)
    draws = asked.draws, asked.background_draws
    search = result["certificate"]["search"]
    assert set(search) == set(FITS) - {"free_fit_to_asimov"}
    for name, evidence in search.items():
        assert set(evidence) == {"starts", "reached", "random", "reached_at_random", "unseen"}
        assert 1 <= evidence["reached"] <= evidence["starts"]
        assert evidence["reached_at_random"] <= min(evidence["reached"], evidence["random"])
        if name == "free_fit_to_data":
            assert (evidence["random"], evidence["unseen"]) == (0, None)
        else:
            assert evidence["random"] == draws[name != "fixed_poi_fit_to_data"]
            once = evidence["unseen"] * evidence["random"]
            # At most two minima are there to be found.
            assert once in (0, 1, 2)
            if once == 0:
                assert evidence["reached_at_random"] != 1


def test_what_the_pool_lacks_is_new_and_with_it_nothing_is():
    """A pool has interpolated and free parameters to two digits, and gammas that went far."""
    controls = {
        f"control{number}": [
            sample(
                "background", [25.0, 14.0], histosys(f"both{number}", [29.0, 16.5], [31.5, 22.5])
            )
        ]
        for number in range(8)
    }
    inside = [normsys("scale", 0.9, 1.1), gammas("staterror", "stat", [2.0, 1.0])]
    free = {"name": "k", "type": "normfactor", "data": None}
    far = gammas("staterror", "far", [10.0])
    channels = {
        "bins": [sample("background", [50.0, 28.0], *inside, free)],
        "odd": [sample("background", [1000.0], far)],
        **controls,
    }
    observed = {name: [34, 15] for name in controls}
    specification = workspace(channels, {"bins": [51, 31], "odd": [1500], **observed})
    brief = certify_one(specification, signal())
    thorough = certify_one(specification, signal(), effort="thorough")
    new = thorough["certificate"]["new"]
    assert new
    for point in new:
        assert set(point) == {"scale", "k", "far[0]", *(f"both{number}" for number in range(8))}
        assert point["far[0]"] > 1.03
        assert all(value == round(value, 2) for value in point.values())
    pooled = certify_one(specification, signal(), pool=new)
    assert pooled["certificate"]["new"] == []
    helpful = pooled["certificate"]["helpful"]
    assert any(helpful.values())
    assert {index for indices in helpful.values() for index in indices} <= set(range(len(new)))
    for name in TO_DATA:
        assert brief["twice_nll"][name] > thorough["twice_nll"][name] + 0.1
        assert pooled["twice_nll"][name] == pytest.approx(thorough["twice_nll"][name], abs=1e-9)


# --- patches ------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "text", 0.5])
keys = st.sampled_from(["a", "b", "0", "-", "~", "/", "~1", "", "ü"])
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)
roots = st.dictionaries(keys, documents, max_size=5)


def locations(document, pointer=""):
    """Yield the pointers to all that a document has, and to itself."""
    yield pointer
    if isinstance(document, dict):
        for key, value in document.items():
            yield from locations(value, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from locations(value, f"{pointer}/{index}")


@st.composite
def patches(draw):
    """Return a document and a patch, of which most apply."""
    document = draw(roots)
    state = copy.deepcopy(document)
    operations = []
    for _ in range(draw(st.integers(1, 6))):
        there = list(locations(state))
        some = st.sampled_from(there)
        near = st.builds(lambda at, key: f"{at}/{key}", some, keys.map(jsonpatch_escape))
        anywhere = some | near
        kind = draw(st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]))
        operation = {"op": kind, "path": draw(anywhere if kind in ("add", "test") else some)}
        if kind in ("move", "copy"):
            operation = {"op": kind, "from": draw(some), "path": draw(anywhere)}
        elif kind != "remove":
            operation["value"] = draw(documents)
        if kind == "test" and draw(st.booleans()):
            operation["path"], value = draw(st.sampled_from(list(values(state))))
            operation["value"] = copy.deepcopy(value)
        operations.append(operation)
        try:
            state = jsonpatch.apply_patch(state, copy.deepcopy([operation]))
        except Exception:  # noqa: BLE001 - it is for both to say so
            break
    return document, operations


def jsonpatch_escape(key):
    return key.replace("~", "~0").replace("/", "~1")


def values(document):
    """Yield the pointers of a document with what is there."""
    for pointer in locations(document):
        here = document
        for step in pointer.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            here = here[int(name) if isinstance(here, list) else name]
        yield pointer, here


def outcome(function, *args):
    """Return what a function returns, or how it fails."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - any
        return type(error), str(error)


@relaxed
@given(patches())
def test_a_patch_is_applied_as_by_jsonpatch_and_the_background_stays(case):
    document, operations = case
    before = copy.deepcopy(document)
    ours = outcome(apply_patch, copy.deepcopy(operations), document)
    assert document == before
    assert json.dumps(document) == json.dumps(before)  # 1, 1.0 and True are equal
    theirs = outcome(fitting.apply, copy.deepcopy(operations), copy.deepcopy(document))
    assert ours == theirs
    if not isinstance(ours, dict) or any(operation["path"] == "" for operation in operations):
        return
    assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
    if any(operation["op"] == "move" for operation in operations):
        return
    # What no operation goes into is the very same object.
    touched = {
        pointer.split("/")[1]
        for operation in operations
        for pointer in (operation["path"], operation.get("from") or "/")
    }
    for key, value in document.items():
        if jsonpatch_escape(key) not in touched:
            assert ours[key] is value


@relaxed
@given(roots, roots, patches())
def test_one_background_serves_many_patches(document, other, case):
    """Patches that are applied to it one after the other know nothing of each other."""
    _, operations = case
    alone = outcome(apply_patch, copy.deepcopy(operations), copy.deepcopy(document))
    add = [{"op": "add", "path": "/a", "value": other}, {"op": "copy", "from": "/a", "path": "/b"}]
    for patch in (add, operations, [*add, {"op": "add", "path": "/a/a", "value": 1}]):
        outcome(apply_patch, copy.deepcopy(patch), document)
    assert outcome(apply_patch, copy.deepcopy(operations), document) == alone


def test_only_what_leads_to_a_change_is_copied(bundled):
    specification = packing.unpack(bundled.background)
    before = copied(specification)
    operations = bundled.patches[3].operations
    patched = apply_patch(operations, specification)
    assert specification == before
    assert patched == jsonpatch.apply_patch(before, operations)
    touched = {operation["path"].split("/")[2] for operation in operations}
    for index, channel in enumerate(specification["channels"]):
        after = patched["channels"][index]
        assert (after is channel) == (str(index) not in touched)
        shared = [
            one for one in after["samples"] if any(one is other for other in channel["samples"])
        ]
        assert len(shared) == len(channel["samples"])
    assert patched["measurements"] is specification["measurements"]


@pytest.mark.parametrize(
    "operations",
    [
        {"op": "add"},
        None,
        "text",
        [3],
        [{}],
        [{"op": "dance"}],
        [{"op": "add", "path": 3, "value": 1}],
        [{"op": "copy", "path": "/a", "from": 7}],
        [{"op": "copy", "path": "/a"}],
        [{"op": "add", "path": "a", "value": 1}],
    ],
    ids=str,
)
def test_what_is_no_patch_is_refused_as_by_the_worker(operations):
    document = {"a": [1]}
    with pytest.raises(
        ValueError, match=r"^the patch does not apply to the background: "
    ) as caught:
        apply_patch(operations, document)
    assert document == {"a": [1]}
    assert outcome(fitting.apply, operations, {"a": [1]}) == (ValueError, str(caught.value))


# --- pyhf, the other program --------------------------------------------------------------------

#: A background with one of each constraint, and what a measurement can say.
FULL = background(
    histosys("shape", [46.0, 29.0], [55.0, 26.5]),
    normsys("scale", 0.8, 1.1),
    gammas("shapesys", "gamma", [3.0, 4.0]),
    gammas("staterror", "stat", [2.0, 1.0]),
    parameters=[{"name": "mu", "bounds": [[0.0, 5.0]]}, {"name": "scale", "auxdata": [0.1]}],
)


def at(document, path):
    for step in path:
        document = document[step]
    return document


def planted(monkeypatch, path, value):
    """Let us read another patched workspace than pyhf does."""
    from_json = Workspace.from_json

    def wrong(specification, known=None):
        if known is None:  # the background
            return from_json(specification)
        specification = copied(specification)
        *above, last = path
        here = at(specification, above)
        here[last] = value(here[last]) if callable(value) else value
        return from_json(specification)

    monkeypatch.setattr(Workspace, "from_json", wrong)


def found_out(monkeypatch, path, value):
    """Return what a checked batch says of it; an unchecked one does not notice."""
    planted(monkeypatch, path, value)
    assert certify(FULL, signal([3.0, 7.0]))[0]["status"] == "ok"
    (result,) = certify(FULL, signal([3.0, 7.0]), checked=True)
    assert result["status"] == "error"
    assert result["error"]["type"] == "pytest_pyhf_faas.worker.certified.DisagreementError"
    return result["error"]["message"]


def test_both_agree_on_the_likelihood():
    assert certify_one(FULL, signal([3.0, 7.0]), checked=True)["CLs_obs"] > 0


SAMPLES = ("channels", 0, "samples")
BACKGROUND_MODIFIERS = (*SAMPLES, 1, "modifiers")
SETTINGS = ("measurements", 0, "config", "parameters")


@pytest.mark.parametrize("factor", [1.01, 1 + 1e-8])
@pytest.mark.parametrize(
    ("path", "where"),
    [
        ((*SAMPLES, 0, "data", 1), "the sample signal has .* events in bin 1 of"),
        ((*SAMPLES, 1, "data", 0), "the sample background has .* events in bin 0 of"),
        (
            (*BACKGROUND_MODIFIERS, 0, "data", "hi_data", 1),
            "the sample background has .* events in bin 1 of",
        ),
        (
            (*BACKGROUND_MODIFIERS, 1, "data", "hi"),
            "the sample background has .* events in bin [01] of",
        ),
    ],
    ids=["signal", "background", "histosys", "normsys"],
)
def test_a_rate_that_differs_is_found_out_with_its_sample_and_bin(path, where, factor, monkeypatch):
    message = found_out(monkeypatch, path, lambda value: value * factor)
    number = r"\d+\.\d+"
    pattern = (
        rf"twice the NLL is {number}, and {number} by pyhf: {where} the channel bins, and "
        rf"{number} by pyhf"
    )
    assert re.fullmatch(pattern, message), message
    if "signal" in where and factor > 1.001:
        assert re.search(r"signal has 7\.7\d* events", message)  # at 1.1 of 7 * 1.01
        assert message.endswith("and 7.7 by pyhf")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*SETTINGS, 1, "auxdata", 0), 0.11),
        (("observations", 0, "data", 0), 67.001),
        ((*BACKGROUND_MODIFIERS, 2, "data", 0), 3.01),
        ((*BACKGROUND_MODIFIERS, 3, "data", 1), 1.01),
    ],
    ids=["auxiliary", "events", "shapesys", "staterror"],
)
def test_constraint_terms_and_data_that_differ_are_found_out(path, value, monkeypatch):
    message = found_out(monkeypatch, path, value)
    assert message.endswith(" by pyhf: the rates agree, so it is the constraint terms or the data")


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        ((*SETTINGS, 1), {"name": "scale", "auxdata": [0.1], "inits": [0.2]}, "initial values"),
        ((*SETTINGS, 0, "bounds", 0, 0), 0.0 - 1e-3, "lower bounds"),
        ((*SETTINGS, 0, "bounds", 0, 1), 5.5, "upper bounds"),
        ((*SETTINGS, 1), {"name": "scale", "auxdata": [0.1], "fixed": True}, "fixed"),
        ((*BACKGROUND_MODIFIERS, 1, "name"), "scales", "names"),
    ],
    ids=["initial", "lower", "upper", "fixed", "name"],
)
def test_parameters_that_differ_are_found_out(path, value, what, monkeypatch):
    message = found_out(monkeypatch, path, value)
    assert message.startswith(f"pyhf has other {what} of the parameters: [")
    assert len(message) < 400


def test_a_check_does_not_depend_on_what_pyhf_fitted_before():
    pyhf.set_backend("numpy", "scipy", precision="32b")
    assert certify_one(FULL, signal([3.0, 7.0]), checked=True)["status"] == "ok"
    assert pyhf.tensorlib.precision == "64b"


# --- where it runs ------------------------------------------------------------------------------

BARE = """\
import json
import sys


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pyhf", "jax", "jaxlib", "iminuit", "pytest"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, NotInstalled())
from pytest_pyhf_faas.worker.certified import certify_batch

print(json.dumps(certify_batch(json.load(sys.stdin))))
"""


def test_where_there_is_neither_pyhf_nor_jax_a_batch_has_the_same_values(bundled):
    payload = batch_payload(tasks_of(bundled, [*NAMES[:2], NO_SIGNAL]))
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        check=True,
    )
    there = json.loads(done.stdout)["results"]
    assert [result["status"] for result in there] == ["ok", "ok", "error"]
    assert there[2]["error"]["type"] == f"{OURS}InvalidModel"
    here = json.loads(json.dumps(certify_batch(payload)))["results"]
    assert without_times(there)[:2] == without_times(here)[:2]


def test_where_there_is_no_pyhf_a_check_says_so(bundled):
    payload = batch_payload(tasks_of(bundled, NAMES[:1], checked=True))
    done = subprocess.run(
        [sys.executable, "-c", BARE],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        check=True,
    )
    (result,) = json.loads(done.stdout)["results"]
    assert result["error"]["type"] == "ModuleNotFoundError"
    assert result["error"]["message"] == "No module named 'pyhf'"


# --- a published pallet -------------------------------------------------------------------------


@pytest.mark.skipif(not os.environ.get("PYHF_PALLET_PATH"), reason="PYHF_PALLET_PATH is not set")
def test_minima_that_several_parameters_lead_to_together_are_found():
    """The values are from a search of its own, with hundreds of random starts."""
    (stau,) = catalogue.resolve(
        "stau_combined", search_path=catalogue.search_path_from_environment()
    )
    fit = "fixed_poi_fit_to_data"
    (task,) = tasks_of(stau, ["DS_320_80_Staus"], effort="thorough", checked=True)
    (result,) = certify_batch(batch_payload([task]))["results"]
    nominal = result["certificate"]["nominal"]
    assert result["twice_nll"][fit] == pytest.approx(222.2488, abs=1e-3)
    gap = nominal["twice_nll"][fit] - result["twice_nll"][fit]
    assert gap == pytest.approx(2.4803, abs=1e-3)  # where SciPy and Minuit end
    assert any(math.isclose(gap, other) for other in result["certificate"]["minima"][fit])
    assert result["CLs_obs"] == pytest.approx(0.02279, abs=1e-5)
    assert nominal["CLs_obs"] == pytest.approx(0.00795, abs=1e-5)
