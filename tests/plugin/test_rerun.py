"""The rerun line of a failure fits that hypothesis alone, under the same options."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_pyhf_faas import suite
from pytest_pyhf_faas.plugin.options import BY_NAME, OPTIONS
from pytest_pyhf_faas.plugin.rerun import rerun_command
from pytest_pyhf_faas.plugin.settings import Settings, read_settings

PATCH = "sig_100_0"
PALLET = SimpleNamespace(name="tiny")
SUITE_FILE = Path(next(iter(suite.__path__)), "test_analysis.py")
#: Something else than the default.
GIVEN = {
    "endpoint": "local:3",
    "pallet": "other",
    "patch": "sig_*",
    "backend": "jax",
    "optimizer": "minuit",
    "method": "certified",
    "items": "analysis",
    "quantity": "limit",
    "toys": "40",
    "published": "table.csv",
    "trials": "2",
    "timeout": "7",
    "queue_timeout": "8",
    "blocks": "3",
    "workers": "4",
    "endpoint_config": "asked.json",
    "require": "pyhf==0.7.6",
    "retries": "0",
    "reference_dir": "-my references",
    "rtol": "1e-06",
    "atol": "0",
    "nll_tolerance": "0.5",
    "minimum": "lowest",
    "update": "new",
    "report": "a_report",
    "plane": "m1,m2",
    "scaling": "1,2",
    "resume": None,
    "dry_run": None,
}
#: What the item itself says.
OF_THE_ITEM = {"endpoint": "local:3", "pallet": "tiny", "patch": PATCH}
#: Of wall times and reports (a rerun would write over that of the run), and what fits nothing; what
#: is calculated, the fixture of the item says.
NO_PART = {
    *("trials", "report", "plane", "scaling", "resume", "dry_run"),
    *("quantity", "quantities", "items"),
}
MARKED = """\
import pytest

@pytest.mark.pallet("tiny")
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""


def rerun(
    config,
    *,
    endpoints=("local",),
    origins=None,
    path=SUITE_FILE,
    fixture="hypotest_result",
    **parameters,
):
    """Return the words of the rerun line of an item, by default one of the suite."""
    params = {"pallet": PALLET, "signal_patch": PATCH, **parameters}
    item = SimpleNamespace(
        get_closest_marker=lambda _name: None,
        callspec=SimpleNamespace(params=params, id=f"tiny-{PATCH}"),
        path=path,
        fixturenames=(fixture,),
        nodeid=f"{path.name}::test_cls[tiny-{PATCH}]",
    )
    settings = SimpleNamespace(endpoints=endpoints)
    origins = {"tiny": "tiny"} if origins is None else origins
    context = SimpleNamespace(config=config, settings=settings, origins=origins)
    return shlex.split(rerun_command(context, item, SimpleNamespace(pallet="tiny", patch=PATCH)))


def word(option, given):
    return option.flags[0] if given is None else f"{option.flags[0]}={given}"


def asked_json(directory):
    (directory / "asked.json").write_text('{"max_blocks": 5}')


def read(pytester, *words):
    """Return the settings of a command line, but for what has no part in a rerun."""
    settings = read_settings(pytester.parseconfig(*words))
    return {
        each.name: getattr(settings, each.name)
        for each in fields(Settings)
        if each.name not in NO_PART
    }


def of_the_item(endpoint):
    return {"endpoints": (endpoint,), "pallets": ("tiny",), "patches": (PATCH,)}


WITH_A_PART = [option for option in OPTIONS if option.name not in NO_PART]


@pytest.mark.parametrize(
    "where", ["command line", "ini", "ini above", "command line over ini", "-o"]
)
@pytest.mark.parametrize("option", [*WITH_A_PART, None], ids=lambda option: option and option.name)
def test_its_options_read_as_those_of_the_run(pytester, monkeypatch, option, where):
    """Parsed by pytest; ``None`` stands for all options at once."""
    asked_json(pytester.path)
    options = [option] if option else WITH_A_PART
    given = {each: GIVEN[each.name] for each in options}
    if option is None:
        given[BY_NAME["method"]] = "certified"  # which goes with --faas-update
    keyed = {each: text for each, text in given.items() if each.ini}
    ini = "".join(f"{each.ini} = {text}\n" for each, text in keyed.items())
    words = [word(each, text) for each, text in given.items()]
    if where in ("ini", "ini above"):
        pytester.makeini(f"[pytest]\n{ini}")
        if where == "ini above":
            pytester.mkdir("other")
            monkeypatch.chdir(pytester.mkdir("below"))
        words = [word(each, text) for each, text in given.items() if not each.ini]
    elif where == "-o":
        words = [f"-o{each.ini}={text}" for each, text in keyed.items()]
    elif where == "command line over ini":  # where the defaults are what is given
        pytester.makeini(f"[pytest]\n{ini}")
        words = [word(each, each.default) for each in keyed if each.default is not None]
    run = read(pytester, *words)
    endpoint = run["endpoints"][0]
    config = pytester.parseconfig(*words)
    again = read(pytester, *rerun(config, endpoints=run["endpoints"])[1:])
    assert again == {**run, **of_the_item(endpoint)}


def test_only_the_quantity_of_the_item_is_calculated_again(pytester):
    config = pytester.parseconfig("--faas-quantity=cls,limit,toys", "--faas-toys=40")
    assert "--faas-quantity=limit" in rerun(config, fixture="limit_result")
    assert {"--faas-quantity=toys", "--faas-toys=40"} <= set(rerun(config, fixture="toys_result"))
    assert not any(word.startswith("--faas-quantity") for word in rerun(config))


def test_the_names_of_endpoints_are_resolved(pytester):
    pytester.makeini("[pytest]\nfaas_endpoints = farm = local:5\nfaas_endpoint = farm")
    config = pytester.parseconfig()
    words = rerun(config, endpoints=read_settings(config).endpoints)
    assert "--faas-endpoint=local:5" in words


def test_it_reads_the_ini_file_that_the_run_has_read(pytester):
    (pytester.path / "other.ini").write_text("[pytest]\nfaas_backend = jax\n")
    words = rerun(pytester.parseconfig("-c", "other.ini"))
    assert words[:2] == ["pytest", "--config-file=other.ini"]
    assert read_settings(pytester.parseconfig(*words[1:])).hypotest.backend == "jax"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (['--faas-endpoint-config={"b": 2}'], True),
        (['-ofaas_endpoint_config={"b": 2}'], True),
        ([], False),
    ],
    ids=["command line", "-o", "ini"],
)
def test_json_that_a_rerun_does_not_find_has_its_place(pytester, words, shown):
    pytester.makeini('[pytest]\nfaas_endpoint_config = {"a": 1}')
    assert ("--faas-endpoint-config=..." in rerun(pytester.parseconfig(*words))) is shown


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, [f"test_own.py::test_cls[tiny-{PATCH}]", "--faas-pallet=tiny"]),
        ({"faas_endpoint": "local:2"}, ["test_own.py::test_cls", "--faas-endpoint=local:2"]),
        ({"origins": {}}, [f"test_own.py::test_cls[tiny-{PATCH}]"]),
    ],
    ids=["one endpoint", "several endpoints", "one of several pallets"],
)
def test_a_test_of_a_user_is_named(pytester, parameters, words):
    config = pytester.parseconfig()
    found = rerun(config, path=pytester.path / "test_own.py", **parameters)
    assert found[1 : 1 + len(words)] == words


def test_of_several_pallets_of_a_directory_the_item_names_its_own(pytester):
    config = pytester.parseconfig("--faas-pallet=both", "--faas-patch=sig_*")
    assert rerun(config, origins={})[1:] == [
        *("--pyargs", f"pytest_pyhf_faas.suite.test_analysis::test_cls[tiny-{PATCH}]"),
        *("--faas-pallet=both", "--faas-patch=sig_*"),
    ]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_option_is_in_it_unless_it_has_no_part(pytester, option):
    given = GIVEN[option.name]
    words = rerun(pytester.parseconfig(word(option, given)), endpoints=("local:3", "local:4"))
    expected = word(option, OF_THE_ITEM.get(option.name, given))
    assert (expected in words) is (option.name not in NO_PART)
    # And nothing else but what the item says.
    assert [each.partition("=")[0] for each in words[1:] if each != expected] == [
        BY_NAME[name].flags[0] for name in OF_THE_ITEM if name != option.name
    ]


@pytest.mark.parametrize(
    "option", [one for one in OPTIONS if one.default is not None], ids=lambda option: option.name
)
def test_a_default_is_not_in_it(pytester, option):
    words = rerun(pytester.parseconfig(word(option, option.default)))
    assert words == ["pytest", "--faas-pallet=tiny", f"--faas-patch={PATCH}"]


def test_the_ini_file_is_in_it(pytester):
    pytester.makeini("[pytest]\nfaas_rtol = 0.25\nfaas_endpoint =\n    local:1\n    local:2\n")
    words = rerun(pytester.parseconfig(), endpoints=("local:1", "local:2"), faas_endpoint="local:2")
    assert words[1:] == [
        *("--faas-endpoint=local:2", "--faas-pallet=tiny", f"--faas-patch={PATCH}"),
        "--faas-rtol=0.25",
    ]


def test_it_fits_that_hypothesis_alone(project):
    project.pallet(3)
    project.change_reference(PATCH, CLs_obs=0.9)
    shown = project.text(project.run("--faas-endpoint", "local:3"))
    result = again(project, shown)
    result.assert_outcomes(passed=1, failed=1)
    assert project.fits_at("local:3") == [PATCH]


def test_it_fits_one_hypothesis_of_several_pallets(project):
    for name in ("one", "two"):
        project.pallet(2, f"both/{name}", references=False)
    project.plan(errors={PATCH: ["pyhf.exceptions.FailedMinimization", "Inequality"]})
    words = ["-k", "test_cls and one", "--faas-pallet=both"]
    shown = project.text(project.run(*words, pallet=None))
    result = again(project, shown)
    result.assert_outcomes(errors=1)
    assert project.fits() == [PATCH]
    assert f"test_cls[both_one-{PATCH}]" in project.text(result)


@pytest.mark.parametrize("options", [[], ["--faas-endpoint=local:1", "--faas-endpoint=local:2"]])
def test_it_names_a_marked_test_by_its_id(project, options):
    project.pallet(3)
    project.change_reference(PATCH, CLs_obs=0.9)
    # -k would find the first as well.
    project.own_test(MARKED.replace("test_cls", "test_other") + MARKED.partition("\n\n")[2])
    shown = project.text(project.run("-k", "test_cls", *options, suite=False, pallet=None))
    again(project, shown).assert_outcomes(failed=1)
    assert project.fits() == [PATCH]


def test_it_is_found_from_where_the_run_was_started(project, monkeypatch):
    project.pallet(1)
    project.change_reference(PATCH, CLs_obs=0.9)
    project.pytester.makepyfile(**{"below/test_own": MARKED.replace('"tiny"', '"../tiny"')})
    project.pytester.makeini("[pytest]")
    monkeypatch.chdir(project.path / "below")
    shown = project.text(project.run(suite=False, pallet=None))
    assert "rerun:  pytest 'test_own.py::test_cls[tiny-sig_100_0]'" in shown
    again(project, shown).assert_outcomes(failed=1)


def again(project, shown):
    """Run what the first rerun line says."""
    command = shlex.split(re.search(r"rerun:  pytest (.*)", shown)[1])
    return project.run(*command, suite=False, pallet=None)
