"""Search for the starts that the hypotheses of a pallet share, in rounds.

The patches of a pallet have one background, so that a minimum found for one of them is a good start
for the others. First each patch is searched thoroughly by itself; then each new minimum of any of
them is a start for all, in further rounds until nothing is new. The pool is a function of the
pallet, the patches and the pool that it began with: no task depends on what a worker did before.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.tasks import Pool, make_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch

#: A pool has no more points than this.
MAX_POINTS = 40
_MAX_ROUNDS = 6
#: Two new starts of one round are the same if no parameter differs more, in standard deviations.
_APART = 0.3
#: A fit that ends this much higher, in twice the NLL, missed a minimum.
_MISSED = 1e-6
#: Its value identifies Asimov data.
_TRUTH = "free_fit_to_asimov"


@dataclass(frozen=True, slots=True)
class Exploration:
    """The result of the rounds.

    Attributes
    ----------
    pool : Pool
        The starts.
    evidence : mapping
        By the digest of a patch, how it was searched: the ``search`` of a thorough certificate.
    rounds : int
        How many there were.
    """

    pool: Pool
    evidence: Mapping[str, Mapping[str, Any]]
    rounds: int


def explore(
    pallet: Pallet,
    patches: Sequence[SignalPatch],
    config: HypotestConfig,
    pool: Pool,
    fit: Callable[[list[Task]], Sequence[HypotestResult]],
) -> Exploration:
    """Search some patches of a pallet until none finds a minimum that the pool does not lead to.

    Parameters
    ----------
    pallet : Pallet
        Whose background they share.
    patches : sequence of SignalPatch
        Which ones.
    config : HypotestConfig
        Of a certified test.
    pool : Pool
        Known starts.
    fit : callable
        Returns the results of tasks, in their order.
    """
    config = replace(config, quantity="cls", toys=0)
    known = range(len(pool.points))
    search = _Rounds(pallet, patches, fit)
    search.test(replace(config, effort="thorough", checked=False), pool)
    brief = replace(config, effort="brief", checked=False)
    while search.rounds < _MAX_ROUNDS:
        points = (*pool.points, *_distinct(search.wanted))[:MAX_POINTS]
        if points == pool.points:
            break
        pool = Pool(points)
        search.test(brief, pool)
    helpful = _cover(search.needs, known)  # patches not searched now may need known points
    if search.rounds > 1 and len(helpful) < len(pool.points):
        smaller = Pool(tuple(pool.points[index] for index in helpful))
        search.test(brief, smaller, [patch for patch in patches if patch.digest in search.needy])
        if not (search.wanted or search.missed):
            pool = smaller
    return Exploration(pool, search.evidence, search.rounds)


class _Rounds:
    """The result of the rounds so far."""

    def __init__(
        self,
        pallet: Pallet,
        patches: Sequence[SignalPatch],
        fit: Callable[[list[Task]], Sequence[HypotestResult]],
    ) -> None:
        self._pallet = pallet
        self._all = patches
        self._fit = fit
        self._lowest: dict[str, dict[str, float]] = {}
        self._starts: dict[str, list[Mapping[str, float]]] = {}
        self.rounds = 0
        self.evidence: dict[str, Mapping[str, Any]] = {}
        #: Starts that the pool of the last round lacks.
        self.wanted: list[Mapping[str, float]] = []
        #: Whether some fit of that round ended above a minimum of an earlier one.
        self.missed = False
        #: Which points of that pool lead to a lowest minimum that is not the nominal one.
        self.needs: list[Sequence[int]] = []
        #: The digests of patches that have such a minimum.
        self.needy: set[str] = set()

    def test(
        self, config: HypotestConfig, pool: Pool, patches: Sequence[SignalPatch] | None = None
    ) -> None:
        """Test all patches, or some of them, with a pool."""
        patches = self._all if patches is None else patches
        tasks = [make_task(self._pallet, patch, config, pool) for patch in patches]
        wanted: list[Mapping[str, float]] = []
        self.needs, self.needy = [], set()
        self.missed = False
        for patch, result in zip(patches, self._fit(tasks), strict=True):
            if result.status != "ok":
                continue
            certificate = result.certificate
            new = list(certificate["new"])
            found = result.twice_nll
            lower = _lower(found, self._lowest.get(patch.digest, found))
            self._lowest[patch.digest] = {**found, **lower}
            if self.rounds == 0:
                self.evidence[patch.digest] = certificate["search"]
            elif any(found[name] > value + _MISSED for name, value in lower.items()):
                self.missed = True
                new += self._starts[patch.digest]
            self._starts.setdefault(patch.digest, []).extend(new)
            wanted += new
            self.needs += [indices for indices in certificate["helpful"].values() if indices]
            if certificate["helpful"]:
                self.needy.add(patch.digest)
        self.wanted = [start for start in wanted if start not in pool.points]
        self.rounds += 1


def _cover(needs: Sequence[Sequence[int]], known: Iterable[int]) -> list[int]:
    """Return the known indices and a few others, so that each need has one of them."""
    chosen = set(known)
    left = [need for need in needs if chosen.isdisjoint(need)]
    while left:
        counts = Counter(index for need in left for index in set(need))
        best = min(counts, key=lambda index: (-counts[index], index))
        chosen.add(best)
        left = [need for need in left if best not in need]
    return sorted(chosen)


def _lower(found: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """Return the lower value of each fit to the same data; there may be other Asimov data."""
    same_asimov = abs(found[_TRUTH] - known[_TRUTH]) < _MISSED
    return {
        name: min(value, known[name])
        for name, value in found.items()
        if same_asimov or "asimov" not in name
    }


def _distinct(starts: Iterable[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return the starts that are not next to one before them."""
    kept: list[Mapping[str, float]] = []
    for start in starts:
        if all(_apart(start, other) > _APART for other in kept):
            kept.append(start)
    return kept


def _apart(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    shared = one.keys() & other.keys()
    return max((abs(one[name] - other[name]) for name in shared), default=0.0)


class Pools:
    """The pools of a session, each found once.

    Parameters
    ----------
    stored : callable
        Returns the pool of a pallet's reference file; ``None`` if there is none.
    for_references : bool
        Whether the fits are to become references: then all patches are searched thoroughly.
    shared : Path or None
        A file in which processes that share their fits leave their results.
    """

    def __init__(
        self,
        stored: Callable[[Pallet, HypotestConfig], Pool | None],
        *,
        for_references: bool,
        shared: Path | None,
    ) -> None:
        self._stored = stored
        self._for_references = for_references
        self._shared = shared
        self._found: dict[str, Exploration] = {}

    def known(self, task: Task) -> Exploration | None:
        """Return what was found for the pallet of a certified test, if it is known by now."""
        name = _name(task)
        searches = self._for_references and task.config.quantity == "cls"
        if name not in self._found and not searches:
            pool = self._stored(task.pallet, task.config)
            if pool is not None:
                self._found[name] = Exploration(pool, {}, 0)
        if name not in self._found:
            self._read_shared()
        return self._found.get(name)

    def find(
        self,
        task: Task,
        patches: Iterable[SignalPatch],
        fit: Callable[[list[Task]], Sequence[HypotestResult]],
    ) -> Exploration:
        """Return what is known for the pallet of a certified test, or search.

        Parameters
        ----------
        task : Task
            Of a certified test.
        patches : iterable of SignalPatch
            All that are to become references with it; without references a sample of the pallet is
            searched, independent of the selected patches.
        fit : callable
            Returns the results of tasks, in their order.
        """
        found = self.known(task)
        if found is not None:
            return found
        pool = self._stored(task.pallet, task.config)
        searched = {patch.name: patch for patch in patches} if self._for_references else {}
        if pool is None:
            searched |= {patch.name: patch for patch in task.pallet.sample}
        in_order = [searched[name] for name in sorted(searched)]  # not in that of the tests
        found = explore(task.pallet, in_order, task.config, pool or Pool(), fit)
        self._found[_name(task)] = found
        if self._shared is not None:
            self._read_shared()  # others may have found more meanwhile
            whole = {
                name: (one.pool.points, one.evidence, one.rounds)
                for name, one in self._found.items()
            }
            temporary = self._shared.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(whole))
            temporary.replace(self._shared)
        return found

    def _read_shared(self) -> None:
        if self._shared is not None and self._shared.is_file():
            for name, (points, evidence, rounds) in json.loads(self._shared.read_text()).items():
                self._found.setdefault(name, Exploration(Pool(tuple(points)), evidence, rounds))


def _name(task: Task) -> str:
    return json.dumps([task.pallet.digest, task.config.physics], sort_keys=True)
