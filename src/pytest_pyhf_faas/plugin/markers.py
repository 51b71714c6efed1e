"""Read the markers ``pallet`` and ``hypotest`` of a test."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin.options import BY_NAME
from pytest_pyhf_faas.plugin.values import pallet_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.plugin.settings import Settings
    from pytest_pyhf_faas.references.criteria import Minimum

#: Keywords of `hypotest(...)` that go beyond the options above: fields of `HypotestConfig`.
HYPOTEST_KEYWORDS = (
    "test_poi",
    "test_stat",
    "measurement",
    "normsys_interpcode",
    "histosys_interpcode",
)


#: The quantity that each fixture with a result needs.
_QUANTITIES = {
    "hypotest_result": "cls",
    "limit_result": "limit",
    "published_result": "limit",
    "toys_result": "toys",
    "analysis_result": "cls",
}
#: The fixture whose result is always at certified minima.
_CERTIFIED = "published_result"


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a result is right; ``None`` leaves a tolerance to the reference file."""

    rtol: float | None
    atol: float | None
    nll_tolerance: float
    minimum: Minimum


def hypotest_config(
    settings: Settings,
    marker: pytest.Mark | None,
    quantity: str = "cls",
    *,
    certified: bool = False,
) -> tuple[HypotestConfig, Criteria]:
    """Return the configuration of a test and when its result is right.

    Parameters
    ----------
    settings : Settings
        The defaults where the marker is silent.
    marker : Mark or None
        The marker ``hypotest``.
    quantity : str
        The quantity, where the marker is silent.
    certified : bool
        Whether it is calculated at certified minima, whatever the options say.

    Raises
    ------
    ConfigurationError
        If its ``hypotest`` marker has an unknown keyword or a wrong value.
    """
    from pytest_pyhf_faas.campaign.tasks import CERTIFIED

    keywords = {} if marker is None else dict(marker.kwargs)
    names = [each.name for each in fields(Criteria)]
    criteria = {name: getattr(settings, name) for name in names}
    allowed = (*HYPOTEST_KEYWORDS, "quantity", "toys", "backend", "optimizer", "method", *criteria)
    unknown = [name for name in keywords if name not in allowed]
    if unknown or (marker is not None and marker.args):
        what = f"the keyword {unknown[0]!r}" if unknown else "positional arguments"
        raise ConfigurationError(
            f"the marker hypotest does not take {what}: it takes {', '.join(allowed)}"
        )
    for name in criteria:
        value = keywords.pop(name, None)
        if value is not None:
            criteria[name] = BY_NAME[name].value(value)
    if settings.update or certified:
        keywords["method"] = CERTIFIED
    quantity = keywords.setdefault("quantity", quantity)
    toys = keywords.pop("toys", settings.toys)
    keywords["toys"] = BY_NAME["toys"].value(toys) if quantity == "toys" else 0
    return replace(settings.hypotest, **keywords), Criteria(**criteria)


def config_of(item: pytest.Item, settings: Settings) -> tuple[HypotestConfig, Criteria]:
    """Return how the hypotheses of an item are tested, and when a result is right.

    Raises
    ------
    ConfigurationError
        With the name of the test, if its marker or its fixtures make no sense.
    """
    marker = item.get_closest_marker("hypotest")
    certified = _CERTIFIED in getattr(item, "fixturenames", ())
    try:
        return hypotest_config(settings, marker, quantity_of(item), certified=certified)
    except ConfigurationError as error:
        raise ConfigurationError(f"{item.nodeid}: {error}") from None


def quantity_of(item: pytest.Item) -> str:
    """Return the quantity of an item, from the fixtures that it asks for.

    Raises
    ------
    ConfigurationError
        If there are several.
    """
    fixtures = [name for name in _QUANTITIES if name in getattr(item, "fixturenames", ())]
    if len(fixtures) > 1:
        raise ConfigurationError(
            f"the test asks for {' and '.join(fixtures)}, but each test calculates one quantity: "
            "write a test for each of them"
        )
    return _QUANTITIES[fixtures[0]] if fixtures else "cls"


def pallet_selection(
    settings: Settings, marker: pytest.Mark | None, places: Sequence[Path]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the pallets and the patches that a test wants.

    Parameters
    ----------
    settings : Settings
        The defaults where the marker is silent.
    marker : Mark or None
        The marker ``pallet``.
    places : sequence of Path
        The directories that a path in it may be relative to, the first that has it counting.

    Raises
    ------
    ConfigurationError
        If its ``pallet`` marker has an unknown keyword or names no pallet.
    """
    if marker is None:
        return settings.pallets, settings.patches
    unknown = [name for name in marker.kwargs if name != "patch"]
    if unknown:
        raise ConfigurationError(
            f"the marker pallet does not take the keyword {unknown[0]!r}: it takes names, "
            "directories, archives or DOIs, joined by pluses to combine them, and "
            "patch=..."
        )
    patch = marker.kwargs.get("patch", ())
    patches = tuple(patch) if isinstance(patch, (list, tuple, set)) else (patch,)
    if not all(isinstance(text, (str, Path)) for text in (*marker.args, *patches)):
        raise ConfigurationError("the marker pallet takes strings and paths")
    named = tuple(_from_any(places, str(argument)) for argument in marker.args)
    pallets = named or settings.pallets
    return pallets, tuple(str(text) for text in patches) or settings.patches


def _from_any(places: Sequence[Path], text: str) -> str:
    found = (pallet_from(place, text) for place in places)
    return next((path for path in found if path != text), text)
