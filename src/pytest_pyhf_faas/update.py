"""`--faas-update`: which results become references."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_pyhf_faas.compare import Verdict
from pytest_pyhf_faas.errors import FaasError

if TYPE_CHECKING:
    from pytest_pyhf_faas.compare import Comparison
    from pytest_pyhf_faas.context import Context
    from pytest_pyhf_faas.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.results import HypotestResult
    from pytest_pyhf_faas.tasks import HypotestConfig

#: Exceptions that say something about the model. Others say something about the optimizer, the
#: installation or the machine, and are never right.
_RIGHT_ERRORS = frozenset({"pyhf.exceptions.InvalidModel"})


def may_become_reference(result: HypotestResult) -> bool:
    """Whether a result can be the right answer at all."""
    if result.status == "error":
        return result.error is not None and result.error.type in _RIGHT_ERRORS
    return result.status == "ok"


def update_reference(
    context: Context,
    pallet: Pallet,
    patch: SignalPatch,
    config: HypotestConfig,
    result: HypotestResult,
    comparison: Comparison,
) -> None:
    """Make a result the reference, and skip the item, where `--faas-update` asks for that.

    Raises
    ------
    pytest.skip.Exception
        If the reference is to be written: nothing was compared, so that the item is not green.
    """
    from pytest_pyhf_faas.tasks import make_task

    mode = context.settings.update
    wanted = {
        None: False,
        "new": comparison.verdict is Verdict.MISSING,
        "changed": comparison.verdict is not Verdict.RIGHT,
        "all": True,
    }[mode]
    if wanted and may_become_reference(result):
        try:
            path = context.references.update(make_task(pallet, patch, config), result)
        except FaasError as error:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(f"not compared: reference written ({path.name})")
