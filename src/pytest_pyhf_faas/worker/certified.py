"""Test hypotheses at certified minima.

Like `worker`, this runs on workers. The likelihood, its minima and CLs are those of `histfactory`,
which needs only NumPy and SciPy. pyhf is involved only where a result is to become a
reference: then each patch is calculated by both programs.
"""

from __future__ import annotations

import json
import time
import warnings
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas.histfactory.asymptotics import asimov_poi
from pytest_pyhf_faas.histfactory.errors import HistFactoryError
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.minima import SAME
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
from pytest_pyhf_faas.worker import fitting
from pytest_pyhf_faas.worker.patching import apply_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.minima import Fit
    from pytest_pyhf_faas.histfactory.search import MinimumSet
    from pytest_pyhf_faas.worker.messages import Background, BatchAnswer, BatchPayload, PatchOrder

    Vector = NDArray[np.float64]

#: How far our twice NLL may be from that of pyhf, relative to it.
_VALUE_RTOL = 1e-12
#: The same for the rate of a sample in a bin.
_RATE_RTOL = 1e-10
#: Parameters that are named where two minima differ.
_NAMED, _NAMED_AT_BOUND = 3, 10
#: A gamma that is farther from its initial value than this many standard deviations is kept.
_FOLLOWS = 3.0
#: Digits of the points of a pool: a start need not be exact.
_POOL_DIGITS = 2

# A worker process caches the backgrounds that it has read, and nothing of a fit.
_workspaces: dict[str, tuple[Any, Workspace]] = {}


class DisagreementError(HistFactoryError):
    """pyhf and this package have different likelihoods for one patch."""


def certify_batch(batch: BatchPayload) -> BatchAnswer:
    """Do what `fitting.fit_batch` does, at certified minima.

    Parameters
    ----------
    batch : dict
        As for `fitting.fit_batch`, and ``pool``: starts, each values of parameters by their names.
        In its ``config``, ``effort`` is "brief" or "thorough", and ``checked`` says whether each
        likelihood is compared with that of pyhf.

    Returns
    -------
    dict
        The same. The values of a result are those of the lowest minima. Its ``certificate`` has
        ``distance`` (the largest of the estimated distances to the minima), ``nominal`` (the values
        of the nominal minima, ``None`` where these are the lowest), ``differences`` between the
        two, ``minima`` (how far other known ones lie above the lowest, for each fit), ``search``
        (how it was made), ``new`` (starts that the pool lacks) and ``helpful`` (which of its
        points lead to the lowest minima, see `Search`).
    """
    at_asimov = asimov_poi(batch["config"]["test_stat"])
    return answer_by_search(batch, lambda search, _patch, _seed: result_of(search, at_asimov))


def answer_by_search(
    batch: BatchPayload, calculate: Callable[[Search, PatchOrder, int], dict[str, Any]]
) -> BatchAnswer:
    """Do what a batch asks for at certified minima.

    Parameters
    ----------
    batch : dict
        As for `certify_batch`.
    calculate : callable
        Takes the minima of a patch, the patch as it was sent, and its seed, which follows from its
        content; gives the values of a result.
    """

    def begin() -> tuple[Any, Workspace]:
        if batch["config"]["checked"]:
            fitting.set_backend(batch["config"])  # earlier fits may have set another
        return _background(batch["background"])

    def test(
        background: tuple[Any, Workspace], patch: PatchOrder, seconds: dict[str, float]
    ) -> dict[str, Any]:
        config, pool = batch["config"], batch.get("pool") or ()
        return _certify(background, patch, config, pool, seconds, calculate)

    return fitting.answer_batch(batch, begin, test)


def _certify(
    background: tuple[Any, Workspace],
    patch: PatchOrder,
    config: Mapping[str, Any],
    pool: Sequence[Mapping[str, float]],
    seconds: dict[str, float],
    calculate: Callable[[Search, PatchOrder, int], dict[str, Any]],
) -> dict[str, Any]:
    """Find the minima of one patch, and the values of its result."""
    specification, read = background
    clock = time.perf_counter()
    text = fitting.unpack(patch["data"])
    operations = json.loads(text)
    seconds["unpack"] = time.perf_counter() - clock

    clock = time.perf_counter()
    patched = apply_patch(operations, specification)
    try:
        likelihood = Likelihood(
            Workspace.from_json(patched, read),
            config["measurement"],
            normsys=config["normsys_interpcode"],
            histosys=config["histosys_interpcode"],
        )
    except Exception:
        if config["checked"]:
            # If pyhf refuses the patch as well, its own exception counts.
            fitting.pyhf_model(patched, config)
        raise
    seconds["build"] = time.perf_counter() - clock

    clock = time.perf_counter()
    seed = zlib.crc32(text.encode())  # each patch has draws of its own, for the pool of all
    effort = THOROUGH if config["effort"] == "thorough" else BRIEF
    search = Search(likelihood, config["test_poi"], config["test_stat"], pool, effort, seed=seed)
    result = calculate(search, patch, seed)
    if config["checked"]:
        check_against_pyhf(likelihood, patched, config, search)
    seconds["fit"] = time.perf_counter() - clock
    return result


def _background(packed: Background) -> tuple[Any, Workspace]:
    """Return the JSON of a background and what was read from it, once for each worker process."""
    digest = packed["digest"]
    if digest not in _workspaces:
        while len(_workspaces) >= fitting.MAX_BACKGROUNDS:
            del _workspaces[next(iter(_workspaces))]
        specification = json.loads(fitting.unpack(packed["data"]))
        _workspaces[digest] = specification, Workspace.from_json(specification)
    return _workspaces[digest]


def result_of(search: Search, at_asimov: float) -> dict[str, Any]:
    """Return CLs at both sets of minima, and how these were found."""
    lowest, nominal = search.lowest, search.nominal
    likelihood = search.likelihood
    differences = _differences(search)
    return {
        **_values(lowest, likelihood.poi),
        "asimov_poi": at_asimov,
        "twice_nll_nearby": {},
        "twice_nll_asimov_truth": lowest.twice_nll[FREE_ASIMOV],
        "twice_nll_off_minimum": _json(likelihood.off_minimum()),
        "rounding": likelihood.rounding,
        "certificate": {
            "distance": max(lowest.distance, nominal.distance),
            "nominal": _values(nominal, likelihood.poi) if differences else None,
            "differences": differences,
            "minima": {name: gaps for name, fit in search.fits.items() if (gaps := _gaps(fit))},
            "search": {name: _evidence(fit) for name, fit in search.fits.items()},
            "new": [_pool_point(likelihood, point) for point in search.new],
            "helpful": search.helpful,
        },
    }


def _values(found: MinimumSet, poi: int) -> dict[str, Any]:
    return {
        "CLs_obs": _json(found.cls[0]),
        "CLs_exp": [_json(value) for value in found.cls[1:]],
        "mu_hat": float(found.minima[FREE].parameters[poi]),
        "twice_nll": dict(found.twice_nll),
    }


def _differences(search: Search) -> list[dict[str, Any]]:
    """Return how the nominal minima differ from the lowest, for each fit that has two."""
    likelihood = search.likelihood
    scale = np.where(likelihood.constrained, likelihood.width, 1.0)
    found: list[dict[str, Any]] = []
    for name in (FIXED, FREE, BACKGROUND, FIXED_ASIMOV):
        lowest, nominal = search.lowest.minima[name], search.nominal.minima[name]
        other_data = "asimov" in name and found and found[-1]["fit"] == BACKGROUND
        gap = search.nominal.twice_nll[name] - search.lowest.twice_nll[name]
        if lowest is nominal or other_data or gap < SAME:
            continue
        apart = np.abs(nominal.parameters - lowest.parameters) / scale
        at_bound = lowest.held | nominal.held
        found.append(
            {
                "fit": name,
                "gap": gap,
                "parameters": [
                    {
                        "name": likelihood.names[index],
                        "nominal": float(nominal.parameters[index]),
                        "lowest": float(lowest.parameters[index]),
                    }
                    for index in np.argsort(-apart, kind="stable")[:_NAMED]
                ],
                "at_bound": [
                    likelihood.names[index]
                    for index in np.flatnonzero(at_bound & search.fits[name].free)
                ][:_NAMED_AT_BOUND],
            }
        )
    return found


def _gaps(fit: Fit) -> list[float]:
    lowest = fit.lowest.value
    gaps = [minimum.value - lowest for minimum in fit.certified]
    return [gap for gap in gaps if gap > SAME]


def _evidence(fit: Fit) -> dict[str, Any]:
    """Return how a fit was searched.

    ``unseen`` is the estimate of Good and Turing of the chance that one more random start would
    find a minimum that no random start has found yet: the share of random starts that ended where
    no other did (I. J. Good, Biometrika 40 (1953) 237).
    """
    reached = fit.where(fit.lowest).hits
    random = fit.starts["random"]
    once = sum(found.hits["random"] == 1 for found in fit.found)
    return {
        "starts": fit.starts.total(),
        "reached": reached.total(),
        "random": random,
        "reached_at_random": reached["random"],
        "unseen": once / random if random else None,
    }


def _pool_point(likelihood: Likelihood, parameters: Vector) -> dict[str, float]:
    """Return what a pool keeps of a point: all but the POI, and gammas that follow the rest."""
    far = np.abs(parameters - likelihood.initial) > _FOLLOWS * likelihood.width
    kept = ~likelihood.constrained | far
    kept[: likelihood.interpolated] = True
    kept[likelihood.poi] = False
    return {
        likelihood.names[index]: round(float(parameters[index]), _POOL_DIGITS)
        for index in np.flatnonzero(kept)
    }


def _json(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


# --- pyhf, the other program ----------------------------------------------------------------------


def check_against_pyhf(
    likelihood: Likelihood, specification: Any, config: Mapping[str, Any], search: Search
) -> None:
    """Compare a likelihood with that of pyhf: its parameters, and its values at three points.

    Raises
    ------
    DisagreementError
        If they differ; the message names the sample and bin whose rates differ most, or else the
        part that does.
    """
    model, observations = _pyhf_model(specification, config)
    order = likelihood.pyhf_order
    for what, ours, theirs in (
        ("names", [likelihood.names[i] for i in order], model.config.par_names),
        ("initial values", likelihood.initial[order], model.config.suggested_init()),
        ("lower bounds", likelihood.lower[order], [b[0] for b in model.config.suggested_bounds()]),
        ("upper bounds", likelihood.upper[order], [b[1] for b in model.config.suggested_bounds()]),
        ("fixed", likelihood.fixed[order], model.config.suggested_fixed()),
    ):
        if not np.array_equal(ours, theirs):
            raise DisagreementError(f"pyhf has other {what} of the parameters: {theirs!r:.300}")
    observed = likelihood.observed
    minima = search.lowest.minima
    off = np.clip(likelihood.initial + 0.1, likelihood.lower, likelihood.upper)
    for point in (off, minima[FIXED].parameters, minima[BACKGROUND].parameters):
        value = likelihood.value(point, observed) + likelihood.saturated(observed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # logarithms that are not defined, in both
            by_pyhf = float(
                -2 * np.asarray(model.logpdf(point[order], observations)).reshape(-1)[0]
            )
        allowed = _VALUE_RTOL * max(abs(by_pyhf), 1.0) + likelihood.rounding
        if np.isfinite(value) != np.isfinite(by_pyhf) or abs(value - by_pyhf) > allowed:
            raise DisagreementError(
                f"twice the NLL is {value!r}, and {by_pyhf!r} by pyhf: "
                f"{_what_differs(likelihood, model, point)}"
            )


def _pyhf_model(specification: Any, config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Do what `fitting.pyhf_model` does in half the time, without copying the workspace."""
    import pyhf

    name = config["measurement"]
    measurement = next(
        measurement["config"]
        for measurement in specification["measurements"]
        if name in (None, measurement["name"])
    )
    model = pyhf.Model(
        {"channels": specification["channels"], "parameters": measurement["parameters"]},
        poi_name=measurement["poi"],
        validate=False,
        modifier_settings=fitting.modifier_settings(config),
    )
    observed = {entry["name"]: entry["data"] for entry in specification["observations"]}
    data = [events for channel in model.config.channels for events in observed[channel]]
    return model, np.array([*data, *model.config.auxdata])


def _what_differs(likelihood: Likelihood, model: Any, point: Vector) -> str:
    by_sample = np.asarray(
        model.main_model.expected_data(point[likelihood.pyhf_order], return_by_sample=True)
    )
    slices = model.config.channel_slices
    worst = (0.0, "")
    for (channel, sample, index), ours in zip(
        likelihood.cells, likelihood.rates(point), strict=True
    ):
        place = model.config.samples.index(sample), slices[channel].start + index
        theirs = float(by_sample[place])
        off = abs(ours - theirs) / max(abs(theirs), abs(ours), 1e-300)
        if off > worst[0]:
            text = (
                f"the sample {sample} has {ours:.10g} events in bin {index} of the channel "
                f"{channel}, and {theirs:.10g} by pyhf"
            )
            worst = off, text
    if worst[0] > _RATE_RTOL:
        return worst[1]
    return "the rates agree, so it is the constraint terms or the data"
