"""Which fits an item has to begin, decided without pytest, an engine, or time."""

from __future__ import annotations

from types import SimpleNamespace

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.plugin.plan import Plan

USUAL, ANOTHER = HypotestConfig(), HypotestConfig(test_poi=2.0)
LIMIT, TOYS = HypotestConfig(quantity="limit"), HypotestConfig(quantity="toys", toys=1000)
HERE, THERE = "local:1", "local:2"
PALLET = SimpleNamespace(name="tiny", digest="d", patches=("a", "b"))
OTHER = SimpleNamespace(name="other", digest="e", patches=("c",))


def task(patch, pallet=PALLET, config=USUAL, content=None):
    name = f"{pallet.name}-{patch}-{config}"
    return SimpleNamespace(
        key=content or name, hypothesis=name, pallet=pallet, patch=patch, config=config
    )


def subject(test, role, *tasks, endpoint=HERE, count=0):
    pallet = tasks[0].pallet if tasks else None
    return SimpleNamespace(
        test=test, role=role, tasks=tasks, endpoint=endpoint, count=count, pallet=pallet
    )


def compare(*patches, **changes):
    return [subject(patch, "compare", task(patch), **changes) for patch in patches]


def due(plan, subject):
    return {where: [each.patch for each in tasks] for where, tasks in plan.due(subject).items()}


def counts(plan):
    """Return the patches of the hypotheses, and of the fits, by endpoint and pallet."""
    return {
        where: ([each.patch for each in need.hypotheses], [each.patch for each in need.fits])
        for where, need in plan.needs().items()
    }


MEASURE = subject("wall time", "measure", task("a"), task("b"))


def test_the_first_item_begins_the_fits_of_all():
    a, b, c = compare("a", "b", "c")
    plan = Plan([a, b, c])
    assert due(plan, a) == {HERE: ["a", "a", "b", "c"]}
    assert counts(plan) == {(HERE, "tiny", "cls"): (["a", "b", "c"], ["a", "b", "c"])}


def test_what_a_later_item_measures_is_not_begun():
    other = subject("first", "compare", task("c", OTHER))
    a, b = compare("a", "b")
    plan = Plan([other, MEASURE, a, b])
    assert due(plan, other) == {HERE: ["c", "c"]}
    assert set(due(plan, a)[HERE]) == {"a", "b", "c"}


def test_what_is_calculated_next_to_cls_waits_for_the_wall_time_of_its_pallet():
    (a,) = compare("a")
    limit = subject("limit", "compare", task("a", config=LIMIT))
    elsewhere = subject("there", "compare", task("b", config=LIMIT), endpoint=THERE)
    measure = subject("there, measured", "measure", task("b"), endpoint=THERE)
    plan = Plan([MEASURE, a, limit, measure, elsewhere])
    assert set(due(plan, MEASURE)) == {HERE}
    assert set(due(plan, limit)) == {HERE}
    assert set(due(plan, elsewhere)) == {HERE, THERE}
    unmeasured = Plan([MEASURE, a, limit, measure, elsewhere], measures=False)
    assert set(due(unmeasured, a)) == {HERE, THERE}


def test_what_was_compared_before_is_not_left_to_a_measurement():
    a, b = compare("a", "b")
    plan = Plan([a, MEASURE, b])
    assert due(plan, a) == {HERE: ["a", "a", "a"]}  # b is measured
    assert set(due(plan, b)[HERE]) == {"a", "b"}


def test_where_nothing_is_measured_all_is_begun():
    a, b = compare("a", "b")
    plan = Plan([a, MEASURE, b], measures=False)
    assert set(due(plan, a)[HERE]) == {"a", "b"}


def test_each_endpoint_has_its_own():
    (a,) = compare("a")
    (there,) = compare("b", endpoint=THERE)
    plan = Plan([a, there])
    assert due(plan, a) == {HERE: ["a", "a"], THERE: ["b"]}
    assert plan.analyses() == {(HERE, "tiny", USUAL), (THERE, "tiny", USUAL)}


def test_an_item_that_was_not_selected_begins_its_own():
    (a,) = compare("a")
    assert due(Plan(), a) == {HERE: ["a"]}


def test_a_scaling_is_counted_and_begins_nothing():
    points = [subject(f"n{count}", "scale", task("a"), task("b"), count=count) for count in (1, 2)]
    plan = Plan(points)
    assert plan.scaling == {(HERE, "tiny", 2): [1, 2]}
    assert plan.needs() == {}


def test_patches_next_to_are_those_of_one_background_and_one_way():
    here = compare("a", "b")
    apart = [
        subject("c", "compare", task("c", OTHER)),
        subject("d", "compare", task("d", config=ANOTHER)),
    ]
    limit = subject("e", "compare", task("e", config=LIMIT))
    plan = Plan([*here, *apart, limit])
    assert list(plan.patches_beside(task("a"))) == ["a", "b", "e"]


def test_what_is_calculated_is_counted_apart():
    items = [*compare("a", "b"), subject("limit", "compare", task("a", config=LIMIT))]
    parts = [task("a", config=TOYS, content=name) for name in ("first", "second")]
    toys = subject(
        "toys", "compare", *(SimpleNamespace(**{**vars(p), "hypothesis": 1}) for p in parts)
    )
    assert counts(Plan([*items, toys])) == {
        (HERE, "tiny", "cls"): (["a", "b"], ["a", "b"]),
        (HERE, "tiny", "limit"): (["a"], ["a"]),
        (HERE, "tiny", "toys"): (["a"], ["a", "a"]),
    }


def test_one_fit_serves_hypotheses_of_one_content():
    tasks = [task("a", content="x"), task("b", content="x"), task("c", OTHER, content="x")]
    items = [subject(each.patch, "compare", each) for each in (*tasks, tasks[0])]
    elsewhere = subject("there", "compare", tasks[1], endpoint=THERE)
    assert counts(Plan([*items, elsewhere])) == {
        (HERE, "tiny", "cls"): (["a", "b"], ["a"]),
        (HERE, "other", "cls"): (["c"], []),
        (THERE, "tiny", "cls"): (["b"], ["b"]),
    }


def test_a_measured_pallet_has_fits_of_its_own():
    first, second = task("a", content="x"), task("c", OTHER, content="x")
    items = [subject("first", "compare", first), subject("second", "measure", second)]
    assert counts(Plan(items))[HERE, "other", "cls"] == (["c"], ["c"])
    assert counts(Plan(items, measures=False))[HERE, "other", "cls"] == (["c"], [])
