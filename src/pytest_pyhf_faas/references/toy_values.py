"""CLs from toys with its errors, and how far off the asymptotic CLs is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.campaign.results import json_number
from pytest_pyhf_faas.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_pyhf_faas.histfactory.toys import ToyCLs
    from pytest_pyhf_faas.references.form import ToysEntry

#: The asymptotic CLs is off where it is more standard errors of the toys away.
OFF = 3.0
#: How far two CLs from toys may be apart, in their combined standard error.
FAR = 4.0
#: The same where the toys are the same, in the standard error of the earlier ones.
SAME_TOYS = 0.1
#: How many hypotheses are named in a line, and in how many characters each.
_NAMED, _LONG = 3, 100
#: Smaller values are written with a power of 10.
_SMALL = 1e-4


@dataclass(frozen=True, slots=True)
class ToyValues:
    """CLs from toys, from a worker or from a reference file.

    Attributes
    ----------
    count : int
        Toys with the tested signal, and as many without one.
    failed : tuple of int, shape (2,)
        Those of each of which a fit ended at no minimum.
    values, errors : tuple of float, shape (6,)
        Observed and expected CLs, and one standard deviation of each.
    brackets : tuple of (float, float), shape (6, 2)
        Bounds on each value, wherever the failed toys fall; empty if none failed, or
        if that is unknown.
    """

    count: int
    failed: tuple[int, int]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    brackets: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, found: ToyCLs) -> ToyValues:
        """Return those of toys."""
        from pytest_pyhf_faas.histfactory.toys import bracket

        failed = found.failed["signal"], found.failed["background"]
        return cls(
            found.toys["signal"] + failed[0],
            failed,
            (found.CLs_obs, *found.CLs_exp),
            (found.CLs_obs_error, *found.CLs_exp_error),
            bracket(found) if any(failed) else (),
        )

    @classmethod
    def from_json(cls, entry: ToysEntry) -> ToyValues:
        """Read the entry of a reference file."""
        signal, background = entry["failed"]
        return cls(
            entry["count"],
            (signal, background),
            tuple(map(float, (entry["CLs_obs"], *entry["CLs_exp"]))),
            tuple(map(float, (entry["CLs_obs_error"], *entry["CLs_exp_error"]))),
        )

    def to_json(self) -> ToysEntry:
        """Return the entry of a reference file."""
        observed, *expected = map(_number, self.values)
        observed_error, *expected_error = map(_number, self.errors)
        entry: dict[str, Any] = {
            "count": self.count,
            "failed": list(self.failed),
            "CLs_obs": observed,
            "CLs_obs_error": observed_error,
            "CLs_exp": expected,
            "CLs_exp_error": expected_error,
        }
        return cast("ToysEntry", entry)

    def open(self) -> list[int]:
        """Return which of the six the failed toys could move by more than a standard error."""
        return [
            index
            for index, (value, error, ends) in enumerate(
                zip(self.values, self.errors, self.brackets, strict=bool(self.brackets))
            )
            if math.isnan(value)
            or (math.isfinite(error) and not all(abs(end - value) <= error for end in ends))
        ]

    @property
    def text(self) -> str:
        """The observed and the median expected value."""
        observed, expected = (measured(self.values[at], self.errors[at]) for at in (0, 3))
        return f"CLs_obs = {observed}, CLs_exp = {expected} by {self.count:,} + {self.count:,} toys"


def allowed(found: ToyValues, known: ToyValues, index: int, *, same: bool) -> float:
    """Return how far one of the six values may be from its reference.

    Parameters
    ----------
    found, known : ToyValues
        What is compared, and with what.
    index : int
        Which of the six.
    same : bool
        Whether the toys are the same.

    Returns
    -------
    float
        Infinite if so few toys do not determine the value, and there is nothing to compare.
    """
    if same:
        return SAME_TOYS * known.errors[index]
    # Each error is at least that of the other toys: few toys estimate their own badly.
    per_toy = max(each.errors[index] * math.sqrt(each.count) for each in (found, known))
    return FAR * per_toy * math.sqrt(1 / found.count + 1 / known.count)


def toy_cls_of(toys: Mapping[str, Any]) -> ToyCLs:
    """Return CLs from the toys of a result."""
    import numpy as np

    from pytest_pyhf_faas.histfactory.toys import toy_cls

    signal, background = (
        np.array([float(value) for value in toys[hypothesis]])
        for hypothesis in ("signal", "background")
    )
    return toy_cls(float(toys["observed"]), signal, background)


def is_off(standard_errors: float) -> bool:
    """Whether an asymptotic value this many standard errors away from that of toys is off."""
    return abs(standard_errors) > OFF


def off_lines(hypotheses: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a session's summary on asymptotic values that toys disagree with.

    Parameters
    ----------
    hypotheses : iterable of mapping
        Each with ``pallet``, ``patch``; ``toys`` and ``error``, CLs_obs from toys; and
        ``asymptotic`` and ``standard_errors``, the other CLs_obs and how far away it is.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in hypotheses:
        groups.setdefault(each["pallet"], []).append(each)
    lines = []
    for pallet, those in sorted(groups.items()):
        off = [each for each in those if is_off(float(each["standard_errors"]))]
        if not off:
            continue
        line = f"toys: asymptotic CLs_obs of {len(off)} of {counted(len(those), 'hypothesis')} "
        line += f"of {pallet} is off by more than {OFF:g} standard errors: "
        lines.append(line + listed([finding(each) for each in off], _NAMED, _LONG))
    return lines


def finding(each: Mapping[str, Any]) -> str:
    """Say how far off the asymptotic value of one hypothesis is."""
    toys = measured(float(each["toys"]), float(each["error"]))
    return f"{each['patch']} ({float(each['asymptotic']):.3g}, toys {toys})"


def measured(value: float, error: float) -> str:
    """Return a value with its error, in as many digits as are significant."""
    if not math.isfinite(value) or not math.isfinite(error) or error <= 0:
        return "not known" if math.isnan(value) or math.isinf(error) else f"{value:.4g}"
    if abs(value) < _SMALL:
        return f"{value:.2g} ± {error:.1g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _number(value: float) -> float | str | None:
    return json_number(float(f"{value:.6g}"))
