"""Write the file that a badge of shields.io reads, from what `coverage json` wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path

BADGE = Path("coverage-badge.json")
#: From how many per cent a badge has a colour.
COLOURS = ((90, "brightgreen"), (80, "green"), (70, "yellow"), (0, "red"))


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    # As coverage rounds: 100 is said of nothing less.
    text = report["totals"]["percent_covered_display"]
    colour = next(name for least, name in COLOURS if int(text) >= least)
    badge = {"schemaVersion": 1, "label": "coverage", "message": f"{text} %", "color": colour}
    BADGE.write_text(json.dumps(badge) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
