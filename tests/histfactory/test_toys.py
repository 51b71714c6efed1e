"""CLs from toys: the same on any worker, as pyhf has it, and as exact as it says."""

import numpy as np
import pyhf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest, norm, poisson

from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.histfactory.minima import SAME
from pytest_pyhf_faas.histfactory.search import BRIEF, FIXED, FREE, THOROUGH, Search
from pytest_pyhf_faas.histfactory.toys import BLOCK, Toys, blocks_of, bracket, toy_cls
from tests.histfactory.generated import by_pyhf, gammas, normsys, sample, workspace
from tests.histfactory.test_search import flipping, one_channel, read, relaxed, usual

pytestmark = pytest.mark.timeout(300)

HYPOTHESES = ("signal", "background")
#: As `pyhf.infer.calculators.ToyCalculator.expected_pvalues` has them.
PERCENTILES = (2.27501319, 15.86552539, 50.0, 84.13447461, 97.72498681)


def toys_of(specification, which="lowest", test_poi=1.0, seed=1, effort=BRIEF, **options):
    return Toys(Search(read(specification), test_poi, effort=effort, **options), which, seed)


def drawn(toys, hypothesis, count):
    blocks = [toys.block(hypothesis, number, size) for number, size in blocks_of(count)]
    return np.concatenate(blocks)


def few_events():
    """Where the asymptotic formulae do not hold."""
    return one_channel([1.5, 0.5], [0.4, 0.9], [1, 1], normsys("scale", 0.7, 1.4))


def test_blocks_make_as_many_toys_as_asked_for():
    assert blocks_of(2 * BLOCK + 7) == [(0, BLOCK), (1, BLOCK), (2, 7)]
    assert blocks_of(BLOCK) == [(0, BLOCK)]


@pytest.mark.parametrize("hypothesis", HYPOTHESES)
def test_the_first_toys_are_the_same_however_many_there_are(hypothesis):
    """And whoever fits them: a block knows nothing of the others."""
    toys = toys_of(usual())
    many = drawn(toys, hypothesis, 2 * BLOCK + 20)
    assert np.array_equal(drawn(toys_of(usual()), hypothesis, BLOCK + 9), many[: BLOCK + 9])
    assert np.array_equal(toys_of(usual()).block(hypothesis, 1), many[BLOCK : 2 * BLOCK])
    assert not np.array_equal(many[:BLOCK], many[BLOCK : 2 * BLOCK])


def test_the_seed_and_the_hypothesis_decide_what_is_drawn():
    one, other = toys_of(usual()), toys_of(usual(), seed=2)
    first = one.block("signal", 0)
    assert not np.array_equal(first, other.block("signal", 0))
    assert not np.array_equal(first, one.block("background", 0))


def test_events_and_auxiliary_data_follow_the_likelihood():
    """Each at the best fit, with the distribution of its own term."""
    specification = workspace(
        {
            "bins": [
                sample("signal", [12.0, 11.0]),
                sample("background", [50.0, 52.0], gammas("shapesys", "bins", [3.0, 7.0])),
                sample("other", [20.0, 2.0], normsys("scale", 0.8, 1.1)),
            ]
        },
        {"bins": [80, 66]},
    )
    specification["channels"][0]["samples"][0]["modifiers"].append(
        {"name": "mu", "type": "normfactor", "data": None}
    )
    search = Search(read(specification))
    likelihood, toys = search.likelihood, Toys(search, seed=5)
    parent = search.lowest.minima[FIXED].parameters
    random = np.random.default_rng(0)
    data = [toys.draw("signal", random) for _toy in range(2000)]
    expected = likelihood.expected(parent)
    for index, rate in enumerate(expected):
        events = np.array([one.main[index] for one in data])
        assert np.array_equal(events, np.round(events))
        jitter = np.random.default_rng(index).uniform(size=len(events))
        share = poisson.cdf(events - 1, rate) + jitter * poisson.pmf(events, rate)
        assert kstest(share, "uniform").pvalue > 1e-4
    scale = likelihood.names.index("scale")
    pulls = [one.auxiliary[scale] - parent[scale] for one in data]
    assert kstest(pulls, norm.cdf).pvalue > 1e-4
    for index in (n for n, name in enumerate(likelihood.names) if name.startswith("bins")):
        factor = likelihood.width[index] ** -2
        counts = np.array([one.auxiliary[index] for one in data])
        assert np.array_equal(counts, np.round(counts))
        assert counts.mean() == pytest.approx(factor * parent[index], rel=0.02)
    assert all(one.auxiliary[likelihood.poi] == 0 for one in data)


@pytest.mark.parametrize(("make", "count"), [(usual, 60), (few_events, 200)])
def test_distributions_are_those_of_pyhf(make, count):
    specification = make()
    model, data = by_pyhf(specification)
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-10))
    np.random.seed(3)
    try:
        calculator = pyhf.infer.calculators.ToyCalculator(
            data, model, ntoys=count, test_stat="qtilde", track_progress=False
        )
        theirs = [np.asarray(one.samples) for one in calculator.distributions(1.0)]
        observed = float(calculator.teststatistic(1.0))
    finally:
        pyhf.set_backend(*before)
    toys = toys_of(specification)
    assert toys.observed == pytest.approx(observed, rel=1e-3)
    ours = [drawn(toys, hypothesis, 1000) for hypothesis in HYPOTHESES]
    for own, other in zip(ours, theirs, strict=True):
        # What is 0 for one is 1e-9 for the other.
        assert ks_2samp(np.round(own, 4), np.round(other, 4)).pvalue > 1e-3


def test_with_many_events_cls_is_asymptotic():
    toys = toys_of(usual())
    found = toy_cls(toys.observed, *(drawn(toys, name, 1000) for name in HYPOTHESES))
    asymptotic = Search(read(usual()), effort=BRIEF).lowest.cls
    assert abs(found.CLs_obs - asymptotic[0]) < 4 * found.CLs_obs_error
    # Above the median many toys have a test statistic of 0, and CLs is 1.
    for point in (1, 2):
        error = found.CLs_exp_error[point]
        assert abs(found.CLs_exp[point] - asymptotic[1 + point]) < 4 * error
    assert found.failed == {"signal": 0, "background": 0}
    assert found.toys == {"signal": 1000, "background": 1000}


@pytest.mark.parametrize("which", ["lowest", "nominal"])
def test_toys_are_drawn_at_either_set_of_minima(which):
    search = Search(read(flipping()), effort=THOROUGH)
    toys = Toys(search, which, seed=1)
    minima = getattr(search, which).minima
    expected = minima[FIXED].value - minima[FREE].value
    assert toys.observed == pytest.approx(max(expected, 0.0), abs=SAME)
    events = np.mean([toys.draw("signal", np.random.default_rng(n)).main for n in range(300)], 0)
    rates = search.likelihood.expected(minima[FIXED].parameters)
    assert events == pytest.approx(rates, rel=0.06)


def test_fits_of_toys_begin_at_all_minima_that_toys_may_end_in():
    """A free fit is never above one that is less free, whichever minimum the toy was drawn at."""
    toys = toys_of(flipping(), effort=THOROUGH)
    one = drawn(toys, "signal", BLOCK)
    assert np.isfinite(one).all()
    assert (one >= 0).all()


# --- CLs from test statistics -------------------------------------------------------------------

statistics = st.lists(st.floats(0, 20), min_size=3, max_size=60).map(np.array)


@relaxed(200)
@given(st.floats(0, 20), statistics, statistics)
def test_cls_is_as_pyhf_defines_it(observed, signal, background):
    found = toy_cls(observed, signal, background)
    clsb, clb = np.mean(signal >= observed), np.mean(background >= observed)
    each = [np.mean(signal >= q) / np.mean(background >= q) for q in background]
    # pyhf 0.7's own function for these cannot be called with NumPy 2.4.
    expected = np.percentile(each, PERCENTILES)
    assert (found.CLsb, found.CLb) == pytest.approx((clsb, clb), abs=1e-12)
    if clb > 0:
        assert found.CLs_obs == pytest.approx(clsb / clb)
    assert found.CLs_exp == pytest.approx(expected.tolist(), abs=1e-6)


@relaxed(100)
@given(statistics, statistics, st.integers(1, 5))
def test_toys_without_a_fit_are_counted_and_do_not_count(signal, background, failed):
    nothing = np.full(failed, np.nan)
    found = toy_cls(2.0, np.append(signal, nothing), np.append(nothing, background))
    alone = toy_cls(2.0, signal, background)
    assert found.failed == {"signal": failed, "background": failed}
    assert found.toys == alone.toys
    np.testing.assert_equal(found.CLs_exp, alone.CLs_exp)


@relaxed(100)
@given(statistics, statistics, st.lists(st.floats(0, 50), min_size=1, max_size=5), st.data())
def test_wherever_failed_toys_belong_cls_is_within_its_bracket(signal, background, missing, data):
    count = data.draw(st.integers(0, len(missing)))
    known = np.full(count, np.nan), np.full(len(missing) - count, np.nan)
    found = toy_cls(2.0, np.append(signal, known[0]), np.append(background, known[1]))
    true = toy_cls(2.0, np.append(signal, missing[:count]), np.append(background, missing[count:]))
    low, high = bracket(found)[0]
    if np.isfinite([low, high]).all():
        assert low <= true.CLs_obs <= high
        assert low <= found.CLs_obs <= high


def test_the_error_is_the_spread_of_repetitions():
    """Of toys whose distribution is known: q is that of chi-square with one degree of freedom."""
    random = np.random.default_rng(2)

    def one():
        signal, background = random.chisquare(1, 400), random.noncentral_chisquare(1, 4.0, 400)
        return toy_cls(1.0, signal, background)

    found = [one() for _repetition in range(300)]
    for name in ("obs", "exp"):
        values = np.array([np.atleast_1d(getattr(each, f"CLs_{name}")) for each in found])
        errors = np.array([np.atleast_1d(getattr(each, f"CLs_{name}_error")) for each in found])
        told = np.nanmean(errors, axis=0)
        spread = values.std(axis=0)
        seen = (values.mean(axis=0) > 0.05) & (spread > 0)
        assert seen.any()
        assert (told[seen] / spread[seen]).min() > 0.6
        assert (told[seen] / spread[seen]).max() < 1.7


# --- what cannot be done ------------------------------------------------------------------------


def test_a_discovery_test_has_no_toys():
    with pytest.raises(ValueError, match="not for a test of discovery"):
        toys_of(usual(), test_poi=0.0, test_stat="q0")


def test_a_negative_rate_cannot_be_drawn():
    specification = workspace(
        {
            "empty": [sample("signal", [-3.0]), sample("background", [0.0])],
            "full": [sample("background", [60.0], normsys("scale", 0.9, 1.1))],
        },
        {"empty": [0], "full": [60]},
    )
    specification["channels"][0]["samples"][0]["modifiers"].append(
        {"name": "mu", "type": "normfactor", "data": None}
    )
    with pytest.raises(InvalidModel, match=r"bin 0 of the channel empty expects -\d"):
        toys_of(specification)
