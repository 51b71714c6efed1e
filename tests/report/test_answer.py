"""What a report says in one sentence and in small tables."""

from __future__ import annotations

import pytest

from pytest_pyhf_faas.report import ambiguous, analyses, answer, environments, published
from pytest_pyhf_faas.schemas import accepted_by_own_schema
from pytest_pyhf_faas.verdicts import State
from pytest_pyhf_faas.wording import NOTHING
from tests.helpers import report_documents as documents


def hypotheses(**counts):
    """So many hypotheses of each verdict, underscores for spaces."""
    made = []
    for verdict, count in counts.items():
        for _ in range(count):
            name = verdict.replace("_", " ")
            patch = f"wino_{len(made)}"
            if name == "wrong":
                made.append(documents.wrong(patch))
            elif name in ("error", "broken", "timeout", "cancelled"):
                made.append(documents.broken(patch, verdict=name, status=name))
            elif name == "not run":
                made.append(unfitted(patch))
            elif name == "ambiguous":
                made.append(documents.ambiguous(patch))
            else:
                made.append(documents.hypothesis(patch, verdict=name))
    return made


def unfitted(patch):
    return documents.broken(patch) | {
        "verdict": "not run",
        "outcome": "not run",
        "status": None,
        "error": None,
        "attempts": 0,
        "title": "",
        "text": "",
    }


def document(run=None, changes=None, **counts):
    return documents.document(
        [documents.analysis(hypotheses(**counts))], run=run or {}, **changes or {}
    )


INTERRUPTED = {"interrupted": True, "exit_status": 2}
BAD_ENDPOINT = {
    "endpoints": [
        {
            "endpoint": "local:2",
            "findings": [],
            "failures": [{"name": "clock", "text": "its clock is 93 s ahead"}],
        }
    ]
}
OTHER_TEST = {"test": "tests/test_mine.py::test_it", "outcome": "failed", "text": "assert 1 == 2"}
SAME_TEST = {"test": "test_endpoint_clock", "outcome": "failed", "text": "its clock is 93 s ahead"}


@pytest.mark.parametrize(
    ("made", "state", "sentence"),
    [
        (document(right=125), "right", "All 125 hypotheses of wino are right."),
        (document(right=1), "right", "The one hypothesis of wino is right."),
        (document(wrong=1), "wrong", "The one hypothesis of wino is wrong."),
        (document(broken=4), "broken", "All 4 fits of wino broke."),
        (
            document(right=394, wrong=3, broken=1, unconverged=2),
            "wrong",
            (
                "3 of 400 hypotheses of wino are wrong, 2 are unconverged, 1 fit broke; the other "
                "394 are right."
            ),
        ),
        (
            document(right=1, error=1, timeout=2),
            "broken",
            (
                "1 of 4 fits of wino ended with an exception, 2 fits took too long; the other one "
                "is right."
            ),
        ),
        (
            document(INTERRUPTED, right=85, not_run=30, cancelled=10),
            "incomplete",
            "Interrupted: 40 of 125 hypotheses of wino were not fitted; the other 85 are right.",
        ),
        (
            document(INTERRUPTED, cancelled=5),
            "incomplete",
            "Interrupted: all 5 hypotheses of wino were not fitted.",
        ),
        (
            document(INTERRUPTED, wrong=1, not_run=1),
            "wrong",
            "Interrupted: 1 of 2 hypotheses of wino is wrong, 1 was not fitted; none is right.",
        ),
        (
            document(right=3, known_issue=2),
            "as known",
            "2 of 5 hypotheses of wino are known issues; the other 3 are right.",
        ),
        (
            document(right=3, fixed=1),
            "incomplete",
            "1 of 4 hypotheses of wino is a fixed known issue; the other 3 are right.",
        ),
        (
            document(right=2, mixed=2, wrong=1),
            "wrong",
            ("1 of 5 hypotheses of wino is wrong, 2 are at mixed minima; the other 2 are right."),
        ),
        (
            document(right=2, ambiguous=3),
            "right",
            (
                "All 5 hypotheses of wino are right; 3 hypotheses are ambiguous (the exclusion "
                "depends on the minimum for 3)."
            ),
        ),
        (
            document(not_compared=3),
            "incomplete",
            "All 3 hypotheses of wino were not compared.",
        ),
        (
            document(no_reference=3, right=1),
            "incomplete",
            "3 of 4 hypotheses of wino have no reference; the other one is right.",
        ),
        (
            document({"failures": [SAME_TEST]}, BAD_ENDPOINT, right=2),
            "broken",
            "Both hypotheses of wino are right; 1 check of an endpoint failed.",
        ),
        (
            document({"failures": [OTHER_TEST, SAME_TEST]}, right=2),
            "broken",
            "Both hypotheses of wino are right; 2 other tests failed.",
        ),
        (
            document(error=1, no_reference=3),
            "broken",
            "1 of 4 fits of wino ended with an exception, 3 hypotheses have no reference.",
        ),
        (document(wrong=2), "wrong", "Both hypotheses of wino are wrong."),
        (document(broken=2), "broken", "Both fits of wino broke."),
        (documents.document([]), "incomplete", "Nothing was fitted."),
        (
            documents.document([], **BAD_ENDPOINT),
            "broken",
            "Nothing was fitted; 1 check of an endpoint failed.",
        ),
        (
            document({"exit_status": 3}, right=2),
            "incomplete",
            "Both hypotheses of wino are right; pytest ended with status 3.",
        ),
    ],
)
def test_the_answer_is_one_sentence(made, state, sentence):
    assert accepted_by_own_schema(made, "report.schema.json")
    assert answer.verdict(made) == sentence
    assert answer.state(made).value == state


def test_a_right_hypothesis_whose_test_fails_is_reported():
    one = documents.hypothesis(outcome="failed", text="assert took < 1")
    made = documents.document([documents.analysis([one, documents.hypothesis("other")])])
    assert answer.state(made) is State.BROKEN
    assert answer.verdict(made).endswith("are right; 1 test failed for another reason.")
    assert answer.failures(made["analyses"][0]) == [one]


def test_several_pallets_and_endpoints_are_reported():
    three = [documents.analysis(pallet=name) for name in ("a", "b", "b")]
    made = documents.document(three)
    assert answer.verdict(made) == "All 75 hypotheses of a, b in 3 analyses are right."
    many = documents.document([documents.analysis(pallet=f"p{i}") for i in range(5)])
    assert answer.verdict(many) == "All 125 hypotheses of 5 pallets are right."


def test_what_was_calculated_is_reported_where_it_is_not_cls_alone():
    def told(*analyses):
        return answer.verdict(documents.document(list(analyses)))

    cls = documents.analysis([documents.hypothesis(str(i)) for i in range(12)])
    limits = [documents.limited(str(i)) for i in range(12)]
    off = [documents.wrong_limit("10"), documents.wrong_limit("11")]
    right = "12 hypotheses of wino are right"
    assert told(cls, documents.limits(limits)) == f"All {right}: CLs and upper limits."
    assert told(documents.limits(limits)) == f"All {right}: upper limits."
    assert told(cls, documents.limits([*limits[:10], *off])) == (
        "Upper limits: 2 of 12 hypotheses of wino are wrong; the other 10 are right; "
        f"CLs: all {right}."
    )
    assert told(cls, documents.limits(limits[:3])) == (
        f"CLs: all {right}; upper limits: all 3 hypotheses of wino are right."
    )
    same = [*off, *limits[:1]], [documents.wrong("a"), documents.wrong("b"), cls["hypotheses"][0]]
    said = "2 of 3 hypotheses of wino are wrong; the other one is right"
    assert told(documents.analysis(same[1]), documents.limits(same[0])) == (
        f"CLs: {said}; upper limits: {said}."  # which need not be the same two
    )


def test_failures_are_in_the_order_in_which_they_matter():
    names = [
        "right",
        "no_reference",
        "timeout",
        "broken",
        "error",
        "fixed",
        "unconverged",
        "mixed",
        "wrong",
    ]
    analysis = documents.analysis(hypotheses(**dict.fromkeys(names, 1), not_run=1, known_issue=1))
    assert [each["verdict"] for each in answer.failures(analysis)] == [
        "wrong", "mixed", "unconverged", "error", "broken", "timeout", "no reference", "fixed",
    ]  # fmt: skip


def test_ambiguous_hypotheses_are_listed_those_that_flip_first():
    same = documents.ambiguous("same", at="lowest", ambiguous={"flips": False, "at_bound": []})
    moved = documents.ambiguous("moved", ambiguous={"was_at": "lowest"})
    made = documents.document(
        [documents.analysis([documents.hypothesis("one"), same, moved, documents.broken("b")])]
    )
    flips, other = ambiguous.ambiguous_rows(made)
    assert (flips.patch, flips.at, flips.flips) == (
        "moved",
        "nominal (was lowest)",
        "excluded only at the nominal",
    )
    assert (flips.lowest, flips.nominal, flips.gap) == (0.0684, 0.0435, 0.79)
    assert flips.title == "wino on local:2, numpy+scipy"
    assert flips.parameters == "mu_W 0 (nominal: 1.02)"
    assert (flips.fit, flips.at_bound) == ("fixed poi fit to data", "mu_W")
    assert (other.patch, other.at, other.flips, other.at_bound) == ("same", "lowest", "", "")
    assert ambiguous.ambiguous(made) == (
        "2 hypotheses are ambiguous (the exclusion depends on the minimum for 1)"
    )
    assert ambiguous.ambiguous(document(right=3)) == ""


def test_what_is_missing_is_listed_for_each_analysis():
    made = document(right=2, not_run=1, not_compared=1)
    title = "wino on local:2, numpy+scipy"
    assert answer.missing(made) == [
        f"{title}: 1 of 4 hypotheses not fitted",
        f"{title}: 1 of 4 hypotheses not compared",
    ]


def test_the_largest_difference_leaves_out_what_could_not_matter():
    tiny = [0.1, 1e-12, 0.1, 0.1, 0.1, 0.1]
    one = documents.hypothesis(
        CLs=[0.101, 2e-12, *tiny[2:]], reference={"CLs": tiny, "error": None}
    )
    assert analyses.largest_difference(one) == pytest.approx(1e-2)
    assert analyses.largest_difference(documents.broken()) is None
    undefined = documents.wrong(CLs=["nan"] * 6)
    assert str(analyses.largest_difference(undefined)) == "nan"


# The published table


def fitted(pallet, count, **changes):
    one = documents.analysis(
        [documents.hypothesis(f"p_{i}") for i in range(count)], pallet=pallet, **changes
    )
    return one | {"wall_time": None, "timeline": None}


def test_rows_stand_next_to_the_published_ones():
    trials = [documents.trial(fits=125, wall_s=40.0), documents.trial(fits=125, wall_s=44.0)]
    one = documents.analysis(pallet="1Lbb", wall_time={"test": "t", "trials": trials})
    made = documents.document([one])
    (row,) = analyses.rows(made)
    assert analyses.wall_time_table(made) == [analyses.ROW_HEADER, row.cells]
    assert dict(zip(analyses.ROW_HEADER, row.cells, strict=True)) == {
        "pallet": "1Lbb",
        "endpoint": "local:2 (2 workers), numpy+scipy",
        "patches": "125",
        "wall time [s]": "42.0 ± 2.8",
        "single worker [s]": "69.8",
        "speed-up": "1.66",
        "efficiency": "83%",
        "published wall time [s]": "156.2 ± 9.5",
        "published single node [s]": "3842",
    }


def test_a_run_that_measured_times_alone_did_fit():
    made = documents.document([measured("wino", 3)])
    assert answer.verdict(made) == "Times were measured, no CLs were compared."


def test_a_row_without_wall_time_or_publication_has_dashes():
    made = documents.document([fitted("wino", 3, synthetic=True)])
    (row,) = analyses.rows(made)
    assert analyses.wall_time_table(made) == [analyses.ROW_HEADER[:7], row.cells[:7]]
    assert row.cells[0] == "wino (synthetic, no physics)"
    assert row.cells[2:] == ("3", *(NOTHING,) * 6)


def measured(pallet, count, hypotheses=(), **changes):
    wall_time = {"test": "t", "trials": [documents.trial(fits=count)]}
    return documents.analysis(hypotheses, pallet=pallet, wall_time=wall_time, **changes)


def test_published_figures_stand_next_to_the_same_fits_alone():
    staus = published.Published(57, 57.4, 5.2, 612)
    assert published.published_of(measured("stau_combined", 57)) == staus
    assert published.published_of(measured("stau_combined", 2)) is None
    assert published.published_of(measured("stau_combined", 57, synthetic=True)) is None
    assert published.published_of(measured("stau_combined-likelihoods", 57)) is None
    assert published.published_of(fitted("stau_combined", 57)) is None  # nothing was measured
    assert published.published_of(measured("SS3L_Rpv2L", 76)) is None


@pytest.mark.parametrize(
    "failed",
    [
        documents.broken(),
        documents.broken(status="timeout", verdict="timeout"),
        documents.broken(status="cancelled", verdict="not compared", outcome="skipped"),
        documents.broken(status="error", verdict="error"),
    ],
    ids=lambda each: each["status"],
)
def test_a_run_with_a_fit_that_failed_has_no_wall_time(failed):
    one = measured("stau_combined", 57, [documents.hypothesis(), failed])
    (row,) = analyses.rows(documents.document([one]))
    assert row.cells[3:7] == (NOTHING,) * 4
    assert (row.wall_time, row.published) == (None, None)


@pytest.mark.parametrize(
    "known",
    [
        documents.broken(status="error", verdict="right", outcome="passed"),
        documents.broken(status="error", verdict="known issue", outcome="xfailed"),
        documents.broken(status=None, verdict="not run"),  # its trial was complete
    ],
    ids=lambda each: each["verdict"],
)
def test_an_exception_that_is_known_is_an_answer(known):
    one = measured("wino", 2, [documents.hypothesis(), known])
    (row,) = analyses.rows(documents.document([one]))
    assert row.wall_time is not None


# Environments


def test_workers_that_differ_in_host_and_processor_alone_are_one_kind():
    machines = [
        documents.environment(),
        documents.environment(host="node2", cpu="Another CPU"),
        documents.environment(host="node3", versions={"numpy": "2.3.0"}),
    ]
    used = [documents.hypothesis(f"p_{i}", environment=i) for i in range(3)]
    made = documents.document([documents.analysis(used)], environments=machines)
    client, first, second, reference = environments.environment_rows(made)
    assert (client.kind, client.title, client.values["backend"]) == ("client", "laptop", "–")
    assert first.title == "2 hosts: node1, node2"
    assert first.cpus == {"Another CPU", "Some CPU @ 2.50GHz"}
    assert first.differs == {"scipy": "1.17.0"}
    assert second.differs == {"numpy": "2.4.6", "scipy": "1.17.0"}
    assert first.values["threads"] == "OMP_NUM_THREADS=1"
    assert reference.title == "wino: certified, 2026-11-01"
    assert environments.differences(made) == [
        "workers on 2 hosts: node1, node2: scipy 1.17.1 (reference: 1.17.0)",
        (
            "workers on 1 host: node3: numpy 2.3.0 (reference: 2.4.6), scipy 1.17.1 (reference: "
            "1.17.0)"
        ),
    ]


def test_workers_of_another_interpreter_are_another_kind():
    machines = [
        documents.environment(),  # as an earlier version of this package wrote it
        documents.environment(executable="/a/python"),
        documents.environment(host="node2", executable="/b/python"),
    ]
    made = documents.document([documents.analysis()], environments=machines)
    workers = [row for row in environments.environment_rows(made) if row.kind == "worker"]
    assert [row.values["interpreter"] for row in workers] == ["–", "/a/python", "/b/python"]


def test_a_worker_is_compared_with_the_references_of_its_own_analyses():
    other = documents.analysis(
        [documents.hypothesis(environment=1)], pallet="other", reference=None
    )
    machines = [documents.environment(), documents.environment(python="3.12.1")]
    made = documents.document([documents.analysis(), other], environments=machines)
    _client, first, second, _reference = environments.environment_rows(made)
    assert first.differs
    assert second.differs == {}


@pytest.mark.parametrize(
    ("worse", "state"),
    [("wrong", "wrong"), ("broken", "broken"), ("not_run", "incomplete"), ("fixed", "incomplete")],
)
def test_what_is_worse_than_known_issues_heads_the_page(worse, state):
    assert answer.state(document(right=1, known_issue=1, **{worse: 1})).value == state


def test_fits_are_counted_over_all_processes():
    leader = {"sent": 10, "again": {"agent lost": 1, "block lost": 1}}
    next_one = {"sent": 3, "again": {"agent lost": 2}}
    none = {"taken_over": 0, "collected": 0}
    total = answer.added_up([{**leader, **none}, {**next_one, **none}])
    assert answer.sent(total) == (
        "13 fits sent to workers, 4 of them sent again (agent lost: 3, block lost: 1)"
    )


def test_fits_for_which_no_worker_was_there_were_not_sent():
    fits = {"sent": 3, "again": {}, "taken_over": 0, "collected": 0}
    total = answer.added_up([fits, {**fits, "sent": 0, "not_sent": 4}])
    assert answer.sent(total) == "3 fits sent to workers, 4 not sent because no worker answered"


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        ((0, 0, 0), "0 fits sent to workers"),
        ((1, 0, 0), "1 fit sent to workers"),
        ((2, 4, 0), "2 fits sent to workers, 4 taken over from earlier runs"),
        ((2, 0, 1), "2 fits sent to workers, 1 collected from an earlier run"),
    ],
)
def test_the_fits_of_a_run_in_words(fits, said):
    sent, taken_over, collected = fits
    found = {"sent": sent, "again": {}, "taken_over": taken_over, "collected": collected}
    assert answer.sent(found) == said


def test_tests_that_were_not_run_are_reported_where_nobody_knows_which():
    made = documents.document(run={"tests": {"passed": 25, "not run": 3}, "exit_status": 1})
    assert answer.verdict(made).endswith("; 3 other tests were not run.")
    assert answer.state(made) is State.INCOMPLETE
