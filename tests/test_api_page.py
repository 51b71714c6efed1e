"""The example of docs/api.md prints what the page says."""

import re
import subprocess
import sys

import pytest

from tests.helpers.paths import REPOSITORY

BUNDLED = REPOSITORY / "src" / "pytest_pyhf_faas" / "data" / "synthetic"


@pytest.mark.timeout(180)
def test_the_example_of_the_page(tmp_path):
    page = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
    code, printed = re.findall(r"```(?:python)?\n(.*?)```", page, re.DOTALL)
    for name in ("BkgOnly.json", "patchset.json"):
        (tmp_path / name).write_bytes((BUNDLED / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
