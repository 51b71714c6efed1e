"""Five fits give the CLs that pyhf makes of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.histfactory import asymptotics
from tests.histfactory.generated import MU, by_pyhf, gammas, histosys, normsys, sample, workspace

relaxed = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def fits(q, q_asimov, offset=0.0):
    """Twice the NLL of the fits, with these differences."""
    return {
        "free_fit_to_data": offset,
        "fixed_poi_fit_to_data": offset + q,
        "free_fit_to_asimov": offset,
        "fixed_poi_fit_to_asimov": offset + q_asimov,
    }


def hypotest_of(test_stat, test_poi, twice_nll, mu_hat, mu_asimov):
    """Let `pyhf.infer.hypotest` have all of its fits done by others."""
    free = {"data": mu_hat, "asimov": mu_asimov}

    def fit(data, *_args, **_options):
        return np.array([free[data]]), np.array(twice_nll[f"free_fit_to_{data}"])

    def fixed_poi_fit(poi, data, *_args, **_options):
        return np.array([poi]), np.array(twice_nll[f"fixed_poi_fit_to_{data}"])

    def generate_asimov_data(poi, *_args, **_options):
        assert poi == asymptotics.asimov_poi(test_stat)
        return "asimov", np.array([poi])

    config = SimpleNamespace(
        poi_index=0,
        suggested_init=lambda: [1.0],
        suggested_bounds=lambda: [(0.0 if test_stat == "qtilde" else -10.0, 10.0)],
        suggested_fixed=lambda: [False],
    )
    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr("pyhf.infer.test_statistics.fit", fit)
        patch.setattr("pyhf.infer.test_statistics.fixed_poi_fit", fixed_poi_fit)
        patch.setattr("pyhf.infer.calculators.generate_asimov_data", generate_asimov_data)
        observed, expected = pyhf.infer.hypotest(
            test_poi,
            "data",
            SimpleNamespace(config=config),
            test_stat=test_stat,
            return_expected_set=True,
        )
    return [float(observed), *map(float, expected)]


statistics = st.sampled_from(["qtilde", "q", "q0"])
differences = st.one_of(st.floats(-1e-6, 40.0), st.floats(1e-3, 2.0))
#: A double has so many digits; a test statistic at 8 standard deviations has lost two of them.
RTOL = 1e-12


@relaxed
@given(statistics, st.floats(0.0, 3.0), differences, differences, st.floats(-2.0, 4.0))
@example("qtilde", 1.0, 9.0, 4.0, 0.2)  # q > q_A
@example("qtilde", 1.0, 4.0, 4.0, 0.2)
@example("q", 1.0, 9.0, 4.0, 0.2)
@example("qtilde", 1.0, 9.0, 4.0, 1.1)  # more signal than is tested
@example("q0", 0.0, 9.0, 4.0, -0.1)  # less than none
@example("q0", 0.0, 9.0, 4.0, 0.1)
def test_they_are_those_of_pyhf(test_stat, test_poi, q, q_asimov, mu_hat):
    twice_nll = fits(q, q_asimov)
    poi = asymptotics.tested_poi(test_stat, test_poi)
    mu_asimov = asymptotics.asimov_poi(test_stat)
    ours = asymptotics.cls_values(test_stat, poi, twice_nll, mu_hat, mu_asimov)
    theirs = hypotest_of(test_stat, poi, twice_nll, mu_hat, mu_asimov)
    assert len(ours) == 6
    assert all(isinstance(value, float) for value in ours)
    for mine, other in zip(ours, theirs, strict=True):
        assert 0 <= mine <= 1
        assert np.isnan(other) or mine == pytest.approx(other, rel=RTOL)


@pytest.mark.parametrize(
    ("test_stat", "test_poi"), [("qtilde", 1.0), ("qtilde", 0.2), ("q", 1.0), ("q0", 0.0)]
)
@pytest.mark.parametrize("observed", [[57, 54], [44, 40], [75, 71]], ids=str)
def test_they_are_those_of_pyhf_for_fits_of_pyhf(test_stat, test_poi, observed):
    background = sample(
        "background",
        [50.0, 52.0],
        normsys("scale", 0.8, 1.1),
        histosys("shape", [48.0, 55.0], [54.0, 51.0]),
        gammas("shapesys", "bins", [3.0, 7.0]),
    )
    model, data = by_pyhf(
        workspace({"bins": [sample("signal", [12.0, 11.0], MU), background]}, {"bins": observed})
    )
    cls_obs, cls_exp, calculator = pyhf.infer.hypotest(
        test_poi,
        data,
        model,
        test_stat=test_stat,
        return_expected_set=True,
        return_calculator=True,
    )
    fitted = calculator.fitted_pars
    asimov = model.expected_data(fitted.asimov_pars)
    twice_nll = {
        f"{kind}_fit_to_{name}": -2 * model.logpdf(getattr(fitted, f"{kind}_fit_to_{name}"), to)[0]
        for kind in ("free", "fixed_poi")
        for name, to in (("data", data), ("asimov", asimov))
    }
    mu_hat, mu_asimov = (
        fit[model.config.poi_index] for fit in (fitted.free_fit_to_data, fitted.free_fit_to_asimov)
    )
    ours = asymptotics.cls_values(test_stat, test_poi, twice_nll, mu_hat, mu_asimov)
    assert ours == pytest.approx([float(cls_obs), *map(float, cls_exp)], rel=1e-9)


@pytest.mark.parametrize("test_stat", ["qtilde", "q"])
@pytest.mark.parametrize("q", [0.0, -1e-13, 1e-13, 1e-6])
def test_a_test_without_sensitivity_excludes_nothing(test_stat, q):
    """Not even where the fits end a rounding error apart, where pyhf divides by 0."""
    assert asymptotics.cls_values(test_stat, 1.0, fits(q, 0.0), 0.3, 0.0) == (1.0,) * 6


@pytest.mark.parametrize("q_asimov", [1e-4, 1e-12, 1e-30, 1e-300, 5e-324])
def test_p_values_too_small_for_a_double_have_a_ratio(q_asimov):
    """Far in the tail of a normal distribution it is exp(-q / 2), nearly."""
    for q in (6.0, 9.0):
        cls_obs, *_ = asymptotics.cls_values("qtilde", 1.0, fits(q, q_asimov), 0.3, 0.0)
        assert cls_obs == pytest.approx(np.exp(-q / 2), rel=1e-4)


def test_more_signal_than_is_tested_or_than_none_is_no_reason_against_it():
    at_most_half = asymptotics.cls_values("q0", 0.0, fits(9.0, 4.0), -0.1, 1.0)[0]
    assert at_most_half == 0.5
    excess = asymptotics.cls_values("qtilde", 1.0, fits(9.0, 4.0), 1.1, 0.0)
    assert excess[0] == asymptotics.cls_values("qtilde", 1.0, fits(0.0, 4.0), 0.9, 0.0)[0] > 0.5


def test_discovery_tests_have_their_own_pois():
    assert [asymptotics.asimov_poi(stat) for stat in ("qtilde", "q", "q0")] == [0.0, 0.0, 1.0]
    assert [asymptotics.tested_poi(stat, 0.7) for stat in ("qtilde", "q", "q0")] == [0.7, 0.7, 0.0]
