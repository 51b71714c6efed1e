"""Parameters are pyhf's, and what makes no sense is told by name."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace
from tests.histfactory.generated import (
    LUMI,
    MU,
    by_pyhf,
    factor,
    gammas,
    histosys,
    normsys,
    older_numpy,
    pyhf_refuses,
    sample,
    twice_nll,
    workspace,
)

pytestmark = older_numpy


LUMINOSITY = factor("lumi", "lumi")
ALL = (
    normsys("alpha", 0.9, 1.2),
    histosys("beta", [45.0, 50.0], [52.0, 57.0]),
    LUMINOSITY,
    factor("normfactor", "k"),
    factor("shapefactor", "free"),
    gammas("shapesys", "counts", [5.0, 6.0]),
    gammas("staterror", "stat", [2.0, 3.0]),
)


def with_background(*modifiers, parameters=(), poi="mu", rates=(50.0, 52.0)):
    samples = [sample("signal", [5.0, 8.0], MU), sample("b", list(rates), *modifiers)]
    return workspace({"SR": samples}, {"SR": [51, 57]}, parameters, poi)


def with_all(*parameters, lumi=LUMI, poi="mu"):
    return with_background(*ALL, parameters=[*parameters, *([lumi] if lumi else [])], poi=poi)


def told(specification):
    with pytest.raises(InvalidModel) as caught:
        Likelihood(Workspace.from_json(specification))
    return str(caught.value)


def accepted(specification):
    """Return a likelihood that is pyhf's."""
    likelihood = Likelihood(Workspace.from_json(specification))
    model, data = by_pyhf(specification)
    order, config = likelihood.pyhf_order, model.config
    assert [likelihood.names[index] for index in order] == config.par_names
    assert likelihood.initial[order].tolist() == config.suggested_init()
    assert likelihood.fixed[order].tolist() == list(config.suggested_fixed())
    bounds = np.column_stack((likelihood.lower, likelihood.upper))[order]
    assert bounds.tolist() == [list(pair) for pair in config.suggested_bounds()]
    shares = 0.1 * np.cos(np.arange(len(likelihood)))
    for point in (likelihood.initial, likelihood.initial + shares):
        ours = likelihood.value(point, likelihood.observed)
        ours += likelihood.saturated(likelihood.observed)
        assert ours == pytest.approx(twice_nll(model, point[order], data), rel=1e-12)
    return likelihood


def parameter(likelihood, name):
    return likelihood.names.index(name)


# --- the parameter of interest ------------------------------------------------------------------


def test_a_patch_has_no_signal():
    specification = with_background(normsys("alpha", 0.9, 1.2))
    del specification["channels"][0]["samples"][0]
    assert told(specification) == (
        "the parameter of interest 'mu' is not a parameter of the model: no modifier of that name "
        "is there, as in a patch without a signal"
    )
    assert pyhf_refuses(specification)


def test_there_must_be_a_parameter_of_interest():
    """A fit can do without in pyhf, a test of a hypothesis cannot."""
    specification = with_all(poi="")
    assert told(specification).startswith("the parameter of interest '' is not a parameter")
    assert not pyhf_refuses(specification)


@pytest.mark.parametrize("name", ["free", "counts", "stat"])
def test_a_parameter_of_interest_is_one_number(name):
    specification = with_all(poi=name)
    assert told(specification) == f"the parameter of interest {name} has 2 components"
    assert pyhf_refuses(specification)


@pytest.mark.parametrize("name", ["alpha", "beta", "lumi", "k"])
def test_a_parameter_of_interest_may_be_constrained(name):
    likelihood = accepted(with_all(poi=name))
    assert likelihood.names[likelihood.poi] == name


def test_a_parameter_of_interest_may_be_that_of_one_bin():
    samples = [sample("b", [50.0], factor("shapefactor", "free")), sample("s", [5.0], MU)]
    likelihood = accepted(workspace({"SR": samples}, {"SR": [51]}, poi="free"))
    assert likelihood.names[likelihood.poi] == "free[0]"


def test_there_are_no_parameters():
    specification = workspace({"SR": [sample("b", [5.0])]})
    assert told(specification) == "the workspace has no parameters"
    assert pyhf_refuses(specification)


# --- names --------------------------------------------------------------------------------------


def test_a_normsys_and_a_histosys_share_a_parameter():
    likelihood = accepted(
        with_background(normsys("alpha", 0.9, 1.2), histosys("alpha", [45.0, 50.0], [52.0, 57.0]))
    )
    assert likelihood.names == ("alpha", "mu")


@pytest.mark.parametrize(
    ("kinds", "owner", "other"),
    [
        ((factor("normfactor", "m"), normsys("m", 0.9, 1.1)), "normfactor", "normsys"),
        ((factor("normfactor", "m"), histosys("m", [9], [8])), "histosys", "normfactor"),
        ((factor("normfactor", "m"), factor("shapefactor", "m")), "normfactor", "shapefactor"),
        ((gammas("shapesys", "m", [1]), gammas("staterror", "m", [1])), "shapesys", "staterror"),
        ((normsys("m", 0.9, 1.1), gammas("staterror", "m", [1])), "normsys", "staterror"),
        ((factor("shapefactor", "m"), gammas("shapesys", "m", [1])), "shapefactor", "shapesys"),
        ((LUMINOSITY, factor("normfactor", "lumi")), "lumi", "normfactor"),
        ((LUMINOSITY, normsys("lumi", 0.9, 1.1)), "lumi", "normsys"),
    ],
)
def test_other_types_share_no_parameter(kinds, owner, other):
    name = kinds[0]["name"]
    samples = [sample("b", [50.0], *kinds), sample("s", [5.0], MU)]
    specification = workspace({"SR": samples}, parameters=[LUMI] if name == "lumi" else [])
    assert told(specification) == (
        f"the name {name} belongs to a {owner} and to a {other}, whose parameters "
        "differ: rename one of them"
    )
    assert pyhf_refuses(specification)


def test_the_types_of_one_name_may_be_of_different_samples():
    specification = with_background(normsys("mu", 0.9, 1.1))
    assert "mu belongs to a normfactor and to a normsys" in told(specification)
    assert pyhf_refuses(specification)


def test_a_shapesys_is_not_shared():
    counts = gammas("shapesys", "counts", [5.0, 6.0])
    specification = workspace(
        {"CR": [sample("b", [7.0, 9.0], counts)], "SR": [sample("s", [5.0, 8.0], MU, counts)]}
    )
    assert told(specification) == (
        "the shapesys counts of the sample s of the channel SR has the name of another one: "
        "rename it, for a shapesys cannot be shared"
    )
    assert pyhf_refuses(specification)


def test_names_with_an_index_may_look_alike():
    specification = with_background(
        gammas("staterror", "stat", [2.0, 3.0]), normsys("stat[1]", 0.9, 1.2)
    )
    assert accepted(specification).names == ("stat[1]", "mu", "stat[0]", "stat[1]")


# --- several channels ---------------------------------------------------------------------------


def test_a_staterror_is_in_the_same_channels_for_all_its_samples():
    stat = gammas("staterror", "stat", [2.0])
    specification = workspace(
        {
            "CR": [sample("b", [9.0], stat), sample("c", [3.0])],
            "SR": [sample("b", [9.0], stat), sample("c", [3.0], stat), sample("s", [1.0], MU)],
        }
    )
    assert told(specification) == (
        "the staterror stat is in the channels CR, SR for the sample b, and in SR for c: it must "
        "be in the same channels"
    )
    assert pyhf_refuses(specification)
    specification["channels"][0]["samples"][1]["modifiers"].append(stat)
    assert accepted(specification).names == ("mu", "stat[0]", "stat[1]")


def test_a_shapefactor_has_the_bins_of_its_first_channel():
    free = factor("shapefactor", "free")
    specification = workspace(
        {
            "CR": [sample("b", [9.0, 8.0], free)],
            "SR": [sample("b", [9.0, 8.0, 7.0], free), sample("s", [1.0, 1.0, 1.0], MU)],
        }
    )
    assert told(specification) == (
        "the shapefactor free has 2 bins in the channel CR, and 3 in SR: pyhf has no parameters "
        "for the rest"
    )
    # There pyhf has the first parameter of all, whatever it is.
    assert not pyhf_refuses(specification)
    model, _data = by_pyhf(specification)
    assert model.config.par_names == ["mu", "free[0]", "free[1]"]
    before = model.expected_actualdata([1.0, 1.0, 1.0])
    assert (model.expected_actualdata([2.0, 1.0, 1.0]) - before).tolist() == [0, 0, 1, 1, 8]


def test_a_shapefactor_may_have_less_bins_in_other_channels():
    free = factor("shapefactor", "free")
    specification = workspace(
        {
            "CR": [sample("b", [9.0, 8.0, 4.0], free)],
            "SR": [sample("b", [9.0, 8.0], free), sample("s", [1.0, 1.0], MU)],
        }
    )
    assert accepted(specification).names == ("mu", "free[0]", "free[1]", "free[2]")


def test_bins_without_an_uncertainty_do_not_float():
    likelihood = accepted(
        with_background(
            gammas("shapesys", "counts", [5.0, 0.0]),
            gammas("staterror", "stat", [0.0, 3.0]),
            rates=(0.0, 52.0),
        )
    )
    fixed = dict(zip(likelihood.names, likelihood.fixed, strict=True))
    assert fixed == {
        "mu": False,
        "counts[0]": True,  # 0 events with an uncertainty
        "counts[1]": True,
        "stat[0]": True,
        "stat[1]": False,
    }


# --- what a measurement says --------------------------------------------------------------------


def test_a_parameter_is_configured_twice():
    specification = with_all({"name": "k", "inits": [1.0]}, {"name": "k", "fixed": True})
    assert told(specification) == "the measurement configures the parameter k twice"
    assert pyhf_refuses(specification)


def test_a_parameter_that_is_not_there_may_be_configured():
    assert "absent" not in accepted(with_all({"name": "absent", "inits": [1.0] * 3})).names


@pytest.mark.parametrize("missing", [("inits",), ("bounds",), ("auxdata",), ("inits", "auxdata")])
def test_the_luminosity_needs_settings(missing):
    setting = {key: value for key, value in LUMI.items() if key not in missing}
    specification = with_all(lumi=setting)
    assert told(specification) == (
        f"the measurement gives no {', '.join(missing)} for the luminosity lumi: add them to its "
        "parameters"
    )
    assert pyhf_refuses(specification)


def test_the_luminosity_has_no_settings_at_all():
    specification = with_all(lumi=None)
    assert told(specification).startswith("the measurement gives no inits, bounds, auxdata for the")
    assert pyhf_refuses(specification)


def test_the_luminosity_has_a_width_of_1_if_it_has_none():
    setting = {key: value for key, value in LUMI.items() if key != "sigmas"}
    likelihood = accepted(with_all(lumi=setting))
    assert likelihood.width[parameter(likelihood, "lumi")] == 1


@pytest.mark.parametrize("sigma", [0.0, -0.02])
def test_the_luminosity_has_a_positive_width(sigma):
    specification = with_all(lumi={**LUMI, "sigmas": [sigma]})
    assert told(specification) == (
        f"the parameter lumi has a constraint of the width {sigma:g}: it must be positive"
    )
    assert pyhf_refuses(specification)


def test_a_staterror_has_positive_widths():
    specification = with_all({"name": "stat", "sigmas": [0.1, 0.0]})
    assert told(specification).startswith("the parameter stat has a constraint of the width 0:")
    assert pyhf_refuses(specification)


@pytest.mark.parametrize("key", ["inits", "bounds", "auxdata", "sigmas", "factors"])
@pytest.mark.parametrize("name", ["alpha", "mu", "lumi", "free", "counts", "stat"])
def test_there_are_as_many_values_as_parameters(key, name):
    value = [-1, 2] if key == "bounds" else 1.0
    count = 2 if name in ("free", "counts", "stat") else 1
    may = {
        "auxdata": ("alpha", "lumi", "counts", "stat"),
        "sigmas": ("lumi", "stat"),
        "factors": ("counts",),
    }
    for wrong in (count - 1 or 3, count + 1):
        setting = {"name": name, key: [value] * wrong}
        specification = with_all(setting, lumi=LUMI)
        if name == "lumi":
            specification = with_all(lumi={**LUMI, **setting})
        if name in may.get(key, (name,)):
            message = (
                f"the measurement gives {wrong} {key} for the parameter {name}, which has {count}"
            )
        else:
            message = f"the measurement gives {key} for {name}, which has none"
        assert told(specification) == message
        # Of the luminosity pyhf takes any number, as the auxiliary data of the next parameters.
        assert pyhf_refuses(specification) or (name, key) == ("lumi", "auxdata")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *(("mu", key) for key in ("auxdata", "sigmas", "factors")),
        *((name, key) for name in ("alpha", "beta") for key in ("sigmas", "factors")),
        *((name, "factors") for name in ("lumi", "stat")),
        *(("free", key) for key in ("auxdata", "sigmas", "factors")),
        ("counts", "sigmas"),
    ],
)
def test_not_every_parameter_has_everything(name, key):
    setting = {"name": name, key: [1.0] * (2 if name in ("free", "counts", "stat") else 1)}
    specification = with_all(setting)
    if name == "lumi":
        specification = with_all(lumi={**LUMI, **setting})
    assert told(specification) == f"the measurement gives {key} for {name}, which has none"
    assert pyhf_refuses(specification)


@pytest.mark.parametrize("pair", [[], [0.0], [0.0, 5.0, 10.0]])
def test_bounds_are_pairs(pair):
    specification = with_all({"name": "stat", "bounds": [pair, [0.0, 5.0]]})
    assert told(specification) == "the measurement gives bounds for stat that are not pairs"
    if len(pair) < 2:  # pyhf takes no notice of a third number
        assert pyhf_refuses(specification)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"name": "alpha", "inits": [6.0]},
            "the initial value 6 of the parameter alpha lies outside of its bounds, -5 and 5",
        ),
        (
            {"name": "stat", "bounds": [[0.5, 2.0], [1.5, 2.0]]},
            "the initial value 1 of the parameter stat[1] lies outside of its bounds, 1.5 and 2",
        ),
        (
            {"name": "k", "bounds": [[2.0, 0.0]]},
            "the initial value 1 of the parameter k lies outside of its bounds, 2 and 0",
        ),
    ],
)
def test_initial_values_lie_in_their_bounds(setting, message):
    specification = with_all(setting)
    assert told(specification) == message
    assert pyhf_refuses(specification)


@pytest.mark.parametrize(
    "setting", [{"auxdata": [3.0, -1.0]}, {"factors": [0.0, 3.0]}, {"factors": [-2.0, 3.0]}]
)
def test_a_poisson_constraint_has_counts_and_rates(setting):
    specification = with_all({"name": "counts", **setting})
    assert told(specification) == (
        "the measurement gives negative auxdata, or factors that are not positive, for counts, "
        "whose constraint is Poisson's"
    )
    assert pyhf_refuses(specification)


def test_a_measurement_says_all_that_there_is():
    likelihood = accepted(
        with_all(
            {"name": "mu", "inits": [0.5], "bounds": [[0, 20]]},
            {"name": "alpha", "inits": [0.1], "bounds": [[-2, 2]], "auxdata": [0.2]},
            {"name": "k", "inits": [2], "fixed": True},
            {"name": "free", "inits": [1.1, 0.9], "bounds": [[0, 2], [0.5, 3]]},
            {"name": "counts", "auxdata": [90, 80.5], "factors": [95.0, 70.0], "fixed": True},
            {"name": "stat", "auxdata": [1.1, 0.9], "sigmas": [0.1, 0.2], "fixed": False},
        )
    )
    fixed = [n for n, what in zip(likelihood.names, likelihood.fixed, strict=True) if what]
    assert fixed == ["k", "counts[0]", "counts[1]"]
    width = dict(zip(likelihood.names, likelihood.width, strict=True))
    assert width["stat[1]"] == 0.2
    assert width["counts[0]"] == pytest.approx(95**-0.5)
    assert width["mu"] == np.inf


def test_fixed_is_for_all_bins_and_before_what_the_uncertainties_say():
    own = gammas("staterror", "stat", [0.0, 3.0])
    for fixed in (True, False):
        specification = with_background(own, parameters=[{"name": "stat", "fixed": fixed}])
        likelihood = accepted(specification)
        assert likelihood.fixed[parameter(likelihood, "stat[0]") :].tolist() == [fixed] * 2
