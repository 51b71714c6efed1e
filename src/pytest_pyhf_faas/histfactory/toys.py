r"""CLs from pseudo-experiments (toys), and its errors.

As `pyhf.infer.calculators.ToyCalculator` has them: events and auxiliary data are drawn from the
likelihood at the best fit to the observed data with the POI at the tested value, and with the POI
at 0; each toy has a free fit and one with the POI at the tested value. Fits begin at the minima
that the parameters were drawn from.

A rate may be negative where there are no events, as in pyhf, and the likelihood of a toy may then
rise without limit: such a toy has no minimum, and counts as failed.

Toys come in blocks with seeds of their own, so that the first N of 2N toys are those of N, and it
does not matter which worker has which block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import ndtr

from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.asymptotics import BAND, statistic
from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.histfactory.minima import CERTIFIED, SAME, SHARED, Fit
from pytest_pyhf_faas.histfactory.search import BACKGROUND, FIXED, FREE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.likelihood import Data
    from pytest_pyhf_faas.histfactory.newton import Minimum
    from pytest_pyhf_faas.histfactory.search import Search, Which

    Vector = NDArray[np.float64]

#: The parameters that toys are drawn from: at the tested value of the POI, or without a signal.
Hypothesis = Literal["signal", "background"]

#: Toys with one seed.
BLOCK = 50
#: Another minimum of the fit that toys are drawn from is a start for theirs if it lies no more than
#: this above the lowest, in twice the NLL: beyond, no toy of a million ends there.
_REACHED = 25.0
#: How far to each side the error of a percentile reaches, in standard deviations of its rank.
_RANKS = np.array([-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0])


@dataclass(frozen=True, slots=True, eq=False)
class ToyCLs:
    """CLs from toys, each value with its statistical error.

    Attributes
    ----------
    CLs_obs, CLs_exp : float, tuple of float of shape (5,)
        Observed and expected CLs; the latter at -2, -1, 0, 1, 2 standard deviations.
    CLs_obs_error, CLs_exp_error : float, tuple of float of shape (5,)
        One standard deviation each; infinite if CLs is unknown, because no toy without signal
        has a test statistic as large.
    CLsb, CLb : float
        The two probabilities of a test statistic as large as the observed one.
    toys, failed : dict
        By hypothesis: the number of toys with a test statistic, and of those without one because
        a fit ended at no minimum.
    observed : float
        Test statistic of the observed data.
    statistics : dict
        Test statistics of the toys by hypothesis, in ascending order.
    """

    CLs_obs: float
    CLs_obs_error: float
    CLs_exp: tuple[float, ...]
    CLs_exp_error: tuple[float, ...]
    CLsb: float
    CLb: float
    toys: dict[str, int]
    failed: dict[str, int]
    observed: float
    statistics: dict[str, Vector]

    def errors_from(self, value: float) -> float:
        """Return how many standard errors the observed CLs is above a value.

        The error is that of these toys, or the one that it would be if the value were right, where
        that is larger: 0 of 1,000 toys are no surprise where 3 are expected.
        """
        expected = np.array(min(value * self.CLb, 1.0)), np.array(self.CLb)
        _ratio_there, error = _ratio(*expected, *self.toys.values())
        return float((self.CLs_obs - value) / max(self.CLs_obs_error, float(error)))


class Toys:
    """The toys of one hypothesis, at one set of its minima.

    Parameters
    ----------
    search : Search
        The minima, with the test statistic "qtilde" or "q".
    which : "lowest" or "nominal"
        At which minima the toys are drawn. The fits of a toy begin at the other minima as well
        where these are the lowest, and end at the lowest that they lead to.
    seed : int
        Of all toys of this hypothesis; from its content, so that it has the same everywhere.

    Attributes
    ----------
    observed : float
        The test statistic of the observed data.

    Raises
    ------
    InvalidModel
        If no toys can be drawn, because a rate is negative or not defined.
    ValueError
        If the test is one of discovery.
    """

    def __init__(self, search: Search, which: Which = "lowest", seed: int = 0) -> None:
        if search.test_stat == "q0":
            raise ValueError("toys are for upper limits, not for a test of discovery, q0")
        self._likelihood = search.likelihood
        self._test_stat, self._tested = search.test_stat, search.tested
        self._seed = seed
        minima = getattr(search, which).minima
        self.observed = self._statistic(minima[FIXED], minima[FREE])
        self._parents: dict[Hypothesis, Vector] = {
            "signal": minima[FIXED].parameters,
            "background": minima[BACKGROUND].parameters,
        }
        self._starts: dict[Hypothesis, list[Vector]] = {
            name: [parent] for name, parent in self._parents.items()
        }
        if which == "lowest":
            self._starts["signal"] += _others(search.fits[FIXED], minima[FIXED])
            self._starts["background"] += _others(search.fits[BACKGROUND], minima[BACKGROUND])
        self._expected = {name: self._rates(p) for name, p in self._parents.items()}

    def block(self, hypothesis: Hypothesis, number: int, toys: int = BLOCK) -> Vector:
        """Return the test statistics of one block of toys, or of its first ones.

        Returns
        -------
        array, shape (toys,)
            NaN where a fit ended at no minimum.
        """
        place = 0 if hypothesis == "signal" else 1
        random = np.random.default_rng([self._seed, place, number])
        return np.array([self._toy(hypothesis, random) for _toy in range(toys)])

    def draw(self, hypothesis: Hypothesis, random: np.random.Generator) -> Data:
        """Return the data of one toy: events, and the auxiliary data of all constraint terms."""
        likelihood, parent = self._likelihood, self._parents[hypothesis]
        main = random.poisson(self._expected[hypothesis]).astype(float)
        auxiliary = likelihood.drawn_auxiliary(parent, random)
        return likelihood.data(main, auxiliary)

    def _toy(self, hypothesis: Hypothesis, random: np.random.Generator) -> float:
        likelihood, poi = self._likelihood, self._likelihood.poi
        data = self.draw(hypothesis, random)
        free, fixed = Fit(likelihood, data, None), Fit(likelihood, data, self._tested)
        for start in self._starts[hypothesis]:
            end = free.descend(start, "other")
            if end is None:
                continue
            step = newton.followed(end, fixed.free, poi, self._tested)
            there = end.parameters if step is None else end.parameters + step
            fixed.descend(there, "other")
        if not fixed.found or not free.found:
            return np.nan
        if fixed.lowest.value < free.lowest.value - SAME:
            free.descend(fixed.lowest.parameters, "other")
        if min(fixed.lowest.value, free.lowest.value) < 0:
            return np.nan  # below what rates equal to the events have: one is negative
        if max(fixed.lowest.distance, free.lowest.distance) < CERTIFIED:
            return self._statistic(fixed.lowest, free.lowest)
        return np.nan

    def _statistic(self, fixed: Minimum, free: Minimum) -> float:
        mu_hat = float(free.parameters[self._likelihood.poi])
        return statistic(self._test_stat, self._tested, fixed.value, free.value, mu_hat)

    def _rates(self, parameters: Vector) -> Vector:
        expected = self._likelihood.expected(parameters)
        if not (expected >= 0).all():
            channel, index = self._likelihood.bins[int(np.argmin(expected))]
            raise InvalidModel(
                f"no toys can be drawn: bin {index} of the channel {channel} expects "
                f"{expected.min():.3g} events"
            )
        return expected


def toy_cls(observed: float, signal: Vector, background: Vector) -> ToyCLs:
    r"""Return CLs from the test statistics of toys.

    Parameters
    ----------
    observed : float
        Test statistic of the observed data.
    signal, background : array
        Test statistics of the toys with the tested signal and without one; NaN where a fit failed.

    Notes
    -----
    As `pyhf.infer.calculators.ToyCalculator`: :math:`CL_{s+b}` and :math:`CL_b` are the shares of
    toys with a test statistic that is at least as large, and the expected values are percentiles of
    CLs over the toys without a signal. The error of a share is the standard deviation of its
    posterior with a flat prior, :math:`\sqrt{p (1 - p) / (N + 3)}` with :math:`p = (k + 1) / (N +
    2)` for k of N toys, which is not 0 where none or all of them are counted (T. Ullrich, Z. Xu,
    arXiv:physics/0701199). That of a percentile p has the difference to CLs some standard
    deviations of its rank away, :math:`\sqrt{N p (1 - p)}`, over how many these are, added in
    quadrature: the largest for up to 4 to either side, since CLs jumps to 1 where the test
    statistic becomes 0.
    """
    failed = {
        "signal": int(np.isnan(signal).sum()),
        "background": int(np.isnan(background).sum()),
    }
    signal, background = (np.sort(q[~np.isnan(q)]) for q in (signal, background))
    toys = {"signal": len(signal), "background": len(background)}
    if not all(toys.values()):
        return _unknown(observed, toys, failed, {"signal": signal, "background": background})
    above = _share(signal, np.array([observed]))[0], _share(background, np.array([observed]))[0]
    ratio, error = _ratio(*above, *toys.values())
    shares = _share(signal, background), _share(background, background)
    all_cls, all_errors = _ratio(*shares, *toys.values())
    order = np.argsort(all_cls, kind="stable")
    all_cls, all_errors = all_cls[order], all_errors[order]
    expected, errors = [], []
    for probability in ndtr(np.array(BAND, dtype=float)):
        expected.append(float(np.quantile(all_cls, probability)))
        spread = np.sqrt(probability * (1 - probability) / len(all_cls))
        at = probability + spread * _RANKS
        around = np.quantile(all_cls, np.clip(at, 0, 1))
        around[at < 0], around[at > 1] = 0.0, 1.0  # beyond all toys
        apart = float(np.max(np.abs(around - expected[-1]) / np.abs(_RANKS)))
        here = all_errors[min(int(probability * len(all_cls)), len(all_cls) - 1)]
        errors.append(float(np.hypot(apart, here)))
    return ToyCLs(
        CLs_obs=float(ratio),
        CLs_obs_error=float(error),
        CLs_exp=tuple(expected),
        CLs_exp_error=tuple(errors),
        CLsb=float(above[0]),
        CLb=float(above[1]),
        toys=toys,
        failed=failed,
        observed=observed,
        statistics={"signal": signal, "background": background},
    )


def bracket(found: ToyCLs) -> tuple[tuple[float, float], ...]:
    """Return how far the toys that failed could move CLs.

    Their test statistics are not known: each value is calculated with all those of a hypothesis
    below the others, and with all of them above.

    Returns
    -------
    tuple of (float, float), shape (6, 2)
        The smallest and the largest of CLs_obs, and of the five CLs_exp.
    """

    def filled(hypothesis: Hypothesis, statistic: float) -> Vector:
        missing = np.full(found.failed[hypothesis], statistic)
        return np.concatenate([found.statistics[hypothesis], missing])

    ends = (0.0, np.inf)
    cases = [
        toy_cls(found.observed, filled("signal", one), filled("background", other))
        for one in ends
        for other in ends
    ]
    values = np.array([(case.CLs_obs, *case.CLs_exp) for case in cases])
    return tuple(zip(values.min(axis=0).tolist(), values.max(axis=0).tolist(), strict=True))


def _unknown(
    observed: float,
    toys: dict[str, int],
    failed: dict[str, int],
    statistics: dict[str, Vector],
) -> ToyCLs:
    """Return the empty result if all toys of a hypothesis failed."""
    band = len(BAND)
    return ToyCLs(
        CLs_obs=np.nan,
        CLs_obs_error=np.inf,
        CLs_exp=(np.nan,) * band,
        CLs_exp_error=(np.inf,) * band,
        CLsb=np.nan,
        CLb=np.nan,
        toys=toys,
        failed=failed,
        observed=observed,
        statistics=statistics,
    )


def _others(fit: Fit, known: Minimum) -> list[Vector]:
    """Return the other minima of a fit in which toys may end."""
    return [
        minimum.parameters
        for minimum in fit.certified[:SHARED]
        if minimum is not known and minimum.value < known.value + _REACHED
    ]


def _share(sorted_values: Vector, values: Vector) -> Vector:
    """Return the share of toys whose test statistic is at least as large as each of some values."""
    below = np.searchsorted(sorted_values, values, side="left")
    shares: Vector = 1 - below / max(1, len(sorted_values))
    return shares


def _share_error(share: Vector, toys: int) -> Vector:
    """Return the statistical error of a share of toys."""
    p = (share * toys + 1) / (toys + 2)
    error: Vector = np.sqrt(p * (1 - p) / (toys + 3))
    return error


def _ratio(
    clsb: Vector, clb: Vector, signal_toys: int, background_toys: int
) -> tuple[Vector, Vector]:
    """Return CLs and its statistical error."""
    with np.errstate(all="ignore"):
        ratio = clsb / clb
        above, below = _share_error(clsb, signal_toys), _share_error(clb, background_toys)
        error = np.hypot(above / clb, ratio * below / clb)
        return ratio, np.where(clb > 0, error, np.inf)


def blocks_of(toys: int, first: int = 0) -> list[tuple[int, int]]:
    """Return the number of each block that so many toys are made of, and how many are in it.

    Raises
    ------
    ValueError
        If the first of them is not the first of a block.
    """
    if first % BLOCK:
        raise ValueError(f"toys come in blocks of {BLOCK}, and {first} is the first of none")
    begins = range(0, toys, BLOCK)
    return [
        (number, min(BLOCK, toys - begin)) for number, begin in enumerate(begins, first // BLOCK)
    ]
