r"""CLs from the twice-NLL of five fits, by the asymptotic formulae.

G. Cowan, K. Cranmer, E. Gross, O. Vitells, Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727); CLs is
the ratio of A. L. Read, J. Phys. G 28 (2002) 2693. As `pyhf.infer.calculators.AsymptoticCalculator`
has them, with the normal distribution that is its default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx, ndtr

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

#: Where the expected values are, in standard deviations of the background-only hypothesis.
BAND = (-2, -1, 0, 1, 2)


def asimov_poi(test_stat: str) -> float:
    """Return the POI that the Asimov data are built at."""
    return 1.0 if test_stat == "q0" else 0.0


def tested_poi(test_stat: str, test_poi: float) -> float:
    """Return the POI of the fits with a fixed one: always 0 for a discovery test."""
    return 0.0 if test_stat == "q0" else test_poi


def statistic(test_stat: str, test_poi: float, fixed: float, free: float, mu_hat: float) -> float:
    """Return a test statistic from twice the NLL of the fits with a fixed and with a free POI.

    "qtilde" (Equation (16)), "q" (14) or "q0" (12); `mu_hat` is the POI of the free fit.
    """
    excluded = mu_hat < 0 if test_stat == "q0" else mu_hat > test_poi
    return 0.0 if excluded else max(fixed - free, 0.0)


def cls_values(
    test_stat: str, test_poi: float, twice_nll: Mapping[str, float], mu_hat: float, mu_asimov: float
) -> tuple[float, ...]:
    r"""Return CLs_obs and the five CLs_exp, at -2, -1, 0, 1, 2 standard deviations.

    Parameters
    ----------
    test_stat : str
        "qtilde" (Equation (16)), "q" (14) or "q0" (12).
    test_poi : float
        The tested POI.
    twice_nll : mapping
        Of the fits "free_fit_to_data", "fixed_poi_fit_to_data", "free_fit_to_asimov" and
        "fixed_poi_fit_to_asimov".
    mu_hat, mu_asimov : float
        The POI of the free fits to data and Asimov data.

    Returns
    -------
    tuple of float
        For "q0" the p-values of the background, without a ratio.

    Notes
    -----
    The p-values follow Equations (59) and (65), the band Equation (89). With
    :math:`q_\mu > q_{\mu,A}` the statistic of "qtilde" is :math:`(q - q_A) / 2 \sqrt{q_A}`.
    A test without any sensitivity, :math:`q_{\mu,A} = 0`, gives 1.
    """
    q, q_asimov = (
        statistic(
            test_stat,
            test_poi,
            twice_nll[f"fixed_poi_fit_to_{data}"],
            twice_nll[f"free_fit_to_{data}"],
            poi,
        )
        for data, poi in (("data", mu_hat), ("asimov", mu_asimov))
    )
    sigma = np.sqrt(q_asimov)
    value = np.sqrt(q) - sigma
    if test_stat == "qtilde" and value > 0 and sigma > 0:
        value = (q - q_asimov) / (2 * sigma)
    at = np.array([value, *(-point for point in BAND)], dtype=float)
    result = ndtr(-(at + sigma)) if test_stat == "q0" else _ratio(at, float(sigma))
    return tuple(float(one) for one in result)


def _ratio(at: Vector, sigma: float) -> Vector:
    """Return ``ndtr(-(at + sigma)) / ndtr(-at)``, also where both are too small for a double."""
    x = np.maximum(at, 0.0)
    scaled = (
        erfcx((x + sigma) / np.sqrt(2)) / erfcx(x / np.sqrt(2)) * np.exp(-(x + sigma / 2) * sigma)
    )
    ratio: Vector = np.where(at > 0, scaled, ndtr(-(at + sigma)) / ndtr(-np.minimum(at, 0.0)))
    return ratio
