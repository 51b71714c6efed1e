"""Which fits a session needs, and when they start.

Nothing starts while pytest collects. The first item that needs a fit has the fits of all selected
items submitted; a wall time that is measured before its patches are compared feeds them, so that
no patch is fitted twice for one run.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign import journal as journals
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.loop import TICK_S
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.pools import Pools
from pytest_pyhf_faas.campaign.results import WallTime
from pytest_pyhf_faas.campaign.tasks import CERTIFIED, Pool, make_task, make_tasks
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.plugin.interrupts import Interrupts
from pytest_pyhf_faas.plugin.markers import hypotest_config
from pytest_pyhf_faas.references.known_issues import is_known_error
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.worker.fitting import probe_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from pytest_pyhf_faas.campaign.pools import Exploration
    from pytest_pyhf_faas.campaign.results import HypotestResult, Timeline, Trial
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.progress import ProgressLine
    from pytest_pyhf_faas.plugin.settings import Settings
    from pytest_pyhf_faas.plugin.sharing import Sharing
    from pytest_pyhf_faas.references.store import ReferenceStore

_PROBE_S = 300.0
#: Exceptions that speak of the worker, not of the fit: it may have what was missing by now.
_OF_THE_WORKER = frozenset(
    {
        "ImportError",
        "MemoryError",
        "ModuleNotFoundError",
        "pyhf.exceptions.ImportBackendError",
    }
)
_POLL_S = 0.05
_INTERRUPTED = "the session was interrupted before this fit began"


@dataclass(frozen=True, slots=True)
class Need:
    """What one item needs: some fits on an endpoint, to compare them or to measure their time."""

    endpoint: str
    tasks: tuple[Task, ...]
    measures: bool


def need_of(item: pytest.Item, settings: Settings) -> Need | None:
    """Return what an item needs, from the fixtures that it asks for."""
    names = getattr(item, "fixturenames", ())
    measures = "wall_time" in names
    if not measures and "hypotest_result" not in names:
        return None
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    pallet = parameters.get("pallet")
    if pallet is None:
        return None  # the test has a fixture of its own for it
    config, _criteria = hypotest_config(settings, item.get_closest_marker("hypotest"))
    endpoint = parameters.get("faas_endpoint", settings.endpoints[0])
    if measures:
        return Need(endpoint, tuple(make_tasks(pallet, config)), measures=True)
    return Need(endpoint, (make_task(pallet, parameters["signal_patch"], config),), measures=False)


class Schedule:
    """The fits of a session, on all its endpoints.

    Parameters
    ----------
    settings : Settings
        The options of the session.
    references : ReferenceStore
        Where known fit times come from.
    journal_directory : Path
        Where the journals of this project lie, and what engines keep in files.
    progress : ProgressLine
        Shows how far the fits are while an item waits.
    sharing : Sharing or None
        Under pytest-xdist, who of its workers has the fits done.
    """

    def __init__(
        self,
        settings: Settings,
        references: ReferenceStore,
        journal_directory: Path,
        progress: ProgressLine,
        sharing: Sharing | None,
    ) -> None:
        self.settings = settings
        self.wall_times: list[WallTime] = []
        #: The numbers of workers or blocks to measure with, by endpoint, pallet and its patches.
        self.scaling: dict[tuple[str, str, int], list[int]] = {}
        self.notes: list[str] = []
        self.adopted = self.collected = 0
        self._wound_down = False
        self._leads_on = True
        self._interrupts = Interrupts(lambda: any(c.busy for c in self.campaigns))
        self._scaled: Campaign | None = None
        self._references = references
        self._journal_directory = journal_directory
        self._journal: journals.Journal | None = None
        self._progress = progress
        self._sharing = sharing
        self._pools = Pools(
            self._stored_pool,
            for_references=settings.update is not None,
            shared=None if sharing is None else sharing.journal.with_suffix(".pools"),
        )
        self.clocks: defaultdict[str, Clocks] = defaultdict(Clocks)
        self._engines: dict[str, Engine] = {}
        self._campaigns: dict[str, Campaign] = {}
        self._earlier: dict[str, dict[str, HypotestResult]] = {}
        self._accepted: dict[str, dict[str, str]] = {}
        self._needs: dict[str, Need] = {}
        self._positions: dict[str, int] = {}
        self._measured_at: dict[tuple[str, str], int] = {}
        self._closed = False

    # Planning

    def plan(self, items: Sequence[pytest.Item]) -> None:
        """Take note of what the selected items need, in the order in which they will run."""
        compared: set[tuple[str, str]] = set()
        for position, item in enumerate(items):
            need = None
            if item.get_closest_marker("skip") is None:
                self._plan_scaling(item)
                need = need_of(item, self.settings)
            if need is None:
                continue
            self._needs[item.nodeid] = need
            self._positions[item.nodeid] = position
            for task in need.tasks:
                place = need.endpoint, task.key
                if not need.measures:
                    compared.add(place)
                elif self.no_wall_time is None and place not in compared:
                    self._measured_at.setdefault(place, position)

    def _plan_scaling(self, item: pytest.Item) -> None:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if {"scaling_point", "pallet"} <= parameters.keys():
            endpoint = parameters.get("faas_endpoint", self.settings.endpoints[0])
            place = endpoint, parameters["pallet"].name, len(parameters["pallet"].patches)
            self.scaling.setdefault(place, []).append(parameters["scaling_point"])

    @property
    def no_wall_time(self) -> str | None:
        """Why wall times cannot be measured in this session, if they cannot."""
        if self._sharing is not None:
            return "a wall time is not measured under pytest-xdist, whose workers share the fits"
        if self.settings.resume:
            return "a wall time is not measured with --faas-resume, which takes over earlier fits"
        return None

    def fits(self) -> dict[tuple[str, str], dict[str, Task]]:
        """Return the fits that the selected items need, by endpoint and pallet, then by key."""
        fits: dict[tuple[str, str], dict[str, Task]] = {}
        for need in self._needs.values():
            for task in need.tasks:
                fits.setdefault((need.endpoint, task.pallet.name), {})[task.key] = task
        return fits

    def expected_s(self, task: Task) -> float | None:
        """Return how long the fit of a task took where its reference was made."""
        reference = self._references.find(task)
        return reference.expected_s(task.config.fit_setup) if reference else None

    def is_failure(self, task: Task, result: HypotestResult) -> bool:
        """Whether a fit broke, so that its item cannot be green."""
        if result.status == "ok":
            return False
        reference = self._references.find(task)
        known = is_known_error(result, reference, task.config.fit_setup)
        return known is None and not error_matches(result, reference)

    # Fitting

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed while fits ran."""
        return self._interrupts.count > 0

    @property
    def campaigns(self) -> Iterable[Campaign]:
        """The campaigns that were begun."""
        scaled = [] if self._scaled is None else [self._scaled]
        return [*self._campaigns.values(), *scaled]

    def engine(self, endpoint: str) -> Engine:
        """Return the engine of an endpoint."""
        if endpoint not in self._engines:
            self._engines[endpoint] = create_engine(
                endpoint,
                self._journal_directory,
                blocks=self.settings.blocks,
                workers=self.settings.workers,
                config=self.settings.endpoint_config,
            )
        return self._engines[endpoint]

    def warm_up(self, endpoint: str) -> None:
        """Begin to start the workers of an endpoint, while pytest still collects."""
        if self._sharing is None:
            self.engine(endpoint).start()

    def results(self, item: pytest.Item) -> list[HypotestResult]:
        """Return the fits that an item needs, when they are done."""
        need = self._need(item)
        if self._sharing is not None:
            shared = self._follow(self._sharing, need)
            if shared is not None:
                return shared
        campaign = self._campaign(need.endpoint)
        if self._sharing is None:
            self._interrupts.watch()
        tasks = self._with_pools(need.endpoint, need.tasks)
        if not all(task in campaign for task in tasks):
            self._submit_all(item)
        return self._wait(campaign, tasks)

    def _wait(self, campaign: Campaign, tasks: Sequence[Task]) -> list[HypotestResult]:
        futures = [campaign.result(task) for task in tasks]
        try:
            while concurrent.futures.wait(futures, timeout=TICK_S).not_done:
                self._show(campaign)
        finally:
            self._progress.clear()
        return [future.result() for future in futures]

    def _stored_pool(self, pallet: Pallet, config: HypotestConfig) -> Pool | None:
        points = self._references.pool(pallet, config)
        return None if points is None else Pool(points)

    def exploration(self, task: Task) -> Exploration | None:
        """Return how the pallet of a task was searched for starts; ``None`` if it was not."""
        return self._pools.known(task) if task.config.method == CERTIFIED else None

    def _with_pools(self, endpoint: str, tasks: Iterable[Task]) -> list[Task]:
        """Return tasks as they are sent: a certified one with the pool of its pallet."""

        def fit(searched: list[Task]) -> list[HypotestResult]:
            self._send(endpoint, searched)
            return self._wait(self._campaign(endpoint), searched)

        sent = []
        for task in tasks:
            if task.config.method == CERTIFIED:
                try:
                    found = self._pools.find(task, self._patches_beside(task), fit)
                except BaseException:
                    self._leads_on = False  # the others must not wait for what never comes
                    raise
                sent.append(make_task(task.pallet, task.patch, task.config, found.pool))
            else:
                sent.append(task)
        return sent

    def _patches_beside(self, task: Task) -> Iterator[SignalPatch]:
        """Yield the patches that the session tests with a pallet in one way."""
        for need in self._needs.values():
            for other in need.tasks:
                if other.pallet.digest == task.pallet.digest and other.config == task.config:
                    yield other.patch

    def measure(
        self, item: pytest.Item, analysis: str, repeat: Callable[[Callable[[], Trial]], Any]
    ) -> tuple[WallTime, list[HypotestResult]]:
        """Measure the wall time of an analysis.

        Parameters
        ----------
        item, analysis : pytest.Item, str
            The item that measures, and how its analysis is called.
        repeat : callable
            Calls what it is given once for each trial.

        Returns
        -------
        tuple
            The wall time, and the results of the last trial.
        """
        need = self._need(item)
        campaign = self._campaign(need.endpoint)
        self._interrupts.watch()
        tasks = self._with_pools(need.endpoint, need.tasks)
        trials: list[Trial] = []

        def trial() -> Trial:
            trials.append(campaign.measure(tasks, partial(self._show, campaign)))
            return trials[-1]

        try:
            repeat(trial)
        finally:
            self._progress.clear()
        timeline = campaign.timeline(analysis, need.tasks[0].config) if need.tasks else None
        wall_time = WallTime(analysis, need.endpoint, tuple(trials), timeline)
        self.wall_times.append(wall_time)
        return wall_time, [campaign.result(task).result() for task in tasks]

    def timelines(self) -> Iterator[tuple[str, str, HypotestConfig, Timeline]]:
        """Yield endpoint, pallet, configuration and timeline of what has been fitted."""
        seen = {
            (need.endpoint, task.pallet.name, task.config)
            for need in self._needs.values()
            for task in need.tasks
        }
        for endpoint, pallet, config in seen:
            if endpoint in self._campaigns:
                timeline = self._campaigns[endpoint].timeline(pallet, config)
                if timeline is not None:
                    yield endpoint, pallet, config, timeline

    # Scaling

    @staticmethod
    def scaling_unit(endpoint: str) -> Literal["workers", "blocks"]:
        """Return what `measure_with` has some number of on an endpoint."""
        return "workers" if endpoint.partition(":")[0] == "local" else "blocks"

    def measure_with(
        self,
        count: int,
        endpoint: str,
        tasks: Sequence[Task],
        repeat: Callable[[Callable[[], Trial]], Any],
    ) -> tuple[list[Trial], list[HypotestResult]]:
        """Measure the wall time of some tasks with another number of workers or blocks.

        Parameters
        ----------
        count : int
            How many, of what `scaling_unit` says.
        endpoint, tasks : str, sequence of Task
            Where, and what. The endpoint's own workers are ended first.
        repeat : callable
            Calls what it is given once for each trial; each starts workers of its own.

        Returns
        -------
        tuple
            The trials, and the results of the last.
        """
        tasks = self._with_pools(endpoint, tasks)
        if endpoint in self._campaigns:
            own = self._campaigns[endpoint]
            own.drain(partial(self._show, own))
        if endpoint in self._engines:
            self._engines[endpoint].stop()
        in_workers = self.scaling_unit(endpoint) == "workers"
        trials: list[Trial] = []
        results: list[HypotestResult] = []

        def trial() -> Trial:
            engine = create_engine(
                f"local:{count}" if in_workers else endpoint,
                self._journal_directory,
                blocks=None if in_workers else count,
                workers=None if in_workers else self.settings.workers,
                config=self.settings.endpoint_config,
            )
            campaign = self._new_campaign(engine)
            self._interrupts.watch()
            self._scaled = campaign
            try:
                trials.append(campaign.measure(tasks, partial(self._show, campaign)))
                results[:] = [campaign.result(task).result() for task in tasks]
            finally:
                campaign.cancel("the measurement is over")
                self._scaled = None
                self._progress.clear()
            return trials[-1]

        repeat(trial)
        return trials, results

    def close(self, *, interrupted: bool) -> None:
        """End all that was started; under xdist, not before the others have what they wait for."""
        if self._closed:
            return
        self._closed = True
        self._interrupts.restore()
        if self._sharing is not None:
            # Who waits for a journal that cannot be written would wait for ever.
            written = self._journal is None or self._journal.problem is None
            others_wait = written and self._leads_on and not interrupted
            self._sharing.leave(wait_for_others=others_wait)
        for campaign in self._campaigns.values():
            progress = campaign.progress()
            if progress.done < progress.total:
                self.notes.append(
                    f"{progress.total - progress.done} of {progress.total} fits on "
                    f"{campaign.engine.spec} were not done; --faas-resume takes over what was done"
                )
            remaining = campaign.remaining
            campaign.cancel("the session ended before this fit")
            if campaign.problem:
                self.notes.append(campaign.problem)
            if remaining:
                self.notes.append(
                    f"{remaining} fits are still with {campaign.engine.spec} and run on there; "
                    "--faas-resume collects their results"
                )
        for engine in self._engines.values():
            engine.stop()
        if self._journal is not None:
            self._journal.close()
            if self._journal.problem:
                self.notes.append(self._journal.problem)

    def _need(self, item: pytest.Item) -> Need:
        need = self._needs.get(item.nodeid) or need_of(item, self.settings)
        if need is None:
            raise LookupError(f"{item.nodeid} needs no fit")
        return need

    def _follow(self, sharing: Sharing, need: Need) -> list[HypotestResult] | None:
        """Wait for what another worker of xdist has fitted; ``None`` if this one is to do it."""
        while True:
            known = sharing.results()
            found = [known.get((need.endpoint, key)) for key in self._known_keys(need)]
            if all(found):
                return [result for result in found if result is not None]
            if sharing.leads():
                return None
            time.sleep(_POLL_S)

    def _known_keys(self, need: Need) -> Iterator[str]:
        """Yield the keys of the tasks as they are sent; empty where that is not known yet."""
        for task in need.tasks:
            if task.config.method != CERTIFIED:
                yield task.key
            else:
                found = self._pools.known(task)
                sent = found and make_task(task.pallet, task.patch, task.config, found.pool)
                yield sent.key if sent else ""

    def _campaign(self, endpoint: str) -> Campaign:
        if endpoint not in self._campaigns:
            journal = self._open_journal()
            engine = self.engine(endpoint)
            earlier = self._resumed(endpoint, engine) if self.settings.resume else {}
            if self._sharing is not None:
                for (where, key), result in self._sharing.results().items():
                    if where == endpoint:
                        earlier[key] = result
            self._earlier[endpoint] = earlier
            self._campaigns[endpoint] = self._new_campaign(
                engine,
                on_result=partial(journal.write, endpoint),
                on_record=partial(journal.note, endpoint),
                clocks=self.clocks[endpoint],
            )
        return self._campaigns[endpoint]

    def _new_campaign(self, engine: Engine, **options: Any) -> Campaign:
        campaign = Campaign(
            engine,
            Policy(
                timeout_s=self.settings.timeout_s,
                retries=self.settings.retries,
                queue_timeout_s=self.settings.queue_timeout_s,
            ),
            expected_s=self.expected_s,
            is_failure=self.is_failure,
            **options,
        )
        if self._wound_down:
            campaign.wind_down(_INTERRUPTED)
        return campaign

    def _open_journal(self) -> journals.Journal:
        if self._journal is None:
            if self._sharing is not None:
                path = self._sharing.journal
            else:
                journals.prune(self._journal_directory)
                path = journals.new_path(self._journal_directory)
            self._journal = journals.Journal(path)
        return self._journal

    def _submit_all(self, item: pytest.Item) -> None:
        """Submit the fits of all items, but for those that a later item measures."""
        position = self._positions.get(item.nodeid, -1)
        wanted: dict[str, list[Task]] = {}
        for need in (self._need(item), *self._needs.values()):
            for task in need.tasks:
                measured_at = self._measured_at.get((need.endpoint, task.key), -1)
                if measured_at <= position:
                    wanted.setdefault(need.endpoint, []).append(task)
        for endpoint, tasks in wanted.items():
            self._send(endpoint, self._with_pools(endpoint, tasks))

    def _send(self, endpoint: str, tasks: Sequence[Task]) -> None:
        """Submit tasks, but for what an earlier session has fitted or sent."""
        campaign = self._campaign(endpoint)
        earlier = self._earlier.get(endpoint, {})
        for task in tasks:
            if task.key in earlier and task not in campaign:
                campaign.adopt(task, earlier[task.key])
                self.adopted += 1
                if self._sharing is not None and self.settings.resume:
                    # The other workers of xdist read it there.
                    self._open_journal().write(endpoint, earlier[task.key])
        for reference, sent in self._sent_before(endpoint, campaign, tasks).items():
            campaign.collect(reference, sent)
        campaign.submit(tasks)

    def _sent_before(
        self, endpoint: str, campaign: Campaign, tasks: Sequence[Task]
    ) -> dict[str, list[Task]]:
        """Return what an earlier session has sent and not received, by its reference."""
        accepted = self._accepted.get(endpoint, {})
        sent: dict[str, list[Task]] = {}
        for task in {task.key: task for task in tasks}.values():
            if task.key in accepted and task not in campaign:
                sent.setdefault(accepted[task.key], []).append(task)
        self.collected += sum(map(len, sent.values()))
        return sent

    def _resumed(self, endpoint: str, engine: Engine) -> dict[str, HypotestResult]:
        """Return the answers of earlier runs that workers like those of today gave."""
        found, self._accepted[endpoint] = self._journaled(endpoint)
        if not found:
            if not self._accepted[endpoint]:
                self.notes.append(f"--faas-resume found no earlier results for {endpoint}")
            return {}
        probe = self._ask(engine)
        if probe is None:
            self.notes.append(
                f"--faas-resume could not learn what the workers of {endpoint} are, and fits anew"
            )
            return {}
        today = {"python": probe["python"], **probe["versions"]}
        changed: dict[str, str] = {}
        usable = {}
        for key, result in found.items():
            then = result.environment.computing if result.environment else {}
            differ = {name: old for name, old in then.items() if today.get(name) != old}
            if differ:
                changed |= {name: f"{old} -> {today.get(name)}" for name, old in differ.items()}
            else:
                usable[key] = result
        if changed:
            self.notes.append(
                f"--faas-resume left {len(found) - len(usable)} earlier results out, because the "
                f"workers changed: {', '.join(f'{k} {v}' for k, v in sorted(changed.items()))}"
            )
        return usable

    def _journaled(self, endpoint: str) -> tuple[dict[str, HypotestResult], dict[str, str]]:
        """Return the answers that stand, and the references of what was sent and not received."""
        found = {}
        accepted: dict[str, str] = {}
        for path in journals.earlier(self._journal_directory):
            reader = journals.JournalReader(path)
            for where, result in reader.read():
                if where == endpoint:
                    accepted.pop(result.key, None)
                    if result.environment is not None and _stands(result):
                        found[result.key] = result
            if reader.problem:
                self.notes.append(reader.problem)
            for (where, key), reference in reader.accepted.items():
                if where == endpoint:
                    accepted[key] = reference
        return found, accepted

    def _ask(self, engine: Engine) -> dict[str, Any] | None:
        """Ask a worker what it is; ``None`` if none answers in time."""
        limit_s = self.settings.queue_timeout_s
        with contextlib.suppress(FaasError, concurrent.futures.TimeoutError):
            answer = engine.submit(probe_environment, timeout_s=_PROBE_S)
            found: dict[str, Any] = answer.result(None if limit_s is None else limit_s + _PROBE_S)
            return found
        return None

    def _show(self, campaign: Campaign) -> None:
        if self.interrupted and not self._wound_down:
            self._wound_down = True
            for each in self.campaigns:
                each.wind_down(_INTERRUPTED)
            running = sum(each.progress().running for each in self.campaigns)
            self._progress.say(
                f"interrupted: {running} running fits are finished first, and no others begun; "
                "Ctrl-C again ends at once"
            )
        self._progress.show(campaign.engine.spec, campaign.progress())


def _stands(result: HypotestResult) -> bool:
    """Whether a worker of the same versions would answer the same again."""
    return result.is_answer and not (result.error and result.error.type in _OF_THE_WORKER)
