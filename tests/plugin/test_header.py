"""What is said of a run before its first test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.plugin.header import in_scaling, needed, too_short
from pytest_pyhf_faas.plugin.plan import Need

USUAL = HypotestConfig()
SUITE = ("--pyargs", "pytest_pyhf_faas.suite.test_analysis", "--collect-only", "-q")


@pytest.mark.parametrize(
    ("hypotheses", "fits", "trials", "said"),
    [
        ("a", "a", 1, "1 fit"),
        ("abc", "abc", 1, "3 fits"),
        ("abc", "abc", 2, "3 fits in each of 2 trials, 6 in all,"),
        ("abc", "ab", 1, "3 hypotheses, 2 fits (1 has the same content as another)"),
        (
            "abcd",
            "ab",
            3,
            (
                "4 hypotheses, 2 fits (2 have the same content as others) in each of 3 trials, "
                "6 in all,"
            ),
        ),
    ],
)
def test_it_counts_hypotheses_fits_and_trials(hypotheses, fits, trials, said):
    need = Need(tuple(map(task, hypotheses)), tuple(map(task, fits)))
    assert needed(need, trials) == said


def test_it_says_what_is_calculated():
    limit = HypotestConfig(quantity="limit")
    toys = HypotestConfig(quantity="toys", toys=2000)
    assert needed(Need((task("a", limit),), (task("a", limit),)), 1) == "1 upper limit"
    parts = tuple(task(part, toys) for part in "wxyz")
    assert needed(Need(parts[:1], parts), 1) == "2,000 + 2,000 toys of 1 hypothesis"


def task(patch, config=USUAL):
    return SimpleNamespace(patch=patch, config=config)


@pytest.mark.parametrize(
    ("trials", "counts", "endpoint", "said"),
    [
        (1, [1], "local", "13 fits on local with 1 worker"),
        (2, [2], "parsl:a.py", "13 fits in each of 2 trials on parsl:a.py with 2 blocks"),
        (
            2,
            [1, 2, 4],
            "local",
            (
                "13 fits in each of 2 trials on local with each of 1, 2, 4 workers, one after the "
                "other, 78 in all"
            ),
        ),
    ],
)
def test_it_counts_the_fits_of_a_scaling_measurement(trials, counts, endpoint, said):
    assert in_scaling(13, trials, counts, endpoint) == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--faas-trials=2"], "3 fits in each of 2 trials, 6 in all, on local (2 workers)"),
        (["--faas-trials=2", "-k", "test_cls"], "3 fits on local (2 workers)"),
        (
            ["--faas-trials=2", "--faas-resume"],
            "at most 3 fits on local (2 workers), numpy+scipy: --faas-resume takes over earlier",
        ),
    ],
    ids=["measured", "not measured", "resumed"],
)
def test_a_run_says_how_many_fits_it_does(project, words, said):
    project.pallet(3)
    result = project.run(*SUITE, *words, suite=False)
    assert f"pyhf-faas: tiny: {said}" in " ".join(result.stdout.str().split())


def test_what_is_skipped_is_not_announced(project):
    project.pallet(1)
    words = ("--faas-scaling=1,2", "--faas-resume", "--pyargs", "pytest_pyhf_faas.suite")
    assert "with each of" not in project.run(*words, "--collect-only", suite=False).stdout.str()


LONGER = "1Lbb: warning: a fit took 12 min 10 s by its reference, longer than {}, 10 min 00 s"
SET_IT = ": set a longer walltime in its configuration, and make sure that the queue allows it"
LATER = (
    "parsl:a.py: warning: --faas-timeout, 2 h 00 min, is longer than the walltime of a block, "
    "10 min 00 s, which ends fits before"
)


@pytest.mark.parametrize(
    ("longest_s", "timeout_s", "walltime_s", "said"),
    [
        (None, None, None, ()),
        (600.0, None, None, ()),
        (600.0, 600.0, 600.0, ()),
        (None, 60.0, 600.0, ()),
        (730.0, None, 600.0, (LONGER.format("the walltime of a block of parsl:a.py") + SET_IT,)),
        (730.0, 600.0, None, (LONGER.format("--faas-timeout"),)),
        (None, 7200.0, 600.0, (LATER,)),
        (None, 3600.0, 600.0, ()),
        (
            730.0,
            700.0,
            600.0,
            (
                LONGER.format("the walltime of a block of parsl:a.py") + SET_IT,
                LATER.replace("2 h 00 min", "11 min 40 s"),
                LONGER.format("--faas-timeout").replace("10 min 00 s", "11 min 40 s"),
            ),
        ),
    ],
)
def test_limits_that_are_too_short_are_reported_before(longest_s, timeout_s, walltime_s, said):
    assert tuple(too_short("1Lbb", "parsl:a.py", longest_s, timeout_s, walltime_s)) == said


def test_a_time_limit_that_is_shorter_than_a_fit_of_a_reference_is_reported_at_the_start(project):
    project.pallet(3)
    project.change_reference("sig_100_50", checked={"numpy+scipy": {"fit_s": 90.0}})
    shown = " ".join(project.run(*SUITE, "--faas-timeout=60", suite=False).stdout.str().split())
    line = "pyhf-faas: tiny: warning: a fit took 1 min 30 s by its reference, longer"
    assert shown.count(line) == 1
    assert "warning" not in project.run(*SUITE, "--faas-timeout=120", suite=False).stdout.str()
