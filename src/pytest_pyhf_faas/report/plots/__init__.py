"""The plots of a run report, drawn with Matplotlib from the document alone.

Each module draws what it is named after. `style` holds what they look like, `texts` the names and
sentences, and `plot` makes an image of a figure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.analyses import names_of
from pytest_pyhf_faas.report.plots.band import plot_bands
from pytest_pyhf_faas.report.plots.cls_difference import plot_cls_difference
from pytest_pyhf_faas.report.plots.plane import plot_plane
from pytest_pyhf_faas.report.plots.plot import Plot
from pytest_pyhf_faas.report.plots.published import plot_published
from pytest_pyhf_faas.report.plots.scaling import plot_scaling
from pytest_pyhf_faas.report.plots.style import styled
from pytest_pyhf_faas.report.plots.timeline import plot_timeline
from pytest_pyhf_faas.report.plots.times import (
    plot_fit_times,
    plot_wall_time,
    plot_where_the_time_went,
)
from pytest_pyhf_faas.report.plots.toys import plot_toys

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_pyhf_faas.report.form import Document


__all__ = ["KINDS", "Plot", "draw"]

#: Prefixes of the names of the plots.
KINDS = (
    "wall_time",
    "where_the_time_went",
    "cls_difference",
    "plane",
    "band",
    "limit_plane",
    "limit_band",
    "toys",
    "published",
    "timeline",
    "fit_times",
    "scaling",
)


def draw(document: Document) -> list[Plot]:
    """Draw all plots of a run report; one that would show nothing is left out.

    Parameters
    ----------
    document : Document
        The report of the run.

    Returns
    -------
    list[Plot]
        First the wall times, then by kind those of each analysis, the seconds of the fits, and at
        last the scaling measurements. The same document gives the same bytes.
    """
    with styled():
        return [plot for plot in _plots(document) if plot is not None]


def _plots(document: Document) -> Iterator[Plot | None]:
    analyses = document["analyses"]
    names = names_of(analyses)
    yield plot_wall_time(analyses, names)
    yield plot_where_the_time_went(analyses, names)
    of_values = names_of(analyses, with_quantity=False)  # which is what is drawn
    for plot_values in (plot_cls_difference, plot_plane):
        for place, analysis in enumerate(analyses):
            yield plot_values(place, analysis, of_values[place])
    for place, analysis in enumerate(analyses):
        yield from plot_bands(place, analysis, of_values[place])
    for place, analysis in enumerate(analyses):
        yield plot_toys(place, analysis, of_values[place])
    for place, analysis in enumerate(analyses):
        yield plot_published(place, analysis, of_values[place])
    for place, analysis in enumerate(analyses):
        yield plot_timeline(place, analysis, names[place])
    yield plot_fit_times(analyses, names)
    for place, entry in enumerate(document["scaling"]):
        yield plot_scaling(place, entry)
