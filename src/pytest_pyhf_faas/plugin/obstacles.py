"""An endpoint on which no fit can be done: one item says why, and others that need it are skipped.

Its preflight found that, no worker came to do the fits, or the environment of its workers cannot
do them. What was fitted before is still compared.
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


#: How much of a name fits into a line of the short summary, with the rest of it.
_ROOM = 24


class Obstacles:
    """Reasons that keep items from their fits.

    Parameters
    ----------
    preflights : mapping
        Measurements of each endpoint; it may grow.
    schedule : Schedule
        The schedule of the session's fits.
    """

    def __init__(self, preflights: Mapping[str, Preflight], schedule: Schedule) -> None:
        self._preflights = preflights
        self._schedule = schedule
        self._reported: set[str] = set()

    def refuse(self, why: str) -> NoReturn:
        """End an item that cannot do its job in this session; the first one says why."""
        if self._is_first_to_report(why):
            pytest.fail(why, pytrace=False)
        pytest.skip(f"not fitted: {shortened(why.partition(chr(10))[0], 2 * _ROOM)}")

    def before(self, endpoint: str, role: Role) -> str | None:
        """Return why an item is not started; ``None`` if there is no reason."""
        preflight = self._preflights.get(endpoint)
        if preflight is not None and preflight.obstacle is not None:
            return (
                f"not fitted: {_name(endpoint)} is not ready (test_endpoint_{preflight.obstacle})"
            )
        # What is compared may have been fitted before the endpoint was given up.
        given_up = role != "compare" and self._schedule.campaigns.given_up(endpoint) is not None
        return _given_up(endpoint) if given_up else None

    def after(self, endpoint: str, result: HypotestResult) -> str | None:
        """Return why an item whose fit broke is skipped; ``None`` if it should say what broke."""
        error = result.error
        if error is None:
            return None
        if error.type == ENGINE:
            return None if self._is_first_to_report(endpoint) else _given_up(endpoint)
        if not _lies_with_the_environment(result):
            return None
        what = f"{error.type}: {error.first_line}"
        is_first = self._is_first_to_report(f"{endpoint} {what}")
        if is_first or not all(map(_lies_with_the_environment, self._answers(endpoint))):
            return None
        return f"not compared: {_name(endpoint)} completes no fit (see the first {error.type})"

    def failed(self, endpoint: str) -> None:
        """Note that an item failed, and so reported why its endpoint is given up, if it is."""
        if self._schedule.campaigns.given_up(endpoint) is not None:
            self._reported.add(endpoint)

    def _answers(self, endpoint: str) -> list[HypotestResult]:
        return [result for result in self._schedule.results(endpoint) if result.is_answer]

    def _is_first_to_report(self, what: str) -> bool:
        """Whether no item, in any worker of xdist, has reported this yet."""
        if what in self._reported:
            return False
        self._reported.add(what)
        sharing = self._schedule.sharing
        return sharing is None or sharing.is_first(f"reported {what}")


def _lies_with_the_environment(result: HypotestResult) -> bool:
    """Whether all fits in the environment of this one's worker end like it."""
    error = result.error
    return error is not None and is_of_the_environment(error, result.environment)


def _given_up(endpoint: str) -> str:
    return f"not fitted: {_name(endpoint)} was given up (see the first error)"


def _name(endpoint: str) -> str:
    """Return the name of an endpoint, short enough for lines of the short summary."""
    return shortened(short_uuid(endpoint), _ROOM, cut="middle")
