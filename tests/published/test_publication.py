"""Tables are found beside the pallet, by the catalogue's names, and downloaded by DOI."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_pyhf_faas.errors import PublishedTableError
from pytest_pyhf_faas.pallets.catalogue import tables_of
from pytest_pyhf_faas.pallets.read import read_pallets
from pytest_pyhf_faas.published import download
from pytest_pyhf_faas.published.publication import find_publication
from tests.published.test_tables import HEPDATA_YAML

OWN = "m1,m2,observed_pb,cross_section_pb\n100,0,0.2,0.1\n"


@pytest.fixture
def pallet(project):
    project.pallet(2, references=False)
    return lambda: read_pallets(project.path / "tiny")[0]


def test_what_lies_next_to_a_pallet_is_found(project, pallet):
    assert find_publication(pallet()) is None
    (project.path / "tiny/published").mkdir()
    (project.path / "tiny/published/limits.csv").write_text(
        "m1,m2,observed_pb\n100,0,0.3\n100,50,0.4\n"
    )
    (project.path / "tiny/published/theory.csv").write_text("mass,cross_section_pb\n100,0.1\n")
    found = find_publication(pallet())
    assert {name: each.limit for name, each in found.expected.items()} == {
        "sig_100_0": 0.3,
        "sig_100_50": 0.4,
    }
    assert {each.cross_section for each in found.expected.values()} == {0.1}
    (project.path / "tiny/published.csv").write_text(OWN)
    found = find_publication(pallet())
    assert [patch.name for patch in found.patches] == ["sig_100_0"]
    assert found.fitted == found.patches


def test_files_of_the_catalogue_are_found_in_the_search_path_and_next_to_it(project, pallet):
    known = tables_of("stau_combined")
    directory = project.path / "published"
    directory.mkdir()
    rows = [{"masses_GeV": [100, 0], "observed_UL_pb": 0.2}]
    (directory / known.limits[0]).write_text(json.dumps({"rows": rows}))
    place = project.path / "pallets"
    one = pallet().renamed("stau_combined")
    assert find_publication(one, search_path=[place]) is None  # a part of them is nothing
    theory = {"cross_section_by_mass_GeV": {"100": 0.1}}
    (directory / known.cross_sections).write_text(json.dumps(theory))
    for search_path in ([place], [project.path]):
        assert set(find_publication(one, search_path=search_path).expected) == {"sig_100_0"}
    assert find_publication(pallet(), search_path=[place]) is None


@pytest.fixture
def hepdata(monkeypatch, tmp_path):
    """A server that answers as HEPData does; the addresses that were asked for."""
    monkeypatch.setenv("PYTEST_PYHF_FAAS_CACHE", str(tmp_path / "cache"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            asked.append(self.path)
            form = {"contentUrl": f"{address}/download/table/1/yaml"}
            text = json.dumps({"name": "Table 1", "distribution": [{}, form]})
            if self.path.endswith("/yaml"):
                text = HEPDATA_YAML
            known = "t9" not in self.path
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(text.encode())

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(download, "_RESOLVER", address)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_a_table_of_hepdata_is_downloaded_once(hepdata):
    doi = download.table_doi("https://doi.org/10.17182/HEPData.1.v2/t3")
    assert doi == "10.17182/hepdata.1.v2/t3"
    path = download.fetch_table(doi)
    assert path.read_text() == HEPDATA_YAML
    assert hepdata == [f"/{doi}", "/download/table/1/yaml"]
    assert download.fetch_table(doi) == path
    assert len(hepdata) == 2


def test_a_table_that_is_not_there_says_what_to_do(hepdata):
    with pytest.raises(PublishedTableError, match="--faas-published FILE"):
        download.fetch_table("10.17182/hepdata.1.v2/t9")
    assert hepdata


@pytest.mark.parametrize("text", ["10.17182/hepdata.1", "10.17182/hepdata.1.v2/r3", "limits.csv"])
def test_what_is_no_doi_of_a_table(text):
    assert download.table_doi(text) is None
