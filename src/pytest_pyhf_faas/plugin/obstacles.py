"""An endpoint on which no fit can be done: one item says why, and those that need it are skipped.

Its preflight has found that, nobody came to do the fits, or the environment of its workers cannot
do them. What was fitted before is compared all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_pyhf_faas.advice import is_of_the_environment
from pytest_pyhf_faas.campaign.results import ENGINE
from pytest_pyhf_faas.wording import short_uuid, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.plugin.schedule import Schedule
    from pytest_pyhf_faas.plugin.subjects import Role
    from pytest_pyhf_faas.preflight.preflight import Preflight


#: Lines of the short summary have room for so much of a name, beside what is so.
_ROOM = 24


class Obstacles:
    """What keeps items from their fits.

    Parameters
    ----------
    preflights : mapping
        What was measured of each endpoint; it may grow.
    schedule : Schedule
        Has the fits done.
    """

    def __init__(self, preflights: Mapping[str, Preflight], schedule: Schedule) -> None:
        self._preflights = preflights
        self._schedule = schedule
        self._told: set[str] = set()

    def refuse(self, why: str) -> NoReturn:
        """End an item of a session that cannot do what it is for; the first one says why."""
        if self._is_first_to_tell(why):
            pytest.fail(why, pytrace=False)
        pytest.skip(f"not fitted: {shortened(why.partition(chr(10))[0], 2 * _ROOM)}")

    def before(self, endpoint: str, role: Role) -> str | None:
        """Return why an item is not even begun; ``None`` where nothing speaks against it."""
        preflight = self._preflights.get(endpoint)
        if preflight is not None and preflight.obstacle is not None:
            return (
                f"not fitted: {_name(endpoint)} is not ready (test_endpoint_{preflight.obstacle})"
            )
        # What is compared may have been fitted before the endpoint was given up.
        given_up = role != "compare" and self._schedule.campaigns.given_up(endpoint) is not None
        return _given_up(endpoint) if given_up else None

    def after(self, endpoint: str, result: HypotestResult) -> str | None:
        """Return why an item whose fit broke is skipped; ``None`` if it is to say what broke."""
        error = result.error
        if error is None:
            return None
        if error.type == ENGINE:
            return None if self._is_first_to_tell(endpoint) else _given_up(endpoint)
        if not _lies_with_the_environment(result):
            return None
        what = f"{error.type}: {error.first_line}"
        is_first = self._is_first_to_tell(f"{endpoint} {what}")
        if is_first or not all(map(_lies_with_the_environment, self._answers(endpoint))):
            return None
        return f"not compared: {_name(endpoint)} completes no fit (see the first {error.type})"

    def failed(self, endpoint: str) -> None:
        """Take note that an item has failed, which has told why its endpoint is given up, if so."""
        if self._schedule.campaigns.given_up(endpoint) is not None:
            self._told.add(endpoint)

    def _answers(self, endpoint: str) -> list[HypotestResult]:
        return [result for result in self._schedule.results(endpoint) if result.is_answer]

    def _is_first_to_tell(self, what: str) -> bool:
        """Whether nobody has told this of an endpoint, in no worker of xdist."""
        if what in self._told:
            return False
        self._told.add(what)
        sharing = self._schedule.sharing
        return sharing is None or sharing.is_first(f"told {what}")


def _lies_with_the_environment(result: HypotestResult) -> bool:
    """Whether all fits in the environment of this one's worker end like it."""
    error = result.error
    return error is not None and is_of_the_environment(error, result.environment)


def _given_up(endpoint: str) -> str:
    return f"not fitted: {_name(endpoint)} was given up (see the first error)"


def _name(endpoint: str) -> str:
    """Return an endpoint as the lines of the short summary have room for it."""
    return shortened(short_uuid(endpoint), _ROOM, cut="middle")
