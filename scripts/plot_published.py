"""Compare upper limits with the published ones, and draw docs/images/published*.png.

Usage: PYHF_PALLET_PATH=... python scripts/plot_published.py --tables DIR [--keep FILE]

DIR has the tables of published limits and of theory cross sections that `PALLETS` names. The limits
take some minutes; with --keep they are written to FILE, and those that are there are not calculated
again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.limits import MIXED, upper_limits
from pytest_pyhf_faas.histfactory.search import Search
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.published.agreement import TOLERANCE, Point, compare_limits
from pytest_pyhf_faas.published.tables import cross_section_at, read_cross_sections, read_limits
from pytest_pyhf_faas.published.theory import without_cross_section_uncertainty
from pytest_pyhf_faas.references.store import ReferenceStore, bundled_directory
from pytest_pyhf_faas.worker.patching import apply_patch

mpl.use("Agg")
from pytest_pyhf_faas.report.plots import style

IMAGES = Path(__file__).parents[1] / "docs" / "images"
#: Masses of the two particles; some patches have a third value.
MASSES = 2
MARKERS = {
    "nominal": {"marker": "o", "color": style.BLUE, "mfc": style.BLUE},
    "either": {"marker": "o", "color": style.BLUE, "mfc": style.WHITE},
    "lowest": {"marker": "^", "color": style.RED, "mfc": style.RED},
    "mixed": {"marker": "D", "color": style.PURPLE, "mfc": style.PURPLE},
    "none": {"marker": "x", "color": style.BLACK},
}
OTHER = {"marker": "_", "color": style.DARK_GREY, "ms": 4}
WITH = {"marker": "s", "color": style.ORANGE, "mfc": style.WHITE, "ms": 4}


class Tables(NamedTuple):
    """The files of one pallet, and what the mass is of."""

    limits: tuple[str, ...]
    cross_sections: str
    particle: str


WINO = "cross_sections_wino_C1N2_13TeV.json", "chargino and neutralino"
PALLETS = {
    "stau_combined": Tables(
        ("ATLAS-SUSY-2018-04_TStauStau.json",), "cross_sections_stau_LR_13TeV.json", "stau"
    ),
    "1Lbb": Tables(("ATLAS-SUSY-2019-08_TChiWH.json",), *WINO),
    "3L_eRJR": Tables(
        ("ATLAS-SUSY-2018-06_TChiWZ.json", "ATLAS-SUSY-2018-06_TChiWZoff.json"), *WINO
    ),
}


class Hypothesis(NamedTuple):
    """One hypothesis with its published limit, and limits on mu with and without SigXSec."""

    point: Point
    with_uncertainty: float


class Calculation:
    """Upper limits of the hypotheses of a pallet; those that are kept are not calculated again."""

    def __init__(self, name, kept, file):
        (self.pallet,) = catalogue.resolve(
            name, search_path=catalogue.search_path_from_environment()
        )
        store = ReferenceStore([bundled_directory()], bundled_directory())
        self._pool = store.pool(self.pallet, HypotestConfig(method="certified")) or ()
        self._background = unpack(self.pallet.background)
        self._kept, self._file = kept, file

    def limits(self, patch, theory):
        """Return mu_95 by the minima, and the nominal one with the uncertainty of theory.

        `theory` is the signal strength of the published limit: mixed minima are looked at only
        where neither the lowest nor the nominal ones agree with it.
        """
        key = f"{self.pallet.name}/{patch.name}"
        if key not in self._kept:
            operations = without_cross_section_uncertainty(patch.operations, self._background)
            search = self._search(operations)
            two = search.nominal.cls != search.lowest.cls
            mu = {"nominal": upper_limits(search, "nominal").observed}
            mu["lowest"] = upper_limits(search, "lowest").observed if two else mu["nominal"]
            if two and all(abs(theory / one - 1) > TOLERANCE for one in mu.values()):
                mu |= mixtures(search)
            if operations != patch.operations:
                plain = upper_limits(self._search(patch.operations), "nominal").observed
            else:
                plain = mu["nominal"]
            self._kept[key] = {"mu": mu, "with_uncertainty": plain}
            if self._file:
                self._file.write_text(json.dumps(self._kept, indent=1), encoding="utf-8")
        return self._kept[key]

    def _search(self, operations):
        patched = apply_patch(list(operations), self._background)
        return Search(Likelihood(Workspace.from_json(patched)), pool=self._pool)


def mixtures(search):
    """Return mu_95 with some of the four fits at the lowest, and the others at the nominal."""
    found = {}
    for places in itertools.product(("nominal", "lowest"), repeat=len(MIXED)):
        if len(set(places)) > 1:
            with suppress(Exception):  # that cannot be meant has no limit, either
                lowest = [fit for fit, at in zip(MIXED, places, strict=True) if at == "lowest"]
                choice = dict(zip(MIXED, places, strict=True))
                found[", ".join(lowest) + " lowest"] = upper_limits(search, choice).observed
    return {name: mu for name, mu in found.items() if mu}


def hypotheses_of(name, directory, kept, file):
    tables = PALLETS[name]
    published = {
        limit.values: limit.observed
        for table in reversed(tables.limits)
        for limit in read_limits(directory / table)
        if limit.observed
    }
    cross_sections = read_cross_sections(directory / tables.cross_sections)
    calculation = Calculation(name, kept, file)
    for patch in sorted(calculation.pallet.patches, key=lambda one: one.values):
        figure = published.get(patch.values[:MASSES])
        cross_section = cross_section_at(cross_sections, patch.values[0])
        if figure is None or cross_section is None:
            print(f"{name} / {patch.name}: no published limit")
            continue
        found = calculation.limits(patch, figure.value / cross_section)
        rounding = figure.half_unit / figure.value
        yield Hypothesis(
            Point(patch.name, patch.values[0], figure.value, rounding, cross_section, found["mu"]),
            found["with_uncertainty"],
        )


def show(name, compared, hypotheses):
    print(f"\n{name}: {compared.sentence()}")
    print(f"{'':28s} {'published':>10s} {'mu_95':>9s} {'nominal':>9s} {'lowest':>9s}  agrees at")
    for one, hypothesis in zip(compared.agreements, hypotheses, strict=True):
        point, off = one.point, one.off
        mixed = f" ({one.name}: {one.nearest:+.2%})" if one.place == "mixed" else ""
        bias = point.limit / hypothesis.with_uncertainty / point.cross_section - 1
        print(
            f"{point.patch:28s} {point.limit:10.5g} {point.mu['nominal']:9.4f} "
            f"{off['nominal']:+9.2%} {off['lowest']:+9.2%}  {one.place}{mixed}"
            f"   (with SigXSec {bias:+.2%})"
        )


def draw(compared):
    """Draw how far the limits are from theory, a panel for each pallet."""
    with style.styled():
        figure = style.blank_figure(8.0)
        panels = figure.subplots(len(compared), 1)
        for axes, (name, found) in zip(panels, compared.items(), strict=True):
            axes.axhline(0, color=style.GREY, lw=1)
            for one in found.agreements:
                for at in ("nominal", "lowest"):
                    if one.place not in (at, "either") and one.place != "none":
                        axes.plot(one.point.mass, 100 * one.off[at], **OTHER)
                axes.errorbar(
                    one.point.mass,
                    100 * one.nearest,
                    100 * one.point.rounding,
                    ls="",
                    lw=0.8,
                    ms=4,
                    **MARKERS[one.place],
                )
            axes.set_ylabel("published − ours, %")
            axes.set_title(f"{name}: {found.sentence()}", wrap=True)
            axes.set_xlabel(f"mass of the {PALLETS[name].particle}, GeV")
        places = {one.place for found in compared.values() for one in found.agreements}
        labels = {"none": "at no minima"}
        entries = [
            style.legend_marker(labels.get(place, f"at {place}"), ms=5, **MARKERS[place])
            for place in MARKERS
            if place in places
        ]
        entries.append(style.legend_marker("at the other minima", **OTHER))
        figure.legend(handles=entries, loc="outside lower center", ncols=3)
        figure.savefig(IMAGES / "published.png")


def draw_uncertainty(hypotheses):
    """Draw what the uncertainty of the theory cross section does to the limits of 1Lbb."""
    with style.styled():
        figure, axes = style.single_axes(3.2)
        axes.axhline(0, color=style.GREY, lw=1)
        for point, plain in hypotheses:
            theory = point.limit / point.cross_section
            axes.plot(point.mass, 100 * (theory / plain - 1), ls="", **WITH)
            axes.plot(
                point.mass,
                100 * (theory / point.mu["nominal"] - 1),
                ls="",
                ms=4,
                **MARKERS["nominal"],
            )
        axes.set_xlabel("mass of the chargino and neutralino, GeV")
        axes.set_ylabel("published − ours, %")
        entries = [
            style.legend_marker("SigXSec fitted, as for CLs", **WITH),
            style.legend_marker("SigXSec fixed at 0", ms=4, **MARKERS["nominal"]),
        ]
        axes.legend(handles=entries)
        figure.savefig(IMAGES / "published_uncertainty.png")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", type=Path, required=True, metavar="DIR")
    parser.add_argument("--keep", type=Path, metavar="FILE")
    asked = parser.parse_args()
    kept = {}
    if asked.keep and asked.keep.exists():
        kept = json.loads(asked.keep.read_text(encoding="utf-8"))
    found = {name: list(hypotheses_of(name, asked.tables, kept, asked.keep)) for name in PALLETS}
    compared = {
        name: compare_limits([one.point for one in hypotheses])
        for name, hypotheses in found.items()
    }
    for name in PALLETS:
        show(name, compared[name], found[name])
    draw(compared)
    draw_uncertainty(found["1Lbb"])


if __name__ == "__main__":
    main()
