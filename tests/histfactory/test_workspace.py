"""What a workspace says is read, and what makes no sense is told with where it stands."""

from __future__ import annotations

import gc
import re

import numpy as np
import pyhf
import pytest

from pytest_pyhf_faas.histfactory.errors import HistFactoryError, InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.wording import counted
from tests.histfactory.generated import (
    MU,
    by_pyhf,
    copied,
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

#: Since 0.8 pyhf refuses two of one name; before, the last one counts, or a mixture of both.
REFUSES_TWINS = hasattr(pyhf.workspace.Workspace, "_check_for_duplicates")


def signal():
    return sample("signal", [5.0, 8.0], MU)


def with_background(*modifiers, rates=(50.0, 52.0)):
    """Two samples in SR, of which one has these modifiers, and one in CR."""
    background = sample("b", list(rates), *modifiers)
    return workspace(
        {"CR": [sample("b", [20.0], factor("normfactor", "k"))], "SR": [signal(), background]},
        {"CR": [19], "SR": [51, 57]},
    )


def told(specification, measurement=None):
    with pytest.raises(InvalidModel) as caught:
        Likelihood(Workspace.from_json(specification), measurement)
    assert isinstance(caught.value, HistFactoryError)
    return str(caught.value)


def accepted(specification):
    """Return a likelihood that is pyhf's."""
    likelihood = Likelihood(Workspace.from_json(specification))
    model, data = by_pyhf(specification)
    order = likelihood.pyhf_order
    assert [likelihood.names[index] for index in order] == model.config.par_names
    shares = 0.1 * np.cos(np.arange(len(likelihood)))
    for point in (likelihood.initial, likelihood.initial + shares):
        ours = likelihood.value(point, likelihood.observed)
        ours += likelihood.saturated(likelihood.observed)
        assert ours == pytest.approx(twice_nll(model, point[order], data), rel=1e-12)
    return likelihood


# --- what makes no sense ------------------------------------------------------------------------


@pytest.mark.parametrize(("low", "high"), [(0, 1.1), (-0.2, 1.1), (0.9, 0.0), (0.9, -3.5)])
def test_a_normsys_must_have_positive_factors(low, high):
    specification = with_background(normsys("norm", low, high))
    assert told(specification) == (
        f"the normsys norm of the sample b of the channel SR has lo = {low:g} and hi = {high:g}: "
        "both must be positive, for they are interpolated by their logarithms"
    )
    assert pyhf_refuses(specification)


def test_pyhf_has_a_factor_of_0_with_code1():
    """It is refused here all the same: there is no slope at 0."""
    assert not pyhf_refuses(with_background(normsys("norm", 0, 1.1)), "code1")


B = "of the sample b of the channel SR"


@pytest.mark.parametrize(
    ("modifiers", "rates", "message"),
    [
        ([], [50.0], "the sample b of the channel SR has 1 bin, the channel has 2"),
        ([], [5.0, 6.0, 7.0], "the sample b of the channel SR has 3 bins, the channel has 2"),
        ([histosys("h", [4.0], [6.0, 5.0])], [5.0, 6.0], f"the histosys h {B} has 1 bin"),
        ([histosys("h", [4.0, 5.0], [6.0] * 3)], [5.0, 6.0], f"the histosys h {B} has 3 bins"),
        ([gammas("shapesys", "g", [1.0])], [5.0, 6.0], f"the shapesys g {B} has 1 bin"),
        ([gammas("staterror", "g", [1.0] * 3)], [5.0, 6.0], f"the staterror g {B} has 3 bins"),
    ],
)
def test_samples_and_modifiers_have_the_bins_of_their_channel(modifiers, rates, message):
    specification = with_background(*modifiers, rates=rates)
    assert told(specification).startswith(message)
    assert pyhf_refuses(specification)


@pytest.mark.parametrize("events", [[51], [51, 57, 3]])
def test_an_observation_has_the_bins_of_its_channel(events):
    specification = with_background()
    specification["observations"][1]["data"] = events
    assert told(specification) == (
        f"the observation of the channel SR has {counted(len(events), 'bin')}, its samples have 2"
    )
    assert pyhf_refuses(specification)


def test_an_observation_is_missing():
    specification = with_background()
    del specification["observations"][1]
    assert told(specification) == "no observation for the channel SR"
    assert pyhf_refuses(specification)


def test_there_are_no_negative_events():
    specification = with_background()
    specification["observations"][1]["data"] = [51, -2]
    assert told(specification) == "bin 1 of the channel SR has -2 events"
    assert pyhf_refuses(specification)
    # The gamma function has numbers between; they are no counts.
    specification["observations"][1]["data"] = [51, -0.5]
    assert told(specification) == "bin 1 of the channel SR has -0.5 events"
    assert not pyhf_refuses(specification)


def test_two_channels_have_one_name():
    specification = with_background()
    specification["channels"].append(specification["channels"][1])
    assert told(specification) == "two channels are called SR: rename or remove one of them"
    assert pyhf_refuses(specification) == REFUSES_TWINS


def test_two_samples_have_one_name():
    specification = with_background()
    specification["channels"][1]["samples"].append(sample("b", [1.0, 2.0]))
    assert told(specification) == (
        "two samples of the channel SR are called b: rename or remove one of them"
    )
    assert pyhf_refuses(specification) == REFUSES_TWINS


@pytest.mark.parametrize(
    "twins",
    [
        [normsys("m", 0.9, 1.1), normsys("m", 0.8, 1.3)],
        [histosys("m", [45.0, 50.0], [52.0, 53.0])] * 2,
        [factor("normfactor", "m")] * 2,
        [gammas("staterror", "m", [1.0, 2.0]), gammas("staterror", "m", [2.0, 3.0])],
        [gammas("shapesys", "m", [1.0, 2.0]), gammas("shapesys", "m", [2.0, 3.0])],
    ],
)
def test_two_modifiers_have_one_name_and_type(twins):
    specification = with_background(factor("normfactor", "l"), *twins)
    kind = twins[0]["type"]
    assert told(specification) == (
        f"the sample b of the channel SR has two modifiers m of type {kind}"
    )
    assert pyhf_refuses(specification) == (REFUSES_TWINS or kind == "shapesys")


def test_a_type_of_modifier_is_unknown():
    specification = with_background(factor("normsyst", "m"))
    assert told(specification) == (
        "the sample b of the channel SR has a modifier of the type normsyst, which is none of "
        "histosys, lumi, normfactor, normsys, shapefactor, shapesys, staterror"
    )
    assert pyhf_refuses(specification)


def test_there_is_no_such_measurement():
    specification = with_background()
    specification["measurements"].append({**specification["measurements"][0], "name": "n"})
    assert told(specification, "other") == "no measurement 'other' in the workspace, but: m, n"
    with pytest.raises(pyhf.exceptions.InvalidMeasurement):
        by_pyhf(specification, "other")
    specification["measurements"] = []
    assert told(specification) == "no measurement '' in the workspace, but: none"
    assert pyhf_refuses(specification)


# --- what does ----------------------------------------------------------------------------------


def test_measurements_are_found_by_name_and_the_first_one_counts():
    specification = with_background()
    (measurement,) = specification["measurements"]
    for name, poi in (("n", "k"), ("n", "absent")):
        specification["measurements"].append(
            {"name": name, "config": {**measurement["config"], "poi": poi}}
        )
    read = Workspace.from_json(specification)
    assert read.measurement()["poi"] == read.measurement("m")["poi"] == "mu"
    assert read.measurement("n")["poi"] == "k"
    likelihood = Likelihood(read, "n")
    assert likelihood.names[likelihood.poi] == "k"
    model, _data = by_pyhf(specification, "n")
    assert model.config.poi_name == "k"


def test_more_observations_than_channels_and_the_last_one_counts():
    specification = with_background()
    specification["observations"] += [
        {"name": "VR", "data": [1, 2, 3]},
        {"name": "CR", "data": [30]},
    ]
    assert accepted(specification).observed.main.tolist() == [30, 51, 57]


def test_numbers_may_be_integers():
    specification = with_background(
        normsys("n", 1, 2), histosys("h", [50, 50], [60, 52]), gammas("staterror", "s", [1, 2])
    )
    assert accepted(specification).observed.main.dtype == float


def test_channels_and_samples_are_sorted_and_keep_what_is_theirs():
    specification = with_background(histosys("h", [45.0, 52.0], [52.0, 52.0]))
    read = Workspace.from_json({**specification, "channels": specification["channels"][::-1]})
    assert [(c.name, c.bins, c.observed.tolist()) for c in read.channels] == [
        ("CR", 1, [19]),
        ("SR", 2, [51, 57]),
    ]
    background, own = read.channels[1].samples
    assert (background.channel, background.name, own.name) == ("SR", "b", "signal")
    assert background.modifiers == (("h", "histosys"),)
    assert own.linear == (("normfactor", "mu", None),)
    # Bins in which nothing is shifted are left out.
    assert background.histosys.names == ("h",)
    assert background.histosys.bins.tolist() == [0]
    assert background.histosys.down.tolist() == [-5]
    assert background.histosys.up.tolist() == [2]


def test_a_variation_that_changes_nothing_is_a_parameter():
    specification = with_background(
        histosys("h", [50.0, 52.0], [50.0, 52.0]), normsys("n", 1.0, 1.0)
    )
    assert sorted(accepted(specification).names) == ["h", "k", "mu", "n"]


def test_a_sample_may_be_in_one_channel_only():
    specification = with_background(gammas("staterror", "stat", [5.0, 6.0]), normsys("n", 0.9, 1.2))
    specification["channels"][0]["samples"].append(sample("c", [3.0], normsys("n", 0.7, 1.1)))
    likelihood = accepted(specification)
    assert likelihood.cells == [
        ("CR", "b", 0),
        ("CR", "c", 0),
        ("SR", "b", 0),
        ("SR", "b", 1),
        ("SR", "signal", 0),
        ("SR", "signal", 1),
    ]


# --- backgrounds --------------------------------------------------------------------------------


def test_the_same_objects_are_not_read_again():
    specification = with_background(normsys("n", 0.9, 1.2))
    background = Workspace.from_json(specification)
    again = Workspace.from_json(dict(specification), background)
    assert again.channels[0].samples[0] is background.channels[0].samples[0]
    # What is equal, but another object, may have been changed meanwhile.
    other = Workspace.from_json(copied(specification), background)
    assert other.channels[0].samples[0] is not background.channels[0].samples[0]


def test_a_sample_that_moved_to_another_channel_is_read_again():
    specification = workspace({"SR": [signal()]})
    background = Workspace.from_json(specification)
    (channel,) = specification["channels"]
    moved = {
        **specification,
        "channels": [{**channel, "name": "CR"}],
        "observations": [{"name": "CR", "data": [4, 9]}],
    }
    likelihood = Likelihood(Workspace.from_json(moved, background))
    assert likelihood.cells == [("CR", "signal", 0), ("CR", "signal", 1)]


def test_one_object_in_two_channels_is_two_samples():
    own = signal()
    specification = workspace({"SR": [own], "CR": [own]})
    background = Workspace.from_json(specification)
    for read in (background, Workspace.from_json(specification, background)):
        assert [c.samples[0].channel for c in read.channels] == ["CR", "SR"]


def test_the_channel_of_a_known_sample_has_other_bins():
    specification = with_background(normsys("n", 0.9, 1.2))
    background = Workspace.from_json(specification)
    control, region = specification["channels"]
    more = sample("signal", [5.0, 8.0, 1.0], MU)
    patched = {
        **specification,
        "channels": [control, {**region, "samples": [more, region["samples"][1]]}],
        "observations": [{"name": "CR", "data": [19]}, {"name": "SR", "data": [51, 57, 3]}],
    }
    message = "the sample b of the channel SR has 2 bins, the channel has 3"
    with pytest.raises(InvalidModel, match=f"^{re.escape(message)}$"):
        Workspace.from_json(patched, background)


def test_what_is_gone_is_not_mistaken_for_what_came():
    background = Workspace.from_json(workspace({"SR": [signal()]}))
    for rate in range(50):
        gc.collect(0)
        specification = workspace({"SR": [sample("signal", [float(rate), 1.0], MU)]})
        background = Workspace.from_json(specification, background)
        assert background.channels[0].samples[0].nominal.tolist() == [rate, 1]
        del specification
