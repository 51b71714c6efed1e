"""Apply the patches of a pallet to its background, one after the other, without copying it."""

from __future__ import annotations

import copy
from typing import Any

from pytest_pyhf_faas.worker import fitting


def apply_patch(operations: list[dict[str, Any]], specification: Any) -> Any:
    """Apply a JSON patch to a copy that shares what the patch does not touch.

    Parameters
    ----------
    operations : list of dict
        The JSON patch; what it adds becomes part of the result.
    specification : JSON
        The background; it is not changed.
    """
    if not _is_plain(operations):
        return fitting.apply(operations, copy.deepcopy(specification))
    patched = specification.copy()
    owned = {id(patched): patched}  # copies, kept so that no other object gets their identity
    for number, operation in enumerate(operations, 1):
        for pointer in (operation["path"], operation.get("from", "")):
            here = patched
            for step in pointer.split("/")[1:-1]:
                name: Any = step.replace("~1", "/").replace("~0", "~")
                try:
                    name = int(name) if isinstance(here, list) else name
                    below = here[name]
                except (ValueError, LookupError, TypeError):
                    break  # jsonpatch says what is wrong
                if not isinstance(below, (dict, list)):
                    break
                if id(below) not in owned:
                    below = here[name] = below.copy()
                    owned[id(below)] = below
                here = below
        patched = fitting.apply([operation], patched, number)
        owned[id(patched)] = patched
    return patched


def _is_plain(operations: Any) -> bool:
    """Whether it is a patch whose pointers can be followed before it is applied.

    A move may shift its own target.
    """
    return isinstance(operations, list) and all(
        isinstance(operation, dict)
        and operation.get("op") != "move"
        and isinstance(operation.get("path"), str)
        and isinstance(operation.get("from", ""), str)
        for operation in operations
    )
