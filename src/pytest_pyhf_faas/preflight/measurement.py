"""One measurement of an endpoint, taken once and only if it can be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import FaasError, NotMeasuredError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_pyhf_faas.preflight.preflight import Preflight


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one measurement.

    Attributes
    ----------
    text : str
        For people, without a full stop.
    values : mapping
        Numbers and words, for reports.
    """

    text: str
    values: Mapping[str, str | float | int | bool]


def measurement(
    needs: str | None = None, unless: str | None = None
) -> Callable[[Callable[[Preflight], Finding]], Callable[[Preflight], Finding]]:
    """Take a measurement once, after the one that it needs, unless a blocking one failed."""

    def decorate(measure: Callable[[Preflight], Finding]) -> Callable[[Preflight], Finding]:
        name = measure.__name__

        @wraps(measure)
        def once(self: Preflight) -> Finding:
            if name in self.failures:
                raise self.failures[name]
            if name not in self.findings:
                if needs in self.failures:
                    error = self.failures[needs]
                    # If another one found that nothing more comes, it is noted after `needs`.
                    *_, failed = (each for each, why in self.failures.items() if why is error)
                    raise NotMeasuredError(f"not measured: test_endpoint_{failed} failed")
                if unless in self.failures:  # no fit will be done there
                    raise NotMeasuredError(f"not measured: test_endpoint_{unless} failed")
                try:
                    if needs is not None:
                        getattr(self, needs)()
                    self.measures = name
                    self.findings[name] = measure(self)
                except NotMeasuredError:
                    raise
                except FaasError as error:
                    self.failures.setdefault(name, error)
                    raise
                finally:
                    self.measures = None
            return self.findings[name]

        return once

    return decorate
