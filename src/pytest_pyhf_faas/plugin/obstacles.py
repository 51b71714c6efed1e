"""An endpoint on which no fit can be done: one item says why, and those that need it are skipped.

Its preflight has found that, or nobody came to do the fits. What was fitted before is compared all
the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.results import ENGINE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.plugin.campaigns import Campaigns
    from pytest_pyhf_faas.plugin.sharing import Sharing
    from pytest_pyhf_faas.plugin.subjects import Role
    from pytest_pyhf_faas.preflight.preflight import Preflight


class Obstacles:
    """What keeps items from their fits.

    Parameters
    ----------
    preflights : mapping
        What was measured of each endpoint; it may grow.
    campaigns : Campaigns
        What does the fits.
    sharing : Sharing or None
        Under pytest-xdist, so that only one of its workers says why.
    """

    def __init__(
        self,
        preflights: Mapping[str, Preflight],
        campaigns: Campaigns,
        sharing: Sharing | None,
    ) -> None:
        self._preflights = preflights
        self._campaigns = campaigns
        self._sharing = sharing
        self._told: set[str] = set()

    def before(self, endpoint: str, role: Role) -> str | None:
        """Return why an item is not even begun; ``None`` where nothing speaks against it."""
        preflight = self._preflights.get(endpoint)
        if preflight is not None and preflight.obstacle is not None:
            return (
                f"not fitted: the endpoint {endpoint} is not ready "
                f"(test_endpoint_{preflight.obstacle} says why)"
            )
        # What is compared may have been fitted before the endpoint was given up.
        given_up = role != "compare" and self._campaigns.given_up(endpoint) is not None
        return _given_up(endpoint) if given_up else None

    def after(self, endpoint: str, result: HypotestResult) -> str | None:
        """Return why an item whose fit broke is skipped; ``None`` if it is to say what broke."""
        if result.error is None or result.error.type != ENGINE:
            return None
        return None if self._is_first_to_tell(endpoint) else _given_up(endpoint)

    def failed(self, endpoint: str) -> None:
        """Take note that an item has failed, which has told why its endpoint is given up, if so."""
        if self._campaigns.given_up(endpoint) is not None:
            self._told.add(endpoint)

    def _is_first_to_tell(self, endpoint: str) -> bool:
        if endpoint in self._told:
            return False
        self._told.add(endpoint)
        return self._sharing is None or self._sharing.is_first(f"given-up {endpoint}")


def _given_up(endpoint: str) -> str:
    return f"not fitted: the endpoint {endpoint} was given up (the first error there says why)"
