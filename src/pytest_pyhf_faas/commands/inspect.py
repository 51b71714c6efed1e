"""``pyhf-faas inspect``: describe a pallet and what is wrong with it."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.commands.choosing import (
    CERTIFIED,
    FIT_SETUPS,
    add_options,
    add_pallets,
    readable_pallets,
    reference_store,
    values_of,
)
from pytest_pyhf_faas.commands.errors import write_error
from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.plugin.options import BY_NAME
from pytest_pyhf_faas.wording import (
    counted,
    duration,
    listed,
    relative_path,
    shortened,
    table,
    terminal_width,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.store import ReferenceStore

_WIDTH = 80
_TITLES = 14
_UNREADABLE = 2  # the exit status
_OPTIONS = (BY_NAME["patch"], BY_NAME["reference_dir"])


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "inspect",
        help="describe a pallet and what is wrong with it",
        description="Describe a pallet: measurement, channels, patches and their values, the "
        "references at hand, how long its fits take, and what is wrong with it. Nothing is fitted.",
        epilog="Exit status: 0 if each patch can be fitted or has InvalidModel as its reference, 1 "
        "if one cannot, 2 if a pallet cannot be read.",
    )
    add_pallets(parser)
    parser.add_argument("--patches", action="store_true", help="list all patches and their values")
    parser.add_argument(
        "--json", action="store_true", help="write JSON, a list with an object for each pallet"
    )
    parser.add_argument("--measurement", metavar="NAME", help="(default: the first)")
    parser.add_argument(
        "--test-poi",
        type=float,
        default=1.0,
        metavar="MU",
        help="the value of the parameter of interest that is tested (default: 1)",
    )
    parser.add_argument(
        "--test-stat", choices=("qtilde", "q", "q0"), default="qtilde", help="(default: qtilde)"
    )
    add_options(parser, _OPTIONS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print descriptions of some pallets.

    Returns
    -------
    int
        The exit status: 2 if a pallet or its references cannot be read, after the findings of the
        others; 1 if a patch cannot be fitted, and its reference is not InvalidModel.
    """
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig

    values = values_of(options, _OPTIONS)
    store = reference_store(values)
    config = HypotestConfig(
        measurement=options.measurement, test_poi=options.test_poi, test_stat=options.test_stat
    )
    pallets, problems = readable_pallets(options, values)
    found = []
    for pallet in pallets:
        try:
            found.append(_inspected(pallet, config, store))
        except FaasError as error:
            problems.append(error)
    if options.json:
        text = json.dumps(found, indent=1, allow_nan=False, ensure_ascii=True)
    else:
        text = "\n\n".join("\n".join(_lines(each, patches=options.patches)) for each in found)
    sys.stdout.write(f"{text}\n" if found or options.json else "")
    for problem in problems:
        write_error(problem)
    return _UNREADABLE if problems else int(any(map(_has_broken_patch, found)))


def _has_broken_patch(found: Mapping[str, Any]) -> bool:
    return any(finding["level"] == "error" for finding in found["findings"])


def _inspected(pallet: Pallet, config: Any, store: ReferenceStore) -> dict[str, Any]:
    """Return all that is known about a pallet, as JSON-able values."""
    from dataclasses import asdict

    from pytest_pyhf_faas.pallets.check import check
    from pytest_pyhf_faas.pallets.overview import overview
    from pytest_pyhf_faas.pallets.packing import unpack

    background = unpack(pallet.background)
    how = config.measurement, config.test_poi, config.test_stat
    findings = check(background, pallet.patches, *how)
    references = _references(pallet, config, store)
    known = references["invalid_model"]
    return {
        **overview(pallet, background, findings, config.measurement),
        "reference_results": references,
        "findings": [each for one in findings for each in _as_known(asdict(one), known)],
    }


def _as_known(finding: dict[str, Any], known: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a finding; of the patches whose reference says the same, an error is a note."""
    broken = [patch for patch in finding["patches"] if patch not in known]
    expected = [patch for patch in finding["patches"] if patch in known]
    if finding["level"] != "error" or not expected:
        yield finding
        return
    if broken:
        yield {**finding, "patches": broken}
    text = f"{finding['text']}: InvalidModel, as in its reference"
    yield {**finding, "level": "note", "text": text, "patches": expected}


def _references(pallet: Pallet, config: Any, store: ReferenceStore) -> dict[str, Any]:
    """Return the available references, and what is known about each fit setup."""
    from pytest_pyhf_faas.campaign.tasks import make_tasks

    looked_up = [store.find(task) for task in make_tasks(pallet, config)]
    there = [reference for reference in looked_up if reference]
    setups: dict[str, Counter[str]] = {}
    seconds: dict[str, list[float]] = {}
    for reference in there:
        for setup, checked in reference.checked.items():
            known = "unconverged" if checked.get("set") == "none" else "right"
            known = "known_issues" if setup in reference.known_issues else known
            setups.setdefault(setup, Counter())[known] += 1
            if checked.get("fit_s") is not None:
                seconds.setdefault(setup, []).append(float(checked["fit_s"]))
        if reference.fit_s is not None:
            seconds.setdefault(CERTIFIED, []).append(reference.fit_s)
    return {
        "path": relative_path(there[0].path) if there else None,
        "patches": len(there),
        "invalid_model": [reference.patch for reference in there if reference.error],
        "ambiguous": sum(reference.ambiguous for reference in there),
        "missing": next((each.reason for each in looked_up if not each), None),
        "setups": {setup: dict(counts) for setup, counts in setups.items()},
        # Fits without a time count as the mean.
        "expected_s": {
            setup: sum(times) / len(times) * len(pallet.patches) for setup, times in seconds.items()
        },
    }


# --- text for people --------------------------------------------------------------------------


def _lines(found: dict[str, Any], *, patches: bool) -> list[str]:
    lines = _filled(f"{found['name']}: {found['description']}", "")
    for title, text in _rows(found):
        lines += _filled(text, title)
    for remark in found["remarks"]:
        lines += _filled(remark, "note")
    for finding in found["findings"]:
        which = _which(finding["patches"], len(found["patches"]))
        lines += _filled(f"{finding['text']} ({which})", finding["level"])
    if not found["findings"]:
        lines += _filled("none", "findings")
    if patches:
        lines += ["", *_patch_table(found)]
    return lines


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    published = [found["doi"] and f"doi {found['doi']}"]
    # The schema of a patchset requires a record of HEPData; zeros mean none.
    records = found["references"].items()
    published += [f"{key} {value}" for key, value in records if value.strip("ins0")]
    bins = sum(channel["bins"] for channel in found["channels"])
    model = found["model"]
    measurement = found["measurement"]
    if model:
        low, high = model["poi_bounds"]
        measurement += (
            f", parameter of interest {model['poi']} from {low:g} to {high:g}, initially "
            f"{model['poi_initial']:g}"
        )
    others = [name for name in found["measurements"] if name != found["measurement"]]
    same = found["same_content"]
    twins = sum(len(names) - 1 for names in same)
    patches = counted(len(found["patches"]), "patch")
    return [
        ("source", _short_path(found["source"])),
        *([("published", ", ".join(filter(None, published)))] if any(published) else []),
        ("background", f"SHA-256 {found['background_sha256'][:16]}..."),
        ("measurement", measurement + (f"; others: {listed(others)}" if others else "")),
        (
            "channels",
            f"{len(found['channels'])} with {counted(bins, 'bin')} and "
            f"{counted(sum(c['samples'] for c in found['channels']), 'sample')}: "
            + listed([f"{c['name']} ({c['bins']})" for c in found["channels"]], 6),
        ),
        *([("parameters", str(model["parameters"]))] if model else []),
        ("patches", patches + (f", {twins} with the content of another" if twins else "")),
        *[(each["label"], _range(each)) for each in found["labels"]],
        *_reference_rows(found["reference_results"], len(found["patches"])),
    ]


def _reference_rows(known: dict[str, Any], patches: int) -> list[tuple[str, str]]:
    if not known["patches"]:
        return [("references", f"none: {known['missing']}")]
    extra = [
        f"{count} {what}"
        for count, what in (
            (len(known["invalid_model"]), "InvalidModel"),
            (known["ambiguous"], "ambiguous"),
        )
        if count
    ]
    detail = f" ({', '.join(extra)})" if extra else ""
    rows = [
        ("references", f"{known['patches']} of {patches}{detail}"),
        ("in", _short_path(known["path"])),
    ]
    for setup, counts in sorted(known["setups"].items(), key=_default_first):
        issues, off = counts.get("known_issues", 0), counts.get("unconverged", 0)
        wrong = f", {counted(issues, 'known issue')}" if issues else ""
        wrong += f", {off} not at a minimum" if off else ""
        untried = known["patches"] - sum(counts.values())
        wrong += f", {untried} not tried" if untried else ""
        rows.append((setup, f"{counts.get('right', 0)} right{wrong}"))
    expected = [
        f"{duration(seconds)} {_with(setup)}"
        for setup, seconds in sorted(known["expected_s"].items(), key=_default_first)
    ]
    if expected:
        rows.append(("fits take", f"on one worker about {', '.join(expected)}"))
    return rows


def _with(setup: str) -> str:
    return "with certified fits" if setup == CERTIFIED else f"with {setup}"


def _default_first(entry: tuple[str, Any]) -> int:
    setup = entry[0]
    return FIT_SETUPS.index(setup) if setup in FIT_SETUPS else len(FIT_SETUPS)


def _short_path(path: str) -> str:
    """Return a path that fits into a line behind its title; `--json` has it whole."""
    return shortened(path, _width() - _TITLES - 2, cut="beginning")


def _range(label: dict[str, Any]) -> str:
    values = counted(label["values"], "value")
    if label["lowest"] is None:
        return values
    if label["values"] == 1:
        return f"{label['lowest']:g}"
    return f"{label['lowest']:g} to {label['highest']:g}, {values}"


def _which(patches: Sequence[str], of: int) -> str:
    if len(patches) == of:
        return "each patch"
    return f"{len(patches)} of {of}: {listed(patches)}" if len(patches) > 1 else patches[0]


def _patch_table(found: dict[str, Any]) -> list[str]:
    header = ("patch", *(each["label"] for each in found["labels"]))
    rows = [(each["name"], *map(str, each["values"])) for each in found["patches"]]
    return table(header, rows, terminal_width())


def _width() -> int:
    return min(_WIDTH, terminal_width())


def _filled(text: str, title: str) -> list[str]:
    """Return a text behind its title, in lines of 80 columns, or of a narrower terminal."""
    indent = " " * (_TITLES + 2)
    first = f"  {title:<{_TITLES}}" if title else ""
    if len(first) > len(indent):
        first += " "
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
