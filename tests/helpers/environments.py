"""Runs in each combination of some factors, with results that change along them."""

from __future__ import annotations

from itertools import product

from pytest_pyhf_faas.report.many.cell import Cell
from tests.helpers import report_documents as make

FACTORS = {
    "pyhf": ("0.7.0", "0.7.6", "0.8.0"),
    "scipy": ("1.9.3", "1.14.1"),
    "numpy": ("1.26.4", "2.4.6"),
    "optimizer": ("scipy", "minuit"),
}
PATCHES = ("a", "b", "c")


def cell(factors, result=None, patches=PATCHES):
    """A run in an environment; `result` changes a hypothesis by its patch and the factors."""
    found = []
    for patch in patches:
        changes = {} if result is None else result(patch, factors)
        scale = changes.pop("scale", 1.0)
        hypothesis = make.hypothesis(patch, rtol=1e-4, **changes)
        if scale != 1.0:
            hypothesis["CLs"] = [scale * value for value in hypothesis["CLs"]]
        found.append(hypothesis)
    optimizer = factors.get("optimizer", "scipy")
    setup = f"numpy+{optimizer}"
    config = {"backend": "numpy", "optimizer": optimizer, "method": "hypotest"}
    versions = {name: value for name, value in factors.items() if name not in ("optimizer", "cpu")}
    environment = make.environment(
        optimizer=optimizer,
        versions=versions,
        **({"cpu": factors["cpu"]} if "cpu" in factors else {}),
    )
    analysis = make.analysis(found, fit_setup=setup, config=config, wall_time=None)
    document = make.document([analysis], environments=[environment])
    return Cell(" ".join(factors.values()), {}, document)


def grid(result=None, factors=None, also=None, **keywords):
    """A run in each combination of factors; `also` gives factors that follow from others."""
    factors = FACTORS if factors is None else factors
    combinations = (
        dict(zip(factors, values, strict=True)) for values in product(*factors.values())
    )
    return [
        cell(each | ({} if also is None else also(each)), result, **keywords)
        for each in combinations
    ]
