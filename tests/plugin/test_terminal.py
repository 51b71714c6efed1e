"""What the terminal shows of measured wall times."""

from __future__ import annotations

import pytest

from pytest_pyhf_faas.plugin.terminal import wall_time_table
from pytest_pyhf_faas.report.wall_times import wall_time
from tests.helpers.report_documents import trial


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        (
            [trial(startup_s=16.8)],
            "wino: the wall time is 40.0 s, of which start of the workers 8.4 s",
        ),
        (
            [trial(startup_s=16.8), trial(wall_s=30.0, startup_s=0.0)],
            "wino: the wall time of the first trial is 40.0 s, of which start of the workers 8.4 s",
        ),
        ([trial(startup_s=0.0)], None),
    ],
    ids=["one trial", "two trials", "already there"],
)
def test_it_says_how_much_of_a_wall_time_is_the_start_of_the_workers(trials, said):
    lines = wall_time_table([wall_time(trials, "wino", "local:2")], 100)
    assert [line for line in lines if "of which start" in line] == ([said] if said else [])


def test_a_wall_time_in_which_something_was_lost_is_marked():
    sound, unsound = trial(), trial() | {"lost": {"block lost": 2}}
    for trials, marks in (([sound], 0), ([unsound], 1), ([unsound, sound], 1)):
        lines = wall_time_table([wall_time(trials, "wino", "local:2")], 120)
        assert sum("(block lost)" in line for line in lines) == marks
