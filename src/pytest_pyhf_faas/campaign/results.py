"""The environment of a worker and the result of a fit, to and from JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.tasks import Task

#: ok: fitted; error: an exception was the answer; broken: no worker got it done; timeout: ended by
#: its time limit; cancelled: the campaign stopped before it was done.
Status = Literal["ok", "error", "broken", "timeout", "cancelled"]

#: Type of the error of a fit that ended because its engine will return nothing more.
ENGINE = "engine"
#: Type of the error of a fit that is longer than a block lives; it says what to do.
TOO_LONG = "too long"

#: The five fits of a hypothesis test, named as in `pyhf.infer.calculators.HypoTestFitResults`;
#: the background fit is the one that makes the Asimov data.
FITS = (
    "free_fit_to_data",
    "fixed_poi_fit_to_data",
    "background_fit_to_data",
    "free_fit_to_asimov",
    "fixed_poi_fit_to_asimov",
)

#: The name of each value of a hypothesis test, for people.
CLS_LABELS = (
    "CLs_obs",
    "CLs_exp -2σ",
    "CLs_exp -1σ",
    "CLs_exp",
    "CLs_exp +1σ",
    "CLs_exp +2σ",
)

_ALWAYS_USED = ("pyhf", "numpy", "scipy", "jsonpatch")
_USED_BY: Mapping[str | None, tuple[str, ...]] = {
    "jax": ("jax", "jaxlib"),
    "pytorch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-probability"),
    "minuit": ("iminuit",),
}


@dataclass(frozen=True, slots=True)
class WorkerEnvironment:
    """The environment of a worker, from `worker.probe_environment`.

    Attributes
    ----------
    executable : str or None
        Its Python; ``None`` where an earlier version of this package has asked.
    """

    python: str
    platform: str
    host: str
    cpu: str
    backend: str | None
    optimizer: str | None
    threads: Mapping[str, str | None]
    versions: Mapping[str, str]
    executable: str | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> WorkerEnvironment:
        """Read the answer of a worker; what this version does not know is left out."""
        return cls(**{each.name: data.get(each.name) for each in fields(cls)})  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Return the environment as JSON-able values."""
        return asdict(self)

    @property
    def computing(self) -> dict[str, str]:
        """What decides a fit's value: the versions of Python and of the libraries in use."""
        used = (*_ALWAYS_USED, *_USED_BY.get(self.backend, ()), *_USED_BY.get(self.optimizer, ()))
        versions = {name: self.versions[name] for name in used if name in self.versions}
        return {"python": self.python, **versions}


@dataclass(frozen=True, slots=True)
class FitError:
    """An exception on a worker, as data."""

    type: str
    message: str
    traceback: str = ""

    @property
    def first_line(self) -> str:
        """The message, shortened for people."""
        line = self.message.strip().partition("\n")[0]
        return line if len(line) <= 300 else f"{line[:300]}... ({len(self.message)} characters)"  # noqa: PLR2004


@dataclass(frozen=True, slots=True)
class MinimumSet:
    """One minimum for each of the five fits, and the values that follow.

    A hypothesis has two such sets: the *lowest* minima that were found, and the *nominal* ones,
    where a descent from pyhf's initial values ends. Mostly they are the same.

    Attributes
    ----------
    CLs_obs : float or None
        Observed CLs.
    CLs_exp : tuple of float, shape (5,)
        Expected CLs at -2, -1, 0, 1, 2 standard deviations.
    mu_hat : float or None
        POI of the free fit to data.
    twice_nll : mapping
        Twice the negative log-likelihood of the five fits, by the names in `FITS`.
    """

    CLs_obs: float | None = None
    CLs_exp: tuple[float, ...] = ()
    mu_hat: float | None = None
    twice_nll: Mapping[str, float] = field(default_factory=dict)

    @property
    def cls_values(self) -> tuple[float, ...]:
        """CLs_obs and the five CLs_exp, in the order of `CLS_LABELS`."""
        return () if self.CLs_obs is None else (self.CLs_obs, *self.CLs_exp)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MinimumSet:
        """Read a set of minima; floats may be the words nan, inf, -inf."""
        return cls(
            CLs_obs=_number(data.get("CLs_obs")),
            CLs_exp=tuple(float(value) for value in data.get("CLs_exp", ())),
            mu_hat=_number(data.get("mu_hat")),
            twice_nll=_numbers(data.get("twice_nll", {})),
        )


@dataclass(frozen=True, slots=True)
class HypotestResult:
    """The test of one signal hypothesis: CLs values, the five fits behind them, and their cost.

    The values of a certified result are those of the lowest minima; its `certificate` has those of
    the nominal ones, if they differ.

    Attributes
    ----------
    CLs_obs : float or None
        Observed CLs; ``None`` unless ``status`` is "ok".
    CLs_exp : tuple of float, shape (5,)
        Expected CLs at -2, -1, 0, 1, 2 standard deviations; empty unless ``status`` is "ok".
    mu_hat : float or None
        POI of the free fit to data.
    asimov_poi : float or None
        POI that the Asimov data were built at.
    twice_nll : mapping
        Twice the negative log-likelihood of the five fits, by the names in `FITS`.
    twice_nll_nearby : mapping
        For each fit, the lowest value that moving one unconstrained parameter reaches.
    twice_nll_asimov_truth : float or None
        The same for the Asimov data at the parameters they were built from: their known minimum.
    twice_nll_off_minimum : float or None
        The same for the observed data at a point that depends on the model alone, to separate a
        changed model from a changed fit.
    certificate : mapping
        How the minima were found, and the other minima, if they are certified (see
        `certified.certify_batch`).
    rounding : float or None
        The possible rounding of twice the NLL, if fits are certified.
    limits : mapping
        Upper limits, if requested, as `campaign.quantities.Limits` reads them.
    toys : mapping
        The test statistics of toys, if requested: ``observed``, ``signal``, ``background``.
    seconds : mapping
        ``unpack``, ``build`` and ``fit``, on the worker's clock.
    worker : str
        Host and process.
    attempts : int
        How many times the fit was sent to a worker; 0 if no worker was ever available.
    """

    key: str
    pallet: str
    patch: str
    status: Status
    CLs_obs: float | None = None
    CLs_exp: tuple[float, ...] = ()
    mu_hat: float | None = None
    asimov_poi: float | None = None
    twice_nll: Mapping[str, float] = field(default_factory=dict)
    twice_nll_nearby: Mapping[str, float] = field(default_factory=dict)
    twice_nll_asimov_truth: float | None = None
    twice_nll_off_minimum: float | None = None
    certificate: Mapping[str, Any] = field(default_factory=dict)
    rounding: float | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    toys: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: FitError | None = None
    worker: str | None = None
    environment: WorkerEnvironment | None = None
    attempts: int = 1

    @property
    def cls_values(self) -> tuple[float, ...]:
        """CLs_obs and the five CLs_exp, in the order of `CLS_LABELS`."""
        return () if self.CLs_obs is None else (self.CLs_obs, *self.CLs_exp)

    @property
    def lowest(self) -> MinimumSet:
        """The minima that were found; the lowest ones for a certified result."""
        return MinimumSet(self.CLs_obs, self.CLs_exp, self.mu_hat, self.twice_nll)

    @property
    def nominal(self) -> MinimumSet:
        """The nominal minima of a certified result, if they differ from the lowest."""
        found = self.certificate.get("nominal")
        return self.lowest if found is None else MinimumSet.from_json(found)

    @property
    def ambiguous(self) -> bool:
        """Whether a certified result has two sets of minima."""
        return self.certificate.get("nominal") is not None

    @property
    def differences(self) -> tuple[Mapping[str, Any], ...]:
        """What the two sets of minima of a certified result differ in."""
        return tuple(self.certificate.get("differences", ()))

    def of(self, task: Task) -> HypotestResult:
        """Return this result as that of a task: one fit serves all tasks with equal content."""
        pallet, patch = task.pallet.name, task.patch.name
        if (self.pallet, self.patch) == (pallet, patch):
            return self
        return replace(self, pallet=pallet, patch=patch)

    @property
    def was_sent(self) -> bool:
        """Whether any worker was available for it."""
        return self.attempts > 0

    @property
    def is_answer(self) -> bool:
        """Whether pyhf answered, with values or an exception, so that a retry would be useless."""
        return self.status in ("ok", "error")

    @classmethod
    def from_json(
        cls, data: Mapping[str, Any], environment: WorkerEnvironment | None
    ) -> HypotestResult:
        """Read the data of a worker or the journal; floats may be the words nan, inf, -inf."""
        error = data.get("error")
        return cls(
            key=data["key"],
            pallet=data["pallet"],
            patch=data["patch"],
            status=data["status"],
            CLs_obs=_number(data.get("CLs_obs")),
            CLs_exp=tuple(float(value) for value in data.get("CLs_exp", ())),
            mu_hat=_number(data.get("mu_hat")),
            asimov_poi=_number(data.get("asimov_poi")),
            twice_nll=_numbers(data.get("twice_nll", {})),
            twice_nll_nearby=_numbers(data.get("twice_nll_nearby", {})),
            twice_nll_asimov_truth=_number(data.get("twice_nll_asimov_truth")),
            twice_nll_off_minimum=_number(data.get("twice_nll_off_minimum")),
            certificate=data.get("certificate", {}),
            rounding=data.get("rounding"),
            limits=data.get("limits", {}),
            toys=data.get("toys", {}),
            seconds=data.get("seconds", {}),
            warnings=tuple(data.get("warnings", ())),
            error=FitError(**error) if error else None,
            worker=data.get("worker"),
            environment=environment,
            attempts=data.get("attempts", 1),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-able values, without the environment of its worker."""
        data: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("key", "pallet", "patch", "status", "worker", "attempts")
        }
        if self.status == "ok":
            data["CLs_obs"] = json_number(self.CLs_obs)
            data["CLs_exp"] = [json_number(value) for value in self.CLs_exp]
            data["mu_hat"] = json_number(self.mu_hat)
            data["asimov_poi"] = json_number(self.asimov_poi)
            for name in ("twice_nll", "twice_nll_nearby"):
                data[name] = {fit: json_number(v) for fit, v in getattr(self, name).items()}
            data["twice_nll_asimov_truth"] = json_number(self.twice_nll_asimov_truth)
            data["twice_nll_off_minimum"] = json_number(self.twice_nll_off_minimum)
            if self.certificate:
                data["certificate"] = dict(self.certificate)
                data["rounding"] = self.rounding
            for quantity in ("limits", "toys"):
                values = getattr(self, quantity)
                if values:
                    data[quantity] = dict(values)
        data["seconds"] = dict(self.seconds)
        if self.warnings:
            data["warnings"] = list(self.warnings)
        if self.error:
            data["error"] = asdict(self.error)
        return data


def json_number(value: float | None) -> float | str | None:
    """Return a float as JSON can hold it: what is not finite becomes a word that float() reads."""
    return value if value is None or math.isfinite(value) else str(value)


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)


def _numbers(values: Mapping[str, float | str]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def environment_differences(
    ours: Mapping[str, str], theirs: Mapping[str, str]
) -> Sequence[tuple[str, str | None, str | None]]:
    """Return (name, ours, theirs) for what both know and differs."""
    return [
        (name, ours[name], theirs[name])
        for name in sorted(ours.keys() & theirs.keys())
        if ours[name] != theirs[name]
    ]
