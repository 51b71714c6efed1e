"""Which factor, if any, explains why cells differ.

A factor explains the difference if all cells with the same value of it agree. No groups are
formed for that: agreement within a tolerance is not transitive, and linking close values would
hide a drift in small steps. So two cells differ here exactly where a comparison of these
two says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations, product
from operator import or_
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas.report.many.factors import is_version, order_of, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    #: Of the cells before a step and those after it.
    Outcome = Callable[[int, int], Hashable]

#: Two factors together explain a difference only in at most this many steps.
MOST_STEPS = 3
#: The value where an environment does not have a package, or does not use it.
ABSENT = "none"


@dataclass(frozen=True, slots=True)
class Step:
    """From one value of a factor to another one, with results that differ.

    Attributes
    ----------
    factors : tuple of str
        Several where they changed together, so that each of them may be the cause.
    before, after : tuple of str
        The value of each of them.
    where : tuple of tuple
        If the step is seen only at some values of another factor: that factor and its values;
        of several, those of each.
    """

    factors: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    where: tuple[tuple[str, str], ...] = ()


class Found(NamedTuple):
    """A step, and the cells at both sides of it, as bits."""

    step: Step
    before: int
    after: int


class _Level(NamedTuple):
    value: str
    cells: int


@dataclass(frozen=True, slots=True)
class _Factor:
    """Factors that always change together, with the cells that have each value of the first."""

    names: tuple[str, ...]
    levels: tuple[_Level, ...]

    @property
    def base(self) -> str | None:
        """The value of the first cell."""
        return next((level.value for level in self.levels if level.cells & 1), None)

    @property
    def ordered(self) -> bool:
        """Whether its values have an order, as versions have."""
        return all(level.value == ABSENT or is_version(level.value) for level in self.levels)


#: Factors that vary together, and those that explain something together with them.
_Sides = tuple[list[_Factor], list[_Factor]]


class Attribution:
    """The factors that vary among cells, and what they explain.

    Parameters
    ----------
    environments : sequence of mapping
        The factors of each cell, by name; the first cell is the base.
    known : sequence of bool
        Whether the factors of a cell are complete. A factor that is unknown in one of some cells
        explains nothing among them.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]], known: Sequence[bool]) -> None:
        names = dict.fromkeys(name for each in environments for name in each)
        self._cells = {name: _cells_by_value(name, environments) for name in names}
        self._partly_known = sum(1 << place for place, whole in enumerate(known) if not whole)
        self._varying: dict[int, list[_Factor]] = {}

    def explain(
        self, differs: Mapping[int, int], outcome: Outcome = lambda _before, _after: None
    ) -> list[Found] | None:
        """Return the steps that explain how some cells differ.

        Parameters
        ----------
        differs : mapping of int to int
            For each cell that has a result, by its place, the cells that it differs from, as bits.
        outcome : callable, optional
            Returns the results at both sides of a step; steps with other results are other steps.

        Returns
        -------
        list of Found or None
            Empty if no cells differ; ``None`` if neither one factor nor one pair explains it. Where
            several explain it they changed together, and a step names them all. A pair counts if
            `MOST_STEPS` are enough: two factors together explain anything where nothing else
            varies.
        """
        if not any(differs.values()):
            return []
        cells = sum(1 << cell for cell in differs)
        if cells not in self._varying:
            self._varying[cells] = self._factors(cells)
        factors = self._varying[cells]
        alone = [each for each in factors if _agree_within(differs, each.levels)]
        if alone:
            return self._of_one(differs, alone)
        pairs = [p for p in combinations(factors, 2) if _agree_within(differs, _joint(*p))]
        sides = _sides(pairs)
        found = [] if sides is None else self._of_two(differs, sides, outcome)
        return found if 0 < len(found) <= MOST_STEPS else None

    def _factors(self, cells: int) -> list[_Factor]:
        """Return what varies among some cells; factors that people vary on purpose come first."""
        alike: dict[frozenset[int], dict[str, tuple[_Level, ...]]] = {}
        for name, by_value in self._cells.items():
            levels = tuple(_Level(v, c & cells) for v, c in by_value.items() if c & cells)
            unknown = by_value.get(ABSENT, 0) & cells & self._partly_known
            if len(levels) > 1 and not unknown:
                alike.setdefault(frozenset(level.cells for level in levels), {})[name] = levels
        found = []
        for same in alike.values():
            absent = {name for name, levels in same.items() if ABSENT in (v for v, _c in levels)}
            names = sorted(same, key=lambda name: (name in absent, place_of(name)))
            found.append(_Factor(tuple(names), same[names[0]]))
        return sorted(found, key=lambda each: place_of(each.names[0]))

    def _of_one(self, differs: Mapping[int, int], factors: Sequence[_Factor]) -> list[Found]:
        """Return the steps of the first factor; others that explain them are named with it."""
        return [self._named(found, factors) for found in _steps(differs, factors[0])]

    def _of_two(self, differs: Mapping[int, int], sides: _Sides, outcome: Outcome) -> list[Found]:
        """Return the steps of each factor, and at which values of the other one they are seen."""
        found = []
        for factors, others in (sides, sides[::-1]):
            seen: dict[tuple[Step, Hashable], list[Found]] = {}
            for level in others[0].levels:
                for each in _steps(differs, factors[0], level.cells):
                    named = self._named(each, factors)
                    key = named.step, outcome(each.before, each.after)
                    seen.setdefault(key, []).append(named)
            for (step, _outcome), those in seen.items():
                before = reduce(or_, (each.before for each in those))
                after = reduce(or_, (each.after for each in those))
                everywhere = sum(_could_show(factors[0], step, each) for each in others[0].levels)
                where = tuple(
                    (name, self._values(name, before | after))
                    for other in others
                    for name in other.names
                )
                limited = step if len(those) == everywhere else replace(step, where=where)
                found.append(Found(limited, before, after))
        return found

    def _named(self, found: Found, factors: Sequence[_Factor]) -> Found:
        """Return a step with the values that each of some factors has at both sides of it."""
        names = [
            (name, self._values(name, found.before), self._values(name, found.after))
            for factor in factors
            for name in factor.names
        ]
        # A package that came with a backend is not another cause than the backend.
        present = [each for each in names if ABSENT not in each]
        return found._replace(step=Step(*map(tuple, zip(*(present or names), strict=True))))

    def _values(self, name: str, cells: int) -> str:
        values = [value for value, those in self._cells[name].items() if those & cells]
        return ", ".join(sorted(values, key=order_of))


def _sides(pairs: Sequence[tuple[_Factor, _Factor]]) -> _Sides | None:
    """Return the first pair of those that explain something, and what could stand for each.

    ``None`` if there is no pair, or one that has nothing to do with the first.
    """
    if not pairs:
        return None
    sides = tuple(
        [own, *(x for pair in pairs if other in pair for x in pair if x not in (own, other))]
        for own, other in (pairs[0], pairs[0][::-1])
    )
    one, two = map(set, sides)
    related = all(len(one & {*pair}) == len(two & {*pair}) == 1 for pair in pairs)
    return (sides[0], sides[1]) if related else None


def _steps(differs: Mapping[int, int], factor: _Factor, among: int = -1) -> Iterator[Found]:
    """Return the steps along a factor among some cells.

    Of versions, from the last one that differs to the next; of two builds of one version, from the
    base. Of others, from the base, or where that does not differ, from the first that does.
    """

    def place(level: _Level) -> tuple[object, ...]:
        *version, text = order_of(level.value)
        return level.value != ABSENT, *version, level.value != factor.base, text

    levels = [_Level(value, cells & among) for value, cells in factor.levels if cells & among]
    levels.sort(key=place)
    if not factor.ordered:
        levels.sort(key=lambda level: level.value != factor.base)
    earlier: list[_Level] = []
    for level in levels:
        others = (each for each in earlier if _differ(differs, each, level))
        start = next(others, None)
        if start is not None:
            step = Step(factor.names[:1], (start.value,), (level.value,))
            yield Found(step, start.cells, level.cells)
        if not factor.ordered:
            earlier.append(level)
        else:
            earlier = [level, *(earlier if start is None else [])]


def _cells_by_value(name: str, environments: Sequence[Mapping[str, str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, each in enumerate(environments):
        value = each.get(name, ABSENT)
        found[value] = found.get(value, 0) | 1 << place
    return found


def _agree_within(differs: Mapping[int, int], levels: Iterable[_Level]) -> bool:
    """Whether the cells of each level agree."""
    return all(not differs[cell] & level.cells for level in levels for cell in _places(level.cells))


def _differ(differs: Mapping[int, int], one: _Level, other: _Level) -> bool:
    return any(differs[cell] & other.cells for cell in _places(one.cells))


def _joint(one: _Factor, other: _Factor) -> list[_Level]:
    both = (
        _Level("", first.cells & second.cells)
        for first, second in product(one.levels, other.levels)
    )
    return [level for level in both if level.cells]


def _could_show(factor: _Factor, step: Step, among: _Level) -> bool:
    """Whether a step could be seen at a value of another factor: both of its sides exist there."""
    values = {level.value for level in factor.levels if level.cells & among.cells}
    return {step.before[0], step.after[0]} <= values


def _places(cells: int) -> Iterator[int]:
    while cells:
        lowest = cells & -cells
        yield lowest.bit_length() - 1
        cells ^= lowest
