"""Laws of an attribution, in incomplete designs as well."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.report.many.attribution import ABSENT, Attribution, Step

VALUES = {
    "pyhf": ("0.7.0", "0.7.6", "0.8.0"),
    "scipy": ("1.9.3", "1.14.1", "1.17.1"),
    "optimizer": ("scipy", "minuit"),
    "jax": ("0.4.30", "0.5.0", None),
}
environments = st.lists(
    st.fixed_dictionaries({name: st.sampled_from(values) for name, values in VALUES.items()}),
    min_size=1,
    max_size=12,
).map(lambda found: [{n: v for n, v in each.items() if v is not None} for each in found])


def explained(environments, results):
    """Explain results that differ where they are not equal."""
    differs = {
        place: sum(1 << other for other, theirs in enumerate(results) if theirs != mine)
        for place, mine in enumerate(results)
    }
    return differs, Attribution(environments, [True] * len(environments)).explain(differs)


def value(environment, name):
    return environment.get(name, ABSENT)


@given(data=st.data(), several=environments)
def test_a_factor_that_is_named_explains_it(data, several):
    results = data.draw(st.lists(st.integers(0, 2), min_size=len(several), max_size=len(several)))
    differs, found = explained(several, results)
    assert (found == []) is (len(set(results)) == 1)
    for step, before, after in found or []:
        if len(found) == 1 and not step.where:
            for name in step.factors:
                for one, other in combinations(range(len(several)), 2):
                    if value(several[one], name) == value(several[other], name):
                        assert results[one] == results[other]
        cells = [place for place in range(len(several)) if before >> place & 1]
        assert any(differs[place] & after for place in cells)
        for name, mine, theirs in zip(step.factors, step.before, step.after, strict=True):
            assert {value(several[place], name) for place in cells} == set(mine.split(", "))
            assert mine != theirs


@given(data=st.data(), several=environments, name=st.sampled_from(list(VALUES)))
def test_a_factor_that_decides_is_always_among_those_named(data, several, name):
    of_value = data.draw(st.fixed_dictionaries({v: st.integers(0, 2) for v in VALUES[name]}))
    results = [of_value[each.get(name)] for each in several]
    _differs, found = explained(several, results)
    assert found is not None
    for step, before, after in found:
        seen = [value(several[p], name) for p in range(len(several)) if (before | after) >> p & 1]
        assert name in step.factors or ABSENT in seen


@given(data=st.data(), several=environments)
def test_two_factors_that_decide_are_found_or_nothing_is_said(data, several):
    pairs = {
        (one, other): data.draw(st.integers(0, 1))
        for one in VALUES["pyhf"]
        for other in VALUES["scipy"]
    }
    results = [pairs[each["pyhf"], each["scipy"]] for each in several]
    _differs, found = explained(several, results)
    if found is not None and any(step.where for step, _before, _after in found):
        named = {name for step, _before, _after in found for name in step.factors}
        assert named & {"pyhf", "scipy"}


def test_what_is_not_known_of_a_cell_explains_nothing():
    known = [{"pyhf": "0.7.0", "platform": "Linux"}, {"pyhf": "0.7.6"}]
    differs = {0: 2, 1: 1}
    (found,) = Attribution(known, [True, False]).explain(differs)
    assert found.step == Step(("pyhf",), ("0.7.0",), ("0.7.6",))
    (found,) = Attribution([*known[:1], {"pyhf": "0.7.0"}], [True, True]).explain(differs)
    assert found.step == Step(("platform",), ("Linux",), (ABSENT,))
    assert Attribution([*known[:1], {"pyhf": "0.7.0"}], [True, False]).explain(differs) is None


@pytest.mark.parametrize("names", [("main", "fix"), ("fix", "main")])
def test_of_two_builds_of_one_version_the_step_is_from_the_base(names):
    first, second = (f"0.8.0 ({name})" for name in names)
    _, found = explained([{"pyhf": first}, {"pyhf": second}], [0, 1])
    assert [each.step for each in found] == [Step(("pyhf",), (first,), (second,))]
