"""``python -m pytest_pyhf_faas`` is the command ``pyhf-faas``."""

from __future__ import annotations

import sys

from pytest_pyhf_faas.commands import main

if __name__ == "__main__":
    sys.exit(main())
