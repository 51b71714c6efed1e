"""plan.py: factors become environments and runs."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.plan import ONE_AT_A_TIME, PRODUCT, Plan

FACTORS = {
    "optimizer": ("scipy", "minuit"),
    "scipy": ("1.11", "1.17"),
    "pyhf": ("0.7.6", "0.7.0"),
}


def names(plan):
    return [each.name for each in plan.combinations()]


def test_all_are_combined_the_first_values_first():
    found = Plan(FACTORS).combinations()
    assert len(found) == 8
    assert found[0].name == "pyhf 0.7.6, scipy 1.11, scipy"
    assert found[-1].name == "pyhf 0.7.0, scipy 1.17, minuit"
    assert found[-1].directory == "pyhf-0.7.0-scipy-1.17-minuit"
    assert found[-1].words == ["--faas-optimizer=minuit"]
    assert found[-1].factors == {"pyhf": "0.7.0", "scipy": "1.17", "optimizer": "minuit"}


def test_fit_setups_share_an_environment_that_has_what_each_needs():
    plan = Plan({**FACTORS, "backend": ("numpy", "jax")})
    found = plan.combinations()
    assert len(found) == 16
    wanted = {each.wanted for each in found}
    assert len(wanted) == 4
    for each in wanted:
        assert each.requirements[2:] == ["iminuit", "jax", "jaxlib"]
    (alone,) = Plan({"pyhf": ("0.7.6",)}).combinations()
    assert alone.wanted.requirements == ["pyhf==0.7.6"]


def test_a_version_of_what_a_fit_setup_needs_is_asked_for_once():
    (found,) = Plan({"optimizer": ("minuit",), "iminuit": ("2.24",)}).combinations()
    assert found.wanted.requirements == ["iminuit==2.24.*"]
    assert found.name == "iminuit 2.24, minuit"


def test_one_at_a_time_varies_each_alone():
    assert names(Plan(FACTORS, ONE_AT_A_TIME)) == [
        "pyhf 0.7.6, scipy 1.11, scipy",
        "pyhf 0.7.0, scipy 1.11, scipy",
        "pyhf 0.7.6, scipy 1.17, scipy",
        "pyhf 0.7.6, scipy 1.11, minuit",
    ]


def test_what_is_excluded_is_left_out():
    exclude = ({"pyhf": "0.7.0", "scipy": "1.1*"}, {"optimizer": "minuit"})
    assert names(Plan(FACTORS, exclude=exclude)) == [
        "pyhf 0.7.6, scipy 1.11, scipy",
        "pyhf 0.7.6, scipy 1.17, scipy",
    ]
    with pytest.raises(ConfigurationError, match="none of 8 combinations is left"):
        Plan(FACTORS, exclude=({"pyhf": "*"},)).combinations()
    with pytest.raises(ConfigurationError, match="exclude names numba"):
        Plan(FACTORS, exclude=({"numba": "*"},)).combinations()


def test_sources_are_distinguished_by_their_names(tmp_path):
    for name in ("a/pyhf", "b/pyhf"):
        (tmp_path / name).mkdir(parents=True)
    two = ("./a/pyhf", "./b/pyhf")
    with pytest.raises(ConfigurationError, match=r"write LABEL=\./b/pyhf"):
        Plan({"pyhf": two}).combinations(tmp_path)
    found = Plan({"pyhf": (two[0], f"fixed={two[1]}")}).combinations(tmp_path)
    assert [each.name for each in found] == ["pyhf pyhf", "pyhf fixed"]
    assert found[1].wanted.sources == {"pyhf": str(tmp_path / "b/pyhf")}
    assert found[1].wanted.requirements == []


def test_interpreters(tmp_path):
    (tmp_path / "python3.12").touch()
    found = Plan({"python": ("3.11", "new=./python3.12")}).combinations(tmp_path)
    assert [each.name for each in found] == ["Python 3.11", "Python new"]
    assert [each.wanted.python for each in found] == ["3.11", str(tmp_path / "python3.12")]
    assert found[0].wanted.requirements == []


factors = st.dictionaries(
    st.sampled_from(["pyhf", "scipy", "numpy", "numba", "optimizer", "backend"]),
    st.lists(st.sampled_from(["1.0", "1.1", "2.0", "3.0.1"]), min_size=1, max_size=4, unique=True),
    min_size=1,
)


@given(factors, st.sampled_from([PRODUCT, ONE_AT_A_TIME]))
def test_a_plan_has_each_combination_once(values, design):
    plan = Plan({name: tuple(each) for name, each in values.items()}, design, words=("-x",))
    found = plan.combinations()
    sizes = [len(each) for each in values.values()]
    expected = math.prod(sizes) if design == PRODUCT else 1 + sum(size - 1 for size in sizes)
    assert len(found) == len({each.directory for each in found}) == expected
    assert found[0].factors == {name: each[0] for name, each in values.items()}
    if design == ONE_AT_A_TIME:
        base = found[0].factors
        assert all(
            sum(each.factors[name] != base[name] for name in base) == 1 for each in found[1:]
        )
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
