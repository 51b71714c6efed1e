"""The fits of one endpoint, for callers that wait for all of them."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from pytest_pyhf_faas.caches import passing_directory, user_cache
from pytest_pyhf_faas.campaign.pools import Pools
from pytest_pyhf_faas.campaign.quantities import joined
from pytest_pyhf_faas.campaign.requirements import REFUSED, accepted
from pytest_pyhf_faas.campaign.tasks import CERTIFIED, Pool, parts_of, with_pool
from pytest_pyhf_faas.engines import resolve_endpoint
from pytest_pyhf_faas.errors import EndpointUnusableError, NotReadyError
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.session.campaigns import Campaigns
from pytest_pyhf_faas.session.progress import ProgressLine
from pytest_pyhf_faas.session.sending import Sender
from pytest_pyhf_faas.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.requirements import Requirement
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.store import ReferenceStore
    from pytest_pyhf_faas.session.display import Display
    from pytest_pyhf_faas.session.fitting import Fitting


class Fits:
    """Runs fits on one endpoint, with a journal, while it shows their progress.

    Parameters
    ----------
    endpoint : str
        Where.
    fitting : Fitting
        How.
    store : ReferenceStore
        The references of the fits.
    caller : str
        Whose fits they are: each caller resumes its own.
    display : Display or None
        Where progress is shown, if it is.
    required : sequence of Requirement
        What the workers must have.

    Raises
    ------
    ConfigurationError
        If there is no such endpoint, or it cannot be used as it is.
    """

    def __init__(
        self,
        endpoint: str,
        fitting: Fitting,
        store: ReferenceStore,
        caller: str,
        display: Display | None = None,
        required: Sequence[Requirement] = (),
    ) -> None:
        self.endpoint = resolve_endpoint(endpoint, {})
        self._store = store
        self._required = required
        self._progress = ProgressLine(display)
        self._campaigns = Campaigns(
            fitting,
            (user_cache() or passing_directory()) / caller,
            None,
            self._progress,
            expected_s=self._expected_s,
            relative_s=lambda task: store.find(task).relative_s(),
            is_failure=self._is_failure,
        )
        self._campaigns.engine(self.endpoint)  # errors of it come first
        self._sender = Sender(fitting, self._campaigns)
        self._pools = Pools(self._stored_pool, for_references=False, shared=None)

    def watch_interrupts(self) -> None:
        """Let the first Ctrl-C finish what runs, from now on; the second ends all at once."""
        self._campaigns.watch_interrupts()

    def results(self, tasks: Sequence[Task], what: str) -> list[HypotestResult]:
        """Return the results of hypotheses, in their order, when all are done.

        Parameters
        ----------
        tasks : sequence of Task
            The hypotheses, each as a whole.
        what : str
            What they are, for people.

        Raises
        ------
        EndpointUnusableError
            If nothing comes of the endpoint.
        NotReadyError
            If its workers are not as required.
        KeyboardInterrupt
            If it was interrupted; what is fitted by then is in the journal.
        """
        parts = [parts_of(self._with_pool(task, what)) for task in tasks]
        found = iter(self._done([part for those in parts for part in those], what))
        results = [joined([next(found) for _ in those]) for those in parts]
        self._check_workers(results)
        return results

    def say(self, text: str) -> None:
        """Write a permanent line that is not part of the caller's output."""
        self._progress.say(text)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes, once it is closed."""
        return tuple(self._campaigns.notes)

    def close(self) -> None:
        """End the workers, and show the notes."""
        self._campaigns.restore_interrupts()
        self._sender.close()
        self._campaigns.close()
        if self._sender.adopted:
            taken = f"{counted(self._sender.adopted, 'fit')} taken over from earlier runs"
            self._campaigns.notes.insert(0, taken)
        for note in self.notes:
            self.say(note)

    def _done(self, tasks: Sequence[Task], what: str) -> list[HypotestResult]:
        campaign = self._sender.campaign(self.endpoint)
        self._sender.send(self.endpoint, tasks)
        results = self._campaigns.wait(campaign, tasks, what)
        if self._campaigns.interrupted:
            raise KeyboardInterrupt
        if campaign.given_up is not None:
            raise EndpointUnusableError(campaign.given_up)
        return results

    def _with_pool(self, task: Task, what: str) -> Task:
        """Return a task as it is sent: a certified one with the pool of its pallet."""
        if task.config.method != CERTIFIED:
            return task
        rounds = count(1)
        found = self._pools.find(
            task,
            (),
            lambda tasks: self._done(tasks, f"{what}, search for starts, round {next(rounds)}"),
        )
        return with_pool(task, found.pool)

    def _stored_pool(self, pallet: Pallet, config: HypotestConfig) -> Pool | None:
        points = self._store.pool(pallet, config)
        return None if points is None else Pool(points)

    def _expected_s(self, task: Task) -> float | None:
        if task.config.quantity != "cls":
            return None
        return self._store.find(task).expected_s(task.config.fit_setup)

    def _is_failure(self, task: Task, result: HypotestResult) -> bool:
        return result.status != "ok" and not error_matches(result, self._store.find(task))

    def _check_workers(self, results: Sequence[HypotestResult]) -> None:
        """Refuse fits of workers that are not as required: they must not be recorded."""
        errors = [accepted(result, self._required).error for result in results]
        refused = [error.message for error in errors if error and error.type == REFUSED]
        if refused:
            raise NotReadyError(
                f"{len(refused)} of {counted(len(results), 'fit')} on {self.endpoint} do not "
                f"count: {listed(list(dict.fromkeys(refused)), 3, 200)}. They are not recorded: "
                "give the workers what you require ('pyhf-faas validate -k test_endpoint' names "
                "each difference)"
            )
