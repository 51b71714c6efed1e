"""Each endpoint, before the fits: whether it answers, what it has, and how fast and right it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_pyhf_faas.errors import FaasError, NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyhf_faas.preflight.measurement import Finding
    from pytest_pyhf_faas.preflight.preflight import Preflight


def check(measure: Callable[[], Finding], request: pytest.FixtureRequest) -> None:
    """Take a measurement and report it, or fail in plain words."""
    try:
        finding = measure()
    except NotMeasuredError as error:
        raise pytest.skip.Exception(str(error)) from None
    except FaasError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    # What the fixture record_property does, without its warning on the family of junitxml.
    request.node.user_properties += finding.values.items()


def test_endpoint_exists(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.exists, request)


def test_endpoint_answers(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.answers, request)


def test_endpoint_environment(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.environment, request)


def test_endpoint_workers(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.workers, request)


def test_endpoint_round_trip(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.round_trip, request)


def test_endpoint_payload(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.payload, request)


def test_endpoint_clock(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.clock, request)


def test_endpoint_reference_fit(faas_preflight: Preflight, request: pytest.FixtureRequest) -> None:
    check(faas_preflight.reference_fit, request)
