"""The rerun line of a failure fits that hypothesis alone, under the same options."""

from __future__ import annotations

import re
import shlex
from types import SimpleNamespace

import pytest

from pytest_pyhf_faas.plugin.options import BY_NAME, OPTIONS
from pytest_pyhf_faas.plugin.rerun import rerun_command

PATCH = "sig_100_0"
PALLET = SimpleNamespace(name="tiny")
#: Something else than the default.
GIVEN = {
    "endpoint": "local:3",
    "pallet": "other",
    "patch": "sig_*",
    "backend": "jax",
    "optimizer": "minuit",
    "method": "certified",
    "trials": "2",
    "timeout": "7",
    "queue_timeout": "8",
    "blocks": "3",
    "workers": "4",
    "endpoint_config": "asked.json",
    "retries": "0",
    "reference_dir": "my references",
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
#: Of wall times and reports (a rerun would write over that of the run), and what fits nothing.
NO_PART = {"trials", "report", "plane", "scaling", "resume", "dry_run"}
MARKED = """\
import pytest

@pytest.mark.pallet("tiny")
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""


def rerun(config, *, endpoints=("local",), **parameters):
    """Return the words of the rerun line of an item of the suite."""
    item = SimpleNamespace(
        get_closest_marker=lambda _name: None,
        callspec=SimpleNamespace(params={"pallet": PALLET, "signal_patch": PATCH, **parameters}),
    )
    settings = SimpleNamespace(endpoints=endpoints)
    context = SimpleNamespace(config=config, settings=settings, origins={})
    result = SimpleNamespace(pallet="of the same content", patch=PATCH)
    return shlex.split(rerun_command(context, item, result))


def word(option, given):
    return option.flags[0] if given is None else f"{option.flags[0]}={given}"


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
