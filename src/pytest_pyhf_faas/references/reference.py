"""The reference of a hypothesis.

A reference has the five fits of a hypothesis at two sets of minima, the lowest and the nominal
ones, where these differ (see `results.MinimumSet`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

from pytest_pyhf_faas.campaign.results import MinimumSet
from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.references.ambiguity import flips
from pytest_pyhf_faas.references.cls_values import DEFAULT_ATOL, default_rtol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.campaign.quantities import Limits
    from pytest_pyhf_faas.references.form import (
        Checked,
        PublishedEntry,
        Tolerance,
        ToysEntry,
    )
    from pytest_pyhf_faas.references.known_issues import KnownIssue

#: If the distance of a backend and optimizer from the reference is known, the tolerance is this
#: many times that: other machines are a little farther off.
TOLERANCE_MARGIN = 3.0
_NO_MINIMA = MinimumSet()


@final
@dataclass(frozen=True, slots=True)
class PatchReference:
    """The reference of one signal hypothesis.

    Attributes
    ----------
    lowest, nominal : MinimumSet
        The two sets of minima; one object if they are the same. Empty if `error` is the
        right answer.
    nominal_is_known : bool
        Whether anything is known of the nominal minima: a file of schema 1 has only the lowest.
    differences : tuple of mapping
        For each fit whose nominal minimum is not the lowest: ``fit``, ``gap`` (nominal
        minus lowest, twice the NLL), ``parameters`` (those that differ most, each with ``name``,
        ``nominal`` and ``lowest``) and ``at_bound`` (those at a bound in either).
    minima : mapping
        For each fit, how far other known minima lie above the lowest, in twice the NLL.
    twice_nll_off_minimum : float or None
        Twice the negative log-likelihood at a point that depends on the model alone.
    rounding : float
        How far twice the NLL may be rounded.
    distance : float or None
        The largest of the estimated distances to the minima, in twice the negative log-likelihood.
    search : mapping
        For each fit how many starts there were, how many of them ended in the lowest minimum, how
        many were drawn at random, and how many of those ended there.
    error : str or None
        Type of the exception that is the right answer.
    fit_s : float or None
        Seconds of the fit where the reference was made.
    checked : mapping
        For each fit setup that was tried at which set of minima it was
        (``set``: "lowest", "nominal", "both" or "none") and how far from it: ``cls`` (largest
        relative difference), ``twice_nll`` (largest difference); and ``fit_s``.
    known_issues : mapping of fit setup to sequence of KnownIssue
        Known wrong values, and the versions of pyhf that give them.
    provenance : mapping
        How, when and with which versions it was made.
    tolerances : mapping of fit setup to mapping
        ``rtol`` and ``atol`` as the file sets them.
    limits : Limits or None
        The upper limits, if they are known.
    toys : mapping or None
        CLs from toys, if it is known; see `form.ToysEntry`.
    published : mapping or None
        At which minima the published limit is reproduced; see `form.PublishedEntry`.
    test_stat, test_poi : str, float
        The test of the file.
    """

    pallet: str
    patch: str
    path: Path
    provenance: Mapping[str, Any]
    lowest: MinimumSet = _NO_MINIMA
    nominal: MinimumSet = _NO_MINIMA
    nominal_is_known: bool = True
    differences: tuple[Mapping[str, Any], ...] = ()
    minima: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    twice_nll_off_minimum: float | None = None
    rounding: float = 0.0
    distance: float | None = None
    search: Mapping[str, Sequence[int]] = field(default_factory=dict)
    error: str | None = None
    fit_s: float | None = None
    checked: Mapping[str, Checked] = field(default_factory=dict)
    known_issues: Mapping[str, Sequence[KnownIssue]] = field(default_factory=dict)
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    limits: Limits | None = None
    toys: ToysEntry | None = None
    published: PublishedEntry | None = None
    test_stat: str = "qtilde"
    test_poi: float = 1.0

    @property
    def CLs_obs(self) -> float | None:
        """Observed CLs at the lowest minima."""
        return self.lowest.CLs_obs

    @property
    def CLs_exp(self) -> tuple[float, ...]:
        """Expected CLs at the lowest minima, at -2, -1, 0, 1, 2 standard deviations."""
        return self.lowest.CLs_exp

    @property
    def mu_hat(self) -> float | None:
        """POI of the free fit to data at the lowest minima."""
        return self.lowest.mu_hat

    @property
    def twice_nll(self) -> Mapping[str, float]:
        """Twice the negative log-likelihood at the lowest minima of the five fits."""
        return self.lowest.twice_nll

    @property
    def cls_values(self) -> tuple[float, ...]:
        """CLs_obs and the five CLs_exp at the lowest minima."""
        return self.lowest.cls_values

    @property
    def ambiguous(self) -> bool:
        """Whether the nominal minima differ from the lowest."""
        return self.nominal is not self.lowest

    @property
    def flips(self) -> bool:
        """Whether the hypothesis is excluded at only one of the two sets of minima."""
        return flips(self.lowest, self.nominal)

    @property
    def asimov_poi(self) -> float:
        """The POI that the Asimov data are to be built at."""
        return 1.0 if self.test_stat == "q0" else 0.0

    def tolerance(
        self, fit_setup: str, rtol: float | None = None, atol: float | None = None
    ) -> tuple[float, float]:
        """Return the tolerance for a result of a fit setup.

        Parameters
        ----------
        fit_setup : str
            Such as "numpy+scipy".
        rtol : float, optional
            Replaces the tolerance of this reference.
        atol : float, optional
            Replaces the tolerance of this reference.

        Returns
        -------
        tuple of float
            The relative and the absolute tolerance: those given; else what follows from how far the
            fit setup is known to be from this reference; else those of the file; else the defaults.
        """
        of_file = self.tolerances.get(fit_setup, {})
        if rtol is None:
            default = default_rtol(fit_setup)
            checked = self.checked.get(fit_setup)
            distance = checked.get("cls") if checked else None
            if fit_setup in self.known_issues or (checked and checked.get("set") == "none"):
                rtol = default
            elif isinstance(distance, float):
                rtol = max(default, TOLERANCE_MARGIN * distance)
            else:
                rtol = of_file.get("rtol", default)
        return rtol, of_file.get("atol", DEFAULT_ATOL) if atol is None else atol

    def expected_s(self, fit_setup: str) -> float | None:
        """Return how long the fit took with a fit setup, where that was tried."""
        if fit_setup == CERTIFIED:
            return self.fit_s
        checked = self.checked.get(fit_setup)
        return checked.get("fit_s") if checked else None

    def relative_s(self) -> float | None:
        """Return how long the fit took with any fit setup.

        It shows which fits of a pallet are long, not how long they are with another setup.
        """
        tried: list[float | None] = [each.get("fit_s") for each in self.checked.values()]
        return next((seconds for seconds in tried if seconds is not None), self.fit_s)


#: The option that makes references.
MAKE = "--faas-update=new"
#: If a reference of another patch has the same name.
REPLACE = "--faas-update=changed, which replaces what is there"


@final
@dataclass(frozen=True, slots=True)
class Missing:
    """A missing reference, with the reason and the remedy; false, unlike a reference."""

    reason: str
    remedy: str = MAKE

    def __bool__(self) -> Literal[False]:
        return False

    def expected_s(self, _fit_setup: str) -> None:
        """See `PatchReference`; unknown here."""

    def relative_s(self) -> None:
        """See `PatchReference`; unknown here."""
