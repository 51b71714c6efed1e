"""The engines and campaigns of a session, one of each for an endpoint, and their journal."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
from collections import Counter, defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign import journal as journals
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.loop import TICK_S
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.session.interrupts import Interrupts
from pytest_pyhf_faas.wording import counted, short_uuid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.sendings import Sendings
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.session.fitting import Fitting
    from pytest_pyhf_faas.session.progress import Shows

#: How many ended blocks are reported, those with the most lost fits.
_BLOCKS_TOLD = 3
_INTERRUPTED = "the session was interrupted before this fit started"


class Campaigns:
    """Starts campaigns, waits for them while it shows their progress, and ends them.

    Parameters
    ----------
    fitting : Fitting
        How fits are done.
    directory : Path
        The directory of journals, and of engines' files.
    journal : Path or None
        The journal that the workers of xdist share; ``None``: one of this process's own.
    progress : Shows
        Shows the progress of the fits while an item waits.
    expected_s, relative_s, is_failure : callable
        As `Campaign` takes them.
    """

    def __init__(
        self,
        fitting: Fitting,
        directory: Path,
        journal: Path | None,
        progress: Shows,
        *,
        expected_s: Callable[[Task], float | None],
        relative_s: Callable[[Task], float | None],
        is_failure: Callable[[Task, HypotestResult], bool],
    ) -> None:
        self.notes: list[str] = []
        self.clocks: defaultdict[str, Clocks] = defaultdict(Clocks)
        self.directory = directory
        self._fitting = fitting
        self._journal_path = journal
        self._journal: journals.Journal | None = None
        self._progress = progress
        self._expected_s = expected_s
        self._relative_s = relative_s
        self._is_failure = is_failure
        self._engines: dict[str, Engine] = {}
        self._campaigns: dict[str, Campaign] = {}
        self._passing: list[Campaign] = []
        self._given_up: dict[str, str] = {}  # by temporary campaigns
        self._passed: list[Sendings] = []
        self._wound_down = False
        self._interrupts = Interrupts(lambda: any(each.busy for each in self))

    def __iter__(self) -> Iterator[Campaign]:
        """Iterate over the campaigns that were started."""
        return iter([*self._campaigns.values(), *self._passing])

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._campaigns

    def given_up(self, endpoint: str) -> str | None:
        """Return why an endpoint fits nothing more; ``None`` while it may."""
        own = self._campaigns.get(endpoint)
        if own is not None and own.given_up is not None:
            return own.given_up
        return self._given_up.get(endpoint)

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed while fits ran."""
        return self._interrupts.count > 0

    @property
    def sendings(self) -> list[Sendings]:
        """What each campaign has sent, those included that are over."""
        return [*(each.sendings for each in self), *self._passed]

    @property
    def is_journaled(self) -> bool:
        """Whether the journal, if there is one yet, could be written."""
        return self._journal is None or self._journal.problem is None

    def engine(self, endpoint: str) -> Engine:
        """Return the engine of an endpoint."""
        if endpoint not in self._engines:
            self._engines[endpoint] = self.new_engine(endpoint, blocks=self._fitting.blocks)
        return self._engines[endpoint]

    def new_engine(self, endpoint: str, *, blocks: int | None = None) -> Engine:
        """Return an additional engine of the endpoint, perhaps with another number of blocks."""
        return create_engine(
            endpoint,
            self.directory,
            blocks=blocks,
            workers=self._fitting.workers,
            config=self._fitting.endpoint_config,
        )

    def of(self, endpoint: str) -> Campaign:
        """Return the campaign of an endpoint, started if necessary."""
        if endpoint not in self._campaigns:
            journal = self.journal()
            self._campaigns[endpoint] = self._new(
                self.engine(endpoint),
                on_result=partial(journal.write, endpoint),
                on_record=partial(journal.note, endpoint),
                clocks=self.clocks[endpoint],
            )
        return self._campaigns[endpoint]

    def rest(self, endpoint: str) -> None:
        """Wait for the fits on an endpoint, and end its workers."""
        if endpoint in self._campaigns:
            own = self._campaigns[endpoint]
            own.drain(partial(self.show, own))
        if endpoint in self._engines:
            self._engines[endpoint].stop()

    @contextlib.contextmanager
    def passing(self, engine: Engine) -> Iterator[Campaign]:
        """Fit for a while with an engine of its own."""
        campaign = self._new(engine)
        self._passing.append(campaign)
        try:
            yield campaign
        finally:
            if campaign.given_up is not None:
                self._given_up[engine.spec] = campaign.given_up
            campaign.cancel("the measurement is over")
            self._passing.remove(campaign)
            self._passed.append(campaign.sendings)
            self._progress.clear()

    def journal(self) -> journals.Journal:
        """Return the journal of the session, created if necessary."""
        if self._journal is None:
            if self._journal_path is None:
                journals.prune(self.directory)
                self._journal_path = journals.new_path(self.directory)
            self._journal = journals.Journal(self._journal_path)
        return self._journal

    def watch_interrupts(self) -> None:
        """Let the first Ctrl-C finish what runs, from now on."""
        self._interrupts.watch()

    def wait(
        self, campaign: Campaign, tasks: Sequence[Task], what: str | None = None
    ) -> list[HypotestResult]:
        """Return the results of tasks that were submitted, when they are done.

        Parameters
        ----------
        campaign : Campaign
            The campaign that runs them.
        tasks : sequence of Task
            The tasks.
        what : str, optional
            What they are for, for people.
        """
        futures = [campaign.result(task) for task in tasks]
        try:
            while concurrent.futures.wait(futures, timeout=TICK_S).not_done:
                self.show(campaign, what)
        finally:
            self._progress.clear()
        return [future.result() for future in futures]

    def show(self, campaign: Campaign, what: str | None = None) -> None:
        """Show the progress of a campaign; after Ctrl-C let none of them start other fits."""
        if self.interrupted and not self._wound_down:
            self._wound_down = True
            self._wind_down()
        where = short_uuid(campaign.engine.spec)
        self._progress.show(f"{where}, {what}" if what else where, campaign.progress())

    def _wind_down(self) -> None:
        """Start no other fits, and say so."""
        running = sum(each.progress().running for each in self)
        fits = f"{counted(running, 'running fit')} {'is' if running == 1 else 'are'}"
        # A cancelled step of GitHub Actions has ten seconds, and cannot press Ctrl-C again.
        # After SIGTERM there is no time, either.
        at_once = self._interrupts.terminated or bool(os.environ.get("GITHUB_ACTIONS"))
        for each in self:
            (each.cancel if at_once else each.wind_down)(_INTERRUPTED)
        self._progress.say(
            f"interrupted: {fits} ended, and no others started"
            if at_once
            else f"interrupted: {fits} finished first, and no others started; Ctrl-C again ends at "
            "once"
        )

    def show_wait(self, endpoint: str, waits_s: float | None, measures: str | None = None) -> None:
        """Show for how long nothing has answered, outside of fits; ``None``: an answer came.

        Parameters
        ----------
        endpoint : str
            What is waited for.
        waits_s : float or None
            For how long.
        measures : str, optional
            What is being measured.
        """
        where, engine = short_uuid(endpoint), self.engine(endpoint)
        self._progress.wait(where, waits_s, engine.waits_for, measures, engine.missing)

    def clear(self) -> None:
        """Remove the live line."""
        self._progress.clear()

    def close(self) -> None:
        """End all that was started."""
        self._note_lost_blocks()
        for campaign in self._campaigns.values():
            progress = campaign.progress()
            if progress.done < progress.total:
                self.notes.append(
                    f"not done: {progress.total - progress.done} of "
                    f"{counted(progress.total, 'fit')} on {campaign.engine.spec}; --faas-resume "
                    "takes over finished ones"
                )
            remaining = campaign.remaining
            campaign.cancel("the session ended before this fit")
            if campaign.problem:
                self.notes.append(campaign.problem)
            if remaining:
                self.notes.append(
                    f"{counted(remaining, 'fit')} left with {campaign.engine.spec} to run on "
                    "there; --faas-resume collects the results"
                )
        for engine in self._engines.values():
            engine.stop()
        if self._journal is not None:
            self._journal.close()
            if self._journal.problem:
                self.notes.append(self._journal.problem)

    def _note_lost_blocks(self) -> None:
        lost = sum((each.blocks for each in self.sendings), Counter[str]())
        for text, count in lost.most_common(_BLOCKS_TOLD):
            self.notes.append(f"{text} ({counted(count, 'fit')} ran there)")
        if len(lost) > _BLOCKS_TOLD:
            self.notes.append(
                f"{len(lost) - _BLOCKS_TOLD} more blocks ended while fits ran: see `block lost` in "
                "the journal"
            )

    def restore_interrupts(self) -> None:
        """Restore the previous handler of Ctrl-C."""
        self._interrupts.restore()

    def _new(self, engine: Engine, **options: Any) -> Campaign:
        campaign = Campaign(
            engine,
            Policy(
                timeout_s=self._fitting.timeout_s,
                retries=self._fitting.retries,
                queue_timeout_s=self._fitting.queue_timeout_s,
            ),
            expected_s=self._expected_s,
            relative_s=self._relative_s,
            is_failure=self._is_failure,
            **options,
        )
        if self._wound_down:
            campaign.wind_down(_INTERRUPTED)
        return campaign
