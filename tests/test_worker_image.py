"""What follows from the one definition of the workers' environment."""

import runpy

import pytest

from pytest_pyhf_faas.worker.fitting import THREAD_VARIABLES
from tests.helpers.paths import REPOSITORY

CONTAINER = REPOSITORY / "endpoints" / "container"
script = runpy.run_path(str(REPOSITORY / "scripts" / "worker_image.py"))
FILES = script["files"](script["definition"]())


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_what_the_definition_makes(name):
    text = (CONTAINER / name).read_text(encoding="utf-8")
    assert text == FILES[name], "run `python scripts/worker_image.py write`"


def test_a_change_of_the_definition_reaches_all_images():
    changed = script["definition"]()
    changed["versions"] |= {"pyhf": "0.8.0", "python": "3.13"}
    changed["packages"] |= {"pyhf": ["minuit"]}
    changed["environment"]["NEW"] = "2"
    for text in script["files"](changed).values():
        assert "pyhf[minuit]==$" in text or "pyhf[minuit]=={{" in text
        assert "PYHF=0.8.0" in text
        assert "PYTHON=3.13" in text
        assert "NEW=2" in text
    assert "pyhf[minuit]==0.8.0" in script["requirements"](changed)


def test_workers_have_one_thread_each():
    named = script["definition"]()["environment"]
    assert set(named.values()) == {"1"}
    assert set(named) <= set(THREAD_VARIABLES)
