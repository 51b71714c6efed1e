"""What moved together with what: a planted cause is found, and nothing else."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.report.comparison.runs import compare_runs
from pytest_pyhf_faas.report.many.attribution import Step
from pytest_pyhf_faas.report.many.cell import Cell
from pytest_pyhf_faas.report.many.compare import compare_many
from tests.helpers import report_documents as make
from tests.helpers.environments import FACTORS, PATCHES, grid


def steps(found):
    return {(shift.step, len(shift.hypotheses)) for shift in found.shifts}


def moved_by(factor, before, after, *where):
    return Step((factor,), (before,), (after,), where)


@st.composite
def planted(draw):
    """A factor, the place where results change along it, and which patches do."""
    factor = draw(st.sampled_from(list(FACTORS)))
    place = draw(st.integers(1, len(FACTORS[factor]) - 1))
    patches = draw(st.sets(st.sampled_from(PATCHES), min_size=1))
    size = draw(st.sampled_from([-0.5, -1e-2, 5e-4, 0.3]))
    return factor, place, patches, size


@settings(max_examples=25, deadline=None)
@given(planted=planted(), seed=st.integers(0, 2**32))
def test_a_planted_factor_is_found_and_nothing_else(planted, seed):
    factor, place, patches, size = planted
    values = FACTORS[factor]
    noise = random.Random(seed)

    def result(patch, factors):
        later = patch in patches and values.index(factors[factor]) >= place
        return {"scale": (1 + later * size) * (1 + noise.uniform(-3e-5, 3e-5))}

    found = compare_many(grid(result))
    assert steps(found) == {(moved_by(factor, *values[place - 1 : place + 1]), len(patches))}
    (shift,) = found.shifts
    assert shift.largest.relative == pytest.approx(size, abs=2e-4)
    assert found.verdicts == ()
    assert found.status == 1
    assert {h.patch for h in found.hypotheses if h.differs} == patches


@settings(max_examples=15, deadline=None)
@given(planted=planted(), seed=st.integers(0, 2**32))
def test_the_order_of_all_but_the_first_means_nothing(planted, seed):
    factor, place, patches, size = planted

    def result(patch, factors):
        later = patch in patches and FACTORS[factor].index(factors[factor]) >= place
        return {"scale": 1 + later * size}

    first, *others = grid(result)
    found = compare_many([first, *others])
    random.Random(seed).shuffle(others)
    shuffled = compare_many([first, *others])
    assert (shuffled.shifts, shuffled.factors, shuffled.status) == (
        found.shifts,
        found.factors,
        found.status,
    )
    assert {e.name: e for e in shuffled.environments} == {e.name: e for e in found.environments}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_noise_within_the_tolerance_is_no_shift_and_is_distinguished(seed):
    noise = random.Random(seed)
    found = compare_many(grid(lambda patch, factors: {"scale": 1 + noise.uniform(-4e-5, 4e-5)}))
    assert (found.shifts, found.status) == ((), 0)
    assert not any(hypothesis.differs for hypothesis in found.hypotheses)
    base, *others = found.environments
    assert base.noise is None
    told = [each.noise for each in others]
    assert all(0 < each.median <= each.largest < 1e-4 for each in told if each)
    assert sum(each.count for each in told if each) > len(others)


def test_a_relative_change_of_next_to_nothing_is_no_noise():
    def result(patch, factors):
        tiny = 3e-7 if factors["scipy"] == "1.9.3" else 2e-7
        return {"CLs": [tiny, *make.hypothesis(patch)["CLs"][1:]]}

    assert {each.noise for each in compare_many(grid(result)).environments} == {None}


def test_values_that_went_with_an_error_are_a_change_of_the_verdict():
    error = {"type": "FailedMinimization", "message": "no", "traceback": ""}

    def result(patch, factors):
        failed = {"CLs": None, "status": "error", "error": error}
        lost = factors["optimizer"] == "minuit"
        return {"verdict": "known issue", **(failed if lost else {})}

    found = compare_many(grid(result))
    (change,) = found.verdicts
    assert (change.before, change.after) == ("known issue", "known issue: FailedMinimization: no")
    assert [each.moved for each in found.environments[:2]] == [0, 0]
    assert found.status == 1


@pytest.mark.parametrize("factor", ["pyhf", "scipy", "numpy", "optimizer"])
def test_two_that_changed_together_are_both_named(factor):
    values = FACTORS[factor]

    def result(patch, factors):
        return {"scale": 1 + 0.01 * (factors[factor] == values[-1])}

    def with_libc(factors):
        return {"cpu": "old" if factors[factor] != values[-1] else "new"}

    found = compare_many(grid(result, also=with_libc))
    ((step, count),) = steps(found)
    assert count == len(PATCHES)
    assert dict(zip(step.factors, step.before, strict=True)) == {
        "cpu": "old",
        factor: values[-2] if factor != "pyhf" else "0.7.6",
    }
    assert dict(zip(step.factors, step.after, strict=True)) == {"cpu": "new", factor: values[-1]}


def test_a_change_at_one_value_of_another_factor_is_of_both():
    def result(patch, factors):
        slsqp = factors["optimizer"] == "scipy" and factors["scipy"] == "1.14.1"
        return {"scale": 1 + 0.01 * slsqp}

    assert steps(compare_many(grid(result))) == {
        (moved_by("scipy", "1.9.3", "1.14.1", ("optimizer", "scipy")), 3),
        (moved_by("optimizer", "scipy", "minuit", ("scipy", "1.14.1")), 3),
    }


def test_of_a_pair_too_all_that_changed_together_are_named():
    def result(patch, factors):
        return {"scale": 1 + 0.01 * (factors["optimizer"] == "scipy" and factors["cpu"] == "new")}

    def with_cpu(factors):
        return {"cpu": "old" if factors["scipy"] == "1.9.3" else "new"}

    assert steps(compare_many(grid(result, also=with_cpu))) == {
        (
            Step(("scipy", "cpu"), ("1.9.3", "old"), ("1.14.1", "new"), (("optimizer", "scipy"),)),
            3,
        ),
        (
            Step(("optimizer",), ("scipy",), ("minuit",), (("scipy", "1.14.1"), ("cpu", "new"))),
            3,
        ),
    }
    # NumPy with two values and SciPy with three, in step with each other
    factors = {"pyhf": ("0.7.6", "0.8.0"), "scipy": ("1.14.1", "1.16.3", "1.17.1")}

    def of_numpy(patch, factors):
        return {"scale": 1 + 0.01 * (factors["pyhf"] == "0.8.0" and factors["numpy"] == "2.0.2")}

    def with_numpy(factors):
        return {"numpy": "2.0.2" if factors["scipy"] == "1.14.1" else "2.4.6"}

    found = compare_many(grid(of_numpy, factors=factors, also=with_numpy))
    named = {name for shift in found.shifts for name in shift.step.factors}
    assert named == {"pyhf", "scipy", "numpy"}
    assert len(found.shifts) == 2


def test_two_changes_of_one_hypothesis_are_both_found():
    def result(patch, factors):
        both = 0.01 * (factors["pyhf"] == "0.8.0") + 0.02 * (factors["numpy"] == "2.4.6")
        return {"scale": 1 + both}

    assert steps(compare_many(grid(result))) == {
        (moved_by("pyhf", "0.7.6", "0.8.0"), 3),
        (moved_by("numpy", "1.26.4", "2.4.6"), 3),
    }


def test_what_no_pair_explains_is_not_explained():
    places = iter(range(1000))
    found = compare_many(grid(lambda patch, factors: {"scale": 1 + 0.01 * next(places)}))
    assert steps(found) == {(None, 3)}


def test_a_change_back_is_two_steps():
    def result(patch, factors):
        return {"scale": 1 + 0.01 * (factors["pyhf"] == "0.7.6")}

    assert steps(compare_many(grid(result))) == {
        (moved_by("pyhf", "0.7.0", "0.7.6"), 3),
        (moved_by("pyhf", "0.7.6", "0.8.0"), 3),
    }


def test_a_drift_in_steps_within_the_tolerance_is_found():
    """Which a grouping of what lies close would call no change."""

    def result(patch, factors):
        return {"scale": 1 + 7e-5 * FACTORS["pyhf"].index(factors["pyhf"])}

    found = compare_many(grid(result))
    assert steps(found) == {(moved_by("pyhf", "0.7.0", "0.8.0"), 3)}
    assert {len(hypothesis.groups) for hypothesis in found.hypotheses} == {1}


def test_other_minima_are_a_shift_whatever_the_values():
    def result(patch, factors):
        return {"minimum_set": "lowest" if factors["optimizer"] == "minuit" else "nominal"}

    found = compare_many(grid(result))
    assert steps(found) == {(moved_by("optimizer", "scipy", "minuit"), 3)}
    assert found.shifts[0].largest.minima == ("nominal", "lowest")
    assert found.environments[0].verdicts == {"right at nominal": 3}


def test_an_error_under_one_version_of_two_packages_is_of_both():
    def result(patch, factors):
        if patch == "a" and factors["pyhf"] == "0.7.0" and factors["numpy"] == "2.4.6":
            message = f"module has no attribute {hash(tuple(factors.values()))}"
            error = {"type": "AttributeError", "message": message, "traceback": ""}
            return {"verdict": "error", "status": "error", "CLs": None, "error": error}
        return {}

    found = compare_many(grid(result))
    kind = "error: AttributeError: module has no attribute …"
    assert {(each.step, each.before, each.after) for each in found.verdicts} == {
        (moved_by("numpy", "1.26.4", "2.4.6", ("pyhf", "0.7.0")), "right", kind),
        (moved_by("pyhf", "0.7.0", "0.7.6", ("numpy", "2.4.6")), kind, "right"),
    }
    assert found.shifts == ()
    assert found.environments[2].verdicts["error"] == 1


def test_a_package_that_came_with_a_backend_is_no_cause_next_to_it():
    def run(backend, **versions):
        config = {"backend": backend, "optimizer": "scipy"}
        scale = 1.0 if backend == "numpy" else 1.01
        cls = [scale * value for value in make.hypothesis()["CLs"]]
        environment = make.environment(backend=backend, versions=versions)
        analysis = make.analysis([make.hypothesis(CLs=cls)], config=config)
        return Cell(backend, {}, make.document([analysis], environments=[environment]))

    jax = [run("jax", jax=version, jaxlib=version) for version in ("0.4.30", "0.5.0")]
    assert steps(compare_many([run("numpy", jax="0.5.0"), *jax])) == {
        (moved_by("backend", "numpy", "jax"), 1)
    }


def test_what_is_no_number_is_counted_next_to_the_largest():
    def result(patch, factors):
        if factors["scipy"] == "1.9.3":
            return {}
        return {"CLs": ["nan"] * 6} if patch == "a" else {"scale": 1.01}

    (shift,) = compare_many(grid(result)).shifts
    assert (len(shift.hypotheses), shift.without_ratio) == (3, 1)
    assert shift.largest.relative == pytest.approx(0.01)


def test_an_environment_without_a_run_is_left_out():
    first, *others = grid()
    found = compare_many([first, Cell("old", {"pyhf": "0.6"}, None, "no wheel"), *others])
    assert (found.status, found.shifts) == (0, ())
    assert found.environments[1].reason == "no wheel"
    assert found.hypotheses[0].verdicts[:3] == ("right", "no run", "right")
    assert len(found.with_results) == len(others) + 1


def not_ready(ran):
    """Turn a run into one in which nothing was fitted, since the endpoint was not ready."""
    (environment,), (endpoint,) = ran.document["environments"], ran.document["endpoints"]
    ran.document["environments"] = []
    for hypothesis in ran.document["analyses"][0]["hypotheses"]:
        hypothesis |= {"verdict": "not run", "status": None, "CLs": None}
    versions = environment["versions"]
    told = {"python": environment["python"], "cpu": environment["cpu"], "cores": 2, **versions}
    endpoint["findings"].append({"name": "environment", "text": "", "values": told})
    text = (
        "endpoint local: the fit of synthetic_500_100 broke\n"
        "  AttributeError: module 'numpy' has no attribute 'product'\n"
        f"  cause: pyhf {versions['pyhf']} is older than numpy {versions['numpy']}\n"
        "  on the side of the workers"
    )
    endpoint["failures"].append({"name": "reference_fit", "text": text})


def test_an_environment_in_which_nothing_can_be_fitted_is_explained_as_well():
    """By what its workers told before the fits; what they did not tell explains nothing."""
    cells = grid(factors={name: FACTORS[name] for name in ("pyhf", "numpy", "optimizer")})
    for ran in cells:
        if ran.name.startswith("0.7.0 2.4.6"):
            not_ready(ran)
    found = compare_many(cells)
    kind = "not run: AttributeError: module 'numpy' has no attribute 'product'"
    assert {(each.step, each.before, each.after) for each in found.verdicts} == {
        (moved_by("numpy", "1.26.4", "2.4.6", ("pyhf", "0.7.0")), "right", kind),
        (moved_by("pyhf", "0.7.0", "0.7.6", ("numpy", "2.4.6")), kind, "right"),
    }
    assert set(found.factors) == {"pyhf", "numpy", "optimizer"}
    error, cause = kind.removeprefix("not run: "), "cause: pyhf 0.7.0 is older than numpy 2.4.6"
    reasons = [each.reason for each in found.environments if not each.has_results]
    assert reasons == [f"{error}; {cause}"] * 2
    assert compare_many([cells[2], cells[0]]).status == 1


@pytest.mark.parametrize("cells", [slice(1), slice(1, 2)])
def test_nothing_compared_is_no_success(cells):
    both = [*grid()[:1], Cell("old", {}, None, "no wheel")]
    assert compare_many(both[cells]).status == 1
    assert compare_many(both).status == 1
    assert compare_many([both[1], *grid()[:2]]).status == 1


@pytest.mark.parametrize("scale", [1.0, 1 + 5e-5, 1.01])
@pytest.mark.parametrize("verdict", ["right", "wrong"])
def test_the_status_is_that_of_two_runs(scale, verdict):
    first, second = grid()[:2]
    second.document["analyses"][0]["hypotheses"][0].update(
        CLs=[scale * value for value in make.hypothesis("a")["CLs"]], verdict=verdict
    )
    found = compare_many([first, first, second])
    assert found.status == compare_runs(first.document, second.document).status
    assert compare_many([first, second], rtol=1.0).status == (verdict != "right")


def test_a_tolerance_for_all_takes_the_place_of_their_own():
    scaled = grid(lambda patch, factors: {"scale": 1 + 0.01 * (factors["scipy"] == "1.14.1")})
    assert compare_many(scaled, rtol=0.1).shifts == ()
    assert len(compare_many(scaled, rtol=1e-3).shifts) == 1
    assert compare_many(scaled, atol=1.0).status == 0


def test_seconds_of_fits_are_compared_over_what_both_runs_have():
    first, second = grid()[:2]
    second.document["analyses"][0]["hypotheses"] = [
        make.hypothesis(patch, seconds={"fit": 5.0}) for patch in ("b", "c", "d")
    ]
    base, other = compare_many([first, second]).environments
    assert (base.fit_s, base.fit_ratio) == (2.5, 1.0)
    assert (other.fit_s, other.fit_ratio) == (5.0, 2.0)


def test_hypotheses_belong_together_whatever_their_suite_is_installed_in():
    first, second = grid()[:2]
    for hypothesis in second.document["analyses"][0]["hypotheses"]:
        hypothesis["test"] = hypothesis["test"].replace("src/", "site-packages/")
    second.document["analyses"][0]["endpoint"] = "remote"
    found = compare_many([first, second])
    assert [each.verdicts for each in found.hypotheses] == [("right", "right")] * 3


def test_values_that_are_no_numbers_agree_with_each_other():
    found = compare_many(grid(lambda patch, factors: {"CLs": ["nan"] * 6}))
    assert found.shifts == ()
    assert math.isnan(found.hypotheses[0].groups[0].lowest)
    json.dumps(found.to_json(), allow_nan=False)
