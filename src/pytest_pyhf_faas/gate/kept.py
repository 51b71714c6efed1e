"""The request of a gate, kept next to its results, so that --resume needs no options."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.plan import Plan
from pytest_pyhf_faas.gate.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE = "plan.json"


def keep(plan: Plan, selections: Sequence[Selection], directory: Path) -> None:
    """Write down what a gate runs.

    Raises
    ------
    ConfigurationError
        If the directory cannot be written to.
    """
    content = {"plan": plan.to_json(), "selections": [asdict(each) for each in selections]}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (directory / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{directory} cannot be written to: {error.strerror or error}. "
            "Choose another --directory"
        ) from error


def read(directory: Path) -> tuple[Plan, list[Selection]]:
    """Return the request of the last gate in a directory.

    Raises
    ------
    ConfigurationError
        If there was none, or its file cannot be read.
    """
    try:
        content = json.loads((directory / FILE).read_text(encoding="utf-8"))
        selections = [
            Selection(**{**each, "specs": tuple(each["specs"]), "patches": tuple(each["patches"])})
            for each in content["selections"]
        ]
        return Plan.from_json(content["plan"]), selections
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"there is no gate to continue in {directory} ({error}): name the versions of a new one"
        ) from error
