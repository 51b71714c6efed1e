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
OURS = {"marker": "o", "color": style.BLUE, "mfc": style.BLUE, "ms": 4}
OTHER_MODEL = {"marker": "s", "color": style.ORANGE, "mfc": style.WHITE, "ms": 4}


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
    """One hypothesis with its published limit, and mu_95 of two other models of it.

    One is that of the patch as it is, with the uncertainty of the theory cross section; the other
    has normal constraints of the gammas of the signal, which HistFitter's default is and pyhf's
    shapesys is not. Both are at the nominal minima.
    """

    point: Point
    with_uncertainty: float
    normal_constraints: float


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
        """Return mu_95 by the minima, and the nominal one of the other models.

        `theory` is the signal strength of the published limit: mixed minima are looked at only
        where neither the lowest nor the nominal ones agree with it.
        """
        key = f"{self.pallet.name}/{patch.name}"
        if key not in self._kept:
            operations = without_cross_section_uncertainty(patch.operations, self._background)
            search = self._search(operations)
            mu = {at: upper_limits(search, at).observed for at in ("nominal", "lowest")}
            two = search.nominal.cls != search.lowest.cls
            if two and all(abs(theory / one - 1) > TOLERANCE for one in mu.values()):
                mu |= mixtures(search)
            others = {
                "with_uncertainty": patch.operations,
                "normal_constraints": normal(operations),
            }
            self._kept[key] = {"mu": mu} | {
                name: self._nominal(other) if other != operations else mu["nominal"]
                for name, other in others.items()
            }
            if self._file:
                self._file.write_text(json.dumps(self._kept, indent=1), encoding="utf-8")
        return self._kept[key]

    def _nominal(self, operations):
        return upper_limits(self._search(operations), "nominal").observed

    def _search(self, operations):
        patched = apply_patch(list(operations), self._background)
        return Search(Likelihood(Workspace.from_json(patched)), pool=self._pool)


def normal(operations):
    """Return a patch whose shapesys modifiers are staterrors, which have normal constraints."""
    patch = json.loads(json.dumps(operations))
    samples = (operation.get("value") for operation in patch)
    for modifier in (
        one for sample in samples if isinstance(sample, dict) for one in sample.get("modifiers", ())
    ):
        if modifier["type"] == "shapesys":
            modifier["type"] = "staterror"
    return patch


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
            found["normal_constraints"],
        )


def show(name, compared, hypotheses):
    print(f"\n{name}: {compared.sentence()}")
    print(
        f"{'':28s} {'published':>10s} {'mu_95':>9s} {'nominal':>8s} {'lowest':>8s} {'agrees':8s}"
        f" {'SigXSec':>8s} {'normal':>8s}"
    )
    for one, hypothesis in zip(compared.agreements, hypotheses, strict=True):
        point = one.point
        theory = point.limit / point.cross_section
        ratios = [point.ratio("nominal"), point.ratio("lowest")]
        others = [theory / hypothesis.with_uncertainty, theory / hypothesis.normal_constraints]
        (nominal, lowest), (plain, other) = (
            [f"{ratio - 1:+8.2%}" for ratio in pair] for pair in (ratios, others)
        )
        mixed = f"  {one.name}: {one.nearest:+.2%}" if one.place == "mixed" else ""
        print(
            f"{point.patch:28s} {point.limit:10.5g} {point.mu['nominal']:9.4f} {nominal} {lowest} "
            f"{one.place:8s} {plain} {other}{mixed}"
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
            axes.set_ylabel("off the line, %" if found.line else "published / ours − 1, %")
            axes.set_title(f"{name}: {found.sentence()}", wrap=True)
            axes.set_xlabel(f"mass of the {PALLETS[name].particle}, GeV")
        places = {one.place for found in compared.values() for one in found.agreements}
        labels = {"either": "at both", "mixed": "at a mixture", "none": "at no minima"}
        entries = [
            style.legend_marker(labels.get(place, f"at {place}"), ms=5, **MARKERS[place])
            for place in MARKERS
            if place in places
        ]
        entries.append(style.legend_marker("at the other minima", **OTHER))
        figure.legend(handles=entries, loc="outside lower center", ncols=3)
        figure.savefig(IMAGES / "published.png")


def draw_models(panels_of):
    """Draw how far the limits are from theory with two models each, a panel for each pallet."""
    with style.styled():
        figure = style.blank_figure(5.6)
        panels = figure.subplots(len(panels_of), 1)
        for axes, (name, hypotheses, field, labels) in zip(panels, panels_of, strict=True):
            axes.axhline(0, color=style.GREY, lw=1)
            for hypothesis in hypotheses:
                point = hypothesis.point
                theory = point.limit / point.cross_section
                pair = (getattr(hypothesis, field), OTHER_MODEL), (point.mu["nominal"], OURS)
                for mu, marker in pair:
                    axes.plot(point.mass, 100 * (theory / mu - 1), ls="", **marker)
            axes.set_xlabel(f"mass of the {PALLETS[name].particle}, GeV")
            axes.set_ylabel("published / ours − 1, %")
            axes.set_title(name)
            axes.legend(
                handles=[
                    style.legend_marker(label, **marker)
                    for label, marker in zip(labels, (OTHER_MODEL, OURS), strict=True)
                ]
            )
        figure.savefig(IMAGES / "published_models.png")


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
    draw_models(
        [
            (
                "1Lbb",
                found["1Lbb"],
                "with_uncertainty",
                ("SigXSec fitted, as in the patch", "SigXSec fixed at 0"),
            ),
            (
                "3L_eRJR",
                found["3L_eRJR"],
                "normal_constraints",
                ("normal constraints of the signal's gammas", "Poisson constraints (shapesys)"),
            ),
        ]
    )


if __name__ == "__main__":
    main()
