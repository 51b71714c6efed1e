"""The state of a pytest session: settings, pallets, references, schedule; made when needed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_pyhf_faas.plugin.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.check import Finding, PalletCheck
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.plugin.obstacles import Obstacles
    from pytest_pyhf_faas.plugin.schedule import Schedule
    from pytest_pyhf_faas.plugin.settings import Settings
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.preflight.preflight import Preflight
    from pytest_pyhf_faas.published.agreement import PublishedLimits
    from pytest_pyhf_faas.published.publication import Publication
    from pytest_pyhf_faas.references.store import ReferenceStore
    from pytest_pyhf_faas.session.progress import ProgressLine

_CONTEXT = pytest.StashKey["Context"]()


@dataclass
class Context:
    """The state of one session.

    Attributes
    ----------
    problems : list of str
        What made parametrizing impossible; the session ends with them as a usage error.
    unwritten : list of str
        What of references or the report could not be written; the session fails with it.
    origins : dict
        The name, path or DOI by which the user asked for a pallet that is the only one there.
    refused_update : str or None
        Why the references of this session could not be saved, as far as known before the fits.
    kept : int
        How many hypotheses keep their reference, where `--faas-update` is given.
    known_issues : dict
        How many hypotheses of each pallet a backend and optimizer got wrong in a known way.
    preflights : dict
        Measurements of each endpoint.
    obstacles : Obstacles
        Reasons that keep items from their fits.
    """

    config: pytest.Config
    settings: Settings
    references: ReferenceStore
    schedule: Schedule
    problems: list[str] = field(default_factory=list)
    unwritten: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    refused_update: str | None = None
    kept: int = 0
    known_issues: dict[str, int] = field(default_factory=dict)
    preflights: dict[str, Preflight] = field(default_factory=dict)
    obstacles: Obstacles = field(init=False)
    _loaded: dict[str, list[Pallet]] = field(default_factory=dict)
    _selected: dict[tuple[int, tuple[str, ...]], Pallet] = field(default_factory=dict)
    _whole: dict[int, Pallet] = field(default_factory=dict)
    _checks: dict[Hashable, PalletCheck] = field(default_factory=dict)
    _publications: dict[str, Publication | None] = field(default_factory=dict)
    _agreements: dict[Hashable, PublishedLimits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from pytest_pyhf_faas.plugin.obstacles import Obstacles

        schedule = self.schedule
        self.obstacles = Obstacles(self.preflights, schedule)

    def pallets(self, specs: Sequence[str], patches: Sequence[str]) -> list[Pallet]:
        """Return the pallets of some specs, each once, with only the wanted patches.

        Raises
        ------
        PalletError
            If a pallet cannot be found or read, or has the name of another, or no pallet has such
            a patch.
        """
        from pytest_pyhf_faas.pallets.pallet import each_once, select

        each_once(pallet for spec in (*self._loaded, *specs) for pallet in self._load(spec))
        wholes = each_once(pallet for spec in specs for pallet in self._load(spec))
        if not patches:
            return wholes
        whole = {pallet.name: pallet for pallet in wholes}
        return [
            self._remembered(whole[selected.name], selected, tuple(patches))
            for selected in select(wholes, patches)
        ]

    def check(self, pallet: Pallet, config: HypotestConfig) -> PalletCheck:
        """Return what is wrong with the patches of a pallet, as they are going to be tested."""
        from pytest_pyhf_faas.pallets.check import PalletCheck

        how = config.measurement, config.test_poi, config.test_stat
        key = id(pallet), how  # it holds the pallet, so that no other one gets its identity
        if key not in self._checks:
            self._checks[key] = PalletCheck(pallet, *how)
        return self._checks[key]

    def checks(self) -> list[PalletCheck]:
        """Return what was found of all pallets that were checked."""
        return list(self._checks.values())

    def findings_of(self, task: Task | None) -> list[Finding]:
        """Return problems in the files that may explain missing or unexpected CLs."""
        if task is None:
            return []
        found = self.check(task.pallet, task.config).of(task.patch)
        return [finding for finding in found if finding.level != "note"]

    def refuse_unless_any_fits(self, pallet: Pallet, config: HypotestConfig) -> None:
        """Refuse a pallet without any patch that can be fitted, selected or not.

        Raises
        ------
        PalletError
            With the causes.
        """
        from pytest_pyhf_faas.pallets.check import refuse

        if not self.any_fits(pallet, config):
            whole = self._whole.get(id(pallet), pallet)
            refuse(whole, self.check(whole, config).findings)

    def any_fits(self, pallet: Pallet, config: HypotestConfig) -> bool:
        """Whether any patch of a pallet can be fitted, selected or not."""
        from pytest_pyhf_faas.pallets.check import without_model

        # The selected ones are checked anyway, and nearly always enough.
        return any(
            len(without_model(self.check(those, config).findings)) < len(those.patches)
            for those in (pallet, self._whole.get(id(pallet), pallet))
        )

    def publication(self, pallet: Pallet) -> Publication | None:
        """Return the published limits of a pallet, for all of its patches.

        Raises
        ------
        PublishedTableError
            If a table cannot be found, downloaded or read, or is not of this pallet.
        """
        if pallet.name not in self._publications:
            from pytest_pyhf_faas.pallets.catalogue import search_path_from_environment
            from pytest_pyhf_faas.published.publication import find_publication

            whole = self._whole.get(id(pallet), pallet)
            with uncaptured(self.config):
                self._publications[pallet.name] = find_publication(
                    whole, self.settings.published, search_path_from_environment()
                )
        return self._publications[pallet.name]

    @property
    def publications(self) -> Mapping[str, Publication | None]:
        """Published limits by pallet, as far as they were searched."""
        return self._publications

    def agreements(self, subject: Subject, results: Sequence[HypotestResult]) -> PublishedLimits:
        """Return where the limits of a pallet agree with the published ones, compared once.

        Parameters
        ----------
        subject : Subject
            An item about one of them.
        results : sequence of HypotestResult
            Of all tasks of it.
        """
        assert subject.publication is not None
        key = subject.endpoint, subject.publication.pallet.name, subject.config
        if key not in self._agreements:
            from pytest_pyhf_faas.published.agreement import compare_limits
            from pytest_pyhf_faas.references.published import points_of

            self._agreements[key] = compare_limits(points_of(subject.publication, results))
        return self._agreements[key]

    def preflight(self, endpoint: str) -> Preflight:
        """Return what measures an endpoint, the same in all of a session.

        Raises
        ------
        ConfigurationError
            If the endpoint's configuration cannot be used.
        """
        if endpoint not in self.preflights:
            from pytest_pyhf_faas.preflight.preflight import Preflight

            def show_wait(waits_s: float | None) -> None:
                measures = self.preflights[endpoint].measures
                self.schedule.campaigns.show_wait(
                    endpoint, waits_s, measures and f"test_endpoint_{measures}"
                )

            self.preflights[endpoint] = Preflight(
                self.schedule.engine(endpoint),
                self.settings.hypotest,
                queue_timeout_s=self.settings.queue_timeout_s,
                timeout_s=self.settings.timeout_s,
                on_wait=show_wait,
                requirements=self.settings.require,
                clocks=self.schedule.campaigns.clocks[endpoint],
            )
        return self.preflights[endpoint]

    def count_known_issue(self, pallet: str, config: HypotestConfig) -> None:
        """Count a hypothesis that is wrong in a known way."""
        what = f"{config.fit_setup} on {pallet}"
        self.known_issues[what] = self.known_issues.get(what, 0) + 1

    def _remembered(self, whole: Pallet, selected: Pallet, patches: tuple[str, ...]) -> Pallet:
        """Return one object for one selection: items compare their parameters by identity."""
        kept = self._selected.setdefault((id(whole), patches), selected)
        self._whole[id(kept)] = whole
        return kept

    def _load(self, spec: str) -> list[Pallet]:
        if spec not in self._loaded:
            from pytest_pyhf_faas.pallets import catalogue

            with uncaptured(self.config):
                self._loaded[spec] = catalogue.resolve(
                    spec, search_path=catalogue.search_path_from_environment()
                )
            if len(self._loaded[spec]) == 1:
                self.origins.setdefault(self._loaded[spec][0].name, spec)
        return self._loaded[spec]


def get_context(config: pytest.Config) -> Context:
    """Return the context of a session, made at the first call."""
    if _CONTEXT not in config.stash:
        config.stash[_CONTEXT] = _make_context(config)
    return config.stash[_CONTEXT]


def existing_context(config: pytest.Config) -> Context | None:
    """Return the context of a session, if anything has needed it."""
    return config.stash.get(_CONTEXT, None)


def uncaptured(config: pytest.Config) -> contextlib.AbstractContextManager[None]:
    """Let output bypass pytest's capture, to the terminal."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is None:
        return contextlib.nullcontext()
    disabled: contextlib.AbstractContextManager[None] = capture.global_and_fixture_disabled()
    return disabled


def journal_directory(config: pytest.Config) -> Path | None:
    """Return the directory of journals, in a cache of pytest or the user; ``None`` without."""
    if hasattr(config, "cache") and config.cache is not None:
        with contextlib.suppress(OSError):  # a checkout that is mounted read-only
            return Path(config.cache.mkdir("pyhf-faas"))
    from pytest_pyhf_faas.caches import user_cache

    directory = user_cache()
    return directory / "journal" if directory else None


def progress_line(config: pytest.Config) -> ProgressLine:
    """Return the display of progress on pytest's terminal."""
    from pytest_pyhf_faas.plugin.display import TerminalDisplay
    from pytest_pyhf_faas.session.progress import ProgressLine

    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return ProgressLine(None)
    return ProgressLine(TerminalDisplay(reporter, lambda: uncaptured(config)))


def _make_context(config: pytest.Config) -> Context:
    from pytest_pyhf_faas.caches import passing_directory
    from pytest_pyhf_faas.plugin.relay import Relay
    from pytest_pyhf_faas.plugin.schedule import Schedule
    from pytest_pyhf_faas.plugin.sharing import sharing_of
    from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore, bundled_directory

    settings = read_settings(config)
    own = config.rootpath / DIRECTORY
    shared = sharing_of(config)
    # A process that makes a part of the references cannot know whether the others are made.
    replaces = settings.update == "all" and shared is None
    if settings.reference_dir is not None:
        directory = settings.reference_dir
        references = ReferenceStore([directory], directory, replaces=replaces)
    else:
        directories = dict.fromkeys([own, bundled_directory()])
        references = ReferenceStore(list(directories), own, replaces=replaces)
    journals = journal_directory(config)
    schedule = Schedule(
        settings,
        references,
        journals or passing_directory(),
        progress_line(config) if shared is None else Relay(shared.journal),
        shared,
    )
    if journals is None:
        schedule.notes.append(
            "this run keeps no journal, so --faas-resume will not find it: pytest's "
            "cache cannot be written to, and there is no home directory. Set HOME, or give "
            "-o cache_dir=DIR"
        )
    return Context(config, settings, references, schedule)
