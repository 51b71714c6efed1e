"""Both named minima are found, whatever was searched before; what cannot be is told of."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.errors import CertificationError, InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.minima import CERTIFIED, SAME
from pytest_pyhf_faas.histfactory.search import (
    BACKGROUND,
    BRIEF,
    FIXED,
    FIXED_ASIMOV,
    FREE,
    FREE_ASIMOV,
    THOROUGH,
    Search,
)
from pytest_pyhf_faas.histfactory.workspace import Workspace
from tests.histfactory.generated import (
    MU,
    by_pyhf,
    factor,
    gammas,
    histosys,
    normsys,
    sample,
    workspace,
)

pytestmark = pytest.mark.timeout(300)

ALL_FITS = {FIXED, FREE, BACKGROUND, FIXED_ASIMOV, FREE_ASIMOV}
EFFORTS = {"nominal": None, "brief": BRIEF, "thorough": THOROUGH}


def relaxed(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def pyhf_that_minimizes_well():
    """Its default tolerance leaves SLSQP some 1e-6 above a minimum, and CLs 1e-3 away."""
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-10))
    yield
    pyhf.set_backend("numpy", "scipy")


def read(specification, **codes):
    return Likelihood(Workspace.from_json(specification), **codes)


def one_channel(signal, background, observed, *modifiers, parameters=()):
    """A workspace; the modifiers are those of the background."""
    samples = [sample("signal", signal, MU), sample("background", background, *modifiers)]
    return workspace({"bins": samples}, {"bins": observed}, parameters)


def usual():
    """One minimum, with one parameter of each kind of constraint."""
    return one_channel(
        [12.0, 11.0],
        [50.0, 52.0],
        [57, 54],
        normsys("scale", 0.8, 1.1),
        histosys("shape", [48.0, 55.0], [54.0, 51.0]),
        gammas("shapesys", "bins", [3.0, 7.0]),
    )


def two_sided():
    """Up and down raise the background where there is an excess; up begins to, down does more."""
    return one_channel(
        [0.0, 7.0], [50.0, 28.0], [67, 30], histosys("both", [58.0, 33.0], [63.0, 45.0])
    )


def flipping():
    """At the nominal minima the signal is excluded, and not at the lowest."""
    return one_channel(
        [1.0, 9.0],
        [22.0, 36.0],
        [27, 27],
        histosys("one", [26.0, 34.0], [42.0, 45.0]),
        histosys("two", [17.0, 31.0], [32.0, 33.0]),
        histosys("three", [37.0, 51.0], [37.0, 37.0]),
    )


def many_sided(count=8):
    """A control region has two minima, and there are many: few draws do not find the lowest."""
    both = [29.0, 16.5], [31.5, 22.5]
    channels = {
        f"control{number}": [sample("background", [25.0, 14.0], histosys(f"both{number}", *both))]
        for number in range(count)
    }
    observed = {name: [34, 15] for name in channels}
    background = sample("background", [50.0, 28.0], normsys("scale", 0.9, 1.1))
    channels["signal"] = [sample("signal", [0.0, 7.0], MU), background]
    return workspace(channels, {**observed, "signal": [51, 31]})


def asimov_sided(count=4):
    """The data draw each background to one side, what is expected without a signal to none."""
    channels, observed = {}, {}
    for number in range(count):
        both = histosys(f"both{number}", [63.0], [36.0])
        samples = [sample("signal", [11.0], MU), sample("background", [40.0], both)]
        channels[f"c{number}"], observed[f"c{number}"] = samples, [33]
    return workspace(channels, observed)


TWO_MINIMA = {"two sided": two_sided, "flipping": flipping}


def point(likelihood, parameters):
    """What a pool has of a point."""
    return dict(zip(likelihood.names, parameters.tolist(), strict=True))


def bits(search):
    """All that a search says."""
    sets = [
        (found.cls, dict(found.twice_nll), {n: m.parameters.tobytes() for n, m in minima.items()})
        for found in (search.nominal, search.lowest)
        for minima in [found.minima]
    ]
    known = {
        name: [(f.minimum.value, f.minimum.parameters.tobytes(), f.hits) for f in fit.found]
        for name, fit in search.fits.items()
    }
    starts = {name: fit.starts for name, fit in search.fits.items()}
    return sets, known, starts, [new.tobytes() for new in search.new]


def hypotest(specification, test_poi=1.0, **options):
    """Return what pyhf says: CLs, twice the NLL of the fits to data, and mu-hat."""
    model, data = by_pyhf(specification)
    cls_obs, cls_exp, calculator = pyhf.infer.hypotest(
        test_poi, data, model, return_expected_set=True, return_calculator=True, **options
    )
    fitted = calculator.fitted_pars
    twice_nll = {
        name: float(-2 * model.logpdf(parameters, data)[0])
        for name, parameters in (
            (FIXED, fitted.fixed_poi_fit_to_data),
            (FREE, fitted.free_fit_to_data),
            (BACKGROUND, fitted.asimov_pars),
        )
    }
    mu_hat = float(fitted.free_fit_to_data[model.config.poi_index])
    return [float(cls_obs), *map(float, cls_exp)], twice_nll, mu_hat


# --- pyhf ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    ("test_stat", "test_poi"), [("qtilde", 1.0), ("q", 1.0), ("q", 0.3), ("q0", 0.0)]
)
def test_values_are_those_of_pyhf(test_stat, test_poi, effort):
    search = Search(read(usual()), test_poi, test_stat, effort=EFFORTS[effort])
    background = (FIXED, BACKGROUND) if test_stat != "q0" else (BACKGROUND, FIXED)
    cls, twice_nll, mu_hat = hypotest(usual(), test_poi, test_stat=test_stat)
    for found in (search.nominal, search.lowest):
        assert found.cls == pytest.approx(cls, rel=1e-5)
        assert set(found.twice_nll) == ALL_FITS
        assert set(found.minima) == ALL_FITS - {FREE_ASIMOV}
        for name in (*background, FREE):
            assert found.twice_nll[name] == pytest.approx(twice_nll[name], abs=1e-8)
            assert found.twice_nll[name] <= twice_nll[name] + 1e-11
        at = found.minima[FREE].parameters[search.likelihood.poi]
        assert at == pytest.approx(mu_hat, abs=1e-4)
        assert 0 <= found.distance < CERTIFIED
    assert search.new == []


def test_a_discovery_test_has_fits_at_0_and_asimov_data_at_1():
    """Whatever is asked for."""
    search = Search(read(usual()), 0.7, "q0")
    poi = search.likelihood.poi
    assert search.lowest.minima[FIXED].parameters[poi] == 0.0
    assert search.lowest.minima[BACKGROUND].parameters[poi] == 1.0
    assert search.lowest.cls == Search(read(usual()), 0.0, "q0").lowest.cls


@pytest.mark.parametrize("model", TWO_MINIMA)
def test_the_nominal_minima_are_next_to_the_start_of_pyhf(model):
    specification = TWO_MINIMA[model]()
    search = Search(read(specification), effort=THOROUGH)
    nominal, lowest = search.nominal, search.lowest
    model, data = by_pyhf(specification)
    order = search.likelihood.pyhf_order
    differ = 0
    for name, poi in ((FIXED, 1.0), (BACKGROUND, 0.0)):
        parameters, value = pyhf.infer.mle.fixed_poi_fit(poi, data, model, return_fitted_val=True)
        assert nominal.twice_nll[name] == pytest.approx(float(value), abs=1e-7)
        assert nominal.minima[name].parameters[order] == pytest.approx(parameters, abs=1e-3)
        # SciPy gets to the lowest from where that is, and from nowhere to a lower one.
        random = np.random.default_rng(0)
        starts = [lowest.minima[name].parameters[order], *random.normal(0, 1.5, (8, len(order)))]
        ends = []
        for start in starts:
            start[model.config.poi_index] = poi
            _, end = pyhf.infer.mle.fixed_poi_fit(
                poi, data, model, init_pars=start.tolist(), return_fitted_val=True
            )
            ends.append(float(end))
        assert min(ends) == pytest.approx(lowest.twice_nll[name], abs=1e-7)
        assert ends[0] == pytest.approx(lowest.twice_nll[name], abs=1e-7)
        differ += nominal.twice_nll[name] > lowest.twice_nll[name] + 0.1
    assert differ


def test_cls_of_both_sets_is_what_pyhf_has_where_it_begins_at_one_or_the_other():
    search = Search(read(two_sided()), effort=THOROUGH)
    nominal, _, _ = hypotest(two_sided())
    assert search.nominal.cls == pytest.approx(nominal, rel=1e-5)
    begin = search.lowest.minima[BACKGROUND].parameters[search.likelihood.pyhf_order]
    lowest, _, _ = hypotest(two_sided(), init_pars=begin.tolist())
    assert search.lowest.cls == pytest.approx(lowest, rel=1e-5)
    for one, other in zip(search.nominal.cls, search.lowest.cls, strict=True):
        assert abs(one - other) > 0.05


def test_an_exclusion_may_depend_on_the_minima():
    search = Search(read(flipping()))
    assert search.nominal.cls[0] < 0.05 < search.lowest.cls[0]


def test_a_signal_may_be_alone_in_a_bin_without_events():
    specification = one_channel([5.0, 2.0], [20.0, 0.0], [24, 0], normsys("scale", 0.9, 1.2))
    found = Search(read(specification)).lowest
    cls, twice_nll, _ = hypotest(specification)
    assert found.cls == pytest.approx(cls, rel=1e-5)
    assert found.twice_nll[FIXED] == pytest.approx(twice_nll[FIXED], abs=1e-8)


# --- what holds for each search -----------------------------------------------------------------


@st.composite
def crooked(draw):
    """A workspace whose variations are not opposite, so that many have more than one minimum."""
    bins = draw(st.integers(1, 3))
    background = draw(st.lists(st.integers(15, 60), min_size=bins, max_size=bins))

    def varied():
        return [float(rate + draw(st.integers(-8, 25))) for rate in background]

    return one_channel(
        [float(draw(st.integers(0, 14))) for _ in background],
        [float(rate) for rate in background],
        [rate + draw(st.integers(-10, 25)) for rate in background],
        *(histosys(f"p{number}", varied(), varied()) for number in range(draw(st.integers(1, 3)))),
        *([normsys("scale", 0.8, 1.3)] if draw(st.booleans()) else []),
        *([factor("normfactor", "k")] if draw(st.booleans()) else []),
    )


efforts = st.sampled_from(list(EFFORTS))
seeds = st.integers(0, 2**32 - 1)


@relaxed(30)
@given(crooked(), efforts, st.sampled_from([0.3, 1.0, 2.0]), seeds)
def test_what_holds_for_each_search(specification, effort, test_poi, seed):
    likelihood = read(specification)
    try:
        search = Search(likelihood, test_poi, effort=EFFORTS[effort], seed=seed)
    except CertificationError:
        assume(False)
    nominal, lowest = search.nominal, search.lowest
    for found in (nominal, lowest):
        nll = found.twice_nll
        assert set(nll) == ALL_FITS
        # The free fits can do all that the others can, and Asimov data have a known minimum.
        assert nll[FREE] <= min(nll[FIXED], nll[BACKGROUND]) + SAME
        assert nll[FREE_ASIMOV] <= nll[FIXED_ASIMOV] + 1e-9
        assert all(0 <= value <= 1 for value in found.cls)
        assert list(found.cls[1:]) == sorted(found.cls[1:])
        for name, minimum in found.minima.items():
            poi = minimum.parameters[likelihood.poi]
            expected = {FIXED: test_poi, BACKGROUND: 0.0, FIXED_ASIMOV: test_poi}
            assert poi == expected.get(name, poi)
            assert minimum.distance <= found.distance < CERTIFIED
            inside = likelihood.lower <= minimum.parameters
            assert (inside & (minimum.parameters <= likelihood.upper)).all()
        for name in (FIXED, BACKGROUND, FREE):
            here = likelihood.value(found.minima[name].parameters, likelihood.observed)
            assert nll[name] == here + likelihood.saturated(likelihood.observed)
    for name in (FIXED, BACKGROUND, FREE):
        assert lowest.twice_nll[name] <= nominal.twice_nll[name]
        assert search.fits[name].lowest.value == lowest.minima[name].value
    if lowest.minima[BACKGROUND] is nominal.minima[BACKGROUND]:  # then the data are the same
        assert lowest.twice_nll[FIXED_ASIMOV] <= nominal.twice_nll[FIXED_ASIMOV]
    if effort == "nominal":
        assert lowest is nominal
        assert search.new == []


def test_the_nominal_free_fit_may_begin_where_those_with_a_fixed_poi_end():
    """From its own start it ends without a signal, 1.4 above the fit at 1."""
    both = histosys("both", [53.0, 62.0], [46.0, 60.0])
    search = Search(read(one_channel([4.0, 1.0], [48.0, 46.0], [43, 73], both)), effort=None)
    nll = search.nominal.twice_nll
    assert nll[BACKGROUND] > nll[FIXED] + 1 > nll[FREE] + 1
    assert search.fits[FREE].starts == {"nominal": 1, "other": 1}
    assert search.fits[FREE].lowest is search.nominal.minima[FREE]


def test_the_fit_to_asimov_data_begins_where_the_others_ended():
    """At the background fit, and at the two minima of that with the same POI."""
    search = Search(read(flipping()), effort=THOROUGH)
    assert len(search.fits[FIXED].certified) == 2
    starts = search.fits[FIXED_ASIMOV].starts
    assert starts == {"nominal": 1, "other": 3, "random": THOROUGH.background_draws}


@relaxed(15)
@given(crooked(), efforts, seeds)
def test_evidence_adds_up(specification, effort, seed):
    try:
        search = Search(read(specification), effort=EFFORTS[effort], seed=seed)
    except CertificationError:
        assume(False)
    wanted = EFFORTS[effort]
    for name, fit in search.fits.items():
        hits = sum((found.hits for found in fit.found), Counter())
        for origin, count in hits.items():
            assert 0 < count <= fit.starts[origin]
        # Here the likelihood is defined everywhere, so that each start ends somewhere.
        assert hits == +fit.starts
        assert fit.where(fit.lowest).hits.total() >= 1
        assert fit.starts["nominal"] <= 1
        draws = {FIXED: wanted and wanted.draws, FREE: 0}.get(
            name, wanted and wanted.background_draws
        )
        assert fit.starts["random"] == (draws or 0)
        assert fit.starts["pool"] == 0
        if effort != "thorough" or name != FIXED:
            assert fit.starts["side"] == 0


@pytest.mark.parametrize("model", [two_sided, flipping, many_sided, asimov_sided])
def test_no_two_minima_are_one(model):
    search = Search(read(model()), effort=THOROUGH)
    assert max(len(fit.found) for fit in search.fits.values()) > 1
    for fit in search.fits.values():
        for one, other in itertools.permutations(fit.found, 2):
            assert not one.minimum.is_near(other.minimum.parameters, fit.free)


def test_starts_where_nothing_is_defined_are_moved_to_where_something_is():
    """A shape that a draw of -1 makes negative, as every third does."""
    steep = histosys("steep", [-5.0, -3.0], [100.0, 58.0])
    search = Search(read(one_channel([0.0, 7.0], [50.0, 28.0], [57, 30], steep)), effort=THOROUGH)
    for fit in search.fits.values():
        assert sum((found.hits for found in fit.found), Counter()) == +fit.starts
    fit, likelihood = search.fits[FIXED], search.likelihood
    start = np.full(len(likelihood), -3.0)
    assert likelihood.value(np.where(fit.free, start, fit.initial), fit.data) == np.inf
    moved = fit.within(start)
    assert np.isfinite(likelihood.value(moved, fit.data))
    assert moved[likelihood.poi] == 1.0
    index = likelihood.names.index("steep")
    assert -3.0 < moved[index] < likelihood.initial[index]


# --- the pool -----------------------------------------------------------------------------------


def test_what_only_a_thorough_search_finds_is_new_until_the_pool_has_it():
    likelihood = read(many_sided())
    thorough = Search(likelihood, effort=THOROUGH)
    brief = Search(likelihood, effort=BRIEF)
    for name in (FIXED, BACKGROUND, FREE):
        assert brief.lowest.twice_nll[name] > thorough.lowest.twice_nll[name] + 0.1
    assert thorough.new
    # The points of a pool need neither be exact nor have all of the parameters.
    pool = [
        {name: round(value, 2) for name, value in point(likelihood, new).items() if name != "mu"}
        for new in thorough.new
    ]
    for effort in (BRIEF, THOROUGH):
        search = Search(likelihood, effort=effort, pool=pool)
        assert search.new == []
        for name, value in thorough.lowest.twice_nll.items():
            assert search.lowest.twice_nll[name] == pytest.approx(value, abs=1e-9)
        assert search.nominal.twice_nll == thorough.nominal.twice_nll
        assert search.fits[FIXED].starts["pool"] == search.fits[BACKGROUND].starts["pool"] > 0
        assert search.fits[FREE].starts["pool"] == 0


def test_new_is_what_is_lower_than_all_that_the_pool_leads_to():
    likelihood = read(many_sided())
    thorough = Search(likelihood, effort=THOROUGH)
    best = point(likelihood, thorough.lowest.minima[FIXED].parameters)
    nominal = point(likelihood, thorough.nominal.minima[FIXED].parameters)
    assert all(best[f"both{number}"] < 0 < nominal[f"both{number}"] for number in range(8))
    # Where all but two are on their better side, it is those two that are found.
    start = {**best, "both3": nominal["both3"], "both5": nominal["both5"]}
    search = Search(likelihood, effort=THOROUGH, pool=[start])
    assert search.lowest.twice_nll[FIXED] == pytest.approx(thorough.lowest.twice_nll[FIXED])
    assert search.new
    for new in search.new:
        found = point(likelihood, new)
        assert all(found[f"both{number}"] < 0 for number in range(8))


def test_points_of_the_pool_that_lead_to_the_lowest_minima_are_helpful():
    likelihood = read(many_sided())
    thorough = Search(likelihood, effort=THOROUGH)
    assert set(thorough.helpful) == {FIXED, BACKGROUND, FREE}
    assert not any(thorough.helpful.values())
    best = point(likelihood, thorough.lowest.minima[FIXED].parameters)
    other = {**best, "both3": 0.5}
    pool = [{}, best, other, {**best, "scale": 0.3, "mu": 2.0}]
    # The free fit begins at the minima of the others.
    helpful = {FIXED: [1, 3], BACKGROUND: [1, 3], FREE: []}
    assert Search(likelihood, pool=pool).helpful == helpful
    # Where the nominal minima are the lowest nobody needs any.
    assert Search(read(usual()), effort=THOROUGH, pool=[{"scale": 1.0}, {}]).helpful == {}


def test_minima_of_the_fit_to_asimov_data_are_searched_for_and_shared_as_well():
    likelihood = read(asimov_sided())
    thorough, brief = (Search(likelihood, effort=effort) for effort in (THOROUGH, BRIEF))
    for name in (FIXED, FREE, BACKGROUND):
        assert thorough.lowest.minima[name] is thorough.nominal.minima[name]
    lowest, nominal = thorough.lowest.twice_nll, thorough.nominal.twice_nll
    assert nominal[FIXED_ASIMOV] > brief.lowest.twice_nll[FIXED_ASIMOV] > lowest[FIXED_ASIMOV] + 0.1
    assert nominal[FREE_ASIMOV] == lowest[FREE_ASIMOV]  # the data are the same
    assert thorough.helpful == {FIXED_ASIMOV: []}
    (new,) = thorough.new
    pool = [{}, point(likelihood, new.round(2))]
    for effort in (BRIEF, THOROUGH):
        search = Search(likelihood, effort=effort, pool=pool)
        assert search.new == []
        assert search.helpful == {FIXED_ASIMOV: [1]}
        assert search.lowest.twice_nll[FIXED_ASIMOV] == pytest.approx(lowest[FIXED_ASIMOV])


@relaxed(8)
@given(crooked(), seeds)
def test_with_its_own_minima_as_a_pool_nothing_is_new_and_nothing_is_lost(specification, seed):
    likelihood = read(specification)
    try:
        first = Search(likelihood, effort=THOROUGH, seed=seed)
        pool = [point(likelihood, m.parameters) for m in first.lowest.minima.values()]
        again = Search(likelihood, effort=THOROUGH, seed=seed, pool=pool)
        brief = Search(likelihood, effort=BRIEF, seed=seed + 1, pool=pool)
    except CertificationError:
        assume(False)
    assert again.new == []
    for name in (FIXED, BACKGROUND, FREE):
        for search in (again, brief):
            assert search.lowest.twice_nll[name] <= first.lowest.twice_nll[name] + SAME


def test_a_pool_of_another_patch_does_no_harm():
    """It may lack parameters and have others, and lie far outside of the bounds."""
    likelihood = read(two_sided())
    plain = Search(likelihood, effort=THOROUGH)
    pool = [
        {},
        {"elsewhere": 3.0},
        {"both": -77.0, "mu": 1e9},
        {"both": 0.3, "elsewhere": -1.0},
    ]
    search = Search(likelihood, effort=THOROUGH, pool=pool)
    assert search.nominal.twice_nll == plain.nominal.twice_nll
    for name, value in plain.lowest.twice_nll.items():
        assert search.lowest.twice_nll[name] == pytest.approx(value, abs=1e-9)


# --- the same again -----------------------------------------------------------------------------


@pytest.mark.parametrize("effort", EFFORTS)
def test_a_search_gives_the_same_bits_whatever_was_searched_before(effort):
    """For hypotheses that have two minima, one of which a memory would find for the other."""

    def search(specification, likelihood=None):
        likelihood = likelihood or read(specification)
        return bits(Search(likelihood, effort=EFFORTS[effort], seed=7))

    first, second = two_sided(), flipping()
    alone = search(first)
    assert search(first) == alone
    kept = read(first)
    assert search(first, kept) == alone
    other = search(second)
    assert search(first, kept) == alone
    assert search(first) == alone
    assert search(second) == other
    # A neighbour of the same background, as in a pallet.
    neighbour = two_sided()
    neighbour["channels"][0]["samples"][0]["data"] = [1.0, 9.0]
    background = Workspace.from_json(first)
    near = [Likelihood(Workspace.from_json(s, background)) for s in (first, neighbour, first)]
    assert [search(None, near[2]), search(None, near[1]), search(None, near[0])] == [
        alone,
        search(neighbour),
        alone,
    ]


def test_the_seed_decides_what_is_drawn_and_nothing_else():
    searches = [Search(read(two_sided()), effort=THOROUGH, seed=seed) for seed in (1, 1, 2)]
    assert bits(searches[0]) == bits(searches[1])
    assert bits(searches[0]) != bits(searches[2])
    for name, value in searches[0].lowest.twice_nll.items():
        assert searches[2].lowest.twice_nll[name] == pytest.approx(value, abs=1e-9)


# --- without sensitivity ------------------------------------------------------------------------


def without_signal(*modifiers):
    return one_channel([0.0, 0.0], [50.0, 28.0], [67, 30], *modifiers)


def switched_off():
    """The signal is scaled by a factor that is fixed at 0."""
    specification = two_sided()
    specification["channels"][0]["samples"][0]["modifiers"].append(factor("normfactor", "off"))
    specification["measurements"][0]["config"]["parameters"] = [
        {"name": "off", "inits": [0.0], "fixed": True}
    ]
    return specification


@pytest.mark.parametrize("test_stat", ["qtilde", "q"])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize(
    "specification",
    [
        without_signal(),
        without_signal(normsys("scale", 0.8, 1.1)),
        without_signal(histosys("both", [58.0, 33.0], [63.0, 45.0])),
        switched_off(),
    ],
    ids=["fixed background", "one minimum", "two minima", "switched off"],
)
def test_a_likelihood_that_does_not_depend_on_the_poi_excludes_nothing(
    specification, effort, test_stat
):
    for test_poi in (0.3, 1.0, 2.0):
        search = Search(read(specification), test_poi, test_stat, effort=EFFORTS[effort])
        for found in (search.nominal, search.lowest):
            assert found.cls == pytest.approx([1.0] * 6, abs=1e-6)
            assert found.twice_nll[FIXED] == pytest.approx(found.twice_nll[FREE], abs=1e-11)
        if effort != "nominal":  # it begins where the Asimov data were made, too
            assert search.lowest.cls == (1.0,) * 6


@pytest.mark.parametrize("events", [1e-3, 1e-6, 1e-9, 1e-13, 1e-17])
def test_next_to_no_signal_is_next_to_no_sensitivity(events):
    """Where differences of twice the NLL are those of rounding."""
    specification = two_sided()
    specification["channels"][0]["samples"][0]["data"] = [0.0, events]
    search = Search(read(specification), effort=THOROUGH)
    for found in (search.nominal, search.lowest):
        assert found.cls == pytest.approx([1.0] * 6, abs=events + 1e-6)


# --- what cannot be tested, nor certified -------------------------------------------------------


def with_parameter(**setting):
    return one_channel(
        [12.0, 11.0], [50.0, 52.0], [57, 54], normsys("scale", 0.8, 1.1), parameters=[setting]
    )


def outside(poi, bounds):
    return (
        f"the test has fits with the parameter of interest mu at {poi}, which lies outside of its "
        f"bounds, {bounds}"
    )


@pytest.mark.parametrize(
    ("setting", "test_stat", "message"),
    [
        (
            {"fixed": True},
            "qtilde",
            "the measurement fixes the parameter of interest mu: nothing can be tested",
        ),
        (
            {"bounds": [[0.0, 0.9]], "inits": [0.5]},
            "qtilde",
            outside("1", "0 and 0.9"),
        ),
        (
            {"bounds": [[0.5, 10.0]]},
            "q",
            outside("0", "0.5 and 10"),
        ),
        (
            {"bounds": [[-1.0, 0.5]], "inits": [0.0]},
            "q0",
            outside("1", "-1 and 0.5"),
        ),
    ],
    ids=["fixed", "above", "below", "asimov"],
)
def test_a_poi_that_cannot_be_where_the_test_has_it_is_reported(setting, test_stat, message):
    likelihood = read(with_parameter(name="mu", **setting))
    with pytest.raises(InvalidModel) as caught:
        Search(likelihood, test_stat=test_stat)
    assert str(caught.value) == message


def test_a_poi_may_be_tested_at_its_bounds():
    likelihood = read(with_parameter(name="mu", bounds=[[0.0, 1.0]]))
    assert Search(likelihood).lowest.twice_nll[FIXED] > 0


@pytest.mark.parametrize(
    ("test_poi", "signal", "fit", "why"),
    [
        (
            3.0,
            [-20.0, 3.0],
            "fixed poi fit to data",
            (
                "bin 0 of the channel bins has 57 events, where -10 are expected "
                "(background 50, signal -60)"
            ),
        ),
        (
            0.5,
            [3.0, -60.0],
            "free fit to data",
            (
                "bin 1 of the channel bins has 54 events, where -8 are expected "
                "(background 52, signal -60)"
            ),
        ),
    ],
)
def test_a_likelihood_that_is_not_defined_where_a_fit_begins_is_reported(
    test_poi, signal, fit, why
):
    """So much of a negative signal leaves less than nothing."""
    specification = one_channel(signal, [50.0, 52.0], [57, 54], normsys("scale", 0.9, 1.1))
    with pytest.raises(InvalidModel) as caught:
        Search(read(specification), test_poi)
    assert str(caught.value) == f"the likelihood is not defined where the {fit} begins: {why}"


def test_a_kink_is_not_certified():
    kink = histosys("kink", [60.0, 52.0], [60.0, 52.0])
    specification = one_channel([2.0, 12.0], [50.0, 52.0], [49, 54], kink)
    with pytest.raises(
        CertificationError,
        match=r"^the \w+ (poi )?fit to \w+ ended at an estimated distance of \d\.\de[+-]\d+ to "
        r"its minimum, in twice the NLL$",
    ):
        Search(read(specification, histosys="code0"))
    assert Search(read(specification)).lowest.distance < CERTIFIED


@pytest.mark.parametrize("effort", EFFORTS)
def test_descents_that_end_too_early_are_not_certified(effort, monkeypatch):
    monkeypatch.setattr(newton, "MAX_STEPS", 1)
    with pytest.raises(CertificationError, match="ended at an estimated distance of"):
        Search(read(usual()), effort=EFFORTS[effort])


@pytest.mark.parametrize("name", sorted(ALL_FITS - {FREE_ASIMOV}))
def test_the_fit_that_ended_too_far_away_is_named(name, monkeypatch):
    certified = Search(read(usual()), effort=None).nominal.minima[name]
    minimize = newton.minimize

    def broken(*args):
        end = minimize(*args)
        is_it = end.value == pytest.approx(certified.value, abs=1e-9)
        return newton.replace(end, distance=2e-3) if is_it else end

    monkeypatch.setattr(newton, "minimize", broken)
    with pytest.raises(CertificationError) as caught:
        Search(read(usual()))
    assert str(caught.value) == (
        f"the {name.replace('_', ' ')} ended at an estimated distance of 2.0e-03 to its minimum, "
        "in twice the NLL"
    )
