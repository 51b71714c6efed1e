"""Each option in its forms: help, command line, ini, marker, documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import get_args

import pytest

from pytest_pyhf_faas.campaign.tasks import METHODS
from pytest_pyhf_faas.plugin import options
from pytest_pyhf_faas.plugin.markers import HYPOTEST_KEYWORDS
from pytest_pyhf_faas.plugin.options import BY_NAME, OPTIONS
from pytest_pyhf_faas.plugin.settings import Items, UpdateMode
from pytest_pyhf_faas.references.criteria import Minimum
from pytest_pyhf_faas.references.places import NLL_TOLERANCE
from tests.helpers.fakes import canned
from tests.helpers.paths import REPOSITORY

DOCUMENTATION = REPOSITORY / "docs" / "reference" / "options.md"

#: What stands in the ini file and on the command line, and how each of the two is recognised.
INI = """\
[pytest]
faas_pallet =
    tiny
faas_patch =
    sig_100_*
    200,0
faas_endpoints =
    farm = local:7
    desk = local:3
faas_endpoint =
    farm
faas_backend = jax
faas_optimizer = minuit
faas_method = certified
faas_queue_timeout = 60
faas_blocks = 3
faas_workers = 2
faas_endpoint_config = {"max_blocks": 5}
faas_quantity = cls, limit
faas_toys = 300
faas_published = table.csv
faas_trials = 2
faas_timeout = 11
faas_retries = 0
faas_require =
    pyhf>=0.7
    python >= 3.8
faas_reference_dir = from_ini
faas_rtol = 0.25
faas_atol = 0.125
faas_nll_tolerance = 0.75
faas_minimum = lowest
faas_report = a_report
faas_plane = m1, m2
faas_items = hypothesis
faas_scaling = 1,3
"""
INI_KEYS = set(re.findall(r"^(\w+) =", INI, re.MULTILINE)) - {"farm", "desk"}


@pytest.fixture(scope="module")
def help_text(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path_factory.mktemp("help"),
        env={**os.environ, "COLUMNS": "400"},
    )
    return done.stdout


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_help_shows_each_option_with_its_default(help_text, option):
    begin = re.compile(rf"  {option.flags[0]}(?![\w-])")
    (line,) = [line for line in help_text.splitlines() if begin.match(line)]
    for flag in option.flags:
        assert flag in line
    after = help_text.partition(line)[2]
    told = " ".join(f"{line}\n{after}".split())
    assert f"(default: {option.shown_default})" in told
    assert " ".join(option.help.split())[:60] in told


@pytest.mark.parametrize("option", [one for one in OPTIONS if one.ini], ids=lambda one: one.name)
def test_help_shows_each_ini_key(help_text, option):
    assert re.search(rf"^\s+{option.ini} \((linelist|string)\):", help_text, re.MULTILINE)


def documented():
    """Return the sections of docs/reference/options.md by their heading."""
    text = DOCUMENTATION.read_text(encoding="utf-8")
    headings = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(headings[::2], headings[1::2], strict=True))


def forms(option):
    """Return the four lines that document an option."""
    what = "{" + ",".join(option.choices) + "}" if option.choices else option.metavar
    lines = " / ".join(f"`{flag} {what}`" if what else f"`{flag}`" for flag in option.flags)
    return [
        f"- marker: `@pytest.mark.{option.marker}`" if option.marker else "- marker: none",
        f"- command line: {lines}",
        f"- ini: `{option.ini}`" if option.ini else "- ini: none",
        f"- default: {option.shown_default}",
    ]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_option_is_documented_in_four_lines(option):
    section = documented()[f"`{option.flags[0]}`"].replace("- default: `", "- default: ")
    lines = [line.rstrip("`") if "- default" in line else line for line in section.splitlines()]
    assert [line for line in lines if line.startswith("- ")] == forms(option)
    assert section.strip().partition("\n\n")[0].endswith(".")  # it begins with sentences


def test_the_documentation_knows_no_other_options():
    headings = [heading.strip("`") for heading in documented() if heading.startswith("`--")]
    assert headings == [option.flags[0] for option in OPTIONS]


def test_the_keywords_of_the_marker_are_documented():
    own = [option.marker for option in OPTIONS if (option.marker or "").startswith("hypotest(")]
    assert len(own) == 9
    for keyword in (*HYPOTEST_KEYWORDS, *(form[len("hypotest(") : -len("=...)")] for form in own)):
        assert f"`{keyword}`" in documented()["Markers"]


def test_what_stands_twice_is_the_same():
    """The plugin does not import the domain to declare its options."""
    assert options.METHODS == METHODS
    assert get_args(Minimum) == options.MINIMA
    assert get_args(UpdateMode) == options.UPDATE_MODES
    assert get_args(Items) == options.ITEMS
    assert float(BY_NAME["nll_tolerance"].default) == NLL_TOLERANCE


def test_this_file_knows_each_ini_key():
    known = {option.ini for option in OPTIONS if option.ini} | {"faas_endpoints"}
    assert known == INI_KEYS


def settings(project, *args):
    """Return the settings of a run as text, and what it was fitted with."""
    project.own_test(
        """\
def test_settings(request, hypotest_result):
    from pytest_pyhf_faas.plugin.context import get_context
    from pytest_pyhf_faas.plugin.markers import hypotest_config

    settings = get_context(request.config).settings
    marker = request.node.get_closest_marker("hypotest")
    _config, criteria = hypotest_config(settings, marker)
    print()
    print("trials", settings.trials, "retries", settings.retries)
    print("criteria", criteria.rtol, criteria.atol, criteria.nll_tolerance, criteria.minimum)
    print("references", settings.reference_dir)
    print("report", settings.report, settings.plane, settings.scaling)
"""
    )
    result = project.run("-s", *args, suite=False, pallet=None)
    assert result.ret == 0, result.stdout.str()
    # Where starts were searched for, nobody asked for these values.
    asked = [how for how in project.how_fitted() if how["effort"] == "brief"]
    (how,) = {tuple(sorted(how.items())) for how in asked}
    return result.stdout.str(), dict(how)


def test_every_ini_key_works(project):
    project.pallet(6)
    project.pytester.makefile(".ini", pytest=INI)
    shown, how = settings(project)
    assert set(project.fits()) == set(project.fits_at("local:7"))
    assert {"sig_100_0", "sig_100_50", "sig_200_0"} <= set(project.fits())
    assert (how["method"], how["timeout_s"]) == ("certified", 11)
    assert "trials 2 retries 0\ncriteria 0.25 0.125 0.75 lowest\n" in shown
    assert f"references {project.path / 'from_ini'}" in shown
    assert f"report {project.path / 'a_report'} ('m1', 'm2') (1, 3)" in shown
    # With backend and optimizer, which have no part in what is certified.
    _shown, how = settings(project, "--faas-method=hypotest")
    assert project.fits_at("local:7") == ["sig_100_0", "sig_100_50", "sig_200_0"]
    assert len(project.fits()) == 3
    assert (how["backend"], how["optimizer"], how["timeout_s"]) == ("jax", "minuit", 11)


def test_the_command_line_comes_before_the_ini_file(project):
    project.pallet(6)
    project.pallet(2, "other")
    project.pytester.makefile(".ini", pytest=INI)
    shown, how = settings(
        project,
        *("--funcx-endpoint=desk", "--faas-pallet=other", "--faas-patch=sig_100_50"),
        *("--faas-backend=numpy", "--faas-optimizer=scipy", "--faas-method=hypotest"),
        "--faas-trials=5",
        *("--faas-timeout=13", "--faas-retries=4", "--faas-reference-dir=from_line"),
        *("--faas-rtol=0.5", "--faas-atol=0", "--faas-nll-tolerance=2", "--faas-minimum=any"),
        *("--faas-report=another", "--faas-plane=m2,m1", "--faas-scaling=2"),
    )
    assert f"report {project.path / 'another'} ('m2', 'm1') (2,)" in shown
    assert project.fits_at("local:3") == project.fits() == ["sig_100_50"]
    assert (how["backend"], how["optimizer"], how["timeout_s"]) == ("numpy", "scipy", 13)
    assert how["method"] == "hypotest"
    assert "trials 5 retries 4\ncriteria 0.5 0.0 2.0 any\n" in shown
    assert f"references {project.path / 'from_line'}" in shown


def test_the_marker_comes_before_both(project):
    project.pallet(2)
    project.pytester.makefile(".ini", pytest=INI)
    project.own_test(
        """\
import pytest

@pytest.mark.pallet("tiny", patch="100,50")
@pytest.mark.hypotest(
    backend="pytorch", optimizer="scipy", method="hypotest", rtol=0.75, atol=0.0625, nll_tolerance=3
)
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    project.references()
    (project.path / "reference_results").rename(project.path / "from_ini")
    raised = {fit: value + 2.9 for fit, value in canned("sig_100_50")["twice_nll"].items()}
    project.plan(answers={"sig_100_50": {"twice_nll": raised}})
    result = project.run(
        *("--faas-backend=numpy", "--faas-optimizer=minuit", "--faas-patch=100,0"),
        *("--faas-rtol=1e-3", "--faas-atol=1e-3", "--faas-nll-tolerance=1e-3"),
        "--faas-pallet=nowhere",
        suite=False,
        pallet=None,
    )
    result.assert_outcomes(passed=1)
    assert project.fits() == ["sig_100_50"]
    (how,) = project.how_fitted()
    assert (how["backend"], how["optimizer"], how["method"]) == ("pytorch", "scipy", "hypotest")


@pytest.mark.parametrize("argument", [*HYPOTEST_KEYWORDS, "quantity"])
def test_every_keyword_of_the_marker_reaches_the_worker(project, argument):
    values = {
        "test_poi": 2.5,
        "test_stat": "q",
        "measurement": "meas",
        "normsys_interpcode": "code1",
        "histosys_interpcode": "code2",
        "quantity": "limit",
    }
    project.pallet(1)
    project.own_test(
        f"""\
import pytest

@pytest.mark.hypotest({argument}={values[argument]!r})
def test_cls(hypotest_result):
    pass
"""
    )
    project.run(suite=False).assert_outcomes(passed=1)
    (how,) = project.how_fitted()
    assert how[argument] == values[argument]


@pytest.mark.parametrize(
    ("options", "outcomes"),
    [
        ([], {"failed": 1}),
        (["--faas-rtol", "0.02"], {"passed": 1}),
        (["--faas-rtol", "0.005"], {"failed": 1}),
        (["--faas-atol", "0.5"], {"passed": 1}),
    ],
    ids=" ".join,
)
def test_tolerances_decide(project, options, outcomes):
    project.pallet(1)
    project.own_test()
    project.change_reference("sig_100_0", CLs_obs=canned("sig_100_0")["CLs_obs"] * 1.01)
    project.run(*options, suite=False).assert_outcomes(**outcomes)


@pytest.mark.parametrize(
    ("option", "outcomes"), [("0.4", {"failed": 1}), ("0.6", {"passed": 1})], ids=["less", "more"]
)
def test_how_far_above_a_minimum_is_an_option(project, option, outcomes):
    project.pallet(1)
    project.own_test()
    minimum = canned("sig_100_0")["twice_nll"]["background_fit_to_data"]
    twice_nll = {**canned("sig_100_0")["twice_nll"], "background_fit_to_data": minimum + 0.5}
    project.plan(answers={"sig_100_0": {"twice_nll": twice_nll}})
    result = project.run("--faas-nll-tolerance", option, suite=False)
    result.assert_outcomes(**outcomes)


@pytest.mark.parametrize(
    ("option", "outcomes"),
    [([], {"passed": 1}), (["lowest"], {"failed": 1}), (["nominal"], {"passed": 1})],
    ids=["any", "lowest", "nominal"],
)
def test_which_minima_are_right_is_an_option(project, option, outcomes):
    ambiguous(project)
    words = [f"--faas-minimum={word}" for word in option]
    result = project.run(*words, suite=False)
    result.assert_outcomes(**outcomes)
    if "failed" in outcomes:
        result.stdout.fnmatch_lines(
            [
                "tiny / sig_100_0: at the nominal minima, not at the lowest ones",
                "  verdict: all five fits are at the nominal minima *=lowest accepts only *",
                "  rerun:  pytest * --faas-minimum=lowest",
            ]
        )


def test_which_minima_are_right_is_a_keyword_of_the_marker(project):
    ambiguous(project)
    project.own_test(
        """\
import pytest

@pytest.mark.hypotest(minimum="lowest")
def test_lowest(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)

@pytest.mark.hypotest(minimum="any")
def test_any(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    result = project.run("--faas-minimum=nominal", suite=False)
    result.assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("where", ["ini", "marker", "line"])
def test_minima_that_are_not_known_are_a_usage_error(project, where):
    project.pallet(1)
    marker = '@pytest.mark.hypotest(minimum="highest")\n' if where == "marker" else ""
    project.own_test(f"import pytest\n\n{marker}def test_cls(hypotest_result):\n    pass\n")
    if where == "ini":
        project.pytester.makefile(".ini", pytest="[pytest]\nfaas_minimum = highest")
    words = ["--faas-minimum=highest"] if where == "line" else []
    result = project.run(*words, suite=False)
    assert result.ret == 4
    assert "highest" in project.text(result)
    assert "any" in project.text(result)
    assert project.fits() == []


def ambiguous(project):
    """Let a hypothesis have two sets of minima, and a run be at the nominal ones."""
    project.pallet(1)
    project.own_test()
    answer = canned("sig_100_0")
    nominal = {part: answer[part] for part in ("CLs_exp", "mu_hat")}
    raised = {**answer["twice_nll"], "fixed_poi_fit_to_data": 11.5}
    nominal |= {"CLs_obs": 0.0123, "twice_nll": raised, "differences": []}
    project.change_reference("sig_100_0", nominal=nominal)
    found = {"CLs_obs": 0.0123, "twice_nll": raised, "twice_nll_nearby": {}}
    project.plan(answers={"sig_100_0": found})


def test_a_timeout_of_zero_is_none(project):
    project.pallet(1)
    project.run("--faas-timeout", "0")
    assert project.how_fitted()[0]["timeout_s"] is None


def test_real_engine_from_the_ini_file(project):
    project.pallet(1, references=False)
    project.real_engines()
    ini = "[pytest]\nfaas_endpoint = local:1\nfaas_pallet = tiny"
    project.pytester.makefile(".ini", pytest=ini)
    project.own_test("def test_cls(hypotest_result):\n    assert 0 < hypotest_result.CLs_obs < 1")
    result = project.run(suite=False, pallet=None)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["pyhf-faas: tiny: 1 fit on local:1 (1 worker)*"])


SECRET = '{"token": "hunter2"}'


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--faas-endpoint-config", SECRET, "-q"], ["--faas-endpoint-config", "...", "-q"]),
        ([f"--faas-endpoint-config= {SECRET}"], ["--faas-endpoint-config=..."]),
        (["-o", f"faas_endpoint_config={SECRET}"], ["-o", "faas_endpoint_config=..."]),
        ([f"-ofaas_endpoint_config={SECRET}"], ["-ofaas_endpoint_config=..."]),
        (["--faas-endpoint-config=asked.json"], ["--faas-endpoint-config=asked.json"]),
        (["--faas-pallet", "tiny", "-k", "{"], ["--faas-pallet", "tiny", "-k", "{"]),
    ],
    ids=["apart", "equals", "ini", "ini at once", "file", "others"],
)
def test_secrets_of_a_command_line_are_not_shown(words, shown):
    assert options.without_secrets(words) == shown
