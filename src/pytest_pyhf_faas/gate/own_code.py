"""The code of this package as a wheel: each environment gets the code that the gate runs."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_pyhf_faas
from pytest_pyhf_faas.gate.digests import digest
from pytest_pyhf_faas.references.store import DIRECTORY, bundled_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION = "pytest-pyhf-faas"
_PACKAGE = "pytest_pyhf_faas"
#: The metadata that an installer needs, other than a list of the files.
_METADATA = ("METADATA", "WHEEL", "entry_points.txt")
_MADE_HERE = "__pycache__"


def pack(directory: Path) -> Path:
    """Write this package, as it is imported here, as a wheel, and return its path.

    Nothing is built, and no index is used: it may come from a checkout, a wheel or an address.
    """
    distribution = metadata.distribution(DISTRIBUTION)
    name = f"{_PACKAGE}-{distribution.version}"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-py3-none-any.whl"
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    held = dict(_files())
    for file in _METADATA:
        held[f"{name}.dist-info/{file}"] = (distribution.read_text(file) or "").encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for place, content in held.items():
            wheel.writestr(place, content)
            sha256 = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            lines.writerow([place, f"sha256={sha256.decode()}", len(content)])
        lines.writerow([f"{name}.dist-info/RECORD", "", ""])
        wheel.writestr(f"{name}.dist-info/RECORD", record.getvalue())
    return path


def content_digest(wheel: Path) -> str:
    """Return a digest of what a wheel holds, independent of when it was made."""
    with zipfile.ZipFile(wheel) as opened:
        held = sorted((each.filename, each.CRC, each.file_size) for each in opened.infolist())
    return digest(*held)


def _files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package and its references, which a checkout has elsewhere."""
    package = Path(pytest_pyhf_faas.__file__).parent
    places = {_PACKAGE: package, f"{_PACKAGE}/{DIRECTORY}": bundled_directory()}
    for place, directory in places.items():
        for file in sorted(directory.rglob("*")):
            is_kept = file.is_file() and _MADE_HERE not in file.parts
            if is_kept and not file.name.startswith("."):
                yield f"{place}/{file.relative_to(directory).as_posix()}", file.read_bytes()
