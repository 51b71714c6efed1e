"""Draw docs/images/two_minima.png: twice the NLL from the nominal minimum to the lowest one.

Usage: PYHF_PALLET_PATH=... python scripts/plot_two_minima.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.search import FIXED, THOROUGH, Search
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.references.store import ReferenceStore, bundled_directory
from pytest_pyhf_faas.worker.certified import apply_patch

mpl.use("Agg")
from matplotlib import pyplot as plt

PALLET, PATCH = "stau_combined", "DS_320_80_Staus"
TARGET = Path(__file__).parents[1] / "docs" / "images" / "two_minima.png"
NOMINAL, LOWEST = "#0072B2", "#D55E00"


def main() -> None:
    (pallet,) = catalogue.resolve(PALLET, search_path=catalogue.search_path_from_environment())
    (patch,) = (patch for patch in pallet.patches if patch.name == PATCH)
    store = ReferenceStore([bundled_directory()], bundled_directory())
    pool = store.pool(pallet, HypotestConfig(method="certified")) or ()
    background = unpack(pallet.background)
    likelihood = Likelihood(Workspace.from_json(apply_patch(patch.operations, background)))
    search = Search(likelihood, pool=pool, effort=THOROUGH)
    nominal, lowest = (s.minima[FIXED] for s in (search.nominal, search.lowest))

    way = np.linspace(-0.25, 1.25, 301)
    points = nominal.parameters + way[:, None] * (lowest.parameters - nominal.parameters)
    inside = ((points >= likelihood.lower) & (points <= likelihood.upper)).all(axis=1)
    values = np.array([likelihood.value(point, likelihood.observed) for point in points[inside]])
    way, above = way[inside][np.isfinite(values)], values[np.isfinite(values)] - lowest.value

    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot(way, above, color="0.25")
    gap = nominal.value - lowest.value
    for x, y, color, text, cls in (
        (0.0, gap, NOMINAL, "nominal", search.nominal.cls[0]),
        (1.0, 0.0, LOWEST, "lowest", search.lowest.cls[0]),
    ):
        axes.plot(x, y, "o", color=color)
        axes.annotate(
            f"{text}\nCLs = {cls:.4f}",
            (x, y),
            xytext=(0, -10),
            textcoords="offset points",
            ha="center",
            va="top",
            color=color,
        )
    axes.set_xlabel("straight line from the nominal minimum (0) to the lowest (1)")
    axes.set_ylabel("twice the NLL above the lowest")
    axes.set_title(f"{PALLET} / {PATCH}, fit to data at signal strength 1", fontsize=10)
    axes.set_ylim(-0.8 * gap, 3 * gap)
    figure.savefig(TARGET, dpi=150)


if __name__ == "__main__":
    main()
