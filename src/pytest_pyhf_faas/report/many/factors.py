"""What may explain differences: versions, machines and what was asked for."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from pytest_pyhf_faas.report.comparison.inputs import facts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.report.form import Document

#: Factors that people vary on purpose, and that name an environment; others come after them.
FIRST = ("pyhf", "scipy", "numpy", "optimizer", "backend", "method", "jax", "iminuit", "python")
#: Factors whose value is clear without their name.
_SAY_ENOUGH = ("optimizer", "backend", "method")
#: An unused package is not a cause: the factor and the value that use each package.
_USED_BY = {
    "iminuit": ("optimizer", "minuit"),
    "jax": ("backend", "jax"),
    "jaxlib": ("backend", "jax"),
    "torch": ("backend", "pytorch"),
    "tensorflow": ("backend", "tensorflow"),
    "tensorflow-probability": ("backend", "tensorflow"),
}


def factors_of(document: Document) -> dict[str, str]:
    """Return everything in a run that may change its results, by name.

    Real versions of its workers, their machine, the configuration of the fits, the inputs and the
    endpoint. Where a run has several of one, all of them. Where no fit reports their versions,
    those that they reported before the fits.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for analysis in document["analyses"]:
        found["endpoint"].add(analysis["endpoint"])
        found[f"background of {analysis['pallet']}"].add(analysis["digest"][:12])
        for name, value in analysis["config"].items():
            if value is not None and name not in ("quantity", "toys"):
                found[name].add(str(value))
    factors = {
        **{name: ", ".join(sorted(values)) for name, values in found.items()},
        **_facts(document),
        "pytest-pyhf-faas": document["run"]["package"],
    }
    return {name: value for name, value in factors.items() if _is_used(name, factors)}


def _facts(document: Document) -> dict[str, str]:
    facts = facts_of(document["environments"]) or _told_before_the_fits(document)
    return {name: value for name, value in facts.items() if value != "-"}


def _told_before_the_fits(document: Document) -> dict[str, str]:
    """Return the factors among what the preflight measured of the workers."""
    names = facts_of([document["client"]])
    return {
        name: str(value)
        for endpoint in document["endpoints"]
        for finding in endpoint["findings"]
        for name, value in finding["values"].items()
        if finding["name"] == "environment" and name in names
    }


def _is_used(package: str, factors: Mapping[str, str]) -> bool:
    if package not in _USED_BY:
        return True
    part, value = _USED_BY[package]
    return value in factors.get(part, value).split(", ")


def with_asked(real: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """Return what an environment has, with what was asked for where that says more.

    A version that begins with what was asked for says all; one that does not has it in parentheses,
    so that a checkout is not taken for the release whose version it still has.
    """
    found = dict(real)
    for name, wanted in asked.items():
        value = real.get(name)
        if value is None:
            found[name] = wanted
        elif value != wanted and not value.startswith(f"{wanted}."):
            found[name] = f"{value} ({wanted})"
    return found


def place_of(name: str) -> tuple[int, str]:
    """Return the place of a factor among others: those first that people vary on purpose."""
    return FIRST.index(name) if name in FIRST else len(FIRST), name


def ordered(names: Iterable[str]) -> list[str]:
    """Return names of factors in their order."""
    return sorted(set(names), key=place_of)


@cache
def order_of(value: str) -> tuple[int, Version, str]:
    """Return the place of a value among others: versions by their order, then words by theirs."""
    number = value.partition(" ")[0].partition(",")[0]
    try:
        return 0, Version(number), value
    except InvalidVersion:
        return 1, Version("0"), value


def is_version(value: str) -> bool:
    """Whether a value has an order, as versions have."""
    return order_of(value)[0] == 0


def varying(
    environments: Sequence[Mapping[str, str]], known: Sequence[bool] | None = None
) -> list[str]:
    """Return the names of what is not the same in all environments.

    Parameters
    ----------
    environments : sequence of mapping
        What each has, by name.
    known : sequence of bool, optional
        Whether its factors are complete: only then is a missing factor a difference. A
        package that only some of them use is none: the factor that needs it is.
    """
    known = [True] * len(environments) if known is None else known
    found = []
    for name in ordered(name for each in environments for name in each):
        values = {
            each.get(name)
            for each, whole in zip(environments, known, strict=True)
            if whole or name in each
        }
        if len(values - {None} if name in _USED_BY else values) > 1:
            found.append(name)
    return found


def telling_apart(environments: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what distinguishes each environment from the others, in as few words as possible."""
    chosen: list[str] = []
    groups = 1
    for name in varying(environments):
        tried = [*chosen, name]
        count = len({tuple(each.get(n) for n in tried) for each in environments})
        if count > groups:
            chosen, groups = tried, count
    return [
        ", ".join(
            each[name] if name in _SAY_ENOUGH else f"{name} {each[name]}"
            for name in chosen
            if name in each
        )
        for each in environments
    ]
