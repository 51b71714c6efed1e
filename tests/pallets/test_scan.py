"""scan.py, columns.py, table.py: a table of model points is the patchset that it spells out."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import shutil
import tarfile
from pathlib import Path

import pyhf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.check import check
from pytest_pyhf_faas.pallets.combined_scans import CombinedScans
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.pallets.read import read_pallets
from pytest_pyhf_faas.worker.certified import certify_batch
from tests.histfactory.generated import normsys, sample, workspace

LUMI = {"name": "lumi", "auxdata": [1.0], "sigmas": [0.02], "bounds": [[0.5, 1.5]], "inits": [1.0]}
HEADER = ["name", "value:m1", "value:m2", "SR[0]", "SR[1]", "CR[0]"]
ROWS = [["a", 300, 100, 4.0, 2.5, 0], ["b", 300, 50.5, 0, 1.5, 0], ["c", 400, 100, 0, 0, 0.25]]
SIZES = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
RELATIVE = st.one_of(st.just(0.0), st.floats(1e-3, 0.9))


def background(*parameters, rates=(50.0, 28.0)):
    return workspace(
        {
            "SR": [sample("bkg", list(rates), normsys("JES", 0.9, 1.1))],
            "CR": [sample("bkg", [200.0])],
        },
        {"SR": [52, 27], "CR": [205]},
        list(parameters),
    )


def write(directory, rows=None, header=None, workspace=None, name="scan.csv"):
    directory.mkdir(exist_ok=True)
    (directory / "BkgOnly.json").write_text(json.dumps(workspace or background()))
    with (directory / name).open("w", newline="") as file:
        csv.writer(file).writerows([header or HEADER, *(ROWS if rows is None else rows)])
    return directory


def read(directory):
    (pallet,) = read_pallets(directory)
    return pallet


def refusal(directory):
    with pytest.raises(PalletError) as caught:
        read_pallets(directory)
    return str(caught.value)


def spelled_out(pallet):
    """The same, as the patchset that a person would write."""
    return {
        "metadata": {
            "description": "spelled out",
            "digests": {"sha256": pallet.digest},
            "labels": list(pallet.labels),
            "references": {"hepdata": "ins1234567"},
        },
        "patches": [
            {
                "metadata": {"name": patch.name, "values": list(patch.values)},
                "patch": patch.operations,
            }
            for patch in pallet.patches
        ],
        "version": "1.0.0",
    }


def normfactor(name):
    return {"data": None, "name": name, "type": "normfactor"}


# --- a row becomes a patch ----------------------------------------------------------------------


def test_a_row_is_the_patch_that_it_spells_out(tmp_path):
    header = [*HEADER, "unc:JES", "unc:theory", "stat:SR[1]"]
    rows = [["a", 300, 100, 4.0, 2.5, 1.5, 0.25, 0.5, 0.125], ["b", 1.5, 1, 0, 2.0, 0, 0, 0, 0]]
    first, second = read(write(tmp_path, rows, header, background(LUMI))).patches
    common = [normfactor("mu"), {"data": None, "name": "lumi", "type": "lumi"}]
    both = [
        *common,
        {"data": {"hi": 1.25, "lo": 0.75}, "name": "JES", "type": "normsys"},
        {"data": {"hi": 1.5, "lo": 0.5}, "name": "theory", "type": "normsys"},
    ]
    stat = {"data": [0.0, 0.3125], "name": "stat_signal_SR", "type": "shapesys"}
    # the workspace has its channels in the order of its JSON
    places = [each["name"] for each in background()["channels"]]
    value = {"data": [4.0, 2.5], "modifiers": [*both, stat], "name": "signal"}
    control = {"data": [1.5], "modifiers": both, "name": "signal"}
    assert first.operations == [
        {
            "op": "add",
            "path": f"/channels/{place}/samples/-",
            "value": value if name == "SR" else control,
        }
        for place, name in enumerate(places)
    ]
    (only,) = second.operations
    assert only["value"] == {"data": [0.0, 2.0], "modifiers": common, "name": "signal"}
    assert (first.values, second.values) == ((300.0, 100), (1.5, 1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(SIZES, SIZES, SIZES, RELATIVE, RELATIVE), min_size=1, max_size=4, unique=True
    )
)
def test_a_scan_equals_the_patchset_that_it_spells_out(tmp_path_factory, points):
    header = ["value:x", "SR[0]", "SR[1]", "CR[0]", "unc:JES", "stat:CR[0]"]
    rows = [[number, *map(repr, point)] for number, point in enumerate(points)]
    directory = write(tmp_path_factory.mktemp("scan"), rows, header)
    scan = read(directory)
    (directory / "scan.csv").unlink()
    (directory / "patchset.json").write_text(json.dumps(spelled_out(scan)))
    patchset = read(directory)
    assert scan.patches == patchset.patches
    assert scan.content == patchset.content
    for patch in scan.patches:
        assert patch.digest == pyhf.utils.digest(patch.operations)
    assert scan.patches[-1] == scan.patches[len(points) - 1]
    assert list(scan.patches[:2]) == list(patchset.patches[:2])


def test_cls_of_a_scan_is_that_of_its_patchset(tmp_path):
    """By the certified fit, from the payload that a worker is sent."""
    header = [*HEADER, "unc:JES", "stat:SR[0]"]
    rows = [[*row, 0.1, 0.2] for row in [*ROWS, ["none", 0, 0, 0, 0, 0]]]
    scan = read(write(tmp_path, rows, header, background(LUMI)))
    (tmp_path / "scan.csv").unlink()
    (tmp_path / "patchset.json").write_text(json.dumps(spelled_out(scan)))
    config = HypotestConfig(method="certified", checked=True)
    found, expected = (
        certify_batch(batch_payload(make_tasks(pallet, config)))["results"]
        for pallet in (scan, read(tmp_path))
    )
    assert [each["status"] for each in found] == ["ok"] * 4
    assert [each["CLs_obs"] for each in found] == [each["CLs_obs"] for each in expected]
    assert found[0]["CLs_obs"] < found[1]["CLs_obs"] < 1
    assert found[3]["CLs_obs"] == pytest.approx(1.0)


def test_a_row_without_any_signal_keeps_the_parameter_of_interest(tmp_path):
    pallet = read(write(tmp_path, [["a", 1, 1, 0, 0, 0], ["b", 2, 1, 1, 1, 1]]))
    (finding,) = check(unpack(pallet.background), pallet.patches)
    assert (finding.level, finding.patches) == ("warning", ("a",))
    assert "CLs is 1" in finding.text


def test_what_is_found_in_a_scan_is_what_is_found_in_its_patchset(tmp_path):
    """Rows are checked by kind: where the background expects nothing, or less, they differ."""
    draw = random.Random(2)
    rows = [
        [f"p{number}", number, 0, *draw.choices([0, 0, 1.5, 40.0], k=3)] for number in range(60)
    ]
    specification = background(rates=[0.0, -20.0])
    pallet = read(write(tmp_path, rows, workspace=specification))
    (tmp_path / "scan.csv").unlink()
    (tmp_path / "patchset.json").write_text(json.dumps(spelled_out(pallet)))
    same = read(tmp_path)
    for poi in (1.0, 0.5, -1.0):
        how = {"test_poi": poi, "test_stat": "q"}
        found, expected = (
            sorted((each.level, each.text, each.patches) for each in check(specification, p, **how))
            for p in (pallet.patches, same.patches)
        )
        assert found == expected
        assert len(found) > 2


# --- scans, combined ----------------------------------------------------------------------------


def other_background():
    channels = {
        "SR2": [sample("bkg", [30.0]), sample("more", [3.0])],
        "SR3": [sample("bkg", [9.0])],
    }
    return workspace(channels, {"SR2": [31], "SR3": [8]}, [])


def two_scans(directory, rows=None):
    """Write two scans, with some rows of the second in another order and one without a partner."""
    header = ["name", "value:m2", "value:m1", "SR3[0]", "SR2[0]", "unc:JES", "stat:SR2[0]"]
    rows = rows or [
        ["other", 7, 7, 1, 1, 0, 0],
        ["c2", 100, 400, 2.5, 0, 0.2, 0],
        ["a2", 100, 300, 0.5, 1.5, 0.1, 0.3],
    ]
    write(directory / "A", header=[*HEADER, "unc:JES"], rows=[[*row, 0.25] for row in ROWS])
    write(directory / "B", rows, header, other_background())
    return f"{directory / 'A'}+{directory / 'B'}"


def resolved(spec):
    (pallet,) = catalogue.resolve(str(spec), search_path=())
    return pallet


@pytest.mark.parametrize("correlate", [True, False])
def test_scans_combined_are_their_patchsets_combined(tmp_path, correlate):
    two_scans(tmp_path)
    both = tmp_path / "both.toml"
    both.write_text(f'pallets = ["A/", "B/"]\ncorrelate = {json.dumps(correlate)}\n')
    combined = resolved(both)
    assert isinstance(combined.patches[0].content.rows, CombinedScans)
    for name in "AB":
        patchset = spelled_out(read(tmp_path / name))
        (tmp_path / name / "scan.csv").unlink()
        (tmp_path / name / "patchset.json").write_text(json.dumps(patchset))
    expected = resolved(both)
    assert [patch.name for patch in combined.patches] == ["a", "c"]
    assert combined.patches == expected.patches
    assert combined.digest == expected.digest
    assert combined.remarks == expected.remarks
    for patch in combined.patches:
        assert patch.digest == pyhf.utils.digest(patch.operations)
        assert check(unpack(combined.background), [patch]) == check(
            unpack(expected.background), [patch]
        )


def test_what_clashes_in_any_row_of_scans_is_reported(tmp_path):
    rows = [["a", 100, 300, 1, 1, 0, 0], ["c", 100, 400, 1, 1, 0.2, 0]]
    spec = two_scans(tmp_path, rows)
    staterror = {"data": [1.0], "name": "JES", "type": "staterror"}
    background = other_background()
    background["channels"][0]["samples"][0]["modifiers"].append(staterror)
    table = tmp_path / "B" / "scan.csv"
    table.write_text(table.read_text().replace("unc:JES", "unc:other"))
    (tmp_path / "B" / "BkgOnly.json").write_text(json.dumps(background))
    with pytest.raises(PalletError, match="the modifier JES is of another type"):
        resolved(spec)


# --- columns and cells --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (["name", "SRx[0]"], "SRx[0]: do you mean the channel SR?"),
        (["name", "SR[2]"], "SR[2]: SR has 2 bins, SR[0] and so on"),
        (["name", "CR[1]"], "CR[1]: CR has 1 bin, CR[0]\n"),
        (["name", "SR[-1]"], "SR[-1]: SR has 2 bins"),
        (["name", "SR[0]", "SR[00]"], "SR[00]: SR has 2 bins"),
        (["Name", "SR[0]"], "Name: do you mean name?"),
        (["name", "Value:m1", "SR[0]"], "Value:m1: do you mean value:m1?"),
        (["__index_level_0__", "SR[0]"], "write the table with index=False"),
        (["name", "CR"], "CR: do you mean CR[0]?"),
        (["name", "stat:CR", "CR[0]"], "stat:CR: do you mean stat:CR[0]?"),
        (["name", "m1", "CR[0]"], "m1: a value of the point is value:m1"),
        (["name", "validation[0]", "CR[0]"], "the background has no channel validation, but"),
        (["name", "value:m1"], "no column with yields"),
        (["CR[0]"], "nothing distinguishes the rows"),
        (["name", "CR[0]", "CR[0]"], "columns come twice: CR[0]"),
        (["name", "", "CR[0]"], "1 column without a name: number 2"),
        (["name", "CR[0]", "stat:SR[1]"], "uncertainties of missing yields: stat:SR[1]"),
        (["name", "CR[0]", "value:m 1"], "1 label that pyhf does not allow: m 1"),
        (["name", "CR[0]", "unc:mu"], "the name of another parameter: unc:mu (normfactor)"),
        (["name", "CR[0]", "unc:lumi"], "the name of another parameter: unc:lumi (lumi)"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path, header, told):
    message = refusal(write(tmp_path, [], header))
    assert "scan.csv" in message
    assert told in message


def test_many_unknown_columns_are_counted(tmp_path):
    message = refusal(write(tmp_path, [], ["name", *(f"x{number}" for number in range(20))]))
    assert "20 columns that cannot be used" in message
    assert "and 15 more" in message
    assert len(message.splitlines()) < 10


@pytest.mark.parametrize(
    ("column", "cell", "told"),
    [
        ("SR[0]", "abc", "'abc' is not a number"),
        ("SR[0]", "", "it is empty"),
        ("SR[1]", "nan", "nan is not a finite number"),
        ("value:m1", "inf", "inf is not a finite number"),
        ("CR[0]", "-3", "-3 is negative"),
        ("unc:JES", "-0.1", "-0.1 is negative"),
        ("unc:JES", "12", "12 is not a relative uncertainty below 1"),
        ("name", "", "it is empty"),
        ("name", "b c", "pyhf allows only letters"),
        ("name", "a", "a is that of row 1"),
    ],
)
def test_a_cell_that_cannot_be_used(tmp_path, column, cell, told):
    header = [*HEADER, "unc:JES"]
    rows = [[*row, 0.1] for row in ROWS]
    rows[1][header.index(column)] = cell
    message = refusal(write(tmp_path, rows, header))
    assert f"1 cell cannot be used:\n  row 2, column {column}: " in message
    assert told in message


@pytest.mark.parametrize("cell", ["abc", "-1", "nan"])
def test_many_cells_are_counted(tmp_path, cell):
    rows = [[f"p{number}", number, 0, 1, cell, cell] for number in range(400)]
    message = refusal(write(tmp_path, rows))
    assert "800 cells cannot be used" in message
    assert "row 1, column SR[1]" in message
    assert "and 795 more" in message
    assert len(message.splitlines()) < 10


def test_rows_at_one_point_are_refused(tmp_path):
    rows = [["a", 0.0, 1, 1, 1, 1], ["b", -0.0, 1, 2, 2, 2]]
    assert "row 2, column value:m1 value:m2: (0, 1) are those of row 1" in refusal(
        write(tmp_path, rows)
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "the file is empty"),
        (b"name,CR[0]\n", "no row below the header"),
        (b"name,CR[0]\na\n", "line 2 has 1 cell, and the header 2 columns"),
        (b"name;CR[0]\na;1\n", "line 1 has one column, with semicolons in it"),
        (b"name\tCR[0]\na\t1\n", "one column, with tabs in it"),
        (b"name,CR[0]\na,1\n,\n", "row 2, column CR[0]: it is empty"),
        (b"name,CR[0]\n\xff,1\n", "not valid UTF-8"),
        (b'name,CR[0]\n"a,1\n', "not valid CSV"),
    ],
)
def test_what_is_no_table(tmp_path, text, told):
    (write(tmp_path) / "scan.csv").write_bytes(text)
    assert told in refusal(tmp_path)


def test_lines_without_anything_are_left_out(tmp_path):
    (write(tmp_path) / "scan.csv").write_bytes(
        b"\xef\xbb\xbf\r\n\r\nname,CR[0]\r\na,1\r\n\r\n  \r\n"
    )
    assert [patch.name for patch in read(tmp_path).patches] == ["a"]


def test_names_are_made_of_the_values(tmp_path):
    pallet = read(write(tmp_path, [[-300, 0.5, 1], [1e-5, 2, 1]], ["value:x", "value:y", "CR[0]"]))
    assert [patch.name for patch in pallet.patches] == ["m300p0_0p5", "1em05_2p0"]
    assert len(pallet.select(["-300,0.5"]).patches) == 1


def test_values_are_the_number_of_the_row_where_there_are_none(tmp_path):
    pallet = read(write(tmp_path, [["a", 1], ["b", 1]], ["name", "CR[0]"]))
    assert pallet.labels == ("index",)
    assert [patch.values for patch in pallet.patches] == [(1,), (2,)]


# --- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["tar", "gztar", "zip"])
def test_a_table_in_an_archive(tmp_path, form):
    source = write(tmp_path / "it")
    archive = shutil.make_archive(str(tmp_path / "it"), form, tmp_path, "it")
    assert read(Path(archive)).content == read(source).content


def test_a_compressed_table_in_an_archive(tmp_path):
    source = write(tmp_path / "it")
    with tarfile.open(tmp_path / "it.tar.gz", "w:gz") as archive:
        for name, data in (
            ("scan.csv.gz", gzip.compress((source / "scan.csv").read_bytes())),
            ("BkgOnly.json", (source / "BkgOnly.json").read_bytes()),
        ):
            info = tarfile.TarInfo(f"deep/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert read(tmp_path / "it.tar.gz").content == read(source).content


def test_parquet_is_the_same(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    source = write(tmp_path)
    expected = read(source)
    (source / "scan.csv").unlink()
    columns = [list(column) for column in zip(*ROWS, strict=True)]
    table = dict(zip(HEADER, columns, strict=True))
    pq.write_table(pa.table(table), source / "scan.parquet", row_group_size=2)
    assert read(source).patches == expected.patches
    table["SR[1]"] = [1.0, None, 2.0]
    pq.write_table(pa.table(table), source / "scan.parquet")
    assert "row 2, column SR[1]: nan is not a finite number (empty, perhaps)" in refusal(source)
    table["SR[1]"] = ["x", "y", "z"]
    pq.write_table(pa.table(table), source / "scan.parquet")
    assert "1 column without numbers: SR[1] (string)" in refusal(source)
    (source / "scan.parquet").write_bytes(b"PAR1 no more")
    assert "not a Parquet file that can be read" in refusal(source)


def test_a_table_of_something_else_is_left_alone(tmp_path):
    source = write(tmp_path, name="limits_scan.csv", rows=[["x"]], header=["what"])
    write(tmp_path)
    assert len(read(source).patches) == 3


def test_items_of_a_scan_are_named_after_its_points(project, tmp_path):
    words = [f"--faas-pallet={write(tmp_path / 'scan')}", "--faas-patch=300,50.5"]
    found = project.run(*words, "--collect-only", "-q", pallet=None)
    ids = [line.partition("::")[2] for line in found.outlines if "::" in line]
    assert "test_cls[scan-b]" in ids
    assert "test_cls[scan-a]" not in ids


def test_where_a_table_belongs_is_reported(tmp_path):
    directory = write(tmp_path / "it")
    assert "give the directory that holds the background" in refusal(directory / "scan.csv")
    (directory / "scan.csv").rename(directory / "points.csv")
    assert "or scan.csv with a table of model points" in refusal(directory)
