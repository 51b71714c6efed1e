"""Upper limits are where CLs is at the level, as pyhf has them, whatever was tested before."""

import re
from dataclasses import replace

import numpy as np
import pyhf
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_pyhf_faas.histfactory.errors import CertificationError, InvalidModel
from pytest_pyhf_faas.histfactory.limits import MIXED, _Profile, observed_limit, upper_limits
from pytest_pyhf_faas.histfactory.minima import CERTIFIED
from pytest_pyhf_faas.histfactory.search import BRIEF, FIXED, THOROUGH, Search
from tests.histfactory.generated import by_pyhf, copied, factor, histosys, normsys
from tests.histfactory.test_search import (
    crooked,
    flipping,
    one_channel,
    read,
    relaxed,
    two_sided,
    usual,
    without_signal,
)

pytestmark = pytest.mark.timeout(300)

SETS = ("lowest", "nominal")


def limits_of(specification, which="lowest", test_poi=1.0, effort=THOROUGH, **options):
    return upper_limits(Search(read(specification), test_poi, effort=effort), which, **options)


def six(limits):
    return (limits.observed, *limits.expected)


def scaled(specification, factor):
    """The same with a larger signal."""
    specification = copied(specification)
    for channel in specification["channels"]:
        for sample in channel["samples"]:
            if sample["name"] == "signal":
                sample["data"] = [factor * rate for rate in sample["data"]]
    return specification


def test_limits_are_those_of_pyhf():
    specification = usual()
    model, data = by_pyhf(specification)
    before = pyhf.get_backend()
    pyhf.set_backend("numpy", pyhf.optimize.scipy_optimizer(tolerance=1e-10))
    try:
        upper_limit = pyhf.infer.intervals.upper_limits.upper_limit
        observed, expected = upper_limit(data, model, rtol=1e-7)
    finally:
        pyhf.set_backend(*before)
    limits = limits_of(specification)
    assert six(limits) == pytest.approx([float(observed), *map(float, expected)], rel=1e-5)
    assert limits.remarks == ()


@st.composite
def smooth(draw):
    """A workspace with one minimum and limits within the bounds of the POI, 0 and 10."""
    background = draw(st.lists(st.integers(5, 60), min_size=1, max_size=3))
    return one_channel(
        [float(draw(st.integers(5, 20))) for _ in background],
        [float(rate) for rate in background],
        [max(0, rate + draw(st.integers(-9, 9))) for rate in background],
        normsys("scale", 1 - draw(st.floats(0.01, 0.2)), 1 + draw(st.floats(0.01, 0.2))),
    )


@relaxed(8)
@given(smooth(), st.sampled_from(["qtilde", "q"]))
def test_limits_of_small_models_are_those_of_pyhf(specification, test_stat):
    """pyhf's own search ends within 1e-4 of a limit; 0.7 leaves `level` out of account."""
    model, data = by_pyhf(specification)
    try:
        with np.errstate(divide="ignore", invalid="ignore"):
            observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(
                data, model, test_stat=test_stat
            )
    except ValueError as error:  # pyhf begins at 0, where its CLs may be 0/0
        assert "NaN" in str(error)  # noqa: PT017
        assume(False)
    limits = upper_limits(Search(read(specification), 1.0, test_stat, effort=BRIEF))
    assert six(limits) == pytest.approx([float(observed), *map(float, expected)], rel=1e-3)
    assert limits.remarks == ()


def test_a_poi_that_may_be_negative_matters_to_q_alone():
    """A free fit below 0 excludes more; the expected limits know of no such fit."""
    deficit = one_channel([10.0], [50.0], [35], normsys("scale", 0.9, 1.1))
    negative = with_bounds(deficit, -5.0, 10.0)
    tilde = limits_of(deficit)
    (limits,) = (upper_limits(Search(read(negative), 1.0, "q", effort=THOROUGH)),)
    assert limits.observed < 0.99 * tilde.observed
    assert limits.expected == pytest.approx(tilde.expected, rel=3e-6)
    model, data = by_pyhf(negative)
    cls = pyhf.infer.hypotest(limits.observed, data, model, test_stat="q")
    assert float(cls) == pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("level", [0.05, 0.32])
@pytest.mark.parametrize("which", SETS)
@pytest.mark.parametrize("make", [usual, two_sided, flipping])
def test_a_search_at_the_limit_has_cls_at_the_level(make, which, level):
    specification = make()
    limits = limits_of(specification, which, level=level)
    assert limits.distance < CERTIFIED
    for index, limit in enumerate(six(limits)):
        found = getattr(Search(read(specification), limit, effort=THOROUGH), which)
        assert found.cls[index] == pytest.approx(level, rel=1e-4)


def test_a_guess_that_comes_again_is_no_limit():
    """Four values were nearer to the level than the one at the guess, which was 9.54."""
    both = histosys("p0", [17.0, 22.0], [15.0, 7.0])
    steep = one_channel([0.0, 6.0], [15.0, 15.0], [15, 31], both)
    limits = limits_of(steep, "nominal", 0.4, BRIEF)
    found = Search(read(steep), limits.observed, effort=None).nominal
    assert found.cls[0] == pytest.approx(0.05, rel=1e-5)


@relaxed(25)
@given(crooked(), st.sampled_from([0.4, 1.0, 3.0]))
def test_what_holds_of_all_limits(specification, test_poi):
    try:
        search = Search(read(specification), test_poi, effort=BRIEF)
        limits = upper_limits(search, "nominal")
    except CertificationError:
        assume(False)
    assume(all(limit is not None for limit in six(limits)))
    assert list(limits.expected) == sorted(limits.expected)
    pois = [point[0] for point in limits.scan]
    assert pois == sorted(pois)
    assume(not limits.remarks)
    for index, limit in enumerate(six(limits)):
        # Between the values that were tested the limit is where CLs crosses the level.
        above = max(point[0] for point in limits.scan if point[1 + index] > 0.05)
        below = min(point[0] for point in limits.scan if point[1 + index] <= 0.05)
        assert above <= limit * (1 + 1e-6)
        assert below >= limit * (1 - 1e-6)
        found = Search(read(specification), limit, effort=None).nominal
        assert found.cls[index] == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 0.1, 30.0, 1e4, 1e8, 1e12])
def test_a_signal_of_another_cross_section_has_the_same_limit_on_the_product(scale):
    """Limits of 1e-12 and of 1e9 included."""
    limits, others = limits_of(usual()), limits_of(scaled(usual(), scale))
    assert np.multiply(six(others), scale) == pytest.approx(six(limits), rel=3e-6)
    assert any("lie beyond the upper bound of mu, 10" in r for r in others.remarks) == (scale < 0.2)
    assert len(others.scan) < 20


@pytest.mark.parametrize("which", SETS)
def test_limits_do_not_depend_on_what_was_tested(which):
    first = six(limits_of(usual(), which))
    for test_poi in (0.0, 0.1, 3.0, 10.0):
        assert six(limits_of(usual(), which, test_poi)) == pytest.approx(first, rel=3e-6)


@pytest.mark.parametrize("which", SETS)
def test_the_same_limits_to_the_last_bit(which):
    search = Search(read(flipping()), effort=BRIEF)
    assert upper_limits(search, which) == upper_limits(search, which)


def test_the_two_sets_have_limits_of_their_own():
    search = Search(read(flipping()), effort=THOROUGH)
    lowest, nominal = (upper_limits(search, which).observed for which in SETS)
    assert nominal < 1 < lowest  # as CLs at 1 says, too


def test_each_fit_may_have_minima_of_its_own():
    search = Search(read(flipping()), effort=THOROUGH)
    lowest, nominal = (upper_limits(search, which) for which in SETS)
    for which, expected in zip(SETS, (lowest, nominal), strict=True):
        assert upper_limits(search, dict.fromkeys(MIXED, which)) == expected
    mixed = upper_limits(search, dict.fromkeys(MIXED, "lowest") | {FIXED: "nominal"})
    # The fit with a fixed POI ends higher, so that more is excluded; what is expected stays.
    assert mixed.observed < lowest.observed
    assert mixed.expected == pytest.approx(lowest.expected)


@pytest.mark.parametrize("which", [*SETS, dict.fromkeys(MIXED, "nominal") | {FIXED: "lowest"}])
@pytest.mark.parametrize("make", [usual, two_sided, flipping])
def test_the_observed_limit_may_be_had_alone(make, which):
    search = Search(read(make()))
    alone = observed_limit(search, which)
    assert alone == pytest.approx(upper_limits(search, which).observed, rel=2e-6)


def test_without_a_signal_there_is_no_limit():
    limits = limits_of(without_signal())
    assert six(limits) == (None,) * 6
    assert limits.remarks == ("no upper limit: the likelihood does not depend on mu",)


def test_an_excess_beyond_the_bound_of_the_poi_is_fitted():
    """With the free fit at the bound CLs would be too small above it."""
    excess = one_channel([2.0, 1.0], [10.0, 10.0], [52, 31])
    limits = limits_of(excess)
    assert limits.observed > 20
    assert limits.remarks[0] == (
        "the free fit has mu at its upper bound 10: the bound was widened to 40"
    )
    wide = with_bounds(excess, 0.0, 1000.0)
    assert six(limits) == pytest.approx(six(limits_of(wide)), rel=3e-6)
    assert limits_of(wide).remarks == ()


def with_bounds(specification, low, high):
    specification = copied(specification)
    specification["measurements"][0]["config"]["parameters"].append(
        {"name": "mu", "bounds": [[low, high]], "inits": [(low + high) / 2]}
    )
    return specification


def test_limits_far_beyond_a_narrow_bound_of_the_poi():
    narrow = Search(read(with_bounds(usual(), 0.0, 0.01)), 0.005, effort=THOROUGH)
    limits = upper_limits(narrow)
    assert six(limits) == pytest.approx(six(limits_of(usual())), rel=3e-6)
    widened, beyond = limits.remarks
    assert widened.startswith("the free fit has mu at its upper bound 0.01: the bound was widened")
    assert beyond == "6 of 6 limits lie beyond the upper bound of mu, 0.01"


def test_a_poi_that_cannot_be_0_has_no_limit_to_be_calculated():
    """The background fit has it at 0."""
    with pytest.raises(InvalidModel, match=r"mu at 0, which lies outside of its bounds, 0\.5"):
        limits_of(with_bounds(usual(), 0.5, 10.0))


def test_a_background_that_takes_the_place_of_the_signal_up_to_some_poi():
    """Below, the likelihood does not depend on the POI: at 1, where the test is, as well."""
    absorbed = one_channel([10.0], [50.0], [50], factor("normfactor", "k"))
    model, data = by_pyhf(absorbed)
    observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model, rtol=1e-7)
    limits = limits_of(absorbed)
    assert limits.observed > 5
    assert six(limits) == pytest.approx([float(observed), *map(float, expected)], rel=1e-5)


def test_a_signal_may_take_events_away():
    """pyhf asks for values of the POI where a rate is negative, and finds no limit."""
    negative = one_channel([-20.0, 1.0], [30.0, 30.0], [30, 30], normsys("scale", 0.9, 1.1))
    limits = limits_of(negative)
    assert limits.remarks == ()
    for index, limit in enumerate(six(limits)):
        found = Search(read(negative), limit, effort=THOROUGH).lowest
        assert found.cls[index] == pytest.approx(0.05, rel=1e-4)


def test_where_the_likelihood_is_not_defined_all_is_excluded_and_said_to_be():
    nothing_seen = one_channel([-20.0, 1.0], [30.0, 30.0], [0, 30], normsys("scale", 0.9, 1.1))
    limits = limits_of(nothing_seen)
    assert max(limits.expected) < 1.5
    held, undefined = limits.remarks
    assert held.endswith("and still ends there: the observed limit may be too small")
    assert undefined == (
        "with mu at 2.42 the likelihood is not defined, as where a rate is negative: this value "
        "and larger ones count as excluded"
    )


def test_a_cls_that_rises_again_is_said_to():
    """Where more signal is moved away by a variation than is gained."""
    varied = histosys("both", [36.0, 48.0], [45.0, 46.0])
    crossed = one_channel([29.0, -10.0], [32.0, 29.0], [50, 39], varied)
    limits = limits_of(crossed)
    (remark,) = (remark for remark in limits.remarks if "the observed CLs" in remark)
    said = r"the observed CLs is not monotonic: it rises from mu = ([\d.]+) to ([\d.]+); the limit"
    low, high = (float(place) for place in re.match(said, remark).groups())
    before, after, at, beyond = (
        Search(read(crossed), poi, effort=THOROUGH).lowest.cls[0]
        for poi in (low, high, limits.observed, 1.5 * limits.observed)
    )
    assert before < after
    assert at == pytest.approx(0.05, rel=1e-4)
    assert beyond < 0.05


def test_a_limit_of_0_is_said_to_be_one(monkeypatch):
    """As where the fits to the Asimov data all end far above the minimum they were made from."""
    at, search = _Profile.at, Search(read(usual()), effort=BRIEF)

    def far_above(profile, poi):
        return replace(at(profile, poi), value=at(profile, poi).value + 300.0)

    monkeypatch.setattr(_Profile, "at", far_above)
    limits = upper_limits(search)
    assert limits.expected == (0.0,) * 5
    said = r"the expected limit is 0: CLs is below 0\.05 down to mu = \S+"
    assert any(re.fullmatch(said, remark) for remark in limits.remarks)


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0, 2.0, float("nan")])
def test_the_level_is_a_share(level):
    with pytest.raises(ValueError, match=r"level of CLs at the limit is \S+: it must lie between"):
        limits_of(usual(), level=level)


def test_a_limit_at_a_jump_of_cls_is_said_to_be_there(monkeypatch):
    """As where descents from pyhf's initial values end at another minimum from there on."""
    search = Search(read(usual()), effort=BRIEF)
    smooth = upper_limits(search, "nominal")
    place, at = 0.99 * smooth.observed, _Profile.at

    def jumping(profile, poi):
        found, observed = at(profile, poi), profile._data is search.likelihood.observed
        return replace(found, value=found.value + 0.2) if observed and poi > place else found

    monkeypatch.setattr(_Profile, "at", jumping)
    found = upper_limits(search, "nominal")
    assert found.observed == pytest.approx(place, rel=1e-6)
    assert found.expected == pytest.approx(smooth.expected, rel=1e-6)
    (remark,) = found.remarks
    assert re.fullmatch(
        r"the observed limit is where CLs jumps from 0\.0\d+ to 0\.0\d+: from there on a fit ends "
        r"at another minimum",
        remark,
    )


def test_discovery_has_no_upper_limit():
    with pytest.raises(ValueError, match="q0, has no upper limit"):
        upper_limits(Search(read(usual()), 0.0, "q0"))
