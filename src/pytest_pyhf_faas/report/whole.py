"""Analyses with very many hypotheses: the document has some of them, a file next to it all.

The file has one hypothesis on each line, as JSON, compressed. Counts include all of them.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import sys
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, TextIO, cast

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis

#: Names of the files of all hypotheses.
FILES = "hypotheses-*.jsonl.gz"
#: A document has about this many hypotheses that need no attention, from all over the pallet;
#: and this many of those that do.
SAMPLED, NOTABLE = 1_000, 500
#: More compression takes longer than the fits of small models allow.
_LEVEL = 2


class HypothesesFile:
    """All hypotheses of an analysis, written as they come.

    If this fails, as on a full disk, no file is left, and all later ones are ignored.

    Parameters
    ----------
    path : Path
        Where they go; what an earlier run has left there is replaced at once.

    Attributes
    ----------
    problem : str or None
        Why they could not be written, if so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._file: TextIO | None = None
        with self._giving_up():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = gzip.open(path, "wt", _LEVEL, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - closed by `close`

    def write(self, hypothesis: Hypothesis) -> None:
        """Append a hypothesis."""
        if self._file is not None:
            with self._giving_up():
                self._file.write(json.dumps(hypothesis, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """End the file."""
        if self._file is not None:
            with self._giving_up():
                self._file.close()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = error.strerror or str(error)
            unfinished, self._file = self._file, None
            with contextlib.suppress(OSError):
                if unfinished is not None:
                    unfinished.close()
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


def all_hypotheses(analysis: Analysis, directory: Path | None) -> Iterator[Hypothesis]:
    """Yield all hypotheses of an analysis, including those that are not in the document.

    Parameters
    ----------
    analysis : Analysis
        Of a document.
    directory : Path or None
        Where that lies, with the file of all; ``None`` yields what the document has.

    Raises
    ------
    OSError, EOFError
        If the file is not there, or is damaged.
    """
    file = analysis["whole"]["file"] if "whole" in analysis else None
    if file is None or directory is None:
        yield from analysis["hypotheses"]
        return
    with gzip.open(directory / file, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield cast("Hypothesis", json.loads(line, object_hook=_with_shared_names))


def _with_shared_names(found: dict[str, Any]) -> dict[str, Any]:
    """Return an object with the names that others have: each line would have its own."""
    return {sys.intern(name): value for name, value in found.items()}


def read_all(path: Path) -> Document:
    """Read a report with all hypotheses of its analyses, including those in files next to it.

    Parameters
    ----------
    path : Path
        As for `document.read`.

    Raises
    ------
    ReportError
        If it, or a file that it names, is not there or cannot be read.
    """
    report = documents.read(path)
    directory = path if path.is_dir() else path.parent
    return {**report, "analyses": [_completed(each, directory) for each in report["analyses"]]}


def _completed(analysis: Analysis, directory: Path) -> Analysis:
    """Return an analysis with all hypotheses; where those of the document ran is known."""
    if "whole" not in analysis or analysis["whole"]["file"] is None:
        return analysis
    file = directory / analysis["whole"]["file"]
    environments = {_which(each): each["environment"] for each in analysis["hypotheses"]}
    try:
        hypotheses = list(all_hypotheses(analysis, directory))
        for each in hypotheses:
            each["environment"] = environments.get(_which(each))
    except (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
        what = "there is no" if isinstance(error, FileNotFoundError) else "cannot read"
        raise ReportError(
            f"{what} {file}, which has all hypotheses of {analysis['pallet']}: "
            f"{brief(getattr(error, 'strerror', None) or error) or 'it is damaged'}. Copy it "
            f"whole from where the run wrote it, or compare what is in {documents.FILE} alone: "
            "copy that to a directory of its own"
        ) from error
    return {**analysis, "hypotheses": hypotheses}


def _which(hypothesis: Hypothesis) -> tuple[str, str]:
    return hypothesis["patch"], hypothesis["test"]


def verdicts_of(analysis: Analysis) -> Counter[Verdict]:
    """Return how many hypotheses of an analysis have each verdict, counting all of them."""
    if "whole" in analysis:
        counts = analysis["whole"]["verdicts"]
        return Counter({Verdict(verdict): count for verdict, count in counts.items()})
    return Counter(Verdict(each["verdict"]) for each in analysis["hypotheses"])


def part_notes(analyses: Iterable[Analysis]) -> list[str]:
    """Return what a document leaves out of its analyses, a sentence for each."""
    notes = []
    for analysis in analyses:
        has, of = len(analysis["hypotheses"]), verdicts_of(analysis).total()
        if has < of:
            file = analysis["whole"]["file"]
            where = f"all are in cls.csv and {file}" if file else "the others are in no file"
            notes.append(
                f"{analysis['pallet']}: the page, the plots and report.json show {has} of {of} "
                f"hypotheses: those that need attention (at most {NOTABLE}) and some from all "
                f"over the pallet; {where}; there is no HEPData submission of it"
            )
    return notes


def remove_others(document: Document, directory: Path) -> None:
    """Remove the files of hypotheses that an earlier run has left in a directory."""
    own = {one["whole"]["file"] for one in document["analyses"] if "whole" in one}
    for path in directory.glob(FILES):
        if path.name not in own:
            path.unlink(missing_ok=True)
