"""Fast validation against JSON schemas.

A schema is compiled to Python once, which makes validating a published workspace some 15 times
faster than interpreting it. Only acceptance is final: what the compiled schema refuses is
checked by the interpreter of `jsonschema` (as pyhf calls it), whose messages are better.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def accepted_by_pyhf_schema(obj: Any, name: str) -> bool:
    """Whether an object fits a schema of pyhf, such as ``workspace.json``; false if in doubt."""
    return _accepts(_compiled_pyhf_schema(name), obj)


def accepted_by_own_schema(obj: Any, name: str) -> bool:
    """Whether an object fits one of this package's schemas; false if in doubt."""
    return _accepts(_compiled_own_schema(name), obj)


def own_schema(name: str) -> dict[str, Any]:
    """Return one of this package's schemas, such as ``reference.schema.json``."""
    text = (resources.files("pytest_pyhf_faas") / "data" / name).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _accepts(validate: Callable[[Any], Any], obj: Any) -> bool:
    import fastjsonschema

    try:
        validate(obj)
    except (fastjsonschema.JsonSchemaException, RecursionError):
        return False
    return True


@cache
def _compiled_pyhf_schema(name: str) -> Callable[[Any], Any]:
    import fastjsonschema

    directory = _pyhf_schemas()

    def load(name_or_uri: str) -> Any:
        return json.loads((directory / name_or_uri.rpartition("/")[2]).read_text(encoding="utf-8"))

    compiled: Callable[[Any], Any] = fastjsonschema.compile(
        load(name), handlers={"https": load, "http": load}, use_default=False
    )
    return compiled


def _pyhf_schemas() -> Path:
    """Return the directory of pyhf's schemas.

    Importing pyhf takes a second, which a pytest process that fits nothing itself need not wait.
    It is asked only where it comes with several versions of its schemas.
    """
    spec = find_spec("pyhf")
    places = spec.submodule_search_locations if spec is not None else None
    versions = [path for place in places or () for path in Path(place, "schemas").glob("*")]
    versions = [path for path in versions if path.is_dir()]
    if len(versions) == 1:
        return versions[0]
    import pyhf

    return Path(str(pyhf.schema.path), pyhf.schema.version)


@cache
def _compiled_own_schema(name: str) -> Callable[[Any], Any]:
    import fastjsonschema

    compiled: Callable[[Any], Any] = fastjsonschema.compile(own_schema(name), use_default=False)
    return compiled
