"""The examples of docs/how-to/python.md print what the page says."""

import re
import subprocess
import sys

import pytest

from tests.helpers.paths import REPOSITORY

BUNDLED = REPOSITORY / "src" / "pytest_pyhf_faas" / "data" / "synthetic"
PAGE = (REPOSITORY / "docs" / "how-to" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\s+```\n(.*?)```", PAGE, re.DOTALL)


def test_each_example_says_what_it_prints():
    assert len(EXAMPLES) == PAGE.count("```python\n") == 2


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=["hypothesis", "pallet"])
def test_the_examples_of_the_page(tmp_path, code, printed):
    for name in ("BkgOnly.json", "patchset.json"):
        (tmp_path / name).write_bytes((BUNDLED / name).read_bytes())
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed
