"""The log of a campaign: its events and decisions, to and from JSON."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast, get_args

from pytest_pyhf_faas.campaign.events import Event, Facts, Fit, Instruction, Outcome
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.state import CampaignState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

#: The first record of a log is the policy; the instructions of an event follow it.
Record: TypeAlias = Policy | Event | Instruction


def _name(kind: type[Any]) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()


_EVENTS = {_name(kind): kind for kind in (Policy, *get_args(Event))}
_INSTRUCTIONS = {_name(kind): kind for kind in get_args(Instruction)}
#: Readers of fields whose values are not plain.
_READ: dict[str, Callable[[Any], Any]] = {
    "fits": lambda values: tuple(Fit(*value) for value in values),
    "outcomes": lambda values: tuple(Outcome(*value) for value in values),
    "facts": lambda values: Facts(**values),
    "keys": tuple,
    "attempts": lambda value: tuple(value) if isinstance(value, list) else value,
}


def record_to_json(record: Record) -> dict[str, Any]:
    """Return a record as JSON-able values: its name after "event" or "do", and its fields."""
    word = "do" if isinstance(record, get_args(Instruction)) else "event"
    data = {field.name: _plain(getattr(record, field.name)) for field in fields(record)}
    return {word: _name(type(record)), **data}


def record_from_json(data: Mapping[str, Any]) -> Record | None:
    """Return the record of a line; ``None`` if it holds something else, such as a result.

    Raises
    ------
    KeyError, TypeError
        If it cannot be read.
    """
    kind = _EVENTS.get(data.get("event", "")) or _INSTRUCTIONS.get(data.get("do", ""))
    if kind is None:
        return None
    # Fields that an older log lacks have the fixed values of that time.
    found = {field.name: data[field.name] for field in fields(kind) if field.name in data}
    record: Record = kind(
        **{name: _READ[name](value) if name in _READ else value for name, value in found.items()}
    )
    return record


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_row(each) if is_dataclass(each) else each for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return value


def _row(value: Any) -> list[Any]:
    return [getattr(value, field.name) for field in fields(value)]


def replay(
    records: Iterable[tuple[float, Record]],
) -> Iterator[tuple[Event, list[Instruction], list[Instruction]]]:
    """Replay the events of a log on a new state.

    Parameters
    ----------
    records : iterable of tuple
        Moments and records, from the policy on.

    Yields
    ------
    tuple
        An event, the instructions that follow it in the log, and those that the state gives.
    """
    state = CampaignState(Policy())
    turn: tuple[Event, list[Instruction], list[Instruction]] | None = None
    for now, record in records:
        if isinstance(record, get_args(Instruction)):
            if turn is not None:
                turn[1].append(cast("Instruction", record))
            continue
        if turn is not None:
            yield turn
            turn = None
        if isinstance(record, Policy):
            state = CampaignState(record)
        else:
            event = cast("Event", record)
            turn = event, [], state.handle(event, now)
    if turn is not None:
        yield turn
