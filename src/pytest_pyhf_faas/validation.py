"""A campaign without pytest: fit a pallet on an endpoint, and compare with its references."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.advice import check_client
from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, make_tasks
from pytest_pyhf_faas.errors import ConfigurationError, PalletError, ReportError
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.pallet import Pallet
from pytest_pyhf_faas.references.compare import Comparison, compare
from pytest_pyhf_faas.references.known_issues import is_known_error
from pytest_pyhf_faas.references.limit_values import limit_tolerance
from pytest_pyhf_faas.references.limits import compare_limits
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.references.store import DIRECTORY, store_in
from pytest_pyhf_faas.references.toy_values import ToyValues, toy_cls_of
from pytest_pyhf_faas.references.toys import compare_toys
from pytest_pyhf_faas.report import csv_tables
from pytest_pyhf_faas.report.quantity import CLS, quantity_of
from pytest_pyhf_faas.session import hypotheses
from pytest_pyhf_faas.session.display import StreamDisplay
from pytest_pyhf_faas.session.fits import Fits
from pytest_pyhf_faas.session.fitting import Fitting
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted, listed

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.histfactory.toys import ToyCLs
    from pytest_pyhf_faas.pallets.pallet import SignalPatch
    from pytest_pyhf_faas.references.criteria import Minimum
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.report.form import Hypothesis


@dataclass(frozen=True, slots=True, eq=False)
class Validated:
    """One hypothesis: its fit, and the comparison with its reference.

    Attributes
    ----------
    patch : SignalPatch
        The hypothesis.
    result : HypotestResult
        The result of its fit: values, or what broke.
    reference : PatchReference or Missing
        The reference of the comparison; if there is none, a `Missing` (false) with the reason.
    comparison : Comparison
        The verdict and the reasons for it.
    """

    patch: SignalPatch
    result: HypotestResult
    reference: PatchReference | Missing
    comparison: Comparison
    _tolerance: tuple[float, float] | None

    @property
    def name(self) -> str:
        """The name of the patch."""
        return self.patch.name

    @property
    def verdict(self) -> str:
        """The verdict: "right", "wrong", "no reference" and others, see `Verdict`."""
        return self.comparison.verdict.value

    @property
    def CLs_obs(self) -> float | None:
        """Observed CLs; ``None`` if it was not calculated."""
        return self.result.CLs_obs

    @property
    def CLs_exp(self) -> tuple[float, ...]:
        """Expected CLs at -2, -1, 0, 1, 2 standard deviations; empty where there is none."""
        return self.result.CLs_exp

    @property
    def limits(self) -> Limits | None:
        """Upper limits, if they were requested and found."""
        return Limits.from_json(self.result.limits) if self.result.limits else None

    @property
    def toys(self) -> ToyCLs | None:
        """CLs from toys, if they were requested and drawn."""
        return toy_cls_of(self.result.toys) if self.result.toys else None

    def __str__(self) -> str:
        """Return it as text."""
        comparison = self.comparison
        return "\n".join(filter(None, [comparison.title, comparison.explanation]))


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """The hypotheses of a pallet, in the order of its patches.

    Iterating yields each `Validated`; an index is the name of a patch.

    Attributes
    ----------
    pallet : Pallet
        With the patches that were fitted.
    endpoint : str
        The endpoint of the fits.
    config : HypotestConfig
        The configuration of the tests.
    notes : tuple of str
        Remarks on the run, such as how many fits come from an earlier one.
    """

    pallet: Pallet
    endpoint: str
    config: HypotestConfig
    notes: tuple[str, ...]
    _hypotheses: Mapping[str, Validated]

    def __iter__(self) -> Iterator[Validated]:
        return iter(self._hypotheses.values())

    def __len__(self) -> int:
        return len(self._hypotheses)

    def __contains__(self, patch: object) -> bool:
        return patch in self._hypotheses

    def __getitem__(self, patch: str) -> Validated:
        try:
            return self._hypotheses[patch]
        except KeyError:
            names = listed(list(self._hypotheses), 8)
            raise KeyError(f"no patch {patch!r} was fitted, but {names}") from None

    @property
    def counts(self) -> dict[str, int]:
        """The number of hypotheses for each verdict."""
        return dict(Counter(each.verdict for each in self))

    def __str__(self) -> str:
        """Return it in a sentence."""
        said = ", ".join(f"{count} {verdict}" for verdict, count in self.counts.items())
        fit_setup, hypotheses = self.config.fit_setup, counted(len(self), "hypothesis")
        return f"{self.pallet.name} on {self.endpoint}, {fit_setup}: {hypotheses}: {said}"

    __repr__ = __str__

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write a row for each hypothesis, with the columns of a report's tables.

        Those of ``limits.csv`` for limits, else of ``cls.csv``; with toys CLs is that from toys.

        Parameters
        ----------
        path : str or os.PathLike
            The file; it is overwritten.

        Raises
        ------
        ReportError
            If it cannot be written.
        """
        reference = next((each.reference for each in self if each.reference), None)
        analysis = hypotheses.analysis_of(self.pallet, self.endpoint, self.config, reference)
        analysis["hypotheses"] = [self._entry(each) for each in self]
        try:
            csv_tables.write_table(quantity_of(analysis) or CLS, [analysis], Path(path))
        except OSError as error:
            raise ReportError(
                f"{path} cannot be written: {error.strerror or error}; the results are still here"
            ) from error

    def _entry(self, each: Validated) -> Hypothesis:
        said = hypotheses.fitted(
            each.patch, each.name, self.config.quantity, each.result, each.reference
        )
        hypotheses.compared(said, each.comparison, each._tolerance)  # noqa: SLF001 - of this module
        if each.toys is not None:
            said["CLs"] = hypotheses.numbers((each.toys.CLs_obs, *each.toys.CLs_exp))
        return said


def validate(
    pallet: str | os.PathLike[str] | Pallet,
    endpoint: str = "local",
    *,
    patches: str | Sequence[str] = (),
    quantity: str = "cls",
    toys: int = 1000,
    method: str = "hypotest",
    backend: str = "numpy",
    optimizer: str = "scipy",
    test_poi: float = 1.0,
    test_stat: str = "qtilde",
    measurement: str | None = None,
    minimum: Minimum = "any",
    rtol: float | None = None,
    atol: float | None = None,
    reference_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    blocks: int | None = None,
    endpoint_config: Mapping[str, Any] | None = None,
    timeout_s: float | None = 3600.0,
    queue_timeout_s: float | None = 3600.0,
    retries: int = 1,
    resume: bool = False,
    progress: bool = False,
) -> Validation:
    """Fit a pallet on an endpoint, and compare each hypothesis with its reference.

    Each argument means what the command-line option of its name does, ``--faas-backend`` for
    ``backend``. The call returns when all fits are done and the workers ended. Whatever ends it
    before, Ctrl-C included, ends the workers as well. What was fitted by then is kept in a journal:
    the same call with ``resume=True`` takes it over.

    Parameters
    ----------
    pallet : str, os.PathLike or Pallet
        A published pallet by name or DOI, a directory, an archive.
    endpoint : str
        Where to fit: "local", "local:N", "parsl:CONFIG.py", or the UUID of a funcX / Globus Compute
        endpoint.
    patches : str or sequence of str
        Globs on the names of patches, or their values as in "750,100"; by default all patches.
    quantity : "cls", "limit" or "toys"
        What is calculated.
    toys : int
        For the quantity "toys": how many with the tested signal, and how many without one.
    method : "hypotest" or "certified"
        pyhf's own test, or the same at certified minima, without backend and optimizer.
    backend : str
        As `pyhf.set_backend` names it.
    optimizer : str
        As `pyhf.set_backend` names it.
    test_poi : float
        The value of the POI that is tested.
    test_stat : str
        The test statistic: "qtilde", "q" or "q0".
    measurement : str, optional
        The name of the measurement; by default the first one.
    minimum : "any", "lowest" or "nominal"
        At which minima a result is right.
    rtol : float, optional
        Relative tolerance; by default that of the reference file for this fit setup.
    atol : float, optional
        Absolute tolerance; by default that of the reference file for this fit setup.
    reference_dir : str or os.PathLike, optional
        Where references are: by default in ``reference_results`` below the current directory, then
        in the package. Without one the verdict is "no reference", and the values are there.
    workers : int, optional
        How many workers to ask for, where the endpoint leaves it open.
    blocks : int, optional
        How many blocks to ask for, where the endpoint leaves it open.
    endpoint_config : mapping, optional
        Values for the template of a Globus Compute endpoint.
    timeout_s : float or None
        How long one fit may take; ``None`` means no limit.
    queue_timeout_s : float or None
        How long to wait while no worker is available; ``None`` means no limit.
    retries : int
        How often a fit is sent again after it broke.
    resume : bool
        Whether to reuse the fits of earlier calls.
    progress : bool
        Whether to show the progress on standard error.

    Returns
    -------
    Validation
        All hypotheses, including those that failed.

    Raises
    ------
    PalletError
        If there is no such pallet, it cannot be read, or it has no such patch.
    ConfigurationError
        If an argument is invalid, or the endpoint cannot be used as it is.
    ReferenceFileError
        If the reference file of the pallet cannot be read.
    EndpointUnusableError
        If the endpoint does not answer.

    Examples
    --------
    >>> found = validate("1Lbb", "local:4", patches="C1N2_Wh_hbb_750_*")
    >>> found["C1N2_Wh_hbb_750_100"].CLs_obs
    0.0435
    """
    check_client()
    config = HypotestConfig(
        test_poi=test_poi,
        test_stat=test_stat,
        quantity=quantity,
        toys=_toys(toys) if quantity == "toys" else 0,
        backend=backend,
        optimizer=optimizer,
        method=method,
        measurement=measurement,
    )
    fitting = Fitting(
        timeout_s=timeout_s,
        queue_timeout_s=queue_timeout_s,
        retries=retries,
        blocks=blocks,
        workers=workers,
        endpoint_config=_endpoint_config(endpoint_config),
        resume=resume,
    )
    chosen = _pallet(pallet).select([patches] if isinstance(patches, str) else patches)
    store = store_in(Path.cwd() / (DIRECTORY if reference_dir is None else reference_dir))
    tasks = make_tasks(chosen, config)
    references = [store.find(task) for task in tasks]  # what is wrong with them is said first
    display = StreamDisplay(sys.stderr) if progress else None
    with closing(Fits(endpoint, fitting, store, "python", display)) as fits:
        results = fits.results(tasks, chosen.name)
    validated = (
        _validated(*each, minimum, rtol, atol)
        for each in zip(tasks, results, references, strict=True)
    )
    return Validation(
        chosen, fits.endpoint, config, fits.notes, {each.name: each for each in validated}
    )


def _validated(
    task: Task,
    result: HypotestResult,
    reference: PatchReference | Missing,
    minimum: Minimum,
    rtol: float | None,
    atol: float | None,
) -> Validated:
    """Compare a result with its reference, if there is something to compare."""
    config = task.config
    tolerance = None
    compares = (
        result.status == "ok"
        or is_known_error(result, reference, config.fit_setup) is not None
        or error_matches(result, reference)
    )
    if not compares:
        comparison = _of_fit(result)
    elif config.quantity == "toys":
        found = ToyValues.of(toy_cls_of(result.toys)) if result.toys else None
        comparison = compare_toys(result, found, reference)
    elif config.quantity == "limit":
        tolerance = limit_tolerance(config.fit_setup, rtol, atol)
        comparison = compare_limits(result, reference, tolerance=tolerance, minimum=minimum)
    else:
        tolerance = reference.tolerance(config.fit_setup, rtol, atol) if reference else None
        comparison = compare(
            result,
            reference,
            fit_setup=config.fit_setup,
            rtol=rtol,
            atol=atol,
            minimum=minimum,
        )
    return Validated(task.patch, result, reference, comparison, tolerance)


def _of_fit(result: HypotestResult) -> Comparison:
    """Return the comparison of a result that has no reference."""
    verdict = Verdict.of_fit(result.status)
    title = f"{result.pallet} / {result.patch}: {verdict.value}"
    error = result.error
    return Comparison(verdict, title, (), f"{error.type}: {error.first_line}" if error else "")


def _pallet(named: str | os.PathLike[str] | Pallet) -> Pallet:
    if isinstance(named, Pallet):
        return named
    search_path = catalogue.search_path_from_environment()
    found = catalogue.resolve(str(named), search_path=search_path)
    if len(found) > 1:
        names = listed([f"{each.name} ({each.source})" for each in found], 8)
        raise PalletError(
            f"{named} has {len(found)} pallets: {names}\n"
            "validate takes one: name it, or give the directory or the archive that holds it alone"
        )
    return found[0]


def _toys(count: int) -> int:
    if type(count) is not int or count < 1:
        raise ConfigurationError(f"toys is {count!r}: it must be a whole number, 1 or more")
    return count


def _endpoint_config(given: Mapping[str, Any] | None) -> dict[str, Any]:
    from pytest_pyhf_faas.engines import read_endpoint_config

    if not given:
        return {}
    import json

    return read_endpoint_config(json.dumps(given), Path.cwd())
