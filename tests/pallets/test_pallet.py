"""pallet.py: every published form is read, every kind of damage is told."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

import jsonpatch
import pyhf
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import bounds
from pytest_pyhf_faas.pallets.check import check
from pytest_pyhf_faas.pallets.packing import digest, pack, unpack
from pytest_pyhf_faas.pallets.pallet import Packed, Pallet, SignalPatch, select
from pytest_pyhf_faas.pallets.read import read_pallets
from pytest_pyhf_faas.pallets.verify import is_plain_hypothesis
from pytest_pyhf_faas.schemas import accepted_by_pyhf_schema

REAL = os.environ.get("PYHF_PALLET_PATH")
needs_real = pytest.mark.skipif(not REAL, reason="PYHF_PALLET_PATH is not set")


# --- small pallets ------------------------------------------------------------------------------


def workspace(background=50.0):
    return {
        "channels": [
            {
                "name": "SR",
                "samples": [{"name": "bkg", "data": [background, 52.0], "modifiers": []}],
            }
        ],
        "observations": [{"name": "SR", "data": [51.0, 48.0]}],
        "measurements": [{"name": "meas", "config": {"poi": "mu_SIG", "parameters": []}}],
        "version": "1.0.0",
    }


def operations(size=5.0):
    mu = {"name": "mu_SIG", "type": "normfactor", "data": None}
    signal = {"name": "signal", "data": [size, size + 1], "modifiers": [mu]}
    return [{"op": "add", "path": "/channels/0/samples/1", "value": signal}]


POINTS = {"sig_200_100": [200, 100], "sig_300_100": [300, 100], "sig_1000_5": [1000, 5]}


def patchset(background=None, points=None, **metadata):
    background = workspace() if background is None else background
    points = POINTS if points is None else points
    return {
        "metadata": {
            "description": "a patchset for tests",
            "digests": {"sha256": pyhf.utils.digest(background)},
            "labels": ["m1", "m2"],
            "references": {"hepdata": "ins1234567"},
            **metadata,
        },
        "patches": [
            {"metadata": {"name": name, "values": values}, "patch": operations(values[0])}
            for name, values in points.items()
        ],
        "version": "1.0.0",
    }


def published(directory="", prefix="", **kwargs):
    """Return the files of a pallet with one patchset."""
    background = workspace()
    return {
        f"{directory}{prefix}BkgOnly.json": json.dumps(background),
        f"{directory}{prefix}patchset.json": json.dumps(patchset(background, **kwargs), indent=1),
    }


def single_files(names, directory="", separator="."):
    files = {
        f"{directory}patch{separator}{name}.json": json.dumps(operations(i))
        for i, name in enumerate(names)
    }
    return {f"{directory}BkgOnly.json": json.dumps(workspace()), **files}


def as_bytes(content):
    return content if isinstance(content, bytes) else content.encode()


def write_directory(root, files):
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_bytes(content))
    return root


def write_tar(path, files, mode="w:gz"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(as_bytes(content))
            tar.addfile(member, io.BytesIO(as_bytes(content)))
    return path


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


CONTAINERS = {
    "directory": lambda tmp, files: write_directory(tmp / "demo", files),
    "tar": lambda tmp, files: write_tar(tmp / "demo.tar", files, "w"),
    "tar.gz": lambda tmp, files: write_tar(tmp / "demo.tar.gz", files, "w:gz"),
    "tgz": lambda tmp, files: write_tar(tmp / "demo.tgz", files, "w:gz"),
    "tar.bz2": lambda tmp, files: write_tar(tmp / "demo.tar.bz2", files, "w:bz2"),
    "tar.xz": lambda tmp, files: write_tar(tmp / "demo.tar.xz", files, "w:xz"),
    "zip": lambda tmp, files: write_zip(tmp / "demo.zip", files),
}


@pytest.fixture(params=CONTAINERS)
def contain(request, tmp_path):
    return lambda files: CONTAINERS[request.param](tmp_path, files)


def refusal(source, **kwargs):
    """Return the message with which a source is refused; it must fit a short screen."""
    with pytest.raises(PalletError) as caught:
        read_pallets(source, **kwargs)
    message = str(caught.value)
    assert str(source) in message
    assert len(message) < 1500
    assert 2 <= len(message.splitlines()) <= 6
    return message


# --- packing and digests ------------------------------------------------------------------------

numbers = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
json_objects = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_objects)
def test_unpack_returns_what_was_packed(obj):
    assert unpack(pack(obj)) == obj


@given(json_objects)
def test_digest_is_that_of_pyhf(obj):
    assert digest(obj) == pyhf.utils.digest(obj)


def test_import_is_cheap():
    code = (
        "import sys, pytest_pyhf_faas.pallets.pallet\n"
        "print(sorted({'pyhf', 'numpy', 'jsonschema', 'pytest', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the published forms ------------------------------------------------------------------------


def test_files_at_the_top(contain):
    (pallet,) = read_pallets(contain(published()))
    assert pallet.name == "demo"
    assert pallet.description == "a patchset for tests"
    assert pallet.labels == ("m1", "m2")
    assert pallet.references == {"hepdata": "ins1234567"}
    assert pallet.doi is None
    assert not pallet.synthetic
    assert pallet.digest == pyhf.utils.digest(workspace())
    assert unpack(pallet.background) == workspace()
    assert [patch.name for patch in pallet.patches] == list(POINTS)
    assert [patch.values for patch in pallet.patches] == [(200, 100), (300, 100), (1000, 5)]
    for patch in pallet.patches:
        assert patch.pallet == "demo"
        assert patch.operations == operations(patch.values[0])
        assert patch.digest == pyhf.utils.digest(patch.operations)
    hash(pallet)  # it may be a key


@pytest.mark.parametrize(
    ("files", "label"),
    [
        (published("1911.06660/Region-combined/"), "Region-combined"),
        (published("Region-combined/"), "Region-combined"),
        (published(prefix="Rpc2L0b_"), "Rpc2L0b"),
        (published(prefix="simplified_"), "simplified"),
    ],
)
def test_one_pallet_in_a_subdirectory_or_with_a_prefix(contain, files, label):
    source = contain(files)
    assert [pallet.name for pallet in read_pallets(source)] == ["demo"]
    assert [pallet.name for pallet in read_pallets(source, name="x", part=label)] == ["x"]
    assert "no pallet called 'RegionX'" in refusal(source, part="RegionX")


@pytest.mark.parametrize(
    ("files", "labels"),
    [
        (published("top/Region-A/") | published("top/Region-B/"), ["Region-A", "Region-B"]),
        (published("Region-A/") | published("Region-B/"), ["Region-A", "Region-B"]),
        (published(prefix="Rpc2L0b_") | published(prefix="Rpv2L_"), ["Rpc2L0b", "Rpv2L"]),
        (published("x/A/", "p_") | published("x/B/", "q_"), ["A_p", "B_q"]),
    ],
)
def test_several_pallets(contain, files, labels):
    source = contain(files)
    assert [one.name for one in read_pallets(source)] == [f"demo_{label}" for label in labels]
    assert [one.name for one in read_pallets(source, name="it")] == [f"it_{x}" for x in labels]
    (one,) = read_pallets(source, name="it", part=labels[1].lower())
    assert one.name == "it"
    assert {patch.pallet for patch in one.patches} == {"it"}


def test_full_and_simplified_next_to_each_other(contain):
    names = [
        one.name for one in read_pallets(contain(published() | published(prefix="simplified_")))
    ]
    assert names == ["demo", "demo_simplified"]


def archived(files, mode="w:gz"):
    """Return a tar archive as bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(as_bytes(content))
            tar.addfile(member, io.BytesIO(as_bytes(content)))
    return file.getvalue()


BACKGROUND, PATCHSET = published().values()
#: How people call the files of one pallet, and how they pack them.
FORMS = {
    "joined": {"R/BkgOnly.json": BACKGROUND, "R/SignalPatchSet.json": PATCHSET},
    "a prefix on one": {"BkgOnly.json": BACKGROUND, "signal_patchset.json": PATCHSET},
    "workspace": {"workspace.json": BACKGROUND, "patchset.json": PATCHSET},
    "bkg": {"bkg.json": BACKGROUND, "patchset.json": PATCHSET},
    "a version": {"BkgOnly.json": BACKGROUND, "patchset_v2.json": PATCHSET},
    "no telling name": {"a.json": BACKGROUND, "b.json": PATCHSET, "c.json": "{}", "d.json": "["},
    "two directories": {"ws/BkgOnly.json": BACKGROUND, "patches/patchset.json": PATCHSET},
    "below": {"BkgOnly.json": BACKGROUND, "signals/grid/patchset.json": PATCHSET},
    "gzip": {
        "BkgOnly.json.gz": gzip.compress(BACKGROUND.encode()),
        "patchset.json.GZ": gzip.compress(PATCHSET.encode()),
    },
    "an archive": {"likelihoods.tar.gz": archived(published("HEPData/")), "submission.yaml": "x"},
    "an archive of an archive": {"x.tar": archived({"y.tgz": archived(published())}, "w")},
    "an archive for each": {
        "ewk_bkgonly.json.tgz": archived({"ewk_bkgonly.json": BACKGROUND}),
        "ewk_patchset.json.tgz": archived({"ewk_patchset.json": PATCHSET}),
    },
    "an archive beside the files": published() | {"old.tar.gz": b"no archive at all"},
}


@pytest.mark.parametrize("form", FORMS)
def test_one_background_and_one_patchset_belong_together(contain, form):
    (pallet,) = read_pallets(contain(FORMS[form]))
    assert pallet.name == "demo"
    assert [patch.name for patch in pallet.patches] == list(POINTS)
    assert unpack(pallet.background) == workspace()


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["slepton_patchset.json", "wino_patchset.json"], ["demo_slepton", "demo_wino"]),
        (["slepton/patchset.json", "wino/patchset.json"], ["demo_slepton", "demo_wino"]),
        (["patchset.json", "wino_patchset.json"], ["demo", "demo_wino"]),
        (["slepton.json", "wino.json"], ["demo_slepton", "demo_wino"]),
    ],
)
def test_several_patchsets_of_one_background_are_several_pallets(contain, files, names):
    source = contain({"BkgOnly.json": BACKGROUND, **dict.fromkeys(files, PATCHSET)})
    found = read_pallets(source)
    assert [pallet.name for pallet in found] == names
    assert len({pallet.digest for pallet in found}) == 1


def test_archives_inside_are_named_like_directories(contain):
    files = {f"{name}.tar.gz": archived(published()) for name in ("RegionA", "RegionB")}
    names = [pallet.name for pallet in read_pallets(contain(files))]
    assert names == ["demo_RegionA", "demo_RegionB"]


def test_patches_between_two_backgrounds_belong_to_neither(contain):
    files = {"A_BkgOnly.json": BACKGROUND, "B_BkgOnly.json": BACKGROUND, "patchset.json": PATCHSET}
    assert "but no " in refusal(contain(files))


def test_a_single_json_file_is_no_pallet(tmp_path):
    file = tmp_path / "BkgOnly.json.gz"
    file.write_bytes(gzip.compress(BACKGROUND.encode()))
    assert "give the directory that holds the background and the patches" in refusal(file)


def test_the_rules_of_archives_hold_inside_of_archives(tmp_path, monkeypatch):
    outside = {"evil.tar.gz": archived({"../../BkgOnly.json": BACKGROUND})}
    assert "which lies outside of it" in refusal(write_zip(tmp_path / "a.zip", outside))
    many = {f"{index}.tar.gz": archived({}) for index in range(17)}
    assert "holds 17 archives" in refusal(write_zip(tmp_path / "b.zip", many))
    inner = {f"{index}.tgz": archived({"notes.json": "{}"}) for index in range(8)}
    spread = {f"{index}.tar": archived(inner, "w") for index in range(3)}
    assert "1.tar holds 8 archives" in refusal(write_zip(tmp_path / "c.zip", spread))
    monkeypatch.setattr(bounds, "MAX_UNPACKED_BYTES", 100_000)
    bomb = {"bomb.json.gz": gzip.compress(b" " * 200_000), "BkgOnly.json": BACKGROUND}
    assert "no patches to it" in refusal(write_directory(tmp_path / "d", bomb))
    zeros = {"bomb.tar.gz": archived({"BkgOnly.json": b" " * 200_000})}
    assert "no pallet is that large" in refusal(write_directory(tmp_path / "e", zeros))
    deep = published()
    for _level in range(4):
        deep = {"deeper.tar.gz": archived(deep)}
    assert "there is no JSON file in it" in refusal(write_directory(tmp_path / "f", deep))


@pytest.mark.parametrize("separator", [".", "_"])
def test_single_patch_files(contain, separator):
    names = ["sb_1000_131p5_1", "sb_200_131_1", "sb_1000_131_60"]
    (pallet,) = read_pallets(contain(single_files(names, "RegionA/", separator)))
    assert pallet.labels == ("value_1", "value_2", "value_3")
    assert {patch.name: patch.values for patch in pallet.patches} == {
        "sb_200_131_1": (200, 131, 1),
        "sb_1000_131_60": (1000, 131, 60),
        "sb_1000_131p5_1": (1000, 131.5, 1),
    }
    # in natural order, and each with its own operations
    assert pallet.patches[0].name == "sb_200_131_1"
    assert pallet.patches[0].operations == operations(1)
    assert isinstance(pallet.patches[0].values[0], int)


def test_masses_need_not_be_at_the_end_of_a_single_files_name(tmp_path):
    files = single_files(["DS_440_80_Staus", "DS_80_1_Staus"])
    (pallet,) = read_pallets(write_directory(tmp_path, files))
    assert [(patch.name, patch.values) for patch in pallet.patches] == [
        ("DS_80_1_Staus", (80, 1)),
        ("DS_440_80_Staus", (440, 80)),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["a_100", "b_100"],  # not unique
        ["a_100_1", "b_100"],  # counts differ
        ["first", "second"],  # none
    ],
)
def test_single_files_without_usable_values_are_numbered(tmp_path, names):
    (pallet,) = read_pallets(write_directory(tmp_path, single_files(names)))
    assert pallet.labels == ("index",)
    assert [(patch.name, patch.values) for patch in pallet.patches] == [
        (names[0], (1,)),
        (names[1], (2,)),
    ]


def test_name_of_a_single_file_becomes_one_that_pyhf_allows_and_that_is_reported(tmp_path):
    names = ["GG-1500.onestep_1_2", "GG_1_3"]
    (pallet,) = read_pallets(write_directory(tmp_path, single_files(names)))
    changed, kept = pallet.patches
    assert changed.name == "GG_1500_onestep_1_2"
    assert (kept.name, kept.file) == ("GG_1_3", "")
    told = [each for each in check(workspace(), pallet.patches) if each.level == "warning"]
    assert [each.patches for each in told] == [("GG_1500_onestep_1_2",)]
    assert (
        "patch.GG-1500.onestep_1_2.json is called GG_1500_onestep_1_2: pyhf allows" in told[0].text
    )


def test_single_files_that_only_differ_in_such_characters_are_refused(tmp_path):
    message = refusal(write_directory(tmp_path, single_files(["a-b", "a.b"])))
    assert "patch.a-b.json" in message
    assert "patch.a.b.json" in message
    assert "would both be called a_b" in message


def test_a_patchset_is_preferred_to_single_files(tmp_path):
    files = single_files(["other_1"]) | published()
    (pallet,) = read_pallets(write_directory(tmp_path, files))
    assert [patch.name for patch in pallet.patches] == list(POINTS)


@pytest.mark.parametrize(
    "spelling",
    [
        "BkgOnly",
        "bkgonly",
        "bkg_only",
        "BKG-ONLY",
        "background_only",
        "BackgroundOnly",
        "background",
    ],
)
def test_spellings_of_the_background(tmp_path, spelling):
    files = {
        f"{spelling}.json": json.dumps(workspace()),
        "PatchSet.JSON": json.dumps(patchset()),
    }
    assert len(read_pallets(write_directory(tmp_path, files))[0].patches) == 3


def test_other_files_are_ignored(contain):
    noise = {
        "README.md": "# words",
        "summary.json": "not even JSON",
        "._BkgOnly.json": "macOS",
        "__MACOSX/patchset.json": "macOS",
        ".hidden/BkgOnly.json": "hidden",
    }
    assert len(read_pallets(contain(published() | noise))) == 1


def test_bom_and_synthetic(tmp_path):
    files = published(description="Synthetic: no physics")
    files["patchset.json"] = b"\xef\xbb\xbf" + files["patchset.json"].encode()
    (pallet,) = read_pallets(write_directory(tmp_path, files))
    assert pallet.synthetic


def test_name_of_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(write_directory(tmp_path / "here", published()))
    assert read_pallets(Path())[0].name == "here"


@pytest.mark.filterwarnings("error")
def test_pyhf_schema_validation_does_not_warn(tmp_path):
    assert read_pallets(write_directory(tmp_path, published()))


# --- what is wrong with the files ---------------------------------------------------------------


def test_background_without_patches(contain):
    files = published()
    del files["patchset.json"]
    message = refusal(contain(files | {"other.json": "{}"}))
    assert "no patches to it: BkgOnly.json" in message
    assert "other.json" in message


def test_patches_without_background(contain):
    files = published("A/") | published("B/")
    del files["A/BkgOnly.json"]
    message = refusal(contain(files))
    assert "no background-only workspace to apply them to: A/patchset.json" in message
    assert "add A/BkgOnly.json" in message


def test_two_backgrounds(contain):
    message = refusal(contain(published() | {"background.json": "{}"}))
    assert "several files for one pallet: BkgOnly.json, background.json" in message


def test_nothing_there(contain):
    assert "there is no JSON file in it" in refusal(contain({"README.md": "words"}))
    assert "other.json" in refusal(contain({"other.json": "{}"}))


def test_truncated_json(contain):
    files = published()
    files["patchset.json"] = files["patchset.json"][:-40]
    message = refusal(contain(files))
    assert "patchset.json: not valid JSON at line" in message
    assert "truncated" in message


def test_damaged_json_gives_line_and_column(contain):
    files = published()
    files["BkgOnly.json"] = '{"channels":\n [}'
    message = refusal(contain(files))
    assert "BkgOnly.json: not valid JSON at line 2, column 3" in message
    assert "damaged" in message


@pytest.mark.parametrize("content", ["[" * 100_000, "1" * 10_000])
def test_absurd_json(tmp_path, content):
    files = published() | {"BkgOnly.json": content}
    assert "BkgOnly.json: " in refusal(write_directory(tmp_path, files))


def test_not_utf8(contain):
    files = published() | {"BkgOnly.json": b'{"channels": "\xff\xfe"}'}
    assert "BkgOnly.json: not valid UTF-8 at byte 14" in refusal(contain(files))


def test_lone_surrogate(tmp_path):
    files = published()
    files["BkgOnly.json"] = files["BkgOnly.json"].replace('"bkg"', r'"\ud800"')
    assert "not valid Unicode" in refusal(write_directory(tmp_path, files))


@pytest.mark.parametrize(
    ("background", "expected"),
    [
        ([], "is not of type 'object' (at the top)"),
        ({"channels": []}, "at"),
        (workspace("fifty"), "'fifty' is not of type 'number' (at channels/0/samples/0/data/0)"),
        ({**workspace(), "version": "9.9.9"}, "'1.0.0' was expected (at version)"),
    ],
)
def test_background_is_not_a_workspace(tmp_path, background, expected):
    files = published() | {"BkgOnly.json": json.dumps(background)}
    message = refusal(write_directory(tmp_path, files))
    assert "BkgOnly.json: not a HistFactory workspace: " in message
    assert expected in message


def test_a_long_schema_message_is_cut(tmp_path):
    background = workspace()
    background["channels"][0]["samples"][0]["modifiers"] = [
        {"name": "m" * 10_000, "type": "nonsense", "data": None}
    ]
    files = published() | {"BkgOnly.json": json.dumps(background)}
    refusal(write_directory(tmp_path, files))  # which holds its length


def test_patchset_does_not_fit_the_schema(tmp_path):
    spec = patchset()
    spec["patches"][1]["metadata"]["values"] = "300"
    files = published() | {"patchset.json": json.dumps(spec)}
    message = refusal(write_directory(tmp_path, files))
    assert "patchset.json: not a patchset: '300' is not of type 'array'" in message
    assert "patches/1/metadata/values" in message


def test_names_and_labels_that_pyhf_does_not_allow_are_all_reported(tmp_path):
    spec = patchset(points={"GG-1500": [1, 2], "fine_1": [3, 4]}, labels=["m1 [GeV]", "m2"])
    files = published() | {"patchset.json": json.dumps(spec)}
    message = refusal(write_directory(tmp_path, files))
    assert "2 names that pyhf does not allow" in message
    assert "'m1 [GeV]' (at /metadata/labels/0)" in message
    assert "'GG-1500' (at /patches/0/metadata/name)" in message
    assert "may only have letters, digits and _: write m1_GeV" in message
    assert "damaged" not in message


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "increase", "path": "/x"}, "not a"),
        ({"op": "add", "path": "no-slash", "value": 1}, "not a JSON patch (RFC 6902)"),
    ],
)
def test_operations_are_not_a_json_patch(tmp_path, operation, expected):
    spec = patchset()
    spec["patches"][2]["patch"] = [operation]
    files = published() | {"patchset.json": json.dumps(spec)}
    assert expected in refusal(write_directory(tmp_path / "a", files))

    files = single_files(["x_1"]) | {"patch.x_1.json": json.dumps([operation])}
    assert expected in refusal(write_directory(tmp_path / "b", files))


def test_digest_mismatch_says_both_digests(contain):
    wrong = "0" * 64
    message = refusal(contain(published(digests={"sha256": wrong})))
    assert wrong in message
    assert pyhf.utils.digest(workspace()) in message
    assert "different versions" in message


def test_md5_is_checked_too(tmp_path):
    right = pyhf.utils.digest(workspace(), algorithm="md5")
    files = published(digests={"md5": right})
    assert read_pallets(write_directory(tmp_path / "right", files))
    files = published(digests={"md5": "0" * 32})
    assert f"found     {right}" in refusal(write_directory(tmp_path / "wrong", files))


def test_a_published_digest_may_be_in_capitals(tmp_path):
    files = published(digests={"sha256": pyhf.utils.digest(workspace()).upper()})
    assert read_pallets(write_directory(tmp_path, files))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "sig_200_100"}, "two patches are called sig_200_100"),
        ({"values": [200.0, 100]}, "sig_200_100 and sig_300_100 have the same values"),
        ({"values": [200.0, 100]}, "correct the values of one of them"),
        ({"values": [1, 2, 3]}, "has 3 values for 2 labels: m1, m2"),
    ],
)
def test_patches_that_cannot_be_distinguished(tmp_path, change, expected):
    spec = patchset()
    spec["patches"][1]["metadata"].update(change)
    files = published() | {"patchset.json": json.dumps(spec)}
    assert expected in refusal(write_directory(tmp_path, files))


def test_no_permission(tmp_path, monkeypatch):
    source = write_directory(tmp_path / "demo", published())

    def refuse(path, *args, **kwargs):  # root, who may run the tests, may read everything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    message = refusal(source)
    assert "BkgOnly.json cannot be read: permission denied" in message


def test_does_not_exist(tmp_path):
    with pytest.raises(PalletError, match=r"there is no file or directory .*nowhere"):
        read_pallets(tmp_path / "nowhere")


def test_a_named_pipe_is_not_read(tmp_path):
    files = published()
    del files["patchset.json"]
    source = write_directory(tmp_path / "demo", files)
    os.mkfifo(source / "patchset.json")
    assert "no patches to it" in refusal(source)


def test_a_directory_is_not_searched_too_deep(tmp_path):
    source = write_directory(tmp_path / "demo", published("a/b/c/d/"))
    assert len(read_pallets(source)) == 1
    assert "no JSON file" in refusal(write_directory(tmp_path / "deep", published("a/b/c/d/e/")))


# --- archives: damaged and hostile ---------------------------------------------------------------


@pytest.mark.parametrize("container", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
def test_truncated_archive(tmp_path, container, fraction):
    names = [f"x_{i}" for i in range(200)]  # the padding of a tar is small against them
    source = CONTAINERS[container](tmp_path, single_files(names))
    size = source.stat().st_size
    os.truncate(source, int(size * fraction))
    message = refusal(source)
    assert "truncated" in message or "not an archive" in message


def test_tar_that_breaks_off_between_members_loses_no_patch_silently(tmp_path):
    source = write_tar(tmp_path / "demo.tar", single_files(["x_1", "x_2", "x_3"]), "w")
    with tarfile.open(source) as tar:
        last = tar.getmembers()[-1]
    for cut in (last.offset, last.offset + 100):
        os.truncate(source, cut)
        assert "breaks off after 3 members" in refusal(source)


def test_damaged_header_in_the_middle_of_a_tar(tmp_path):
    source = write_tar(tmp_path / "demo.tar", single_files(["x_1", "x_2", "x_3"]), "w")
    with tarfile.open(source) as tar:
        offset = tar.getmembers()[2].offset
    with source.open("r+b") as file:
        file.seek(offset)
        file.write(b"damage")
    assert "breaks off after 2 members" in refusal(source)


def test_wrong_checksum_of_the_compression(tmp_path):
    source = write_tar(tmp_path / "demo.tar.gz", published())
    content = bytearray(source.read_bytes())
    content[-8] ^= 0xFF  # the CRC of gzip
    source.write_bytes(content)
    assert "CRC check failed" in refusal(source)


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (b"", "give a tar or zip archive"),
        (b"just some words", "give a tar or zip archive"),
        (b'{"channels": []}', "give the directory"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x1f\x8b no gzip", "damaged"),
    ],
)
def test_not_an_archive(tmp_path, content, remedy):
    source = tmp_path / "demo.tar.gz"
    source.write_bytes(content)
    assert remedy in refusal(source)


@pytest.mark.parametrize("name", ["../../evil.json", "a/../../BkgOnly.json", "/etc/BkgOnly.json"])
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_member_outside_of_the_archive(tmp_path, name, write):
    source = write(tmp_path / "demo", published() | {name: json.dumps(workspace())})
    message = refusal(source)
    assert name in message
    assert "outside" in message
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["demo"]  # nothing was unpacked


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_special_member_of_a_tar(tmp_path, kind):
    files = published()
    del files["BkgOnly.json"]
    source = write_tar(tmp_path / "demo.tar", files, "w")
    with tarfile.open(source, "a") as tar:
        member = tarfile.TarInfo("BkgOnly.json")
        member.type = kind
        member.linkname = "/etc/passwd"
        tar.addfile(member)
    assert "'BkgOnly.json' in it is not a regular file" in refusal(source)


def test_symlink_in_a_zip(tmp_path):
    source = write_zip(tmp_path / "demo.zip", published())
    info = zipfile.ZipInfo("A/BkgOnly.json")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "not a regular file" in refusal(source)


def test_other_compression_in_a_zip(tmp_path):
    source = tmp_path / "demo.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("BkgOnly.json", json.dumps(workspace()))
    assert "not supported" in refusal(source)


def test_encrypted_zip(tmp_path):
    source = write_zip(tmp_path / "demo.zip", published())
    content = bytearray(source.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            content[start + flags] |= 1
    source.write_bytes(content)
    assert "encrypted" in refusal(source)


def announce(name, size):
    """Return a tar header that announces a member of that size, and nothing of it."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(format=tarfile.GNU_FORMAT)


def peak_of(function):
    """Return the peak of Python's memory while the function runs, in bytes."""
    import tracemalloc

    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["BkgOnly.json", "movie.mp4"])
def test_tar_that_announces_terabytes_is_refused_at_once(tmp_path, name):
    source = tmp_path / "demo.tar"
    source.write_bytes(announce(name, 1 << 42) + bytes(1024))
    begin = time.perf_counter()
    assert peak_of(lambda: refusal(source)) < 2e7
    assert time.perf_counter() - begin < 5
    assert "1 GiB when unpacked" in refusal(source)


def test_tar_bomb_is_not_inflated(tmp_path, monkeypatch):
    """The real bytes are there, behind a header that is honest; they are more than allowed."""
    monkeypatch.setattr(bounds, "MAX_UNPACKED_BYTES", 5_000_000)
    source = write_tar(tmp_path / "demo.tar.gz", published() | {"zeros.bin": bytes(20_000_000)})
    assert source.stat().st_size < 100_000
    assert peak_of(lambda: refusal(source)) < 1e7
    assert "GiB when unpacked" in refusal(source)


def test_bomb_behind_the_end_of_a_tar(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_UNPACKED_BYTES", 5_000_000)
    plain = write_tar(tmp_path / "plain.tar", published(), "w").read_bytes()
    source = tmp_path / "demo.tar.gz"
    source.write_bytes(gzip.compress(plain + bytes(20_000_000)))
    assert "GiB when unpacked" in refusal(source)


def test_huge_extended_header_is_not_read(tmp_path):
    """A pax header is read into memory in one piece by tarfile: 64 MiB of it, here."""
    member = tarfile.TarInfo("pax")
    member.type = tarfile.XHDTYPE
    member.size = 1 << 26
    source = tmp_path / "demo.tar.gz"
    source.write_bytes(gzip.compress(member.tobuf(format=tarfile.GNU_FORMAT) + bytes(1 << 26)))
    assert peak_of(lambda: refusal(source)) < 2e7
    assert "header of a member" in refusal(source)


def test_sparse_member_is_refused(tmp_path):
    """A sparse file of a few bytes may stand for gigabytes of zeros."""
    header = bytearray(announce("BkgOnly.json", 512))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398] = b"%011o\0" % 0  # offset and length of the one piece
    header[398:410] = b"%011o\0" % 512
    header[483:495] = b"%011o\0" % (1 << 29)  # the size that it expands to
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    source = tmp_path / "demo.tar"
    source.write_bytes(bytes(header) + bytes(512) + bytes(1024))
    assert peak_of(lambda: refusal(source)) < 2e7
    assert "not a regular file" in refusal(source)


def test_zip_bomb_is_refused_by_its_headers(tmp_path):
    source = write_zip(tmp_path / "demo.zip", published())
    content = bytearray(source.read_bytes())
    start = content.find(b"PK\x01\x02")
    content[start + 24 : start + 28] = struct.pack("<I", 0x7FFF_FFFF)
    source.write_bytes(content)
    assert "1 GiB when unpacked" in refusal(source)


@pytest.mark.parametrize("container", ["directory", "tar.gz", "zip"])
def test_what_is_really_read_is_bounded(tmp_path, monkeypatch, container):
    """The files together are too large, though none of them is."""
    files = single_files([f"x_{i}" for i in range(20)])
    source = CONTAINERS[container](tmp_path, files)
    total = sum(len(content) for content in files.values())
    monkeypatch.setattr(bounds, "MAX_UNPACKED_BYTES", total // 2)
    assert "GiB when unpacked" in refusal(source)


def test_too_many_members(contain, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_MEMBERS", 10)
    assert "more than 10 files" in refusal(contain(single_files([f"x_{i}" for i in range(20)])))


# --- JSON Lines -----------------------------------------------------------------------------------


def in_lines(whole):
    head = {key: value for key, value in whole.items() if key != "patches"}
    return "".join(f"{json.dumps(line)}\n" for line in [head, *whole["patches"]])


def test_a_patchset_in_lines_is_the_same(tmp_path, contain):
    background = {"BkgOnly.json": json.dumps(workspace())}
    source = contain({**background, "it_patchset.jsonl": in_lines(patchset())})
    (expected,) = read_pallets(write_directory(tmp_path / "whole", published()), name="it")
    (found,) = read_pallets(source, name="it")
    assert found.patches == expected.patches
    assert (found.content, found.labels) == (expected.content, expected.labels)
    assert found.references == expected.references


_ODD = st.none() | st.booleans() | st.integers() | st.just("a~2b") | st.just([]) | st.just({})
_OPERATION = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "add", "add", "remove", "copy"]) | _ODD,
        "path": st.sampled_from(["/a/0", "", "a", "/~1", "/~2", "/channels/0/samples/-"]) | _ODD,
        "value": _ODD,
        "from": _ODD,
    },
)
_ABOUT = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["a_1", "a 1", "", "a\n", "\u00e9"]) | _ODD,
        "values": st.lists(st.integers() | st.floats() | st.text(max_size=2) | _ODD, max_size=3),
        "more": _ODD,
    },
)
_PLAIN_OPERATION = st.just({"op": "add", "path": "/channels/0/samples/-", "value": {}})
_HYPOTHESIS = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.just({"name": "a", "values": [1]}) | _ABOUT | _ODD,
        "patch": st.lists(_PLAIN_OPERATION | _OPERATION, max_size=3) | _ODD,
        "more": _ODD,
    },
)


@given(_HYPOTHESIS | _ODD)
def test_what_is_plain_is_accepted_by_the_schema_and_as_a_json_patch(hypothesis):
    plain = is_plain_hypothesis(hypothesis)
    event(f"plain: {plain}")
    if plain:
        patchset = {
            "metadata": {
                "description": "",
                "digests": {"md5": "0" * 32},
                "labels": ["x"],
                "references": {"hepdata": "ins1234567"},
            },
            "patches": [hypothesis],
            "version": "1.0.0",
        }
        assert accepted_by_pyhf_schema(patchset, "patchset.json")
        jsonpatch.JsonPatch(hypothesis["patch"])


def test_what_pallets_have_is_plain():
    """Otherwise what is above holds of nothing."""
    patch = {"op": "add", "path": "/channels/0/samples/-", "value": {"name": "signal"}}
    hypothesis = {"metadata": {"name": "a", "values": [1, 2.5, "x"]}, "patch": [patch]}
    assert is_plain_hypothesis(hypothesis)
    assert not is_plain_hypothesis({**hypothesis, "patch": [{**patch, "op": "replace"}]})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[1:], "line 1: not a patchset's head"),
        (lambda lines: lines[:1], "no patch below the head"),
        (lambda lines: [], "line 1: not valid JSON"),
        (lambda lines: [*lines, lines[1]], "two patches are called sig_200_100"),
        (lambda lines: [*lines[:2], lines[2][:40]], "line 3: not valid JSON at line 1, column"),
        (lambda lines: [*lines, '{"metadata": {}}\n'], "line 5: not the patch of a patchset"),
        (lambda lines: [json.dumps(patchset())], "line 1: not the head of a patchset"),
        (lambda lines: [*lines[:1], lines[1].replace("add", "ad")], "line 2"),
    ],
)
def test_damaged_lines(tmp_path, change, told):
    lines = in_lines(patchset()).splitlines(keepends=True)
    files = {"BkgOnly.json": json.dumps(workspace()), "patchset.jsonl": "".join(change(lines))}
    assert told in refusal(write_directory(tmp_path, files))


# --- select -------------------------------------------------------------------------------------


def some_pallet(points, labels=("m1", "m2")):
    patches = tuple(
        SignalPatch("demo", name, tuple(values), Packed("", pack([])))
        for name, values in points.items()
    )
    return Pallet("demo", "", labels, {}, None, False, "", b"", patches, "nowhere")


@pytest.fixture
def demo():
    return some_pallet(POINTS)


def selected(pallet, *wanted):
    return [patch.name for patch in pallet.select(wanted).patches]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], list(POINTS)),
        (["sig_300_100"], ["sig_300_100"]),
        (["sig_*_100"], ["sig_200_100", "sig_300_100"]),
        (["sig_[23]00_*"], ["sig_200_100", "sig_300_100"]),
        (["1000,5", "sig_200_100"], ["sig_200_100", "sig_1000_5"]),  # the patchset's order
        (["1000.0, 5e0"], ["sig_1000_5"]),
        (["*", "200,100"], list(POINTS)),
        (["demo::sig_2*", "demo::1000,5"], ["sig_200_100", "sig_1000_5"]),
    ],
)
def test_select(demo, wanted, expected):
    assert selected(demo, *wanted) == expected


def test_select_keeps_all_else(demo):
    chosen = demo.select(["300,100"])
    assert (chosen.name, chosen.labels, chosen.source) == ("demo", ("m1", "m2"), "nowhere")
    assert demo.select([]) is demo


def test_select_by_one_value_and_by_words():
    pallet = some_pallet({"a": ["on", 1.0], "b": ["off", 1.0]})
    assert selected(pallet, "off,1") == ["b"]
    assert selected(some_pallet({"a": [0], "b": [7.5]}, ("x",)), "7.50") == ["b"]


@pytest.mark.parametrize(
    "want", ["sig_200_10", "750,100", "SIG_200_100", "200", "200,100,1", "", "dem::*"]
)
def test_select_nothing(demo, want):
    with pytest.raises(PalletError) as caught:
        demo.select(["sig_*", want])
    message = str(caught.value)
    assert f"no patch of the pallet demo matches {want!r}" in message
    assert "sig_200_100 (200,100)" in message
    assert "m1,m2" in message


def test_select_of_one_pallet_alone(demo):
    """Grids of several pallets share names."""
    other = demo.renamed("SUSY-A/other")
    chosen = select([demo, other], ["demo::sig_300_*", "SUSY-A/other::*_100"])
    assert [[patch.name for patch in each.patches] for each in chosen] == [
        ["sig_300_100"],
        ["sig_200_100", "sig_300_100"],
    ]


def test_select_suggests_the_nearest_name(demo):
    with pytest.raises(PalletError, match="did you mean: sig_1000_5"):
        demo.select(["sig_1000_50"])


values = st.tuples(st.floats(0, 1e4, allow_nan=False), st.integers(0, 10_000))


@given(st.lists(values, min_size=1, max_size=8, unique=True), st.data())
def test_select_by_values_finds_what_was_put_in(points, data):
    pallet = some_pallet({f"p{i}": point for i, point in enumerate(points)})
    index = data.draw(st.integers(0, len(points) - 1))
    want = ",".join(map(repr, points[index]))
    assert selected(pallet, want) == [f"p{index}"]


def test_many_are_wanted_of_many():
    """100,000 by name, or by values: each is looked up, and not compared with each other."""
    pallet = some_pallet({f"p{i}": [i, 0.5] for i in range(20_000)})
    begin = time.process_time()
    assert len(pallet.select([f"p{i}" for i in range(0, 20_000, 2)]).patches) == 10_000
    assert len(pallet.select([f"{i}.0,0.50" for i in range(0, 20_000, 4)]).patches) == 5_000
    with pytest.raises(PalletError, match="did you mean: p19999"):
        pallet.select([f"p{i}" for i in range(10_000)] + ["p199999"])
    assert time.process_time() - begin < 20  # one by one it would be minutes


@given(st.lists(st.text("ab*?[]1", min_size=1, max_size=4), min_size=1, max_size=4))
def test_globs_are_those_of_a_shell(wanted):
    names = ["a", "b", "ab", "ba", "a1", "abab", "bab1"]
    pallet = some_pallet({name: [number, 0] for number, name in enumerate(names)})
    matching = [{name for name in names if fnmatchcase(name, want)} for want in wanted]
    if all(matching):
        assert set(selected(pallet, *wanted)) == set.union(*matching)
    else:
        with pytest.raises(PalletError):
            pallet.select(wanted)


# --- size and speed -----------------------------------------------------------------------------


def test_thousands_of_patches_scale_linearly(tmp_path):
    """Five times the patches take about five times as long: nothing is quadratic."""

    def seconds(count):
        points = {f"p_{i}": [i, 0] for i in range(count)}
        source = write_directory(tmp_path / str(count), published(points=points))
        begin = time.process_time()
        (pallet,) = read_pallets(source)
        took = time.process_time() - begin
        assert len(pallet.patches) == count
        pallet.select([f"{count - 1},0"])
        return took

    def least(count):
        """Others on the machine, and garbage of other tests, can only make it slower."""
        return min(seconds(count) for _repetition in range(3))

    seconds(10)  # imports
    assert least(2000) < 15 * least(400)  # by the square it would be 25


@needs_real
def test_real_1lbb_is_read_in_little_memory():
    code = (
        "import resource, sys, pyhf\n"
        "from pytest_pyhf_faas.pallets.read import read_pallets\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before = peak()\n"
        "(pallet,) = read_pallets(sys.argv[1])\n"
        "print(len(pallet.patches), peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(REAL, "1Lbb"))],
        capture_output=True,
        text=True,
        check=True,
    )
    count, mib = done.stdout.split()
    assert count == "125"
    assert float(mib) < 170


@needs_real
@pytest.mark.parametrize(
    ("name", "labels", "count"),
    [
        ("3L_eRJR", ("mn2", "mn1"), 64),
        ("stau_combined", ("mst", "mn2"), 57),
        ("2L0J_simplified", ("m1", "m2"), 106),
        ("pyhf_example", ("x",), 1),
    ],
)
def test_real_pallets(name, labels, count):
    directory = Path(REAL, name)
    (pallet,) = read_pallets(directory)
    assert (pallet.name, pallet.labels, len(pallet.patches)) == (name, labels, count)
    spec = json.loads((directory / "patchset.json").read_text())
    expected = pyhf.PatchSet(spec)
    expected.verify(unpack(pallet.background))
    for mine, theirs in zip(pallet.patches, expected.patches, strict=True):
        assert (mine.name, mine.values, mine.operations) == (
            theirs.name,
            theirs.values,
            theirs.patch,
        )


@needs_real
def test_real_pallet_as_single_files_reads_the_same(tmp_path):
    """As published: sbottom RegionB, one file per patch, in an archive."""
    (whole,) = read_pallets(Path(REAL, "sbottom_RegionB"))
    files = {"HEPData_workspaces/RegionB/BkgOnly.json": json.dumps(unpack(whole.background))}
    for patch in whole.patches[:30]:
        name = f"HEPData_workspaces/RegionB/patch.{patch.name}.json"
        files[name] = json.dumps(patch.operations)
    (pallet,) = read_pallets(write_tar(tmp_path / "sbottom.tar.gz", files))
    assert pallet.digest == whole.digest
    assert {(p.name, p.values, p.digest) for p in pallet.patches} == {
        (p.name, p.values, p.digest) for p in whole.patches[:30]
    }
