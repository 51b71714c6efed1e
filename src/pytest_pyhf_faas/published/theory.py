"""Hypotheses for limits on cross sections: without the uncertainty of the cross section.

A limit on a cross section says which cross sections the data exclude, independent of theory, so
the uncertainty of the prediction must not enter. HistFitter holds its parameter
``alpha_SigXSec`` at 0 for upper limits (``fixSigXSec``), but the published patches have the
modifier, as the CLs of the paper do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Operations = Sequence[Mapping[str, Any]]

#: HistFitter's name of the uncertainty of the theory cross section of a signal.
CROSS_SECTION = "SigXSec"


def without_cross_section_uncertainty(
    operations: Operations, background: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the patch of a hypothesis, with the uncertainty of its cross section held at 0.

    Parameters
    ----------
    operations : sequence of mapping
        The JSON patch that adds the signal.
    background : mapping
        The workspace that it is a patch of.

    Returns
    -------
    list of dict
        The patch, and if it has such an uncertainty operations that fix its parameter in each
        measurement: a patch for pyhf as well.
    """
    patch = [dict(operation) for operation in operations]
    if not any(_has_uncertainty(operation.get("value")) for operation in patch):
        return patch
    for place, measurement in enumerate(background["measurements"]):
        pointer = f"/measurements/{place}/config/parameters"
        names = [one["name"] for one in measurement["config"].get("parameters", [])]
        if CROSS_SECTION in names:
            pointer = f"{pointer}/{names.index(CROSS_SECTION)}/fixed"
            patch.append({"op": "add", "path": pointer, "value": True})
        else:
            fixed = {"name": CROSS_SECTION, "fixed": True}
            patch.append({"op": "add", "path": f"{pointer}/-", "value": fixed})
    return patch


def _has_uncertainty(value: Any) -> bool:
    """Whether JSON that a patch adds, a sample or more, has the modifier."""
    if isinstance(value, dict):
        return value.get("name") == CROSS_SECTION or any(map(_has_uncertainty, value.values()))
    return isinstance(value, list) and any(map(_has_uncertainty, value))
