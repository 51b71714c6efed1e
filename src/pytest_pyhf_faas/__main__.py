"""Commands beside pytest: ``python -m pytest_pyhf_faas matrix`` and ``... report``."""

from __future__ import annotations

import sys

_USAGE = """usage: python -m pytest_pyhf_faas matrix PALLET... [--help]
       python -m pytest_pyhf_faas report A [B] [--help]

commands:
  matrix  fit pallets with every backend and optimizer, and say who is right
  report  draw the report of a run anew, or compare two runs
"""


def main(arguments: list[str]) -> int:
    """Run a command and return its exit status."""
    if arguments[:1] == ["matrix"]:
        from pytest_pyhf_faas.references import matrix

        return matrix.main(arguments[1:])
    if arguments[:1] == ["report"]:
        from pytest_pyhf_faas.report import command

        return command.main(arguments[1:])
    asked = arguments[:1] in (["--help"], ["-h"])
    (sys.stdout if asked else sys.stderr).write(_USAGE)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
