"""combination.py, combine.py, joining.py: pallets of disjoint channels as one."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import jsonpatch
import pyhf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.inference import hypotest
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.combination import Combination, parts_of
from pytest_pyhf_faas.pallets.combine import combine
from pytest_pyhf_faas.pallets.joining import changes
from pytest_pyhf_faas.pallets.packing import digest, unpack
from pytest_pyhf_faas.plugin.values import pallet_from
from pytest_pyhf_faas.worker.patching import apply_patch

REAL = os.environ.get("PYHF_PALLET_PATH")
LUMI = {"name": "lumi", "type": "lumi", "data": None}


def modifier(name, kind="normsys"):
    data = {
        "normsys": {"lo": 0.9, "hi": 1.1},
        "histosys": {"lo_data": [9.0], "hi_data": [11.0]},
        "staterror": [1.0],
    }
    return {"name": name, "type": kind, "data": data.get(kind)}


def workspace(channel, *modifiers, poi="mu", parameters=(), measurement="meas", **changed):
    sample = {"name": "bkg", "data": [10.0], "modifiers": list(modifiers)}
    return {
        "channels": [{"name": channel, "samples": [sample]}],
        "observations": [{"name": channel, "data": [11.0]}],
        "measurements": [
            {"name": measurement, "config": {"poi": poi, "parameters": list(parameters)}}
        ],
        "version": "1.0.0",
        **changed,
    }


def signal(size=3.0, poi="mu"):
    value = {"name": "sig", "data": [size], "modifiers": [modifier(poi, "normfactor")]}
    return [{"op": "add", "path": "/channels/0/samples/0", "value": value}]


def write(directory, background, patches, labels=("m1", "m2")):
    """Write a pallet; patches by name, each with its values and operations."""
    directory.mkdir(parents=True)
    (directory / "BkgOnly.json").write_text(json.dumps(background))
    patchset = {
        "metadata": {
            "description": "of a test",
            "digests": {"sha256": pyhf.utils.digest(background)},
            "labels": list(labels),
            "references": {"hepdata": "ins1234567"},
        },
        "patches": [
            {"metadata": {"name": name, "values": list(values)}, "patch": operations}
            for name, (values, operations) in patches.items()
        ],
        "version": "1.0.0",
    }
    if patches:
        (directory / "patchset.json").write_text(json.dumps(patchset))
    return directory


def two(path, left=None, right=None, **names):
    """Write two pallets of one hypothesis each, and return the spec of both."""
    poi = names.get("poi", "mu")
    one = {"p": ((1, 2), signal())}
    write(path / "A", left or workspace("SR_A"), one)
    write(path / "B", right or workspace("SR_B"), {"p": ((1, 2), signal(poi=poi))})
    return f"{path / 'A'}+{path / 'B'}"


def resolved(spec):
    (pallet,) = catalogue.resolve(str(spec), search_path=())
    return pallet


def patched(pallet, name):
    (patch,) = (patch for patch in pallet.patches if patch.name == name)
    return apply_patch(patch.operations, unpack(pallet.background))


def names_of(pallet, name="p"):
    channels = patched(pallet, name)["channels"]
    return {
        channel["name"]: sorted(
            {each["name"] for sample in channel["samples"] for each in sample["modifiers"]}
        )
        for channel in channels
    }


# --- cut in two, and combined -------------------------------------------------------------------


def cut(pallet, path, only=None):
    """Write the two halves of a pallet, each with every other channel."""
    background = unpack(pallet.background)
    first = {channel["name"] for channel in background["channels"][::2]}
    patches = [patch for patch in pallet.patches if only in (None, patch.name)]
    for name, is_left in (("left", True), ("right", False)):

        def own(objects, is_left=is_left):
            return [each for each in objects if (each["name"] in first) == is_left]

        half = {
            **background,
            "channels": own(background["channels"]),
            "observations": own(background["observations"]),
        }
        operations = {
            patch.name: own(jsonpatch.apply_patch(background, patch.operations)["channels"])
            for patch in patches
        }
        write(
            path / name,
            half,
            {
                patch.name: (
                    patch.values,
                    [{"op": "replace", "path": "/channels", "value": operations[patch.name]}],
                )
                for patch in patches
            },
            pallet.labels,
        )
    return f"{path / 'left'}+{path / 'right'}"


def ordered(specification):
    """Return a workspace whose channels, which have no order, are sorted."""
    channels = sorted(specification["channels"], key=lambda channel: channel["name"])
    observations = sorted(specification["observations"], key=lambda each: each["name"])
    return {**specification, "channels": channels, "observations": observations}


def same_cls(whole, combined, name):
    expected, found = (hypotest(patched(pallet, name)).lowest.cls for pallet in (whole, combined))
    assert found == pytest.approx(expected, rel=1e-10, abs=1e-300)


def test_the_halves_of_the_bundled_pallet_give_the_whole(tmp_path):
    whole = catalogue.bundled()
    combined = resolved(cut(whole, tmp_path))
    assert (combined.name, combined.labels) == ("left+right", whole.labels)
    assert [patch.name for patch in combined.patches] == [patch.name for patch in whole.patches]
    for patch in whole.patches:
        assert ordered(patched(combined, patch.name)) == ordered(patched(whole, patch.name))
    for name in ("synthetic_100_0", "synthetic_500_300"):
        same_cls(whole, combined, name)


@pytest.mark.skipif(not REAL, reason="PYHF_PALLET_PATH is not set")
def test_the_halves_of_a_published_pallet_give_the_whole(tmp_path):
    """Its patches remove a channel that stands before others."""
    name = "sbottom_1400_950_60"
    (whole,) = catalogue.resolve(
        "sbottom_RegionA", search_path=catalogue.search_path_from_environment()
    )
    same_cls(whole, resolved(cut(whole, tmp_path, only=name)), name)


def test_the_backgrounds_are_joined_as_pyhf_joins_them(tmp_path):
    lumi = {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02]}
    left = workspace("SR_A", LUMI, modifier("JES"), parameters=[lumi])
    right = workspace("SR_B", LUMI, modifier("JES", "histosys"), parameters=[lumi])
    combined = resolved(two(tmp_path, left, right))
    expected = pyhf.Workspace.combine(pyhf.Workspace(left), pyhf.Workspace(right), join="outer")
    assert unpack(combined.background) == dict(expected)
    assert combined.digest == digest(dict(expected))
    assert names_of(combined) == {"SR_A": ["JES", "lumi", "mu"], "SR_B": ["JES", "lumi", "mu"]}


def test_the_order_does_not_matter(tmp_path):
    spec = two(tmp_path)
    there, back = resolved(spec), resolved("+".join(reversed(spec.split("+"))))
    assert there.content == back.content
    assert there.name == back.name == "A+B"


# --- which hypotheses belong together -----------------------------------------------------------


def hypotheses(path, first, second, labels=(("m1", "m2"), ("m1", "m2"))):
    backgrounds = workspace("SR_A"), workspace("SR_B")
    for name, patches, background, of in zip(
        "AB", (first, second), backgrounds, labels, strict=True
    ):
        write(
            path / name,
            background,
            {patch: (values, signal()) for patch, values in patches.items()},
            of,
        )
    return f"{path / 'A'}+{path / 'B'}"


def test_hypotheses_of_the_same_values_belong_together(tmp_path):
    spec = hypotheses(
        tmp_path,
        {"a_1": (1.0, 2), "a_2": (3, 4), "a_3": (5, 6)},
        {"b_9": (2, 1), "b_8": (9, 9), "a_3": (7, 7)},
        (("m1", "m2"), ("m2", "m1")),
    )
    combined = resolved(spec)
    assert [(patch.name, patch.values) for patch in combined.patches] == [("a_1", (1.0, 2))]
    assert combined.remarks == (
        "2 hypotheses of A without a partner, by the values of m1, m2, left out: a_2, a_3",
        "2 hypotheses of B without a partner, by the values of m1, m2, left out: b_8, a_3",
    )


def test_where_the_labels_are_others_names_count(tmp_path):
    spec = hypotheses(
        tmp_path, {"x": (1, 2), "y": (3, 4)}, {"y": (0, 0)}, (("m1", "m2"), ("msq", "mlsp"))
    )
    assert [patch.name for patch in resolved(spec).patches] == ["y"]


def test_no_hypothesis_in_common_is_reported(tmp_path):
    spec = hypotheses(tmp_path, {"x": (1, 2)}, {"y": (3, 4)})
    with pytest.raises(PalletError, match="no hypothesis in common, by the values") as told:
        resolved(spec)
    assert "A has x at 1,2 (m1,m2); B has y at 3,4 (m1,m2)" in str(told.value)


def test_a_background_alone_is_part_of_each_hypothesis(tmp_path):
    write(tmp_path / "A", workspace("SR"), {"p": ((1, 2), signal())})
    write(tmp_path / "CR", workspace("CR"), {})
    assert names_of(resolved(f"{tmp_path / 'A'}+{tmp_path / 'CR'}")) == {"SR": ["mu"], "CR": []}
    with pytest.raises(PalletError, match="no patches"):
        resolved(tmp_path / "CR")
    write(tmp_path / "VR", workspace("VR"), {})
    with pytest.raises(PalletError, match="there are no patches to CR or VR"):
        resolved(f"{tmp_path / 'CR'}+{tmp_path / 'VR'}")


# --- what clashes -------------------------------------------------------------------------------


def set_to(name, **settings):
    return [{"name": name, **settings}]


@pytest.mark.parametrize(
    ("left", "right", "told", "remedy"),
    [
        (
            workspace("SR"),
            workspace("SR"),
            "both A and B have the channel SR, with the same content",
            "the same events must not count twice",
        ),
        (
            workspace("SR_A", modifier("JES")),
            workspace("SR_B", modifier("JES", "normfactor")),
            "the modifier JES is of another type: normsys in A, normfactor in B",
            "in a combination file",
        ),
        (
            workspace("SR_A", modifier("stat", "staterror")),
            workspace("SR_B", modifier("stat", "staterror")),
            "the staterror stat is in both A and B",
            "in a combination file",
        ),
        (
            workspace("SR_A", parameters=set_to("mu", bounds=[[0, 10]], inits=[1.0])),
            workspace("SR_B", parameters=set_to("mu", bounds=[[0, 5]], inits=[1])),
            "parameter mu other bounds: [[0, 10]] in A, [[0, 5]] in B",
            "give both the same values, or rename",
        ),
        (
            workspace("SR_A", LUMI, parameters=set_to("lumi", auxdata=[1.0], sigmas=[0.02])),
            workspace("SR_B", LUMI, parameters=set_to("lumi", auxdata=[1.0], sigmas=[0.03])),
            "parameter lumi other sigmas: [0.02] in A, [0.03] in B",
            "the luminosity is one parameter in pyhf",
        ),
        (
            workspace("SR_A"),
            workspace("SR_B", poi="mu_SIG"),
            "the parameter of interest is another one: mu in A, mu_SIG in B",
            "give the parameter of interest one name",
        ),
        (
            workspace("SR_A"),
            workspace(
                "SR_B",
                observations=[{"name": "SR_A", "data": [0.0]}, {"name": "SR_B", "data": [1.0]}],
            ),
            "A and B have other observations of SR_A",
            "remove the observation",
        ),
    ],
)
def test_what_clashes_is_reported_with_what_to_do(tmp_path, left, right, told, remedy):
    with pytest.raises(PalletError) as error:
        resolved(two(tmp_path, left, right))
    message = str(error.value)
    assert message.startswith("A and B cannot be combined:")
    assert told in message
    assert remedy in message
    assert len(message.splitlines()) == 3


def test_all_clashes_are_reported_at_once(tmp_path):
    left = workspace("SR", modifier("JES"), poi="a")
    right = workspace("SR", modifier("JES", "normfactor"), poi="b")
    with pytest.raises(PalletError) as error:
        resolved(two(tmp_path, left, right))
    assert str(error.value).count("\n- ") == 3


def test_a_clash_that_a_patch_makes_names_the_patch(tmp_path):
    write(tmp_path / "A", workspace("SR_A"), {"p": ((1, 2), signal())})
    channel = copy.deepcopy(workspace("SR_A")["channels"][0])
    adds = [{"op": "add", "path": "/channels/-", "value": channel}]
    write(tmp_path / "B", workspace("SR_B"), {"p": ((1, 2), adds)})
    with pytest.raises(PalletError, match="with the patch p, A and B cannot be combined"):
        resolved(f"{tmp_path / 'A'}+{tmp_path / 'B'}")


def test_a_patch_that_cannot_be_applied_is_named(tmp_path):
    write(tmp_path / "A", workspace("SR_A"), {"p": ((1, 2), signal())})
    wrong = [{"op": "remove", "path": "/channels/7"}]
    write(tmp_path / "B", workspace("SR_B"), {"p": ((1, 2), wrong)})
    with pytest.raises(PalletError, match="B: the patch p cannot be applied"):
        resolved(f"{tmp_path / 'A'}+{tmp_path / 'B'}")


def test_measurements_of_other_names_are_joined_if_each_is_the_only_one(tmp_path):
    right = workspace("SR_B", measurement="other", parameters=set_to("mu", inits=[2.0]))
    combined = resolved(two(tmp_path, workspace("SR_A"), right))
    assert unpack(combined.background)["measurements"] == [
        {"name": "meas", "config": {"poi": "mu", "parameters": set_to("mu", inits=[2.0])}}
    ]


def test_measurements_that_do_not_belong_together_are_reported(tmp_path):
    several = workspace("SR_B")["measurements"] * 2
    several = [{**each, "name": name} for each, name in zip(several, "xy", strict=True)]
    with pytest.raises(PalletError, match="no measurement is in all of them: meas in A, x, y in B"):
        resolved(two(tmp_path, workspace("SR_A"), workspace("SR_B", measurements=several)))


def test_settings_that_the_other_takes_over_are_reported(tmp_path):
    left = workspace("SR_A", modifier("JES"), parameters=set_to("JES", fixed=True))
    combined = resolved(two(tmp_path, left, workspace("SR_B", modifier("JES"))))
    assert combined.remarks == ("B takes settings from A: JES (fixed)",)


# --- combination files --------------------------------------------------------------------------


def written(path, text):
    file = path / "stops.toml"
    file.write_text(text)
    return file


def test_without_correlation_names_begin_with_the_pallet(tmp_path):
    left = workspace("SR_A", LUMI, modifier("JES"), modifier("stat", "staterror"))
    right = workspace("SR_B", LUMI, modifier("JES", "normfactor"), modifier("stat", "staterror"))
    two(tmp_path, left, right)
    combined = resolved(written(tmp_path, 'pallets = ["A", "B"]\ncorrelate = false'))
    assert combined.name == "stops"
    assert names_of(combined) == {
        "SR_A": ["A_JES", "A_stat", "lumi", "mu"],
        "SR_B": ["B_JES", "B_stat", "lumi", "mu"],
    }
    assert "no systematics are correlated" in combined.description


def test_what_is_correlated_is_chosen_by_name(tmp_path):
    some = modifier("JES_1"), modifier("JES_2"), modifier("JER")
    parameters = set_to("JER", inits=[0.5])
    two(tmp_path, workspace("SR_A", *some, parameters=parameters), workspace("SR_B", *some))
    combined = resolved(written(tmp_path, 'pallets = ["A", "B"]\ncorrelate = ["JES_*"]'))
    assert names_of(combined)["SR_A"] == ["A_JER", "JES_1", "JES_2", "mu"]
    config = unpack(combined.background)["measurements"][0]["config"]
    assert config == {"poi": "mu", "parameters": set_to("A_JER", inits=[0.5])}


def test_modifiers_of_one_pallet_get_other_names(tmp_path):
    right = workspace("SR_B", modifier("JET"), poi="SigXsec")
    two(tmp_path, workspace("SR_A", modifier("JES")), right, poi="SigXsec")
    text = 'pallets = ["A", "B"]\nname = "both"\nrename.B = { JET = "JES", SigXsec = "mu" }'
    combined = resolved(written(tmp_path, text))
    assert combined.name == "both"
    assert names_of(combined) == {"SR_A": ["JES", "mu"], "SR_B": ["JES", "mu"]}
    hypotest(patched(combined, "p"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("pallets = [", "is not TOML"),
        ('pallets = ["A"]', "a list of two or more"),
        ('pallets = ["A", "B"]\nkorrelate = false', "korrelate: unknown in a combination"),
        ('pallets = ["A", "B"]\ncorrelate = "JES"', "write true, false or a list of names"),
        ('pallets = ["A", "B"]\nname = "a/b"', "name is 'a/b'"),
        ('pallets = ["A", "B"]\nrename = { JET = "JES" }', "rename must be a table"),
        ('pallets = ["A", "B"]\ncorrelate = ["JET"]', "nothing is called like the modifier JET"),
        ('pallets = ["A", "B"]\nrename.C = { x = "y" }', "nothing is called like the pallet C"),
        ('pallets = ["A", "B"]\nrename.B = { x = "y" }', "the modifier x of B"),
        ('pallets = ["A", "C"]', "there is no pallet 'C'"),
    ],
)
def test_a_combination_file_that_makes_no_sense_is_reported(tmp_path, text, told):
    two(tmp_path)
    with pytest.raises(PalletError, match=told):
        resolved(written(tmp_path, text))


# --- names --------------------------------------------------------------------------------------


def test_a_name_may_have_a_plus(tmp_path):
    write(tmp_path / "a+b", workspace("SR_A"), {"p": ((1, 2), signal())})
    write(tmp_path / "c", workspace("SR_C"), {"p": ((1, 2), signal())})
    assert resolved(tmp_path / "a+b").name == "a+b"
    assert resolved(f"{tmp_path / 'a+b'}+{tmp_path / 'c'}").name == "a+b+c"


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("A+B", ["A", "B"]),
        ("x+y", ["x+y"]),
        ("A+x+y+B", ["A", "x+y", "B"]),
        ("no+A", ["no", "A"]),
        ("one", ["one"]),
    ],
)
def test_a_spec_is_split_at_its_pluses(spec, parts):
    assert parts_of(spec, {"A", "B", "x+y"}.__contains__) == parts


def test_one_of_several_pallets_must_be_named(tmp_path):
    for name in ("x", "y"):
        write(tmp_path / "many" / name, workspace(f"SR_{name}"), {"p": ((1, 2), signal())})
    with pytest.raises(PalletError, match="has 2 pallets: many_x, many_y"):
        resolved(f"{tmp_path / 'many'}+synthetic")


def test_pallets_of_one_name_are_reported(tmp_path):
    for name in ("x", "y"):
        write(tmp_path / name / "SR", workspace(f"SR_{name}"), {"p": ((1, 2), signal())})
    with pytest.raises(PalletError, match="pallets of one name cannot be combined"):
        resolved(f"{tmp_path / 'x' / 'SR'}+{tmp_path / 'y' / 'SR'}")


def test_a_pallet_that_is_given_twice_is_told(tmp_path):
    two(tmp_path)
    with pytest.raises(PalletError, match="A is given twice: the same events must not"):
        resolved(f"{tmp_path / 'A'}+{tmp_path / 'A'}")


def test_paths_of_both_are_relative_to_a_directory(tmp_path):
    two(tmp_path)
    found = pallet_from(tmp_path, f"A+1Lbb+{tmp_path / 'B'}")
    assert found == f"{tmp_path / 'A'}+1Lbb+{tmp_path / 'B'}"


def test_a_run_names_the_combination(project):
    write(project.path / "A", workspace("SR_A"), {"p": ((1, 2), signal()), "q": ((3, 4), [])})
    write(project.path / "B", workspace("SR_B"), {"p": ((1, 2), signal())})
    result = project.run("--faas-update=new", pallet="A+B")
    result.stdout.fnmatch_lines(
        ["pyhf-faas: A+B: 1 hypothesis of A without a partner, *, left out: q"]
    )
    result.assert_outcomes(passed=1, skipped=1)  # the wall time, and the reference
    assert (project.path / "reference_results" / "A+B.json").exists()
    result = project.run("-v", pallet="B+A")
    result.stdout.fnmatch_lines(["*test_cls[[]A+B-p[]]*PASSED*"])


# --- from one workspace to another --------------------------------------------------------------

_samples = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 1), max_size=4)
_channels = st.dictionaries(st.sampled_from("RSTU"), _samples, max_size=4)


@given(_channels, _channels, st.booleans(), st.randoms(use_true_random=False))
def test_the_changes_make_one_of_the_other(before, after, observed, random):
    def as_workspace(channels, data):
        names = list(channels)
        random.shuffle(names)
        return {
            "channels": [
                {
                    "name": name,
                    "samples": [{"name": n, "data": [v]} for n, v in channels[name].items()],
                }
                for name in names
            ],
            "observations": data,
            "measurements": [],
            "version": "1.0.0",
        }

    first, second = as_workspace(before, []), as_workspace(after, [1] if observed else [])
    operations = changes(first, second)
    assert jsonpatch.apply_patch(first, operations) == second
    assert apply_patch(operations, first) == second
    assert changes(second, second) == []


def test_what_is_not_changed_is_not_in_the_patch(tmp_path):
    combined = resolved(two(tmp_path))
    (patch,) = combined.patches
    assert [(each["op"], each["path"]) for each in patch.operations] == [
        ("add", "/channels/1/samples/0"),
        ("add", "/channels/0/samples/0"),
    ]


def test_the_default_correlates_by_name(tmp_path):
    spec = two(tmp_path, workspace("SR_A", modifier("JES")), workspace("SR_B", modifier("JES")))
    pallets = [resolved(Path(part)) for part in spec.split("+")]
    assert combine(pallets, Combination(("A", "B"))).content == resolved(spec).content
