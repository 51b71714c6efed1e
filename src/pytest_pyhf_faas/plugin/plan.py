"""Which fits the selected items need, and which of them an item has to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import SignalPatch
    from pytest_pyhf_faas.plugin.subjects import Subject


class Need(NamedTuple):
    """The hypotheses of a pallet that items test, and their fits.

    These are fewer where hypotheses have the same content, which is fitted once. `measured` says
    whether their wall time is measured, in as many trials as the user wants.
    """

    hypotheses: tuple[Task, ...]
    fits: tuple[Task, ...]
    measured: bool = False


class Plan:
    """The fits of a session, in the order in which its items run.

    Parameters
    ----------
    subjects : iterable of Subject
        What the selected items are about.
    measures : bool
        Whether wall times are measured in this session, so that their last trial feeds the items
        that come after it.
    """

    def __init__(self, subjects: Iterable[Subject] = (), *, measures: bool = True) -> None:
        self._subjects: dict[str, Subject] = {}
        #: The numbers of workers or blocks to measure with, by endpoint, pallet and its patches.
        self.scaling: dict[tuple[str, str, int], list[int]] = {}
        #: Analyses that are checked as a whole.
        self.checked: list[Subject] = []
        self._places: dict[str, int] = {}
        self._measured_at: dict[tuple[str, str], int] = {}
        self._measured: dict[tuple[str, str], int] = {}
        compared: set[tuple[str, str]] = set()
        for place, subject in enumerate(subjects):
            if subject.role == "scale":
                assert subject.pallet is not None
                where = subject.endpoint, subject.pallet.name, len(subject.pallet.patches)
                if measures:
                    self.scaling.setdefault(where, []).append(subject.count)
                continue
            if subject.role == "check":
                self.checked.append(subject)
                continue
            self._subjects[subject.test] = subject
            self._places[subject.test] = place
            if measures and subject.role == "measure":
                assert subject.pallet is not None
                self._measured[subject.endpoint, subject.pallet.name] = place
            for task in subject.tasks:
                fit = subject.endpoint, task.key
                if subject.role == "compare":
                    compared.add(fit)
                elif measures and fit not in compared:
                    self._measured_at.setdefault(fit, place)

    def needs(self) -> dict[tuple[str, str, str], Need]:
        """Return what the items need, by endpoint, pallet and quantity.

        A fit that serves two pallets counts for the first of them, unless the wall time of the
        second is measured, which takes fits of its own.
        """
        tasks: dict[tuple[str, str, str], dict[Hashable, dict[str, Task]]] = {}
        for subject in self._subjects.values():
            for task in subject.tasks:
                where = subject.endpoint, task.pallet.name, task.config.quantity
                parts = tasks.setdefault(where, {}).setdefault(task.hypothesis, {})
                parts.setdefault(task.key, task)
        fitted: dict[str, set[str]] = {}
        needs = {}
        for (endpoint, pallet, quantity), those in tasks.items():
            known = fitted.setdefault(endpoint, set())
            measured = quantity == "cls" and (endpoint, pallet) in self._measured
            fits: dict[str, Task] = {}
            for parts in those.values():
                for key, task in parts.items():
                    if measured or key not in known:
                        fits.setdefault(key, task)
            known.update(fits)
            firsts = tuple(next(iter(parts.values())) for parts in those.values())
            needs[endpoint, pallet, quantity] = Need(firsts, tuple(fits.values()), measured)
        return needs

    def due(self, subject: Subject) -> dict[str, list[Task]]:
        """Return the fits to start, by endpoint, when an item needs some.

        All planned ones, except those whose time a later item measures, and those that would
        run while it does: quantities other than CLs come after the wall time of their pallet.
        """
        place = self._places.get(subject.test, -1)
        due: dict[str, list[Task]] = {}
        for each in (subject, *self._subjects.values()):
            for task in each.tasks:
                begins = self._measured_at.get((each.endpoint, task.key), -1)
                if task.config.quantity != "cls":
                    begins = self._measured.get((each.endpoint, task.pallet.name), -1)
                if begins <= place:
                    due.setdefault(each.endpoint, []).append(task)
        return due

    def patches_beside(self, task: Task) -> Iterator[SignalPatch]:
        """Yield the patches of a pallet that the session tests in one way."""
        physics = task.config.physics
        for subject in self._subjects.values():
            for other in subject.tasks:
                if other.pallet.digest == task.pallet.digest and other.config.physics == physics:
                    yield other.patch

    def analyses(self) -> set[tuple[str, str, HypotestConfig]]:
        """Return endpoint, pallet and configuration of what is fitted."""
        whole = {
            (subject.endpoint, subject.pallet.name, subject.config)
            for subject in self.checked
            if subject.pallet is not None
        }
        return whole | {
            (subject.endpoint, task.pallet.name, task.config)
            for subject in self._subjects.values()
            for task in subject.tasks
        }
