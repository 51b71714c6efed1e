r"""Whether fits agree with the upper limits that were published, and at which minima.

A published upper limit on a cross section, divided by the upper limit on the signal strength, is
the theory cross section that the signal was normalized to, if the latter leaves out the uncertainty
of that cross section (`theory`). Where a pallet has other cross sections than those of the table,
its ratios follow a smooth line in the mass instead of being 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.stats import theilslopes

from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: At which minima the fits give the published limit. "either": at the lowest and at the nominal;
#: "mixed": with some fits at one and some at the other, which is not consistent; "none": at none.
Place = Literal["nominal", "lowest", "either", "mixed", "none"]
PLACES: tuple[Place, ...] = ("nominal", "lowest", "either", "mixed", "none")

#: How far a ratio may be from 1, or from the line, beyond what rounding explains. Limits are read
#: off scans: between 20 points the line of HistFitter's is up to 0.6 % too high, mostly.
TOLERANCE = 0.006
#: A line through the ratios is used if less than this share of the hypotheses agrees without it.
_ENOUGH = 0.5
#: The degree of the line, a polynomial in the logarithm of the mass, and how many points it needs.
_DEGREE, _FEWEST = 2, 8
#: Points farther from the line than this many standard deviations do not count (about 1 in 400 of
#: a normal distribution).
_OUTLIER = 3.0
#: A normal distribution has its median absolute deviation at this share of its standard deviation.
_MAD = 0.6745
_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Point:
    """One hypothesis with what was published and what the fits give.

    Attributes
    ----------
    patch : str
        Its name.
    mass : float
        Of the particle whose cross section it is.
    limit : float
        The published upper limit, in pb.
    rounding : float
        How far the limit may be rounded, relative to it.
    cross_section : float
        The theory cross section, in pb.
    mu : mapping of str to float
        Upper limits on the signal strength: "lowest", "nominal", and others of mixed minima.
    """

    patch: str
    mass: float
    limit: float
    rounding: float
    cross_section: float
    mu: Mapping[str, float]

    def ratio(self, name: str) -> float:
        """Return the cross section that follows from the limits, relative to theory."""
        return self.limit / self.mu[name] / self.cross_section


@dataclass(frozen=True, slots=True)
class Agreement:
    """The minima at which one hypothesis has its published limit.

    Attributes
    ----------
    point : Point
        The hypothesis.
    place : Place
        At which minima it agrees.
    off : mapping of str to float
        By the names of its limits, how far the ratio is from the line.
    name : str
        The limit that is nearest to the line.
    """

    point: Point
    place: Place
    off: Mapping[str, float]
    name: str

    @property
    def nearest(self) -> float:
        """How far the nearest ratio is from the line."""
        return self.off[self.name]


@dataclass(frozen=True, slots=True)
class PublishedLimits:
    """The hypotheses of one pallet.

    Attributes
    ----------
    agreements : tuple of Agreement
        In the order of the points.
    line : tuple of float
        Coefficients of the line of the logarithm of the ratios in the logarithm of the mass,
        highest power first; empty where it is 1.
    spread : float
        Standard deviation of the ratios around the line; 0 without one.
    tolerance : float
        How far from the line a ratio may be, beyond rounding.
    """

    agreements: tuple[Agreement, ...]
    line: tuple[float, ...] = field(default=())
    spread: float = 0.0
    tolerance: float = TOLERANCE

    @property
    def outside(self) -> tuple[Agreement, ...]:
        """Those that agree at no minima."""
        return tuple(one for one in self.agreements if one.place == "none")

    def of(self, patch: str) -> Agreement | None:
        """Return the agreement of a hypothesis, if its fits gave a limit."""
        return next((one for one in self.agreements if one.point.patch == patch), None)

    def at(self, mass: float) -> float:
        """Return the line at a mass."""
        return float(_line(self.line, np.array([mass]))[0])

    def sentence(self) -> str:
        """Return a summary in one sentence."""
        total = len(self.agreements)
        places = Counter(one.place for one in self.agreements)
        agreeing = [one for one in self.agreements if one.place != "none"]
        if not total:
            return "no published limit was compared"
        found = ", ".join(f"{places[place]} {place}" for place in PLACES if places[place])
        if not agreeing:
            return f"none of {counted(total, 'published limit')} reproduced"
        largest = max(max(abs(one.nearest) - one.point.rounding, 0) for one in agreeing)
        of = "a smooth line through them" if self.line else "the theory cross section"
        return (
            f"{len(agreeing)} of {counted(total, 'published limit')} reproduced within "
            f"{largest:.2%} of {of}, beyond rounding: {found}"
        )


def compare_limits(points: Sequence[Point], tolerance: float = TOLERANCE) -> PublishedLimits:
    """Find for each hypothesis the minima at which it has its published limit.

    Parameters
    ----------
    points : sequence of Point
        The hypotheses of one pallet, whose cross sections are of one kind.
    tolerance : float
        How far a ratio may be from 1 or from the line, beyond what rounding explains.

    Notes
    -----
    The line starts as that of Theil and Sen, and is then a least-squares polynomial of the second
    degree through the ratios of the nearest of the two sets of minima; points farther than three
    standard deviations, by the median absolute deviation, are left out, until these stay the same.
    The less a limit is rounded, the more it counts for the line and for the deviation. It is used
    only where fewer than half of the hypotheses agree with theory itself: else a cross section
    that is wrong for all of them would pass.
    """
    plain = PublishedLimits(tuple(_agreement(p, 1.0, tolerance) for p in points))
    agreeing = len(points) - len(plain.outside)
    if agreeing >= _ENOUGH * len(points) or len(points) < _FEWEST:
        return plain
    masses = np.array([point.mass for point in points])
    line, spread = _fitted_line(points, masses, tolerance)
    tolerance = max(tolerance, _OUTLIER * spread)
    heights = _line(line, masses)
    agreements = tuple(
        _agreement(point, float(height), tolerance)
        for point, height in zip(points, heights, strict=True)
    )
    return PublishedLimits(agreements, line, spread, tolerance)


def _agreement(point: Point, height: float, tolerance: float) -> Agreement:
    off = {name: point.ratio(name) / height - 1 for name in point.mu}
    allowed = tolerance + point.rounding
    good = {name for name, distance in off.items() if abs(distance) <= allowed}
    place: Place = "none"
    if {"lowest", "nominal"} <= good:
        place = "either"
    elif "nominal" in good:
        place = "nominal"
    elif "lowest" in good:
        place = "lowest"
    elif good:
        place = "mixed"
    names = good & {"lowest", "nominal"} or good or set(off)
    nearest = min(sorted(names), key=lambda name: abs(off[name]))
    return Agreement(point, place, off, nearest)


def _fitted_line(
    points: Sequence[Point], masses: NDArray[np.float64], tolerance: float
) -> tuple[tuple[float, ...], float]:
    """Return the line and the standard deviation around it."""
    logs = np.log(masses)
    ratios = np.log([[point.ratio(name) for name in ("nominal", "lowest")] for point in points])
    rounding = np.array([point.rounding for point in points])
    weights = tolerance / (tolerance + rounding)
    precise = rounding <= np.median(rounding)
    slope, height, *_ = theilslopes(ratios[precise, 0], logs[precise])
    line: NDArray[np.float64] = np.array([slope, height])
    used = np.zeros(len(points), dtype=bool)
    spread = 0.0
    for _round in range(_ROUNDS):
        off = ratios - np.polyval(line, logs)[:, None]
        nearest = np.abs(off).argmin(axis=1)[:, None]
        distances = np.abs(np.take_along_axis(off, nearest, axis=1)[:, 0])
        spread = _weighted_median(distances, weights**2) / _MAD
        before, used = used, distances <= _OUTLIER * spread + rounding
        if (before == used).all():
            break
        chosen = np.take_along_axis(ratios, nearest, axis=1)[:, 0]
        degree = min(_DEGREE, len(np.unique(masses[used])) - 1)
        line = np.polyfit(logs[used], chosen[used], degree, w=weights[used])
    return tuple(float(one) for one in line), spread


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])


def _line(line: tuple[float, ...], masses: NDArray[np.float64]) -> NDArray[np.float64]:
    if not line:
        return np.ones(len(masses))
    heights: NDArray[np.float64] = np.exp(np.polyval(line, np.log(masses)))
    return heights
