"""A gate: makes environments one after the other, and runs the suite in those that are ready."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections import defaultdict
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.gate.cells import ENDED
from pytest_pyhf_faas.gate.digests import digest
from pytest_pyhf_faas.gate.installer import NotInstalledError
from pytest_pyhf_faas.gate.processes import StoppedError, lock, run
from pytest_pyhf_faas.gate.progress import Counts, ended_line, live_line
from pytest_pyhf_faas.wording import brief

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_pyhf_faas.gate.cells import CellDirectory
    from pytest_pyhf_faas.gate.environments import Environments, Made
    from pytest_pyhf_faas.gate.plan import Wanted
    from pytest_pyhf_faas.gate.processes import Interruption
    from pytest_pyhf_faas.gate.selection import Selected
    from pytest_pyhf_faas.session.display import Display

_REFRESH_S = 0.5
_INTERRUPTED = 2  # of pytest
STOPPED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one run.

    Attributes
    ----------
    reason : str or None
        Why there is no result.
    installed : bool
        Whether there is an environment for it.
    begun : bool
        Whether a part of the run is on disk nonetheless.
    unfitted : str or None
        Why a finished run has no fits, for example because pyhf does not work there.
    seconds : float or None
        How long it took now; ``None``: it was there before, or there is none.
    """

    reason: str | None = None
    installed: bool = True
    begun: bool = False
    unfitted: str | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Gate:
    """The runs of a gate.

    Attributes
    ----------
    cells : sequence of CellDirectory
        What is run, and where.
    environments : Environments
        Makes what it runs in.
    selected : Selected
        The hypotheses.
    words : sequence of str
        Further options of the suite.
    jobs : int
        How many suites run at once.
    workers : int
        How many workers each of them has.
    display : Display
        Where progress is shown.
    interruption : Interruption
        Says whether to go on.
    draws : bool
        Whether the page of each run is made.
    fresh : bool
        Whether nothing of earlier gates is reused.
    """

    cells: Sequence[CellDirectory]
    environments: Environments
    selected: Selected
    words: Sequence[str]
    jobs: int
    workers: int
    display: Display
    interruption: Interruption
    draws: bool = True
    fresh: bool = False
    _outcomes: dict[int, Outcome] = field(default_factory=dict)
    _running: set[int] = field(default_factory=set)
    _installing: str | None = None

    def run(self) -> list[Outcome]:
        """Make the environments, run the suites, and return the outcome of each, in their order."""
        groups: dict[Wanted, list[int]] = defaultdict(list)
        for number, cell in enumerate(self.cells):
            groups[cell.combination.wanted].append(number)
        said = False
        with ThreadPoolExecutor(1) as installer, ThreadPoolExecutor(self.jobs) as runner:
            making = {installer.submit(self._make, group): group for group in groups.values()}
            pending: set[Future[Any]] = set(making)
            while pending:
                done, pending = wait(pending, _REFRESH_S, FIRST_COMPLETED)
                # What the base needs comes first.
                for future in (each for each in making if each in done):
                    made = future.result()
                    if made is not None:
                        pending |= {runner.submit(self._run, each, made) for each in making[future]}
                if self.interruption.asked and not said:
                    said = True
                    self._say(
                        "interrupted: running fits finish and are kept; interrupt again to end now"
                    )
                self._show()
        self._clear()
        return [self._outcomes[number] for number in range(len(self.cells))]

    def _make(self, numbers: Sequence[int]) -> Made | None:
        """Make an environment for some runs; a failure is their outcome."""
        cell = self.cells[numbers[0]]
        self._installing = cell.combination.name
        outcome = Outcome(STOPPED)
        try:
            if not self.interruption.asked:
                cell.install_log.unlink(missing_ok=True)
                return self.environments.make(cell.combination.wanted, cell.install_log)
        except NotInstalledError as error:
            outcome = Outcome(f"cannot be installed: {brief(error)}", installed=False)
        except StoppedError:
            pass
        except OSError as error:
            outcome = Outcome(f"cannot be installed: {_of_disk(error)}", installed=False)
        finally:
            self._installing = None
        for number in numbers:
            self._end(number, outcome)
        return None

    def _run(self, number: int, made: Made) -> None:
        """Run the suite in an environment, or reuse its earlier run."""
        cell = self.cells[number]
        self._running.add(number)
        try:
            with lock(cell.lock, self.interruption) as held:
                outcome = self._suite(cell, made, held)
            if outcome.reason is None and self.draws and not cell.page.exists():
                self._draw(cell)
        except StoppedError:
            outcome = Outcome(STOPPED)
        except OSError as error:
            outcome = Outcome(_of_disk(error))
        self._running.discard(number)
        self._end(number, outcome)

    def _suite(self, cell: CellDirectory, made: Made, held: int) -> Outcome:
        asked = [*cell.combination.words, *self.selected.words, *self.words]
        content = digest(made.digest, self.selected.digest, asked)
        if self.fresh:
            cell.forget()
        if cell.is_finished(content):
            return Outcome(unfitted=cell.run().unfitted)
        resumes = cell.begin(content, made.sources)
        cell.record("it has not finished")
        words = [*cell.words, f"--faas-workers={self.workers}", *asked]
        command = [str(made.python), "-m", "pytest_pyhf_faas", "validate", "--", *words]
        cell.suite_log.unlink(missing_ok=True)
        began = time.monotonic()
        status = run(
            [*command, *(["--faas-resume"] if resumes else [])],
            cell.suite_log,
            self.interruption,
            held=held,
        )
        seconds = time.monotonic() - began
        if cell.is_finished(content):
            return Outcome(unfitted=cell.run().unfitted, seconds=seconds)
        if status in ENDED:
            return Outcome(f"it wrote no report: {_last_line(cell.suite_log)}", begun=True)
        why = _why(status, cell.suite_log, interrupted=self.interruption.asked)
        return Outcome(why, begun=True)

    def _draw(self, cell: CellDirectory) -> None:
        """Make the page of a run; without it the page of all has no link there."""
        page = [sys.executable, "-m", "pytest_pyhf_faas", "report", str(cell.path)]
        with contextlib.suppress(StoppedError, OSError):
            run(page, cell.path / "page.log", self.interruption)

    def _end(self, number: int, outcome: Outcome) -> None:
        """Record the outcome of a run, on disk if possible."""
        cell = self.cells[number]
        try:
            cell.record(outcome.reason)
        except OSError as error:
            outcome = replace(outcome, reason=outcome.reason or _of_disk(error))
        self._outcomes[number] = outcome
        if not self.display.live:
            place = f"{len(self._outcomes)} of {len(self.cells)}"
            why = outcome.reason or outcome.unfitted
            self.display.write(ended_line(cell.combination.name, place, why, outcome.seconds))

    # Messages

    def _show(self) -> None:
        if self.display.live:
            self.display.draw(live_line(self._counts()))

    def _clear(self) -> None:
        if self.display.live:
            self.display.draw("")

    def _say(self, text: str) -> None:
        self._clear()
        self.display.write(f"gate: {text}")

    def _counts(self) -> Counts:
        outcomes = list(self._outcomes.values())
        return Counts(
            total=len(self.cells),
            done=sum((outcome.reason or outcome.unfitted) is None for outcome in outcomes),
            running=len(self._running),
            not_installed=sum(not outcome.installed for outcome in outcomes),
            broken=sum(
                outcome.installed and (outcome.reason or outcome.unfitted) is not None
                for outcome in outcomes
            ),
            installing=self._installing,
            jobs=self.jobs,
            seconds=tuple(each.seconds for each in outcomes if each.seconds is not None),
        )


def _why(status: int, log: Path, *, interrupted: bool) -> str:
    """Return why a suite has ended without an answer."""
    if interrupted:
        return STOPPED
    if status < 0:
        name = signal.Signals(-status).name
        memory = ", out of memory?" if name == "SIGKILL" else ""
        return f"the suite was ended by {name}{memory}"
    if status == _INTERRUPTED and "KeyboardInterrupt" in _text(log):
        return STOPPED
    return f"the suite ended with {status}: {_last_line(log)}"


def _last_line(log: Path) -> str:
    """Return the line in which a suite says what is wrong; the first of the log is the command."""
    # The error of argparse follows the name of the program.
    lines = [
        line.strip("=_- \t").removeprefix("python -m pytest: ")
        for line in _text(log).splitlines()
        if line.strip("=_- \t")
    ][1:]
    errors = [line for line in lines if line.startswith(("ERROR", "E  ", "error", "INTERNALERROR"))]
    return brief((errors or lines[-1:] or ["it wrote nothing"])[-1])


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


def _of_disk(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}"
