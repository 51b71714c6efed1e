"""What a report says of toys: the table, the histograms, the asymptotic distributions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from pytest_pyhf_faas.campaign.results import MinimumSet
from pytest_pyhf_faas.histfactory.asymptotics import cls_values
from pytest_pyhf_faas.histfactory.toys import toy_cls
from pytest_pyhf_faas.report.plots import draw
from pytest_pyhf_faas.report.toys import asymptotic_shares, toy_rows, toys_entry
from tests.helpers.report_documents import analysis, document, with_toys
from tests.report.test_page import rendered
from tests.report.test_plots import check, texts_of

CONFIG = {"test_stat": "qtilde", "test_poi": 1.0}


def of_toys(*hypotheses):
    return document([analysis(list(hypotheses), quantity="toys", config=CONFIG)])


def statistics(test_stat, root, poi):
    """Test statistics where the best-fit POI is normal, of quantiles in the place of draws."""
    mu_hat = poi + ndtri((np.arange(40_000) + 0.5) / 40_000) / root
    q = ((1 - mu_hat) * root) ** 2
    if test_stat == "qtilde":
        q = np.where(mu_hat < 0, root**2 * (1 - 2 * mu_hat), q)
    return np.where(mu_hat > 1, 0.0, q)


@pytest.mark.parametrize("test_stat", ["qtilde", "q"])
@given(root=st.floats(0.1, 5))
def test_asymptotic_shares_are_those_of_a_normal_best_fit(test_stat, root):
    edges = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 1e6])
    for poi, shares in zip((1, 0), asymptotic_shares(test_stat, root**2, edges), strict=True):
        counted = np.histogram(statistics(test_stat, root, poi), edges)[0] / 40_000
        assert shares == pytest.approx(counted, abs=1e-3)


@given(asimov=st.floats(1, 30), observed=st.floats(0.01, 10))
def test_asymptotic_cls_follows_from_the_shares(asimov, observed):
    signal, background = asymptotic_shares("qtilde", asimov, np.array([0.0, observed, np.inf]))
    nll = {"free_fit_to_data": 0.0, "fixed_poi_fit_to_data": observed}
    nll |= {"free_fit_to_asimov": 0.0, "fixed_poi_fit_to_asimov": asimov}
    expected = cls_values("qtilde", 1.0, nll, 0.5, 0.0)[0]
    assert signal[1] / background[1] == pytest.approx(expected, rel=1e-4)


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=30),
    st.lists(st.floats(0, 100), min_size=1, max_size=30),
    st.floats(0, 300),
)
def test_each_toy_is_in_the_histogram(signal, background, observed):
    entry = toys_entry(toy_cls(observed, np.array(signal), np.array(background)), None, None)
    histogram = entry["histogram"]
    assert sum(histogram["signal"]) == len(signal)
    assert sum(histogram["background"]) == len(background)
    assert histogram["edges"][0] == 0
    assert histogram["edges"][-1] >= observed
    assert entry["asymptotic"] is entry["off"] is entry["asimov"] is None


def test_off_is_counted_in_the_errors_that_the_asymptotic_value_would_have():
    """Of 1,000 toys with the signal none is above the data, where 3 are expected."""
    random = np.random.default_rng(1)
    found = toy_cls(8.0, random.uniform(0, 7, 1000), random.uniform(0, 16, 1000))
    assert found.CLs_obs == 0
    three = 0.003 / found.CLb
    assert abs(found.errors_from(three)) < 2 < three / found.CLs_obs_error
    minima = MinimumSet(CLs_obs=three, CLs_exp=(0.1,) * 5)
    assert -2 < toys_entry(found, minima, None)["off"] < 0


def test_where_the_observed_statistic_is_0_the_conventions_differ():
    """All toys are as large, of which the asymptotic formulae have one half: nothing is off."""
    found = toy_cls(0.0, np.arange(100.0), np.arange(100.0))
    minima = MinimumSet(CLs_obs=0.53, CLs_exp=(0.1,) * 5)
    entry = toys_entry(found, minima, None)
    assert entry["CLs"][0] == 1
    assert entry["off"] is None
    (row,) = toy_rows(of_toys(with_toys(**entry)))
    assert row.finding == "the observed test statistic is 0"


def test_the_table_begins_with_what_is_off():
    rows = toy_rows(of_toys(with_toys("near"), with_toys("far", off=-6.0), with_toys("other")))
    assert [(row.patch, row.finding) for row in rows] == [
        ("far", "off by 6.0 standard errors"),
        ("near", ""),
        ("other", ""),
    ]
    assert rows[0].toys == "1,000 + 1,000"
    assert rows[0].failed == "1"


def test_the_page_has_toys_with_their_errors():
    source, page = rendered(of_toys(with_toys(off=4.0)))
    assert "Toys" in source
    shown = " ".join(page.pieces)
    cls = with_toys()["toys"]["CLs"][0]
    assert f"{cls:.3f} ± 0.010" in shown
    assert "off by 4.0 standard errors" in shown


def test_a_plot_has_the_first_few_and_those_that_are_off_first():
    many = [with_toys(f"h{number}") for number in range(6)]
    found = {plot.name: plot for plot in draw(of_toys(*many, with_toys("far", off=6.0)))}
    check(found)
    plot = found["toys-0-wino"]
    texts = texts_of(plot.svg)
    assert "Test statistic of toys: wino (4 of 7 hypotheses)" in texts
    assert "test statistic qtilde at μ = 1" in texts
    (first, *_others) = [text for text in texts if "CLs_obs" in text]
    assert first.startswith("far: CLs_obs ")
    assert "(off), 1 failed" in first
    assert len([text for text in texts if "CLs_obs" in text]) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"asimov": None, "asymptotic": None, "off": None},
        {"asimov": 0.0, "off": "nan"},
        {"CLs": ["nan"] * 6, "errors": ["inf"] * 6, "off": "nan", "reference": None},
        {"observed": "nan"},
    ],
)
def test_what_is_not_known_breaks_nothing(changes):
    known = of_toys(with_toys(**changes))
    rendered(known)
    check({plot.name: plot for plot in draw(known)})
