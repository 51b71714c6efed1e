"""The plot of a series: verdicts and times, one place for each run, each point a link."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pytest_pyhf_faas.report.history import words
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    blank_figure,
    legend_marker,
    log_axis,
    spans_decades,
    styled,
)
from pytest_pyhf_faas.report.plots.texts import drawable, within_width
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pytest_pyhf_faas.report.history.points import Conditions, Point
    from pytest_pyhf_faas.report.history.series import Series, Shift

#: How many runs fit in a plot; earlier ones are in the tables.
MOST_RUNS = 200
#: How many lines are labelled, and how many names each label has.
_MOST_TEXTS, _MOST_NAMES = 24, 2
_TEXT_POINTS = 170
_LABEL_POINTS = 330
_FULL_SIZE = 60
_MOST_DATES = 8
#: A line for each of the conditions under which times are comparable; the rest share the last.
_LINES = (("-", "o", BLUE), ("--", "s", ORANGE), ("-.", "^", GREEN), (":", "D", PURPLE))
_REST = ("", "x", DARK_GREY)
_STATES = {
    State.RIGHT: (GREEN, "", "right"),
    State.KNOWN: (SKY, "//", "known issue"),
    State.WRONG: (RED, "xx", "wrong"),
    State.BROKEN: (PURPLE, "\\\\", "broken"),
    State.INCOMPLETE: (GREY, "..", "not compared"),
}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
#: Where an image refers to a part of itself.
_REFERENCE = re.compile(r'(xlink:href="|url\()#([\w-]+)')


class _Link(NamedTuple):
    """The link of a point, and its title."""

    url: str | None
    title: str


def draw(series: Series, directory: Path, number: int) -> str:
    """Draw the last `MOST_RUNS` runs of a series.

    Parameters
    ----------
    series : Series
        What is drawn: how many hypotheses have which verdict, the wall time, and the median time
        of a fit, as far as they are known.
    directory : Path
        Where the page will be, from which each point leads to its report.
    number : int
        Number of the plot, unique on its page.

    Returns
    -------
    str
        An ``<svg>`` element for an HTML page, since links in an image lead nowhere.
    """
    with styled():
        figure, links = _figure(series, directory)
        image = io.BytesIO()
        figure.savefig(image, format="svg", metadata={"Date": None})
    return _inline(image.getvalue(), series.key.title, links, f"plot-{number}-")


def _figure(series: Series, directory: Path) -> tuple[Figure, dict[str, str]]:
    points = series.points[-MOST_RUNS:]
    shifts = series.shifts[-MOST_RUNS:]
    links = [_Link(words.link(each, directory), _title(each)) for each in points]
    has_times = any(each.wall_time for each in points)
    has_fits = any(each.fit_s for each in points)
    has_verdicts = any(each.verdicts for each in points)
    marked = any(shifts[1:])
    heights = [
        *([1.3] if marked else []),
        *([1.5] if has_verdicts else []),
        *([1.5] if has_times else []),
        *([1.3] if has_fits else []),
    ]
    figure = blank_figure(sum(heights) + 1.2)
    panels = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0]
    rest = list(panels)
    if marked:
        _draw_texts(rest.pop(0), shifts)
    handles: list[Artist] = []
    if has_verdicts:
        handles += _draw_verdicts(rest.pop(0), points, links)
    conditions = _conditions(points)
    if has_times:
        _draw_times(rest.pop(0), points, links, conditions, "wall time [s]", fits=False)
    if has_fits:
        _draw_times(rest.pop(0), points, links, conditions, "median fit [s]", fits=True)
    if has_times or has_fits:
        handles += [
            legend_marker(label, marker=marker, color=colour)
            for label, (_line, marker, colour) in _labels(conditions)
        ]
    for axes in panels[1 if marked else 0 :]:
        for place, changed in enumerate(shifts):
            if place and changed:
                axes.axvline(place - 0.5, color=BLACK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    _label_dates(panels[-1], points)
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure, {each.url: each.title for each in links if each.url}


def _draw_texts(axes: Axes, shifts: Sequence[Sequence[Shift]]) -> None:
    """Write above each line what changed there; where there are many, above the last ones."""
    places = [place for place, changed in enumerate(shifts) if place and changed]
    fewest = max(1.0, len(shifts) / _MOST_TEXTS)
    shown: list[int] = []
    for place in reversed(places):
        if not shown or shown[-1] - place >= fewest:
            shown.append(place)
    for place in shown:
        changed = shifts[place]
        more = f" +{len(changed) - _MOST_NAMES}" if len(changed) > _MOST_NAMES else ""
        text = ", ".join(f"{each.name} {each.after}" for each in changed[:_MOST_NAMES]) + more
        axes.text(
            place - 0.5,
            0,
            within_width(text, _TEXT_POINTS),
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=SMALL - 1,
        )
    axes.set_ylim(0, 1)
    axes.axis("off")


def _draw_verdicts(axes: Axes, points: Sequence[Point], links: Sequence[_Link]) -> list[Patch]:
    """Draw the counts on top of each other, with a point above each that leads to its report."""
    counts = {state: np.zeros(len(points)) for state in _STATES}
    for place, point in enumerate(points):
        for name, count in (point.verdicts or {}).items():
            counts[Verdict(name).state][place] += count
    edges = np.arange(len(points) + 1) - 0.5
    below = np.zeros(len(points))
    handles = []
    for state, (colour, hatch, label) in _STATES.items():
        if not counts[state].any():
            continue
        style: dict[str, Any] = {
            "facecolor": colour,
            "hatch": hatch,
            "edgecolor": BLACK,
            "linewidth": 0,
        }
        axes.stairs(below + counts[state], edges, baseline=below, fill=True, **style)
        below += counts[state]
        handles.append(Patch(**style, label=label))
    known = [place for place, point in enumerate(points) if point.verdicts is not None]
    for interrupted in (False, True):
        those = [place for place in known if points[place].interrupted is interrupted]
        axes.scatter(
            those,
            below[those],
            s=_size(len(points)),
            marker="o",
            facecolor="w" if interrupted else BLACK,
            edgecolor=BLACK,
            urls=[links[place].url for place in those],
            clip_on=False,
            zorder=4,
        )
    axes.set_ylim(0, max(1.0, 1.08 * float(below.max())))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylabel("hypotheses")
    return handles


def _conditions(points: Sequence[Point]) -> dict[Conditions, list[int]]:
    """Return the places of the runs under the same conditions, most runs first."""
    found: dict[Conditions, list[int]] = {}
    for place, point in enumerate(points):
        if point.wall_time is not None or point.fit_s is not None:
            found.setdefault(point.conditions, []).append(place)
    return dict(sorted(found.items(), key=lambda each: -len(each[1])))


def _labels(
    conditions: dict[Conditions, list[int]],
) -> list[tuple[str, tuple[str, str, str]]]:
    """Return what the legend says of the lines."""
    labels = []
    for (cpus, workers, fits, _patches), style in zip(conditions, _LINES, strict=False):
        parts = [
            *([] if workers is None else [counted(workers, "worker")]),
            counted(fits, "fit"),
            ", ".join(cpus) or "processor not known",
        ]
        labels.append((within_width(", ".join(parts), _LABEL_POINTS), style))
    if len(conditions) > len(_LINES):
        more = counted(len(conditions) - len(_LINES), "other kind")
        labels.append((f"{more} of machine or selection", _REST))
    return labels


def _draw_times(
    axes: Axes,
    points: Sequence[Point],
    links: Sequence[_Link],
    conditions: dict[Conditions, list[int]],
    label: str,
    *,
    fits: bool,
) -> None:
    """Draw a line for the runs whose times are comparable."""
    drawn: list[float] = []
    styles = [*_LINES, *[_REST] * len(conditions)]
    for places, (line, marker, colour) in zip(conditions.values(), styles, strict=False):
        values = [(place, *_time(points[place], fits=fits)) for place in places]
        known = [(place, time, spread) for place, time, spread in values if time]
        if not known:
            continue
        at, times, spreads = zip(*known, strict=True)
        drawn += [time + spread for _place, time, spread in known]
        axes.errorbar(
            at, times, yerr=spreads, ls=line, lw=0.9, color=colour, capsize=2, elinewidth=0.9
        )
        axes.scatter(
            at,
            times,
            s=_size(len(points)),
            marker=marker,
            color=colour,
            urls=[links[place].url for place in at],
            zorder=4,
        )
    if drawn and spans_decades(drawn):
        log_axis(axes, "y")
    else:
        axes.set_ylim(0, 1.1 * max(drawn, default=1.0))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="y", alpha=0.4)
    axes.set_ylabel(label)


def _size(runs: int) -> float:
    """Return the size of the points, small enough that many do not hide each other."""
    return min(22.0, 22.0 * _FULL_SIZE / runs)


def _time(point: Point, *, fits: bool) -> tuple[float | None, float]:
    if fits:
        return point.fit_s, 0.0
    measured = point.wall_time
    return (None, 0.0) if measured is None else (measured.mean_s, measured.stdev_s or 0.0)


def _label_dates(axes: Axes, points: Sequence[Point]) -> None:
    """Write when some of the runs began: all of few."""
    step = -(-len(points) // _MOST_DATES)
    places = range(len(points) - 1, -1, -step)
    axes.set_xticks(
        places, [drawable(words.date_of(points[each])).replace(" ", "\n") for each in places]
    )
    axes.set_xlim(-0.7, len(points) - 0.3)


def _title(point: Point) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in words.versions(point))
    return "\n".join(filter(None, [words.date_of(point), words.verdicts(point), facts]))


def _inline(svg: bytes, title: str, links: dict[str, str], prefix: str) -> str:
    """Return an SVG image as an element of a page: its links have titles.

    Matplotlib gives the same names to parts of different images: a prefix makes them unique.
    """
    for namespace, uri in (("", _SVG), ("xlink", _XLINK)):
        ET.register_namespace(namespace, uri)
    source = svg.decode()
    used = {name for _before, name in _REFERENCE.findall(source)}
    root = ET.fromstring(_REFERENCE.sub(rf"\1#{prefix}\2", source))  # noqa: S314 - of Matplotlib
    for each in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(each)
    for element in root.iter():
        name = element.attrib.pop("id", "")
        if name in used:
            element.set("id", f"{prefix}{name}")
    for element in root.iter(f"{{{_SVG}}}a"):
        text = ET.Element(f"{{{_SVG}}}title")
        text.text = links.get(element.get(f"{{{_XLINK}}}href", ""), "")
        element.insert(0, text)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "group")  # an image would hide its links
    root.set("aria-label", title)
    return ET.tostring(root, encoding="unicode")
