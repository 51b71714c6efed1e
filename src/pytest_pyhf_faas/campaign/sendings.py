"""How many fits were sent to workers, and why some of them more than once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.events import GiveUp, Note, Send, Take

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.events import Instruction, Trouble

#: Names of the reasons for sending a fit again; for an engine, what was lost.
_WORDS: dict[Trouble, str] = {
    "timeout": "time limit",
    "silence": "no answer",
    "remote call failed": "call failed",
}
_COPY = "copy of a slow one"


@dataclass(slots=True)
class Sendings:
    """Counts fits as often as they are sent.

    Attributes
    ----------
    engine : str
        The name of the whole engine for people, such as an agent.
    reached : bool
        Whether there ever was a worker: before, nothing was sent to one.
    again : Counter
        How many of them not for the first time, by the reason.
    blocks : Counter
        How many were lost with a block, by what is known of its end.
    """

    engine: str = "engine"
    reached: bool = False
    again: Counter[str] = field(default_factory=Counter)
    blocks: Counter[str] = field(default_factory=Counter)
    _given: int = 0
    _troubles: dict[str, Trouble] = field(default_factory=dict)

    @property
    def fits(self) -> int:
        """How many were sent to workers."""
        return self._given if self.reached else 0

    @property
    def kept(self) -> int:
        """How many the engine has kept because no worker ever answered."""
        return 0 if self.reached else self._given

    @property
    def lost(self) -> Counter[str]:
        """How many were sent again because something was lost, by what it was."""
        return Counter({why: n for why, n in self.again.items() if why.endswith(" lost")})

    def hear(self, instruction: Instruction) -> None:
        """Count the instructions of a campaign's state."""
        match instruction:
            case Note(key, trouble, _attempt, text):
                self._troubles[key] = trouble
                if trouble == "block lost":
                    self.blocks[text] += 1
            case Send(_batch, keys, _attempts, why):
                self._given += len(keys)
                for key in keys:
                    if why == "copy":
                        self.again[_COPY] += 1
                    elif why == "lost":
                        self.again[self._reason("engine lost")] += 1
                    elif key in self._troubles:
                        self.again[self._reason(self._troubles.pop(key))] += 1
            case Take(key) | GiveUp(key):
                self._troubles.pop(key, None)

    def _reason(self, trouble: Trouble) -> str:
        if trouble == "engine lost":
            return f"{self.engine} lost"
        return _WORDS.get(trouble, trouble)
