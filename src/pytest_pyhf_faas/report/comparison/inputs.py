"""How environments, configurations and references of two runs differ."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.report.comparison.changes import Difference
from pytest_pyhf_faas.report.wall_times import wall_time_of
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis


#: Parts of a configuration that say how CLs is calculated; the others say what CLs is.
CALCULATION = ("backend", "optimizer", "method")
#: What may differ in how references were made.
_MADE: tuple[Literal["method", "date"], ...] = ("method", "date")
_DIGEST_WIDTH = 12


def environment_differences(
    before: Document, after: Document, analyses: Sequence[tuple[Any, Any]]
) -> list[Difference]:
    """Return how package, client and the workers of each endpoint and fit setup differ."""
    runs = (before, after)
    found = []
    versions = [run["run"]["package"] for run in runs]
    if versions[0] != versions[1]:
        found.append(Difference("run", "pytest-pyhf-faas", *versions))
    found += _different_facts("client", [before["client"]], [after["client"]])
    workers: dict[tuple[str, str], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for pair in analyses:
        group = workers[pair[0]["endpoint"], pair[0]["fit_setup"]]
        for environments, run, analysis in zip(group, runs, pair, strict=True):
            environments.extend(_workers(run, analysis))
    for (endpoint, fit_setup), group in workers.items():
        where = "workers" if len(workers) == 1 else f"workers of {endpoint}, {fit_setup}"
        found += _different_facts(where, *group)
    return found


def input_differences(name: str, before: Analysis, after: Analysis) -> list[Difference]:
    """Return how configuration, background, references and what was measured differ."""
    found = []
    first, second = _config(before), _config(after)
    for key in dict.fromkeys((*first, *second)):
        reported = key in CALCULATION and before["fit_setup"] != after["fit_setup"]
        if not reported and first.get(key) != second.get(key):
            found.append(Difference(name, key, _word(first.get(key)), _word(second.get(key))))
    if before["digest"] != after["digest"]:
        digests = [each["digest"][:_DIGEST_WIDTH] for each in (before, after)]
        found.append(Difference(name, "background (SHA-256)", *digests))
    found += _other_patches(name, before["hypotheses"], after["hypotheses"])
    measured = ["measured" if wall_time_of(each) else "not measured" for each in (before, after)]
    if measured[0] != measured[1]:
        found.append(Difference(name, "wall time", *measured))
    made = [each["reference"] for each in (before, after)]
    for key in _MADE:
        words = [_word(each and each[key]) for each in made]
        if words[0] != words[1]:
            found.append(Difference(name, f"{key} of references", *words))
    return found


def _config(analysis: Analysis) -> dict[str, Any]:
    """Return what may differ: not what is calculated, and toys where there are some."""
    config = {name: value for name, value in analysis["config"].items() if name != "quantity"}
    return config if config.get("toys") else {n: v for n, v in config.items() if n != "toys"}


def _other_patches(
    name: str, before: Iterable[Hypothesis], after: Iterable[Hypothesis]
) -> list[Difference]:
    """List the hypotheses whose patch changed under the same name, with digests of the first."""
    known = {each["patch"]: each["digest"] for each in before if "digest" in each}
    now = {each["patch"]: each["digest"] for each in after if "digest" in each}
    changed = [patch for patch in known if patch in now and now[patch] != known[patch]]
    if not changed:
        return []
    digests = [of[changed[0]][:_DIGEST_WIDTH] for of in (known, now)]
    what = f"content of {counted(len(changed), 'patch')} (SHA-256 of {changed[0]})"
    return [Difference(name, what, *digests)]


def _workers(run: Document, analysis: Analysis) -> list[Mapping[str, Any]]:
    places = {each["environment"] for each in analysis["hypotheses"]}
    return [each for place, each in enumerate(run["environments"]) if place in places]


def _different_facts(where: str, before: Sequence[Any], after: Sequence[Any]) -> list[Difference]:
    """Return the facts that differ; none where nothing is known of one run's environments."""
    if not before or not after:
        return []
    first, second = facts_of(before), facts_of(after)
    both = {name: (first.get(name, "-"), second.get(name, "-")) for name in (*first, *second)}
    return [Difference(where, name, *pair) for name, pair in both.items() if pair[0] != pair[1]]


def facts_of(environments: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return what may matter to a fit, with all values where workers differ."""
    found: dict[str, set[str]] = defaultdict(set)
    for environment in environments:
        facts = {
            **{name: environment[name] for name in ("python", "platform", "cpu")},
            **{name: environment[name] for name in ("backend", "optimizer")},
            **environment["versions"],
            **environment["threads"],
        }
        for name, value in facts.items():
            found[name].add("-" if value is None else value)
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def _word(value: Any) -> str:
    return "-" if value is None else str(value)
