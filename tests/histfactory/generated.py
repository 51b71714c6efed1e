"""Workspaces with everything that HistFactory has, and what pyhf makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pyhf
import pytest
from hypothesis import strategies as st

from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace

CHANNELS = ("SR", "CR", "VR")
SAMPLES = ("top", "signal", "fakes")
NORMSYS, HISTOSYS = ("code4", "code1"), ("code4p", "code2", "code0")
MU = {"name": "mu", "type": "normfactor", "data": None}
LUMI = {
    "name": "lumi",
    "auxdata": [1.0],
    "sigmas": [0.02],
    "bounds": [[0.8, 1.2]],
    "inits": [1.0],
}

#: pyhf 0.7.0 has a function that NumPy 1.25 deprecates.
older_numpy = pytest.mark.filterwarnings("ignore:`product` is deprecated:DeprecationWarning")

# --- by hand ------------------------------------------------------------------------------------


def normsys(name, low, high):
    return {"name": name, "type": "normsys", "data": {"lo": low, "hi": high}}


def histosys(name, low, high):
    return {"name": name, "type": "histosys", "data": {"lo_data": low, "hi_data": high}}


def factor(kind, name):
    """A lumi, normfactor or shapefactor."""
    return {"name": name, "type": kind, "data": None}


def gammas(kind, name, uncertainties):
    """A shapesys or a staterror."""
    return {"name": name, "type": kind, "data": uncertainties}


def sample(name, rates, *modifiers):
    return {"name": name, "data": rates, "modifiers": list(modifiers)}


def workspace(channels, observed=None, parameters=(), poi="mu"):
    """Samples and observations by channel; one event in each bin by default."""
    observed = observed or {name: [1] * len(s[0]["data"]) for name, s in channels.items()}
    return {
        "channels": [{"name": name, "samples": samples} for name, samples in channels.items()],
        "observations": [{"name": name, "data": data} for name, data in observed.items()],
        "measurements": [{"name": "m", "config": {"poi": poi, "parameters": [*parameters]}}],
        "version": "1.0.0",
    }


def copied(specification):
    """The same JSON, with no object in common."""
    return json.loads(json.dumps(specification))


# --- pyhf ---------------------------------------------------------------------------------------


def by_pyhf(specification, measurement=None, normsys="code4", histosys="code4p"):
    """Return the model of pyhf and its data."""
    read = pyhf.Workspace(specification, validate=False)
    model = read.model(
        measurement_name=measurement,
        validate=False,
        modifier_settings={
            "normsys": {"interpcode": normsys},
            "histosys": {"interpcode": histosys},
        },
    )
    return model, np.array(read.data(model), dtype=float)


def twice_nll(model, parameters, data):
    """Return what pyhf says, a number or not."""
    with np.errstate(all="ignore"):
        return float(-2 * model.logpdf(parameters, data)[0])


def pyhf_refuses(specification, *codes):
    """Whether pyhf has an exception for this, or no number where its fits begin."""
    try:
        model, data = by_pyhf(specification, None, *codes)
        start = model.config.suggested_init()
        with np.errstate(all="ignore"):
            pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    except Exception:  # noqa: BLE001 - any will do
        return True
    return not np.isfinite(twice_nll(model, start, data))


def code2_goes_through_minus_1():
    """Whether pyhf's code2 is 0 just below -1, as since 0.8; before, and here, it is 2a - b."""
    (delta,) = pyhf.interpolators.code2([[[[0.0], [1.0], [3.0]]]])(np.array([[-2.0]])).ravel()
    return delta == 0.5 * (1 - 2)


# --- at random ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A workspace and how it is read."""

    specification: dict
    measurement: str | None
    normsys: str
    histosys: str

    def ours(self, background=None):
        read = Workspace.from_json(self.specification, background)
        return Likelihood(read, self.measurement, normsys=self.normsys, histosys=self.histosys)

    def by_pyhf(self):
        return by_pyhf(self.specification, self.measurement, self.normsys, self.histosys)

    def of(self, specification):
        """The same of another workspace."""
        return replace(self, specification=specification)

    @property
    def config(self):
        """The measurement's."""
        measurements = self.specification["measurements"]
        names = [measurement["name"] for measurement in measurements]
        return measurements[names.index(self.measurement or names[0])]["config"]


def anywhere(likelihood, random):
    """Return a point in the bounds: at random, near the start, or where something changes."""
    count = len(likelihood)
    lower, upper = likelihood.lower, likelihood.upper
    near = likelihood.initial + random.normal(scale=0.3, size=count)
    special = random.choice([-2.5, -1.0, 0.0, 1.0, 2.0], count)
    return np.choose(
        random.choice(3, count, p=random.choice([[1.0, 0, 0], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])),
        [np.clip(near, lower, upper), random.uniform(lower, upper), np.clip(special, lower, upper)],
    )


def smooth(likelihood, random):
    """Return a point beside which nothing bends abruptly."""
    count, alphas = len(likelihood), likelihood.interpolated
    point = np.clip(likelihood.initial + random.normal(scale=0.25, size=count), 0.4, 3.0)
    point[:alphas] = random.normal(scale=random.choice([0.4, 1.2]), size=alphas)
    for kink in (-1.0, 0.0, 1.0):
        close = np.abs(point[:alphas] - kink) < 0.02
        point[:alphas] += np.where(close, 0.05, 0.0)
    return point


RATES = st.one_of(st.floats(0.5, 300.0), st.integers(1, 40), st.sampled_from([0, 0.0, 1e-3]))
EVENTS = st.one_of(st.integers(0, 300), st.floats(1e-9, 300.0))
SHARES = st.floats(0.6, 1.4)
UNCERTAINTIES = st.one_of(st.floats(0.01, 0.5), st.sampled_from([0, 0.0]))
seeds = st.integers(0, 2**32 - 1)


@st.composite
def cases(draw, normsys=NORMSYS, histosys=HISTOSYS):
    """Anything that pyhf accepts."""
    made = _Workspace(draw)
    measurements = [
        {"name": name, "config": made.config()}
        for name in ("first", "second", "third")[: draw(st.integers(1, 3))]
    ]
    specification = {
        "channels": [
            {
                "name": name,
                "samples": [
                    sample(own, made.rates[name, own], *made.modifiers[name, own])
                    for channel, own in made.cells
                    if channel == name
                ],
            }
            for name in made.bins
        ],
        "observations": made.observations(),
        "measurements": measurements,
        "version": "1.0.0",
    }
    names = [None, *(measurement["name"] for measurement in measurements)]
    return Case(
        specification,
        draw(st.sampled_from(names)),
        draw(st.sampled_from(normsys)),
        draw(st.sampled_from(histosys)),
    )


class _Workspace:
    """What is drawn, and which parameters come of it."""

    def __init__(self, draw):
        self.draw = draw
        names = self.some(CHANNELS, 1)
        self.bins = {name: draw(st.integers(1, 4)) for name in names}
        self.cells = [(name, own) for name in names for own in self.some(SAMPLES, 1)]
        self.rates = {cell: self.each(RATES, self.bins[cell[0]]) for cell in self.cells}
        self.modifiers = {cell: [] for cell in self.cells}
        #: The type of each parameter and how many there are.
        self.parameters = {}
        self.with_gammas()
        self.with_factors()
        self.with_variations()

    def some(self, what, at_least=0, at_most=None):
        what = list(what)
        lists = st.lists(
            st.sampled_from(what), min_size=at_least, max_size=at_most or len(what), unique=True
        )
        return self.draw(lists)

    def each(self, strategy, count):
        return self.draw(st.lists(strategy, min_size=count, max_size=count))

    def add(self, cell, kind, modifier, count=1):
        self.modifiers[cell].append(modifier)
        self.parameters[modifier["name"]] = kind, count

    def with_gammas(self):
        for prefix in ("poisson", "Aux"):
            for channel, own in self.some(self.cells):
                self.gammas("shapesys", f"{prefix}_{channel}_{own}", [(channel, own)])
        for channel in self.bins:
            own = self.some([cell for cell in self.cells if cell[0] == channel])
            self.gammas("staterror", f"stat_{channel}", own)
        # One over several channels must be in the same ones for each sample.
        samples = self.some(SAMPLES)
        there = [c for c in self.bins if {(c, own) for own in samples} <= set(self.cells)]
        self.gammas("staterror", "stat", [(c, own) for c in there for own in samples])

    def gammas(self, kind, name, cells):
        count = sum(self.bins[channel] for channel in {channel for channel, _ in cells})
        for cell in cells:
            relative = self.each(UNCERTAINTIES, self.bins[cell[0]])
            absolute = [
                share * (rate or 1.0)
                for share, rate in zip(relative, self.rates[cell], strict=True)
            ]
            self.add(cell, kind, gammas(kind, name, absolute), count)

    def with_factors(self):
        for cell in self.some(self.cells, 1):
            self.add(cell, "normfactor", MU)
        for kind, name in (("normfactor", "k"), ("lumi", "lumi")):
            for cell in self.some(self.cells):
                self.add(cell, kind, factor(kind, name))
        for name in ("free", "Shape"):
            cells = self.some(self.cells)
            # The first channel says how many there are.
            count = self.bins[min(cells)[0]] if cells else 0
            for cell in cells:
                if self.bins[cell[0]] <= count:
                    self.add(cell, "shapefactor", factor("shapefactor", name), count)

    def with_variations(self):
        for name in ("alpha", "Beta", "jes"):
            for cell in self.some(self.cells):
                low, high = self.each(SHARES, 2)
                self.add(cell, "interpolated", normsys(name, low, high))
        for name in ("alpha", "Beta", "scale"):
            for cell in self.some(self.cells):
                self.add(cell, "interpolated", histosys(name, self.varied(cell), self.varied(cell)))

    def varied(self, cell):
        rates = self.rates[cell]
        shares = self.each(SHARES, len(rates))
        return [
            share * rate if rate else max(share - 1, 0.0)
            for share, rate in zip(shares, rates, strict=True)
        ]

    def observations(self):
        observed = []
        for channel, bins in self.bins.items():
            events = self.each(EVENTS, bins)
            total = np.sum([self.rates[cell] for cell in self.cells if cell[0] == channel], axis=0)
            if self.draw(st.integers(0, 9)):  # mostly no events where none are expected
                events = [count if rate else 0 for count, rate in zip(events, total, strict=True)]
            observed.append({"name": channel, "data": events})
        return observed[::-1]

    def config(self):
        names = sorted(self.parameters)
        scalar = [name for name in names if self.parameters[name][1] == 1]
        settings = [self.setting(name) for name in self.some(names, 0, 5) if name != "lumi"]
        if "lumi" in names:
            settings.append(self.setting("lumi"))
        if self.draw(st.booleans()):
            settings.append({"name": "absent", "inits": [0.0, 1.0], "sigmas": [0.0]})
        return {"poi": self.draw(st.sampled_from(scalar)), "parameters": settings}

    def setting(self, name):
        """Return some of what a measurement may say of a parameter."""
        kind, count = self.parameters[name]
        may = ["fixed", "inits", "bounds"]
        may += {
            "interpolated": ["auxdata"],
            "lumi": ["sigmas"],
            "shapesys": ["auxdata", "factors"],
            "staterror": ["auxdata", "sigmas"],
        }.get(kind, [])
        keys = {*self.some(may), *(["inits", "bounds", "auxdata"] if kind == "lumi" else [])}
        around = 0.0 if kind == "interpolated" else 1.0
        values = {
            "fixed": st.booleans(),
            "inits": st.lists(
                st.floats(around - 0.5, around + 0.5), min_size=count, max_size=count
            ),
            "bounds": st.lists(
                st.tuples(
                    st.sampled_from([-5, -3.5] if kind == "interpolated" else [0, 0.1, 1e-10]),
                    st.sampled_from([1.5, 4, 12.0]),
                ).map(list),
                min_size=count,
                max_size=count,
            ),
            "auxdata": st.lists(
                st.integers(0, 90) if kind == "shapesys" else st.floats(around - 0.3, around + 0.3),
                min_size=count,
                max_size=count,
            ),
            "factors": st.lists(st.floats(0.5, 200.0), min_size=count, max_size=count),
            "sigmas": st.lists(st.floats(0.01, 0.6), min_size=count, max_size=count),
        }
        return {"name": name, **{key: self.draw(values[key]) for key in sorted(keys)}}
