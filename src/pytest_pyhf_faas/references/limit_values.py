"""Two upper limits side by side: when they agree, and what they exclude."""

from __future__ import annotations

import math

from pytest_pyhf_faas.references.cls_values import default_rtol

#: Relative tolerance on a limit of each optimizer. pyhf ends its search for a limit within 1e-4 of
#: it, and CLs of an optimizer is as noisy as `cls_values.DEFAULT_RTOL` says.
DEFAULT_RTOL = {"scipy": 1e-3, "minuit": 1e-3, "certified": 1e-5}
#: Absolute tolerance: a limit may be 0.
DEFAULT_ATOL = 1e-9
#: A hypothesis with an observed limit on its signal strength below this is excluded at 95 % CL.
EXCLUDED = 1.0


def limit_tolerance(
    fit_setup: str, rtol: float | None = None, atol: float | None = None
) -> tuple[float, float]:
    """Return the relative and the absolute tolerance on limits: those given, or the defaults."""
    rtol = default_rtol(fit_setup, DEFAULT_RTOL) if rtol is None else rtol
    return rtol, DEFAULT_ATOL if atol is None else atol


def close_limits(obtained: float, expected: float, rtol: float, atol: float) -> bool:
    """Whether two limits agree; a missing limit agrees only with a missing one."""
    if math.isinf(obtained) or math.isinf(expected):
        return obtained == expected
    return abs(obtained - expected) <= atol + rtol * abs(expected)
