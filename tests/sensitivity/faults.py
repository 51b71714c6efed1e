"""Faults of pyhf, planted at run time in a worker that does nothing else.

Each is one that a release could have: a wrong code, sign, index, width or precision. A worker that
`faulty_fit_batch` has planted one in keeps it until it ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyhf

from pytest_pyhf_faas.worker import fitting

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "the model changed"
ASIMOV = "the Asimov data changed"
FORMULAE = "the formulae changed"
OPTIMIZER = "the optimizer scipy failed"

#: On the edge of exclusion, and the signal is in both signal regions: all modifiers matter.
ON_THE_EDGE = "synthetic_200_100"
#: The observed limit is better than the expected one: there qtilde is not q.
BETTER_THAN_EXPECTED = "synthetic_600_0"


@dataclass(frozen=True)
class Fault:
    """What is wrong with pyhf, and what the verdict must say.

    Attributes
    ----------
    what
        One line that a person reads.
    explanation
        What the verdict must call it.
    plant
        Makes it so, for the rest of this process.
    patch
        Where it moves CLs.
    """

    what: str
    explanation: str
    plant: Callable[[], None]
    patch: str


FAULTS: dict[str, Fault] = {}
_planted: list[str] = []


def fault(
    what: str, explanation: str, patch: str = ON_THE_EDGE
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Register a fault under the name of the function that plants it."""

    def register(plant: Callable[[], None]) -> Callable[[], None]:
        FAULTS[plant.__name__] = Fault(what, explanation, plant, patch)
        return plant

    return register


def install(name: str) -> None:
    """Let the workers of this pytest run have a fault."""
    from pytest_pyhf_faas.campaign import loop

    assert loop.worker_function  # what is not there would be planted without effect
    loop.worker_function = lambda config: partial(faulty_fit_batch, name)


def faulty_fit_batch(name: str, batch: dict[str, Any]) -> dict[str, Any]:
    """Fit as a worker does whose pyhf has a fault."""
    if not _planted:
        FAULTS[name].plant()
        _planted.append(name)
    assert _planted == [name]
    return fitting.fit_batch(batch)


# --- how they are planted -----------------------------------------------------------------------


def _wrap(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function or method by ``around(original, *args, **kwargs)``."""
    original = getattr(owner, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, replaced)


def _change_specification(owner: Any, change: Callable[[Any], None]) -> None:
    """Let a class that is made from a specification see a changed copy of it."""

    def around(original: Any, self: Any, specification: Any, *args: Any, **kwargs: Any) -> None:
        copy = json.loads(json.dumps(specification))
        change(copy)
        original(self, copy, *args, **kwargs)

    _wrap(owner, "__init__", around)


def _rename(channel: str, kind: str | None, old: str, new: str) -> None:
    """Give a modifier another name in one channel, and thereby parameters of its own."""

    def change(specification: Any) -> None:
        for place in specification["channels"]:
            for sample in place["samples"] if place["name"] == channel else ():
                for modifier in sample["modifiers"]:
                    if modifier["name"] == old and kind in {None, modifier["type"]}:
                        modifier["name"] = new

    _change_specification(pyhf.Model, change)


# --- the model ----------------------------------------------------------------------------------


@fault("normsys interpolated by code1, not code4", MODEL)
def normsys_interpolation() -> None:
    pyhf.interpolators.code4 = pyhf.interpolators.code1


@fault("histosys interpolated by code0, not code4p", MODEL)
def histosys_interpolation() -> None:
    pyhf.interpolators.code4p = pyhf.interpolators.code0


@fault("lower side of histosys ignored", MODEL)
def histosys_side() -> None:
    def around(original: Any, self: Any, modifier: Any, nominal: Any) -> Any:
        return {**original(self, modifier, nominal), "lo_data": nominal}

    _wrap(pyhf.modifiers.histosys_builder, "collect", around)


@fault("staterror of samples added linearly, not in quadrature", MODEL)
def staterror_quadrature() -> None:
    from pyhf.modifiers.staterror import required_parset

    def around(original: Any, self: Any) -> Any:
        built = original(self)
        for key, samples in built.items():
            parts = [
                sample["data"] for sample in samples.values() if np.any(sample["data"]["mask"])
            ]
            mask = np.asarray(parts[0]["mask"], dtype=bool)
            nominal = sum(np.asarray(part["nom_data"]) for part in parts)[mask]
            sigmas = sum(np.asarray(part["uncrt"]) for part in parts)[mask] / nominal
            name = key.partition("/")[2]
            (known,) = self.required_parsets[name]
            sigmas = np.where(known["fixed"], known["sigmas"], sigmas)
            self.required_parsets[name] = [required_parset(sigmas, known["fixed"])]
        return built

    _wrap(pyhf.modifiers.staterror_builder, "finalize", around)


def _change_shapesys(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from pyhf.modifiers import shapesys

    _wrap(
        shapesys,
        "required_parset",
        lambda original, *data: {**original(*data), **change(original(*data))},
    )


@fault("tau of shapesys 1 % too large", MODEL)
def shapesys_tau() -> None:
    def change(parameters: dict[str, Any]) -> dict[str, Any]:
        taus = tuple(1.01 * tau for tau in parameters["factors"])
        return {"auxdata": taus, "factors": taus}

    _change_shapesys(change)


@fault("Poisson constraint of shapesys treated as Gaussian", MODEL)
def poisson_as_gaussian() -> None:
    def change(parameters: dict[str, Any]) -> dict[str, Any]:
        taus = parameters["factors"]
        return {
            "paramset_type": "constrained_by_normal",
            "auxdata": (1.0,) * len(taus),
            "sigmas": tuple(tau**-0.5 for tau in taus),
            "factors": "undefined",
        }

    _change_shapesys(change)


@fault("uncertainty of lumi 10 % too large", MODEL)
def lumi_uncertainty() -> None:
    def around(original: Any, self: Any, **kwargs: Any) -> None:
        if kwargs["name"] == "lumi":
            kwargs["sigmas"] = [1.1 * sigma for sigma in kwargs["sigmas"]]
        original(self, **kwargs)

    _wrap(pyhf.parameters.constrained_by_normal, "__init__", around)


@fault("shapefactor shared with all channels and samples", MODEL)
def shapefactor_shared() -> None:
    def around(original: Any, self: Any, modifier: Any, nominal: Any) -> Any:
        return {"mask": [True] * len(nominal)}

    _wrap(pyhf.modifiers.shapefactor_builder, "collect", around)


@fault("shapefactor not shared by the two channels that it is in", MODEL)
def shapefactor_split() -> None:
    _rename("synthetic_SR_low", "shapefactor", "fake_shape", "fake_shape_SR_low")


@fault("JES of one channel decorrelated from the others", MODEL)
def decorrelated() -> None:
    _rename("synthetic_SR_high", None, "JES", "JES_SR_high")


@fault("last bin of CR_W dropped", MODEL)
def bin_dropped() -> None:
    def shorten(part: Any) -> None:
        for name in ("data", "lo_data", "hi_data"):
            if isinstance(part.get(name), list):
                del part[name][-1]

    def change(specification: Any) -> None:
        for part in ("channels", "observations"):
            for channel in specification[part]:
                if channel["name"] != "synthetic_CR_W":
                    continue
                shorten(channel)
                for sample in channel.get("samples", ()):
                    shorten(sample)
                    for modifier in sample["modifiers"]:
                        shorten(modifier)
                        shorten(modifier["data"] if isinstance(modifier["data"], dict) else {})

    _change_specification(pyhf.Workspace, change)


# --- what is made of it -------------------------------------------------------------------------


@fault("qtilde treated as q", FORMULAE, BETTER_THAN_EXPECTED)
def qtilde_as_q() -> None:
    def around(original: Any, self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "test_stat": "q"})

    _wrap(pyhf.infer.calculators.AsymptoticCalculator, "__init__", around)


@fault("Asimov data built at POI 1", ASIMOV)
def asimov_poi() -> None:
    def around(original: Any, poi: float, *args: Any, **kwargs: Any) -> Any:
        return original(1.0, *args, **kwargs)

    _wrap(pyhf.infer.calculators, "generate_asimov_data", around)


@fault("CLs not divided by CLb", FORMULAE)
def clb_forgotten() -> None:
    def around(original: Any, *args: Any) -> Any:
        clsb, clb, _ = original(*args)
        return clsb, clb, clsb

    _wrap(pyhf.infer.calculators.AsymptoticCalculator, "pvalues", around)


@fault("expected band reversed", FORMULAE)
def band_reversed() -> None:
    def around(original: Any, *args: Any) -> Any:
        return [values[::-1] for values in original(*args)]

    _wrap(pyhf.infer.calculators.AsymptoticCalculator, "expected_pvalues", around)


@fault("observed and expected CLs swapped", FORMULAE)
def swapped() -> None:
    def around(original: Any, *args: Any, **kwargs: Any) -> Any:
        observed, expected, calculator = original(*args, **kwargs)
        return expected[2], [*expected[:2], observed, *expected[3:]], calculator

    _wrap(pyhf.infer, "hypotest", around)


# --- arithmetic and minimization ----------------------------------------------------------------


@fault("arithmetic in float32", OPTIMIZER)
def float32() -> None:
    # The backend goes on to say that its precision is 64b.
    pyhf.tensorlib.dtypemap["float"] = np.float32


def _loosen(tolerance: float) -> None:
    def around(original: Any, self: Any, *args: Any, options: Any, **kwargs: Any) -> Any:
        return original(self, *args, options={**options, "tolerance": tolerance}, **kwargs)

    _wrap(pyhf.optimize.scipy_optimizer, "_minimize", around)


@fault("tolerance of the optimizer loosened to 1e-2", OPTIMIZER)
def loose_tolerance() -> None:
    _loosen(1e-2)


@fault("tolerance of the optimizer loosened to 1e-3", OPTIMIZER)
def slightly_loose_tolerance() -> None:
    # All fits then end within what counts as converged, and CLs is off all the same.
    _loosen(1e-3)
