"""Results and references that are made up, with one set of minima or two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_pyhf_faas.campaign.results import FITS, FitError, MinimumSet, WorkerEnvironment
from pytest_pyhf_faas.references.reference import PatchReference
from tests.helpers.scripted_engine import ENVIRONMENT, toy_result, toy_tasks

(TASK,) = toy_tasks(1)
VALUES = (0.05, 0.01, 0.02, 0.04, 0.08, 0.16)
PROVENANCE = {
    "method": "hypotest",
    "backend": "numpy",
    "optimizer": "scipy",
    "date": "2026-11-22",
    "versions": {"python": "3.11.7", **ENVIRONMENT["versions"]},
}


def result_of(cls_values=VALUES, **changes):
    return toy_result(TASK, CLs_obs=cls_values[0], CLs_exp=tuple(cls_values[1:]), **changes)


def minima_of(cls_values, twice_nll, mu_hat=None):
    return MinimumSet(cls_values[0], tuple(cls_values[1:]), mu_hat, twice_nll)


def reference_of(cls_values=VALUES, *, twice_nll=None, mu_hat=None, **changes):
    """A reference with one set of minima, unless ``nominal`` is another."""
    lowest = minima_of(
        cls_values, dict.fromkeys(FITS, 100.0) if twice_nll is None else twice_nll, mu_hat
    )
    fields = {
        "pallet": "toy",
        "patch": TASK.patch.name,
        "path": Path("somewhere/reference_results/toy.json"),
        "provenance": PROVENANCE,
        "lowest": lowest,
        "nominal": lowest,
        "twice_nll_off_minimum": 150.0,
    }
    return PatchReference(**{**fields, **changes})


def right_error(error="pyhf.exceptions.InvalidModel"):
    """A reference whose right answer is an exception."""
    nothing = MinimumSet()
    return replace(reference_of(), lowest=nothing, nominal=nothing, error=error)


def at(position, value):
    """The six values with one of them replaced."""
    return tuple(value if number == position else old for number, old in enumerate(VALUES))


def error_of(kind, message="because"):
    error = FitError(kind, message)
    return toy_result(TASK, status="error", error=error, CLs_obs=None, CLs_exp=())


#: Of converged fits: none of them says anything about another.
MINIMA = dict(zip(FITS, (100.0, 110.0, 120.0, 130.0, 140.0), strict=True))
FREE, FIXED, BACKGROUND, FREE_ASIMOV, FIXED_ASIMOV = FITS
WRONG_VALUES = at(0, 0.9)


def fitted(cls_values=WRONG_VALUES, *, nearby=None, truth=MINIMA[FREE_ASIMOV], **changes):
    """A result whose fits end at their minima, but for what ``twice_nll`` changes."""
    fits = {**MINIMA, **changes.pop("twice_nll", {})}
    nearby = fits if nearby is None else nearby
    return result_of(
        cls_values,
        twice_nll=fits,
        twice_nll_nearby=nearby,
        twice_nll_asimov_truth=truth,
        **changes,
    )


def certified(**changes):
    return reference_of(**{"twice_nll": MINIMA, **changes})


def environment(**changes):
    return WorkerEnvironment.from_json({**ENVIRONMENT, **changes})


# Two sets of minima

LOWEST_VALUES = (0.0684, 0.01, 0.02, 0.04, 0.08, 0.16)
NOMINAL_VALUES = (0.0435, 0.011, 0.021, 0.041, 0.081, 0.161)
#: The background fit makes other Asimov data there.
NOMINAL = {FREE: 100.0, FIXED: 110.79, BACKGROUND: 120.3, FREE_ASIMOV: 131.0, FIXED_ASIMOV: 141.5}
DIFFERENCES = (
    {
        "fit": BACKGROUND,
        "gap": 0.3,
        "parameters": [{"name": "alpha_jes", "nominal": 0.5, "lowest": -1.25}],
        "at_bound": [],
    },
    {
        "fit": FIXED,
        "gap": 0.79,
        "parameters": [
            {"name": "mu_W", "nominal": 1.02, "lowest": 0.0},
            {"name": "alpha_jes", "nominal": 0.1, "lowest": 0.25},
        ],
        "at_bound": ["mu_W"],
    },
)


def two(lowest=LOWEST_VALUES, nominal=NOMINAL_VALUES, *, at_nominal=NOMINAL, **changes):
    """A reference whose nominal minima are others than the lowest."""
    return certified(
        **{
            "lowest": minima_of(lowest, MINIMA),
            "nominal": minima_of(nominal, at_nominal),
            "differences": DIFFERENCES,
            "minima": {FIXED: (0.79, 0.895), BACKGROUND: (0.3, 0.9)},
            **changes,
        }
    )


def run(cls_values, fits, **changes):
    """A result with these fits, to Asimov data that follow from them."""
    fits = {**MINIMA, **fits}
    return fitted(cls_values, twice_nll=fits, truth=fits[FREE_ASIMOV], **changes)


AT_LOWEST, AT_NOMINAL = run(LOWEST_VALUES, MINIMA), run(NOMINAL_VALUES, NOMINAL)


def certificate(nominal=None, nominal_values=NOMINAL_VALUES):
    if nominal is not None:
        nominal = {
            "CLs_obs": nominal_values[0],
            "CLs_exp": list(nominal_values[1:]),
            "mu_hat": 0.1,
            "twice_nll": nominal,
        }
    differences = list(DIFFERENCES) if nominal else []
    return {"distance": 1e-13, "nominal": nominal, "differences": differences}


def searched(cls_values, fits, nominal=None, **changes):
    """A certified result: its lowest minima, and the nominal ones if they are others."""
    return run(
        cls_values,
        fits,
        certificate=certificate(nominal, **changes),
        nearby={},
        environment=environment(backend=None, optimizer="certified"),
    )


BOTH = searched(LOWEST_VALUES, MINIMA, NOMINAL)
