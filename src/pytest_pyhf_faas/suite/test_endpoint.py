"""Each endpoint, before the fits: whether it is there, what it has, how fast and right it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_pyhf_faas.errors import FaasError, NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyhf_faas.preflight.measurement import Finding
    from pytest_pyhf_faas.preflight.preflight import Preflight

    Record = Callable[[str, object], None]


def check(measure: Callable[[], Finding], record_property: Record) -> None:
    """Take a measurement and report it, or fail in plain words."""
    try:
        finding = measure()
    except NotMeasuredError as error:
        raise pytest.skip.Exception(str(error)) from None
    except FaasError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    for name, value in finding.values.items():
        record_property(name, value)


def test_endpoint_exists(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.exists, record_property)


def test_endpoint_answers(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.answers, record_property)


def test_endpoint_environment(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.environment, record_property)


def test_endpoint_workers(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.workers, record_property)


def test_endpoint_round_trip(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.round_trip, record_property)


def test_endpoint_payload(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.payload, record_property)


def test_endpoint_clock(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.clock, record_property)


def test_endpoint_reference_fit(faas_preflight: Preflight, record_property: Record) -> None:
    check(faas_preflight.reference_fit, record_property)
