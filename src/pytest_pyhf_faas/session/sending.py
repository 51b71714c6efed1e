"""Send tasks to the campaign of their endpoint, except what an earlier session has done."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.journal import StoredResult
from pytest_pyhf_faas.errors import FaasError, NotReadyError
from pytest_pyhf_faas.preflight.remedies import Remedies
from pytest_pyhf_faas.preflight.waiting import Questions
from pytest_pyhf_faas.session.resume import (
    Earlier,
    left_out_notes,
    of_the_same_workers,
    read_earlier,
)
from pytest_pyhf_faas.worker.fitting import probe_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.campaign import Campaign
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.session.campaigns import Campaigns
    from pytest_pyhf_faas.session.fitting import Fitting

_PROBE_S = 300.0


class Sender:
    """Sends tasks, or takes over their results from earlier.

    Parameters
    ----------
    fitting : Fitting
        How fits are done.
    campaigns : Campaigns
        The campaigns that run the fits.
    shared : callable, optional
        Where processes share their fits, returns their results so far, by endpoint and key
        of the task; what is taken over is then written where the others read it.

    Attributes
    ----------
    adopted, collected : int
        How many fits were taken over from earlier runs, and how many collected that one had sent.
    """

    def __init__(
        self,
        fitting: Fitting,
        campaigns: Campaigns,
        shared: Callable[[], Mapping[tuple[str, str], HypotestResult]] | None = None,
    ) -> None:
        self.adopted = self.collected = 0
        self._fitting = fitting
        self._campaigns = campaigns
        self._shared = shared
        self._earlier: dict[str, Earlier] = {}
        self._left_out: dict[tuple[str, str], str] = {}

    def campaign(self, endpoint: str) -> Campaign:
        """Return the campaign of an endpoint; when it starts, earlier sessions are read."""
        if endpoint not in self._earlier:
            earlier = self._resumed(endpoint) if self._fitting.resume else Earlier()
            if self._shared is not None:
                for (where, key), result in self._shared().items():
                    if where == endpoint:
                        earlier.results[key] = result
            self._earlier[endpoint] = earlier
        return self._campaigns.of(endpoint)

    def send(self, endpoint: str, tasks: Sequence[Task]) -> None:
        """Submit tasks, except those that an earlier session fitted or sent."""
        campaign = self.campaign(endpoint)
        earlier = self._earlier[endpoint]
        sent_before: dict[str, list[Task]] = {}
        for task in {task.key: task for task in tasks}.values():
            if task in campaign:
                continue
            if task.key in earlier.results:
                known = earlier.results[task.key]
                result = known.read() if isinstance(known, StoredResult) else known
                campaign.adopt(task, result)
                self.adopted += 1
                if self._shared is not None and self._fitting.resume:
                    self._campaigns.journal().write(endpoint, result)
            elif task.key in earlier.accepted:
                sent_before.setdefault(earlier.accepted[task.key], []).append(task)
                self.collected += 1
            elif task.key in earlier.left_out:
                self._left_out[endpoint, task.key] = earlier.left_out[task.key]
        for reference, sent in sent_before.items():
            campaign.collect(reference, sent)
        campaign.submit(tasks)

    def close(self) -> None:
        """Note which fits of earlier sessions were not taken over though they were asked for."""
        self._campaigns.notes += left_out_notes(self._left_out.values())

    def _resumed(self, endpoint: str) -> Earlier:
        """Return the results of earlier runs by workers like the present ones."""
        notes = self._campaigns.notes
        earlier = read_earlier(self._campaigns.directory, endpoint)
        notes.extend(earlier.problems)
        if not earlier.results:
            if not (earlier.accepted or earlier.left_out or earlier.problems):
                notes.append(f"--faas-resume found no earlier results for {endpoint}")
            return earlier
        probe = self._probe(endpoint)
        if probe is None:
            notes.append(
                f"--faas-resume could not inspect the workers of {endpoint}, and takes over "
                "no earlier results; they stay in the journal"
            )
            return Earlier(accepted=earlier.accepted, left_out=earlier.left_out)
        usable, changed = of_the_same_workers(earlier.results, probe)
        return Earlier(usable, earlier.accepted, {**earlier.left_out, **changed})

    def _probe(self, endpoint: str) -> dict[str, Any] | None:
        """Ask a worker for its environment; ``None`` if none answers in time."""
        campaigns, engine = self._campaigns, self._campaigns.engine(endpoint)
        questions = Questions(
            engine,
            Remedies(engine),
            queue_timeout_s=self._fitting.queue_timeout_s,
            on_wait=partial(campaigns.show_wait, endpoint),
            on_lost=lambda _error: None,
            worker_clocks=campaigns.clocks[endpoint],
        )
        try:
            call = questions.send(probe_environment, limit_s=_PROBE_S)
            questions.wait_for_a_worker(call)
        except NotReadyError as error:
            campaigns.of(endpoint).give_up(str(error))  # so that no fit waits again
            return None
        with contextlib.suppress(FaasError):
            found: dict[str, Any] = questions.value(call, _PROBE_S, "what it is")
            return found
        return None
