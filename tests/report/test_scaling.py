"""What the terminal shows of a scaling measurement; its figures: test_plots."""

from __future__ import annotations

from pytest_pyhf_faas.report.scaling import scaling_lines
from tests.helpers.report_documents import scaling, trial

REFUSED = {"count": 8, "reason": "8 workers asked for, no more than 4 seen\nlook at the queue"}


def test_points_are_a_table_and_refused_ones_have_their_reasons():
    assert scaling_lines(scaling(refused=[REFUSED]), 80) == [
        "wino on local, numpy+scipy, by workers:",
        "  workers  wall time [s]  of which start [s]  speed-up",
        "        1           75.0                 3.0      1.00",
        "        2           39.0                 3.0      1.92",
        "        4           21.0                 3.0      3.57",
        "  with 4 workers: fit 74%, start-up 14%, build 7%, idle 4%",
        "  8 workers: not measured",
        "    8 workers asked for, no more than 4 seen",
        "    look at the queue",
    ]


def test_where_all_are_refused_there_is_no_table():
    one = {"count": 1, "reason": "no block"}
    assert scaling_lines(scaling(points=[], refused=[one], unit="blocks"), 80)[1:] == [
        "  1 block: not measured",
        "    no block",
    ]


def test_more_workers_than_fits_are_reported():
    few = {"count": 2, "trials": [trial(fits=3, workers=4)]}
    lines = scaling_lines(scaling(points=[few], unit="blocks"), 80)
    assert lines[-1] == "  2 blocks: 3 fits for 4 workers, so some had none"


def test_a_time_of_nothing_is_reported_nothing():
    lines = scaling_lines(scaling(points=[{"count": 1, "trials": [nothing()]}]), 80)
    assert lines[-1] == "        1            0.0                 0.0       nan"


def nothing():
    parts = ("startup", "queue", "transfer", "unpack", "build", "overhead", "idle", "unattributed")
    return {**trial(), "wall_s": 0.0, "fit_s": 0.0, **{f"{part}_s": 0.0 for part in parts}}


def test_it_fits_a_narrow_terminal():
    assert all(len(line) <= 40 for line in scaling_lines(scaling(), 40))
