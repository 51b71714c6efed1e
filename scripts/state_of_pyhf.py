"""Write the tables of docs/state-of-pyhf.md from the runs of gates.

    python scripts/state_of_pyhf.py GATE [GATE ...] --machine "..." --command "..."

Each GATE is a directory that `pyhf-faas gate` wrote. The first environment of the first one is the
base. What stands between the marks of the page is replaced; the rest of it is written by hand.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.many import words
from pytest_pyhf_faas.report.many.cell import named, read_cell
from pytest_pyhf_faas.report.many.compare import compare_many
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_pyhf_faas.report.form import Document, Hypothesis, Number
    from pytest_pyhf_faas.report.many.cell import Cell
    from pytest_pyhf_faas.report.many.result import Environment, Many

PAGE = Path(__file__).parents[1] / "docs" / "state-of-pyhf.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
#: Below this CLs a hypothesis is excluded.
LEVEL = 0.05
#: By how much one of the six values of CLs is off: a matter of taste, and of physics.
NEAR, FAR = 1e-3, 1e-2


def main() -> None:
    """Compare the runs, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("gates", type=Path, nargs="+", metavar="GATE")
    parser.add_argument("--machine", required=True, help="what it ran on")
    parser.add_argument("--command", required=True, help="the commands that ran it")
    parser.add_argument(
        "--times", type=Path, metavar="GATE", help="where the times are from: one that ran alone"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="(default: %(default)s)")
    options = parser.parse_args()
    cells = named(read_cell(path) for gate in options.gates for path in runs_of(gate))
    alone = [read_cell(path) for path in runs_of(options.times)] if options.times else cells
    measured = "\n\n".join(parts(cells, alone, options.machine, options.command))
    before, _, rest = options.page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    options.page.write_text(f"{before}{BEGIN}\n{measured}\n\n{END}{after}", encoding="utf-8")


def runs_of(gate: Path) -> list[Path]:
    """Return the directories of the runs of a gate, the base first."""
    told = json.loads((gate / "comparison.json").read_text(encoding="utf-8"))
    places = {
        json.loads(path.read_text(encoding="utf-8"))["name"]: path.parent
        for path in (gate / "cells").glob("*/cell.json")
    }
    return [places[each["name"]] for each in told["environments"]]


def parts(
    cells: Sequence[Cell], alone: Sequence[Cell], machine: str, command: str
) -> Iterator[str]:
    """Yield the parts of the page that are measured."""
    many = compare_many(cells)
    timed = {each.name: each for each in compare_many(alone).environments}
    dates = sorted({cell.document["run"]["began_at"][:10] for cell in cells if cell.document})
    yield f"Measured on {' and '.join(dates)}, on {machine}, by"
    yield f"```console\n{command}\n```"
    yield f"{words.answer(many)}."
    yield "### By environment"
    yield table(*by_environment(many, cells, timed))
    yield "### By pallet: how many are right"
    yield table(*by_pallet(cells))
    moved = [words.shift_cells(each) for each in many.shifts]
    changed = [words.verdict_cells(each) for each in many.verdicts]
    for title, header, rows in (
        ("### What moved, and with what", words.SHIFT_HEADER, moved),
        ("### Verdicts that changed, and with what", words.VERDICT_HEADER, changed),
    ):
        if rows:
            kept = words.columns_with_something(rows)
            yield title
            yield table([header[p] for p in kept], [[row[p] for p in kept] for row in rows])
    reasons = [(each.name, words.reason_of(each)) for each in many.environments]
    missing = [f"- {name}: {reason}" for name, reason in reasons if reason]
    if missing:
        yield "### Not run, or not finished"
        yield "\n".join(missing)


def by_environment(
    many: Many, cells: Sequence[Cell], timed: Mapping[str, Environment]
) -> tuple[list[str], list[list[str]]]:
    """Return how many hypotheses of each environment are right, and how wrong the others are."""
    header = ["environment", "fitted", "right", f"off by > {NEAR:g}", f"> {FAR:g}", "flips"]
    rows = []
    names = short([each.name for each in many.environments])
    for name, environment, cell in zip(names, many.environments, cells, strict=True):
        if cell.document is None:
            continue
        fitted = [h for h in hypotheses(cell.document) if Verdict(h["verdict"]).is_fitted]
        distances = [distance(each) for each in fitted if each["CLs"]]
        counts = (
            len(fitted),
            sum(map(is_right, fitted)),
            sum(each > NEAR for each in distances),
            sum(each > FAR for each in distances),
            sum(map(flips, fitted)),
            sum(not is_right(each) and not each["CLs"] for each in fitted),
        )
        rows.append([name, *map(str, counts), *times(timed.get(environment.name))])
    return [*header, "error", "s per fit", "ratio"], rows


def times(environment: Environment | None) -> tuple[str, str]:
    """Return the median of the seconds of a fit, and of its ratios to the base."""
    if environment is None or environment.fit_s is None or environment.fit_ratio is None:
        return "–", "–"
    return f"{environment.fit_s:.2g}", f"{environment.fit_ratio:.2f}"


def by_pallet(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """Return how many hypotheses of each pallet are right in each environment."""
    known = [(cell.name, cell.document) for cell in cells if cell.document is not None]
    pallets = list(dict.fromkeys(a["pallet"] for _name, each in known for a in each["analyses"]))
    rows = []
    for name, (_name, document) in zip(short([n for n, _ in known]), known, strict=True):
        of_each = [
            [h for h in hypotheses(document, pallet) if Verdict(h["verdict"]).is_fitted]
            for pallet in pallets
        ]
        counts = [f"{sum(map(is_right, of))}/{len(of)}" if of else "–" for of in of_each]
        rows.append([name, *counts])
    return ["environment", *pallets], rows


def short(names: Sequence[str]) -> list[str]:
    """Return names of environments without what all of them have."""
    return words.without_what_all_share(names)[0]


def hypotheses(document: Document, pallet: str = "") -> Iterator[Hypothesis]:
    """Yield those of a pallet, or all."""
    for analysis in document["analyses"]:
        if pallet in ("", analysis["pallet"]):
            yield from analysis["hypotheses"]


def is_right(hypothesis: Hypothesis) -> bool:
    """Whether it is, at its lowest or at its nominal minima, or by an error that is right."""
    return Verdict(hypothesis["verdict"]).agrees


def distance(hypothesis: Hypothesis) -> float:
    """Return how far the value that is most off is from the nearest of its right sets of six."""
    return min(
        (max(map(difference, obtained, right)) for obtained, right in beside_right(hypothesis)),
        default=0.0,
    )


def difference(obtained: Number, right: Number) -> float:
    """Return how far two values are from each other; infinite where one is no number."""
    both = float(obtained), float(right)
    return math.inf if any(map(math.isnan, both)) else abs(both[0] - both[1])


def flips(hypothesis: Hypothesis) -> bool:
    """Whether it is excluded here, and not at any of its minima, or the other way round."""
    pairs = [(float(one[0]), float(right[0])) for one, right in beside_right(hypothesis)]
    return bool(pairs) and all((one < LEVEL) != (right < LEVEL) for one, right in pairs)


def beside_right(hypothesis: Hypothesis) -> list[tuple[Sequence[Number], Sequence[Number]]]:
    """Return the six values of CLs beside each of the right sets of six."""
    six, reference = hypothesis["CLs"], hypothesis["reference"]
    ambiguous = hypothesis["ambiguous"]
    if six is None or reference is None or reference["CLs"] is None:
        return []
    if ambiguous:
        return [(six, ambiguous["lowest"]), (six, ambiguous["nominal"])]
    return [(six, reference["CLs"])]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in lines)


if __name__ == "__main__":
    main()
