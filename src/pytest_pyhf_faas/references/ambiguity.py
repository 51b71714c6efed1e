"""How the two sets of minima of a hypothesis differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.references.cls_values import EXCLUDED
from pytest_pyhf_faas.references.places import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.campaign.results import HypotestResult, MinimumSet
    from pytest_pyhf_faas.references.reference import PatchReference


@dataclass(frozen=True, slots=True)
class Ambiguity:
    """How the two sets of minima of a hypothesis differ.

    Attributes
    ----------
    lowest, nominal : tuple of float, shape (6,)
        CLs_obs and the five CLs_exp at each of them.
    differences : tuple of mapping
        As in `PatchReference`; the largest gap first.
    flips : bool
        Whether the hypothesis is excluded at only one of the two.
    """

    lowest: tuple[float, ...]
    nominal: tuple[float, ...]
    differences: tuple[Mapping[str, Any], ...]
    flips: bool

    @classmethod
    def of(cls, source: PatchReference | HypotestResult) -> Ambiguity | None:
        """Return the ambiguity of a reference, or of a certified result, if it has one."""
        nominal = source.nominal
        if not source.ambiguous:
            return None
        differences = sorted(source.differences, key=lambda each: -abs(each["gap"]))
        return cls(
            source.lowest.cls_values,
            nominal.cls_values,
            tuple(differences),
            flips(source.lowest, nominal),
        )

    @property
    def gap(self) -> float:
        """The largest gap between the two minima of a fit, in twice the NLL."""
        return float(self.differences[0]["gap"]) if self.differences else 0.0

    @property
    def fit(self) -> str:
        """The fit that has the largest gap."""
        return str(self.differences[0]["fit"]) if self.differences else ""

    @property
    def parameters(self) -> tuple[Mapping[str, Any], ...]:
        """The parameters of that fit that differ most."""
        return tuple(self.differences[0]["parameters"]) if self.differences else ()

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Parameters that lie at a bound at either minimum of any fit."""
        names = (name for each in self.differences for name in each["at_bound"])
        return tuple(dict.fromkeys(names))

    @property
    def lines(self) -> list[str]:
        """The text about it, in lines."""
        observed = {"lowest": self.lowest[0], "nominal": self.nominal[0]}
        values = " and ".join(f"{value:.4g} at the {name}" for name, value in observed.items())
        lines = [f"ambiguous: CLs_obs is {values} minima"]
        if self.flips:
            (excluded,) = (name for name, value in observed.items() if value < EXCLUDED)
            lines[0] += f"; excluded only at the {excluded} ones"
        if self.differences:
            parameters = ", ".join(
                f"{each['name']} {each['lowest']:.3g} (nominal: {each['nominal']:.3g})"
                for each in self.parameters
            )
            lines.append(
                f"they differ most in the {words(self.fit)}, by {self.gap:.3g} in twice-NLL"
                + (f": {parameters}" if parameters else "")
            )
        if self.at_bound:
            lines.append(f"at a bound in one of them: {', '.join(self.at_bound)}")
        return lines


def flips(one: MinimumSet, other: MinimumSet) -> bool:
    """Whether a hypothesis is excluded at only one of two sets of minima."""
    excluded = [s.CLs_obs is not None and s.CLs_obs < EXCLUDED for s in (one, other)]
    return excluded[0] != excluded[1]


def at_minima(result: HypotestResult, minima: MinimumSet) -> HypotestResult:
    """Return a certified result with the values of one of its sets of minima."""
    return replace(
        result,
        CLs_obs=minima.CLs_obs,
        CLs_exp=minima.CLs_exp,
        mu_hat=minima.mu_hat,
        twice_nll=minima.twice_nll,
        twice_nll_asimov_truth=minima.twice_nll.get("free_fit_to_asimov"),
    )
