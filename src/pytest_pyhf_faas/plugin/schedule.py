"""When the fits of a session start, and who waits for them.

Nothing starts while pytest collects. The first item that needs a fit has the fits of all selected
items submitted; a wall time that is measured before its patches are compared feeds them, so that
no patch is fitted twice for one run.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.pools import Pools
from pytest_pyhf_faas.campaign.quantities import joined
from pytest_pyhf_faas.campaign.requirements import accepted
from pytest_pyhf_faas.campaign.tasks import CERTIFIED, Pool, make_task, with_pool
from pytest_pyhf_faas.plugin.plan import Plan
from pytest_pyhf_faas.plugin.update import may_become_reference
from pytest_pyhf_faas.references.known_issues import is_known_error
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.session.campaigns import Campaigns
from pytest_pyhf_faas.session.sending import Sender
from pytest_pyhf_faas.session.stream import stream

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator
    from pathlib import Path

    from pytest_pyhf_faas.campaign.campaign import Campaign
    from pytest_pyhf_faas.campaign.pools import Exploration
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.campaign.times import Timeline, WallTime
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.plugin.settings import Settings
    from pytest_pyhf_faas.plugin.sharing import Sharing
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.references.store import ReferenceStore
    from pytest_pyhf_faas.session.progress import Shows

_POLL_S = 0.05
#: How many references are cached.
_REMEMBERED = 20_000


class Schedule:
    """The fits of a session, on all its endpoints.

    Parameters
    ----------
    settings : Settings
        The options of the session.
    references : ReferenceStore
        The source of references and known fit times.
    directory : Path
        The directory of this project's journals, and of engines' files.
    progress : Shows
        Shows how far the fits are while an item waits.
    sharing : Sharing or None
        Under pytest-xdist, decides which worker runs the fits.

    Attributes
    ----------
    plan : Plan
        The needs of the selected items.
    campaigns : Campaigns
        The campaigns that run the fits.
    wall_times : list of WallTime
        What was measured.
    sender : Sender
        Sends the fits there.
    searches : int
        How many of the fits that were sent searched for the starts of certified ones.
    sharing : Sharing or None
        See above.
    """

    def __init__(
        self,
        settings: Settings,
        references: ReferenceStore,
        directory: Path,
        progress: Shows,
        sharing: Sharing | None,
    ) -> None:
        self.settings = settings
        self.plan = Plan()
        self.wall_times: list[WallTime] = []
        self.campaigns = Campaigns(
            settings,
            directory,
            None if sharing is None else sharing.journal,
            progress,
            expected_s=self.expected_s,
            relative_s=self.relative_s,
            is_failure=self.is_failure,
        )
        self.searches = 0
        self.sender = Sender(settings, self.campaigns, None if sharing is None else sharing.results)
        self._references = references
        self._found: dict[Hashable, PatchReference | Missing] = {}
        self.sharing = sharing
        self._leads_on = True
        self._pools = Pools(
            self._stored_pool,
            for_references=settings.update is not None,
            shared=None if sharing is None else sharing.journal.with_suffix(".pools"),
        )
        self._closed = False

    @property
    def notes(self) -> list[str]:
        """Notes for the end of the session."""
        return self.campaigns.notes

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed while fits ran."""
        return self.campaigns.interrupted

    @property
    def no_wall_time(self) -> str | None:
        """Why wall times cannot be measured in this session, if they cannot."""
        if self.sharing is not None:
            return "not measured under pytest-xdist, whose workers share the fits"
        if self.settings.resume:
            return "not measured with --faas-resume, which takes over earlier fits"
        return None

    # Knowledge about a fit

    def reference(self, task: Task) -> PatchReference | Missing:
        """Return the reference of a task, looked up once.

        Raises
        ------
        ReferenceFileError
            If there is a file for its pallet that cannot be read.
        """
        hypothesis = task.hypothesis
        if hypothesis not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[hypothesis] = self._references.find(task)
        return self._found[hypothesis]

    def expected_s(self, task: Task) -> float | None:
        """Return how long the fit of a task took with its fit setup, where that was checked."""
        if task.config.quantity != "cls":
            return None
        return self.reference(task).expected_s(task.config.fit_setup)

    def relative_s(self, task: Task) -> float | None:
        """Return how long the fit of a task took with any setup, only to compare it with others."""
        return self.reference(task).relative_s()

    def is_failure(self, task: Task, result: HypotestResult) -> bool:
        """Whether a fit gave no answer that could be right.

        That is CLs values, or an exception that is the reference of its hypothesis, becomes it, or
        is a known issue.
        """
        if result.status == "ok":
            return False
        if self.settings.update is not None and may_become_reference(result):
            return False
        reference = self.reference(task)
        known = is_known_error(result, reference, task.config.fit_setup)
        return known is None and not error_matches(result, reference)

    def exploration(self, task: Task) -> Exploration | None:
        """Return how the pallet of a task was searched for starts; ``None`` if it was not."""
        return self._pools.known(task) if task.config.method == CERTIFIED else None

    def timelines(self) -> Iterator[tuple[str, str, HypotestConfig, Timeline]]:
        """Yield endpoint, pallet, configuration and timeline of what has been fitted."""
        for endpoint, pallet, config in self.plan.analyses():
            if endpoint in self.campaigns:
                timeline = self.campaigns.of(endpoint).timeline(pallet, config)
                if timeline is not None:
                    yield endpoint, pallet, config, timeline

    # Fitting

    def campaign(self, endpoint: str) -> Campaign:
        """Return the campaign of an endpoint."""
        return self.sender.campaign(endpoint)

    def engine(self, endpoint: str) -> Engine:
        """Return the engine of an endpoint."""
        return self.campaigns.engine(endpoint)

    def warm_up(self, endpoint: str) -> None:
        """Begin to start the workers of an endpoint, while pytest still collects."""
        if self.sharing is None:
            self.engine(endpoint).start()

    def result(self, subject: Subject) -> HypotestResult:
        """Return the fit of the hypothesis that an item is about, when it is done."""
        return joined(self.results_for(subject))

    def results_for(self, subject: Subject) -> list[HypotestResult]:
        """Return the fits of all tasks of an item, in their order, when they are done."""
        return [self.accepted(result) for result in self._results(subject)]

    def _results(self, subject: Subject) -> list[HypotestResult]:
        if self.sharing is not None:
            shared = [self._follow(self.sharing, subject.endpoint, task) for task in subject.tasks]
            if all(result is not None for result in shared):
                pairs = zip(subject.tasks, shared, strict=True)
                return [result.of(task) for task, result in pairs if result is not None]
        campaign = self.campaign(subject.endpoint)
        if self.sharing is None:
            self.campaigns.watch_interrupts()
        tasks = self.with_pools(subject.endpoint, subject.tasks)
        if any(task not in campaign for task in tasks):
            for endpoint, due in self.plan.due(subject).items():
                self.sender.send(endpoint, self.with_pools(endpoint, due))
        return self.campaigns.wait(campaign, tasks)

    def stream(self, subject: Subject) -> Iterator[tuple[Task, HypotestResult]]:
        """Yield all hypotheses of a pallet with their fits, in their order, as these are done.

        Neither these nor the tasks are kept. It ends early where nothing more is fitted.
        """
        pallet, config, endpoint = subject.pallet, subject.config, subject.endpoint
        assert pallet is not None
        campaign = self.campaign(endpoint)
        self.campaigns.watch_interrupts()
        # One pool for all: it follows from the pallet.
        some = (make_task(pallet, patch, config) for patch in pallet.patches[:1])
        pools = [task.pool for task in self.with_pools(endpoint, some)]

        def tasks() -> Iterator[Task]:
            for patch in pallet.patches:
                yield make_task(pallet, patch, config, pools[0])

        def goes_on() -> bool:
            self.campaigns.show(campaign)
            return campaign.given_up is None and not self.interrupted

        send = partial(self.sender.send, endpoint)
        try:
            for task, result in stream(campaign, tasks(), len(pallet.patches), send, goes_on):
                yield task, self.accepted(result)
        finally:
            self.campaigns.clear()

    def accepted(self, result: HypotestResult) -> HypotestResult:
        """Return a result, without its values if its worker is not as --faas-require asks."""
        return accepted(result, self.settings.require)

    def results(self, endpoint: str) -> list[HypotestResult]:
        """Return the results of the fits on an endpoint so far, in all workers of xdist."""
        found: list[HypotestResult] = []
        if self.sharing is not None:
            shared = self.sharing.results()
            found = [result for (where, _key), result in shared.items() if where == endpoint]
        elif endpoint in self.campaigns:
            found = self.campaigns.of(endpoint).results
        return [self.accepted(result) for result in found]

    def close(self, *, interrupted: bool) -> None:
        """End all that was started; under xdist, not before other workers have their results."""
        if self._closed:
            return
        self._closed = True
        self.campaigns.restore_interrupts()
        self.sender.close()
        if self.sharing is not None:
            # Those who wait for a journal that cannot be written would wait forever.
            others_wait = self.campaigns.is_journaled and self._leads_on and not interrupted
            self.sharing.leave(wait_for_others=others_wait)
        self.campaigns.close()

    # Starts of certified fits

    def with_pools(self, endpoint: str, tasks: Iterable[Task]) -> list[Task]:
        """Return tasks as they are sent: a certified one with the pool of its pallet."""
        rounds = count(1)

        def fit(searched: list[Task]) -> list[HypotestResult]:
            what = f"search for starts, round {next(rounds)}"
            campaign = self.campaign(endpoint)
            before = campaign.sendings.fits
            self.sender.send(endpoint, searched)
            try:
                return self.campaigns.wait(campaign, searched, what)
            finally:
                self.searches += campaign.sendings.fits - before

        sent = []
        for task in tasks:
            if task.config.method == CERTIFIED:
                try:
                    found = self._pools.find(task, self.plan.patches_beside(task), fit)
                except BaseException:
                    self._leads_on = False  # the others must not wait for results that never come
                    raise
                sent.append(with_pool(task, found.pool))
            else:
                sent.append(task)
        return sent

    def _stored_pool(self, pallet: Pallet, config: HypotestConfig) -> Pool | None:
        points = self._references.pool(pallet, config)
        return None if points is None else Pool(points)

    # Sharing under xdist

    def _follow(self, sharing: Sharing, endpoint: str, task: Task) -> HypotestResult | None:
        """Wait for what another worker of xdist has fitted; ``None`` if this one is to do it."""
        while True:
            result = sharing.results().get((endpoint, self._sent_key(task)))
            if result is not None:
                return result
            if sharing.leads():
                return None
            time.sleep(_POLL_S)

    def _sent_key(self, task: Task) -> str:
        """Return the key of a task as it is sent; empty where that is not known yet."""
        if task.config.method != CERTIFIED:
            return task.key
        found = self._pools.known(task)
        return with_pool(task, found.pool).key if found else ""
