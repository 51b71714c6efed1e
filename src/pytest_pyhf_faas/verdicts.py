"""The verdicts on signal hypotheses, and the overall states of runs.

How a fit ended on its worker is another question (`results.Status`); the outcome of a test is
pytest's.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(Enum):
    """The overall state of a run, and how a verdict is shown; its name is the class in CSS."""

    RIGHT = "right"
    #: Wrong only in ways that the references list.
    KNOWN = "as known"
    WRONG = "wrong"
    BROKEN = "broken"
    INCOMPLETE = "incomplete"

    @property
    def css(self) -> str:
        """The CSS class of its elements on a page."""
        return self.name.lower()

    @property
    def sign(self) -> str:
        """How a page shows it in addition to its colour."""
        return _SIGNS[self][0]

    @property
    def emoji(self) -> str:
        """How Markdown shows it, which has no colours."""
        return _SIGNS[self][1]


class Verdict(Enum):
    """The verdict on a hypothesis, the worst first."""

    #: CLs differs from the reference.
    WRONG = "wrong"
    #: Its fits are at known minima of no consistent set.
    MIXED = "mixed"
    #: A fit stopped above every known minimum.
    UNCONVERGED = "unconverged"
    #: The fit ended with an exception that is not the right answer.
    ERROR = "error"
    #: No worker finished the fit.
    BROKEN = "broken"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    #: Its test was not run.
    NOT_RUN = "not run"
    NO_REFERENCE = "no reference"
    #: It was fitted; its test did not compare it, or wrote it as a reference.
    NOT_COMPARED = "not compared"
    #: It is wrong in the way that its reference lists.
    KNOWN_ISSUE = "known issue"
    #: It is right, and listed as a known issue.
    FIXED = "fixed"
    RIGHT = "right"

    @classmethod
    def of_fit(cls, status: str) -> Verdict:
        """Return the verdict on a hypothesis by the outcome of its fit, before it is compared."""
        return cls.NOT_COMPARED if status == "ok" else cls(status)

    @property
    def severity(self) -> int:
        """Its place, from 0 for the worst."""
        return _ORDER.index(self)

    @property
    def state(self) -> State:
        """How it is shown."""
        return _FACTS[self].state

    @property
    def clause(self) -> Clause:
        """Its clause in the answer of a run; verdicts with one clause are counted together."""
        return _FACTS[self].clause

    @property
    def fails(self) -> bool:
        """Whether its test fails."""
        return _FACTS[self].fails

    @property
    def is_fitted(self) -> bool:
        """Whether there was a fit that ended in some way."""
        return self not in (Verdict.CANCELLED, Verdict.NOT_RUN)

    @property
    def is_compared(self) -> bool:
        """Whether there was anything to compare, and to compare it with."""
        return self.is_fitted and self not in (Verdict.NO_REFERENCE, Verdict.NOT_COMPARED)

    @property
    def agrees(self) -> bool:
        """Whether it agrees with its reference."""
        return self in (Verdict.RIGHT, Verdict.FIXED)


class Clause(NamedTuple):
    """How a sentence says it: of what, of one of them, of several."""

    noun: str
    one: str
    several: str


class _Facts(NamedTuple):
    state: State
    fails: bool
    clause: Clause


def _hypothesis(one: str, several: str) -> Clause:
    return Clause("hypothesis", one, several)


def _fit(rest: str) -> Clause:
    return Clause("fit", rest, rest)


_SIGNS = {
    State.RIGHT: ("✓", "✅"),
    State.KNOWN: ("≈", "☑️"),
    State.WRONG: ("✗", "❌"),
    State.BROKEN: ("⊘", "💥"),
    State.INCOMPLETE: ("○", "⚠️"),
}
_NOT_FITTED = _hypothesis("was not fitted", "were not fitted")
_FACTS = {
    Verdict.WRONG: _Facts(State.WRONG, True, _hypothesis("is wrong", "are wrong")),
    Verdict.MIXED: _Facts(
        State.WRONG, True, _hypothesis("is at mixed minima", "are at mixed minima")
    ),
    Verdict.UNCONVERGED: _Facts(
        State.WRONG, True, _hypothesis("is unconverged", "are unconverged")
    ),
    Verdict.ERROR: _Facts(State.BROKEN, True, _fit("ended with an exception")),
    Verdict.BROKEN: _Facts(State.BROKEN, True, _fit("broke")),
    Verdict.TIMEOUT: _Facts(State.BROKEN, True, _fit("took too long")),
    Verdict.CANCELLED: _Facts(State.INCOMPLETE, False, _NOT_FITTED),
    Verdict.NOT_RUN: _Facts(State.INCOMPLETE, False, _NOT_FITTED),
    Verdict.NO_REFERENCE: _Facts(
        State.INCOMPLETE, True, _hypothesis("has no reference", "have no reference")
    ),
    Verdict.NOT_COMPARED: _Facts(
        State.INCOMPLETE, False, _hypothesis("was not compared", "were not compared")
    ),
    Verdict.KNOWN_ISSUE: _Facts(
        State.KNOWN, False, _hypothesis("is a known issue", "are known issues")
    ),
    Verdict.FIXED: _Facts(
        State.INCOMPLETE, True, _hypothesis("is a fixed known issue", "are fixed known issues")
    ),
    Verdict.RIGHT: _Facts(State.RIGHT, False, _hypothesis("is right", "are right")),
}
_ORDER = list(Verdict)
