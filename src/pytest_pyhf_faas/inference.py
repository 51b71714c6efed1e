"""CLs, upper limits and toys of one workspace, without pytest and without an endpoint.

The likelihood and its minima are those of certified references; pyhf is not used. Whoever
wants pyhf's own functions with these minima takes `histfactory.pyhf_optimizer`.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas.histfactory import limits as _limits
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.search import BRIEF, FREE, THOROUGH, Search
from pytest_pyhf_faas.histfactory.toys import Toys, blocks_of, toy_cls
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.worker.patching import apply_patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.histfactory.limits import UpperLimits
    from pytest_pyhf_faas.histfactory.search import MinimumSet, Which
    from pytest_pyhf_faas.histfactory.toys import ToyCLs

    Patch = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Hypotest:
    """CLs of one hypothesis.

    Attributes
    ----------
    lowest, nominal : MinimumSet
        The two sets of minima, each with its CLs: the lowest of those that were found, and those
        next to pyhf's initial values.
    mu_hat : float
        POI of the free fit to the observed data, at the lowest minima.
    """

    lowest: MinimumSet
    nominal: MinimumSet
    mu_hat: float

    @property
    def CLs_obs(self) -> float:
        """Observed CLs at the lowest minima."""
        return self.lowest.cls[0]

    @property
    def CLs_exp(self) -> tuple[float, ...]:
        """Expected CLs there, at -2, -1, 0, 1, 2 standard deviations; shape (5,)."""
        return self.lowest.cls[1:]

    @property
    def ambiguous(self) -> bool:
        """Whether the two sets of minima differ."""
        return self.lowest.cls != self.nominal.cls


def hypotest(workspace: Mapping[str, Any], patch: Patch | None = None, **how: Any) -> Hypotest:
    """Test one hypothesis at certified minima.

    Parameters
    ----------
    workspace : mapping
        A HistFactory workspace, as JSON or as `pyhf.Workspace`.
    patch : sequence of mapping, optional
        A JSON patch to it, such as the ``operations`` of a `SignalPatch`.
    **how
        ``test_poi`` (1.0), ``test_stat`` ("qtilde", "q" or "q0"), ``measurement`` (the first), and
        ``thorough`` (True): whether the search for minima is that of references, or a brief one.

    Returns
    -------
    Hypotest
        With the values of `pyhf.infer.hypotest`, at both sets of minima.

    Raises
    ------
    InvalidModel
        If the workspace makes no likelihood, or the hypothesis cannot be tested.
    CertificationError
        If a fit ended at no minimum.

    Examples
    --------
    >>> hypotest(workspace, patch.operations).CLs_obs
    0.0435
    """
    search, _seed = _searched(workspace, patch, **how)
    lowest, poi = search.lowest, search.likelihood.poi
    return Hypotest(lowest, search.nominal, float(lowest.minima[FREE].parameters[poi]))


def upper_limit(
    workspace: Mapping[str, Any],
    patch: Patch | None = None,
    *,
    minimum: Which = "lowest",
    level: float = 0.05,
    **how: Any,
) -> UpperLimits:
    """Return the observed and the expected upper limits on the POI.

    Parameters
    ----------
    workspace : mapping
        As for `hypotest`.
    patch : sequence of mapping, optional
        As for `hypotest`.
    minimum : "lowest" or "nominal"
        The set of minima.
    level : float
        CLs at the limit.
    **how
        As for `hypotest`.

    Returns
    -------
    UpperLimits
        The six limits, the values of the POI that were tested, and remarks in words.

    Raises
    ------
    InvalidModel
        As `hypotest`.
    CertificationError
        As `hypotest`.
    """
    search, _seed = _searched(workspace, patch, **how)
    return _limits.upper_limits(search, minimum, level)


def toys(
    workspace: Mapping[str, Any],
    patch: Patch | None = None,
    *,
    count: int = 1000,
    minimum: Which = "lowest",
    seed: int | None = None,
    **how: Any,
) -> ToyCLs:
    """Return CLs by pseudo-experiments.

    Parameters
    ----------
    workspace : mapping
        As for `hypotest`.
    patch : sequence of mapping, optional
        As for `hypotest`.
    count : int
        The number of toys with the tested signal, and the same number without signal.
    minimum : "lowest" or "nominal"
        The set of minima at which they are drawn.
    seed : int, optional
        By default it follows from the patch, or without a patch from the workspace. So the same
        hypothesis has the same toys everywhere.
    **how
        As for `hypotest`.

    Returns
    -------
    ToyCLs
        CLs with its statistical errors, and the test statistics.

    Raises
    ------
    InvalidModel
        As `hypotest`.
    CertificationError
        As `hypotest`.
    """
    search, own_seed = _searched(workspace, patch, **how)
    of_hypothesis = Toys(search, minimum, own_seed if seed is None else seed)
    signal, background = (
        np.concatenate([of_hypothesis.block(name, *block) for block in blocks_of(count)])
        for name in ("signal", "background")
    )
    return toy_cls(of_hypothesis.observed, signal, background)


def _searched(
    workspace: Mapping[str, Any],
    patch: Patch | None,
    *,
    test_poi: float = 1.0,
    test_stat: str = "qtilde",
    measurement: str | None = None,
    thorough: bool = True,
) -> tuple[Search, int]:
    """Return the minima of a hypothesis, and its seed."""
    specification = dict(workspace)
    # The seed is that of workers, to whom patches travel as compact JSON.
    content = specification if patch is None else [dict(each) for each in patch]
    text = json.dumps(content, separators=(",", ":"))
    if patch is not None:
        specification = apply_patch(json.loads(text), specification)
    seed = zlib.crc32(text.encode())
    likelihood = Likelihood(Workspace.from_json(specification), measurement)
    effort = THOROUGH if thorough else BRIEF
    return Search(likelihood, test_poi, test_stat, effort=effort, seed=seed), seed
