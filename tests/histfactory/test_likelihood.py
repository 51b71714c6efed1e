"""The likelihood is pyhf's, its derivatives are its own, and nothing else matters to it."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace
from tests.histfactory.generated import (
    LUMI,
    MU,
    anywhere,
    by_pyhf,
    cases,
    code2_goes_through_minus_1,
    copied,
    factor,
    gammas,
    histosys,
    normsys,
    older_numpy,
    sample,
    seeds,
    smooth,
    twice_nll,
    workspace,
)

pytestmark = [pytest.mark.timeout(300), older_numpy]


def relaxed(examples):
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def by_hand(*args, **kwargs):
    return Likelihood(Workspace.from_json(workspace(*args, **kwargs)))


def comparable(case, point, alphas):
    """Return the point, or one at which pyhf's versions agree."""
    if case.histosys == "code2" and code2_goes_through_minus_1():
        point[:alphas] = np.maximum(point[:alphas], -1.0)
    return point


def points(case, likelihood, seed, count=3):
    """Return points in the bounds, the initial one, and one without a signal."""
    random = np.random.default_rng(seed)
    found = [likelihood.initial.copy()]
    found += [anywhere(likelihood, random) for _ in range(count)]
    found.append(found[-1].copy())
    found[-1][likelihood.poi] = 0.0
    return [comparable(case, point, likelihood.interpolated) for point in found]


def same(one, other):
    """Whether two evaluations have the same bits."""
    return one.value == other.value and all(
        np.array_equal(mine, theirs, equal_nan=True)
        for mine, theirs in zip(one[1:], other[1:], strict=True)
    )


def assert_close(one, other, rel=1e-12, size=0.0):
    """Hold two evaluations to be equal but for rounding."""
    assert one.value == pytest.approx(other.value, rel=rel, abs=rel * size)
    for mine, theirs in zip(one[1:], other[1:], strict=True):
        largest = np.abs(theirs).max(initial=0.0)
        assert mine == pytest.approx(theirs, rel=rel, abs=rel * (size + largest), nan_ok=True)


# --- pyhf ---------------------------------------------------------------------------------------


@relaxed(40)
@given(cases())
def test_parameters_and_data_are_those_of_pyhf(case):
    likelihood = case.ours()
    model, data = case.by_pyhf()
    order, config = likelihood.pyhf_order, model.config
    assert sorted(order) == list(range(len(likelihood)))
    assert [likelihood.names[index] for index in order] == config.par_names
    assert likelihood.initial[order].tolist() == config.suggested_init()
    bounds = np.column_stack((likelihood.lower, likelihood.upper))
    assert bounds[order].tolist() == [list(pair) for pair in config.suggested_bounds()]
    assert likelihood.fixed[order].tolist() == list(config.suggested_fixed())
    assert order[config.poi_index] == likelihood.poi
    assert likelihood.names[likelihood.poi].partition("[")[0] == case.config["poi"]
    events = likelihood.observed.main
    assert events.tolist() == data[: len(events)].tolist()
    constrained = order[likelihood.constrained[order]]
    auxiliary = likelihood.observed.auxiliary
    assert auxiliary[constrained] == pytest.approx(data[len(events) :], rel=1e-15)
    assert not auxiliary[~likelihood.constrained].any()
    widths = np.concatenate([[], *(config.param_set(n).width() for n in config.auxdata_order)])
    assert likelihood.width[constrained] == pytest.approx(widths, rel=1e-14)
    assert np.isinf(likelihood.width[~likelihood.constrained]).all()


@relaxed(70)
@given(cases(), seeds)
def test_twice_the_nll_is_that_of_pyhf(case, seed):
    likelihood = case.ours()
    model, data = case.by_pyhf()
    observed = likelihood.observed
    for point in points(case, likelihood, seed):
        theirs = twice_nll(model, point[likelihood.pyhf_order], data)
        value, gradient, hessian = likelihood.evaluate(point, observed)
        assert np.isfinite(theirs) == np.isfinite(value)
        if not np.isfinite(value):
            assert value == likelihood.value(point, observed) == np.inf
            assert np.isnan(gradient).all()
            assert np.isnan(hessian).all()
            continue
        ours, size = value + likelihood.saturated(observed), max(1.0, value)
        assert ours == pytest.approx(theirs, rel=1e-12, abs=likelihood.rounding + 1e-12 * size)
        expected = likelihood.expected(point)
        assert value >= 0 or (expected[observed.main == 0] < 0).any()
        assert np.isfinite(gradient).all()
        overflows = expected[observed.main > 0].min(initial=1.0) < 1e-150
        assert overflows or np.isfinite(hessian).all()
        assert likelihood.undefined_bins(point, observed) == []


@relaxed(40)
@given(cases(), seeds)
def test_each_sample_expects_in_each_bin_what_it_does_in_pyhf(case, seed):
    likelihood = case.ours()
    model, _data = case.by_pyhf()
    config, cells = model.config, likelihood.cells
    assert len(set(cells)) == len(cells)
    begin = {name: config.channel_slices[name].start for name in config.channels}
    assert likelihood.bins == [
        (c, i) for c in config.channels for i in range(config.channel_nbins[c])
    ]
    for point in points(case, likelihood, seed):
        with np.errstate(all="ignore"):
            theirs = model.main_model.expected_data(
                point[likelihood.pyhf_order], return_by_sample=True
            )
        ours = np.zeros_like(theirs)
        for (channel, name, index), rate in zip(cells, likelihood.rates(point), strict=True):
            ours[config.samples.index(name), begin[channel] + index] = rate
        size = 1e-13 * max(1.0, np.abs(theirs).max())
        assert ours == pytest.approx(theirs, rel=1e-12, abs=size)
        expected = likelihood.expected(point)
        assert expected == pytest.approx(theirs.sum(axis=0), rel=1e-12, abs=size)


@relaxed(40)
@given(cases(), seeds)
def test_asimov_data_are_what_pyhf_expects(case, seed):
    likelihood = case.ours()
    model, _data = case.by_pyhf()
    order = likelihood.pyhf_order
    truth, elsewhere = points(case, likelihood, seed)[2:4]
    with np.errstate(all="ignore"):
        theirs = np.array(model.expected_data(truth[order]))
    if (theirs[: len(likelihood.bins)] < 0).any():
        channel, index = likelihood.bins[int(np.argmin(theirs[: len(likelihood.bins)]))]
        with pytest.raises(InvalidModel, match=f" in bin {index} of the channel {channel}: its "):
            likelihood.asimov(truth)
        return
    data = likelihood.asimov(truth)
    ours = np.concatenate((data.main, data.auxiliary[order[likelihood.constrained[order]]]))
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-12)
    # The truth is the best that there is, and away from counts of 0 nothing slopes.
    value, gradient, hessian = likelihood.evaluate(truth, data)
    assert value == 0
    if (data.counts > 0).all():
        assert np.abs(gradient) == pytest.approx(0, abs=1e-11 * (1 + np.abs(hessian).max()))
    theirs = twice_nll(model, elsewhere[order], theirs)
    value = likelihood.value(elsewhere, data)
    assert np.isfinite(value) == np.isfinite(theirs)
    if np.isfinite(value):
        rounding = 1e-14 * np.sum(data.counts * np.log(np.maximum(data.counts, 2)))
        assert value >= 0
        assert value + likelihood.saturated(data) == pytest.approx(
            theirs, rel=1e-12, abs=rounding + 1e-12 * max(1.0, value)
        )


def test_no_events_are_likely_where_none_are_expected():
    likelihood = by_hand({"SR": [sample("s", [5.0, 0.0], MU)]}, {"SR": [4, 0]})
    for poi, expected in ((1.0, 5.0), (2.0, 10.0)):
        value, gradient, hessian = likelihood.evaluate(np.array([poi]), likelihood.observed)
        assert value == pytest.approx(2 * (expected - 4 + 4 * math.log(4 / expected)))
        assert gradient == pytest.approx([2 * (5 - 4 / poi)])
        assert hessian == pytest.approx(np.array([[2 * 4 / poi**2]]))


def test_a_negative_rate_counts_as_in_pyhf_where_there_are_no_events():
    down = histosys("a", [-8.0, 5.0], [14.0, 5.0])
    case = workspace({"SR": [sample("s", [3.0, 5.0], MU, down)]}, {"SR": [0, 4]})
    likelihood, (model, data) = Likelihood(Workspace.from_json(case)), by_pyhf(case)
    point = np.array([-1.0, 1.0])
    assert likelihood.names == ("a", "mu")
    assert likelihood.expected(point) == pytest.approx([-8, 5])
    ours = likelihood.evaluate(point, likelihood.observed).value
    assert ours < 0
    theirs = twice_nll(model, point[likelihood.pyhf_order], data)
    assert ours + likelihood.saturated(likelihood.observed) == pytest.approx(theirs, rel=1e-13)


# --- derivatives --------------------------------------------------------------------------------


def small_step(likelihood, point, data, index):
    """Return a change of a parameter that changes no rate by more than a thousandth."""
    moved, some = point.copy(), data.main > 0
    moved[index] += 1e-6
    before, after = likelihood.expected(point)[some], likelihood.expected(moved)[some]
    return 1e-3 / np.abs((after / before - 1) / 1e-6).max(initial=1.0)


def assert_derivatives(likelihood, point, data):
    """Compare with differences of fourth order of the value and of the gradient."""
    _value, gradient, hessian = likelihood.evaluate(point, data)
    assert np.abs(hessian - hessian.T).max() <= 1e-12 * np.abs(hessian).max()
    scale = np.sqrt(np.abs(np.diag(hessian))) + 1
    for index in range(len(point)):
        step, beside = small_step(likelihood, point, data, index), []
        for steps in (-2, -1, 1, 2):
            moved = point.copy()
            moved[index] += steps * step
            beside.append(likelihood.evaluate(moved, data))
        assert np.isfinite([one.value for one in beside]).all()
        weights = np.array([1, -8, 8, -1]) / (12 * step)
        slope = weights @ [one.value for one in beside]
        rounding = 1e-15 * max(abs(one.value) for one in beside) / step
        assert gradient[index] == pytest.approx(slope, rel=1e-7, abs=rounding + 1e-7 * scale[index])
        bend = weights @ np.array([one.gradient for one in beside])
        rounding = 1e-15 * max(np.abs(one.gradient).max() for one in beside) / step
        limit = rounding + 1e-7 * scale[index] * scale + 1e-7 * np.abs(bend)
        assert (np.abs(hessian[index] - bend) <= limit).all(), (likelihood.names[index], limit)


@relaxed(40)
@given(cases(), seeds)
def test_derivatives_are_those_of_the_value(case, seed):
    likelihood = case.ours()
    random = np.random.default_rng(seed)
    point = smooth(likelihood, random)
    free = ~likelihood.constrained & (random.random(len(point)) < 0.2)
    point[free] = 0.0
    data = likelihood.observed
    if not np.isfinite(likelihood.value(point, data)):
        point[free] = 1.0
        assume(np.isfinite(likelihood.value(point, data)))
    assert_derivatives(likelihood, point, data)


def with_everything():
    """All types of modifiers in each sample, three and more of them linear."""
    stat = {"name": "stat", "type": "staterror"}
    common = [factor("lumi", "lumi"), factor("normfactor", "k"), normsys("both", 0.8, 1.3)]
    signal = sample(
        "signal",
        [5.0, 8.0, 1.0],
        MU,
        *common,
        histosys("both", [4.0, 8.5, 1.1], [6.5, 7.0, 0.8]),
        histosys("shape", [5.5, 7.5, 1.1], [4.5, 8.6, 0.9]),
        {**stat, "data": [0.5, 0.4, 0.2]},
        factor("shapefactor", "free"),
        gammas("shapesys", "counts", [1.5, 2.0, 0.0]),
    )
    top = sample(
        "top",
        [50.0, 30.0, 2.0],
        *common,
        normsys("norm", 0.9, 1.2),
        histosys("shape", [45.0, 33.0, 2.2], [52.0, 29.0, 2.5]),
        {**stat, "data": [3.0, 2.0, 0.5]},
    )
    return workspace(
        {"SR": [signal, top], "CR": [sample("top", [90.0, 9.0, 3.0], *common)]},
        {"SR": [52, 41, 0], "CR": [101, 4, 3]},
        [LUMI],
    )


@pytest.mark.parametrize("histosys_code", ["code0", "code2", "code4p"])
@pytest.mark.parametrize("normsys_code", ["code1", "code4"])
@pytest.mark.parametrize("zeros", [(), ("mu",), ("mu", "free[1]"), ("mu", "k", "free[0]")])
def test_derivatives_are_right_with_every_modifier(normsys_code, histosys_code, zeros):
    read = Workspace.from_json(with_everything())
    likelihood = Likelihood(read, normsys=normsys_code, histosys=histosys_code)
    point = smooth(likelihood, np.random.default_rng(1))
    for name in zeros:
        point[likelihood.names.index(name)] = 0.0
    # Without k there is nothing at all, and so no events either.
    data = likelihood.observed
    if "k" in zeros:
        data = likelihood.data(np.zeros(len(likelihood.bins)), data.auxiliary)
    assert_derivatives(likelihood, point, data)


def test_a_poisson_constraint_without_events_has_derivatives_at_0():
    setting = {"name": "g", "auxdata": [0, 3], "bounds": [[0, 5], [0, 5]]}
    spec = workspace(
        {
            "SR": [
                sample("b", [9.0, 9.0], gammas("shapesys", "g", [3.0, 3.0])),
                sample("s", [1, 1], MU),
            ]
        },
        parameters=[setting],
    )
    likelihood = Likelihood(Workspace.from_json(spec))
    point = np.ones(3)
    point[likelihood.names.index("g[0]")] = 0.0
    assert_derivatives(likelihood, point, likelihood.observed)


def test_a_factor_that_the_interpolation_makes_negative_has_derivatives():
    """The polynomial of code4 overshoots."""
    samples = [sample("s", [5.0], MU, normsys("steep", 0.3, 90.0)), sample("b", [90.0])]
    likelihood = by_hand({"SR": samples}, {"SR": [80]})
    point = np.array([-0.35, 1.0])
    assert likelihood.names == ("steep", "mu")
    assert likelihood.rates(point)[1] < 0
    assert_derivatives(likelihood, point, likelihood.observed)


def test_where_a_hessian_overflows_nothing_is_certified():
    """The square of a rate is 0 there, so that the Newton step is 0 too."""
    samples = [sample("s", [0.0], MU, histosys("a", [0.0], [0.25]))]
    likelihood = by_hand({"SR": samples}, {"SR": [1]})
    point = np.array([1e-200, 1.0])
    value, gradient, hessian = likelihood.evaluate(point, likelihood.observed)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert np.isinf(hessian).any()
    bounds = np.column_stack((likelihood.lower, likelihood.upper))
    found = newton.minimize(
        lambda there: likelihood.evaluate(there, likelihood.observed),
        point,
        bounds,
        ~likelihood.fixed,
    )
    assert found.distance == np.inf


# --- nothing else matters -----------------------------------------------------------------------


@relaxed(40)
@given(cases(), seeds)
def test_the_value_is_that_of_the_evaluation_and_the_order_does_not_matter(case, seed):
    likelihood, fresh = case.ours(), case.ours()
    data = likelihood.observed
    where = points(case, likelihood, seed)
    first = [likelihood.evaluate(point, data) for point in where]
    values = [fresh.value(point, data) for point in where]
    assert values == [one.value for one in first]
    kept = [point.copy() for point in where]
    again = [fresh.evaluate(point, fresh.observed) for point in where[::-1]][::-1]
    assert all(map(same, first, again))
    assert all(np.array_equal(point, before) for point, before in zip(where, kept, strict=True))
    assert likelihood.saturated(data) == fresh.saturated(fresh.observed)
    assert np.array_equal(likelihood.off_minimum(), fresh.off_minimum(), equal_nan=True)


def patched(specification, random):
    """Return a workspace with another sample, or one less, that shares the rest."""
    channels = [{**one, "samples": [*one["samples"]]} for one in specification["channels"]]
    samples = channels[random.integers(len(channels))]["samples"]
    place = random.integers(len(samples))
    if random.random() < 0.3 and len(samples) > 1:
        del samples[place]
    else:
        new = copied(samples[place])
        new["data"] = [1.5 * rate + 0.1 for rate in new["data"]]
        if random.random() < 0.5:
            new["name"] = f"another{len(samples)}"
            new["modifiers"] = [
                m for m in new["modifiers"] if m["type"] not in ("shapesys", "staterror")
            ]
            samples.append(new)
        else:
            samples[place] = new
    return {**specification, "channels": [channels[i] for i in random.permutation(len(channels))]}


def made_or_told(case, background=None):
    """Return a likelihood, or why there is none: a staterror must be in the same channels."""
    try:
        return case.ours(background)
    except InvalidModel as error:
        return str(error)


@relaxed(40)
@given(cases(), seeds)
def test_what_is_shared_with_a_background_gives_the_same(case, seed):
    random = np.random.default_rng(seed)
    background = Workspace.from_json(case.specification)
    known = {id(s) for channel in background.channels for s in channel.samples}
    for _ in range(2):  # the second patch has the first as its background
        case = case.of(patched(case.specification, random))
        read = Workspace.from_json(case.specification, background)
        new = [s for channel in read.channels for s in channel.samples if id(s) not in known]
        assert len(new) <= 1
        known |= {id(one) for one in new}
        scratch = made_or_told(case.of(copied(case.specification)))
        shared = made_or_told(case, background)
        if isinstance(scratch, str):
            assert shared == scratch
            return
        assert shared.names == scratch.names
        for name in ("initial", "lower", "upper", "fixed", "pyhf_order", "idle", "width"):
            assert np.array_equal(getattr(shared, name), getattr(scratch, name))
        point = anywhere(scratch, random)
        assert same(
            shared.evaluate(point, shared.observed), scratch.evaluate(point, scratch.observed)
        )
        background = read


@relaxed(25)
@given(cases(), seeds)
def test_the_order_in_the_file_does_not_matter(case, seed):
    random = np.random.default_rng(seed)

    def shuffled(what):
        return [what[index] for index in random.permutation(len(what))]

    other = copied(case.specification)
    for channel in other["channels"]:
        for one in channel["samples"]:
            one["modifiers"] = shuffled(one["modifiers"])
        channel["samples"] = shuffled(channel["samples"])
    for name in ("channels", "observations"):
        other[name] = shuffled(other[name])
    for measurement in other["measurements"]:
        measurement["config"]["parameters"] = shuffled(measurement["config"]["parameters"])
    one, two = case.ours(), case.of(other).ours()
    assert one.names == two.names
    assert one.bins == two.bins
    assert one.cells == two.cells
    for point in points(case, one, seed):
        assert same(one.evaluate(point, one.observed), two.evaluate(point, two.observed))


@relaxed(25)
@given(cases(), seeds)
def test_names_of_parameters_do_not_matter(case, seed):
    random = np.random.default_rng(seed)
    one = case.ours()
    old = random.choice(one.names).partition("[")[0]
    new = random.choice(["AAA", "zzz", "m"])
    other = copied(case.specification)
    for channel in other["channels"]:
        for own in channel["samples"]:
            for modifier in own["modifiers"]:
                modifier["name"] = new if modifier["name"] == old else modifier["name"]
    for measurement in other["measurements"]:
        config = measurement["config"]
        config["poi"] = new if config["poi"] == old else config["poi"]
        for setting in config["parameters"]:
            setting["name"] = new if setting["name"] == old else setting["name"]
    two = case.of(other).ours()
    renamed = [
        new + name[len(old) :] if name.partition("[")[0] == old else name for name in one.names
    ]
    assert sorted(renamed) == sorted(two.names)
    place = np.array([two.names.index(name) for name in renamed])
    assert place[one.poi] == two.poi
    for name in ("initial", "lower", "upper", "fixed", "constrained", "width", "idle"):
        assert np.array_equal(getattr(one, name), getattr(two, name)[place])
    for point in points(case, one, seed):
        there = np.empty(len(point))
        there[place] = point
        value, gradient, hessian = two.evaluate(there, two.observed)
        moved = type(one.evaluate(point, one.observed))(
            value, gradient[place], hessian[np.ix_(place, place)]
        )
        assert_close(moved, one.evaluate(point, one.observed), rel=1e-11, size=1.0)


def signals(specification):
    return [
        own
        for channel in specification["channels"]
        for own in channel["samples"]
        if any(modifier["name"] == "mu" for modifier in own["modifiers"])
    ]


def doubled(own):
    """A sample with twice the rates, and the same relative uncertainties."""

    def twice(numbers):
        return [2 * number for number in numbers]

    own["data"] = twice(own["data"])
    for modifier in own["modifiers"]:
        if modifier["type"] == "histosys":
            modifier["data"] = {key: twice(data) for key, data in modifier["data"].items()}
        elif modifier["type"] == "shapesys":
            modifier["data"] = twice(modifier["data"])


@relaxed(25)
@given(cases(), seeds)
def test_twice_the_signal_is_the_signal_with_twice_the_strength(case, seed):
    once = copied(case.specification)
    for config in (measurement["config"] for measurement in once["measurements"]):
        config["poi"] = "mu"
        # What measurements say of gammas may be of some that are no longer there.
        config["parameters"] = [s for s in config["parameters"] if s["name"] == "lumi"]
    for own in signals(once):
        # A staterror is shared: its width would change.
        own["modifiers"] = [m for m in own["modifiers"] if m["type"] != "staterror"]
    twice = copied(once)
    for own in signals(twice):
        doubled(own)
    one, two = made_or_told(case.of(once)), made_or_told(case.of(twice))
    assume(not isinstance(one, str))
    assert one.names == two.names
    for point in points(case, one, seed):
        strong = point.copy()
        strong[one.poi] *= 2
        value, gradient, hessian = one.evaluate(strong, one.observed)
        gradient[one.poi] *= 2
        hessian[one.poi] *= 2
        hessian[:, one.poi] *= 2
        assert_close(
            type(two.evaluate(point, two.observed))(value, gradient, hessian),
            two.evaluate(point, two.observed),
            rel=1e-11,
            size=1.0,
        )


# --- large and small numbers --------------------------------------------------------------------


def exactly(events, rate):
    """Return twice the Poisson term, and that at its smallest, to 40 digits."""
    with localcontext() as context:
        context.prec = 60
        n, nu = Decimal(events), Decimal(rate)
        term = 2 * (nu - n + (n * (n / nu).ln() if events else 0))
        count = Decimal(math.factorial(events))
        smallest = 2 * (n - (n * n.ln() if events else 0) + count.ln())
    return float(term), float(smallest)


@pytest.mark.parametrize("events", [0, 1, 2, 9, 63, 64, 65, 100, 1000, 20000])
def test_a_poisson_term_is_right_to_the_last_digits(events):
    likelihood = by_hand({"SR": [sample("s", [1.0], MU)]}, {"SR": [events]})
    for far in (1e-9, 1e-6, 1e-3, 0.1, 2.0, -1e-9, -1e-6, -1e-3, -0.5):
        rate = (events or 1) * (1 + far)
        term, smallest = exactly(events, rate)
        point = np.array([rate])
        # What the rate itself is rounded to is part of the point.
        assert likelihood.evaluate(point, likelihood.observed).value == pytest.approx(
            term, rel=1e-9 if abs(far) < 1e-5 else 1e-12
        )
        assert likelihood.saturated(likelihood.observed) == pytest.approx(
            smallest, rel=2e-14, abs=1e-15
        )


def test_a_tiny_uncertainty_is_not_drowned_in_rounding():
    """A shapesys of 2e-6 is a Poisson term of 2.5e11 events."""
    tiny = gammas("shapesys", "tiny", [1e-4])
    spec = workspace({"SR": [sample("s", [5.0], MU), sample("b", [50.0], tiny)]}, {"SR": [52]})
    likelihood, (model, data) = Likelihood(Workspace.from_json(spec)), by_pyhf(spec)
    gamma = 1 - likelihood.poi
    centre = likelihood.evaluate(np.ones(2), likelihood.observed)
    assert centre.hessian[gamma, gamma] == pytest.approx(2 * data[-1], rel=1e-6)
    assert 1e-4 < likelihood.rounding < 1
    saturated = likelihood.saturated(likelihood.observed)
    for pull in (0.001, 0.01, 0.1, 1.0, -0.001, -0.3, -1.0):
        point = np.ones(2)
        point[gamma] += 2e-6 * pull
        moved = point[gamma] - 1  # as it is rounded
        value, gradient, _hessian = likelihood.evaluate(point, likelihood.observed)
        change = centre.gradient[gamma] * moved + centre.hessian[gamma, gamma] * moved**2 / 2
        assert value - centre.value == pytest.approx(change, rel=1e-4, abs=1e-13)
        assert gradient[gamma] - centre.gradient[gamma] == pytest.approx(
            centre.hessian[gamma, gamma] * moved, rel=1e-4, abs=1e-3
        )
        theirs = twice_nll(model, point[likelihood.pyhf_order], data)
        assert value + saturated == pytest.approx(theirs, abs=likelihood.rounding)


# --- what else a likelihood says ----------------------------------------------------------------


def test_what_is_undefined_is_reported_with_the_bin_and_its_samples():
    samples = [sample("s", [5.0, 0.0], MU), sample("b", [20.0, 0.0], normsys("n", 0.9, 1.1))]
    likelihood = by_hand({"CR": [sample("b", [9.0])], "SR": samples}, {"CR": [8], "SR": [24, 3]})
    point = likelihood.initial
    assert likelihood.value(point, likelihood.observed) == np.inf
    assert likelihood.undefined_bins(point, likelihood.observed) == [
        ("bin 1 of the channel SR has 3 events, where 0 are expected (b 0, s 0)", True)
    ]
    assert np.isnan(likelihood.off_minimum())
    data = likelihood.data(np.array([8.0, 24.0, 0.0]), likelihood.observed.auxiliary)
    assert likelihood.undefined_bins(point, data) == []
    assert np.isfinite(likelihood.value(point, data))
    assert np.isnan(likelihood.evaluate(point, likelihood.observed).hessian).all()


def test_the_samples_of_an_undefined_bin_are_reported_with_what_they_expect():
    down = histosys("a", [-8.0], [14.0])
    likelihood = by_hand({"SR": [sample("s", [3.0], MU, down), sample("b", [2.0])]}, {"SR": [7]})
    assert likelihood.undefined_bins(np.array([-1.0, 1.0]), likelihood.observed) == [
        ("bin 0 of the channel SR has 7 events, where -6 are expected (b 2, s -8)", False)
    ]


def test_asimov_data_have_no_negative_events():
    down = histosys("a", [4.0, -8.0], [4.0, 14.0])
    likelihood = by_hand({"SR": [sample("s", [4.0, 3.0], MU, down)]}, {"SR": [4, 0]})
    with pytest.raises(
        InvalidModel,
        match=r"^the Asimov data have -8 events in bin 1 of the channel SR: its rate is negative",
    ):
        likelihood.asimov(np.array([-1.0, 1.0]))
    assert likelihood.asimov(np.array([-0.1, 1.0])).main[0] == 4


def test_off_minimum_is_a_value_of_pyhf_and_depends_on_the_model_alone():
    spec = with_everything()
    likelihood, (model, data) = Likelihood(Workspace.from_json(spec)), by_pyhf(spec)
    assert likelihood.off_minimum() == Likelihood(Workspace.from_json(spec)).off_minimum()
    start = twice_nll(model, model.config.suggested_init(), data)
    assert start < likelihood.off_minimum() < start + 1000


@relaxed(30)
@given(cases(), seeds)
def test_idle_parameters_change_nothing(case, seed):
    likelihood = case.ours()
    assert not (likelihood.idle & likelihood.constrained).any()
    one, other = points(case, likelihood, seed)[1:3]
    moved = np.where(likelihood.idle, other, one)
    assert np.array_equal(likelihood.rates(one), likelihood.rates(moved))
    assert likelihood.value(one, likelihood.observed) == likelihood.value(
        moved, likelihood.observed
    )


def test_a_factor_of_what_is_0_is_idle():
    nothing = sample("n", [0.0, 0.0], factor("normfactor", "k"), factor("shapefactor", "f"))
    shifted = sample("m", [0.0, 0.0], factor("normfactor", "l"), histosys("a", [0, 0], [0, 1]))
    signal = sample("s", [0.0, 5.0], MU, factor("shapefactor", "g"), normsys("b", 0.9, 1.1))
    likelihood = by_hand({"SR": [nothing, shifted, signal]}, {"SR": [0, 5]})
    idle = [name for name, what in zip(likelihood.names, likelihood.idle, strict=True) if what]
    assert idle == ["k", "f[0]", "f[1]", "g[0]"]


def test_bends_are_what_variations_to_both_sides_have_in_common():
    bent, straight = (
        histosys("bent", [14.0, 9.0], [12.0, 9.0]),
        histosys("a", [8.0, 9.0], [12.0, 9.0]),
    )
    samples = [sample("b", [10.0, 9.0], bent, straight), sample("s", [0.0, 0.0], MU)]
    likelihood = by_hand({"SR": samples})
    assert likelihood.names == ("a", "bent", "mu")
    bends = likelihood.bends(np.array([0.0, 0.0, 1.0]))
    assert bends == pytest.approx([0, 3 / math.sqrt(10), 0])
    both = [sample("b", [10.0, 9.0], normsys("n", 1.2, 1.4)), sample("s", [0.0, 0.0], MU)]
    bends = by_hand({"SR": both}).bends(np.array([0.0, 1.0]))
    assert bends == pytest.approx([math.sqrt(0.09 * 10 + 0.09 * 9), 0])
