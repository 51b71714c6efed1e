"""reasons.py: what uv and pip write becomes a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_pyhf_faas.gate.reasons import reason

#: As they wrote it.
OUTPUTS = Path(__file__).parent / "installers"
REASONS = {
    "uv-no-wheel": "scipy 1.9 has no wheel for Python 3.12",
    "uv-conflict": (
        "scipy>=1.11.2,<=1.11.4 needs numpy>=1.21.6,<1.28.0, asked for: scipy 1.11 and numpy 2"
    ),
    "uv-no-version": "there is no pyhf 0.7.9",
    "uv-no-package": "the package index has no nosuchpackagexyz",
    "uv-needs-python": "scipy 1.9.3 needs Python>=3.8,<3.12",
    "uv-no-network": "the package index cannot be reached: Connection refused (os error 111)",
    "uv-build": "ModuleNotFoundError: No module named 'nothing_there'",
    "pip-build": "ModuleNotFoundError: No module named 'nothing_there'",
    "pip-none": "the package index has no pyhf 0.7.2, or cannot be reached",
    "pip-others": "there is no scipy 1.9 with a wheel for Python 3.12",
    "pip-conflict": "scipy 1.11.4 needs numpy<1.28.0 and >=1.21.6, asked for: numpy 2",
}


def test_each_output_has_its_reason():
    assert {path.stem for path in OUTPUTS.iterdir()} == REASONS.keys()


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_in_a_line(name):
    output = (OUTPUTS / f"{name}.txt").read_text(encoding="utf-8")
    assert reason(output, "3.12") == REASONS[name]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("error: x\n  cause: No space left on device\n", "there is no space left on the disk"),
        (
            "WARNING: experimental\nERROR: No matching distribution found for pyhf\n",
            "the package index has no pyhf, or cannot be reached",
        ),
        ("something else\nthat is new {}\n", "that is new {}"),
        ("error: Failed to parse: `x`\n  cause: Expected one of `@`\n  ^\n", "Expected one of `@`"),
        ("", "the installer failed and said nothing"),
    ],
)
def test_what_any_of_them_may_write(output, expected):
    assert reason(output, "3.12") == expected
