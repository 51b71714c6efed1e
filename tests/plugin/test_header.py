"""What is said of a run before its first test."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.plugin.header import in_scaling, needed
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
