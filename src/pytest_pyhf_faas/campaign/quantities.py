"""Quantities of a hypothesis other than CLs: its upper limits, and its toys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult

#: The name of each limit for people.
LIMIT_LABELS = (
    "limit_obs",
    "limit_exp -2σ",
    "limit_exp -1σ",
    "limit_exp",
    "limit_exp +1σ",
    "limit_exp +2σ",
)


@dataclass(frozen=True, slots=True)
class LimitSet:
    """The upper limits on the POI at one set of minima.

    Attributes
    ----------
    values : tuple of float, shape (6,)
        The observed limit, and the expected ones at -2, -1, 0, 1, 2 standard deviations; infinite
        where there is none.
    remarks : tuple of str
        Remarks for the reader.
    """

    values: tuple[float, ...]
    remarks: tuple[str, ...] = ()

    @property
    def observed(self) -> float:
        """The observed limit."""
        return self.values[0]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LimitSet:
        """Read the data of a worker, the journal or a reference file."""
        values = (data["observed"], *data["expected"])
        return cls(tuple(map(float, values)), tuple(data.get("remarks", ())))


@dataclass(frozen=True, slots=True)
class Limits:
    """The upper limits of a hypothesis, at its two sets of minima.

    Attributes
    ----------
    lowest, nominal : LimitSet
        Equal if the sets are equal, and if pyhf has fitted, whose minima belong to no set.
    mixed : mapping of str to float
        Observed limits with each fit at its own minima, see `worker.certified_limits`.
    """

    lowest: LimitSet
    nominal: LimitSet
    mixed: Mapping[str, float]

    @property
    def ambiguous(self) -> bool:
        """Whether the limits at the two sets of minima differ."""
        return self.nominal is not self.lowest

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Limits:
        """Read the data of a worker, the journal or a reference file."""
        lowest = LimitSet.from_json(data)
        nominal = data.get("nominal")
        return cls(
            lowest,
            lowest if nominal is None else LimitSet.from_json(nominal),
            {name: float(value) for name, value in data.get("mixed", {}).items()},
        )


def checked_limits(data: Any) -> None:
    """Refuse limits that are not of that form.

    Raises
    ------
    TypeError, ValueError, LookupError
        If they are not.
    """
    limits = Limits.from_json(data)
    for found in (limits.lowest, limits.nominal):
        if len(found.values) != len(LIMIT_LABELS):
            raise ValueError(f"there are {len(found.values)} limits")


def checked_toys(data: Any, toys: int) -> None:
    """Refuse toys that are not of that form.

    Raises
    ------
    TypeError, ValueError, LookupError
        If they are not.
    """
    float(data["observed"])
    for hypothesis in ("signal", "background"):
        values = [float(value) for value in data[hypothesis]]
        if len(values) != toys:
            raise ValueError(f"there are {len(values)} toys instead of {toys}")


def joined(parts: Sequence[HypotestResult]) -> HypotestResult:
    """Return the result of a hypothesis from those of its parts, in their order.

    The first one without values stands for all.
    """
    first = next((part for part in parts if part.status != "ok"), parts[0])
    if len(parts) == 1 or first.status != "ok":
        return first
    names = dict.fromkeys(name for part in parts for name in part.seconds)
    return replace(
        first,
        toys={
            "observed": first.toys["observed"],
            **{
                hypothesis: [value for part in parts for value in part.toys[hypothesis]]
                for hypothesis in ("signal", "background")
            },
        },
        seconds={name: sum(part.seconds.get(name, 0.0) for part in parts) for name in names},
        attempts=max(part.attempts for part in parts),
        warnings=tuple(dict.fromkeys(text for part in parts for text in part.warnings)),
    )
