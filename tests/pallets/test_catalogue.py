"""catalogue.py: what a name, a directory, an archive or a DOI means."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pyhf
import pytest

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.catalogue import (
    BUNDLED,
    CATALOGUE,
    PublishedPallet,
    available,
    resolve,
    search_path_from_environment,
)
from pytest_pyhf_faas.schemas import own_schema

REAL = search_path_from_environment()
needs_real = pytest.mark.skipif(not REAL, reason="PYHF_PALLET_PATH is not set")


# --- small pallets ------------------------------------------------------------------------------


def pallet_files(background=50.0, directory=""):
    workspace = {
        "channels": [
            {"name": "SR", "samples": [{"name": "bkg", "data": [background], "modifiers": []}]}
        ],
        "observations": [{"name": "SR", "data": [51.0]}],
        "measurements": [{"name": "meas", "config": {"poi": "mu", "parameters": []}}],
        "version": "1.0.0",
    }
    patchset = {
        "metadata": {
            "description": "for tests",
            "digests": {"sha256": pyhf.utils.digest(workspace)},
            "labels": ["m"],
            "references": {"hepdata": "ins1234567"},
        },
        "patches": [
            {
                "metadata": {"name": "sig_1", "values": [1]},
                "patch": [{"op": "remove", "path": "/x"}],
            }
        ],
        "version": "1.0.0",
    }
    return {
        f"{directory}BkgOnly.json": json.dumps(workspace),
        f"{directory}patchset.json": json.dumps(patchset),
    }


def digest_of(background):
    return pyhf.utils.digest(json.loads(pallet_files(background)["BkgOnly.json"]))


def write_directory(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def write_tar(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


def names(pallets):
    return [pallet.name for pallet in pallets]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty working directory, an empty cache, and no way out."""
    directory = tmp_path / "home"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.setenv("PYTEST_PYHF_FAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # the discard port: refused at once
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return directory


@pytest.fixture
def shelf(tmp_path):
    """A directory of the search path."""
    directory = tmp_path / "shelf"
    directory.mkdir()
    return directory


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A publication with the regions A (background 1) and B (2), served on this machine."""
    root = tmp_path / "www"
    root.mkdir()
    write_tar(root / "r1", pallet_files(1.0, "x/RegionA/") | pallet_files(2.0, "x/RegionB/"))
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=root)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        entries = tuple(
            PublishedPallet(
                name=f"demo_{region}",
                title="",
                reference="",
                inspire="ins7654321",
                doi="10.17182/hepdata.1",
                archive_url=f"http://127.0.0.1:{server.server_port}/r1",
                subdirectory=f"Region{region}",
                patches=1,
                background_sha256=digest_of(background),
                aliases=("demo", "EXAMPLE-2020-01"),
            )
            for region, background in (("A", 1.0), ("B", 2.0))
        )
        monkeypatch.setattr(catalogue, "CATALOGUE", entries)
        yield requests
        server.shutdown()
        thread.join()


# --- the table ----------------------------------------------------------------------------------


def test_names_are_unique_and_no_alias_is_a_name():
    all_names = [entry.name.casefold() for entry in CATALOGUE]
    assert len(set(all_names)) == len(all_names)
    for entry in CATALOGUE:
        assert not {alias.casefold() for alias in entry.aliases} & {*all_names, BUNDLED}


def test_entries_are_well_formed():
    for entry in CATALOGUE:
        assert re.fullmatch(r"10\.17182/hepdata\.\d{5}", entry.doi)
        assert re.fullmatch(rf"https://doi\.org/{entry.doi}\.v\d+/r\d+", entry.archive_url)
        assert re.fullmatch(r"ins\d{7}", entry.inspire)
        assert re.match(r"arXiv:\d{4}\.\d{5}, ", entry.reference)
        assert entry.background_sha256 is None or re.fullmatch(
            "[0-9a-f]{64}", entry.background_sha256
        )


def test_pallets_of_one_archive_can_be_distinguished():
    parts = [(entry.archive_url, entry.part) for entry in CATALOGUE]
    assert len(set(parts)) == len(parts)
    shared = {url for url, _ in parts if [u for u, _ in parts].count(url) > 1}
    assert all(part for url, part in parts if url in shared)


def test_import_is_cheap():
    code = (
        "import sys\n"
        "import pytest_pyhf_faas\n"
        "before = set(sys.modules)\n"
        "import pytest_pyhf_faas.pallets.catalogue\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'pytest_pyhf_faas'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- on disk ------------------------------------------------------------------------------------


def test_search_path_from_environment(monkeypatch):
    monkeypatch.setenv("PYHF_PALLET_PATH", "/a::~/b: :")
    assert search_path_from_environment() == [Path("/a"), Path.home() / "b"]
    monkeypatch.delenv("PYHF_PALLET_PATH")
    assert search_path_from_environment() == []


def test_existing_path_goes_first(home, shelf):
    write_directory(home / "mine", pallet_files(7.0))
    write_directory(shelf / "mine", pallet_files(8.0))
    (pallet,) = resolve("mine", search_path=[shelf])
    assert pallet.digest == digest_of(7.0)
    assert (pallet.name, pallet.doi) == ("mine", None)


@pytest.mark.parametrize("spec", ["mine", "MINE"])
@pytest.mark.parametrize("file", [None, "mine.tar.gz", "Mine.TGZ"])
def test_name_in_the_search_path(home, shelf, tmp_path, spec, file):
    if file:
        write_tar(shelf / file, pallet_files())
    else:
        write_directory(shelf / "mine", pallet_files())
    (pallet,) = resolve(spec, search_path=[tmp_path / "missing", shelf])
    assert pallet.name.casefold() == "mine"


def test_the_first_in_the_search_path_counts(home, tmp_path):
    write_directory(tmp_path / "1" / "mine", pallet_files(1.5))
    write_directory(tmp_path / "2" / "mine", pallet_files(2.5))
    (pallet,) = resolve("mine", search_path=[tmp_path / "1", tmp_path / "2"])
    assert pallet.digest == digest_of(1.5)


def test_directory_with_several_and_one_of_them(home):
    files = pallet_files(1.0, "Region-A/") | pallet_files(2.0, "Region-B/")
    write_directory(home / "mine", files)
    assert names(resolve("mine", search_path=[])) == ["mine_Region-A", "mine_Region-B"]
    assert names(resolve("mine/Region-B", search_path=[])) == ["Region-B"]


def test_home_directory_is_expanded(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    write_directory(home / "mine", pallet_files())
    assert names(resolve("~/mine", search_path=[])) == ["mine"]


# --- published ones -----------------------------------------------------------------------------


def test_by_name_is_downloaded_once_and_verified(home, published):
    for _ in range(2):
        (pallet,) = resolve("DEMO_b", search_path=[])
        assert (pallet.name, pallet.doi) == ("demo_B", "10.17182/hepdata.1")
        assert pallet.digest == digest_of(2.0)
        assert {patch.pallet for patch in pallet.patches} == {"demo_B"}
    assert len(published) == 1


@pytest.mark.parametrize(
    "spec",
    [
        "demo",
        "example-2020-01",
        "10.17182/hepdata.1",
        "doi:10.17182/hepdata.1",
        "https://doi.org/10.17182/hepdata.1",
        "https://dx.doi.org/10.17182/HEPData.1",
    ],
)
def test_all_of_a_publication(home, published, spec):
    assert names(resolve(spec, search_path=[])) == ["demo_A", "demo_B"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("10.17182/hepdata.90607", ["1Lbb"]),
        ("https://doi.org/10.17182/hepdata.90607.v3", ["1Lbb"]),
        ("doi:10.17182/hepdata.90607.v3/r3", ["1Lbb"]),
        ("10.17182/hepdata.90607.v33/r3", []),
        ("10.17182/hepdata.90607.v3/r33", []),
        ("10.17182/hepdata.9060", []),
        ("10.17182/hepdata.92006.v2/r2", ["stau_combined", "stau_lowMass", "stau_highMass"]),
    ],
)
def test_forms_of_a_doi(spec, expected):
    match = catalogue._DOI.fullmatch(spec)
    assert [entry.name for entry in catalogue._published_at(match)] == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("1lbb", ["1Lbb"]),
        ("staus", ["stau_combined"]),
        ("SUSY-2018-04", ["stau_combined", "stau_lowMass", "stau_highMass"]),
        ("arXiv:1908.03122", ["sbottom_RegionA", "sbottom_RegionB", "sbottom_RegionC"]),
        ("Rpc2L0b", ["SS3L_Rpc2L0b"]),
        ("nothing", []),
    ],
)
def test_names_and_aliases(spec, expected):
    assert [entry.name for entry in catalogue._published_as(spec)] == expected


@pytest.mark.parametrize("spec", ["demo_A", "demo", "10.17182/hepdata.1"])
def test_search_path_goes_before_the_download(home, published, shelf, spec):
    write_directory(shelf / "demo_A", pallet_files(1.0))
    write_directory(shelf / "demo_B", pallet_files(2.0))
    pallet = resolve(spec, search_path=[shelf])[0]
    assert (pallet.name, pallet.doi) == ("demo_A", "10.17182/hepdata.1")
    assert pallet.source == str(shelf / "demo_A")
    assert published == []


@pytest.mark.parametrize("alias", ["demo", "EXAMPLE-2020-01"])
def test_archive_of_the_publication_in_the_search_path(home, published, shelf, alias):
    files = pallet_files(1.0, "x/RegionA/") | pallet_files(2.0, "x/RegionB/")
    write_tar(shelf / f"{alias}.tar.gz", files)
    (pallet,) = resolve("demo_B", search_path=[shelf])
    assert (pallet.name, pallet.digest) == ("demo_B", digest_of(2.0))
    assert published == []


def test_whole_archive_under_the_name_of_one_part(home, published, shelf):
    files = pallet_files(1.0, "x/RegionA/") | pallet_files(2.0, "x/RegionB/")
    write_tar(shelf / "demo_B.tgz", files)
    (pallet,) = resolve("demo_B", search_path=[shelf])
    assert pallet.digest == digest_of(2.0)


def test_another_background_under_a_published_name(home, published, shelf):
    write_directory(shelf / "demo_A", pallet_files(9.0))
    for spec in ("demo_A", str(shelf / "demo_A")):
        with pytest.raises(PalletError) as caught:
            resolve(spec, search_path=[shelf])
        message = str(caught.value)
        assert digest_of(9.0) in message
        assert digest_of(1.0) in message
        assert "rename the directory" in message


def test_published_pallet_is_recognised_in_any_directory(home, published):
    write_directory(home / "download", pallet_files(1.0))
    (pallet,) = resolve("download", search_path=[])
    assert (pallet.name, pallet.doi) == ("demo_A", "10.17182/hepdata.1")
    assert pallet.patches[0].pallet == "demo_A"


def test_own_signals_on_a_published_background_are_not_the_published_pallet(home, published):
    files = pallet_files(1.0)
    patchset = json.loads(files["patchset.json"])
    patchset["patches"].append({"metadata": {"name": "mine", "values": [2]}, "patch": []})
    files["patchset.json"] = json.dumps(patchset)
    write_directory(home / "reinterpretation", files)
    (pallet,) = resolve("reinterpretation", search_path=[])
    assert (pallet.name, pallet.doi) == ("reinterpretation", None)


def test_download_that_is_damaged_says_what_to_remove(home, published, tmp_path):
    resolve("demo_A", search_path=[])
    (cached,) = (path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock")
    cached.write_bytes(cached.read_bytes()[:100])
    with pytest.raises(PalletError, match=f"remove {re.escape(str(cached))} to download it again"):
        resolve("demo_A", search_path=[])


def test_without_a_network(home):
    with pytest.raises(PalletError) as caught:
        resolve("3L_eRJR", search_path=[])
    message = str(caught.value)
    assert "https://doi.org/10.17182/hepdata.91127.v2/r3 cannot be reached" in message
    assert "give the file: --faas-pallet FILE" in message


def test_archive_that_is_not_in_the_catalogue(home):
    """Any archive of HEPData can be given by its full DOI; here it just cannot be reached."""
    with pytest.raises(PalletError, match=r"https://doi.org/10.17182/hepdata.104458.v1/r4 cannot"):
        resolve("10.17182/hepdata.104458.v1/r4", search_path=[])


# --- nothing there ------------------------------------------------------------------------------


def test_unknown_name(home, shelf):
    write_directory(shelf / "my_pallet", pallet_files())
    with pytest.raises(PalletError) as caught:
        resolve("my_palet", search_path=[shelf, Path("/nowhere")])
    message = str(caught.value)
    assert "there is no pallet 'my_palet'" in message
    assert "did you mean: my_pallet" in message
    assert "known: " in message
    assert "1Lbb" in message
    assert f"{shelf}, /nowhere (no such directory)" in message


def test_unknown_alias_is_near_an_alias(home):
    with pytest.raises(PalletError, match=r"did you mean: SUSY-2018-04"):
        resolve("SUSY-2018-4", search_path=[])


def test_unknown_doi(home):
    with pytest.raises(PalletError, match="give the DOI of the archive itself"):
        resolve("doi:10.17182/hepdata.104458", search_path=[])


def test_available(shelf, tmp_path):
    write_directory(shelf / "mine", pallet_files())
    write_directory(shelf / "regions", pallet_files(directory="Region-A/"))
    write_directory(shelf / "1Lbb", pallet_files())
    write_directory(shelf / "notes", {"words.json": "{}"})
    write_directory(shelf / ".hidden", pallet_files())
    write_tar(shelf / "packed.tar.gz", pallet_files())
    (shelf / "README.md").write_text("words")
    listed = available([shelf, tmp_path / "missing"])
    assert [name for name in listed if name in {"mine", "regions", "packed"}] == [
        "mine",
        "packed",
        "regions",
    ]
    assert not {"notes", ".hidden", "README.md", "README"} & set(listed)
    assert listed.count("1Lbb") == 1
    assert {entry.name for entry in CATALOGUE} <= set(listed)


def test_bundled(home, shelf):
    assert BUNDLED == "synthetic"
    assert BUNDLED in available([])
    (pallet,) = resolve("Synthetic", search_path=[])
    assert pallet.name == "synthetic"
    assert pallet.synthetic
    assert pallet.doi is None

    write_directory(shelf / "synthetic", pallet_files())
    (pallet,) = resolve("synthetic", search_path=[shelf])  # your own goes first
    assert pallet.digest == digest_of(50.0)


# --- the real ones ------------------------------------------------------------------------------


@needs_real
@pytest.mark.parametrize(
    "entry",
    [e for e in CATALOGUE if any((directory / e.name).is_dir() for directory in REAL)],
    ids=lambda entry: entry.name,
)
def test_real_pallets_agree_with_the_catalogue(home, entry):
    (pallet,) = resolve(entry.name.lower(), search_path=REAL)
    assert (pallet.name, pallet.doi) == (entry.name, entry.doi)
    assert pallet.digest == entry.background_sha256
    assert len(pallet.patches) == entry.patches
    assert pallet.references == {"hepdata": entry.inspire}
    assert not pallet.synthetic


# --- the data -----------------------------------------------------------------------------------


def test_the_catalogue_fits_its_schema():
    data = json.loads((catalogue._data() / "catalogue.json").read_text())
    jsonschema.validate(data, own_schema("catalogue.schema.json"))
    for publication in data["publications"]:
        assert publication["doi"] in publication["archive_url"]


def test_no_two_published_pallets_have_one_name():
    named = [entry.name.casefold() for entry in CATALOGUE]
    assert len(named) == len(set(named))
    aliases = {alias.casefold() for entry in CATALOGUE for alias in entry.aliases}
    assert not aliases & set(named)


@pytest.mark.parametrize(
    "change",
    [
        lambda pallet: pallet.pop("name"),
        lambda pallet: pallet.update(background_sha256="x"),
        lambda pallet: pallet.update(patches=0),
        lambda pallet: pallet.update(subdirectory="a", prefix="b"),
        lambda pallet: pallet.update(unknown=1),
    ],
)
def test_a_slip_in_the_catalogue_is_found(change):
    data = json.loads((catalogue._data() / "catalogue.json").read_text())
    change(data["publications"][0]["pallets"][0])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, own_schema("catalogue.schema.json"))
