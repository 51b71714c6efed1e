"""Make a plot of a figure: images as SVG and PNG, and what they show in words."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure

#: The PNG comes first: its layout, in which texts are largest, is used for both.
_METADATA: Mapping[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}


@dataclass(frozen=True)
class Plot:
    """One plot of a report.

    Attributes
    ----------
    name : str
        File stem, of ``a-z0-9_-``; no two plots of a report have the same.
    title : str
        The title above it.
    alt : str
        What it shows, with its main figures, for people who do not see it.
    analysis : int or None
        Place in ``analyses`` of the document; ``None`` if it is of the whole run.
    svg, png : bytes
        The images.
    """

    name: str
    title: str
    alt: str
    analysis: int | None
    svg: bytes
    png: bytes


def plot_of(figure: Figure, name: str, title: str, alt: str, analysis: int | None = None) -> Plot:
    """Write the title above a figure, and make its images.

    Parameters
    ----------
    figure : Figure
        The figure. It is not laid out again afterwards.
    name, title, alt, analysis
        As in `Plot`.
    """
    figure.suptitle(title)
    images = {}
    for form, metadata in _METADATA.items():
        image = io.BytesIO()
        figure.savefig(image, format=form, metadata=metadata)
        images[form] = image.getvalue()
        figure.set_layout_engine(None)  # laying out takes long
    return Plot(name, title, alt, analysis, **images)
