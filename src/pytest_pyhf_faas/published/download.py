"""Download a table of HEPData by its DOI, once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PalletError, PublishedTableError
from pytest_pyhf_faas.pallets.download import fetch

if TYPE_CHECKING:
    from pathlib import Path

_RESOLVER = "https://doi.org"
_DOI = re.compile(
    r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?(?P<doi>10\.\d{4,}/hepdata\.\d+(?:\.v\d+)?/t\d+)/?",
    re.IGNORECASE,
)
#: HEPData answers this type with the metadata of a table, including the addresses of its formats.
_DESCRIPTION = "application/ld+json, application/json;q=0.5"
_ANY = "*/*"


def table_doi(text: str) -> str | None:
    """Return the DOI of a table of HEPData, if the text is one."""
    match = _DOI.fullmatch(text.strip())
    return match["doi"].lower() if match else None


def fetch_table(doi: str) -> Path:
    """Download a table of HEPData unless the cache has it, and return its path.

    Parameters
    ----------
    doi : str
        As in ``10.17182/hepdata.92006.v2/t1``.

    Raises
    ------
    PublishedTableError
        If it cannot be downloaded or stored, or the DOI is not that of a table; the message says
        how to do without it.
    """
    stem = doi.replace("/", "_")
    try:
        said = fetch(f"{_RESOLVER}/{doi}", name=f"{stem}.json", accept=_DESCRIPTION)
        description = _read(said)
        if "distribution" not in description:  # the table itself
            return said
        return fetch(_yaml_of(description, said), name=f"{stem}.yaml", accept=_ANY)
    except PalletError as error:
        raise PublishedTableError(str(error)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PublishedTableError(
            f"{path}, downloaded from HEPData, cannot be read: {error}\n"
            "remove it to download it again"
        ) from error
    return found if isinstance(found, dict) else {}


def _yaml_of(description: dict[str, Any], path: Path) -> str:
    """Return the address of a table as YAML, which has all digits that were published."""
    for form in description["distribution"]:
        address = str(form.get("contentUrl", ""))
        if address.endswith("/yaml"):
            return address
    raise PublishedTableError(
        f"HEPData gives no address of the table as YAML (see {path}): download the table by hand "
        "and give the file instead of its DOI"
    )
