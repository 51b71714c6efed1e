"""Everything that is wrong with a pallet is found at once, and what pyhf can fit is no error."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path

import jsonpatch
import numpy as np
import pyhf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.search import Search
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets import check as module
from pytest_pyhf_faas.pallets.check import Finding, PalletCheck, check, refuse, without_model
from pytest_pyhf_faas.pallets.packing import digest, unpack
from pytest_pyhf_faas.pallets.pallet import Packed, SignalPatch
from pytest_pyhf_faas.pallets.read import read_pallets
from tests.histfactory.generated import (
    LUMI,
    MU,
    by_pyhf,
    cases,
    factor,
    gammas,
    histosys,
    normsys,
    older_numpy,
    sample,
    twice_nll,
    workspace,
)

pytestmark = older_numpy

REAL = os.environ.get("PYHF_PALLET_PATH")


def background(*modifiers, rates=(50.0, 20.0), observed=(52, 19), parameters=()):
    return workspace(
        {
            "CR": [sample("bkg", [200.0], normsys("norm", 0.9, 1.1))],
            "SR": [sample("bkg", list(rates), normsys("norm", 0.9, 1.1), *modifiers)],
        },
        {"CR": [205], "SR": list(observed)},
        parameters,
    )


def signal(name, rates=(10.0, 8.0), *modifiers):
    value = sample("sig", list(rates), MU, *modifiers)
    return patch(name, [{"op": "add", "path": "/channels/1/samples/1", "value": value}])


def patch(name, operations):
    return SignalPatch("tiny", name, (1, 2), Packed.of(operations))


def poi(**setting):
    return {"name": "mu", "inits": [1.0], "bounds": [[0, 10]], **setting}


def without(key, setting):
    return {name: value for name, value in setting.items() if name != key}


def errors(specification, *patches, **how):
    patches = patches or (signal("a"),)
    return [each.text for each in check(specification, patches, **how) if each.level == "error"]


def test_a_sound_pallet_has_no_findings():
    assert check(background(), [signal("a"), signal("b", (1.0, 2.0))]) == []


def two_channels(specification):
    specification["channels"].append(specification["channels"][0])


def two_samples(specification):
    specification["channels"][1]["samples"].append(sample("bkg", [1.0, 2.0]))


def no_observation(specification):
    del specification["observations"][0]


def long_observation(specification):
    specification["observations"][0]["data"].append(3)


def other_poi(specification):
    specification["measurements"][0]["config"]["poi"] = "mu_sig"


@pytest.mark.parametrize(
    ("specification", "change", "told"),
    [
        (background(), two_channels, "two channels are called CR"),
        (background(), two_samples, "two samples of the channel SR are called bkg"),
        (
            background(normsys("norm", 0.8, 1.2)),
            None,
            "the sample bkg of the channel SR has two modifiers norm of type normsys",
        ),
        (background(), no_observation, "no observation for the channel CR"),
        (background(), long_observation, "the observation of the channel CR has 2 bins"),
        (background(observed=(52, -1)), None, "bin 1 of the channel SR has -1 events"),
        (background(histosys("h", [1.0], [2.0, 3.0])), None, "the histosys h of the sample bkg"),
        (background(gammas("staterror", "g", [1.0])), None, "the staterror g of the sample bkg"),
        (background(normsys("n", 0.0, 2.0)), None, "lo = 0 and hi = 2: both must be positive"),
        (background(normsys("n", 0.9, -2.0)), None, "lo = 0.9 and hi = -2: both must be"),
        (
            background(factor("lumi", "lumi")),
            None,
            "the measurement gives no inits, bounds, auxdata for the luminosity lumi",
        ),
        (
            background(factor("lumi", "lumi"), parameters=[without("auxdata", LUMI)]),
            None,
            "the measurement gives no auxdata for the luminosity lumi",
        ),
        (
            background(factor("lumi", "lumi"), parameters=[{**LUMI, "sigmas": [0.0]}]),
            None,
            "the parameter lumi has a constraint of the width 0",
        ),
        (background(), other_poi, "the parameter of interest 'mu_sig' is not a parameter"),
        (background(parameters=[poi(fixed=True)]), None, "the measurement fixes the parameter"),
        (
            background(parameters=[poi(inits=[0.2], bounds=[[0, 0.5]])]),
            None,
            "the parameter of interest mu at 1, which lies outside of its bounds, 0 and 0.5",
        ),
        (
            background(parameters=[poi(bounds=[[0.1, 10]])]),
            None,
            "the parameter of interest mu at 0, which lies outside of its bounds, 0.1 and 10",
        ),
        (background(parameters=[poi(inits=[20.0])]), None, "the initial value 20 of the parameter"),
        (
            background(rates=(50.0, 0.0)),
            None,
            "bin 1 of the channel SR has 19 events, where 0 are expected (bkg 0, sig 0)",
        ),
        (
            background(rates=(50.0, -9.0)),
            None,
            "bin 1 of the channel SR has 19 events, where -1 are expected",
        ),
    ],
)
def test_what_cannot_be_fitted_is_an_error(specification, change, told):
    if change is not None:
        change(specification)
    found = errors(specification)
    assert len(found) == 1 or "bins" in told or "expected" in told
    assert told in found[0]
    # The likelihood of our own refuses the same, in the same words.
    with pytest.raises(InvalidModel) as caught:
        search(specification, signal("a"))
    assert found[0].partition(":")[0] in str(caught.value)


def search(specification, hypothesis):
    whole = jsonpatch.apply_patch(specification, hypothesis.operations)
    return Search(Likelihood(Workspace.from_json(whole)))


def test_all_that_is_wrong_is_reported_at_once():
    specification = background(normsys("n", 0.0, 2.0), normsys("m", 1.1, -3.0))
    two_channels(specification)
    no_observation(specification)
    found = errors(specification)
    assert len(found) == 4
    for words in ("normsys n", "normsys m", "two channels", "no observation for the channel CR"):
        assert any(words in text for text in found)


def test_a_finding_names_the_patches_that_have_it():
    patches = [signal("a"), signal("b", (10.0, -300.0)), patch("c", []), signal("d", (1.0,))]
    found = {each.patches: each.text for each in check(background(), patches)}
    assert found.keys() == {("b",), ("c",), ("d",)}
    assert "where -280 are expected" in found["b",]
    assert "no modifier of that name is there" in found["c",]
    assert found["d",] == "the sample sig of the channel SR has 1 bin, the channel has 2"
    assert without_model(check(background(), patches)) == {"b", "c", "d"}


@pytest.mark.parametrize(
    ("operations", "told"),
    [
        (
            [
                {"op": "test", "path": "/version", "value": "1.0.0"},
                {"op": "remove", "path": "/channels/7"},
            ],
            "does not apply to the background: operation 2 (remove /channels/7): can't remove a",
        ),
        (
            [{"op": "replace", "path": "/channels/0/samples/0/data", "value": "none"}],
            "with the patch: not a HistFactory workspace",
        ),
        ([{"op": "remove", "path": "/observations"}], "'observations' is a required property"),
        (
            [{"op": "add", "path": "/channels/0/samples/0/data/0", "value": 10}],
            "the observation of the channel CR has 1 bin, its samples have 2",
        ),
        (
            [{"op": "replace", "path": "/channels/0/samples/0/data/0", "value": 10**400}],
            "with the patch, it cannot be read: OverflowError",
        ),
    ],
)
def test_a_patch_that_makes_no_workspace_is_an_error_of_its_own(operations, told):
    (found,) = check(background(), [patch("bad", operations), signal("good")])
    assert (found.level, found.patches) == ("error", ("bad",))
    assert told in found.text


# --- what pyhf fits -----------------------------------------------------------------------------


def cls_by_pyhf(specification, hypothesis):
    model, data = by_pyhf(jsonpatch.apply_patch(specification, hypothesis.operations))
    return float(pyhf.infer.hypotest(1.0, data, model))


def repeated_measurement(specification):
    specification["measurements"] *= 2


def strange_observation(specification):
    specification["observations"].append({"name": "VR", "data": [3.0]})


def repeated_observation(specification):
    specification["observations"].append({"name": "SR", "data": [53, 20]})


@pytest.mark.parametrize(
    ("specification", "change", "level", "told"),
    [
        (background(), repeated_measurement, "note", "several measurements are called m"),
        (
            background(),
            strange_observation,
            "note",
            "an observation for VR, which is not a channel",
        ),
        (background(), repeated_observation, "warning", "SR has several observations"),
        (
            background(parameters=[poi(bounds=[[-5, 10]])]),
            None,
            "warning",
            "mu may be negative (its lower bound is -5), and qtilde",
        ),
        (
            background(factor("lumi", "lumi"), parameters=[without("sigmas", LUMI)]),
            None,
            "warning",
            "no sigmas for the luminosity lumi",
        ),
        (background(rates=(50.0, 0.0), observed=(52, 0)), None, None, None),
    ],
)
def test_what_pyhf_fits_is_no_error(specification, change, level, told):
    if change is not None:
        change(specification)
    found = check(specification, [signal("a")])
    assert [each.level for each in found] == ([level] if level else [])
    assert all(told in each.text for each in found)
    assert 0 < cls_by_pyhf(specification, signal("a")) < 1


def test_a_bin_that_a_histosys_can_lift_is_a_warning():
    """Minuit finds its way out of there."""
    lifted = histosys("h", [49.0, 0.0], [51.0, 3.0])
    found = check(background(lifted, rates=(50.0, 0.0), observed=(52, 3)), [signal("a")])
    assert {each.level for each in found} == {"warning"}
    assert "bin 1 of the channel SR has 3 events, where 0 are expected" in found[0].text


def test_a_negative_rate_without_events_is_a_warning():
    """pyhf has a number for it, and mostly fails all the same."""
    found = check(background(rates=(50.0, -2.0), observed=(52, 0)), [signal("a", (10.0, 3.0))])
    assert [each.level for each in found] == ["warning"]
    assert found[0].text == "bin 1 of the channel SR has no events, where -2 are expected"


def test_a_signal_of_zero_is_a_warning_and_its_cls_is_1():
    (found,) = check(background(), [signal("a"), signal("none", (0.0, 0.0))])
    assert found == Finding(
        "warning", "the signal is 0 in each bin, so CLs is 1 for any data", ("none",)
    )
    assert cls_by_pyhf(background(), signal("none", (0.0, 0.0))) == 1.0
    assert search(background(), signal("none", (0.0, 0.0))).lowest.cls == (1.0,) * 6


def test_a_negative_poi_is_right_with_q():
    specification = background(parameters=[poi(bounds=[[-5, 10]])])
    assert check(specification, [signal("a")], test_stat="q") == []


def test_equal_patches_are_a_note():
    (found,) = check(background(), [signal("a"), signal("b"), signal("c", (1.0, 1.0))])
    assert (found.level, found.patches) == ("note", ("a", "b"))
    assert found.text == "they have the same content, that of a"


def test_a_parameter_of_interest_whose_constraint_is_not_defined_at_0_is_a_warning():
    """The Poisson term of a gamma has no value there, though nobody measures such a thing."""
    uncertain = {"name": "gamma", "type": "shapesys", "data": [1.0]}
    specification = workspace({"SR": [sample("bkg", [5.0], uncertain)]}, {"SR": [0]}, ())
    specification["measurements"][0]["config"]["poi"] = "gamma"
    setting = {"name": "gamma", "bounds": [[0, 10]]}
    specification["measurements"][0]["config"]["parameters"] = [setting]
    (found,) = check(specification, [patch("a", [])])
    assert found.level == "warning"
    assert (
        "a constraint term is not defined with gamma[0] at 0: most optimizers that start there fail"
        in found.text
    )


def test_errors_come_first():
    specification = background()
    strange_observation(specification)
    found = check(specification, [signal("none", (0.0, 0.0)), patch("bad", [])])
    assert [each.level for each in found] == ["error", "warning", "note"]


def test_another_measurement_and_another_tested_value():
    specification = background(parameters=[poi(bounds=[[0, 2]])])
    (first,) = specification["measurements"]
    specification["measurements"].append(
        {"name": "other", "config": {**first["config"], "poi": "absent"}}
    )
    assert errors(specification) == []
    assert "'absent' is not a parameter" in errors(specification, measurement="other")[0]
    assert "mu at 3, which lies outside" in errors(specification, test_poi=3.0)[0]
    assert "no measurement 'third'" in errors(specification, measurement="third")[0]


@given(cases(), st.sampled_from(["qtilde", "q", "q0"]), st.sampled_from([0.5, 1.0, 3.0]))
def test_an_error_is_where_pyhf_cannot_begin(case, test_stat, test_poi):
    """The parameter of interest is fixed or bound away, or a fit begins where the NLL is none."""
    found = check(case.specification, [patch("a", [])], case.measurement, test_poi, test_stat)
    model, data = case.by_pyhf()
    poi = model.config.poi_index
    low, high = model.config.suggested_bounds()[poi]
    values = (0.0 if test_stat == "q0" else test_poi, 1.0 if test_stat == "q0" else 0.0)
    start = np.array(model.config.suggested_init(), dtype=float)
    begins = []
    for value in (*values, start[poi]):
        start[poi] = value
        begins.append(np.isfinite(twice_nll(model, start, data)))
    possible = (
        not model.config.suggested_fixed()[poi]
        and all(low <= value <= high for value in values)
        and all(begins)
    )
    refused = [
        each
        for each in found
        if each.level == "error" or "optimizers that start there fail" in each.text
    ]
    assert possible == (not refused), (found, begins)


# --- pallets ------------------------------------------------------------------------------------


def test_the_refusal_of_a_pallet_has_all_errors_in_80_columns(tmp_path):
    specification = background(normsys("n", 0.0, 2.0))
    no_observation(specification)
    metadata = {
        "description": "for a test",
        "digests": {"sha256": digest(specification)},
        "labels": ["m"],
        "references": {"hepdata": "ins1234567"},
    }
    patches = [
        {"metadata": {"name": name, "values": [value]}, "patch": signal(name, rates).operations}
        for name, value, rates in (("a", 1, (1.0, 2.0)), ("b", 2, (1.0,)))
    ]
    whole = {"metadata": metadata, "patches": patches, "version": "1.0.0"}
    (tmp_path / "BkgOnly.json").write_text(json.dumps(specification))
    (tmp_path / "patchset.json").write_text(json.dumps(whole))
    (pallet,) = read_pallets(tmp_path, name="tiny")
    with pytest.raises(PalletError) as caught:
        refuse(pallet, check(specification, pallet.patches))
    text = str(caught.value)
    assert "no patch of the pallet tiny can be fitted:" in text
    assert "- no observation for the channel CR\n" in text
    assert "the channel has 2 (b)" in text.replace("\n  ", " ")
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_what_a_patch_added_is_forgotten_with_it():
    """Thousands of patches would be kept otherwise, unpacked."""
    kept = []
    for count in (20, 200):
        patches = [signal(f"p{index}", (float(index), 1.0)) for index in range(1, count)]
        tracemalloc.start()
        check(background(), patches)
        kept.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    few, many = kept
    assert many - few < 180 * 600  # bytes; a sample in pieces takes a thousand


@pytest.mark.skipif(not REAL, reason="PYHF_PALLET_PATH is not set")
@pytest.mark.parametrize("name", ["2L0J_simplified", "sbottom_RegionB", "ttbar_ljets"])
def test_published_pallets_stay_usable(name):
    (pallet,) = read_pallets(Path(str(REAL)) / name)
    found = check(unpack(pallet.background), pallet.patches)
    without_signal = {"sbottom_1500_1495_60"} if name == "sbottom_RegionB" else set()
    assert without_model(found) == without_signal
    assert not [each for each in found if each.level == "warning"]


@pytest.mark.parametrize("most", [2, 1_000])
def test_what_is_found_of_a_patch_is_what_is_found_among_all(tmp_path, monkeypatch, most):
    """Of a pallet of many the sample alone is checked beforehand, and the others when asked for."""
    specification = background()
    (tmp_path / "BkgOnly.json").write_text(json.dumps(specification))
    for number, rates in enumerate([(0, 0), (5, 2), (5,), (-60, 1), (4, 4)] * 5):
        operations = signal("a", rates).operations
        (tmp_path / f"patch.a_{number}.json").write_text(json.dumps(operations))
    (pallet,) = read_pallets(tmp_path)
    monkeypatch.setattr(module, "_CHECKED", most)
    how = (None, 1.0, "qtilde")
    found = PalletCheck(pallet, *how)
    every = check(specification, pallet.patches, *how)
    for patch in pallet.patches:
        expected = [each for each in every if patch.name in each.patches]
        told, known = (
            [(each.level, each.text) for each in some if each.level != "note"]
            for some in (found.of(patch), expected)
        )
        assert told == known
    assert {each.level for each in every} == {"error", "warning", "note"}
    looked_at = {name for each in found.findings for name in each.patches}
    assert (len(looked_at) == len(pallet.patches)) == (most > 2)
