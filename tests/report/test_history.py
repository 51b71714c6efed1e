"""Many reports become one page: in the order of time, and nothing said that they do not show."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from pathlib import Path
from random import Random
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.history import page, plot, words
from pytest_pyhf_faas.report.history.points import USUAL, key_of, not_default, point_of
from pytest_pyhf_faas.report.history.publish import publish_history
from pytest_pyhf_faas.report.history.read import read_history
from pytest_pyhf_faas.report.history.series import Series
from pytest_pyhf_faas.report.history.text import text
from tests.helpers import report_documents as make
from tests.helpers.paths import REPOSITORY, STORED
from tests.report.test_page import HOSTILE, Page

REPORTS = STORED / "reports"
A, B = "wino_300_100", "wino_500_100"


def day(number):
    return f"2026-11-{number:02}"


def run_of(number, analyses, *, versions=None, cpu="Some CPU", host="node1", **changes):
    """A run of some day."""
    return make.document(
        analyses,
        environments=[make.environment(versions=versions or {}, cpu=cpu, host=host)],
        run={
            "id": f"{day(number).replace('-', '')}T020000Z-{number:08x}",
            "began_at": f"{day(number)}T02:00:00Z",
            **changes,
        },
    )


def one(*hypotheses, walls=(), workers=2, lost=None, **changes):
    trials = [
        make.trial(fits=len(hypotheses), wall_s=wall, workers=workers)
        | ({"lost": lost} if lost else {})
        for wall in walls
    ]
    measured = {"test": "test_walltime", "trials": trials} if trials else None
    return make.analysis(list(hypotheses), wall_time=measured, timeline=None, **changes)


def right(patch=A):
    return make.hypothesis(patch, (300, 100))


def timed(number, walls, versions=None, **changes):
    parts = {name: changes.pop(name) for name in ("workers", "lost") if name in changes}
    return run_of(number, [one(right(), walls=walls, **parts)], versions=versions, **changes)


@pytest.fixture
def history(tmp_path):
    """Reports that were written become a history; their directories say nothing of when."""

    def read(*runs):
        for place, run in enumerate(runs):
            documents.write(run, tmp_path / f"{len(runs) - place:03}")
        return read_history(tmp_path)

    return read


# --- series ---------------------------------------------------------------------------------------


def test_runs_are_in_the_order_of_time_whatever_their_directories_are_called(history):
    found = history(*(run_of(number, [one(right())]) for number in (3, 1, 2)))
    (series,) = found.series
    assert [point.began_at[:10] for point in series.points] == [day(1), day(2), day(3)]
    assert found.runs == 3


def test_what_is_not_comparable_is_a_series_of_its_own(history):
    analyses = [
        one(right()),
        one(right(), endpoint="local:4"),
        one(right(), fit_setup="numpy+minuit"),
        one(right(), config={"test_poi": 2.0}),
        one(right(), pallet="bino"),
        make.limits([make.limited()]),
    ]
    found = history(run_of(1, analyses), run_of(2, analyses))
    assert [each.key.title for each in found.series] == [
        "bino on local:2, numpy+scipy",
        "wino on local:2, numpy+minuit",
        "wino on local:2, numpy+scipy",
        "wino on local:2, numpy+scipy, test_poi 2.0",
        "wino on local:2, numpy+scipy, upper limits",
        "wino on local:4, numpy+scipy",
    ]
    assert all(len(each.points) == 2 for each in found.series)


def test_what_an_earlier_version_did_not_know_is_as_by_default():
    default = HypotestConfig()
    assert {**default.physics, "toys": default.toys} == USUAL
    assert not_default({"test_poi": 1.0}) == ()
    assert not_default({"test_poi": 1, "toys": 0, "quantity": "cls", "backend": "jax"}) == ()
    assert not_default({"test_stat": "q", "toys": 500}) == (("test_stat", "q"), ("toys", "500"))


def test_reports_of_the_last_two_versions_are_one_series(tmp_path):
    """Both were written by runs: the earlier one by the last commit that wrote version 2."""
    for number, name in enumerate(("version_3", "version_2_run")):
        (tmp_path / str(number)).mkdir()
        shutil.copy(REPORTS / f"{name}.json", tmp_path / str(number) / documents.FILE)
    found = read_history(tmp_path)
    (series,) = found.series
    assert series.key.title == "synthetic on local, numpy+scipy"
    assert [json.loads(p.source.read_text())["schema_version"] for p in series.points] == [3, 2]
    assert [point.verdicts for point in series.points] == [{"right": 4}] * 2
    assert [bool(point.wall_time) for point in series.points] == [False, True]
    assert series.changes == []


# --- what changed ---------------------------------------------------------------------------------


def test_a_verdict_that_changed_is_said_with_what_changed(history):
    found = history(
        run_of(1, [one(right(A), right(B))]),
        run_of(2, [one(make.wrong(A), right(B))], versions={"scipy": "1.18.0"}),
        run_of(3, [one(make.wrong(A), right(B))], versions={"scipy": "1.18.0"}),
    )
    (series,) = found.series
    (change,) = series.changes
    assert (change.before.began_at[:10], change.after.began_at[:10]) == (day(1), day(2))
    assert [(each.patch, each.before, each.after) for each in change.verdicts] == [
        (A, "right", "wrong")
    ]
    assert words.said(change.shifts) == "scipy 1.17.1 → 1.18.0"
    assert [words.said(each) if each else "" for each in series.shifts] == [
        "",
        "scipy 1.17.1 → 1.18.0",
        "",
    ]


def test_an_interrupted_run_hides_no_change(history):
    """What it did not fit is compared with the run before it."""
    cancelled = make.broken(A, verdict="cancelled", status="cancelled", outcome="error")
    found = history(
        run_of(1, [one(right(A), right(B))]),
        run_of(2, [one(cancelled, right(B))], interrupted=True),
        run_of(3, [one(make.wrong(A), right(B))]),
    )
    (series,) = found.series
    (change,) = series.changes
    assert (change.before.began_at[:10], change.after.began_at[:10]) == (day(1), day(3))
    assert words.verdicts(series.points[1]) == "1 cancelled, 1 right (interrupted)"


def test_a_run_that_was_interrupted_is_not_called_right(history):
    found = history(run_of(1, [one(right())]), run_of(2, [one(right())], interrupted=True))
    assert words.state(found).name == "INCOMPLETE"


def test_a_run_of_some_patches_hides_no_change(history):
    found = history(
        run_of(1, [one(right(A), right(B))]),
        run_of(2, [one(right(B))]),
        run_of(3, [one(make.wrong(A), right(B))]),
    )
    (change,) = found.series[0].changes
    assert change.before.began_at[:10] == day(1)


def test_values_that_moved_under_the_same_verdict_are_said(history):
    far, near = right(A), right(B)
    far["CLs"] = [1.01 * value for value in far["CLs"]]
    near["CLs"] = [(1 + 1e-5) * value for value in near["CLs"]]
    found = history(run_of(1, [one(right(A), right(B))]), run_of(2, [one(far, near)]))
    (change,) = found.series[0].changes
    assert change.verdicts == ()
    assert [each.patch for each in change.moved] == [A]
    assert words.changed(found.series[0]).startswith("1 under the same verdict moved")


def test_a_version_that_a_run_does_not_tell_is_that_of_the_run_before(history):
    found = history(
        run_of(1, [one(right())], versions={"pyhf": "0.7.5"}),
        run_of(2, [one(make.broken(A))], versions={"pyhf": "0.7.6"}),  # no worker told it
        run_of(3, [one(right())], versions={"pyhf": "0.7.6"}),
    )
    shifts = found.series[0].shifts
    assert [[str(each) for each in those] for those in shifts] == [[], [], ["pyhf 0.7.5 → 0.7.6"]]


def test_another_background_and_other_references_are_changes(history):
    made = {**make.analysis()["reference"], "date": "2026-11-02"}
    found = history(
        run_of(1, [one(right())]), run_of(2, [one(right(), digest="1" * 64, reference=made)])
    )
    assert [each.name for each in found.series[0].shifts[1]] == ["background", "references"]


# --- times ----------------------------------------------------------------------------------------

OLD, NEW = {"pyhf": "0.7.5"}, {"pyhf": "0.7.6"}
FAST, SLOW = (40.0, 41.0, 40.5), (56.0, 57.0, 56.5)


def steps(found):
    (series,) = found.series
    return [words.step(each).partition(":")[0] for each in series.pace.steps]


def test_slower_is_said_with_its_versions_and_its_trials(history):
    found = history(timed(1, FAST, OLD), timed(2, FAST, OLD), timed(3, SLOW, NEW))
    assert steps(found) == ["slower by 1.40 x since 2026-11-03 (pyhf 0.7.5 → 0.7.6)"]
    assert words.pace(found.series[0])[0].endswith(
        "40.5 ± 0.5 s became 56.5 ± 0.5 s on 2 workers (Some CPU), 3 and 3 trials"
    )
    assert found.series[0].pace.scatter == 1.0


def test_faster_is_said_as_well(history):
    assert steps(history(timed(1, SLOW, OLD), timed(2, FAST, NEW))) == [
        "faster by 1.40 x since 2026-11-02 (pyhf 0.7.5 → 0.7.6)"
    ]


@pytest.mark.parametrize(
    "after",
    [
        timed(9, (56.0,), NEW),  # no spread
        timed(9, (30.0, 90.0), NEW),  # within it
        timed(9, SLOW, OLD),  # nothing changed
        timed(9, SLOW, NEW, cpu="Other CPU"),
        timed(9, SLOW, NEW, workers=1),
        timed(9, SLOW, NEW, lost={"block lost": 2}),
        run_of(9, [one(right(A), right(B), walls=SLOW)], versions=NEW),
        run_of(9, [one(right(B), walls=SLOW)], versions=NEW),
    ],
    ids=["one trial", "spread", "same", "cpu", "workers", "lost", "more fits", "other fits"],
)
def test_slower_is_not_said_where_that_is_not_shown(history, after):
    found = history(timed(1, FAST, OLD), after)
    assert steps(found) == []


def test_slower_is_not_said_within_what_nothing_changes_by(history):
    """A machine that differs by 1.4 x from night to night says nothing of a version."""
    found = history(timed(1, FAST, OLD), timed(2, SLOW, OLD), timed(3, FAST, NEW))
    assert steps(found) == []
    assert (
        "with nothing changed it differs by up to 1.40 x (1 pair of runs)"
        in words.pace(found.series[0])[0]
    )


def series_of(runs):
    """The series of some runs, without any files."""
    found = None
    for document in runs:
        (analysis,) = document["analyses"]
        found = found or Series(key_of(analysis))
        found.add(point_of(document, analysis, Path("report.json")), analysis)
    return found


def test_many_changes_are_no_reason_to_find_one_that_is_slower():
    """Two standard errors alone find one in 35 of these 40 series, of which none has any."""
    said = 0
    for seed in range(40):
        random = Random(seed)
        nights = (
            timed(night, [random.gauss(40, 1) for _trial in range(3)], {"pyhf": f"0.8.dev{night}"})
            for night in range(1, 21)
        )
        said += bool(series_of(nights).pace.steps)
    assert said <= 2


def test_a_commit_that_leaves_the_code_of_the_fits_is_no_change_of_times(history):
    same = [timed(night, FAST, package=f"0.1.dev{night}") for night in (1, 2)]
    other = timed(3, SLOW, package="0.1.dev3", worker_sha256="f" * 64)
    found = history(*same, other)
    (series,) = found.series
    assert [bool(each) for each in series.shifts] == [False, True, True]
    assert series.pace.quiet == 1
    assert steps(found) == [
        "slower by 1.40 x since 2026-11-03 (code of the fits 0123456789ab → ffffffffffff)"
    ]


def test_times_of_other_machines_in_between_do_not_matter(history):
    found = history(
        timed(1, FAST, OLD), timed(2, (5.0, 5.1), OLD, cpu="Other"), timed(3, SLOW, NEW)
    )
    assert steps(found) == ["slower by 1.40 x since 2026-11-03 (pyhf 0.7.5 → 0.7.6)"]


def test_other_hosts_are_said(history):
    found = history(timed(1, FAST, OLD), timed(2, SLOW, NEW, host="node2"))
    assert words.step(found.series[0].pace.steps[0]).endswith("; not on the same hosts")


def test_changes_with_one_trial_are_counted_and_not_judged(history):
    found = history(timed(1, (40.0,), OLD), timed(2, (80.0,), NEW))
    (line,) = words.pace(found.series[0])
    assert "the spread is unknown, so no conclusion; use --faas-trials" in line


@given(
    st.lists(
        st.tuples(
            st.lists(st.floats(10, 20), min_size=1, max_size=3),
            st.sampled_from(["0.7.5", "0.7.6"]),
            st.sampled_from(["one", "other"]),
        ),
        max_size=8,
    )
)
def test_a_step_is_always_beyond_the_spread_and_the_scatter(runs):
    series = series_of(
        timed(number + 1, walls, {"pyhf": version}, cpu=cpu)
        for number, (walls, version, cpu) in enumerate(runs)
    )
    for step in series.pace.steps if series else ():
        ratio = step.times.ratio
        assert max(ratio, 1 / ratio) > (series.pace.scatter or 1)
        assert step.times.beyond_spread
        assert step.shifts
        assert step.before.conditions == step.after.conditions
        assert step.before.began_at < step.after.began_at


# --- bad input ------------------------------------------------------------------------------------


def test_what_cannot_be_used_is_named_and_the_rest_goes_on(tmp_path):
    good = run_of(1, [one(right())])
    documents.write(good, tmp_path / "a")
    documents.write(good, tmp_path / "copy")
    documents.write(run_of(2, []), tmp_path / "empty")
    for name, content in {
        "broken": '{"run": ',
        "later": '{"schema_version": 9}',
        "other": "[1, 2]",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / documents.FILE).write_text(content)
    found = read_history(tmp_path)
    assert found.runs == 1
    reasons = {each.path.parent.name: each.reason for each in found.skipped}
    assert reasons.keys() == {"copy", "empty", "broken", "later", "other"}
    assert reasons["copy"] == "is the same run as a/report.json"
    assert reasons["empty"] == "has no analysis"
    assert reasons["later"] == (
        "has version 9, this package reads only up to 3: upgrade pytest-pyhf-faas"
    )
    assert reasons["broken"].startswith("is not JSON (")
    assert reasons["other"].startswith("is not valid: ")
    assert "5 files are not included:" in text(found, 200)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into each directory")
def test_a_directory_that_may_not_be_looked_into_is_named(tmp_path):
    documents.write(run_of(1, [one(right())]), tmp_path / "a")
    (tmp_path / "secret").mkdir(mode=0)
    (skipped,) = read_history(tmp_path).skipped
    assert skipped.reason.startswith("cannot be read: ")


def test_a_report_that_vanishes_while_it_is_read_is_named(tmp_path):
    for number in (1, 2):
        documents.write(run_of(number, [one(right())]), tmp_path / str(number))

    def progress(paths):
        for place, path in enumerate(paths):
            if place == 1 and progress.again:
                path.unlink()
            yield path
        progress.again = True

    progress.again = False
    found = read_history(tmp_path, progress)
    assert found.runs == 1
    assert found.skipped[0].reason.startswith("cannot be read: ")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (None, "No such file or directory"),
        ("file", "Not a directory"),
        ("directory", "there is no report.json in "),
        ("broken", "none of 1 file can be used. report.json is not JSON"),
    ],
)
def test_nothing_to_make_a_history_of(tmp_path, made, said):
    place = tmp_path / "runs"
    if made == "file":
        place.touch()
    elif made is not None:
        place.mkdir()
    if made == "broken":
        (place / documents.FILE).write_text("{")
    with pytest.raises(ReportError) as raised:
        read_history(place)
    assert said in str(raised.value)


# --- pytest-benchmark -----------------------------------------------------------------------------


def stored(tmp_path, number, walls=(40.0, 41.0), run=None, **changes):
    """Write what pytest-benchmark stores of a measured wall time."""
    trials = [make.trial(fits=1, wall_s=wall) for wall in walls]
    told = {"analysis": "wino", "endpoint": "local:2", "patches": 1, "trials": trials, **changes}
    data = {
        "datetime": f"{day(number)}T02:30:00.5+00:00",
        "benchmarks": [{"extra_info": told}, {"extra_info": {}}],
        **({"pyhf_faas": {"run": run}} if run else {}),
    }
    path = tmp_path / ".benchmarks" / "Linux-CPython" / f"{number:04}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def test_a_run_without_a_report_has_the_times_that_pytest_benchmark_stored(tmp_path):
    workers = {"environments": [make.environment(cpu="Some CPU")], "fit_setup": "numpy+scipy"}
    documents.write(timed(1, FAST, OLD), tmp_path / "a")
    stored(tmp_path, 2, SLOW, **workers)
    found = read_history(tmp_path)
    (series,) = found.series
    before, after = series.points
    assert (before.verdicts, after.verdicts) == ({"right": 1}, None)
    assert after.wall_time.mean_s == pytest.approx(56.5)
    assert words.link(after, tmp_path) is None
    assert words.verdicts(after) == "no report"
    assert series.judged is before


def test_a_run_with_a_report_is_not_counted_twice(tmp_path):
    run = timed(1, FAST)
    documents.write(run, tmp_path / "a")
    stored(tmp_path, 1, run=run["run"]["id"], fit_setup="numpy+scipy")
    assert len(read_history(tmp_path).series[0].points) == 1


def test_what_earlier_versions_stored_has_no_fit_setup(tmp_path):
    stored(tmp_path, 1)
    (series,) = read_history(tmp_path).series
    assert series.key.title == "wino on local:2, fit setup not known"
    assert words.state(read_history(tmp_path)).name == "INCOMPLETE"
    assert words.headline(read_history(tmp_path)).endswith("no report says whether they are right")


def test_what_others_stored_is_none_of_ours_and_what_is_cut_off_is_named(tmp_path):
    documents.write(run_of(1, [one(right())]), tmp_path / "a")
    path = stored(tmp_path, 1)
    path.write_text('{"benchmarks": [{"extra_info": {}}], "datetime": "x"}')
    path.with_name("cut.json").write_text('{"benchmarks": [')
    path.with_name("list.json").write_text("[]")
    path.with_name("half.json").write_text(
        '{"benchmarks": [{"extra_info": {"trials": [], "patches": 1}}]}'
    )
    found = read_history(tmp_path)
    assert found.runs == 1
    assert {each.path.name for each in found.skipped} == {"cut.json", "list.json", "half.json"}
    assert all("it is truncated, or another kind of file" in each.reason for each in found.skipped)


# --- page and tables ------------------------------------------------------------------------------


def published(found, directory):
    publish_history(found, directory)
    return Page((directory / "history.html").read_text(encoding="utf-8"))


def test_each_point_leads_to_its_report(tmp_path):
    """From wherever the page is, to the page of the run, or to its JSON where it has none."""
    for number in (1, 2, 3):
        directory = tmp_path / "runs" / f"run #{number} ü"
        documents.write(run_of(number, [one(right(), walls=FAST)]), directory)
        if number == 2:
            (directory / "report.html").touch()
    output = tmp_path / "pages" / "deep"
    shown = published(read_history(tmp_path / "runs"), output)
    in_plot = [each["xlink:href"] for each in shown.all("a") if "xlink:href" in each]
    in_table = [
        each["href"] for each in shown.all("a") if not each.get("href", "#").startswith("#")
    ]
    names = {f"run #{n} ü/report.{'html' if n == 2 else 'json'}" for n in (1, 2, 3)}
    for links in (in_plot, in_table):
        targets = {(output / unquote(link)).resolve() for link in links}
        assert {f"{each.parent.name}/{each.name}" for each in targets} == names
        assert all(each.is_file() for each in targets)
    assert len(in_plot) == 3 * 3  # verdicts, wall time, median fit
    assert day(2) in shown.text


def test_the_page_executes_nothing_and_escapes_all(tmp_path, history):
    broken = make.wrong(HOSTILE)
    runs = [
        run_of(1, [one(make.hypothesis(HOSTILE), pallet=HOSTILE, endpoint=HOSTILE)]),
        run_of(
            2,
            [one(broken, pallet=HOSTILE, endpoint=HOSTILE)],
            versions={"pyhf": HOSTILE},
            cpu=HOSTILE,
            package=HOSTILE,
        ),
    ]
    shown = published(history(*runs), tmp_path)
    assert shown.wrong == []
    assert not {"script", "link", "iframe", "object", "embed", "form", "base", "img"} & {
        tag for tag, _attributes in shown.elements
    }
    assert not [name for _tag, each in shown.elements for name in each if name.startswith("on")]
    assert "<script>alert(1)</script>" in shown.text


def test_two_plots_of_a_page_share_no_names(tmp_path, history):
    analyses = [one(right(), walls=FAST), one(right(), walls=FAST, endpoint="local:4")]
    found = history(run_of(1, analyses), run_of(2, analyses, versions={"pyhf": "0.8"}))
    source = (published(found, tmp_path), (tmp_path / "history.html").read_text())[1]
    names = re.findall(r'\bid="([^"]+)"', source)
    assert source.count("<svg") == 2
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:xlink:href="|url\()#([\w-]+)', source)) <= set(names)


def test_a_page_of_many_series_and_runs_has_a_bearable_size(tmp_path, monkeypatch, history):
    monkeypatch.setattr(page, "MOST_PLOTS", 1)
    monkeypatch.setattr(page, "ROW_BYTES", 20_000)
    monkeypatch.setattr(page, "CHANGE_BYTES", 10_000)
    monkeypatch.setattr(plot, "MOST_RUNS", 3)
    patches = [f"wino_{number}" for number in range(20)]
    found = history(
        *(
            run_of(
                number,
                [
                    one(
                        *map(make.wrong if number % 2 else right, patches), pallet=f"pallet_{which}"
                    )
                    for which in range(4)
                ],
            )
            for number in range(1, 9)
        )
    )
    shown = published(found, tmp_path)
    source = (tmp_path / "history.html").read_text()
    assert source.count("<svg") == 1
    assert len(re.sub("(?s)<svg.*?</svg>", "", source)) < 60_000
    assert "(the last 3 of 8)" in shown.text
    assert re.search(r"The last \d+ of 7: history.json has all", shown.text)
    assert "20: wino_0, wino_1" in shown.text
    told = json.loads((tmp_path / "history.json").read_text())
    assert sum(len(each["verdicts"]) for each in told["series"][0]["changes"]) == 140


def test_the_tables_have_all_points(tmp_path, history):
    found = history(
        timed(1, FAST, OLD), run_of(2, [one(make.wrong(A))], versions=NEW, interrupted=True)
    )
    published(found, tmp_path)
    with (tmp_path / "history.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["pallet"], first["endpoint"], first["fit_setup"]) == (
        "wino",
        "local:2",
        "numpy+scipy",
    )
    assert (first["right"], first["wrong"], second["wrong"]) == ("1", "0", "1")
    assert float(first["wall_s"]) == pytest.approx(40.5)
    assert (first["trials"], second["trials"]) == ("3", "")
    assert (first["pyhf"], second["pyhf"], second["interrupted"]) == ("0.7.5", "0.7.6", "True")
    assert (tmp_path / first["report"]).is_file()
    told = json.loads((tmp_path / "history.json").read_text())
    (series,) = told["series"]
    assert [point["verdicts"] for point in series["points"]] == [{"right": 1}, {"wrong": 1}]
    assert series["points"][1]["shifts"] == [{"name": "pyhf", "before": "0.7.5", "after": "0.7.6"}]
    (change,) = series["changes"]
    assert (change["before"], change["after"]) == tuple(each["run"] for each in series["points"])
    assert [each["after"] for each in change["verdicts"]] == ["wrong"]


def test_the_docs_name_every_field(tmp_path, history):
    published(
        history(timed(1, FAST, OLD), run_of(2, [one(make.wrong(A), walls=SLOW)], versions=NEW)),
        tmp_path,
    )
    told = json.loads((tmp_path / "history.json").read_text())
    (series,) = told["series"]
    places = [told, series, series["wall_time"], series["wall_time"]["steps"][0]]
    places += [
        series["points"][0],
        series["points"][0]["wall_time"],
        series["points"][1]["shifts"][0],
    ]
    places += [series["changes"][0], series["changes"][0]["verdicts"][0]]
    docs = (REPOSITORY / "docs" / "how-to" / "history.md").read_text(encoding="utf-8")
    docs = docs.partition("## The JSON")[2]
    names = {name for place in places for name in place}
    assert {name for name in names if f"`{name}`" not in docs} == set()


def test_a_single_run_has_no_plot_and_no_change(tmp_path, history):
    shown = published(history(run_of(1, [one(right())])), tmp_path)
    assert shown.all("svg") == []
    assert "What changed" not in shown.text
    assert "1 run of 1 analysis, 2026-11-01: the last one is right" in shown.text


def test_times_over_decades_and_infinite_limits_are_drawn(tmp_path, history):
    infinite = make.limited(limits={"values": [math.inf] * 6})
    infinite["limits"] = {**infinite["limits"], "values": ["inf"] * 6, "reference": ["inf"] * 6}
    found = history(
        run_of(1, [one(right(), walls=(0.01, 0.02)), make.limits([infinite])]),
        run_of(2, [one(right(), walls=(900.0, 910.0)), make.limits([infinite])]),
    )
    assert len(published(found, tmp_path).all("svg")) == 2
    assert all(each.changes == [] for each in found.series)


def test_where_nothing_can_be_written(tmp_path, history):
    found = history(run_of(1, [one(right())]))
    (tmp_path / "taken").touch()
    with pytest.raises(ReportError, match="Free some space, or give --output another directory"):
        publish_history(found, tmp_path / "taken")


def test_without_what_draws_the_page_the_tables_are_written(tmp_path, history, monkeypatch):
    from pytest_pyhf_faas.report import publish

    found = history(run_of(1, [one(right())]))
    monkeypatch.setattr(publish, "_PACKAGES", {"jinja2": "no_such_module"})
    with pytest.raises(ReportError, match=r"history.json and history.csv are written"):
        publish_history(found, tmp_path / "out")
    assert (tmp_path / "out" / "history.csv").is_file()
