"""How close a result must be to its reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.references.cls_values import Row, close

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.results import MinimumSet

#: Which sets of minima a result may be at to be right, as ``--faas-minimum`` names them.
Minimum = Literal["any", "lowest", "nominal"]


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a result is right.

    Attributes
    ----------
    fit_setup : str
        Backend and optimizer, as `HypotestConfig.fit_setup`.
    rtol, atol : float
        A value is right within ``atol + rtol * abs(reference)``.
    nll_tolerance : float
        How far from a minimum a fit may end, in twice the NLL.
    minimum : str
        At which set of minima a result is right.
    usual : tuple of float or None
        The rtol and atol of the fit setup, if others are asked for.
    """

    fit_setup: str
    rtol: float
    atol: float
    nll_tolerance: float
    minimum: Minimum
    usual: tuple[float, float] | None = None

    @property
    def tolerance(self) -> str:
        """How far CLs may be off."""
        return _tolerance(self.rtol, self.atol)

    def if_usual(self, rows: Iterable[Row]) -> str:
        """Return the tolerance of the fit setup, if another is asked for and values are within."""
        if self.usual is None or not all(
            close(row.obtained, row.reference, *self.usual) for row in rows
        ):
            return ""
        return _tolerance(*self.usual)

    def rows(self, found: MinimumSet, reference: MinimumSet) -> tuple[Row, ...]:
        """Return the six values next to those of a set of minima."""
        return tuple(
            Row(label, obtained, expected, close(obtained, expected, self.rtol, self.atol))
            for label, obtained, expected in zip(
                CLS_LABELS, found.cls_values, reference.cls_values, strict=True
            )
        )


def _tolerance(rtol: float, atol: float) -> str:
    return f"tolerance {rtol:g} relative, {atol:g} absolute"
